//! One pod address with its live state.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::admission::{Count, Gate};

/// A pod address as the proxy uses it. `P` is what the proxy keeps with it: idle connections.
#[derive(Debug)]
pub struct Endpoint<P> {
    /// Pod address and port.
    pub address: SocketAddr,
    /// The proxy's own, for as long as the endpoint lives.
    pub pool: P,
    /// Where WebSocket handshakes wait for it.
    pub gate: Gate,
    in_flight: AtomicUsize,
    tunnels: Count,
    retired: AtomicBool,
    /// Milliseconds and one, or 0; see [`Endpoint::cordon`].
    cordon: AtomicU64,
}

/// Counts one request or tunnel on an endpoint until it is dropped.
#[derive(Debug)]
pub struct InFlight<P> {
    endpoint: Arc<Endpoint<P>>,
    is_tunnel: bool,
}

impl<P: Default> Endpoint<P> {
    /// An endpoint without history.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            pool: P::default(),
            gate: Gate::default(),
            in_flight: AtomicUsize::new(0),
            tunnels: Count::default(),
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

    /// WebSockets now on it, handshakes under way included.
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.tunnels.now()
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
        Self {
            endpoint,
            is_tunnel: false,
        }
    }

    /// Counts one more WebSocket on `endpoint`, unless it has as many as it may.
    #[must_use]
    pub fn tunnel(endpoint: Arc<Endpoint<P>>, most: Option<NonZeroU32>) -> Option<Self> {
        endpoint.tunnels.add(most).then(|| {
            let mut in_flight = Self::new(endpoint);
            in_flight.is_tunnel = true;
            in_flight
        })
    }

    /// The endpoint counted on.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint<P>> {
        &self.endpoint
    }
}

impl<P> Drop for InFlight<P> {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_tunnel {
            self.endpoint.tunnels.sub();
        }
    }
}
