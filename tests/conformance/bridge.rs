//! Carries WebSockets in clear to a proxy that is spoken to otherwise: over TLS, or as streams of one
//! HTTP/2 connection. The conformance suite's runner speaks neither.
//!
//! ```text
//! runner ─ws─▶ bridge tls PROXY ─TLS, bytes as they are──────────▶ proxy
//! runner ─ws─▶ bridge h2 PROXY ──extended CONNECT (RFC 8441)─────▶ proxy
//!                    101 and Accept ◀── 200; from here on DATA is the socket
//! ```
//!
//! It prints the address where it listens and runs until it is killed. A connection that fails ends,
//! and the runner's case with it.
#![allow(clippy::print_stdout, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use holdfast::tls::server::provider;
use http::{Request, Version};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// For connecting, handshakes and heads.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_HEAD: usize = 16 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(way), Some(proxy)) = (arguments.next(), arguments.next()) else {
        bail!("usage: bridge tls|h2 ADDRESS");
    };
    let proxy: SocketAddr = proxy.parse().context("no address")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let sender = match way.as_str() {
        "tls" => None,
        "h2" => Some(timeout(PATIENCE, http2(proxy)).await??),
        other => bail!("{other} is neither tls nor h2"),
    };
    println!("{}", listener.local_addr()?);
    loop {
        let (runner, _) = listener.accept().await?;
        runner.set_nodelay(true)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            let carried = match sender {
                None => by_tls(runner, proxy).await,
                Some(sender) => as_stream(runner, sender).await,
            };
            // Ends without a close_notify or END_STREAM are ends too.
            if let Err(error) = carried {
                eprintln!("bridge: {error:#}");
            }
        });
    }
}

async fn by_tls(mut runner: TcpStream, proxy: SocketAddr) -> Result<()> {
    let mut proxy = timeout(PATIENCE, tls(proxy, b"http/1.1")).await??;
    tokio::io::copy_bidirectional(&mut runner, &mut proxy).await?;
    Ok(())
}

async fn tls(address: SocketAddr, protocol: &[u8]) -> Result<TlsStream<TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = stream.await?;
    ensure!(
        stream.get_ref().1.alpn_protocol() == Some(protocol),
        "the proxy speaks another protocol"
    );
    Ok(stream)
}

/// One connection for all WebSockets, as a browser has it.
async fn http2(proxy: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = tls(proxy, b"h2").await?;
    let mut builder = h2::client::Builder::new();
    // One stream that is not read must not hold up the others.
    builder.initial_connection_window_size(64 << 20);
    let (sender, mut connection) = builder.handshake(stream).await?;
    let mut settings = connection.ping_pong().context("the first to ask")?;
    tokio::spawn(connection);
    // Its settings come before the answer.
    settings.ping(h2::Ping::opaque()).await?;
    ensure!(
        sender.is_extended_connect_protocol_enabled(),
        "extended CONNECT is not offered"
    );
    Ok(sender)
}

/// Turns a handshake of HTTP/1.1 into one of RFC 8441, and carries what follows.
async fn as_stream(mut runner: TcpStream, sender: SendRequest<Bytes>) -> Result<()> {
    let head = timeout(PATIENCE, head(&mut runner)).await??;
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1));
    let path = path.context("no request")?;
    let mut request = Request::connect(format!("https://localhost{path}"))
        .version(Version::HTTP_2)
        .extension(Protocol::from_static("websocket"));
    let mut key = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "host" | "connection" | "upgrade" => {}
            "sec-websocket-key" => key = Some(derive_accept_key(value.as_bytes())),
            _ => request = request.header(name, value),
        }
    }
    let accept = key.context("no key")?;
    let mut sender = timeout(PATIENCE, sender.ready()).await??;
    let (answer, send) = sender.send_request(request.body(())?, false)?;
    let answer = timeout(PATIENCE, answer).await??;
    ensure!(answer.status() == 200, "{}", answer.status());
    let (answer, receive) = answer.into_parts();
    let mut switching = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        for value in answer.headers.get_all(name) {
            switching += &format!("{name}: {}\r\n", value.to_str()?);
        }
    }
    switching += "\r\n";
    runner.write_all(switching.as_bytes()).await?;
    let (hears, says) = runner.into_split();
    let (up, down) = tokio::join!(upward(hears, send), downward(receive, says));
    up.and(down)
}

/// The head of a request; nothing may come behind it before it is answered.
async fn head(runner: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < LONGEST_HEAD, "a head that is too long");
        head.push(runner.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

async fn upward(mut from: OwnedReadHalf, mut to: SendStream<Bytes>) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => return Ok(to.send_data(Bytes::new(), true)?),
            Ok(count) => count,
            Err(error) => {
                to.send_reset(Reason::CANCEL);
                return Err(error.into());
            }
        };
        let mut rest = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        while !rest.is_empty() {
            to.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|cx| to.poll_capacity(cx)).await;
            let capacity = capacity.context("the stream has ended")??;
            to.send_data(rest.split_to(capacity.min(rest.len())), false)?;
        }
    }
}

async fn downward(mut from: RecvStream, mut to: OwnedWriteHalf) -> Result<()> {
    while let Some(data) = from.data().await {
        let data = data?;
        to.write_all(&data).await?;
        from.flow_control().release_capacity(data.len())?;
    }
    Ok(to.shutdown().await?)
}

/// Takes any certificate: the proxy's is its own.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
