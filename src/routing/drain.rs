//! How tunnels end, or move, when what they use changes.

use std::time::Duration;

/// How the tunnels of a listener end when their listener, route, backend or pod goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionDrain {
    /// Over which they are closed.
    pub timeout: Duration,
    /// The same for those of a pod that leaves, at most; `None` = as long as the pod has.
    pub pod_timeout: Option<Duration>,
    /// No more than so many a second, all drains of the listener together. Above 0.
    pub closes_per_second: u32,
}

impl ConnectionDrain {
    /// For a pod that leaves and of which nobody knows when it ends. A pod has 30 s from the moment
    /// that it is terminating until it is killed, where it does not say otherwise
    /// (`terminationGracePeriodSeconds`).
    pub const UNKNOWN_POD: Duration = Duration::from_secs(25);

    /// Over which the tunnels of a pod are closed that leaves, at most: `is_known` is whether it is
    /// known when the pod ends, which then is another bound.
    #[must_use]
    pub fn pod_window(&self, is_known: bool) -> Duration {
        let undeclared = if is_known {
            self.timeout
        } else {
            Self::UNKNOWN_POD
        };
        self.pod_timeout.unwrap_or(undeclared).min(self.timeout)
    }
}

impl Default for ConnectionDrain {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            pod_timeout: None,
            closes_per_second: 100,
        }
    }
}

/// Moving tunnels from pods that hold many to pods that hold few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// By how much the pods of an upstream may differ, in percent of what they hold on average; 1
    /// to 100.
    pub tolerance_percent: u8,
    /// How many tunnels of an upstream are closed a second. Above 0.
    pub closes_per_second: u32,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            tolerance_percent: 20,
            closes_per_second: 10,
        }
    }
}
