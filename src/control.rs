//! The loop that turns what the source says into what the proxy serves.
//!
//! ```text
//! Update ─▶ World::apply ─┬─ endpoints ─▶ Registry             at once, no rebuild
//!                         └─ objects ─▶ (hold) ─▶ Translator ─▶ Publisher ─▶ snapshot, listeners
//!                                                      └─▶ findings ─▶ log, metrics, admin
//! ```
//!
//! The first change after quiet is published at once. While changes keep coming, the next rebuild
//! waits for as long as the last one took, [`MAX_HOLD`] at most: rebuilding never takes more than
//! half of the control plane's time, and a lone change never waits.

pub mod outcome;
pub mod publish;
pub mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::outcome::{Known, Outcome};
use self::publish::{BindFailure, Publish};
use crate::balance::Registry;
use crate::metrics::Metrics;
use crate::routing::UpstreamId;
use crate::source::Update;
use crate::translate::finding::Finding;
use crate::translate::report::Report;
use crate::translate::{Settings, Translator, endpoint_finding, endpoints};
use crate::world::{Change, Kind, ObjectKey, ObjectName, Scope, World};

/// Longest wait between two rebuilds.
pub const MAX_HOLD: Duration = Duration::from_millis(20);
/// How often a port that could not be bound is tried again.
const BIND_RETRY: Duration = Duration::from_secs(2);

/// What the loop tells the rest of the process.
#[derive(Clone, Debug)]
pub struct Told {
    /// All current findings and problems of the source.
    pub reports: Arc<ArcSwap<Vec<Report>>>,
    /// What the source has not listed yet. Nothing is published before everything is.
    pub unlisted: Arc<ArcSwap<Vec<Scope>>>,
    /// How many snapshots have been published; above 0 the process may say that it is ready.
    pub generation: watch::Receiver<u64>,
}

/// The control loop. `P` is what the proxy keeps with each endpoint.
#[derive(Debug)]
pub struct Control<P, L> {
    world: World,
    translator: Translator,
    registry: Arc<Registry<P>>,
    publisher: L,
    metrics: Arc<Metrics>,

    /// Whether every kind has been listed: a half-known world would answer 404 for what exists.
    is_synced: bool,
    /// Objects that have changed since the last rebuild, and since when.
    pending: Vec<ObjectKey>,
    noticed: Option<Instant>,
    /// No rebuild before this time.
    hold_until: Instant,

    problems: Vec<Report>,
    findings: Vec<Finding>,
    without_endpoints: BTreeMap<Arc<UpstreamId>, Finding>,
    unbound: Vec<BindFailure>,
    /// What is to be written to the API server, where there is one.
    outcome: Option<Outcome>,
    /// What keeps it from being written.
    writing: Option<watch::Receiver<Arc<Vec<Report>>>>,
    reports: Arc<ArcSwap<Vec<Report>>>,
    unlisted: Arc<ArcSwap<Vec<Scope>>>,
    generation: watch::Sender<u64>,
}

