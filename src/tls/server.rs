//! TLS with clients.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::routing::{Certificate, ListenerId, ServerNames, Snapshot};

/// ALPN names (RFC 7301).
const ALPN_HTTP1: &[u8] = b"http/1.1";
const ALPN_HTTP2: &[u8] = b"h2";

/// What all TLS listeners of the process share.
#[derive(Clone)]
pub struct ServerTls {
    snapshot: Arc<ArcSwap<Snapshot>>,
    fallback: Arc<Certificate>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// Why a client has no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client did not finish in time.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// The client left or spoke something else.
    #[error("TLS handshake: {0}")]
    Failed(#[from] std::io::Error),
}

impl ServerTls {
    /// Certificates come from `snapshot` at each handshake, so a changed Secret serves the next
    /// one; `fallback` is presented where a listener has none that fits.
    ///
    /// # Errors
    /// Where the system gives no random numbers for the ticket key.
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        fallback: Arc<Certificate>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            snapshot,
            fallback,
            ticketer: aws_lc_rs::Ticketer::new()?,
        })
    }

    /// The configuration of one listener: TLS 1.2 and 1.3, sessions resumed by tickets that only
    /// the client stores (no memory per session), one ticket a connection.
    ///
    /// # Errors
    /// Never in practice: the provider's defaults support both versions.
    pub fn config(
        &self,
        listener: &ListenerId,
        http2: bool,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let resolver = SniResolver {
            snapshot: Arc::clone(&self.snapshot),
            listener: listener.clone(),
            fallback: Arc::clone(&self.fallback),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&self.ticketer);
        config.send_tls13_tickets = 1;
        config.alpn_protocols = if http2 {
            vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()]
        } else {
            vec![ALPN_HTTP1.to_vec()]
        };
        Ok(Arc::new(config))
    }
}

/// What a listener offers in a handshake.
#[derive(Clone, Debug)]
pub struct Offer {
    /// To every client.
    pub config: Arc<ServerConfig>,
    /// But this to clients that ask for one of these names.
    pub except: Option<(Arc<ServerNames>, Arc<ServerConfig>)>,
}

impl Offer {
    fn to(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let excepted = self
            .except
            .as_ref()
            .filter(|(names, _)| asked_for(hello).is_some_and(|name| names.contains(&name)));
        Arc::clone(excepted.map_or(&self.config, |(_, config)| config))
    }
}

/// The handshake with a client, under a deadline.
///
/// # Errors
/// See [`HandshakeError`].
pub async fn accept(
    offer: &Offer,
    stream: TcpStream,
    deadline: Duration,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let handshake = async {
        if offer.except.is_none() {
            let config = Arc::clone(&offer.config);
            return TlsAcceptor::from(config).accept(stream).await;
        }
        // Boxed, so that listeners without exceptions do not carry its size.
        Box::pin(async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let config = offer.to(&start.client_hello());
            start.into_stream(config).await
        })
        .await
    };
    match tokio::time::timeout(deadline, handshake).await {
        Ok(accepted) => Ok(accepted?),
        Err(_) => Err(HandshakeError::Timeout),
    }
}

/// The server name of a client, if it says one. rustls has checked that it is a DNS name; case
/// is the client's.
fn asked_for(hello: &ClientHello<'_>) -> Option<String> {
    hello
        .server_name()
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
}

/// Whether the client has chosen HTTP/2 by ALPN.
#[must_use]
pub fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2)
}

/// The one crypto provider of the process.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

struct SniResolver {
    snapshot: Arc<ArcSwap<Snapshot>>,
    listener: ListenerId,
    fallback: Arc<Certificate>,
}

impl fmt::Debug for SniResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SniResolver").field(&self.listener).finish()
    }
}

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = asked_for(&hello);
        let snapshot = self.snapshot.load();
        let certificate = snapshot
            .listeners
            .get(&self.listener)
            .and_then(|listener| listener.certificates.find(name.as_deref()))
            .unwrap_or(&self.fallback);
        Some(Arc::clone(certificate.key()))
    }
}
