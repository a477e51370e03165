//! Writes to the API server what is on the agenda, while this replica leads.
//!
//! ```text
//! Agenda ──take──▶ a few at once, at a bounded rate ──▶ API server
//!    ▲                                                     │
//!    └── done; later: conflict, refused, unavailable ◀─────┘──▶ metrics, problems
//! ```
//!
//! A write that fails waits by itself and holds up nobody, except where the API server answers
//! nobody any more or asks for a pause.

pub(super) mod request;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use self::request::Outcome;
use super::agenda::{Agenda, Turn, Wait};
use super::lease::LEASES;
use super::problems::Problems;
use super::rate::{Backoff, Bucket, Rate};
use super::server::{Failure, Server};
use crate::metrics::Metrics;

/// How often it is looked whether refused writes have become needless.
const TIDY: Duration = Duration::from_secs(5);

/// How it writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriterSettings {
    /// Requests at once.
    pub concurrency: usize,
    /// Requests a second. 10,000 Ingresses have their first status after 100 s.
    pub rate: Rate,
    /// For one request.
    pub deadline: Duration,
    /// After somebody else was faster.
    pub conflict: Backoff,
    /// After 429, 5xx, or no answer.
    pub unavailable: Backoff,
    /// After 403, 422 and the like.
    pub refused: Backoff,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            rate: Rate {
                per_second: 100.0,
                burst: 200,
            },
            deadline: Duration::from_secs(5),
            conflict: Backoff {
                first: Duration::from_millis(50),
                limit: Duration::from_secs(5),
            },
            unavailable: Backoff {
                first: Duration::from_millis(500),
                limit: Duration::from_secs(30),
            },
            refused: Backoff {
                first: Duration::from_secs(30),
                limit: Duration::from_mins(5),
            },
        }
    }
}

/// Writes what is on the agenda.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    settings: WriterSettings,
    server: Server,
    agenda: &'a Agenda,
    problems: &'a Problems,
    metrics: &'a Metrics,
}

/// A write under way. Dropped before its end, as when another replica leads now, it goes back.
struct UnderWay {
    agenda: Agenda,
    turn: Option<Turn>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.agenda.postpone(turn, Instant::now(), Wait::Fixed);
        }
    }
}

type Ended = (UnderWay, Result<Outcome, Failure>);

impl<'a> Writer<'a> {
    pub(super) fn new(
        settings: WriterSettings,
        server: &Server,
        agenda: &'a Agenda,
        problems: &'a Problems,
        metrics: &'a Metrics,
    ) -> Self {
        Self {
            settings,
            server: server.within(settings.deadline),
            agenda,
            problems,
            metrics,
        }
    }

    /// Writes while `leading`, until dropped.
    pub(super) async fn run(&self, mut leading: watch::Receiver<bool>) {
        while leading.wait_for(|leading| *leading).await.is_ok() {
            // What is under way when it is lost is cut off.
            tokio::select! {
                biased;
                _ = leading.wait_for(|leading| !*leading) => {}
                () = self.write() => {}
            }
            self.problems.clear_except(LEASES);
        }
    }

    async fn write(&self) {
        let mut under_way: JoinSet<Ended> = JoinSet::new();
        let mut bucket = Bucket::new(self.settings.rate, Instant::now());
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Failures in a row of the API server, not of single writes.
        let mut silence: u32 = 0;
        loop {
            let wake = self.begin(&mut under_way, &mut bucket);
            self.metrics.leader.set_waiting(self.agenda.len());
            let wake_at = wake.unwrap_or_else(|| Instant::now() + TIDY);
            tokio::select! {
                Some(ended) = under_way.join_next() => {
                    // A task that was aborted or panicked has given its write back by itself.
                    let Ok((mut guard, result)) = ended else { continue };
                    let Some(turn) = guard.turn.take() else { continue };
                    silence = match &result {
                        Err(Failure::Unavailable { .. }) => silence.saturating_add(1),
                        _ => 0,
                    };
                    if let Some(pause) = self.pause(silence, &result) {
                        bucket.pause(Instant::now() + pause);
                    }
                    self.settle(turn, result);
                }
                () = self.agenda.changed(), if under_way.len() < self.settings.concurrency => {}
                () = tokio::time::sleep_until(wake_at), if wake.is_some() => {}
                _ = tidy.tick() => self.problems.retain_refused(|matter| self.agenda.holds(matter)),
            }
        }
    }

    /// Begins as many writes as may be. Answers when more may begin.
    fn begin(&self, under_way: &mut JoinSet<Ended>, bucket: &mut Bucket) -> Option<Instant> {
        while under_way.len() < self.settings.concurrency {
            let now = Instant::now();
            if let Err(at) = bucket.take(now) {
                return Some(at);
            }
            let Some(turn) = self.agenda.take(now) else {
                bucket.refund();
                return self.agenda.next_due();
            };
            let server = self.server.clone();
            let (matter, write) = (turn.matter.clone(), Arc::clone(&turn.write));
            let guard = UnderWay {
                agenda: self.agenda.clone(),
                turn: Some(turn),
            };
            under_way.spawn(async move {
                let result = request::perform(&server, &matter, &write).await;
                (guard, result)
            });
        }
        None
    }

    /// For how long nothing is to be written at all.
    fn pause(&self, silence: u32, result: &Result<Outcome, Failure>) -> Option<Duration> {
        if let Err(Failure::Unavailable {
            retry_after: Some(asked),
            ..
        }) = result
        {
            return Some(*asked);
        }
        let concurrency = u32::try_from(self.settings.concurrency).unwrap_or(u32::MAX);
        let beyond = silence.checked_sub(concurrency)?;
        Some(self.settings.unavailable.after(beyond))
    }

    fn settle(&self, turn: Turn, result: Result<Outcome, Failure>) {
        let kind = request::kind(&turn.write);
        let resource = request::resource(&turn.write);
        let outcome = match &result {
            Ok(outcome) => outcome.as_str(),
            Err(Failure::Conflict(_) | Failure::NotFound(_)) => "conflict",
            Err(Failure::Forbidden(_)) => "forbidden",
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::Unavailable { .. }) => "unavailable",
        };
        self.metrics.leader.wrote(kind, outcome);
        let Err(failure) = result else {
            self.problems.succeeded(resource);
            self.agenda.done(&turn.matter);
            return;
        };
        tracing::debug!(kind, object = %turn.matter.object, error = %failure, "write failed");
        let settings = &self.settings;
        let (backoff, wait) = match &failure {
            Failure::Conflict(_) | Failure::NotFound(_) => (settings.conflict, Wait::Fixed),
            Failure::Forbidden(_) => (settings.refused, Wait::Fixed),
            Failure::Refused(_) => (settings.refused, Wait::UntilNewer),
            Failure::Unavailable { .. } => (settings.unavailable, Wait::Fixed),
        };
        let mut delay = backoff.after(turn.failures);
        match &failure {
            Failure::Refused(message) => {
                let object = request::declared_by(&turn.matter, &turn.write);
                self.problems.refused(&turn.matter, &object, message);
            }
            Failure::Unavailable {
                retry_after: Some(asked),
                ..
            } => {
                delay = delay.max(*asked);
                self.problems.failed(resource, &failure);
            }
            _ => self.problems.failed(resource, &failure),
        }
        self.agenda.postpone(turn, Instant::now() + delay, wait);
    }
}
