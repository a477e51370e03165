//! The data plane.
//!
//! ```text
//! client ─▶ listeners ─▶ accept ─▶ (TLS) ─▶ connection ─▶ request ─▶ forward ─▶ pool ─▶ pod
//!              ▲                               │             └─ respond: errors of ours
//!           Snapshot                           └─ after a 101: tunnel ─▶ websocket::relay
//! ```
//!
//! It reads the snapshot and never waits for the control plane (P7).

pub mod accept;
pub mod access_log;
pub mod body;
pub mod clock;
pub mod connection;
pub mod error;
pub mod forward;
pub mod headers;
pub mod http2_stream;
pub mod listeners;
pub mod pool;
pub mod request;
pub mod respond;
pub mod stream;
pub mod target;
pub mod tunnel;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use self::access_log::AccessLog;
use self::clock::Deadlines;
use self::error::ProxyError;
use self::pool::Pool;
use crate::admission::{Ledger, Overload};
use crate::balance::Registry;
use crate::metrics::Metrics;
use crate::routing::{Origin, Snapshot};
use crate::tls::{PodTls, ServerTls};
use crate::websocket::TunnelTable;

/// How often idle connections to pods are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// After how many of those the counters of routes that no longer exist are dropped.
const FORGET_AFTER_SWEEPS: u32 = 120;

/// What every part of the data plane shares.
pub struct Proxy {
    /// The configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Endpoints and their idle connections.
    pub registry: Arc<Registry<Pool>>,
    /// What is counted for the bounds of listeners and load balancers.
    pub ledger: Ledger,
    /// Whether the process is near a bound of its own.
    pub overload: Arc<Overload>,
    /// Open WebSockets.
    pub tunnels: TunnelTable,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line a request and a tunnel.
    pub access_log: AccessLog,
    /// TLS with clients.
    pub server_tls: ServerTls,
    /// TLS with pods.
    pub pod_tls: PodTls,
    /// For slow and silent clients.
    pub deadlines: Deadlines,
    /// Owns the task of every client connection and of every tunnel.
    pub tasks: TaskTracker,
    /// Set when the process is to end. Until connections are let go of, each answer over HTTP/1.1
    /// is then the last of its connection and says so: a client that hears it does not send a
    /// request into a connection that is just being closed (RFC 9112 §9.6). HTTP/2 has GOAWAY.
    pub leaving: AtomicBool,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// Counts a request that is answered by us.
    pub(crate) fn refused(&self, error: ProxyError) {
        self.metrics
            .refused(error.side.as_str(), error.reason.as_str());
    }

    /// Keeps house, for ever: closes idle connections to pods that have grown old or that pods
    /// have closed, and drops the counters of routes that are long gone.
    pub async fn keep_house(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweeps = 0;
        loop {
            ticks.tick().await;
            let now = Instant::now();
            for upstream in self.registry.upstreams() {
                for endpoint in upstream.endpoints() {
                    endpoint.pool.sweep(now);
                }
            }
            self.ledger.sweep();
            sweeps += 1;
            if sweeps == FORGET_AFTER_SWEEPS {
                sweeps = 0;
                self.forget_routes();
            }
        }
    }

    fn forget_routes(&self) {
        let snapshot = self.snapshot.load_full();
        // By object, not by route: counters are shown by object, and must not go back while it
        // lives.
        let origins: HashSet<&Origin> = snapshot
            .listeners
            .values()
            .flat_map(|listener| listener.hosts.routes())
            .map(|route| &*route.id.origin)
            .collect();
        self.tunnels
            .forget_routes(|route| origins.contains(&*route.origin));
        self.metrics.retain(|origin| origins.contains(origin));
    }
}
