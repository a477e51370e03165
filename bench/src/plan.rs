//! How much of everything a run does.

use std::time::Duration;

/// The sizes and times of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Rounds over the proxies in the measures of processor time.
    pub(crate) rounds: usize,
    /// How long one proxy's turn in a round is.
    pub(crate) window: Duration,
    /// Connections at work at once.
    pub(crate) connections: usize,
    /// Idle WebSockets whose memory is measured.
    pub(crate) idle: Vec<usize>,
    /// How long to wait for memory to come back after all of them have closed.
    pub(crate) give_back: Duration,
    /// Live WebSockets under configuration changes.
    pub(crate) live: usize,
    /// Configuration changes under them.
    pub(crate) changes: usize,
    /// Time from one of these changes to the next.
    pub(crate) change_every: Duration,
    /// Numbers of Ingresses among which a new one is timed.
    pub(crate) among: Vec<usize>,
    /// New Ingresses that are timed.
    pub(crate) timed: usize,
    /// Numbers of Ingresses whose memory is measured, with the most megabytes each may take.
    pub(crate) footprints: Vec<(usize, f64)>,
}

impl Plan {
    /// What `docs/performance.md` is made from; about ten minutes.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 5,
            window: Duration::from_secs(1),
            connections: 100,
            idle: vec![5_000, 9_500],
            give_back: Duration::from_secs(60),
            live: 1_000,
            changes: 20,
            change_every: Duration::from_secs(1),
            among: vec![1_000, 10_000],
            timed: 100,
            footprints: vec![(100, 20.0), (10_000, 60.0)],
        }
    }

    /// The same measures, so short that only large differences show; about a minute.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 3,
            window: Duration::from_millis(400),
            idle: vec![1_000],
            give_back: Duration::ZERO,
            live: 200,
            change_every: Duration::from_millis(250),
            among: vec![1_000],
            timed: 20,
            footprints: vec![(100, 20.0)],
            ..Self::full()
        }
    }
}
