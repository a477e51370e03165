//! One pod address with its live state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A pod address as the proxy uses it. `P` is what the proxy keeps with it: idle connections.
#[derive(Debug)]
pub struct Endpoint<P> {
    /// Pod address and port.
    pub address: SocketAddr,
    /// The proxy's own, for as long as the endpoint lives.
    pub pool: P,
    in_flight: AtomicUsize,
    retired: AtomicBool,
    /// Milliseconds and one, or 0; see [`Endpoint::cordon`].
    cordon: AtomicU64,
}

/// Counts one request or tunnel on an endpoint until it is dropped.
#[derive(Debug)]
pub struct InFlight<P>(Arc<Endpoint<P>>);

impl<P: Default> Endpoint<P> {
    /// An endpoint without history.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            pool: P::default(),
            in_flight: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            cordon: AtomicU64::new(0),
        }
    }
}

impl<P> Endpoint<P> {
    /// Requests and tunnels now on it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it has left its upstream; then nothing more is pooled for it.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// An operator takes it out of use: it gets new work only where no other endpoint can, and its
    /// tunnels are to be closed over this time. `None` = it is in use again. Forgotten with the
    /// endpoint.
    pub fn set_cordon(&self, window: Option<Duration>) {
        let millis = window.map_or(0, |window| {
            u64::try_from(window.as_millis()).map_or(u64::MAX, |millis| millis.saturating_add(1))
        });
        self.cordon.store(millis, Ordering::Relaxed);
    }

    /// Over which time its tunnels are to be closed, if an operator has taken it out of use.
    #[must_use]
    pub fn cordon(&self) -> Option<Duration> {
        let millis = self.cordon.load(Ordering::Relaxed);
        millis.checked_sub(1).map(Duration::from_millis)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl<P> InFlight<P> {
    /// Counts one more on `endpoint`.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint<P>>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    /// The endpoint counted on.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint<P>> {
        &self.0
    }
}

impl<P> Drop for InFlight<P> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
