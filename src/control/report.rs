//! Findings and problems of the source in one form, for everybody who shows them.

use std::fmt;

use serde::Serialize;

use crate::source::SourceProblem;
use crate::translate::finding::{Finding, Reason, Severity};

/// Something that is wrong, as it is shown by `check`, in the log and by the admin port: in the
/// same words everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: an object, or a file and a line.
    pub subject: String,
    /// The field; empty where the whole subject is meant.
    pub field: String,
    /// What is wrong, what happens because of it, and the remedy.
    pub message: String,
    /// What kind of problem it is.
    pub reason: Reason,
}

impl From<&Finding> for Report {
    fn from(finding: &Finding) -> Self {
        Self {
            severity: finding.severity,
            subject: finding.object.to_string(),
            field: finding.field.clone(),
            message: finding.message.clone(),
            reason: finding.reason,
        }
    }
}

impl From<&SourceProblem> for Report {
    fn from(problem: &SourceProblem) -> Self {
        let mut subject = problem.file.display().to_string();
        if let Some(line) = problem.line {
            subject.push_str(&format!(":{line}"));
        }
        if let Some(object) = &problem.object {
            subject.push_str(&format!(": {object}"));
        }
        Self {
            severity: problem.severity,
            subject,
            field: String::new(),
            message: problem.message.clone(),
            reason: problem.reason,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            subject,
            field,
            message,
            reason,
        } = self;
        write!(f, "{severity}: {subject}: ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        write!(f, "{message} [{reason}]")
    }
}
