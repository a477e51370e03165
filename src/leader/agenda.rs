//! What is to be written to the API server, and not written yet.
//!
//! ```text
//! control (what differs from what should be) ──set, withdraw──▶ Agenda ──next──▶ writer
//! ```
//!
//! One entry for each aspect of an object, so that however fast things change, each waits with its
//! last value only, and the agenda is never longer than the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Service;
use tokio::sync::Notify;

use crate::api::{Address, LoadBalancerStatus};
use crate::translate::finding::Finding;
use crate::world::ObjectKey;

/// Findings that wait to be told as Events. Beyond it the oldest is given up: an Event is a
/// courtesy, the finding itself stays in `/findings` and the metrics.
const MAX_EVENTS: usize = 1_000;

/// What is written about an object, each apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    /// Our finalizer in its metadata.
    Finalizer,
    /// The object itself, which is ours.
    Object,
    /// Its status.
    Status,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Matter {
    /// The object.
    pub object: ObjectKey,
    /// What of it.
    pub aspect: Aspect,
}

/// How it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// `status.loadBalancer.ingress` of an Ingress. None: we give up what we have written there,
    /// and what others have written stays.
    IngressAddresses(Arc<[Address]>),
    /// The status of a LoadBalancer.
    LoadBalancerStatus(Box<LoadBalancerStatus>),
    /// Our finalizer is on the LoadBalancer, or not.
    Finalizer(bool),
    /// The Service that a LoadBalancer owns, by server-side apply.
    Service(Box<Service>),
    /// The owned Service is to go. Only a Service with this uid; 0 = whichever has the name.
    DeleteService(u128),
}

/// The finding to tell, and the uid of the object it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What is wrong.
    pub finding: Finding,
    /// `metadata.uid`; `kubectl describe` shows only Events that have it.
    pub uid: u128,
}

/// What waits to be written. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    writes: BTreeMap<Matter, (u64, Write)>,
    /// The matters of `writes` by their turn.
    order: BTreeMap<u64, Matter>,
    /// The last turn given.
    turn: u64,
    /// Being written now: the next write of the same matter waits.
    busy: BTreeSet<Matter>,
    notices: VecDeque<Notice>,
}

impl Agenda {
    /// Sets how something should be, instead of what waits about it.
    pub fn set(&self, matter: Matter, write: Write) {
        self.lock().set(matter, write);
        self.shared.changed.notify_one();
    }

    /// It is as it should be.
    pub fn withdraw(&self, matter: &Matter) {
        let mut queues = self.lock();
        if let Some((turn, _)) = queues.writes.remove(matter) {
            queues.order.remove(&turn);
        }
    }

    /// Adds a finding to tell. Answers how many had to be given up for it.
    pub fn tell(&self, notice: Notice) -> usize {
        let mut queues = self.lock();
        queues.notices.push_back(notice);
        let excess = queues.notices.len().saturating_sub(MAX_EVENTS);
        queues.notices.drain(..excess);
        drop(queues);
        self.shared.changed.notify_one();
        excess
    }

    /// Forgets all: another replica leads.
    pub fn clear(&self) {
        let mut queues = self.lock();
        queues.writes.clear();
        queues.order.clear();
        queues.notices.clear();
    }

    /// How many writes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().writes.len()
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next write whose matter is not being written, oldest first. Call
    /// [`Agenda::done`] after.
    #[must_use]
    pub fn take(&self) -> Option<(Matter, Write)> {
        let mut queues = self.lock();
        let (turn, matter) = queues
            .order
            .iter()
            .find(|(_, matter)| !queues.busy.contains(matter))
            .map(|(turn, matter)| (*turn, matter.clone()))?;
        queues.order.remove(&turn);
        let (_, write) = queues.writes.remove(&matter)?;
        queues.busy.insert(matter.clone());
        Some((matter, write))
    }

    /// Ends what [`Agenda::take`] began. With `again` the write goes back, unless a newer one
    /// about the same matter has come in the meantime.
    pub fn done(&self, matter: &Matter, again: Option<Write>) {
        let mut queues = self.lock();
        queues.busy.remove(matter);
        if let Some(write) = again
            && !queues.writes.contains_key(matter)
        {
            queues.set(matter.clone(), write);
        }
        drop(queues);
        self.shared.changed.notify_one();
    }

    /// Takes the oldest finding to tell.
    #[must_use]
    pub fn take_notice(&self) -> Option<Notice> {
        self.lock().notices.pop_front()
    }

    /// Waits until something may have been added since the last call.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.shared
            .queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// A newer write takes the turn of the one that it replaces.
    fn set(&mut self, matter: Matter, write: Write) {
        if let Some((_, held)) = self.writes.get_mut(&matter) {
            *held = write;
            return;
        }
        self.turn += 1;
        self.order.insert(self.turn, matter.clone());
        self.writes.insert(matter, (self.turn, write));
    }
}
