//! The accept loop of one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Proxy;
use super::connection::{Accepted, Drain};
use crate::admission;
use crate::metrics::count;
use crate::routing::{Capacity, ListenerId, Protocol};
use crate::tls::server::Offer;

/// Longest pause after an error of the whole process.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// For a port's next owner to take over from one that has left: a publish swaps the table first
/// and the owners right after.
const TAKE_OVER: Duration = Duration::from_millis(100);

/// Who owns a port at the moment. Changes while the socket stays.
#[derive(Debug)]
pub struct Owner {
    /// The listener.
    pub id: Arc<ListenerId>,
    /// TLS with and without HTTP/2 in ALPN.
    pub tls: TlsConfigs,
    /// What is counted at the listener.
    pub ledger: Arc<admission::Listener>,
    /// Set when the listener leaves the port.
    pub drain: Arc<Drain>,
}

/// TLS of a listener, ready for either setting of `http2`.
#[derive(Clone, Debug)]
pub struct TlsConfigs {
    /// Offers `h2` and `http/1.1`.
    pub with_http2: Arc<rustls::ServerConfig>,
    /// Offers `http/1.1`.
    pub http1_only: Arc<rustls::ServerConfig>,
}

/// Accepts until `stop` is cancelled, then takes what is left in the queue: closing the socket
/// over it would reset clients that have done nothing wrong.
pub async fn accept_loop(
    proxy: Arc<Proxy>,
    socket: TcpListener,
    owner: Arc<ArcSwap<Owner>>,
    stop: CancellationToken,
) {
    let mut pause = Duration::from_millis(10);
    loop {
        if !proxy.overload.accepts() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = proxy.overload.accepting() => {}
            }
        }
        // The result is matched outside of `select!`: a pattern there would switch the branch off.
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                pause = Duration::from_millis(10);
                start(&proxy, &owner, stream, client);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: what is open stays, the queue waits (P6).
                count(&proxy.metrics.accept_errors);
                tracing::warn!(%error, "cannot accept connections; trying again");
                let jitter = Duration::from_millis(fastrand::u64(0..10));
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause + jitter) => {}
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
    let Ok(socket) = socket.into_std() else {
        return;
    };
    while let Ok((stream, client)) = socket.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            start(&proxy, &owner, stream, client);
        }
    }
}

fn start(proxy: &Arc<Proxy>, owner: &Arc<ArcSwap<Owner>>, stream: TcpStream, client: SocketAddr) {
    // IPv4 clients of a socket for both are shown as what they are.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    if let Some((accepted, capacity)) = accepted(proxy, owner) {
        if let Some(connected) = accepted.connect(&capacity) {
            proxy.tasks.spawn(accepted.serve(stream, client, connected));
        }
        return;
    }
    let again = (Arc::clone(proxy), Arc::clone(owner));
    proxy.tasks.spawn(async move {
        let (proxy, owner) = again;
        tokio::time::sleep(TAKE_OVER).await;
        if let Some((accepted, capacity)) = accepted(&proxy, &owner)
            && let Some(connected) = accepted.connect(&capacity)
        {
            accepted.serve(stream, client, connected).await;
        }
    });
}

/// How a connection is served that is accepted now. `None`: the listener has left, and the port
/// is about to be closed or to have another owner.
fn accepted(proxy: &Arc<Proxy>, owner: &ArcSwap<Owner>) -> Option<(Accepted, Capacity)> {
    let owner = owner.load();
    let snapshot = proxy.snapshot.load();
    let listener = snapshot.listeners.get(&*owner.id)?;
    let tls = match listener.protocol {
        Protocol::Http => None,
        Protocol::Https if listener.http2 => Some(Offer {
            config: Arc::clone(&owner.tls.with_http2),
            except: (!listener.http1_only.is_empty()).then(|| {
                let names = Arc::clone(&listener.http1_only);
                (names, Arc::clone(&owner.tls.http1_only))
            }),
        }),
        Protocol::Https => Some(Offer {
            config: Arc::clone(&owner.tls.http1_only),
            except: None,
        }),
    };
    let accepted = Accepted {
        proxy: Arc::clone(proxy),
        listener: Arc::clone(&owner.id),
        protocol: listener.protocol,
        port: listener.port,
        target_port: listener.target_port,
        idle: listener.timeouts.idle,
        ledger: Arc::clone(&owner.ledger),
        tls,
        drain: Arc::clone(&owner.drain),
    };
    Some((accepted, listener.capacity))
}

/// Errors of a connection that ended before it was accepted; the next one is not concerned.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, TimedOut, WouldBlock,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
            | WouldBlock
    )
}
