//! What is to be written to the API server, and not written yet.
//!
//! ```text
//! control (what differs from what should be) ──set, withdraw──▶ Agenda ──take──▶ writer
//!                                                                 ▲  done, postpone │
//!                                                                 └─────────────────┘
//! ```
//!
//! One entry for each aspect of an object, so that however fast things change, each waits with its
//! last value only, and the agenda is never longer than the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Service;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::notices::{Notice, Notices};
use crate::api::{Address, LoadBalancerStatus};
use crate::world::ObjectKey;

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

/// A write that is being done.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// What it is about.
    pub matter: Matter,
    /// How it should be.
    pub write: Arc<Write>,
    /// How often this has failed since it last succeeded.
    pub failures: u32,
}

/// What ends the wait of a write that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Time alone: the API server is unwell, or somebody else was faster.
    Fixed,
    /// A write of something else, too: the API server does not want this one.
    UntilNewer,
}

/// What waits to be written. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    notices: Mutex<Notices>,
    /// Something may be taken now.
    ready: Notify,
    /// There may be a finding to tell.
    told: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    entries: BTreeMap<Matter, Entry>,
    /// Entries that may be written, by their turn.
    ready: BTreeMap<u64, Matter>,
    /// Entries that wait for a time.
    delayed: BTreeSet<(Instant, Matter)>,
    /// The last turn given.
    turn: u64,
    /// Being written now: the next write of the same matter waits.
    busy: BTreeMap<Matter, Busy>,
}

#[derive(Debug)]
struct Entry {
    write: Arc<Write>,
    failures: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Ready(u64),
    Delayed(Instant, Wait),
}

#[derive(Debug)]
struct Busy {
    write: Arc<Write>,
    /// It has become needless since: it is not tried again.
    is_withdrawn: bool,
}

impl Agenda {
    /// Sets how something should be, instead of what waits about it.
    pub fn set(&self, matter: Matter, write: Write) {
        self.lock().set(matter, write);
        self.shared.ready.notify_one();
    }

    /// It is as it should be. A write that is being done is not tried again if it fails.
    pub fn withdraw(&self, matter: &Matter) {
        let mut queues = self.lock();
        queues.remove(matter);
        if let Some(busy) = queues.busy.get_mut(matter) {
            busy.is_withdrawn = true;
        }
    }

    /// Adds a finding to tell as an Event, unless it was told lately. Answers how many others had
    /// to be given up for it.
    pub fn tell(&self, notice: Notice) -> usize {
        let given_up = self.notices().add(notice, Instant::now());
        self.shared.told.notify_one();
        given_up
    }

    /// A finding is no more. It is not told if it was not yet, and told anew if it comes back.
    pub fn resolved(&self, notice: &Notice) {
        self.notices().resolve(notice);
    }

    /// Forgets all: another replica leads.
    pub fn clear(&self) {
        let mut queues = self.lock();
        queues.entries.clear();
        queues.ready.clear();
        queues.delayed.clear();
        for busy in queues.busy.values_mut() {
            busy.is_withdrawn = true;
        }
        drop(queues);
        self.notices().clear();
    }

    /// How many writes wait, those that have failed included; those being done are not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a write about the matter waits or is being done.
    #[must_use]
    pub fn holds(&self, matter: &Matter) -> bool {
        let queues = self.lock();
        queues.entries.contains_key(matter) || queues.busy.contains_key(matter)
    }

    /// Takes the next write whose matter is not being written, oldest first. It has to be ended
    /// with [`Agenda::done`] or [`Agenda::postpone`].
    #[must_use]
    pub fn take(&self, now: Instant) -> Option<Turn> {
        self.lock().take(now)
    }

    /// The write is done, or has become pointless.
    pub fn done(&self, matter: &Matter) {
        self.lock().busy.remove(matter);
        self.shared.ready.notify_one();
    }

    /// The write has failed and is to be tried again at `at`, unless a newer one about the same
    /// matter has come in the meantime or it has been withdrawn.
    pub fn postpone(&self, turn: Turn, at: Instant, wait: Wait) {
        self.lock().postpone(turn, at, wait);
        self.shared.ready.notify_one();
    }

