//! Bounds for what is admitted. `None` = no bound.

use std::num::NonZeroU32;

/// Bounds for the WebSockets of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Open at a time.
    pub connections: Option<NonZeroU32>,
    /// Open at a time, of one client address.
    pub connections_per_client: Option<NonZeroU32>,
    /// Open at a time on one pod, whichever listener they came by.
    pub connections_per_pod: Option<NonZeroU32>,
    /// Handshakes a second, with a burst of as many.
    pub handshakes_per_second: Option<NonZeroU32>,
    /// The same of one client address.
    pub handshakes_per_second_per_client: Option<NonZeroU32>,
}

impl Admission {
    /// No bounds.
    pub const NONE: Self = Self {
        connections: None,
        connections_per_client: None,
        connections_per_pod: None,
        handshakes_per_second: None,
        handshakes_per_second_per_client: None,
    };
}

/// Bounds for all listeners of a load balancer together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Client connections open at a time.
    pub max_connections: Option<NonZeroU32>,
    /// New client connections a second, with a burst of as many.
    pub new_connections_per_second: Option<NonZeroU32>,
    /// Requests a second, WebSocket handshakes included, with a burst of as many.
    pub requests_per_second: Option<NonZeroU32>,
}
