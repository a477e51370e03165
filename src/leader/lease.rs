//! Which replica leads: the holder of a Lease.
//!
//! ```text
//! GET ─▶ who holds it? ─┬─ nobody, or it was not renewed for its duration ─▶ PUT: ours ─▶ leading
//!                       ├─ we ─▶ PUT: renewed, again and again               ─▶ leading
//!                       ├─ another ─▶ look again soon
//!                       └─ retired ─▶ nobody leads: Holdfast is being uninstalled
//! ```
//!
//! No two lead at a time. A replica leads from the moment it *sends* a renewal that succeeds, for
//! [`LeaseSettings::deadline`]; another takes over no sooner than [`LeaseSettings::duration`] after
//! it has *seen* that renewal. Both are times of one machine's monotonic clock: clocks of machines
//! are never compared. Who takes over writes on top of what it has seen (`resourceVersion`), so of
//! two that try one fails.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Resource as _;
use kube::api::PostParams;
use kube::core::Request;
use kube::core::params::GetParams;
use tokio::sync::watch;
use tokio::time::Instant;

use super::problems::Problems;
use super::rate::{Backoff, jittered};
use super::server::{Failure, Server};
use crate::api;

/// On a Lease that nobody is to hold, because Holdfast is being uninstalled. Who does that changes
/// the value from time to time; one that stays is a leftover.
pub const RETIRED_ANNOTATION: &str = "holdfast.dev/retired";
/// The name of the resource in reports.
pub(super) const LEASES: &str = "leases";
/// Between giving up to lead and giving the Lease away: writes under way are cut in it.
const STEP_DOWN: Duration = Duration::from_millis(50);
/// A holder may not lock the others out for longer, whatever its Lease says.
const MAX_DURATION: Duration = Duration::from_mins(2);

/// How the Lease is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// The controller's namespace, where the Lease is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this replica is; no other has the same.
    pub identity: String,
    /// For how long after its last renewal the others leave it to its holder.
    pub duration: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// A holder that could not renew it for so long stops leading. Shorter than `duration`.
    pub deadline: Duration,
    /// How often replicas that do not lead look at it.
    pub poll: Duration,
    /// For how long a replica heeds [`RETIRED_ANNOTATION`] after it has last seen it change.
    pub retirement: Duration,
}

impl LeaseSettings {
    /// The defaults: after a crash another replica leads within 12 s, after a clean end within 2 s.
    #[must_use]
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        identity: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(10),
            renew: Duration::from_millis(2500),
            deadline: Duration::from_secs(8),
            poll: Duration::from_secs(1),
            retirement: Duration::from_mins(2),
        }
    }

    /// Two requests and the pauses before them fit into the deadline.
    pub(super) fn request_deadline(&self) -> Duration {
        self.deadline / 3
    }

    pub(super) fn request(&self) -> Request {
        Request::new(Lease::url_path(&(), Some(&self.namespace)))
    }
}

/// Takes part in the election.
#[derive(Debug)]
pub(super) struct Election<'a> {
    settings: &'a LeaseSettings,
    server: Server,
    problems: &'a Problems,
    leading: &'a watch::Sender<bool>,
    /// As we have written it, so that it is renewed without being read.
    held: Option<Lease>,
    /// Until when we lead, if nothing else happens.
    valid_until: Option<Instant>,
    /// What others wrote last, and when we saw it first.
    seen: Option<(LeaseSpec, Instant)>,
    /// The annotation, and when we saw it first.
    retired: Option<(String, Instant)>,
    failures: u32,
}

impl<'a> Election<'a> {
    pub(super) fn new(
        settings: &'a LeaseSettings,
        server: &Server,
        problems: &'a Problems,
        leading: &'a watch::Sender<bool>,
    ) -> Self {
        Self {
            settings,
            server: server.within(settings.request_deadline()),
            problems,
            leading,
            held: None,
            valid_until: None,
            seen: None,
            retired: None,
            failures: 0,
        }
    }

