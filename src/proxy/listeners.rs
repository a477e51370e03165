//! Ports that should be open against ports that are.
//!
//! ```text
//! Snapshot ─▶ reconcile ─┬─ new port ─▶ bind ─▶ accept loop        (an error is reported, the rest goes on)
//!                        ├─ kept port ─▶ untouched; a new owner takes the socket over
//!                        └─ gone ─▶ stop accepting ─▶ connections drain
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Proxy;
use super::accept::{Owner, TlsConfigs, accept_loop};
use crate::routing::{ListenerId, Snapshot};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Where listeners bind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binding {
    /// The address; `None` = every address of the host, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// Bind any free port instead of the listener's: for tests, which read the port from
    /// [`Listeners::addresses`].
    pub any_port: bool,
}

/// A listener that cannot have its port.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind port {port}: {error}")]
pub struct BindError {
    /// The listener.
    pub listener: ListenerId,
    /// Its target port.
    pub port: u16,
    /// What the system says.
    pub error: io::Error,
}

/// The open ports.
#[derive(Debug)]
pub struct Listeners {
    proxy: Arc<Proxy>,
    binding: Binding,
    /// The data plane's: accept loops run there, whoever calls.
    runtime: Handle,
    /// Cancelled when the process stops accepting, for good.
    stop: CancellationToken,
    open: Mutex<HashMap<u16, Open>>,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    owner: Arc<ArcSwap<Owner>>,
    stop: CancellationToken,
}

impl Listeners {
    /// None open yet.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, binding: Binding, runtime: Handle) -> Self {
        Self {
            proxy,
            binding,
            runtime,
            stop: CancellationToken::new(),
            open: Mutex::default(),
        }
    }

    /// Opens and closes ports so that they are those of the snapshot. Answers the binds that
    /// failed; call again to retry those. After [`Listeners::stop`] it does nothing.
    pub fn reconcile(&self, snapshot: &Snapshot) -> Vec<BindError> {
        let mut open = self.lock();
        let mut errors = Vec::new();
        if self.stop.is_cancelled() {
            return errors;
        }
        // Bind before anything is closed: a listener that moves to a port it cannot have stays
        // on its old one.
        let mut stuck: HashSet<&ListenerId> = HashSet::new();
        for listener in snapshot.listeners.values() {
            let result = match open.get(&listener.target_port) {
                Some(port) if *port.owner.load().id == listener.id => continue,
                Some(port) => self.owner(&listener.id).map(|owner| {
                    let before = port.owner.swap(Arc::new(owner));
                    before.drain.begin();
                }),
                None => self
                    .bind(&listener.id, listener.target_port)
                    .map(|port| drop(open.insert(listener.target_port, port))),
            };
            match result {
                Ok(()) => {
                    tracing::info!(listener = %listener.id, port = listener.target_port, "listening");
                }
                Err(error) => {
                    stuck.insert(&listener.id);
                    errors.push(BindError {
                        listener: listener.id.clone(),
                        port: listener.target_port,
                        error,
                    });
                }
            }
        }
        open.retain(|&number, port| {
            let owner = port.owner.load();
            let wanted = snapshot
                .listeners
                .get(&*owner.id)
                .is_some_and(|listener| listener.target_port == number)
                || stuck.contains(&*owner.id);
            if !wanted {
                tracing::info!(listener = %owner.id, port = number, "no longer listening");
                port.stop.cancel();
                owner.drain.begin();
            }
            wanted
        });
        errors
    }

    /// Where listeners are bound.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<ListenerId, SocketAddr> {
        self.lock()
            .values()
            .map(|port| (ListenerId::clone(&port.owner.load().id), port.address))
            .collect()
    }

    /// Stops accepting, for good. Connections go on.
    pub fn stop(&self) {
        // Under the lock: nothing is being bound.
        let _open = self.lock();
        self.stop.cancel();
    }

    /// Lets every HTTP connection end after what it is doing.
    pub fn drain(&self) {
        for port in self.lock().values() {
            port.owner.load().drain.begin();
        }
    }

    fn owner(&self, id: &ListenerId) -> io::Result<Owner> {
        let config = |http2| {
            self.proxy
                .server_tls
                .config(id, http2)
                .map_err(io::Error::other)
        };
        Ok(Owner {
            id: Arc::new(id.clone()),
            tls: TlsConfigs {
                with_http2: config(true)?,
                http1_only: config(false)?,
            },
            ledger: self.proxy.ledger.listener(id),
            drain: Arc::default(),
        })
    }

    fn bind(&self, id: &ListenerId, port: u16) -> io::Result<Open> {
        let owner = Arc::new(ArcSwap::from_pointee(self.owner(id)?));
        let port = if self.binding.any_port { 0 } else { port };
        let socket = listen(self.binding.address, port)?;
        let address = socket.local_addr()?;
        let stop = self.stop.child_token();
        let _runtime = self.runtime.enter();
        let accepting = accept_loop(
            Arc::clone(&self.proxy),
            TcpListener::from_std(socket)?,
            Arc::clone(&owner),
            stop.clone(),
        );
        self.proxy.tasks.spawn_on(accepting, &self.runtime);
        Ok(Open {
            address,
            owner,
            stop,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u16, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listening socket; without an address on IPv6 and IPv4, or on IPv4 alone where the host has
/// no IPv6.
fn listen(address: Option<IpAddr>, port: u16) -> io::Result<std::net::TcpListener> {
    match address {
        Some(address) => listen_on(SocketAddr::new(address, port)),
        None => listen_on(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).or_else(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                return Err(error);
            }
            listen_on(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }),
    }
}

fn listen_on(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the last connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it. A WebSocket may be silent for ever (`idleTimeout: 0s`); of a
    // client that has vanished without a word only the kernel can tell: after 120 + 4 × 15 s.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(120))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
