//! A histogram of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many buckets there are, beside the one without bound.
const BUCKETS: usize = 16;

/// Upper bounds of the buckets of waits, in microseconds: 100 µs to 60 s.
const WAITS: [u64; BUCKETS] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 15_000_000, 60_000_000,
];

/// The same of the lives of connections: 1 s to a week.
const LIVES: [u64; BUCKETS] = [
    1_000_000,
    5_000_000,
    15_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
    7_200_000_000,
    14_400_000_000,
    28_800_000_000,
    43_200_000_000,
    86_400_000_000,
    604_800_000_000,
];

/// Durations by bucket. Observing is three additions.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; BUCKETS],
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    /// Of waits: 100 µs to 60 s.
    fn default() -> Self {
        Self::with(&WAITS)
    }
}

impl Histogram {
    /// Of the lives of connections: 1 s to a week.
    #[must_use]
    pub fn of_lives() -> Self {
        Self::with(&LIVES)
    }

    fn with(bounds: &'static [u64; BUCKETS]) -> Self {
        Self {
            bounds,
            buckets: Default::default(),
            count: AtomicU64::new(0),
            sum_micros: AtomicU64::new(0),
        }
    }

    /// Takes a duration in.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|&bound| bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Upper bounds in seconds, each with the count of its bucket, not cumulative.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().map(|&bound| bound as f64 / 1e6);
        bounds.zip(
            self.buckets
                .iter()
                .map(|count| count.load(Ordering::Relaxed)),
        )
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Their sum, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64()
    }
}
