//! Closes tunnels whose listener, route, backend or pod goes away, and moves those of pods that hold
//! too many.
//!
//! ```text
//! snapshot, endpoints ──(wake)──▶ look at every tunnel: does its way still stand?
//!                                     │ who leaves, why                 ┌─▶ stays after all
//!                                     ▼                                 │
//!                                 Departures: a due time each ──────────┴─▶ Close, paced
//! ```
//!
//! It looks when the configuration or the endpoints have changed, and for a while after, as
//! handshakes may be under way. What it does follows from what is configured at that moment alone:
//! a pod that is ready again keeps the tunnels that it still has.
//!
//! A pod that is terminating or has left keeps its tunnels for as long as no other is ready: their
//! clients could only come back to the same pod, or to none. Otherwise it has the time until it is
//! killed, less a margin, as far as it is known when that is: no tunnel dies with its pod, and none
//! moves sooner than it has to. What becomes known later changes the plan.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::pod_deadlines::PodDeadlines;
use super::rebalancer::Rebalancer;
use crate::proxy::Proxy;
use crate::routing::{ConnectionDrain, EndpointState, ListenerId, PodEnd, Snapshot, Standing};
use crate::websocket::{Departures, Leave, Loss, TunnelInfo};

/// A look takes no more than this share of the time: 1/20.
const LOOK_SHARE: u32 = 20;
/// Between two looks at least.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// For how long after a change, as pods may take their time to answer a handshake.
const LATE_TUNNELS: Duration = Duration::from_secs(300);
/// Between two looks without a change: a tenth of the time since the last one, in these bounds.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Wakes the [`Drainer`].
#[derive(Clone, Debug, Default)]
pub(super) struct Wake(Arc<Notify>);

impl Wake {
    /// What tunnels use has changed.
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

/// Ends tunnels that have to go.
#[derive(Debug)]
pub(super) struct Drainer {
    proxy: Arc<Proxy>,
    wake: Wake,
    departures: Departures,
    /// As listeners had it last: how the tunnels of one that has left end.
    policies: HashMap<ListenerId, Policy>,
    rebalancer: Rebalancer,
    pods: PodDeadlines,
}

/// How the tunnels of a listener end, and when it was there last.
#[derive(Debug)]
struct Policy {
    drain: ConnectionDrain,
    seen: Instant,
}

impl Drainer {
    /// It looks when it is woken.
    #[must_use]
    pub(super) fn new(proxy: Arc<Proxy>, wake: Wake) -> Self {
        Self {
            proxy,
            wake,
            departures: Departures::default(),
            policies: HashMap::new(),
            rebalancer: Rebalancer::default(),
            pods: PodDeadlines::default(),
        }
    }

    /// Runs for ever.
    pub(super) async fn run(mut self) {
        let mut changed = Instant::now();
        let mut earliest = changed;
        let mut look: Option<Instant> = None;
        loop {
            let next = [look, self.departures.next()].into_iter().flatten().min();
            let timer = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.0.notified() => {
                    changed = Instant::now();
                    look = Some(earliest);
                }
                () = timer => {}
            }
            let now = Instant::now();
            if look.is_some_and(|look| look <= now) {
                let rebalances = self.look(now);
                let took = now.elapsed();
                earliest = Instant::now() + (took * LOOK_SHARE).max(SHORTEST_PAUSE);
                let since = now.saturating_duration_since(changed);
                let again = (since / 10).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
                let goes_on = since < LATE_TUNNELS || !self.departures.is_empty() || rebalances;
                look = goes_on.then(|| earliest + again);
            }
            for (id, cause) in self.departures.due(Instant::now()) {
                self.proxy.tunnels.end(id, cause);
            }
            let draining = self.departures.len().try_into().unwrap_or(u64::MAX);
            self.proxy
                .metrics
                .draining
                .store(draining, Ordering::Relaxed);
        }
    }

