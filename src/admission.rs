//! Who may open a connection, send a request or open a WebSocket: bounds, and what is counted for
//! them.
//!
//! ```text
//! accept ────▶ LoadBalancer ─▶ Connected (counts until dropped)    | a refusal: why, when to come back
//! request ───▶   rate of requests
//! handshake ─▶ Listener ─▶ rate, clients, connections ─▶ Admitted (counts until dropped)
//! Gauge ─────▶ Overload: near a bound of the process itself nothing new is taken
//! to a pod ──▶ Gate: queue, then Turn (as many at a time as the pod keeps up with)
//! ```
//!
//! The bounds come with each call, out of the snapshot that the caller reads; what is counted lives
//! here, beside it, for as long as the listener or anything that counts on it does. So a bound that
//! changes holds for the next handshake, and ends nothing (P6).

pub mod clients;
pub mod comeback;
pub mod concurrency;
pub mod count;
pub mod gate;
pub mod gauge;
pub mod ledger;
pub mod listener;
pub mod load_balancer;
pub mod overload;
pub mod rate;

pub use clients::{Client, Clients};
pub use comeback::Comeback;
pub use count::Count;
pub use gate::{Gate, Turn};
pub use gauge::Gauge;
pub use ledger::Ledger;
pub use listener::{Admitted, Listener};
pub use load_balancer::{Connected, LoadBalancer};
pub use overload::{Level, Overload, Resource};
pub use rate::Rate;

/// A bound that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// WebSockets of a client.
    ClientConnections,
    /// Handshakes a second of a client.
    ClientHandshakes,
    /// WebSockets of a listener.
    ListenerConnections,
    /// Handshakes a second of a listener.
    ListenerHandshakes,
    /// WebSockets of every pod that could take one.
    PodConnections,
    /// Handshakes that wait for a pod.
    QueueFull,
    /// How long a handshake may wait for its pod.
    QueueTimeout,
    /// Memory or open files of the process.
    Overloaded,
    /// Connections of a load balancer.
    CapacityConnections,
    /// New connections a second of a load balancer.
    CapacityNewConnections,
    /// Requests a second of a load balancer.
    CapacityRequests,
}

impl Bound {
    /// The label in metrics and logs, and in the body of the answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientConnections => "client_connections_exceeded",
            Self::ClientHandshakes => "client_handshake_rate_exceeded",
            Self::ListenerConnections => "listener_connections_exceeded",
            Self::ListenerHandshakes => "listener_handshake_rate_exceeded",
            Self::PodConnections => "pod_connections_exceeded",
            Self::QueueFull => "handshake_queue_full",
            Self::QueueTimeout => "handshake_queue_timeout",
            Self::Overloaded => "overloaded",
            Self::CapacityConnections => "capacity_connections_exceeded",
            Self::CapacityNewConnections => "capacity_new_connections_exceeded",
            Self::CapacityRequests => "capacity_requests_exceeded",
        }
    }

    /// Whether the client's connection is what is too much, so that it does not stay.
    #[must_use]
    pub fn is_of_connection(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::CapacityConnections | Self::CapacityNewConnections
        )
    }

    /// Whether it is the client that has too much, and not all of them together.
    #[must_use]
    pub fn is_of_client(self) -> bool {
        matches!(self, Self::ClientConnections | Self::ClientHandshakes)
    }
}

/// Something is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The bound that is reached.
    pub bound: Bound,
    /// When to try again, in seconds from now (RFC 9110 §10.2.3).
    pub retry_after: u16,
}
