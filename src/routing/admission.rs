//! Bounds for what is admitted. `None` = no bound.

use std::num::NonZeroU32;
use std::time::Duration;

/// Bounds for the WebSockets of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Where handshakes wait that a pod has no time for; `None` = they do not wait, and go to it as
    /// they come.
    pub queue: Option<Queue>,
}

/// Where handshakes wait that a pod has no time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Handshakes that may wait at a listener. Default 8,192.
    pub length: NonZeroU32,
    /// Of those, how many for one pod. Default 1,024.
    pub length_per_pod: NonZeroU32,
    /// The longest wait. Default 5 s: a client's own patience is longer.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Queue {
    /// Where nothing else is said.
    pub const DEFAULT: Self = Self {
        length: NonZeroU32::MIN.saturating_add(8191),
        length_per_pod: NonZeroU32::MIN.saturating_add(1023),
        timeout: Duration::from_secs(5),
    };
}

impl Default for Admission {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Admission {
    /// No bounds but that of the queue.
    pub const DEFAULT: Self = Self {
        connections: None,
        connections_per_client: None,
        connections_per_pod: None,
        handshakes_per_second: None,
        handshakes_per_second_per_client: None,
        queue: Some(Queue::DEFAULT),
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
