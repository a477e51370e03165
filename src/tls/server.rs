//! TLS with clients.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::handshake;
use super::stream::TlsStream;
use crate::routing::{Certificate, ListenerId, ServerNames, Snapshot};

/// ALPN names (RFC 7301).
const ALPN_HTTP1: &[u8] = b"http/1.1";
pub(super) const ALPN_HTTP2: &[u8] = b"h2";

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
    Failed(#[from] io::Error),
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
        // A connection is kept as its keys alone.
        config.enable_secret_extraction = true;
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

impl From<Arc<ServerConfig>> for Offer {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            except: None,
        }
    }
}

impl Offer {
    fn to(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let excepted = self
            .except
            .as_ref()
            .filter(|(names, _)| asked_for(hello).is_some_and(|name| names.contains(&name)));
        Arc::clone(excepted.map_or(&self.config, |(_, config)| config))
    }

    /// What is offered to this client, and what it has said until that was known: the handshake
    /// begins with it. What cannot be read is left to the handshake to refuse.
    async fn chosen<T>(&self, transport: &mut T) -> io::Result<(Arc<ServerConfig>, Vec<u8>)>
    where
        T: AsyncRead + Unpin,
    {
        let mut heard = Vec::with_capacity(handshake::INCOMING);
        let mut acceptor = Acceptor::default();
        let mut given = 0;
        while heard.len() < handshake::MAX_INCOMING {
            heard.reserve(handshake::INCOMING);
            if transport.read_buf(&mut heard).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            loop {
                let mut rest = heard.get(given..).unwrap_or_default();
                let taken = acceptor.read_tls(&mut rest)?;
                given += taken;
                match acceptor.accept() {
                    Ok(Some(accepted)) => {
                        let config = self.to(&accepted.client_hello());
                        return Ok((config, heard));
                    }
                    Ok(None) if taken > 0 => {}
                    Ok(None) => break,
                    Err(_) => return Ok((Arc::clone(&self.config), heard)),
                }
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The handshake with a client, under a deadline. The configurations must be ours, or allow the
/// extraction of secrets as they do.
///
/// # Errors
/// See [`HandshakeError`].
pub async fn accept<T>(
    offer: &Offer,
    mut transport: T,
    deadline: Duration,
) -> Result<TlsStream<T>, HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = async {
        if offer.except.is_none() {
            let config = Arc::clone(&offer.config);
            return handshake::serve(config, transport, Vec::new()).await;
        }
        // Boxed, so that listeners without exceptions do not carry its size.
        let (config, heard) = Box::pin(offer.chosen(&mut transport)).await?;
        handshake::serve(config, transport, heard).await
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
