//! Gathers what all watches say into updates.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::mpsc;

use super::failure::Failure;
use super::pod_reader::PodReader;
use super::wire::{Item, Unreadable};
use crate::source::Update;
use crate::translate::report::Report;
use crate::world::{Delta, Object, ObjectKey, ObjectName, Scope};

/// Events of one update; the rest makes the next.
const BATCH: usize = 1024;

/// What one watch says.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) scope: Scope,
    pub(super) said: Said,
    /// When the event came.
    pub(super) noticed: Instant,
}

/// See [`Heard`].
#[derive(Debug)]
pub(super) enum Said {
    /// These are all objects; the scope works.
    Listed(Listing),
    Changed(Object),
    Unreadable(Unreadable),
    Deleted(ObjectKey),
    /// The watch is established again.
    Works,
    Fails(Failure),
}

/// A list, complete.
#[derive(Debug, Default)]
pub(super) struct Listing {
    objects: Vec<Object>,
    unreadable: Vec<Unreadable>,
}

impl Listing {
    pub(super) fn add(&mut self, item: Item) {
        match item {
            Ok(object) => self.objects.push(object),
            Err(unreadable) => self.unreadable.push(unreadable),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Collector {
    /// The server's, for the words of problems.
    address: String,
    scopes: BTreeMap<Scope, State>,
    /// Scopes that are taken as empty.
    empty: Vec<Scope>,
}

/// What is known of a scope.
#[derive(Debug, Default)]
struct State {
    listed: bool,
    problem: Option<Problem>,
    unreadable: BTreeMap<ObjectName, Report>,
}

/// What is wrong with the watch of a scope.
#[derive(Debug)]
struct Problem {
    report: Report,
    /// Whether it is that there is no connection.
    is_unreachable: bool,
}

impl State {
    /// Why there is no connection differs from one attempt to the next (refused, silence). It is the
    /// same problem, and stays in the words that were first found: else each attempt would be told.
    fn fails(&mut self, failure: &Failure, report: Report) {
        let is_unreachable = matches!(failure, Failure::Unreachable(_));
        let is_known = self
            .problem
            .as_ref()
            .is_some_and(|problem| problem.is_unreachable);
        if !(is_unreachable && is_known) {
            self.problem = Some(Problem {
                report,
                is_unreachable,
            });
        }
    }
}

impl Collector {
    pub(super) fn new(address: String, watched: Vec<Scope>, empty: Vec<Scope>) -> Self {
        let scopes = watched.into_iter().map(|scope| (scope, State::default()));
        Self {
            address,
            scopes: scopes.collect(),
            empty,
        }
    }

    /// Sends updates until the watches or the receiver are gone. An event goes out at once; those
    /// that come while the receiver is busy go out together. What is to be known of a pod follows
    /// the slice that names it, when it is known.
    pub(super) async fn run(
        mut self,
        mut heard: mpsc::Receiver<Heard>,
        mut pods: PodReader,
        updates: &mpsc::Sender<Update>,
        started: Instant,
    ) {
        let empty = std::mem::take(&mut self.empty);
        let resets = empty
            .into_iter()
            .map(|scope| Delta::Reset(scope, Vec::new(), Vec::new()));
        let first = self.update(resets.collect(), started);
        if updates.send(first).await.is_err() {
            return;
        }
        while let Ok(place) = updates.reserve().await {
            let mut deltas = Vec::new();
            let noticed = tokio::select! {
                first = heard.recv() => {
                    let Some(first) = first else {
                        return;
                    };
                    let noticed = first.noticed;
                    deltas.extend(self.take_in(first));
                    while deltas.len() < BATCH {
                        let Ok(next) = heard.try_recv() else { break };
                        deltas.extend(self.take_in(next));
                    }
                    deltas.iter().for_each(|delta| pods.note(delta));
                    noticed
                }
                known = pods.next() => {
                    deltas.extend(known);
                    Instant::now()
                }
            };
            let mut update = self.update(deltas, noticed);
            update.problems.extend(pods.problem().cloned());
            place.send(update);
        }
    }

    fn update(&self, deltas: Vec<Delta>, noticed: Instant) -> Update {
        let states = self.scopes.values();
        Update {
            deltas,
            problems: states
                .flat_map(|state| {
                    let problem = state.problem.iter().map(|problem| &problem.report);
                    problem.chain(state.unreadable.values())
                })
                .cloned()
                .collect(),
            unlisted: self
                .scopes
                .iter()
                .filter(|(_, state)| !state.listed)
                .map(|(scope, _)| scope.clone())
                .collect(),
            noticed,
        }
    }

    fn take_in(&mut self, Heard { scope, said, .. }: Heard) -> Option<Delta> {
        let state = self.scopes.entry(scope.clone()).or_default();
        match said {
            Said::Listed(Listing {
                objects,
                unreadable,
            }) => {
                state.listed = true;
                state.problem = None;
                state.unreadable = unreadable
                    .into_iter()
                    .map(|Unreadable { name, report }| (name, report))
                    .collect();
                let names = state.unreadable.keys().cloned().collect();
                Some(Delta::Reset(scope, objects, names))
            }
            Said::Changed(object) => {
                state.unreadable.remove(&object.meta().name);
                Some(Delta::Apply(object))
            }
            Said::Unreadable(Unreadable { name, report }) => {
                state.unreadable.insert(name, report);
                None
            }
            Said::Deleted(key) => {
                state.unreadable.remove(&key.name);
                Some(Delta::Delete(key))
            }
            Said::Works => {
                state.problem = None;
                None
            }
            Said::Fails(failure) => {
                let report = failure.report(&scope, &self.address, state.listed);
                state.fails(&failure, report);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Kind;

    fn problems(collector: &Collector) -> Vec<String> {
        let update = collector.update(Vec::new(), Instant::now());
        let problems = update.problems.iter();
        problems.map(|report| report.message.clone()).collect()
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_one_problem_however_attempts_fail() {
        let scope = Scope {
            kind: Kind::Ingress,
            namespace: None,
        };
        let address = "https://10.96.0.1".to_owned();
        let mut collector = Collector::new(address, vec![scope.clone()], Vec::new());
        let mut after = |said| {
            collector.take_in(Heard {
                scope: scope.clone(),
                said,
                noticed: Instant::now(),
            });
            problems(&collector)
        };
        let unreachable = |why: &str| Said::Fails(Failure::Unreachable(why.to_owned()));
        let refused = after(unreachable("refused"));
        assert!(refused[0].contains("refused"), "{refused:?}");
        assert_eq!(after(unreachable("deadline has elapsed")), refused);

        let gone = after(Said::Fails(Failure::Gone));
        assert_ne!(gone, refused);
        let silent = after(unreachable("deadline has elapsed"));
        assert!(silent[0].contains("deadline"), "{silent:?}");
        assert!(after(Said::Works).is_empty());
        assert_eq!(after(unreachable("refused")), refused);
    }
}
