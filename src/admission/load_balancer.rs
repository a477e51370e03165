//! What a load balancer has at the moment, over all its listeners.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::comeback::Comeback;
use super::count::Count;
use super::rate::Rate;
use super::{Bound, Refusal};
use crate::routing::Capacity;

/// Refused connections that are told so at a time; further ones are closed without a word.
const MAX_REFUSED: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
/// How fast places become free where nothing tells.
pub(super) const TURNOVER: Duration = Duration::from_millis(20);

/// What a load balancer has at the moment. Times are nanoseconds of the caller's clock.
#[derive(Debug, Default)]
pub struct LoadBalancer {
    connections: Count,
    refused: Count,
    new_connections: Rate,
    requests: Rate,
    comeback: Comeback,
}

/// Counts a client connection until it is dropped.
#[derive(Debug)]
pub struct Connected {
    load_balancer: Arc<LoadBalancer>,
    refusal: Option<Refusal>,
}

impl LoadBalancer {
    /// Counts a new client connection. One that is beyond a bound is to be told so and let go.
    /// `None` = there are so many of those that this one is to be closed.
    #[must_use]
    pub fn connect(self: &Arc<Self>, now: u64, capacity: &Capacity) -> Option<Connected> {
        let refusal = self.try_connect(now, capacity).err();
        if refusal.is_some() && !self.refused.add(Some(MAX_REFUSED)) {
            return None;
        }
        Some(Connected {
            load_balancer: Arc::clone(self),
            refusal,
        })
    }

    fn try_connect(&self, now: u64, capacity: &Capacity) -> Result<(), Refusal> {
        if let Some(rate) = capacity.new_connections_per_second
            && self.new_connections.take(now, rate).is_err()
        {
            let each = Duration::from_secs(1) / rate.get();
            return Err(self.refuse(Bound::CapacityNewConnections, now, each));
        }
        if !self.connections.add(capacity.max_connections) {
            return Err(self.refuse(Bound::CapacityConnections, now, TURNOVER));
        }
        Ok(())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// There are too many in this second.
    pub fn request(&self, now: u64, rate: NonZeroU32) -> Result<(), Refusal> {
        self.requests.take(now, rate).map_err(|_| {
            let each = Duration::from_secs(1) / rate.get();
            self.refuse(Bound::CapacityRequests, now, each)
        })
    }

    fn refuse(&self, bound: Bound, now: u64, interval: Duration) -> Refusal {
        Refusal {
            bound,
            retry_after: self.comeback.book(now, Duration::ZERO, interval),
        }
    }
}

impl Connected {
    /// Why it is not served.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        match self.refusal {
            None => self.load_balancer.connections.sub(),
            Some(_) => self.load_balancer.refused.sub(),
        }
    }
}
