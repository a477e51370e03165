//! How many handshakes a pod gets at a time: as many as it answers without falling behind.
//!
//! ```text
//! answered soon ──▶ one more at a time        limit ▲    ╱╲      ╱╲
//! answered late ──▶ fewer, by how late              │   ╱  ╲╱╲╱╲╱  ╲╱
//! failed ─────────▶ fewer                           │  ╱            └ what it keeps up with
//! ```
//!
//! A pod that takes 500 a second answers 100 at a time in 200 ms and 1,000 in two seconds: more at
//! a time does not make it faster, and what it has no room for it drops. Late is measured against
//! the pod's own best, so that one whose handshakes always take a second is not held to less than it
//! can do.

use std::time::Duration;

/// Before anything is known. An ordinary crowd is not held.
const START: f64 = 128.0;
const MOST: f64 = 4096.0;
/// Nobody is held for being this quick.
const SOON: Duration = Duration::from_millis(100);
/// How much longer than its best a pod may take.
const SLACK: u32 = 2;
/// Left of the limit by a failure.
const FAILED: f64 = 0.7;
/// Left at least, however late an answer is.
const LATE: f64 = 0.5;
/// The weight of a new answer in the mean.
const WEIGHT: f64 = 1.0 / 16.0;
/// After so long the best may be a little worse: pods change.
const FORGET: Duration = Duration::from_secs(30);

/// The limit of one pod. Times are nanoseconds of the caller's clock.
#[derive(Debug)]
pub struct Concurrency {
    limit: f64,
    best: Option<Duration>,
    best_until: u64,
    /// Seconds to an answer, the mean of late.
    mean: Option<f64>,
    /// Answers until the limit may be cut again: those that were on their way at the last cut say
    /// nothing about it.
    deaf: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            limit: START,
            best: None,
            best_until: 0,
            mean: None,
            deaf: 0,
        }
    }
}

impl Concurrency {
    /// How many at a time; at least one.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// From one answer to the next, with as many at a time as there may be (Little's law).
    #[must_use]
    pub fn interval(&self) -> Duration {
        let mean = self.mean.unwrap_or(START / 1000.0);
        Duration::from_secs_f64(mean / self.limit)
    }

    /// The pod has answered after `took`. `busy` = there were as many at a time as there may be;
    /// otherwise nothing says that there could be more.
    pub fn answered(&mut self, took: Duration, now: u64, busy: bool) {
        self.hear(took);
        let best = match self.best {
            Some(best) if took >= best && now < self.best_until => best,
            Some(best) if took >= best => {
                self.best_until = after(now);
                took.min(best + best / 10)
            }
            _ => {
                self.best_until = after(now);
                took
            }
        };
        self.best = Some(best);
        let soon = (best * SLACK).max(SOON);
        if took > soon {
            let left = soon.as_secs_f64() / took.as_secs_f64();
            self.cut(left.max(LATE));
        } else if busy {
            // Twice as many after as many answers as there are at a time, and slower near the edge.
            let more = if took < soon / 4 * 3 {
                1.0
            } else {
                1.0 / self.limit
            };
            self.limit = (self.limit + more).min(MOST);
        }
    }

    /// The pod could not be connected to, broke off or said that it cannot.
    pub fn failed(&mut self) {
        self.deaf = self.deaf.saturating_sub(1);
        self.cut(FAILED);
    }

    /// Somebody has stopped waiting for an answer after `waited`.
    pub fn given_up(&mut self, waited: Duration) {
        let best = self.best.unwrap_or_default();
        if waited > (best * SLACK).max(SOON) {
            self.hear(waited);
            self.cut(LATE);
        }
    }

    fn hear(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.mean = Some(self.mean.map_or(took, |mean| mean + (took - mean) * WEIGHT));
        self.deaf = self.deaf.saturating_sub(1);
    }

    fn cut(&mut self, left: f64) {
        if self.deaf == 0 {
            self.deaf = self.limit as u32;
            self.limit = (self.limit * left).max(1.0);
        }
    }
}

fn after(now: u64) -> u64 {
    now.saturating_add(FORGET.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A pod that answers `rate` a second, after `least` at the earliest, with as many at a time as
    /// it is given. Answers the limit after `rounds` rounds.
    fn settle(concurrency: &mut Concurrency, rate: f64, least: f64, rounds: usize) -> usize {
        let mut now = 0.0;
        concurrency.answered(Duration::from_secs_f64(least), 0, false);
        for _ in 0..rounds {
            let at_once = concurrency.limit();
            let took = (at_once as f64 / rate).max(least);
            now += took;
            for _ in 0..at_once {
                concurrency.answered(Duration::from_secs_f64(took), (now * 1e9) as u64, true);
            }
        }
        concurrency.limit()
    }

    #[test]
    fn a_pod_gets_what_it_keeps_up_with() {
        let slow = settle(&mut Concurrency::default(), 500.0, 0.001, 200);
        assert!((20..=160).contains(&slow), "{slow}");
        let mut held = Concurrency::default();
        settle(&mut held, 500.0, 0.001, 200);
        let interval = held.interval().as_secs_f64();
        assert!((0.001..0.004).contains(&interval), "{interval}");
        let fast = settle(&mut Concurrency::default(), 100_000.0, 0.001, 200);
        assert_eq!(fast, MOST as usize);
        let late = settle(&mut Concurrency::default(), 100_000.0, 1.0, 200);
        assert_eq!(late, MOST as usize, "it always takes a second");
    }

    #[test]
    fn a_pod_that_fails_gets_one_at_a_time_and_recovers() {
        let mut concurrency = Concurrency::default();
        for _ in 0..2000 {
            concurrency.failed();
        }
        assert_eq!(concurrency.limit(), 1);
        let limit = settle(&mut concurrency, 10_000.0, 0.001, 20);
        assert!(limit > 128, "{limit}");
    }

    #[test]
    fn a_failure_now_and_then_does_not_hold_a_quick_pod() {
        let mut concurrency = Concurrency::default();
        for number in 0..10_000_u64 {
            if number % 10 == 0 {
                concurrency.failed();
            } else {
                concurrency.answered(Duration::from_millis(2), number, true);
            }
        }
        assert!(concurrency.limit() > 128, "{}", concurrency.limit());
    }

    proptest! {
        #[test]
        fn the_limit_stays_in_its_bounds(events in prop::collection::vec((0_u8..4, 0_u64..20_000, any::<bool>()), 0..2000)) {
            let mut concurrency = Concurrency::default();
            let mut now = 0;
            for (what, millis, busy) in events {
                let took = Duration::from_millis(millis);
                now += millis * 1_000_000;
                match what {
                    0 => concurrency.failed(),
                    1 => concurrency.given_up(took),
                    _ => concurrency.answered(took, now, busy),
                }
                prop_assert!((1..=MOST as usize).contains(&concurrency.limit()));
            }
        }
    }
}
