//! What is rendered, for sets of values that together set each value to something else: the whole
//! for the defaults, and for the others the objects that are not as in those.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

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
        if path.extension().is_some_and(|extension| extension == "yaml") {
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
        for (object, part) in &parts {
            if by_default.get(object) != Some(part) {
                writeln!(text, "---\n{}", part.trim()).unwrap();
            }
        }
        for object in by_default.keys().filter(|object| !parts.contains_key(*object)) {
            writeln!(text, "--- not there: {object}").unwrap();
        }
        assert_snapshot(&name, &text);
    }
}

/// The text of each object, by kind and name.
fn parts(rendered: &str) -> BTreeMap<String, String> {
    rendered
        .split("---\n")
        .filter_map(|part| {
            let object = helm::documents(part).pop()?;
            let (kind, meta) = (object["kind"].as_str()?, &object["metadata"]);
            let namespace = meta["namespace"].as_str().unwrap_or_default();
            let name = format!("{kind} {namespace}/{}", meta["name"].as_str()?);
            Some((name, part.to_owned()))
        })
        .collect()
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
        let is_set = |values: &Value| values.pointer(&pointer).is_some_and(|value| *value != leaf.default);
        if !cases.values().any(is_set) {
            unset.push(leaf.path);
        }
    }
    assert!(unset.is_empty(), "in no case: {unset:?}");
}
