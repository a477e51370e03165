//! A client of one listener: makes a new connection for each request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer::Answer;
use super::kept::Kept;
use super::tls::Trust;
use super::websocket::Socket;
use super::wire::Wire;
use crate::patience::within;

/// For one connection, request or handshake.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// A client of one listener. Cheap to clone and to change.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    address: SocketAddr,
    host: String,
    /// Asked for in TLS; by default the host.
    server_name: Option<String>,
    sends_name: bool,
    trust: Option<Trust>,
    fields: Vec<(&'static str, String)>,
}

impl Visitor {
    /// In clear, port 80. The host is the address until another is given.
    pub(crate) fn http(ip: IpAddr) -> Self {
        Self {
            address: SocketAddr::new(ip, 80),
            host: ip.to_string(),
            server_name: None,
            sends_name: true,
            trust: None,
            fields: Vec::new(),
        }
    }

    /// Over TLS, port 443.
    pub(crate) fn https(ip: IpAddr, trust: Trust) -> Self {
        Self {
            trust: Some(trust),
            ..Self::http(ip).port(443)
        }
    }

    /// Another port.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }

    /// The host, in the request and in TLS.
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Another name in TLS than in the request; `None` = no name at all.
    pub(crate) fn server_name(mut self, name: Option<&str>) -> Self {
        self.sends_name = name.is_some();
        self.server_name = name.map(str::to_owned);
        self
    }

    /// A further field of each request.
    pub(crate) fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// Asks for a path.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, "").await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Result<Answer> {
        let what = format!("{method} {path} of {} at {}", self.host, self.address);
        within(&what, LIMIT, Box::pin(self.exchange(method, path, body))).await
    }

    /// Opens a connection for one request after the other.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn keep(&self) -> Result<Kept> {
        let what = format!("a connection for {} at {}", self.host, self.address);
        within(&what, LIMIT, Box::pin(Kept::open(self))).await
    }

    /// Opens a WebSocket.
    ///
    /// # Errors
    ///
    /// Those of the connection, and any answer but a right 101.
    pub(crate) async fn websocket(&self, path: &str) -> Result<Socket> {
        let what = format!("a WebSocket to {path} of {} at {}", self.host, self.address);
        within(&what, LIMIT, Box::pin(self.upgrade(path))).await
    }

    /// The certificate that is presented.
    ///
    /// # Errors
    ///
    /// Those of the connection and of TLS.
    pub(crate) async fn certificate(&self) -> Result<CertificateDer<'static>> {
        let what = format!("a handshake for {} at {}", self.host, self.address);
        let wire = within(&what, LIMIT, Box::pin(self.connect())).await?;
        wire.certificate().context("there is none")
    }

    async fn exchange(&self, method: Method, path: &str, body: &str) -> Result<Answer> {
        let wire = self.connect().await?;
        let request = self.request(method, path, body)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
        // Ends with the connection, at the latest when `sender` is dropped.
        let connection = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Answer {
            status: head.status.as_u16(),
            version: head.version,
            headers: head.headers,
            body,
        })
    }

    /// A request with the host and the fields of this client.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?)
    }

    async fn upgrade(&self, path: &str) -> Result<Socket> {
        let wire = self.connect().await?;
        let scheme = if self.trust.is_some() { "wss" } else { "ws" };
        let mut fields = Vec::with_capacity(self.fields.len());
        for (name, value) in &self.fields {
            fields.push((HeaderName::from_static(name), HeaderValue::from_str(value)?));
        }
        Socket::open(wire, &format!("{scheme}://{}{path}", self.host), fields).await
    }

    /// Connects, and does the handshake of TLS where it is one.
    pub(super) async fn connect(&self) -> Result<Wire> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(trust) = &self.trust else {
            return Ok(Wire::Plain(stream));
        };
        let name = self.server_name.as_ref().unwrap_or(&self.host);
        let name = ServerName::try_from(name.clone())?;
        let connector = TlsConnector::from(Arc::new(trust.config(self.sends_name)?));
        let stream = connector.connect(name, stream).await?;
        Ok(Wire::Tls(Box::new(stream)))
    }
}
