//! Findings, as `check` prints them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::translate::{Finding, Severity};

/// Findings object by object, and a line with their number at the end.
#[must_use]
pub fn render_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for group in findings.chunk_by(|one, other| one.object == other.object) {
        for (index, finding) in group.iter().enumerate() {
            if index == 0 {
                // Writing to a String cannot fail, here and below.
                let _ = writeln!(text, "{}", finding.object);
            }
            let severity = finding.severity.to_string();
            let _ = writeln!(
                text,
                "  {severity:<7}  {} [{}]\n           {}",
                finding.field, finding.reason, finding.message
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
pub fn render_json(findings: &[Finding]) -> String {
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
pub fn json(finding: &Finding) -> Value {
    json!({
        "kind": finding.object.kind.as_str(),
        "namespace": &*finding.object.name.namespace,
        "name": &*finding.object.name.name,
        "severity": finding.severity.to_string(),
        "reason": finding.reason.as_str(),
        "field": finding.field,
        "message": finding.message,
    })
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

fn plural(number: usize, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {word}{ending}")
}
