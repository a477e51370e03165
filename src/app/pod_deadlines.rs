//! By when the tunnels of pods that end have to be closed.
//!
//! ```text
//! the pod's end (clock of the wall) ─▶ less a margin ─▶ an instant, which stays
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::routing::PodEnd;

/// The share of its grace period that a pod keeps for itself: so the last of its tunnels are closed
/// and answered before it is killed.
const MARGIN: u32 = 6;
/// No pod keeps more.
const LONGEST_MARGIN: Duration = Duration::from_secs(5);
/// In less than this nothing is spread any more.
const SHORTEST: Duration = Duration::from_secs(1);

/// One for each pod that ends and still has tunnels.
///
/// An end is turned into an instant once. Else what becomes of the clock of the wall would be
/// another window, and with it another plan, at each look. It is also kept for a pod whose
/// EndpointSlice is gone for a moment.
#[derive(Debug, Default)]
pub(super) struct PodDeadlines(HashMap<SocketAddr, Deadline>);

#[derive(Debug)]
struct Deadline {
    end: PodEnd,
    instant: Instant,
    /// When it was last asked for.
    asked: Instant,
}

impl PodDeadlines {
    /// The deadline of a pod at this moment; `None` = it is not known when the pod ends.
    pub(super) fn of(
        &mut self,
        pod: SocketAddr,
        end: Option<PodEnd>,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Instant> {
        let known = self.0.get_mut(&pod);
        if let Some(known) = known
            && end.is_none_or(|end| end == known.end)
        {
            known.asked = now;
            return Some(known.instant);
        }
        let end = end?;
        let instant = now + time_left(end, wall);
        let deadline = Deadline {
            end,
            instant,
            asked: now,
        };
        self.0.insert(pod, deadline);
        Some(instant)
    }

    /// Forgets those that were not asked for at this moment.
    pub(super) fn forget_others(&mut self, now: Instant) {
        self.0.retain(|_, deadline| deadline.asked == now);
    }
}

/// For how long tunnels of a pod may still be closed one by one. Clocks of two machines are never
/// quite the same, but no pod has more left than it was given.
fn time_left(end: PodEnd, wall: SystemTime) -> Duration {
    let since_epoch = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let margin = (end.grace / MARGIN).min(LONGEST_MARGIN);
    let left = end.at.saturating_sub(since_epoch).min(end.grace);
    let left = left.saturating_sub(margin);
    if left < SHORTEST {
        Duration::ZERO
    } else {
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELETED: Duration = Duration::from_secs(1_800_000_000);

    fn end(grace: u64) -> PodEnd {
        let grace = Duration::from_secs(grace);
        PodEnd {
            at: DELETED + grace,
            grace,
        }
    }

    fn wall(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DELETED + Duration::from_millis(millis)
    }

    #[test]
    fn a_pod_keeps_a_sixth_of_its_time_and_five_seconds_at_most() {
        let left = |grace, millis| time_left(end(grace), wall(millis)).as_millis();
        assert_eq!(left(30, 0), 25_000);
        assert_eq!(left(30, 10_000), 15_000);
        assert_eq!(left(3600, 500), 3_594_500);
        assert_eq!(left(12, 0), 10_000);
        assert_eq!(left(6, 4_000), 1_000);
    }

    #[test]
    fn where_less_than_a_second_is_left_nothing_is() {
        let left = |grace, millis| time_left(end(grace), wall(millis));
        assert_eq!(left(6, 4_001), Duration::ZERO);
        assert_eq!(left(1, 0), Duration::ZERO);
        assert_eq!(left(0, 0), Duration::ZERO);
        assert_eq!(left(30, 3_600_000), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_late_gives_no_more_than_the_grace_period() {
        let early = wall(0) - Duration::from_secs(3600);
        assert_eq!(time_left(end(30), early), Duration::from_secs(25));
        let before_all_time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(time_left(end(30), before_all_time), Duration::from_secs(25));
    }

    #[test]
    fn a_deadline_stays_until_the_pod_has_another_end_or_no_tunnels() {
        let pod = SocketAddr::from(([10, 0, 0, 1], 80));
        let mut deadlines = PodDeadlines::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        assert_eq!(deadlines.of(pod, None, start, wall(0)), None);
        let first = deadlines.of(pod, Some(end(60)), start, wall(0));
        assert_eq!(first, Some(start + Duration::from_secs(55)));
        // Whatever the clock of the wall does.
        assert_eq!(deadlines.of(pod, Some(end(60)), later, wall(0)), first);
        assert_eq!(deadlines.of(pod, None, later, wall(0)), first);
        let sooner = deadlines.of(pod, Some(end(12)), later, wall(10_000));
        assert_eq!(sooner, Some(later));
        deadlines.forget_others(later);
        assert_eq!(deadlines.of(pod, None, later, wall(10_000)), sooner);
        deadlines.forget_others(later + Duration::from_secs(1));
        assert_eq!(deadlines.of(pod, None, later, wall(10_000)), None);
    }
}
