//! How many there are, never more than there may be.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many there are at the moment.
#[derive(Debug, Default)]
pub struct Count(AtomicU32);

/// One that is counted until it is dropped.
#[derive(Debug)]
pub struct Counting<'a>(&'a Count);

impl<'a> Counting<'a> {
    /// Counts one more, unless there are as many as there may be.
    #[must_use]
    pub fn new(count: &'a Count, bound: Option<NonZeroU32>) -> Option<Self> {
        count.add(bound).then_some(Self(count))
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.sub();
    }
}

impl Count {
    /// Counts one more, unless there are as many as there may be. The caller counts it off.
    #[must_use]
    pub fn add(&self, bound: Option<NonZeroU32>) -> bool {
        let most = bound.map_or(u32::MAX, NonZeroU32::get);
        let relaxed = Ordering::Relaxed;
        self.0
            .fetch_update(relaxed, relaxed, |count| (count < most).then(|| count + 1))
            .is_ok()
    }

    /// Counts one off.
    pub fn sub(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
