//! The tunnel table: every open tunnel, and the totals of those that have closed.
//!
//! ```text
//! open(info) ─▶ shard (id % 16) ─▶ TunnelGuard ─▶ relay counts in its record, without a lock
//!                 │  open: id → record             │ drop
//!                 │  closed: route → totals ◀──────┘ folded in under the shard's lock
//!                 ▼
//!        list · totals · end · drain · wait_empty
//! ```
//!
//! Only opening and closing a tunnel, and the readers, take a shard's lock; traffic never does.
//! A tunnel leaves `open` and enters `closed` under one lock, so a reader never counts it twice
//! nor misses it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::histogram::Histogram;
use crate::routing::{ListenerId, RouteId};

use super::close::{Cause, Ending, Side};
use super::scanner::Traffic;
use super::selection::{Matcher, Order, Selection};
use super::tunnel::{Record, TunnelGuard, TunnelInfo, TunnelView};

/// Enough that two openings rarely meet, and that a reader holds each lock briefly.
const SHARDS: usize = 16;

/// Every open tunnel. Cheap to clone; all clones are the same table.
#[derive(Clone)]
pub struct TunnelTable {
    shared: Arc<Shared>,
}

/// What passed by one route since the table was made, open tunnels included.
#[derive(Clone, Debug)]
pub struct RouteTotals {
    /// The route.
    pub route: Arc<RouteId>,
    /// Tunnels open now.
    pub open: u64,
    /// Tunnels opened ever.
    pub opened: u64,
    /// Of those open now, how many are streams of HTTP/2 connections.
    pub open_http2: u64,
    /// The same of those opened ever.
    pub opened_http2: u64,
    /// What clients sent.
    pub from_client: Traffic,
    /// What pods sent.
    pub from_pod: Traffic,
    /// Tunnels closed ever, by how they ended.
    pub endings: Vec<(Ending, u64)>,
}

pub(super) struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    next_id: AtomicU64,
    open: AtomicUsize,
    empty: Notify,
    /// Answers to our pings: of clients, of pods.
    round_trips: [Histogram; 2],
    /// For how long tunnels were open.
    ages: Histogram,
    epoch: Instant,
    epoch_wall_clock: SystemTime,
}

#[derive(Default)]
struct Shard {
    open: HashMap<u64, Arc<Record>>,
    routes: HashMap<Arc<RouteId>, RouteTotals>,
}

impl Default for TunnelTable {
    fn default() -> Self {
        Self::new()
    }
}

