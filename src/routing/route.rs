//! A route: where a request goes once host and path have matched.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::path::PathMatch;
use super::upstream::UpstreamId;
use super::websocket::WebSocketOverrides;

/// The object that a route comes from. Metrics and logs are labelled by it, so there are at most
/// as many label sets as routing objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// `Ingress` or `LoadBalancer`.
    pub kind: &'static str,
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The stable identity of a route: its origin, host and path. It survives swaps, so tunnels and
/// counters of an unchanged route stay with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId {
    /// The object that declares it.
    pub origin: Arc<Origin>,
    /// Host as declared: exact, `*.suffix`, or empty for any host.
    pub host: Arc<str>,
    /// Path as declared, empty for a default backend.
    pub path: Arc<str>,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_empty() {
            "*"
        } else {
            &self.host
        };
        write!(f, "{} {host}{}", self.origin, self.path)
    }
}

/// Host and path have been matched; this says what happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Identity, for logs, metrics and the tunnel table.
    pub id: Arc<RouteId>,
    /// What it matches inside its host; `None` for a default backend, which takes what is left.
    pub path: Option<PathMatch>,
    /// Where requests go, by weight. Never empty.
    pub backends: Box<[Backend]>,
    /// Settings that go before the listener's.
    pub overrides: PolicyOverrides,
}

impl Route {
    /// The sum of the backends' weights.
    #[must_use]
    pub fn total_weight(&self) -> u32 {
        self.backends.iter().map(|backend| backend.weight).sum()
    }

    /// The backend at `ticket`, a number below [`Route::total_weight`]: backends own consecutive
    /// ranges as long as their weights. `None` where all weights are zero.
    #[must_use]
    pub fn backend(&self, mut ticket: u32) -> Option<&Backend> {
        self.backends.iter().find(|backend| {
            if ticket < backend.weight {
                true
            } else {
                ticket -= backend.weight;
                false
            }
        })
    }
}

/// A share of a route's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Relative share, 0 to 1,000,000.
    pub weight: u32,
    /// The upstream, or why there is none: such a share is answered 503.
    pub target: Result<Arc<UpstreamId>, Unavailable>,
}

/// Why a backend cannot be resolved to an upstream. The request is answered 503; the object has a
/// finding with the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The Service does not exist.
    ServiceNotFound,
    /// The Service has no such port.
    PortNotFound,
    /// The Service or backend is of a kind that is not served (`ExternalName`, `resource`, a
    /// protocol other than TCP), or the backend is missing.
    Unsupported,
    /// The backend's namespace does not grant the reference (P10).
    NotPermitted,
}

impl Unavailable {
    /// A short fixed name, for the body of the answer and for metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceNotFound => "service_not_found",
            Self::PortNotFound => "service_port_not_found",
            Self::Unsupported => "backend_unsupported",
            Self::NotPermitted => "backend_not_permitted",
        }
    }
}

/// Settings of a route that go before those of its listener. `None` leaves the listener's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyOverrides {
    /// See [`Timeouts::request`](super::listener::Timeouts::request); `Some(None)` = no limit.
    pub request_timeout: Option<Option<Duration>>,
    /// See [`Timeouts::connect`](super::listener::Timeouts::connect).
    pub connect_timeout: Option<Duration>,
    /// Policy for WebSockets.
    pub websocket: WebSocketOverrides,
}
