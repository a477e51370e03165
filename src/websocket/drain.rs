//! Ending many tunnels without a reconnect storm.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::close::Cause;
use super::table::TunnelTable;
use super::tunnel::{Record, TunnelInfo};

/// Ticks are no shorter than this: timers are no finer anyway.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// Nor longer, so that tunnels which open meanwhile are found in time.
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// How often in a window the table is read for tunnels that opened meanwhile.
const READS: u32 = 20;

impl TunnelTable {
    /// Asks for the end of every tunnel that `select` names, in random order and at an even rate
    /// over `window`, and of those that open meanwhile as well. Returns how many that were, when
    /// all have been asked; see [`TunnelTable::wait_empty`] for when they have ended.
    ///
    /// The rate follows what is left: a tick ends `left × tick / time left`, where the fraction of
    /// a tunnel is drawn by lot, so the closes neither bunch up nor keep step with another
    /// replica's. To keep a rate of closes instead, make the window `tunnels / rate`.
    pub async fn drain(
        &self,
        select: impl Fn(&TunnelInfo) -> bool,
        window: Duration,
        cause: Cause,
    ) -> usize {
        let start = Instant::now();
        let mut left: Vec<Arc<Record>> = Vec::new();
        let mut last_id = 0;
        let mut read_next = start;
        let mut asked = 0;
        loop {
            let now = Instant::now();
            let time_left = window.saturating_sub(now.saturating_duration_since(start));
            if now >= read_next || time_left.is_zero() {
                let opened = self.records(|record| record.id > last_id && select(&record.info));
                last_id = opened
                    .iter()
                    .map(|record| record.id)
                    .fold(last_id, u64::max);
                left.extend(opened);
                read_next = now.checked_add(window / READS).unwrap_or(now);
            }
            if time_left.is_zero() {
                asked += left.iter().filter(|record| record.end(cause, None)).count();
                return asked;
            }
            let each = time_left / u32::try_from(left.len().max(1)).unwrap_or(u32::MAX);
            let tick = each.clamp(SHORTEST_TICK, LONGEST_TICK).min(time_left);
            let share = left.len() as f64 * tick.as_secs_f64() / time_left.as_secs_f64();
            let lot = if fastrand::f64() < share.fract() {
                1
            } else {
                0
            };
            for _ in 0..share as usize + lot {
                if left.is_empty() {
                    break;
                }
                let record = left.swap_remove(fastrand::usize(..left.len()));
                asked += usize::from(record.end(cause, None));
            }
            sleep_until(now + tick).await;
        }
    }

    /// Asks for the end of these tunnels, in random order and at an even rate over `window`, with
    /// this Close code. Returns how many were asked.
    pub async fn end_each(
        &self,
        mut ids: Vec<u64>,
        window: Duration,
        cause: Cause,
        code: u16,
    ) -> usize {
        fastrand::shuffle(&mut ids);
        let count = ids.len().max(1);
        let start = Instant::now();
        let mut asked = 0;
        for (number, id) in ids.into_iter().enumerate() {
            let share = number as f64 / count as f64;
            let due = start + window.mul_f64(share);
            if due > Instant::now() {
                sleep_until(due).await;
            }
            asked += usize::from(self.end_with_code(id, cause, code));
        }
        asked
    }
}
