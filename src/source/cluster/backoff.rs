//! How long to wait before the next attempt.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Doubles with each failure, from the start of the range to its end. Half of each wait is left to
/// chance, so that watches which failed together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    range: RangeInclusive<Duration>,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(range: RangeInclusive<Duration>) -> Self {
        Self { range, failures: 0 }
    }

    /// The wait after one more failure.
    pub(super) fn after_failure(&mut self) -> Duration {
        let most = self
            .range
            .start()
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(*self.range.end());
        self.failures = self.failures.saturating_add(1);
        spread(most / 2, most)
    }

    /// What fails from here on is something else.
    pub(super) fn restart(&mut self) {
        self.failures = 0;
    }

    /// The wait after a success that has ended: just enough for all watches and replicas not to
    /// come back in the same moment.
    pub(super) fn after_success(&mut self) -> Duration {
        self.restart();
        spread(Duration::ZERO, *self.range.start() / 2)
    }
}

fn spread(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_again_after_a_success() {
        let millis = Duration::from_millis;
        let mut backoff = Backoff::new(millis(200)..=millis(1000));
        for most in [200, 400, 800, 1000, 1000] {
            let wait = backoff.after_failure();
            assert!(wait >= millis(most / 2) && wait <= millis(most), "{wait:?}");
        }
        for _ in 0..100 {
            backoff.after_failure();
        }
        assert!(backoff.after_success() <= millis(100));
        assert!(backoff.after_failure() <= millis(200));
    }
}
