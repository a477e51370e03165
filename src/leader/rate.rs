//! How fast requests go to the API server, and how long to wait after a failure.

use std::time::Duration;

use tokio::time::Instant;

/// Requests a second, and how many at once after a silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In the long run.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
}

/// A token bucket: holds [`Rate::burst`] tokens at most, filled at [`Rate::per_second`].
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    /// When `tokens` was right. In the future while it is paused.
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            tokens: f64::from(rate.burst.max(1)),
            at: now,
        }
    }

    /// Takes a token, or says when there will be one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if now > self.at {
            let gained = (now - self.at).as_secs_f64() * self.rate.per_second;
            self.tokens = (self.tokens + gained).min(f64::from(self.rate.burst.max(1)));
            self.at = now;
        }
        if self.at <= now && self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - self.tokens).max(0.0) / self.rate.per_second.max(0.001);
        Err(self.at + Duration::from_secs_f64(missing))
    }

    /// Gives back the token that was taken last.
    pub(super) fn refund(&mut self) {
        self.tokens += 1.0;
    }

    /// No token before `until`: the API server has asked for a pause.
    pub(super) fn pause(&mut self, until: Instant) {
        if until > self.at {
            self.tokens = self.tokens.min(1.0);
            self.at = until;
        }
    }
}

/// Waits that double from failure to failure, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// No longer than this, jitter aside.
    pub limit: Duration,
}

impl Backoff {
    /// How long to wait after this many failures, the present one not counted.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        jittered(doubled.min(self.limit))
    }
}

/// Between 75 % and 125 % of a time, so that replicas and writes do not march in step.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.75 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            Rate {
                per_second: 10.0,
                burst: 3,
            },
            start,
        );
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(start + Duration::from_millis(100)));
        let later = start + Duration::from_millis(250);
        assert_eq!(bucket.take(later), Ok(()));
        assert_eq!(bucket.take(later), Ok(()));
        assert!(bucket.take(later).is_err());
        let much_later = start + Duration::from_secs(60);
        let taken = (0..10).filter(|_| bucket.take(much_later).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn a_paused_bucket_gives_nothing_until_the_pause_is_over_and_no_burst_then() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            Rate {
                per_second: 10.0,
                burst: 100,
            },
            start,
        );
        let until = start + Duration::from_secs(2);
        bucket.pause(until);
        bucket.pause(start + Duration::from_secs(1));
        assert_eq!(bucket.take(start + Duration::from_secs(1)), Err(until));
        assert_eq!(bucket.take(until), Ok(()));
        assert!(bucket.take(until).is_err());
    }

    #[test]
    fn waits_double_up_to_their_limit() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            limit: Duration::from_secs(1),
        };
        for (failures, least, most) in
            [(0, 75, 125), (2, 300, 500), (9, 750, 1250), (99, 750, 1250)]
        {
            let wait = backoff.after(failures).as_millis();
            assert!((least..=most).contains(&wait), "{failures}: {wait}");
        }
    }
}
