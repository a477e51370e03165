//! Findings that wait to be told as Events, and those that were told lately.
//!
//! ```text
//! tell ─▶ told lately? ─ no ─▶ waiting (bounded) ─▶ events
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::time::Instant;

use crate::translate::finding::Finding;

/// Findings that wait. Beyond it the oldest is given up: an Event is a courtesy, the finding itself
/// stays in `/findings` and the metrics.
const MAX_WAITING: usize = 1_000;
/// Findings remembered as told.
const MAX_TOLD: usize = 10_000;
/// A finding that stays is not told again for so long.
const REPEAT: Duration = Duration::from_mins(10);
/// Nor is one that comes and goes.
const REPEAT_RESOLVED: Duration = Duration::from_secs(30);

/// The finding to tell, and the uid of the object it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What is wrong.
    pub finding: Finding,
    /// `metadata.uid`; `kubectl describe` shows only Events that have it.
    pub uid: u128,
}

impl Notice {
    /// The same for the same finding on the same object, in every process and version.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let Finding {
            object,
            severity: _,
            reason,
            field,
            message,
        } = &self.finding;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.uid.to_be_bytes());
        for text in [
            object.kind.as_str(),
            &object.name.namespace,
            &object.name.name,
            reason.as_str(),
            field,
            message,
        ] {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let hash = hash.finish();
        hash.as_ref()
            .iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// What waits and what was told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: VecDeque<Notice>,
    told: HashMap<u64, Told>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    is_resolved: bool,
}

impl Told {
    fn is_recent(&self, now: Instant) -> bool {
        let repeat = if self.is_resolved {
            REPEAT_RESOLVED
        } else {
            REPEAT
        };
        now.duration_since(self.at) < repeat
    }
}

impl Notices {
    /// Answers how many had to be given up.
    pub(super) fn add(&mut self, notice: Notice, now: Instant) -> usize {
        let fingerprint = notice.fingerprint();
        if let Some(told) = self.told.get_mut(&fingerprint)
            && told.is_recent(now)
        {
            told.is_resolved = false;
            return 0;
        }
        if self.told.len() >= MAX_TOLD {
            self.told.retain(|_, told| told.is_recent(now));
            if self.told.len() >= MAX_TOLD {
                // Some are told again early, which only counts up their Events.
                self.told.clear();
            }
        }
        let told = Told {
            at: now,
            is_resolved: false,
        };
        self.told.insert(fingerprint, told);
        self.waiting.push_back(notice);
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        excess
    }

    pub(super) fn resolve(&mut self, notice: &Notice) {
        let fingerprint = notice.fingerprint();
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting != notice);
        if self.waiting.len() < before {
            self.told.remove(&fingerprint);
        } else if let Some(told) = self.told.get_mut(&fingerprint) {
            told.is_resolved = true;
        }
    }

    pub(super) fn take(&mut self) -> Option<Notice> {
        self.waiting.pop_front()
    }

    /// Another replica tells them. What was told stays told.
    pub(super) fn clear(&mut self) {
        for notice in self.waiting.drain(..) {
            self.told.remove(&notice.fingerprint());
        }
    }
}
