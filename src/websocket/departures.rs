//! When each tunnel that has to go is closed.
//!
//! ```text
//! who leaves, why, over which window ─▶ update ─▶ a due time for each, at random in the window
//!                                                     │ by listener: at most so many a second
//!                                        due(now) ◀───┘ ─▶ Close
//! ```
//!
//! Pure: the caller has the clock and the tunnels. Tunnels that leave for one reason (a route, a
//! pod) share a window that opens with the first of them; its time is cut into as many slots as
//! there are tunnels, each tunnel gets a slot by lot, and a time at random in it. So closes are even
//! over the window, those of one client or pod do not follow each other, and nobody keeps step with
//! another replica. The bound of a listener goes before the windows: what does not fit waits. A
//! window that becomes another is planned anew, for those that are still there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::close::Cause;
use crate::routing::{ListenerId, RouteId, UpstreamId};

/// How much of a listener's rate may be caught up after a late timer.
const CATCH_UP: Duration = Duration::from_millis(20);

/// What goes away, and takes tunnels with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The listener.
    Listener,
    /// The route.
    Route(Arc<RouteId>),
    /// The upstream, as far as this route sends anything there.
    Backend(Arc<RouteId>, Arc<UpstreamId>),
    /// The pod.
    Pod(SocketAddr),
    /// Nothing: tunnels of the upstream move to pods that hold fewer, by the plan of this number.
    Balance(Arc<UpstreamId>, u64),
}

/// Why and how a tunnel leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The listener that took the connection.
    pub listener: Arc<ListenerId>,
    /// What takes it with it.
    pub loss: Loss,
    /// Over which time all that leave for this loss are closed.
    pub window: Duration,
    /// By when they are closed in any case, if that is sooner.
    pub until: Option<Instant>,
    /// How many of the listener are closed a second at most, whatever they leave for.
    pub closes_per_second: u32,
}

/// A drain that has begun, or has another window from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// How its tunnels leave.
    pub leave: Leave,
    /// What is left of its window.
    pub left: Duration,
    /// How many they are at the moment.
    pub tunnels: usize,
}

/// Tunnels that are to be closed, and when.
#[derive(Debug, Default)]
pub struct Departures {
    queues: HashMap<Arc<ListenerId>, Queue>,
    groups: HashMap<(Arc<ListenerId>, Loss), Group>,
    places: HashMap<u64, Place>,
}

#[derive(Debug)]
struct Queue {
    by_time: BTreeMap<(Instant, u64), Cause>,
    /// No close before.
    open_at: Instant,
    closes_per_second: u32,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    start: Instant,
    window: Duration,
    until: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    due: Instant,
    listener: Arc<ListenerId>,
    loss: Loss,
}

impl Loss {
    /// What its tunnels end for.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Listener => Cause::ListenerRemoved,
            Self::Route(_) => Cause::RouteRemoved,
            Self::Backend(..) | Self::Pod(_) => Cause::Drain,
            Self::Balance(..) => Cause::Rebalance,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener => f.write_str("the listener was removed"),
            Self::Route(route) => write!(f, "the route {route} was removed"),
            Self::Backend(route, upstream) => {
                write!(f, "the route {route} sends nothing to {upstream} any more")
            }
            Self::Pod(address) => write!(f, "pod {address} leaves"),
            Self::Balance(upstream, _) => {
                write!(f, "pods of {upstream} hold more than others")
            }
        }
    }
}

impl Group {
    fn end(&self) -> Instant {
        let end = self.start + self.window;
        self.until.map_or(end, |until| until.min(end))
    }

    fn is_planned_as(&self, leave: &Leave) -> bool {
        (self.window, self.until) == (leave.window, leave.until)
    }
}

impl Begun {
    /// Whether the listener's bound makes it take longer than its window.
    #[must_use]
    pub fn outlasts_window(&self) -> bool {
        let room = self.left.as_secs_f64() * f64::from(self.leave.closes_per_second);
        self.tunnels as f64 > room.max(1.0)
    }
}

