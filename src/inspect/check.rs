//! Findings, as `check` prints them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::translate::finding::Severity;
use crate::translate::report::{Report, Subject};

/// Findings object by object, and a line with their number at the end.
#[must_use]
pub fn render_text(findings: &[Report]) -> String {
    let mut text = String::new();
    for group in findings.chunk_by(|one, other| one.subject == other.subject) {
        for (index, finding) in group.iter().enumerate() {
            if index == 0 {
                // Writing to a String cannot fail, here and below.
                let _ = writeln!(text, "{}", finding.subject);
            }
            let severity = finding.severity.to_string();
            let field = match &*finding.field {
                "" => "-",
                field => field,
            };
            let _ = writeln!(
                text,
                "  {severity:<7}  {field} [{}]\n           {}",
                finding.reason, finding.message
            );
        }
    }
    let errors = count(findings, Severity::Error);
    let warnings = count(findings, Severity::Warning);
    let _ = if findings.is_empty() {
        writeln!(text, "no findings")
    } else {
        writeln!(
            text,
            "{}, {}",
            plural(errors, "error"),
            plural(warnings, "warning")
        )
    };
    text
}

/// The same as one JSON object: `findings`, `errors` and `warnings`.
#[must_use]
pub fn render_json(findings: &[Report]) -> String {
    let list: Vec<Value> = findings.iter().map(json).collect();
    let report = json!({
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
        "findings": list,
    });
    format!("{report:#}\n")
}

/// One finding as JSON.
#[must_use]
pub fn json(finding: &Report) -> Value {
    let mut value = json!({
        "severity": finding.severity.to_string(),
        "reason": finding.reason.as_str(),
        "field": finding.field,
        "message": finding.message,
    });
    let object = match &finding.subject {
        Subject::Object(object) => Some(object),
        Subject::Read(resource) | Subject::Write(resource) => {
            value["resource"] = json!(resource);
            None
        }
        Subject::Watch { kind, namespace } => {
            value["kind"] = json!(kind.as_str());
            value["namespace"] = json!(namespace.as_deref());
            None
        }
        Subject::File { path, line, object } => {
            value["file"] = json!(path.display().to_string());
            value["line"] = json!(line);
            object.as_ref()
        }
    };
    if let Some(object) = object {
        value["kind"] = json!(object.kind.as_str());
        value["namespace"] = json!(&*object.name.namespace);
        value["name"] = json!(&*object.name.name);
    }
    value
}

fn count(findings: &[Report], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

fn plural(number: usize, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {word}{ending}")
}