    /// Finds out who has to go. Answers whether there is anything to be kept in balance.
    fn look(&mut self, now: Instant) -> bool {
        let snapshot = self.proxy.snapshot.load_full();
        let mut ways: HashMap<Way, Option<Leave>> = HashMap::new();
        for (id, listener) in &snapshot.listeners {
            let drain = listener.drain;
            self.policies
                .insert(id.clone(), Policy { drain, seen: now });
        }
        let mut seen: HashSet<Arc<ListenerId>> = HashSet::new();
        let mut leaving = Vec::new();
        let mut staying = self.rebalancer.look(&snapshot);
        let wall = SystemTime::now();
        let mut pods = std::mem::take(&mut self.pods);
        self.proxy.tunnels.visit(|id, info| {
            let leave = ways.entry(Way::of(info)).or_insert_with(|| {
                seen.insert(Arc::clone(&info.listener));
                let policy = self.policy(&snapshot, &info.listener);
                let (loss, window) = lost(&self.proxy, &snapshot, info)?;
                let (window, until) = match window {
                    Window::Declared => (policy.timeout, None),
                    Window::Asked(window) => (window, None),
                    Window::Pod(end) => {
                        let until = pods.of(info.endpoint, end, now, wall);
                        (policy.pod_window(until.is_some()), until)
                    }
                };
                Some(Leave {
                    listener: Arc::clone(&info.listener),
                    loss,
                    window,
                    until,
                    closes_per_second: policy.closes_per_second,
                })
            });
            match leave {
                None => staying.add(id, info),
                Some(leave) => leaving.push((id, leave.clone())),
            }
        });
        pods.forget_others(now);
        self.pods = pods;
        self.policies
            .retain(|id, policy| seen.contains(id) || now < policy.seen + LATE_TUNNELS);
        let rebalances = !staying.is_empty();
        let registry = &self.proxy.registry;
        leaving.extend(
            self.rebalancer
                .moves(now, staying, |upstream| {
                    registry.find(upstream).map(|held| held.ready())
                })
                .into_iter()
                .map(|(id, leave)| {
                    let closes_per_second =
                        self.policy(&snapshot, &leave.listener).closes_per_second;
                    (
                        id,
                        Leave {
                            closes_per_second,
                            ..leave
                        },
                    )
                }),
        );
        for begun in self.departures.update(now, leaving) {
            let Leave {
                listener,
                loss,
                closes_per_second,
                ..
            } = &begun.leave;
            let (tunnels, window) = (begun.tunnels, begun.left);
            tracing::info!(%listener, tunnels, ?window, "WebSockets are closed one by one, as {loss}");
            if begun.outlasts_window() {
                tracing::warn!(
                    %listener, tunnels, ?window, closes_per_second,
                    "closing so many takes longer than the drain may; raise \
                     connectionDrain.closesPerSecond of the LoadBalancer or give it more time"
                );
            }
        }
        rebalances
    }

    /// What is declared now, at the load balancer's other listeners if the listener has left, or
    /// else what was declared last.
    fn policy(&self, snapshot: &Snapshot, id: &ListenerId) -> ConnectionDrain {
        let first = ListenerId {
            name: Arc::default(),
            ..id.clone()
        };
        let mut siblings = snapshot
            .listeners
            .range(first..)
            .take_while(|(other, _)| {
                (&other.namespace, &other.load_balancer) == (&id.namespace, &id.load_balancer)
            })
            .map(|(_, listener)| listener.drain);
        let declared = snapshot.listeners.get(id).map(|listener| listener.drain);
        declared.or_else(|| siblings.next()).unwrap_or_else(|| {
            let policy = self.policies.get(id);
            policy.map_or_else(ConnectionDrain::default, |policy| policy.drain)
        })
    }
}

/// What decides whether a tunnel stays. Tunnels of one route share its parts, so that they are
/// compared by where they are and not by what they say.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    listener: usize,
    route: usize,
    upstream: usize,
    endpoint: std::net::SocketAddr,
}

impl Way {
    fn of(info: &TunnelInfo) -> Self {
        Self {
            listener: Arc::as_ptr(&info.listener).addr(),
            route: Arc::as_ptr(&info.route).addr(),
            upstream: Arc::as_ptr(&info.upstream).addr(),
            endpoint: info.endpoint,
        }
    }
}

/// Over which time tunnels are closed.
#[derive(Clone, Copy, Debug)]
enum Window {
    /// As declared.
    Declared,
    /// As an operator has asked for.
    Asked(Duration),
    /// Of a pod that leaves, and ends then, where that is known.
    Pod(Option<PodEnd>),
}

/// What a tunnel loses, and over which time it is closed for that; `None` = it stays.
fn lost(proxy: &Proxy, snapshot: &Snapshot, info: &TunnelInfo) -> Option<(Loss, Window)> {
    let loss = match snapshot.standing(&info.listener, &info.route, &info.upstream) {
        Standing::ListenerRemoved => Loss::Listener,
        Standing::RouteRemoved => Loss::Route(Arc::clone(&info.route)),
        Standing::BackendRemoved => {
            Loss::Backend(Arc::clone(&info.route), Arc::clone(&info.upstream))
        }
        Standing::Current => {
            let upstream = proxy.registry.find(&info.upstream)?;
            let pod = Loss::Pod(info.endpoint);
            if let Some(window) = upstream
                .endpoint(info.endpoint)
                .and_then(|endpoint| endpoint.cordon())
            {
                return Some((pod, Window::Asked(window)));
            }
            let set = upstream.set();
            return match set.state(info.endpoint) {
                Some(EndpointState::Ready | EndpointState::NotReady) => None,
                Some(EndpointState::Draining) | None => {
                    (set.ready() > 0).then(|| (pod, Window::Pod(set.end(info.endpoint))))
                }
            };
        }
    };
    Some((loss, Window::Declared))
}