impl Departures {
    /// Takes in who leaves at this moment: all of them, each time. Those who are new get a time;
    /// those who are not named any more stay. Answers the drains that begin with this or get another
    /// window.
    pub fn update(&mut self, now: Instant, leaving: Vec<(u64, Leave)>) -> Vec<Begun> {
        let named: HashSet<u64> = leaving.iter().map(|(id, _)| *id).collect();
        self.retain(|id| named.contains(&id));

        let mut arrivals: HashMap<(Arc<ListenerId>, Loss), (Leave, Vec<u64>)> = HashMap::new();
        let mut current: HashSet<(Arc<ListenerId>, Loss)> = HashSet::new();
        for (id, leave) in leaving {
            let key = (Arc::clone(&leave.listener), leave.loss.clone());
            if let Some(queue) = self.queues.get_mut(&leave.listener) {
                queue.closes_per_second = leave.closes_per_second.max(1);
            }
            let is_placed = self.places.get(&id).is_some_and(|place| {
                place.loss == leave.loss
                    && self
                        .groups
                        .get(&key)
                        .is_some_and(|group| group.is_planned_as(&leave))
            });
            if !is_placed {
                self.remove(id);
                let (_, ids) = arrivals
                    .entry(key.clone())
                    .or_insert_with(|| (leave, Vec::new()));
                ids.push(id);
            }
            current.insert(key);
        }
        // A group outlives its tunnels for a while: who opens another on a pod that goes is not
        // given the whole window anew.
        self.groups
            .retain(|key, group| current.contains(key) || now < group.end());

        let mut begun = Vec::new();
        for (key, (leave, ids)) in arrivals {
            let is_known = self
                .groups
                .get(&key)
                .is_some_and(|group| group.is_planned_as(&leave));
            let tunnels = ids.len();
            let left = self.place(now, key, &leave, ids);
            if !is_known {
                begun.push(Begun {
                    leave,
                    left,
                    tunnels,
                });
            }
        }
        begun
    }

    /// Gives these their times, and answers what is left of the window.
    fn place(
        &mut self,
        now: Instant,
        key: (Arc<ListenerId>, Loss),
        leave: &Leave,
        mut ids: Vec<u64>,
    ) -> Duration {
        let group = self.groups.entry(key).or_insert(Group {
            start: now,
            window: leave.window,
            until: leave.until,
        });
        group.window = leave.window;
        group.until = leave.until;
        let left = group.end().saturating_duration_since(now);
        let queue = self
            .queues
            .entry(Arc::clone(&leave.listener))
            .or_insert_with(|| Queue {
                by_time: BTreeMap::new(),
                open_at: now,
                closes_per_second: leave.closes_per_second.max(1),
            });
        fastrand::shuffle(&mut ids);
        let slot = left.div_f64(ids.len().max(1) as f64);
        for (number, id) in ids.into_iter().enumerate() {
            let due = now + slot.mul_f64(number as f64 + fastrand::f64());
            queue.by_time.insert((due, id), leave.loss.cause());
            let place = Place {
                due,
                listener: Arc::clone(&leave.listener),
                loss: leave.loss.clone(),
            };
            self.places.insert(id, place);
        }
        left
    }