impl TunnelTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                shards: Default::default(),
                next_id: AtomicU64::new(1),
                open: AtomicUsize::new(0),
                empty: Notify::new(),
                round_trips: Default::default(),
                ages: Histogram::of_lives(),
                epoch: Instant::now(),
                epoch_wall_clock: SystemTime::now(),
            }),
        }
    }

    /// Enters a tunnel. It stays until the guard is dropped.
    #[must_use]
    pub fn open(&self, info: TunnelInfo) -> TunnelGuard {
        let shared = &self.shared;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let route = Arc::clone(&info.route);
        let http2 = u64::from(info.is_http2());
        let now = shared.micros(Instant::now());
        let record = Arc::new(Record::new(id, info, Arc::clone(shared), now));
        shared.open.fetch_add(1, Ordering::AcqRel);
        let mut shard = shared.shard(id);
        let totals = shard.totals(&route);
        totals.opened += 1;
        totals.opened_http2 += http2;
        shard.open.insert(id, Arc::clone(&record));
        TunnelGuard::new(record)
    }

    /// How many tunnels are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Whether no tunnel is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every open tunnel, oldest first. A snapshot shard by shard: tunnels that open or close
    /// meanwhile may or may not be in it.
    #[must_use]
    pub fn list(&self) -> Vec<TunnelView> {
        self.select(&Selection::default())
    }

    /// Every open tunnel that is selected, oldest first; as with [`TunnelTable::list`].
    #[must_use]
    pub fn select(&self, selection: &Selection) -> Vec<TunnelView> {
        self.page(selection, Order::Age, usize::MAX).1
    }

    /// The first `limit` of those that are selected, and how many are selected in all.
    #[must_use]
    pub fn page(
        &self,
        selection: &Selection,
        order: Order,
        limit: usize,
    ) -> (usize, Vec<TunnelView>) {
        let now = Instant::now();
        let records = self.records(|_| true);
        let mut matcher = Matcher::new(selection, now);
        let mut selected: Vec<(u64, u64, &Record)> = records
            .iter()
            .filter(|record| matcher.matches(record))
            .map(|record| (order.rank(record, now), record.id, &**record))
            .collect();
        let count = selected.len();
        let place = |(rank, id, _): &(u64, u64, &Record)| (*rank, *id);
        if limit < count {
            selected.select_nth_unstable_by_key(limit, place);
            selected.truncate(limit);
        }
        selected.sort_unstable_by_key(place);
        let views = selected.iter().map(|(_, _, record)| record.view(now));
        (count, views.collect())
    }

    /// Calls `visit` for every open tunnel that nobody has asked to end, in no particular order and
    /// without a lock. All of them live until the last call, so that their parts may be told apart
    /// by their addresses.
    pub fn visit(&self, mut visit: impl FnMut(u64, &TunnelInfo)) {
        for record in self.records(|record| !record.is_ending()) {
            visit(record.id, &record.info);
        }
    }

    /// Totals by route, in no particular order. Each count never goes back from one call to the
    /// next, as long as the route is not [forgotten](Self::forget_routes).
    #[must_use]
    pub fn totals(&self) -> Vec<RouteTotals> {
        let mut all: HashMap<Arc<RouteId>, RouteTotals> = HashMap::new();
        for shard in &self.shared.shards {
            let shard = lock(shard);
            for (route, totals) in &shard.routes {
                match all.get_mut(route) {
                    Some(sum) => sum.add(totals),
                    None => {
                        all.insert(Arc::clone(route), totals.clone());
                    }
                }
            }
            for record in shard.open.values() {
                if let Some(sum) = all.get_mut(&record.info.route) {
                    sum.open += 1;
                    sum.open_http2 += u64::from(record.info.is_http2());
                    sum.from_client += record.traffic(Side::Client);
                    sum.from_pod += record.traffic(Side::Pod);
                }
            }
        }
        all.into_values().collect()
    }

    /// How long peers took to answer our pings.
    #[must_use]
    pub fn round_trips(&self, side: Side) -> &Histogram {
        self.shared.round_trips(side)
    }

    /// For how long tunnels that have ended were open.
    #[must_use]
    pub fn ages(&self) -> &Histogram {
        &self.shared.ages
    }

    /// How many tunnels are open, by the listener that took the client's connection.
    #[must_use]
    pub fn open_by_listener(&self) -> BTreeMap<Arc<ListenerId>, u64> {
        let mut counts = BTreeMap::new();
        for shard in &self.shared.shards {
            for record in lock(shard).open.values() {
                match counts.get_mut(&record.info.listener) {
                    Some(count) => *count += 1,
                    None => {
                        counts.insert(Arc::clone(&record.info.listener), 1);
                    }
                }
            }
        }
        counts
    }

    /// Forgets the totals of routes that `keep` does not name and that no open tunnel came by, so
    /// that routes which come and go do not add up.
    pub fn forget_routes(&self, keep: impl Fn(&RouteId) -> bool) {
        for shard in &self.shared.shards {
            let mut shard = lock(shard);
            let Shard { open, routes } = &mut *shard;
            let used: HashSet<&RouteId> = open.values().map(|record| &*record.info.route).collect();
            routes.retain(|route, _| keep(route) || used.contains(&**route));
        }
    }

    /// Asks for the end of one tunnel: a Close frame to both peers, then the end. Returns whether
    /// there was such a tunnel that nobody had asked to end before.
    pub fn end(&self, id: u64, cause: Cause) -> bool {
        let record = self.shared.shard(id).open.get(&id).cloned();
        record.is_some_and(|record| record.end(cause, None))
    }

    /// The same with a Close code other than the cause's own.
    pub(super) fn end_with_code(&self, id: u64, cause: Cause, code: u16) -> bool {
        let record = self.shared.shard(id).open.get(&id).cloned();
        record.is_some_and(|record| record.end(cause, Some(code)))
    }

    /// Asks for the end of every tunnel that `select` names, all at once, and returns how many
    /// that were. To end many, see [`TunnelTable::drain`].
    pub fn end_where(&self, select: impl Fn(&TunnelInfo) -> bool, cause: Cause) -> usize {
        let records = self.records(|record| select(&record.info));
        let asked = records.iter().filter(|record| record.end(cause, None));
        asked.count()
    }

    /// Asks for the end of every tunnel, all at once, and returns how many that were.
    pub fn end_all(&self, cause: Cause) -> usize {
        self.end_where(|_| true, cause)
    }

    /// Waits until no tunnel is open. The caller sets the deadline.
    pub async fn wait_empty(&self) {
        loop {
            let mut notified = std::pin::pin!(self.shared.empty.notified());
            // Registered before the check, so that the last close between the two is not missed.
            notified.as_mut().enable();
            if self.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// The records that `select` names. It is called without a lock.
    pub(super) fn records(&self, select: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let mut selected = Vec::new();
        for shard in &self.shared.shards {
            let records: Vec<Arc<Record>> = lock(shard).open.values().cloned().collect();
            selected.extend(records.into_iter().filter(|record| select(record)));
        }
        selected
    }
}

impl fmt::Debug for TunnelTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelTable")
            .field("open", &self.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Microseconds from the table's epoch.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// The inverse of [`Shared::micros`].
    pub(super) fn instant(&self, micros: u64) -> Instant {
        let since = Duration::from_micros(micros);
        self.epoch.checked_add(since).unwrap_or(self.epoch)
    }

    pub(super) fn wall_clock(&self, micros: u64) -> SystemTime {
        let since = Duration::from_micros(micros);
        let at = self.epoch_wall_clock.checked_add(since);
        at.unwrap_or(self.epoch_wall_clock)
    }

    pub(super) fn round_trips(&self, side: Side) -> &Histogram {
        let [client, pod] = &self.round_trips;
        match side {
            Side::Client => client,
            Side::Pod => pod,
        }
    }

    pub(super) fn close(&self, record: &Record, ending: Ending) {
        self.ages.observe(record.age(Instant::now()));
        {
            let mut shard = self.shard(record.id);
            shard.open.remove(&record.id);
            // A burst's room is given back: a map never shrinks by itself.
            if shard.open.capacity() > 64 && shard.open.len() < shard.open.capacity() / 4 {
                let room = shard.open.len() * 2;
                shard.open.shrink_to(room);
            }
            let totals = shard.totals(&record.info.route);
            totals.from_client += record.traffic(Side::Client);
            totals.from_pod += record.traffic(Side::Pod);
            totals.count(ending, 1);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.empty.notify_waiters();
        }
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        // Below SHARDS, which is a usize.
        lock(&self.shards[(id % SHARDS as u64) as usize])
    }
}

impl Shard {
    fn totals(&mut self, route: &Arc<RouteId>) -> &mut RouteTotals {
        self.routes
            .entry(Arc::clone(route))
            .or_insert_with(|| RouteTotals {
                route: Arc::clone(route),
                open: 0,
                opened: 0,
                open_http2: 0,
                opened_http2: 0,
                from_client: Traffic::default(),
                from_pod: Traffic::default(),
                endings: Vec::new(),
            })
    }
}

impl RouteTotals {
    fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.opened += other.opened;
        self.open_http2 += other.open_http2;
        self.opened_http2 += other.opened_http2;
        self.from_client += other.from_client;
        self.from_pod += other.from_pod;
        for (ending, count) in &other.endings {
            self.count(*ending, *count);
        }
    }

    fn count(&mut self, ending: Ending, more: u64) {
        match self.endings.iter_mut().find(|(known, _)| *known == ending) {
            Some((_, count)) => *count += more,
            None => self.endings.push((ending, more)),
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing inside can leave a shard half changed, so a panic elsewhere is no reason to stop.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
