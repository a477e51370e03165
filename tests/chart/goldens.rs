//! What is rendered, for sets of values that together set each value to something else: the whole
//! for the defaults, and for the others what differs from those.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use similar::TextDiff;

use super::helm::{self, Rendering};
use super::objects;
use super::repository;
use super::values::leaves;

/// Everything that can be there at once.
pub(crate) const EVERYTHING: &str = "
controller:
  autoscaling: {enabled: true}
  metrics: {enabled: true, serviceMonitor: {enabled: true}, prometheusRule: {enabled: true, rules: [{record: a, expr: b}]}}
  networkPolicy: {enabled: true}
defaultBackend: {enabled: true, image: {image: lost}}
";

/// The sets of values, by name.
pub(crate) fn cases() -> BTreeMap<String, Value> {
    let mut cases = BTreeMap::new();
    for entry in fs::read_dir(repository("tests/chart/cases")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let values = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            cases.insert(name, values);
        }
    }
    cases
}

#[test]
fn renderings_are_as_expected() {
    let mut cases = cases();
    let defaults = Rendering::of(cases.remove("defaults").unwrap()).text();
    assert_snapshot("defaults", &defaults);
    let by_default = parts(&defaults);
    for (name, values) in cases {
        let rendered = Rendering::of(values).text();
        for object in helm::documents(&rendered) {
            objects::assert_typed(&object, &name);
        }
        let parts = parts(&rendered);
        let mut text = String::new();
        for key in by_default
            .keys()
            .chain(parts.keys())
            .collect::<BTreeSet<_>>()
        {
            match (by_default.get(key), parts.get(key)) {
                (None, Some(part)) => writeln!(text, "--- {key}: new\n{part}").unwrap(),
                (Some(before), Some(part)) if before != part => {
                    writeln!(text, "--- {key}\n{}", difference(before, part)).unwrap();
                }
                (Some(_), None) => writeln!(text, "--- {key}: not there\n").unwrap(),
                _ => {}
            }
        }
        assert_snapshot(&name, &text);
    }
}

/// The text of each object, by its template, its kind and its place among the same.
fn parts(rendered: &str) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    for part in rendered.split("---\n# Source: holdfast/templates/").skip(1) {
        let (template, text) = part.split_once('\n').unwrap();
        let object = helm::documents(text).pop().unwrap();
        let kind = object["kind"].as_str().unwrap();
        let key = (1..)
            .map(|place| format!("{template} {kind} {place}"))
            .find(|key| !parts.contains_key(key))
            .unwrap();
        parts.insert(key, text.to_owned());
    }
    parts
}

/// What differs, without line numbers: those change with every line before.
fn difference(before: &str, after: &str) -> String {
    let difference = TextDiff::from_lines(before, after);
    let text = difference.unified_diff().context_radius(2).to_string();
    let mut lines = Vec::new();
    for line in text.lines() {
        lines.push(if line.starts_with("@@") { "@@" } else { line });
    }
    lines.join("\n") + "\n"
}

fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => repository("tests/chart/cases"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn the_cases_set_every_value() {
    let cases = cases();
    let mut unset = Vec::new();
    for leaf in leaves() {
        let pointer = format!("/{}", leaf.path.replace('.', "/"));
        let is_set = |values: &Value| {
            values
                .pointer(&pointer)
                .is_some_and(|value| *value != leaf.default)
        };
        if !cases.values().any(is_set) {
            unset.push(leaf.path);
        }
    }
    assert!(unset.is_empty(), "in no case: {unset:?}");
}
