//! Which tunnels move to pods that hold fewer.
//!
//! ```text
//! tunnels that stay ─▶ by upstream: how many each ready pod has ─▶ surplus ─▶ a plan: who moves
//!                                                                    ▲            │ until all have
//!                                  a pause, longer if nobody came back ◀──────────┘
//! ```
//!
//! A plan is made once and carried out whole: while its tunnels are closed and their clients are on
//! their way back, counts say little. Where fewer than half of them come to the pods that were to
//! have them, moving on would only chase clients away: then the pauses grow.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::routing::{ListenerId, Rebalance, Snapshot, UpstreamId};
use crate::websocket::{Leave, Loss, TunnelInfo, surplus};

/// After a plan, before the next is made.
const PAUSE: Duration = Duration::from_secs(15);
/// The longest that it grows to.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Plans, by upstream.
#[derive(Debug, Default)]
pub(super) struct Rebalancer {
    upstreams: HashMap<Arc<UpstreamId>, State>,
}

/// Tunnels that stay, by upstream, as far as they may be moved.
#[derive(Debug)]
pub(super) struct Staying {
    policies: HashMap<ListenerId, Rebalance>,
    upstreams: HashMap<Arc<UpstreamId>, Held>,
}

#[derive(Debug)]
struct Held {
    policy: Rebalance,
    pods: HashMap<SocketAddr, Vec<(u64, Arc<ListenerId>)>>,
}

#[derive(Debug)]
struct State {
    /// The pods that it is about.
    ready: Vec<SocketAddr>,
    /// Who moves; those that have ended are not in it any more.
    moving: HashSet<u64>,
    window: Duration,
    /// Number of the plan, so that each has a window of its own.
    plan: u64,
    /// How many each pod held when the plan was made, and how many were to come.
    before: HashMap<SocketAddr, usize>,
    planned: usize,
    /// No plan before.
    next: Instant,
    pause: Duration,
}

impl Staying {
    /// Counts a tunnel that stays for all that has become of its way.
    pub(super) fn add(&mut self, id: u64, info: &TunnelInfo) {
        if self.policies.is_empty() {
            return;
        }
        let Some(&policy) = self.policies.get(&*info.listener) else {
            return;
        };
        let held = match self.upstreams.get_mut(&info.upstream) {
            Some(held) => held,
            None => self
                .upstreams
                .entry(Arc::clone(&info.upstream))
                .or_insert_with(|| Held {
                    policy,
                    pods: HashMap::new(),
                }),
        };
        let pod = held.pods.entry(info.endpoint).or_default();
        pod.push((id, Arc::clone(&info.listener)));
    }

    /// Whether no listener has its tunnels moved.
    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}

impl Rebalancer {
    /// Begins a count of those that stay.
    pub(super) fn look(&self, snapshot: &Snapshot) -> Staying {
        let listeners = snapshot.listeners.iter();
        Staying {
            policies: listeners
                .filter_map(|(id, listener)| Some((id.clone(), listener.rebalance?)))
                .collect(),
            upstreams: HashMap::new(),
        }
    }

    /// Who moves. `closes_per_second` is left for the caller, who knows the listeners' bounds.
    pub(super) fn moves(
        &mut self,
        now: Instant,
        staying: Staying,
        ready: impl Fn(&UpstreamId) -> Option<Vec<SocketAddr>>,
    ) -> Vec<(u64, Leave)> {
        self.upstreams
            .retain(|upstream, _| staying.upstreams.contains_key(upstream));
        let mut moves = Vec::new();
        for (upstream, held) in staying.upstreams {
            let Some(ready) = ready(&upstream) else {
                continue;
            };
            let state = self
                .upstreams
                .entry(Arc::clone(&upstream))
                .or_insert_with(|| State::new(ready.clone(), 0, now));
            state.look(now, &ready, &held);
            for (id, listener) in held.pods.into_values().flatten() {
                if state.moving.contains(&id) {
                    let leave = Leave {
                        listener,
                        loss: Loss::Balance(Arc::clone(&upstream), state.plan),
                        window: state.window,
                        until: None,
                        closes_per_second: 1,
                    };
                    moves.push((id, leave));
                }
            }
        }
        moves
    }
}

impl State {
    fn new(ready: Vec<SocketAddr>, plan: u64, now: Instant) -> Self {
        Self {
            plan,
            ready,
            moving: HashSet::new(),
            window: Duration::ZERO,
            before: HashMap::new(),
            planned: 0,
            next: now,
            pause: PAUSE,
        }
    }

