//! Problems with objects, as data.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::world::ObjectKey;

/// A problem with an object: where it is, what is wrong, and what to do about it. The same words
/// are shown by `check`, in the log and in metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The object to change.
    pub object: ObjectKey,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of problem it is; a closed set, used as a metric label.
    pub reason: Reason,
    /// The field, as a path such as `spec.rules[0].http.paths[1].backend.service.name`.
    pub field: String,
    /// What is wrong, what happens because of it, and the remedy, in one or two sentences.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            severity,
            reason,
            field,
            message,
        } = self;
        write!(f, "{severity}: {object}: {field}: {message} [{reason}]")
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Something that the object asks for is not served. `check` exits with 1.
    Error,
    /// Served, but probably not as meant, or not yet.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// What kind of problem a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation; messages say the rest"
)]
pub enum Reason {
    AccessDenied,
    BindFailed,
    CertificateConflict,
    CertificateInvalid,
    ClassNotFound,
    ClassParametersInvalid,
    DuplicateObject,
    HostInvalid,
    KeyMismatch,
    KindNotServed,
    ListenerNotFound,
    ManifestInvalid,
    ManifestUnreadable,
    NoEndpoints,
    PathInvalid,
    PortConflict,
    PortNotFound,
    RouteConflict,
    SecretNotFound,
    SecretTypeInvalid,
    ServiceNotFound,
    SpecInvalid,
    Unsupported,
    WatchFailed,
    WriteFailed,
    WriteForbidden,
    WriteRefused,
}

impl Reason {
    /// The least in order.
    const FIRST: Self = Self::BindFailed;

    /// The name, as shown and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::BindFailed => "BindFailed",
            Self::CertificateConflict => "CertificateConflict",
            Self::CertificateInvalid => "CertificateInvalid",
            Self::ClassNotFound => "ClassNotFound",
            Self::ClassParametersInvalid => "ClassParametersInvalid",
            Self::DuplicateObject => "DuplicateObject",
            Self::HostInvalid => "HostInvalid",
            Self::KeyMismatch => "KeyMismatch",
            Self::KindNotServed => "KindNotServed",
            Self::ListenerNotFound => "ListenerNotFound",
            Self::ManifestInvalid => "ManifestInvalid",
            Self::ManifestUnreadable => "ManifestUnreadable",
            Self::NoEndpoints => "NoEndpoints",
            Self::PathInvalid => "PathInvalid",
            Self::PortConflict => "PortConflict",
            Self::PortNotFound => "PortNotFound",
            Self::RouteConflict => "RouteConflict",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretTypeInvalid => "SecretTypeInvalid",
            Self::ServiceNotFound => "ServiceNotFound",
            Self::SpecInvalid => "SpecInvalid",
            Self::Unsupported => "Unsupported",
            Self::WatchFailed => "WatchFailed",
            Self::WriteFailed => "WriteFailed",
            Self::WriteForbidden => "WriteForbidden",
            Self::WriteRefused => "WriteRefused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gathers the findings of one object.
#[derive(Debug)]
pub(super) struct Notes {
    object: ObjectKey,
    findings: Vec<Finding>,
}

impl Notes {
    pub(super) fn new(object: ObjectKey) -> Self {
        Self {
            object,
            findings: Vec::new(),
        }
    }

    pub(super) fn error(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(Severity::Error, reason, field.into(), message.into());
    }

    pub(super) fn warning(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(Severity::Warning, reason, field.into(), message.into());
    }

    fn add(&mut self, severity: Severity, reason: Reason, field: String, message: String) {
        self.findings.push(Finding {
            object: self.object.clone(),
            severity,
            reason,
            field,
            message,
        });
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// Findings from many places, each counted, so that a place can take its own back without a walk
/// over all the others. Iterates in order.
#[derive(Debug, Default)]
pub(super) struct FindingSet {
    counts: BTreeMap<Finding, usize>,
}

impl FindingSet {
    pub(super) fn add(&mut self, findings: &[Finding]) {
        for finding in findings {
            *self.counts.entry(finding.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, findings: &[Finding]) {
        for finding in findings {
            if let Some(count) = self.counts.get_mut(finding) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(finding);
                }
            }
        }
    }

    /// Those about one object, in order.
    pub(super) fn of<'a>(&'a self, object: &'a ObjectKey) -> impl Iterator<Item = &'a Finding> {
        // The least finding about the object: findings are in order of their objects.
        let first = Finding {
            object: object.clone(),
            severity: Severity::Error,
            reason: Reason::FIRST,
            field: String::new(),
            message: String::new(),
        };
        self.counts
            .range(first..)
            .map(|(finding, _)| finding)
            .take_while(move |finding| finding.object == *object)
    }

    pub(super) fn to_vec(&self) -> Vec<Finding> {
        self.counts.keys().cloned().collect()
    }
}
