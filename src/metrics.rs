//! Counters of the data plane, cheap enough to be counted on every request.
//!
//! ```text
//! proxy ─▶ Metrics: atomics          scrape ─▶ admin reads them, and the tunnel table, as text
//! ```
//!
//! Label sets are bounded: routing objects (at most [`MAX_ORIGINS`]), status codes, and closed sets
//! of reasons. There is no label for a path, a pod or a client.

pub mod histogram;
pub mod leader;
pub mod route;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use self::histogram::Histogram;
pub use self::leader::LeaderCounters;
pub use self::route::RouteCounters;
use crate::routing::Origin;

/// Routing objects with counters of their own; further ones share a set named `other`.
pub const MAX_ORIGINS: usize = 10_000;

/// Counters of the process.
#[derive(Debug)]
pub struct Metrics {
    routes: RwLock<HashMap<Arc<Origin>, Arc<RouteCounters>>>,
    other: Arc<RouteCounters>,
    refused: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    connections: AtomicU64,
    /// Client connections accepted.
    pub connections_total: AtomicU64,
    /// Client connections beyond the capacity of their load balancer.
    pub connections_refused: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_failures: AtomicU64,
    /// Requests whose head could not be parsed.
    pub malformed_requests: AtomicU64,
    /// Requests whose head did not come in time.
    pub head_timeouts: AtomicU64,
    /// HTTP/2 connections that we ended, as their client reset WebSockets in a loop.
    pub reset_floods: AtomicU64,
    /// Errors of `accept` that concern the whole process.
    pub accept_errors: AtomicU64,
    /// WebSockets that are to be closed, each at its time.
    pub draining: AtomicU64,
    /// From a WebSocket request to the 101 of its pod, in seconds.
    pub websocket_handshakes: Histogram,
    /// From a change to the snapshot that serves it, in seconds.
    pub publishes: Histogram,
    /// To translate the world, in seconds.
    pub rebuilds: Histogram,
    /// What is written to the API server.
    pub leader: LeaderCounters,
}

/// Counts an open client connection until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Metrics>);

impl Default for Metrics {
    fn default() -> Self {
        Self {
            routes: RwLock::default(),
            other: Arc::default(),
            refused: Mutex::default(),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            tls_failures: AtomicU64::new(0),
            malformed_requests: AtomicU64::new(0),
            head_timeouts: AtomicU64::new(0),
            reset_floods: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            draining: AtomicU64::new(0),
            websocket_handshakes: Histogram::default(),
            publishes: Histogram::default(),
            rebuilds: Histogram::default(),
            leader: LeaderCounters::default(),
        }
    }
}

impl Metrics {
    /// The counters of a routing object.
    #[must_use]
    pub fn route(&self, origin: &Arc<Origin>) -> Arc<RouteCounters> {
        {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counters) = routes.get(origin) {
                return Arc::clone(counters);
            }
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= MAX_ORIGINS && !routes.contains_key(origin) {
            return Arc::clone(&self.other);
        }
        Arc::clone(routes.entry(Arc::clone(origin)).or_default())
    }

    /// All counters of routing objects; `None` = those beyond the bound.
    #[must_use]
    pub fn routes(&self) -> Vec<(Option<Arc<Origin>>, Arc<RouteCounters>)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let named = routes
            .iter()
            .map(|(origin, counters)| (Some(Arc::clone(origin)), Arc::clone(counters)));
        let mut all: Vec<_> = named.collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.push((None, Arc::clone(&self.other)));
        all
    }

    /// Drops the counters of routing objects that are gone.
    pub fn retain(&self, keep: impl Fn(&Origin) -> bool) {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|origin, _| keep(origin));
    }

    /// A request was answered by us: whose fault, and why.
    pub fn refused(&self, side: &'static str, reason: &'static str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry((side, reason)).or_default() += 1;
    }

    /// How often requests were answered by us, by side and reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts a client connection for as long as the guard lives.
    #[must_use]
    pub fn connection_opened(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// Open client connections that carry HTTP.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
