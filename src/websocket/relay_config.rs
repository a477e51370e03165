//! What a relay is told to do.

use std::time::Duration;

use super::gate::SizeBounds;
use crate::routing::{Keepalive, MaxAge, MessageLimits, WebSocketPolicy};

/// For each step of an ending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a relay is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Silence of both peers that ends the tunnel; `None` = never. At most 49 days.
    pub idle_timeout: Option<Duration>,
    /// For each step of an ending: to reach a frame boundary, and to wait for the peers' Close.
    /// Default 5 s.
    pub close_timeout: Duration,
    /// Pings of our own.
    pub keepalive: Option<Keepalive>,
    /// The longest that the tunnel may live.
    pub max_age: Option<MaxAge>,
    /// For what the client may send.
    pub limits: MessageLimits,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self::from(&WebSocketPolicy::default())
    }
}

impl From<&WebSocketPolicy> for RelayConfig {
    fn from(policy: &WebSocketPolicy) -> Self {
        Self {
            idle_timeout: policy.idle_timeout,
            close_timeout: CLOSE_TIMEOUT,
            keepalive: policy.keepalive,
            max_age: policy.max_age,
            limits: policy.limits,
        }
    }
}

impl RelayConfig {
    /// For what the client sends.
    pub(super) fn bounds(&self) -> SizeBounds {
        SizeBounds {
            frame: self.limits.frame_size.unwrap_or_default(),
            message: self.limits.message_size.unwrap_or_default(),
        }
    }
}

/// Whole milliseconds, at least 1: a clock of a tunnel takes four bytes.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).map_or(u32::MAX, |millis| millis.max(1))
}