    /// When the next postponed write is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.lock().delayed.first().map(|(due, _)| *due)
    }

    /// Waits until there may be more to take than at the last call.
    pub async fn changed(&self) {
        self.shared.ready.notified().await;
    }

    /// Takes the oldest finding to tell.
    #[must_use]
    pub fn take_notice(&self) -> Option<Notice> {
        self.notices().take()
    }

    /// Waits until there may be a finding to tell.
    pub async fn told(&self) {
        self.shared.told.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.shared
            .queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.shared
            .notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// A newer write takes the turn of the one that it replaces.
    fn set(&mut self, matter: Matter, write: Write) {
        // Being written just so: another time changes nothing, and a failure puts it back.
        if let Some(busy) = self.busy.get_mut(&matter)
            && *busy.write == write
        {
            busy.is_withdrawn = false;
            self.remove(&matter);
            return;
        }
        let Some(entry) = self.entries.get_mut(&matter) else {
            self.insert(matter, Arc::new(write), 0);
            return;
        };
        if *entry.write == write {
            return;
        }
        entry.write = Arc::new(write);
        if let Place::Delayed(due, Wait::UntilNewer) = entry.place {
            entry.failures = 0;
            self.delayed.remove(&(due, matter.clone()));
            self.make_ready(matter);
        }
    }

    fn take(&mut self, now: Instant) -> Option<Turn> {
        while let Some((due, matter)) = self.delayed.pop_first() {
            if due > now {
                self.delayed.insert((due, matter));
                break;
            }
            self.make_ready(matter);
        }
        let (turn, matter) = self
            .ready
            .iter()
            .find(|(_, matter)| !self.busy.contains_key(matter))
            .map(|(turn, matter)| (*turn, matter.clone()))?;
        self.ready.remove(&turn);
        let entry = self.entries.remove(&matter)?;
        let busy = Busy {
            write: Arc::clone(&entry.write),
            is_withdrawn: false,
        };
        self.busy.insert(matter.clone(), busy);
        Some(Turn {
            matter,
            write: entry.write,
            failures: entry.failures,
        })
    }

    fn postpone(&mut self, turn: Turn, at: Instant, wait: Wait) {
        let Turn {
            matter,
            write,
            failures,
        } = turn;
        let busy = self.busy.remove(&matter);
        let failures = failures.saturating_add(1);
        if let Some(entry) = self.entries.get(&matter) {
            if wait == Wait::UntilNewer {
                return;
            }
            let newer = Arc::clone(&entry.write);
            self.remove(&matter);
            self.delay(matter, newer, failures, at, wait);
        } else if busy.is_some_and(|busy| !busy.is_withdrawn) {
            self.delay(matter, write, failures, at, wait);
        }
    }

    fn insert(&mut self, matter: Matter, write: Arc<Write>, failures: u32) {
        let entry = Entry {
            write,
            failures,
            place: Place::Ready(0),
        };
        self.entries.insert(matter.clone(), entry);
        self.make_ready(matter);
    }

    fn make_ready(&mut self, matter: Matter) {
        self.turn += 1;
        if let Some(entry) = self.entries.get_mut(&matter) {
            entry.place = Place::Ready(self.turn);
            self.ready.insert(self.turn, matter);
        }
    }

    fn delay(
        &mut self,
        matter: Matter,
        write: Arc<Write>,
        failures: u32,
        due: Instant,
        wait: Wait,
    ) {
        self.delayed.insert((due, matter.clone()));
        let entry = Entry {
            write,
            failures,
            place: Place::Delayed(due, wait),
        };
        self.entries.insert(matter, entry);
    }

    fn remove(&mut self, matter: &Matter) {
        let Some(entry) = self.entries.remove(matter) else {
            return;
        };
        match entry.place {
            Place::Ready(turn) => {
                self.ready.remove(&turn);
            }
            Place::Delayed(due, _) => {
                self.delayed.remove(&(due, matter.clone()));
            }
        }
    }
}
