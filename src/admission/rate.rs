//! So many a second, with a burst of as many: a token bucket as one number.
//!
//! ```text
//!            now                 due                   now + 1 s
//!  ───────────┼───────────────────┼────────────────────────┼──▶
//!             ╰── tokens spent ───╯──── tokens left ───────╯
//! ```
//!
//! A bucket that holds a second's worth and fills in a second is known by the moment at which it
//! will be full again: each token moves it by the reciprocal of the rate, and it may not be more
//! than a second ahead. (The generic cell rate algorithm of ATM, ITU-T I.371.) So it needs no task
//! that fills it, and the rate may be another at each call.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// A bucket that threads share. Times are nanoseconds of the caller's clock.
#[derive(Debug, Default)]
pub struct Rate(AtomicU64);

impl Rate {
    /// Takes a token at `now`.
    ///
    /// # Errors
    /// There is none; the next comes after that long.
    pub fn take(&self, now: u64, rate: NonZeroU32) -> Result<(), Duration> {
        let mut due = self.0.load(Ordering::Relaxed);
        loop {
            let next = take(due, now, rate)?;
            let relaxed = Ordering::Relaxed;
            match self.0.compare_exchange_weak(due, next, relaxed, relaxed) {
                Ok(_) => return Ok(()),
                Err(changed) => due = changed,
            }
        }
    }
}

/// Takes a token at `now` from a bucket that would be full at `due`. Answers when it will be full.
///
/// # Errors
/// There is no token; the next comes after that long.
pub fn take(due: u64, now: u64, rate: NonZeroU32) -> Result<u64, Duration> {
    let rate = u64::from(rate.get());
    let each = SECOND / rate;
    let next = due.max(now).saturating_add(each);
    // Not a second: `each` is rounded, and the burst is to be exact.
    let latest = now.saturating_add(each * rate);
    if next > latest {
        Err(Duration::from_nanos(next - latest))
    } else {
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(rate: u32) -> NonZeroU32 {
        NonZeroU32::new(rate).unwrap()
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_the_wait_is_exact() {
        for per_second in [1, 3, 7, 1000, 999_983, 1_000_000] {
            let bucket = Rate::default();
            let now = 5 * SECOND;
            let taken = (0..per_second + 10)
                .filter(|_| bucket.take(now, rate(per_second)).is_ok())
                .count();
            assert_eq!(taken, per_second as usize);
            let wait = bucket.take(now, rate(per_second)).unwrap_err();
            let then = now + wait.as_nanos() as u64;
            assert!(bucket.take(then - 1, rate(per_second)).is_err());
            assert!(bucket.take(then, rate(per_second)).is_ok());
        }
    }

    proptest! {
        /// Over any stretch no more than the burst and the rate times the stretch.
        #[test]
        fn never_faster(per_second in 1_u32..2000, steps in prop::collection::vec(0_u64..20_000_000, 1..2000)) {
            let bucket = Rate::default();
            let mut now = 0;
            let mut taken = 0_u64;
            for step in steps {
                now += step;
                taken += u64::from(bucket.take(now, rate(per_second)).is_ok());
                let most = u64::from(per_second) + now / (SECOND / u64::from(per_second)) + 1;
                prop_assert!(taken <= most);
            }
        }

        /// Whoever asks no faster is never refused.
        #[test]
        fn never_slower(per_second in 1_u32..2000, late in prop::collection::vec(0_u64..1000, 1..200)) {
            let bucket = Rate::default();
            let mut now = 0;
            for late in late {
                now += SECOND / u64::from(per_second) + late;
                prop_assert!(bucket.take(now, rate(per_second)).is_ok());
            }
        }

        /// A rate that changes is obeyed at once.
        #[test]
        fn a_lower_rate_holds_at_once(before in 2_u32..1000, after in 1_u32..1000) {
            let bucket = Rate::default();
            for _ in 0..before {
                prop_assert!(bucket.take(SECOND, rate(before)).is_ok());
            }
            let at_once = (0..1000).filter(|_| bucket.take(SECOND, rate(after)).is_ok()).count();
            prop_assert!(at_once <= after as usize);
        }
    }
}
