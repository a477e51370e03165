//! Findings about objects, and problems of the files they come from, in one form.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::finding::{Finding, Reason, Severity};
use crate::world::{Kind, ObjectKey, Scope};

/// Something that is wrong, as `check`, the log, the admin port and the metrics show it: in the
/// same words everywhere. Sorts by subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    /// What it is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of problem it is.
    pub reason: Reason,
    /// The field; empty where the whole subject is meant.
    pub field: String,
    /// What is wrong, what happens because of it, and the remedy.
    pub message: String,
}

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A file or directory of manifests.
    File {
        /// Its path.
        path: PathBuf,
        /// Line, from 1; `None` = the whole file.
        line: Option<usize>,
        /// The object defined there, where it is known.
        object: Option<ObjectKey>,
    },
    /// An object.
    Object(ObjectKey),
    /// The watch of a kind at the API server.
    Watch {
        /// The kind.
        kind: Kind,
        /// The namespace it is limited to; `None` = all.
        namespace: Option<Arc<str>>,
    },
    /// What is asked of a resource of the API server now and then, such as `pods`.
    Read(&'static str),
    /// What the leader writes to a resource of the API server, such as `ingresses/status`.
    Write(&'static str),
}

impl From<&Scope> for Subject {
    /// The watch of a scope.
    fn from(scope: &Scope) -> Self {
        Self::Watch {
            kind: scope.kind,
            namespace: scope.namespace.clone(),
        }
    }
}

impl From<&Finding> for Report {
    fn from(finding: &Finding) -> Self {
        Self {
            subject: Subject::Object(finding.object.clone()),
            severity: finding.severity,
            reason: finding.reason,
            field: finding.field.clone(),
            message: finding.message.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            severity,
            reason,
            field,
            message,
        } = self;
        write!(f, "{severity}: {subject}: ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        write!(f, "{message} [{reason}]")
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Read(resource) => write!(f, "reading {resource}"),
            Self::Write(resource) => write!(f, "writing {resource}"),
            Self::Watch { kind, namespace } => {
                write!(f, "watch of {kind}")?;
                match namespace {
                    Some(namespace) => write!(f, " in namespace {namespace}"),
                    None => Ok(()),
                }
            }
            Self::File { path, line, object } => {
                write!(f, "{}", path.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                if let Some(object) = object {
                    write!(f, ": {object}")?;
                }
                Ok(())
            }
        }
    }
}
