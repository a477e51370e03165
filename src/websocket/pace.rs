//! How fast a client may send.

use std::time::Duration;

use tokio::time::Instant;

use crate::routing::MessageLimits;

/// Messages and bytes a second, each with a burst of one second's worth. What is read counts when
/// it has been read, so one read may run into debt, which is waited off.
#[derive(Debug)]
pub(super) struct Pace {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// A second; more than 0.
    rate: f64,
    /// Less than 0 is debt.
    left: f64,
    at: Instant,
}

impl Pace {
    /// `None` where no rate is bounded.
    pub(super) fn new(limits: &MessageLimits, now: Instant) -> Option<Self> {
        limits.bounds_rates().then(|| Self {
            messages: limits
                .messages_per_second
                .map(|rate| Bucket::new(rate.into(), now)),
            bytes: limits
                .bytes_per_second
                .map(|rate| Bucket::new(rate as f64, now)),
        })
    }

    /// Takes in what was read, and says until when no more may be.
    pub(super) fn spend(&mut self, messages: u64, bytes: u64, now: Instant) -> Option<Instant> {
        let messages = self
            .messages
            .as_mut()
            .and_then(|bucket| bucket.spend(messages, now));
        let bytes = self
            .bytes
            .as_mut()
            .and_then(|bucket| bucket.spend(bytes, now));
        messages.max(bytes)
    }
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self {
            rate,
            left: rate,
            at: now,
        }
    }

    fn spend(&mut self, count: u64, now: Instant) -> Option<Instant> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + since * self.rate).min(self.rate) - count as f64;
        // To a debt of nothing, and a timer's step more.
        let wait = (self.left < 0.0)
            .then(|| Duration::try_from_secs_f64(-self.left / self.rate).ok())??;
        now.checked_add(wait + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_is_free_and_the_rest_is_waited_off() {
        let limits = MessageLimits {
            messages_per_second: Some(10),
            bytes_per_second: Some(1000),
            ..MessageLimits::default()
        };
        let start = Instant::now();
        let mut pace = Pace::new(&limits, start).unwrap();
        assert_eq!(pace.spend(10, 1000, start), None);
        let until = pace.spend(1, 0, start).unwrap();
        assert_eq!(until - start, Duration::from_millis(101));
        assert_eq!(pace.spend(0, 0, until), None);
        let until = pace.spend(0, 5101, until).unwrap() - start;
        assert!(until > Duration::from_secs(5) && until < Duration::from_millis(5300));
        assert!(Pace::new(&MessageLimits::default(), start).is_none());
    }
}
