//! Where Kubernetes objects come from: a directory of manifests.
//!
//! ```text
//! inotify ─▶ watch ─▶ directory ──Update (deltas, problems)──▶ control
//!                       │   ▲
//!        tree (paths) ◀─┘   └─ catalogue: which file defines which object; who wins
//!        manifest (bytes ─▶ objects)
//! ```
//!
//! What cannot be read is a problem and never an absence: a broken document, an unreadable file
//! and a directory that vanished leave what was last good in force (P3, P7).

mod catalogue;
pub mod cluster;
pub mod directory;
mod document;
mod follower;
mod kind;
pub mod manifest;
mod strict;
mod tree;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::translate::finding::{Reason, Severity};
use crate::translate::report::{Report, Subject};
use crate::world::{Delta, Object, ObjectKey, Scope};

pub use cluster::{ApiServer, ClusterSource};
pub use directory::{DirectorySource, SourceError};
pub use manifest::Manifest;

/// What a source says at one time.
#[derive(Clone, Debug)]
pub struct Update {
    /// What changed. Each scope begins with a `Reset`.
    pub deltas: Vec<Delta>,
    /// All problems of the source that there are now.
    pub problems: Vec<Report>,
    /// What has not been listed yet. Until everything has, a world has gaps that are not absences,
    /// and nothing may be served from it.
    pub unlisted: Vec<Scope>,
    /// When the first notification of the change came.
    pub noticed: Instant,
}

/// A problem with a file or directory of manifests. A finding is about an object; what does not
/// parse has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceProblem {
    /// The file or directory, as reached from the directory that is read.
    pub file: PathBuf,
    /// Line in the file, from 1; none where it concerns the whole file.
    pub line: Option<usize>,
    /// The object, where it is known.
    pub object: Option<ObjectKey>,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of problem it is: `DuplicateObject`, `ManifestInvalid` or `ManifestUnreadable`.
    pub reason: Reason,
    /// What is wrong, what happens because of it, and the remedy.
    pub message: String,
}

impl SourceProblem {
    /// A file or directory that cannot be read.
    fn unreadable(path: &Path, message: impl Into<String>) -> Self {
        Self {
            file: path.to_owned(),
            line: None,
            object: None,
            severity: Severity::Error,
            reason: Reason::ManifestUnreadable,
            message: message.into(),
        }
    }

    /// A document that does not parse or fit its kind.
    fn invalid(path: &Path, problem: &manifest::Problem) -> Self {
        Self {
            line: Some(problem.line),
            reason: Reason::ManifestInvalid,
            ..Self::unreadable(path, problem.message.clone())
        }
    }
}

impl From<&SourceProblem> for Report {
    fn from(problem: &SourceProblem) -> Self {
        Self {
            subject: Subject::File {
                path: problem.file.clone(),
                line: problem.line,
                object: problem.object.clone(),
            },
            severity: problem.severity,
            reason: problem.reason,
            field: String::new(),
            message: problem.message.clone(),
        }
    }
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Report::from(self).fmt(f)
    }
}

/// What files and directories hold, read once.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Objects in the order of their keys; of two definitions of one object the first.
    pub objects: Vec<Object>,
    /// What could not be read, and second definitions.
    pub problems: Vec<SourceProblem>,
    /// `kind.group/version` of documents that mean nothing here, once per document.
    pub skipped: Vec<String>,
}

/// Reads files and directories once, for `check` and `routes`. A file that is named is read
/// whatever it is called; in directories only `*.yaml`, `*.yml` and `*.json`.
#[must_use]
pub fn read_once(paths: &[PathBuf]) -> Reading {
    let mut catalogue = catalogue::Catalogue::default();
    let mut reading = Reading::default();
    for path in paths {
        let files = if path.is_dir() {
            let scan = tree::scan(path, |_| ());
            for failure in scan.failures() {
                reading.problems.push(failure);
            }
            scan.files
        } else {
            vec![tree::Found::named(path)]
        };
        for found in files {
            match tree::read(&found.real) {
                Ok((_, bytes)) => {
                    let mut manifest = manifest::read(&bytes);
                    reading.skipped.append(&mut manifest.skipped);
                    catalogue.replace(&found.file, manifest);
                }
                Err(error) => catalogue.fail(&found.file, error.to_string()),
            }
        }
    }
    reading.problems.extend(catalogue.problems());
    reading.problems.sort();
    reading.objects = catalogue.into_objects();
    reading
}