    fn look(&mut self, now: Instant, ready: &[SocketAddr], held: &Held) {
        let count = |pod: &SocketAddr| held.pods.get(pod).map_or(0, Vec::len);
        if self.ready != ready {
            // Other pods, another plan, and at once.
            *self = Self::new(ready.to_owned(), self.plan, now);
        } else if !self.moving.is_empty() {
            let open = held.pods.values().flatten().map(|(id, _)| id);
            let moving: HashSet<u64> = open
                .filter(|id| self.moving.contains(id))
                .copied()
                .collect();
            self.moving = moving;
            if self.moving.is_empty() {
                self.next = now + self.pause;
            }
            return;
        }
        if now < self.next {
            return;
        }
        if self.planned > 0 {
            let came: usize = ready
                .iter()
                .map(|pod| count(pod).saturating_sub(self.before.get(pod).copied().unwrap_or(0)))
                .sum();
            self.pause = if came * 2 < self.planned {
                (self.pause * 2).min(LONGEST_PAUSE)
            } else {
                PAUSE
            };
            self.planned = 0;
            if self.pause > PAUSE {
                self.next = now + self.pause;
                return;
            }
        }
        let loads: Vec<usize> = ready.iter().map(count).collect();
        let surplus = surplus(&loads, held.policy.tolerance_percent);
        self.planned = surplus.iter().sum();
        if self.planned == 0 {
            return;
        }
        self.plan += 1;
        self.before = ready.iter().copied().zip(loads).collect();
        self.window =
            Duration::from_secs_f64(self.planned as f64 / f64::from(held.policy.closes_per_second));
        for (pod, leaving) in ready.iter().zip(surplus) {
            let mut ids: Vec<u64> = held
                .pods
                .get(pod)
                .map_or_else(Vec::new, |held| held.iter().map(|(id, _)| *id).collect());
            fastrand::shuffle(&mut ids);
            self.moving.extend(ids.into_iter().take(leaving));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::PodProtocol;

    fn pod(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    /// One upstream whose pods hold so many tunnels.
    struct Stage {
        rebalancer: Rebalancer,
        upstream: Arc<UpstreamId>,
        pods: Vec<Vec<u64>>,
        next_id: u64,
        now: Instant,
    }

    impl Stage {
        fn new(loads: &[usize]) -> Self {
            let mut stage = Self {
                rebalancer: Rebalancer::default(),
                upstream: Arc::new(UpstreamId {
                    namespace: "default".into(),
                    service: "chat".into(),
                    port: 80,
                    protocol: PodProtocol::Plain,
                }),
                pods: loads.iter().map(|_| Vec::new()).collect(),
                next_id: 0,
                now: Instant::now(),
            };
            for (index, load) in loads.iter().enumerate() {
                for _ in 0..*load {
                    stage.open(index);
                }
            }
            stage
        }

        fn open(&mut self, index: usize) {
            self.pods[index].push(self.next_id);
            self.next_id += 1;
        }

        fn loads(&self) -> Vec<usize> {
            self.pods.iter().map(Vec::len).collect()
        }

        /// Who moves at this moment, and over which window.
        fn look(&mut self) -> (Vec<u64>, Duration) {
            let listener = Arc::new(ListenerId {
                namespace: "edge".into(),
                load_balancer: "edge".into(),
                name: "http".into(),
            });
            let held = Held {
                policy: Rebalance::default(),
                pods: (0..)
                    .zip(&self.pods)
                    .map(|(number, ids)| {
                        let ids = ids.iter().map(|id| (*id, Arc::clone(&listener)));
                        (pod(number), ids.collect())
                    })
                    .collect(),
            };
            let staying = Staying {
                policies: HashMap::new(),
                upstreams: HashMap::from([(Arc::clone(&self.upstream), held)]),
            };
            let ready: Vec<SocketAddr> = (0..).take(self.pods.len()).map(pod).collect();
            let moves = self
                .rebalancer
                .moves(self.now, staying, |_| Some(ready.clone()));
            let window = moves.first().map(|(_, leave)| leave.window);
            let ids = moves.into_iter().map(|(id, _)| id).collect();
            (ids, window.unwrap_or_default())
        }

        fn close(&mut self, ids: &[u64]) {
            for pod in &mut self.pods {
                pod.retain(|id| !ids.contains(id));
            }
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn a_plan_is_carried_out_whole_and_no_other_made_meanwhile() {
        let mut stage = Stage::new(&[100, 100, 0]);
        let (mut moving, window) = stage.look();
        // From 100, 100, 0 to at most 20 % of 66.7 apart.
        assert_eq!(moving.len(), 58);
        assert_eq!(window, Duration::from_secs_f64(5.8));
        moving.sort_unstable();
        while !moving.is_empty() {
            let (gone, left) = moving.split_at(1);
            stage.close(gone);
            let left = left.to_vec();
            // Those that were closed are still on their way back.
            let (mut still, _) = stage.look();
            still.sort_unstable();
            assert_eq!(still, left);
            moving = left;
        }
        for _ in 0..58 {
            stage.open(2);
        }
        assert!(stage.look().0.is_empty());
        stage.wait(PAUSE);
        assert!(stage.look().0.is_empty());
        assert_eq!(stage.loads(), [71, 71, 58]);
    }

    #[test]
    fn clients_that_do_not_come_back_are_not_chased_away() {
        let mut stage = Stage::new(&[100, 100, 0]);
        let mut closed = 0;
        let began = stage.now;
        while stage.now < began + Duration::from_secs(600) {
            let (moving, _) = stage.look();
            closed += moving.len();
            stage.close(&moving);
            stage.wait(Duration::from_secs(1));
        }
        // Otherwise all of them would be gone after three minutes.
        assert!(closed < 170, "{closed} were closed");
    }

    #[test]
    fn another_pod_is_a_reason_for_another_plan_at_once() {
        let mut stage = Stage::new(&[50, 50]);
        assert!(stage.look().0.is_empty());
        stage.pods.push(Vec::new());
        let (moving, _) = stage.look();
        assert!(!moving.is_empty());
        stage.close(&moving);
        stage.pods.push(Vec::new());
        assert!(!stage.look().0.is_empty());
    }
}
