//! Counters of one routing object.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// Status codes counted apart, per object; further ones are counted together.
const CODES: usize = 12;

/// Answers by status code, and connections to pods that failed.
#[derive(Debug, Default)]
pub struct RouteCounters {
    codes: [CodeCounter; CODES],
    other: AtomicU64,
    connect_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct CodeCounter {
    /// 0 = not taken.
    code: AtomicU16,
    count: AtomicU64,
}

impl RouteCounters {
    /// A request was answered with this status.
    pub fn answered(&self, code: u16) {
        for slot in &self.codes {
            let taken = slot.code.load(Ordering::Relaxed);
            let mine = taken == code
                || (taken == 0
                    && slot
                        .code
                        .compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed)
                        .map_or_else(|winner| winner == code, |_| true));
            if mine {
                slot.count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    /// A pod could not be connected to.
    pub fn connect_failed(&self) {
        self.connect_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections to pods have failed.
    #[must_use]
    pub fn connect_failures(&self) -> u64 {
        self.connect_failures.load(Ordering::Relaxed)
    }

    /// Answers by code, those that there have been; `None` = all codes beyond the bound.
    pub fn answers(&self) -> impl Iterator<Item = (Option<u16>, u64)> + '_ {
        self.codes
            .iter()
            .map(|slot| {
                let code = slot.code.load(Ordering::Relaxed);
                (Some(code), slot.count.load(Ordering::Relaxed))
            })
            .filter(|(code, _)| *code != Some(0))
            .chain([(None, self.other.load(Ordering::Relaxed))])
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_apart_up_to_a_bound() {
        let counters = RouteCounters::default();
        for code in 200..220 {
            counters.answered(code);
            counters.answered(200);
        }
        let answers: Vec<_> = counters.answers().collect();
        assert_eq!(answers.len(), CODES + 1);
        assert_eq!(answers[0], (Some(200), 21));
        assert_eq!(answers[CODES], (None, 8));
    }
}
