//! What keeps the leader from writing, as reports: one for each reason, however many writes wait.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::agenda::{Aspect, Matter};
use super::server::Failure;
use crate::translate::finding::{Reason, Severity};
use crate::translate::report::{Report, Subject};
use crate::world::ObjectKey;

/// Single failures happen; in a row they are news.
const UNAVAILABLE_AFTER: u32 = 3;
/// Objects whose writes are refused that are reported one by one.
const MAX_REFUSED: usize = 100;

/// What keeps the leader from writing.
#[derive(Debug, Default)]
pub(super) struct Problems {
    state: Mutex<State>,
    reports: watch::Sender<Arc<Vec<Report>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row, by resource, for want of an answer.
    unavailable: BTreeMap<&'static str, u32>,
    reports: BTreeMap<Topic, Report>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Forbidden(&'static str),
    Unavailable(&'static str),
    Refused(&'static str),
    RefusedWrite(Matter),
}

impl Problems {
    /// All there are, for whoever shows them.
    pub(super) fn reports(&self) -> watch::Receiver<Arc<Vec<Report>>> {
        self.reports.subscribe()
    }

    /// A request about a resource such as `ingresses/status` has failed.
    pub(super) fn failed(&self, resource: &'static str, failure: &Failure) {
        let mut state = self.lock();
        let (topic, reason, message) = match failure {
            Failure::NotFound(_) | Failure::Conflict(_) => return,
            Failure::Forbidden(message) => (
                Topic::Forbidden(resource),
                Reason::WriteForbidden,
                format!(
                    "what the controller writes there waits, for it may not: {message}; give its \
                     ServiceAccount the rights that the chart gives (it is tried again every few \
                     minutes)"
                ),
            ),
            Failure::Refused(message) => (
                Topic::Refused(resource),
                Reason::WriteRefused,
                format!("the API server refuses what the controller writes there: {message}"),
            ),
            Failure::Unavailable { message, .. } => {
                let failures = state.unavailable.entry(resource).or_default();
                *failures = failures.saturating_add(1);
                if *failures < UNAVAILABLE_AFTER {
                    return;
                }
                (
                    Topic::Unavailable(resource),
                    Reason::WriteFailed,
                    format!(
                        "what the controller writes there waits, for the API server does not take \
                         it: {message}; it is tried again until it does"
                    ),
                )
            }
        };
        let report = Report {
            subject: Subject::Write(resource),
            severity: Severity::Error,
            reason,
            field: String::new(),
            message,
        };
        self.put(state, topic, report);
    }

    /// The API server does not want a certain write. `object`: whose declaration it follows from.
    pub(super) fn refused(&self, matter: &Matter, object: &ObjectKey, message: &str) {
        let state = self.lock();
        let topic = Topic::RefusedWrite(matter.clone());
        let refused = |topic: &&Topic| matches!(topic, Topic::RefusedWrite(_));
        let count = state.reports.keys().filter(refused).count();
        if count >= MAX_REFUSED && !state.reports.contains_key(&topic) {
            return;
        }
        let field = match (matter.aspect, matter.object == *object) {
            (Aspect::Status, _) => "status",
            (Aspect::Finalizer, _) => "metadata.finalizers",
            (Aspect::Object, true) => "",
            (Aspect::Object, false) => "spec.service",
        };
        let what = if matter.object == *object {
            String::new()
        } else {
            format!(" ({})", matter.object)
        };
        let report = Report {
            subject: Subject::Object(object.clone()),
            severity: Severity::Error,
            reason: Reason::WriteRefused,
            field: field.to_owned(),
            message: format!(
                "the API server refuses what the controller writes{what}: {message}; it is tried \
                 again when the declaration changes, and every few minutes"
            ),
        };
        self.put(state, topic, report);
    }

    /// A request about a resource has done what it should.
    pub(super) fn succeeded(&self, resource: &'static str) {
        let mut state = self.lock();
        state.unavailable.remove(resource);
        let topics = [
            Topic::Forbidden(resource),
            Topic::Unavailable(resource),
            Topic::Refused(resource),
        ];
        self.drop(state, |topic| topics.contains(topic));
    }

    /// Keeps the refused writes that `keep` names.
    pub(super) fn retain_refused(&self, keep: impl Fn(&Matter) -> bool) {
        self.drop(
            self.lock(),
            |topic| matches!(topic, Topic::RefusedWrite(matter) if !keep(matter)),
        );
    }

    /// Another replica writes now. What concerns `resource` stays.
    pub(super) fn clear_except(&self, resource: &'static str) {
        let mut state = self.lock();
        state.unavailable.retain(|name, _| *name == resource);
        self.drop(state, |topic| match topic {
            Topic::Forbidden(name) | Topic::Unavailable(name) | Topic::Refused(name) => {
                *name != resource
            }
            Topic::RefusedWrite(_) => true,
        });
    }

    fn put(&self, mut state: MutexGuard<'_, State>, topic: Topic, report: Report) {
        // The words of an error may differ from time to time; that is no news.
        if let Entry::Vacant(place) = state.reports.entry(topic) {
            place.insert(report);
            self.publish(&state);
        }
    }

    fn drop(&self, mut state: MutexGuard<'_, State>, is_over: impl Fn(&Topic) -> bool) {
        let before = state.reports.len();
        state.reports.retain(|topic, _| !is_over(topic));
        if state.reports.len() < before {
            self.publish(&state);
        }
    }

    fn publish(&self, state: &State) {
        let mut reports: Vec<Report> = state.reports.values().cloned().collect();
        reports.sort();
        self.reports.send_replace(Arc::new(reports));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
