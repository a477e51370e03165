//! A directory that is followed, and what is known of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::source::{DirectorySource, Update};
use holdfast::translate::finding::Reason;
use holdfast::translate::report::{Report, Subject};
use holdfast::world::{Delta, Kind, Object, ObjectKey, World};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for something to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A Service whose one port tells which version of it this is.
pub(crate) fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

/// A temporary directory with `live`, which is followed.
pub(crate) struct Fixture {
    home: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("live")).unwrap();
        Self { home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Replaces a file in one step.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        self.write("staged", text);
        self.rename("staged", name);
    }

    pub(crate) fn follow(&self) -> Follow {
        Follow::start(&self.path("live"), false)
    }
}

/// What the receiver of the updates knows.
pub(crate) struct Follow {
    pub(crate) updates: Receiver<Update>,
    pub(crate) world: World,
    pub(crate) problems: Vec<Report>,
    /// Every port each Service was seen with, `None` for its absence.
    pub(crate) history: BTreeMap<String, Vec<Option<i32>>>,
    /// Every problem that ever was.
    pub(crate) complaints: Vec<Report>,
    pub(crate) synced: bool,
    _stop: DropGuard,
}

impl Follow {
    pub(crate) fn start(path: &Path, polling: bool) -> Self {
        let shutdown = CancellationToken::new();
        let updates = if polling {
            DirectorySource::start_polling(path.to_owned(), shutdown.clone())
        } else {
            DirectorySource::start(path.to_owned(), shutdown.clone())
        };
        Self {
            updates: updates.unwrap(),
            world: World::default(),
            problems: Vec::new(),
            history: BTreeMap::new(),
            complaints: Vec::new(),
            synced: false,
            _stop: shutdown.drop_guard(),
        }
    }

    pub(crate) async fn next(&mut self) -> Update {
        let update = tokio::time::timeout(PATIENCE, self.updates.recv())
            .await
            .unwrap_or_else(|_| {
                panic!("no update; {:?}, {:?}", self.history, self.problems);
            })
            .expect("the source ended");
        self.take_in(update.clone());
        update
    }

    pub(crate) fn take_in(&mut self, update: Update) {
        if !self.synced {
            let kinds: Vec<Kind> = update
                .deltas
                .iter()
                .map(|delta| match delta {
                    Delta::Reset(scope, ..) => scope.kind,
                    other => panic!("{other:?} before everything was listed"),
                })
                .collect();
            assert_eq!(kinds, Kind::ALL);
            self.synced = true;
        }
        for delta in update.deltas {
            let told = match &delta {
                Delta::Apply(object) => vec![object.clone()],
                Delta::Reset(_, objects, _) => objects.clone(),
                Delta::Delete(key) => {
                    self.remember(&key.name.name, None);
                    vec![]
                }
                Delta::PodEnds(pod, _) => panic!("{pod:?} is in no file"),
            };
            for object in told {
                if let Object::Service(service) = &object {
                    let port = service.ports.first().map(|port| port.port);
                    self.remember(&service.meta.name.name, port);
                }
            }
            self.world.apply(delta);
        }
        self.complaints.extend(update.problems.iter().cloned());
        self.problems = update.problems;
    }

    pub(crate) fn remember(&mut self, name: &str, port: Option<i32>) {
        self.history.entry(name.to_owned()).or_default().push(port);
    }

    pub(crate) fn history(&self, name: &str) -> Vec<Option<i32>> {
        self.history.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn services(&self) -> BTreeMap<String, i32> {
        self.world
            .services()
            .iter()
            .map(|(name, service)| (name.name.to_string(), service.ports[0].port))
            .collect()
    }

    /// Waits until the Services and their ports are these.
    pub(crate) async fn until(&mut self, wanted: &[(&str, i32)]) {
        let wanted: BTreeMap<String, i32> = wanted
            .iter()
            .map(|&(name, port)| (name.to_owned(), port))
            .collect();
        let start = Instant::now();
        while !self.synced || self.services() != wanted {
            assert!(
                start.elapsed() < PATIENCE,
                "{:?} is not {wanted:?}; {:?}",
                self.services(),
                self.problems
            );
            self.next().await;
        }
    }

    /// Waits until there is a problem with this reason, or none at all.
    pub(crate) async fn until_problem(&mut self, wanted: Option<Reason>) {
        let start = Instant::now();
        while !self.synced
            || match wanted {
                Some(reason) => !self.problems.iter().any(|problem| problem.reason == reason),
                None => !self.problems.is_empty(),
            }
        {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.problems);
            self.next().await;
        }
    }
}

/// File, line and object of a problem.
pub(crate) fn place(problem: &Report) -> (PathBuf, Option<usize>, Option<ObjectKey>) {
    match &problem.subject {
        Subject::File { path, line, object } => (path.clone(), *line, object.clone()),
        other => panic!("{other} is no file"),
    }
}
