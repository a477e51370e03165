//! Listeners and their policy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Capacity};
use super::certificate::CertificateTable;
use super::drain::{ConnectionDrain, Rebalance};
use super::host::HostTable;
use super::server_names::ServerNames;
use super::websocket::WebSocketPolicy;

/// The stable identity of a listener. A listener whose id stays in the snapshot keeps its socket
/// and its connections, whatever else changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId {
    /// Namespace of the LoadBalancer.
    pub namespace: Arc<str>,
    /// Name of the LoadBalancer.
    pub load_balancer: Arc<str>,
    /// Name of the listener in it.
    pub name: Arc<str>,
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.load_balancer, self.name)
    }
}

/// What a listener speaks with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 in clear; carries `ws`.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS; carries `wss`.
    Https,
}

impl Protocol {
    /// The URL scheme: `http` or `https`.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One port that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Identity.
    pub id: ListenerId,
    /// TCP port that clients connect to.
    pub port: u16,
    /// TCP port that is bound: `port`, or what the Service before us sends its traffic to.
    pub target_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether HTTP/2 is offered by ALPN (HTTPS only).
    pub http2: bool,
    /// Names that are served over HTTP/1.1 alone, whatever `http2` says.
    pub http1_only: Arc<ServerNames>,
    /// Clocks of HTTP.
    pub timeouts: Timeouts,
    /// Policy for WebSockets.
    pub websocket: Arc<WebSocketPolicy>,
    /// How tunnels end when what they use goes away.
    pub drain: ConnectionDrain,
    /// Moving tunnels to pods that hold fewer; `None` = they stay.
    pub rebalance: Option<Rebalance>,
    /// How many WebSockets are admitted, and how fast.
    pub admission: Arc<Admission>,
    /// What all listeners of its load balancer together take.
    pub capacity: Capacity,
    /// Hosts served here. Listeners with equal routes share one table.
    pub hosts: Arc<HostTable>,
    /// Certificates by name (HTTPS only; empty otherwise).
    pub certificates: Arc<CertificateTable>,
}

/// Clocks of HTTP on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a client connection may wait between requests. Default 15 s.
    pub idle: Duration,
    /// From the end of the request's head to the head of the pod's answer; then 504. `None` = no
    /// limit. Default 60 s.
    pub request: Option<Duration>,
    /// For one TCP (and TLS) connection to a pod; then the next endpoint. Default 5 s.
    pub connect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15),
            request: Some(Duration::from_secs(60)),
            connect: Duration::from_secs(5),
        }
    }
}
