//! Counters of what the leader writes to the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Requests to the API server by what they write and what became of them. Both are closed sets.
#[derive(Debug, Default)]
pub struct LeaderCounters {
    writes: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    waiting: AtomicU64,
}

impl LeaderCounters {
    /// A request has ended.
    pub fn wrote(&self, kind: &'static str, outcome: &'static str) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        *writes.entry((kind, outcome)).or_default() += 1;
    }

    /// How many requests ended how, by kind and outcome.
    #[must_use]
    pub fn writes(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// So many writes wait.
    pub fn set_waiting(&self, count: usize) {
        self.waiting.store(count as u64, Ordering::Relaxed);
    }

    /// How many writes wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}
