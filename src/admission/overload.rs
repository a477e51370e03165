//! Whether the process is near a bound of its own: memory, open files.
//!
//! ```text
//! left ▲
//!      │~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~ normal
//!      │ - - - - - ╲ - - - - - - - - ╱ - - - - - one and a half times the reserve: over again
//!      │ ───────────╲───────────────╱─────────── the reserve: handshakes are refused
//!      │             ╲_____________╱             half of it: nothing is accepted either
//! ```
//!
//! What is open stays, whatever the level (P6): it is the new that would take what is left.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

/// How near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not near.
    #[default]
    Normal,
    /// WebSocket handshakes are refused.
    Refusing,
    /// And no connection is accepted; the kernel holds them.
    Paused,
}

/// What there is only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// What the control group may have.
    Memory,
    /// What the process may open.
    OpenFiles,
}

/// The state of the process, which requests and accept loops ask.
#[derive(Debug)]
pub struct Overload {
    memory: AtomicU8,
    open_files: AtomicU8,
    level: watch::Sender<Level>,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            memory: AtomicU8::new(0),
            open_files: AtomicU8::new(0),
            level: watch::Sender::new(Level::Normal),
        }
    }
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::OpenFiles];

    /// The label in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::OpenFiles => "open_files",
        }
    }

    /// What is kept of `limit` for what is open already.
    fn reserve(self, limit: u64) -> u64 {
        match self {
            Self::Memory => limit / 10,
            // Two for a WebSocket, and some for files and the admin port.
            Self::OpenFiles => (limit / 50).max(32).min(limit / 4),
        }
    }
}

impl Level {
    /// The level with `left` of `limit`, after it was `self`. A level is left later than it is
    /// entered, so that it does not change with each look.
    #[must_use]
    pub fn next(self, resource: Resource, left: u64, limit: u64) -> Self {
        let reserve = resource.reserve(limit);
        let is_below = |level: Self, reserve: u64| {
            left < reserve || (self >= level && left < reserve + reserve / 2)
        };
        if is_below(Self::Paused, reserve / 2) {
            Self::Paused
        } else if is_below(Self::Refusing, reserve) {
            Self::Refusing
        } else {
            Self::Normal
        }
    }

    /// As a metric: 0, 1 or 2.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Refusing => 1,
            Self::Paused => 2,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Normal,
            1 => Self::Refusing,
            _ => Self::Paused,
        }
    }
}

impl Overload {
    /// The level of one resource.
    #[must_use]
    pub fn of(&self, resource: Resource) -> Level {
        Level::from_number(self.cell(resource).load(Ordering::Relaxed))
    }

    /// The level of the process: that of the resource with least left.
    #[must_use]
    pub fn level(&self) -> Level {
        let levels = Resource::ALL.map(|resource| self.of(resource));
        levels.into_iter().max().unwrap_or_default()
    }

    /// A resource has been looked at: `used` of `limit`; `None` = there is no limit.
    pub fn look(&self, resource: Resource, reading: Option<(u64, u64)>) {
        let before = self.of(resource);
        let level = reading.map_or(Level::Normal, |(used, limit)| {
            before.next(resource, limit.saturating_sub(used), limit)
        });
        if level == before {
            return;
        }
        self.cell(resource).store(level.number(), Ordering::Relaxed);
        self.level.send_replace(self.level());
        let (resource, reading) = (resource.as_str(), reading.unwrap_or_default());
        let (used, limit) = reading;
        match level {
            Level::Normal => tracing::info!(resource, used, limit, "no longer overloaded"),
            _ => {
                tracing::warn!(
                    resource,
                    used,
                    limit,
                    ?level,
                    "overloaded; what is open stays"
                );
            }
        }
    }

    /// Whether connections may be accepted.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.level() < Level::Paused
    }

    /// Waits until they may.
    pub async fn accepting(&self) {
        let mut levels = self.level.subscribe();
        // The sender lives as long as this.
        drop(levels.wait_for(|level| *level < Level::Paused).await);
    }

    fn cell(&self, resource: Resource) -> &AtomicU8 {
        match resource {
            Resource::Memory => &self.memory,
            Resource::OpenFiles => &self.open_files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_later_than_it_is_entered() {
        let levels = |left: &[u64]| {
            let mut level = Level::Normal;
            let step = |left: &u64| {
                level = level.next(Resource::Memory, *left, 1000);
                level.number()
            };
            left.iter().map(step).collect::<Vec<_>>()
        };
        assert_eq!(
            levels(&[500, 101, 99, 149, 150, 149, 100, 99]),
            [0, 0, 1, 1, 0, 0, 0, 1]
        );
        assert_eq!(
            levels(&[49, 74, 75, 149, 150, 0, 1000]),
            [2, 2, 1, 1, 0, 2, 0]
        );
    }

    #[test]
    fn files_enough_for_the_process_itself_are_kept() {
        let entered = |limit: u64| {
            let is_refusing =
                |left: &u64| Level::Normal.next(Resource::OpenFiles, *left, limit) != Level::Normal;
            (0..limit).rev().find(is_refusing).unwrap()
        };
        assert_eq!((entered(64), entered(1024), entered(20_000)), (15, 31, 399));
    }

    #[tokio::test(start_paused = true)]
    async fn one_resource_is_enough_and_accepting_goes_on_when_both_have_enough() {
        let overload = std::sync::Arc::new(Overload::default());
        overload.look(Resource::Memory, Some((96, 100)));
        overload.look(Resource::OpenFiles, Some((9999, 10_000)));
        assert!(!overload.accepts());
        let waiting = std::sync::Arc::clone(&overload);
        let waiter = tokio::spawn(async move { waiting.accepting().await });
        tokio::task::yield_now().await;
        overload.look(Resource::Memory, None);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        overload.look(Resource::OpenFiles, Some((0, 10_000)));
        waiter.await.unwrap();
        assert_eq!(overload.level(), Level::Normal);
    }
}
