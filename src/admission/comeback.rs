//! When those that are refused are to come back.
//!
//! ```text
//! refused: ● ● ● ● ● ●        at once
//! return:    ●  ●  ●  ●  ●  ● one after the other, as fast as they can be taken
//! ```
//!
//! Each refusal books the next place of a line that moves as fast as newcomers can be taken. Told the
//! same, or drawn from a fixed range, a thousand that are refused together would come back together
//! (P5).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The last second that is told. A line that is longer ends in a crowd, which is refused again.
const LONGEST: Duration = Duration::from_secs(60);

/// The line of those that were refused at one place.
#[derive(Debug, Default)]
pub struct Comeback {
    /// The last place booked, in nanoseconds of the caller's clock.
    last: AtomicU64,
}

impl Comeback {
    /// Seconds for `Retry-After`, when one is taken each `interval` and those before take `ahead`:
    /// the next free place, and some at random, as whole seconds are coarse.
    #[must_use]
    pub fn book(&self, now: u64, ahead: Duration, interval: Duration) -> u16 {
        let longest = nanos(LONGEST);
        let place = |last: u64| {
            let next = last.max(now.saturating_add(nanos(ahead)));
            let place = next.saturating_add(nanos(interval));
            (place - now <= longest).then_some(place)
        };
        let relaxed = Ordering::Relaxed;
        let ahead = match self.last.fetch_update(relaxed, relaxed, place) {
            Ok(last) => place(last).unwrap_or(now) - now,
            // The line is full: anywhere in its second half.
            Err(_) => fastrand::u64(longest / 2..=longest),
        };
        let seconds = ahead.div_ceil(1_000_000_000).max(1);
        let seconds = seconds + fastrand::u64(0..=2 + seconds / 8);
        u16::try_from(seconds).unwrap_or(u16::MAX)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn those_refused_together_come_back_as_fast_as_they_can_be_taken() {
        let line = Comeback::default();
        let mut returns: BTreeMap<u16, u32> = BTreeMap::new();
        for _ in 0..2000 {
            *returns
                .entry(line.book(7, Duration::ZERO, Duration::from_millis(10)))
                .or_default() += 1;
        }
        // 2,000 at 100 a second take 20 seconds, and some spread.
        assert!(returns.keys().all(|second| (1..=25).contains(second)));
        assert!(returns.len() >= 20, "{returns:?}");
        assert!(returns.values().all(|count| *count < 220), "{returns:?}");
    }

    #[test]
    fn the_line_moves_with_time_and_has_an_end() {
        let line = Comeback::default();
        let interval = Duration::from_secs(10);
        for _ in 0..6 {
            assert!(line.book(0, Duration::ZERO, interval) >= 10);
        }
        let late = line.book(0, Duration::ZERO, interval);
        assert!((30..=70).contains(&late), "{late}");
        let later = 3_600_000_000_000;
        assert!(line.book(later, Duration::ZERO, Duration::from_millis(1)) <= 3);
        let waiting = Duration::from_secs(20);
        assert!(line.book(later, waiting, Duration::from_millis(1)) >= 20);
    }
}
