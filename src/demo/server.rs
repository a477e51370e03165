//! A pod's HTTP/1.1 server: accept, one task a connection, WebSockets in tasks of their own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::chat::{self, Room};
use super::echo;
use super::socket::Socket;

/// Connections that a pod has open at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 20_000;
/// For a request's head, and for the next request on a kept connection. Longer than a proxy keeps
/// idle connections, so that the pod is not the one who closes first.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// Wait after an accept error such as EMFILE, which would repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// From the 101 being returned to the connection being ours.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// For requests under way when the pod stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

/// One pod.
pub(super) struct Pod {
    pub(super) name: String,
    /// Where it is one of a cluster.
    pub(super) namespace: Option<String>,
    pub(super) address: SocketAddr,
    pub(super) role: Role,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// What a pod does.
pub(super) enum Role {
    Echo,
    Chat(Arc<Room>),
}

/// The other end of a connection, as a request handler sees it.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) pod: Arc<Pod>,
    pub(super) peer: SocketAddr,
    /// Held for as long as the connection is open, upgraded or not.
    slot: Arc<OwnedSemaphorePermit>,
}

impl Client {
    /// Runs `talk` on the connection once it is a WebSocket. The pod owns the task.
    pub(super) fn upgrade<F, T>(self, on_upgrade: OnUpgrade, max_message: u64, talk: F)
    where
        F: FnOnce(Socket, Self) -> T + Send + 'static,
        T: Future<Output = ()> + Send,
    {
        let tasks = self.pod.tasks.clone();
        tasks.spawn(async move {
            let slot = Arc::clone(&self.slot);
            if let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE_TIMEOUT, on_upgrade).await {
                let socket = Socket::new(TokioIo::new(upgraded), max_message);
                talk(socket, self).await;
            }
            drop(slot);
        });
    }
}

/// Accepts until the pod is told to stop.
pub(super) async fn serve(listener: TcpListener, pod: Arc<Pod>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept_all = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let client = Client {
                        pod: Arc::clone(&pod),
                        peer,
                        slot: Arc::new(slot),
                    };
                    pod.tasks.spawn(connection(stream, client));
                }
                Err(error) => {
                    tracing::warn!(pod = pod.name, %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    pod.shutdown.run_until_cancelled(accept_all).await;
}

async fn connection(stream: TcpStream, client: Client) {
    // Without it a small frame may wait for an acknowledgement of the last one. A failure only
    // costs that.
    let _ = stream.set_nodelay(true);
    let shutdown = client.pod.shutdown.clone();
    let service = service_fn(move |request| answer(request, client.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // How a client's connection ends is the client's affair: errors are not news.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FINISH_TIMEOUT, connection).await;
        }
    }
}

async fn answer(request: Request<Incoming>, client: Client) -> Result<Response<Body>, Infallible> {
    Ok(match &client.pod.role {
        Role::Echo => echo::answer(request, client).await,
        Role::Chat(room) => {
            let room = Arc::clone(room);
            chat::answer(request, client, room)
        }
    })
}
