//! The pods of `holdfast demo`: ordinary servers on loopback that know nothing of the proxy.
//!
//! ```text
//!           ┌─▶ echo  (what the pod saw, as JSON; every WebSocket message comes back)
//! proxy ────┤
//!           └─▶ chat  (a page, and a WebSocket that carries what people write to all of them)
//!
//! server  accept, HTTP/1.1     handshake  RFC 6455 §4     socket  frames, close     frame  bytes
//! ```

mod body;
mod chat;
mod echo;
mod frame;
mod handshake;
mod query;
mod server;
mod socket;
mod utf8;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use chat::Room;
use server::{Pod, Role};

/// How long [`Pods::stop`] waits for clients to answer the Close they were sent.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Running pods. Dropping them tells them to stop; [`Pods::stop`] also waits.
pub struct Pods {
    echo: Vec<SocketAddr>,
    chat: Vec<SocketAddr>,
    tasks: TaskTracker,
    shutdown: DropGuard,
}

/// Who a pod is, where Kubernetes has given it a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.name`. Without one, pods are called `echo-1`, `echo-2`, `chat-1`, ….
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
}

impl Pods {
    /// Binds every address (port 0 lets the system choose) and serves there until `shutdown` is
    /// cancelled. The chat pods share one room, as real ones would share a message broker.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound; none of the pods runs then.
    pub async fn start(
        echo: &[SocketAddr],
        chat: &[SocketAddr],
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        Self::start_as(&Identity::default(), echo, chat, shutdown).await
    }

    /// The same, as a pod of a cluster: what it answers tells its name and namespace.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound; none of the pods runs then.
    pub async fn start_as(
        identity: &Identity,
        echo: &[SocketAddr],
        chat: &[SocketAddr],
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let echo_listeners = bind("echo", echo).await?;
        let chat_listeners = bind("chat", chat).await?;
        let shutdown = shutdown.child_token();
        let tasks = TaskTracker::new();
        let room = Arc::new(Room::default());
        let mut pods = Self {
            echo: Vec::new(),
            chat: Vec::new(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone().drop_guard(),
        };
        let echo_roles = echo_listeners
            .into_iter()
            .map(|listener| ("echo", Role::Echo, listener));
        let chat_roles = chat_listeners
            .into_iter()
            .map(|listener| ("chat", Role::Chat(Arc::clone(&room)), listener));
        for (kind, role, listener) in echo_roles.chain(chat_roles) {
            let address = listener.local_addr()?;
            let addresses = match role {
                Role::Echo => &mut pods.echo,
                Role::Chat(_) => &mut pods.chat,
            };
            addresses.push(address);
            let pod = Pod {
                name: identity
                    .name
                    .clone()
                    .unwrap_or_else(|| format!("{kind}-{}", addresses.len())),
                namespace: identity.namespace.clone(),
                address,
                role,
                tasks: tasks.clone(),
                shutdown: shutdown.clone(),
            };
            tasks.spawn(server::serve(listener, Arc::new(pod)));
        }
        Ok(pods)
    }

    /// Where the echo pods listen, in the order asked for.
    #[must_use]
    pub fn echo_addresses(&self) -> &[SocketAddr] {
        &self.echo
    }

    /// Where the chat pods listen, in the order asked for.
    #[must_use]
    pub fn chat_addresses(&self) -> &[SocketAddr] {
        &self.chat
    }

    /// Where all of them listen.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.echo.iter().chain(&self.chat).copied()
    }

    /// Stops accepting, tells every WebSocket that the pod goes away (1001), lets requests finish,
    /// and waits for all that for at most 5 s.
    pub async fn stop(self) {
        drop(self.shutdown);
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::debug!(open = self.tasks.len(), "demo pods left clients behind");
        }
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods")
            .field("echo", &self.echo)
            .field("chat", &self.chat)
            .finish_non_exhaustive()
    }
}

async fn bind(kind: &str, addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the {kind} pod cannot listen on {address}: {error}"),
            )
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}