    /// Those whose time has come, as far as their listeners' bounds allow. They are forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<(u64, Cause)> {
        let mut due = Vec::new();
        for queue in self.queues.values_mut() {
            let each = Duration::from_secs(1) / queue.closes_per_second;
            let oldest = now.checked_sub(CATCH_UP).unwrap_or(now);
            while queue.open_at <= now
                && let Some(first) = queue.by_time.first_entry()
                && first.key().0 <= now
            {
                let (_, id) = *first.key();
                due.push((id, first.remove()));
                self.places.remove(&id);
                queue.open_at = queue.open_at.max(oldest) + each;
            }
        }
        // A queue is kept until its next close would be allowed.
        self.queues
            .retain(|_, queue| !queue.by_time.is_empty() || queue.open_at > now);
        due
    }

    /// When [`Departures::due`] has something to give next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let next = |queue: &Queue| {
            let ((due, _), _) = queue.by_time.first_key_value()?;
            Some((*due).max(queue.open_at))
        };
        self.queues.values().filter_map(next).min()
    }

    /// How many wait for their time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody leaves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self
            .places
            .keys()
            .copied()
            .filter(|id| !keep(*id))
            .collect();
        for id in gone {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(place) = self.places.remove(&id)
            && let Some(queue) = self.queues.get_mut(&place.listener)
        {
            queue.by_time.remove(&(place.due, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str) -> Arc<ListenerId> {
        Arc::new(ListenerId {
            namespace: "edge".into(),
            load_balancer: "edge".into(),
            name: name.into(),
        })
    }

    fn leave(loss: Loss, window: u64, closes_per_second: u32) -> Leave {
        Leave {
            listener: listener("http"),
            loss,
            window: Duration::from_secs(window),
            until: None,
            closes_per_second,
        }
    }

    fn pod(number: u8) -> Loss {
        Loss::Pod(SocketAddr::from(([10, 0, 0, number], 80)))
    }

    /// Closes by the second from `start`, with a timer that fires as told and a little late.
    fn run(departures: &mut Departures, start: Instant) -> Vec<usize> {
        let mut seconds = Vec::new();
        while let Some(next) = departures.next() {
            let now = next + Duration::from_micros(900);
            let second = now.saturating_duration_since(start).as_secs() as usize;
            seconds.resize(seconds.len().max(second + 1), 0);
            seconds[second] += departures.due(now).len();
        }
        seconds
    }

    #[test]
    fn closes_are_even_over_the_window() {
        let mut departures = Departures::default();
        let start = Instant::now();
        let all = (0..2000).map(|id| (id, leave(pod(1), 40, 1000))).collect();
        let begun = departures.update(start, all);
        assert_eq!(begun.len(), 1);
        assert_eq!(begun[0].tunnels, 2000);
        assert!(!begun[0].outlasts_window());
        let seconds = run(&mut departures, start);
        assert_eq!(seconds.iter().sum::<usize>(), 2000);
        assert!((39..=41).contains(&seconds.len()), "{}", seconds.len());
        let peak = *seconds.iter().max().unwrap();
        assert!(peak as f64 <= 1.1 * 2000.0 / 40.0, "{peak} in one second");
    }

    #[test]
    fn a_listeners_bound_holds_over_all_its_drains() {
        let mut departures = Departures::default();
        let start = Instant::now();
        let mut all: Vec<(u64, Leave)> = (0..1000).map(|id| (id, leave(pod(1), 5, 100))).collect();
        all.extend((1000..2000).map(|id| (id, leave(pod(2), 5, 100))));
        let route = Loss::Listener;
        all.extend((2000..2500).map(|id| (id, leave(route.clone(), 0, 100))));
        let begun = departures.update(start, all);
        assert_eq!(begun.len(), 3);
        assert!(begun.iter().all(Begun::outlasts_window));
        let seconds = run(&mut departures, start);
        assert_eq!(seconds.iter().sum::<usize>(), 2500);
        let peak = *seconds.iter().max().unwrap();
        assert!(peak <= 103, "{peak} in one second");
        assert!(seconds.len() <= 27, "{} seconds", seconds.len());
    }

    #[test]
    fn who_may_stay_again_is_not_closed_and_latecomers_share_the_window() {
        let mut departures = Departures::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let some = |ids: std::ops::Range<u64>| -> Vec<(u64, Leave)> {
            ids.map(|id| (id, leave(pod(1), 10, 1000))).collect()
        };
        departures.update(start, some(0..100));
        assert!(departures.update(at(0), some(0..100)).is_empty());
        assert_eq!(departures.len(), 100);
        departures.update(at(0), Vec::new());
        assert!(departures.is_empty());
        assert_eq!(departures.next(), None);
        // The window goes on, as the pod may well be terminating again.
        assert!(departures.update(at(4), some(50..60)).is_empty());
        let last = departures.places.values().map(|place| place.due).max();
        assert!(last.unwrap() <= at(10));
        departures.update(at(30), Vec::new());
        assert_eq!(departures.update(at(31), some(90..95)).len(), 1);
        // After the window they go at once.
        departures.update(at(50), some(90..99));
        let overdue = departures.due(at(50));
        assert_eq!(overdue.len(), 9);
    }

    #[test]
    fn another_window_or_another_loss_gives_other_times() {
        let mut departures = Departures::default();
        let start = Instant::now();
        let all = |loss: Loss, window: u64| -> Vec<(u64, Leave)> {
            (0..50)
                .map(|id| (id, leave(loss.clone(), window, 1000)))
                .collect()
        };
        let last = |departures: &Departures| {
            let due = departures.places.values().map(|place| place.due);
            due.max().unwrap().saturating_duration_since(start)
        };
        departures.update(start, all(Loss::Listener, 300));
        assert!(last(&departures) > Duration::from_secs(250));
        departures.update(start, all(Loss::Listener, 20));
        assert!(last(&departures) <= Duration::from_secs(20));
        departures.update(start, all(pod(1), 5));
        assert!(last(&departures) <= Duration::from_secs(5));
        assert_eq!(departures.len(), 50);
        let closed = departures.due(start + Duration::from_secs(6));
        let causes: HashSet<Cause> = closed.into_iter().map(|(_, cause)| cause).collect();
        assert_eq!(causes, HashSet::from([Cause::Drain]));
    }

    #[test]
    fn a_window_that_becomes_another_is_planned_anew_for_those_that_are_left() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut open: HashSet<u64> = (0..200).collect();
        let leaving = |open: &HashSet<u64>, window: u64, until: Option<Instant>| {
            let leave = Leave {
                until,
                ..leave(pod(1), window, 1000)
            };
            let leaving = open.iter().map(|id| (*id, leave.clone()));
            leaving.collect::<Vec<_>>()
        };
        let mut departures = Departures::default();
        let run = |departures: &mut Departures, open: &mut HashSet<u64>, end: Instant| {
            let before = open.len();
            while let Some(next) = departures.next().filter(|next| *next <= end) {
                for (id, _) in departures.due(next) {
                    assert!(open.remove(&id), "{id} is closed twice");
                }
            }
            before - open.len()
        };
        departures.update(start, leaving(&open, 25, None));
        let early = run(&mut departures, &mut open, at(5));
        assert!((39..=41).contains(&early), "{early}");

        // The pod has more time than was thought: the rest goes evenly over what is left of it.
        let begun = departures.update(at(5), leaving(&open, 300, Some(at(205))));
        assert_eq!(begun.len(), 1);
        assert_eq!(begun[0].left, Duration::from_secs(200));
        let half = run(&mut departures, &mut open, at(105));
        assert!((79..=81).contains(&half), "{half}");
        let next = departures.next();
        let again = departures.update(at(105), leaving(&open, 300, Some(at(205))));
        assert!(again.is_empty());
        assert_eq!(departures.next(), next);

        // It has less: those who are left hurry up.
        departures.update(at(105), leaving(&open, 300, Some(at(110))));
        let hurried = run(&mut departures, &mut open, at(107));
        assert!(hurried > 20, "{hurried}");
        // What is past is done at once, as fast as may be.
        departures.update(at(107), leaving(&open, 300, Some(at(100))));
        run(&mut departures, &mut open, at(108));
        assert!(open.is_empty() && departures.is_empty());
    }
}