impl<P: Default, L: Publish> Control<P, L> {
    /// A loop that has heard nothing yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        registry: Arc<Registry<P>>,
        publisher: L,
        metrics: Arc<Metrics>,
    ) -> (Self, Told) {
        let reports = Arc::new(ArcSwap::default());
        let (sender, generation) = watch::channel(0);
        let unlisted = Arc::new(ArcSwap::default());
        let told = Told {
            reports: Arc::clone(&reports),
            unlisted: Arc::clone(&unlisted),
            generation,
        };
        let control = Self {
            world: World::default(),
            translator: Translator::new(settings),
            registry,
            publisher,
            metrics,
            is_synced: false,
            pending: Vec::new(),
            noticed: None,
            hold_until: Instant::now(),
            problems: Vec::new(),
            findings: Vec::new(),
            without_endpoints: BTreeMap::new(),
            unbound: Vec::new(),
            outcome: None,
            writing: None,
            reports,
            unlisted,
            generation: sender,
        };
        (control, told)
    }

    /// Lets it keep the agenda of the leader.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Lets it tell what keeps the leader from writing.
    #[must_use]
    pub fn with_problems(mut self, writing: watch::Receiver<Arc<Vec<Report>>>) -> Self {
        self.writing = Some(writing);
        self
    }

    /// Runs until the source is gone or `stop` is cancelled. What was published last stays.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>, stop: CancellationToken) {
        let mut retry = tokio::time::interval(BIND_RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leading = self.outcome.as_ref().map(Outcome::leading);
        let mut writing = self.writing.clone();
        loop {
            let hold = tokio::time::Instant::from_std(self.hold_until);
            let due = self.outcome.as_ref().and_then(Outcome::due);
            let settle = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                update = updates.recv() => {
                    let Some(update) = update else { break };
                    self.absorb(update);
                    while let Ok(update) = updates.try_recv() {
                        self.absorb(update);
                    }
                    if Instant::now() >= self.hold_until {
                        self.rebuild();
                    }
                    self.report();
                }
                () = tokio::time::sleep_until(hold), if self.is_due() => {
                    self.rebuild();
                    self.report();
                }
                _ = retry.tick(), if !self.unbound.is_empty() => {
                    self.unbound = self.publisher.retry();
                    self.report();
                }
                () = settle => {}
                () = changed(&mut leading) => {}
                () = changed(&mut writing) => self.report(),
            }
            self.settle();
        }
        // The source has ended, which is a fault of its own: what it said last stays in force.
        stop.cancelled().await;
    }

    /// Takes an update into the world. Endpoints are served from here on.
    fn absorb(&mut self, update: Update) {
        self.problems = update.problems;
        if !self.is_synced {
            self.is_synced = update.unlisted.is_empty();
            self.unlisted.store(Arc::new(update.unlisted));
        }
        let mut services: BTreeSet<ObjectName> = BTreeSet::new();
        for delta in update.deltas {
            for change in self.world.apply(delta) {
                if let Some(outcome) = &mut self.outcome {
                    outcome.note(&change, &self.world);
                }
                match change {
                    Change::Endpoints {
                        services: changed, ..
                    } => services.extend(changed),
                    Change::Status(_) => {}
                    Change::Object(key) => {
                        // A port may have another name now, by which slices are searched.
                        if key.kind == Kind::Service {
                            services.insert(key.name.clone());
                        }
                        self.pending.push(key);
                    }
                }
            }
        }
        if !self.pending.is_empty() {
            self.noticed.get_or_insert(update.noticed);
        }
        let mut upstreams: Vec<Arc<UpstreamId>> = Vec::new();
        for service in &services {
            upstreams.extend(self.translator.upstreams_of(service).cloned());
        }
        for upstream in &upstreams {
            self.set_endpoints(upstream);
        }
        if !upstreams.is_empty() {
            self.publisher.endpoints_changed();
        }
    }

    fn is_due(&self) -> bool {
        !self.pending.is_empty() && self.is_synced
    }

    fn rebuild(&mut self) {
        let first = *self.generation.borrow() == 0;
        if !self.is_synced || (self.pending.is_empty() && !first) {
            return;
        }
        let began = Instant::now();
        let changed = std::mem::take(&mut self.pending);
        let translation = self.translator.translate(&self.world, &changed);
        self.metrics.rebuilds.observe(began.elapsed());

        // Make before break: a route never names an upstream that is not there.
        for upstream in &translation.entering {
            self.set_endpoints(upstream);
        }
        self.findings = translation.findings;
        if let Some(outcome) = &mut self.outcome {
            outcome.note_replaced(&translation.replaced, &self.translator);
        }
        self.unbound = self.publisher.publish(translation.snapshot);
        for upstream in &translation.leaving {
            self.registry.remove(upstream);
            self.without_endpoints.remove(upstream);
        }
        if let Some(noticed) = self.noticed.take() {
            self.metrics.publishes.observe(noticed.elapsed());
        }
        self.hold_until = Instant::now() + began.elapsed().min(MAX_HOLD);
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn set_endpoints(&mut self, upstream: &Arc<UpstreamId>) {
        self.registry
            .set(upstream, endpoints(&self.world, upstream));
        match endpoint_finding(&self.world, upstream) {
            Some(finding) => {
                self.without_endpoints.insert(Arc::clone(upstream), finding);
            }
            None => {
                self.without_endpoints.remove(upstream);
            }
        }
    }

    /// Works out what is to be written, after everything else: serving never waits for it.
    fn settle(&mut self) {
        let Some(outcome) = &mut self.outcome else {
            return;
        };
        if !self.is_synced {
            return;
        }
        let unbound: Vec<Finding> = self.unbound.iter().map(BindFailure::finding).collect();
        outcome.settle(&Known {
            world: &self.world,
            translator: &self.translator,
            findings: &unbound,
        });
        outcome.tell(&self.reports.load_full(), &self.world);
    }

    /// Tells what is wrong, and logs what is new.
    fn report(&self) {
        let unbound = self.unbound.iter().map(BindFailure::finding);
        let mut reports: Vec<Report> = self
            .findings
            .iter()
            .chain(self.without_endpoints.values())
            .map(Report::from)
            .chain(unbound.map(|finding| Report::from(&finding)))
            .chain(self.problems.iter().cloned())
            .collect();
        if let Some(writing) = &self.writing {
            reports.extend(writing.borrow().iter().cloned());
        }
        reports.sort();
        reports.dedup();
        let before = self.reports.load();
        if **before == reports {
            return;
        }
        for report in &reports {
            if before.binary_search(report).is_err() {
                tracing::warn!("{report}");
            }
        }
        for report in before.iter() {
            if reports.binary_search(report).is_err() {
                tracing::info!("resolved: {report}");
            }
        }
        self.reports.store(Arc::new(reports));
    }
}

/// Waits until there is another value; for ever where nobody gives any.
async fn changed<T>(value: &mut Option<watch::Receiver<T>>) {
    if let Some(value) = value
        && value.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