    /// Takes part until dropped. Call [`Election::resign`] after.
    pub(super) async fn run(&mut self) {
        loop {
            let pause = match self.valid_until {
                None => self.turn().await,
                Some(until) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(until) => {
                        self.lose("the Lease could not be renewed in time");
                        Duration::ZERO
                    }
                    pause = self.turn() => pause,
                },
            };
            let next = Instant::now() + pause;
            let next = self.valid_until.map_or(next, |until| next.min(until));
            tokio::time::sleep_until(next).await;
        }
    }

    /// Stops leading and gives the Lease away, so that another replica leads at once. The caller
    /// sets the deadline.
    pub(super) async fn resign(&mut self) {
        self.lose("the process ends");
        // At most a few times: renewals of ours that were under way when the end came.
        loop {
            let Ok(lease) = self.read().await else {
                return;
            };
            if !self.is_ours(&lease) {
                return;
            }
            match self.put(released(lease)).await {
                // Somebody else wrote: perhaps a renewal of ours that was under way.
                Err(Failure::Conflict(_)) => {}
                _ => return,
            }
        }
    }

    /// One look at the Lease, and what follows from it. Answers the pause until the next.
    async fn turn(&mut self) -> Duration {
        let done = match self.held.clone() {
            Some(lease) => {
                let lease = self.renewed(lease, false);
                match self.hold(lease).await {
                    Err(Failure::Conflict(_) | Failure::NotFound(_)) => {
                        self.held = None;
                        self.look().await
                    }
                    done => done,
                }
            }
            None => self.look().await,
        };
        match done {
            Ok(pause) => {
                self.failures = 0;
                self.problems.succeeded(LEASES);
                pause
            }
            Err(failure) => {
                self.problems.failed(LEASES, &failure);
                let first = if self.valid_until.is_some() {
                    self.settings.renew / 5
                } else {
                    self.settings.poll
                };
                let backoff = Backoff {
                    first,
                    limit: first.saturating_mul(5),
                };
                let pause = backoff.after(self.failures);
                self.failures = self.failures.saturating_add(1);
                pause
            }
        }
    }

    async fn look(&mut self) -> Result<Duration, Failure> {
        let lease = match self.read().await {
            Ok(lease) => Some(lease),
            Err(Failure::NotFound(_)) => None,
            Err(failure) => return Err(failure),
        };
        let now = Instant::now();
        self.notice(lease.as_ref(), now);
        let poll = jittered(self.settings.poll);
        if self.is_retired(now) {
            return match lease.filter(|lease| self.is_ours(lease)) {
                Some(_) if self.valid_until.is_some() => {
                    self.lose("Holdfast is being uninstalled");
                    Ok(STEP_DOWN)
                }
                Some(lease) => self.put(released(lease)).await.map(|_| poll),
                None => Ok(poll),
            };
        }
        let is_ours = lease.as_ref().is_some_and(|lease| self.is_ours(lease));
        if !is_ours && let Some(until) = self.others_until(now) {
            self.lose("another replica holds the Lease");
            return Ok(poll.min(until - now));
        }
        let wanted = match lease {
            Some(lease) => self.renewed(lease, !is_ours),
            None => self.fresh(),
        };
        match self.hold(wanted).await {
            // Another replica was faster.
            Err(Failure::Conflict(_) | Failure::NotFound(_)) => Ok(poll / 4),
            done => done,
        }
    }

    /// Writes the Lease as ours. From now on we lead.
    async fn hold(&mut self, lease: Lease) -> Result<Duration, Failure> {
        let sent = Instant::now();
        let lease = if lease.metadata.resource_version.is_some() {
            self.put(lease).await?
        } else {
            self.create(lease).await?
        };
        self.held = Some(lease);
        self.valid_until = Some(sent + self.settings.deadline);
        if self.tell(true) {
            tracing::info!(identity = self.settings.identity, "leading");
        }
        Ok(jittered(self.settings.renew))
    }

    fn lose(&mut self, why: &'static str) {
        self.held = None;
        self.valid_until = None;
        if self.tell(false) {
            let identity = &self.settings.identity;
            tracing::info!(identity, why, "not leading any more");
        }
    }

    /// Answers whether that is news.
    fn tell(&self, is_leading: bool) -> bool {
        self.leading
            .send_if_modified(|leading| std::mem::replace(leading, is_leading) != is_leading)
    }

    /// Remembers when what others wrote was first seen.
    fn notice(&mut self, lease: Option<&Lease>, now: Instant) {
        // A Lease that has vanished tells nothing: its holder may not have noticed yet.
        let Some(lease) = lease else { return };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec, now));
        }
        let value = lease
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(RETIRED_ANNOTATION));
        match (value, &self.retired) {
            (None, _) => self.retired = None,
            (Some(value), Some((seen, _))) if value == seen => {}
            (Some(value), _) => self.retired = Some((value.clone(), now)),
        }
    }

    /// Also after the Lease has been deleted, at the end of the uninstallation.
    fn is_retired(&self, now: Instant) -> bool {
        self.retired
            .as_ref()
            .is_some_and(|(_, since)| now < *since + self.settings.retirement)
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.settings.identity)
    }

    /// Until when the Lease is another's.
    fn others_until(&self, now: Instant) -> Option<Instant> {
        let (spec, since) = self.seen.as_ref()?;
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.settings.identity {
            return None;
        }
        let duration = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.settings.duration, Duration::from_secs);
        Some(*since + duration.min(MAX_DURATION)).filter(|until| now < *until)
    }

    /// A Lease where there is none.
    fn fresh(&self) -> Lease {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.settings.name.clone()),
                namespace: Some(self.settings.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        self.renewed(lease, true)
    }

    /// The Lease as ours. `is_taken`: it was not before.
    fn renewed(&self, mut lease: Lease, is_taken: bool) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        let before = lease.spec.take().unwrap_or_default();
        if let Some(annotations) = &mut lease.metadata.annotations {
            annotations.remove(RETIRED_ANNOTATION);
        }
        let duration = self.settings.duration.as_secs_f64().ceil().max(1.0);
        let transitions = match before.lease_transitions {
            Some(transitions) => transitions.saturating_add(i32::from(is_taken)),
            None => 0,
        };
        lease.spec = Some(LeaseSpec {
            acquire_time: if is_taken {
                Some(now.clone())
            } else {
                before.acquire_time
            },
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(duration as i32),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..before
        });
        lease
    }

    async fn read(&self) -> Result<Lease, Failure> {
        let request = self.settings.request();
        let get = request.get(&self.settings.name, &GetParams::default());
        self.server.send(get).await
    }

    async fn create(&self, lease: Lease) -> Result<Lease, Failure> {
        let body = body(&lease)?;
        self.server
            .send(self.settings.request().create(&as_manager(), body))
            .await
    }

    async fn put(&self, lease: Lease) -> Result<Lease, Failure> {
        let body = body(&lease)?;
        let request = self.settings.request();
        self.server
            .send(request.replace(&self.settings.name, &as_manager(), body))
            .await
    }
}

/// The Lease as nobody's.
fn released(mut lease: Lease) -> Lease {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
    }
    lease
}

pub(super) fn as_manager() -> PostParams {
    PostParams {
        field_manager: Some(api::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

pub(super) fn body(object: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(object).map_err(|error| Failure::Refused(error.to_string()))
}
