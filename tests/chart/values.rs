//! `values.yaml` as people read it: each value with its comment and its `@schema`.

use std::fs;

use serde_json::{Map, Value, json};

use super::chart;

/// A value of the chart: a leaf of `values.yaml`.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// `controller.image.tag`.
    pub(crate) path: String,
    pub(crate) default: Value,
    /// The comment, in one line.
    pub(crate) description: String,
    /// What `@schema` says.
    pub(crate) schema: Map<String, Value>,
    /// The heading that it stands below.
    pub(crate) section: String,
}

/// The defaults.
pub(crate) fn defaults() -> Value {
    serde_yaml::from_str(&text()).unwrap()
}

fn text() -> String {
    fs::read_to_string(chart().join("values.yaml")).unwrap()
}

/// All leaves, in the order of the file.
///
/// # Panics
/// Where a leaf has no comment, or a comment belongs to nothing.
pub(crate) fn leaves() -> Vec<Leaf> {
    let defaults = defaults();
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut section = String::new();
    let mut comment: Vec<String> = Vec::new();
    let mut schema = Map::new();
    // Keys from the root to the line, each with its indentation.
    let mut at: Vec<(usize, String)> = Vec::new();
    // The indentation of the leaf whose lines these are.
    let mut within: Option<usize> = None;
    for line in text().lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.is_empty() {
            comment.clear();
            continue;
        }
        if within.is_some_and(|leaf| indent > leaf) {
            continue;
        }
        within = None;
        if let Some(heading) = content
            .strip_prefix("# == ")
            .and_then(|heading| heading.strip_suffix(" =="))
        {
            heading.clone_into(&mut section);
            continue;
        }
        if let Some(annotation) = content.strip_prefix("# @schema ") {
            schema = serde_yaml::from_str(annotation)
                .unwrap_or_else(|error| panic!("{annotation}: {error}"));
            continue;
        }
        if let Some(text) = content.strip_prefix('#') {
            comment.push(text.trim().to_owned());
            continue;
        }
        let (key, _) = content.split_once(':').unwrap();
        at.retain(|(outer, _)| *outer < indent);
        at.push((indent, key.to_owned()));
        let keys: Vec<&str> = at.iter().map(|(_, key)| key.as_str()).collect();
        let default = defaults
            .pointer(&format!("/{}", keys.join("/")))
            .unwrap()
            .clone();
        let is_node = schema.is_empty() && default.as_object().is_some_and(|map| !map.is_empty());
        if is_node {
            continue;
        }
        let path = keys.join(".");
        assert!(!comment.is_empty(), "{path} has no description");
        leaves.push(Leaf {
            path,
            default,
            description: std::mem::take(&mut comment).join(" "),
            schema: std::mem::take(&mut schema),
            section: section.clone(),
        });
        within = Some(indent);
    }
    leaves
}

/// `{a: {b: value}}` of `a.b`.
pub(crate) fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.')
        .fold(value, |inner, key| json!({ key: inner }))
}

/// Lays one set of values over another, as Helm does.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Every leaf of the defaults is a leaf of the comments, and the other way round.
#[test]
fn the_file_is_read_whole() {
    let mut rest = defaults();
    for leaf in leaves() {
        let (parent, key) = leaf.path.rsplit_once('.').unwrap_or(("", &leaf.path));
        let pointer = match parent {
            "" => String::new(),
            parent => format!("/{}", parent.replace('.', "/")),
        };
        rest.pointer_mut(&pointer)
            .and_then(Value::as_object_mut)
            .and_then(|parent| parent.remove(key))
            .unwrap_or_else(|| panic!("{} is there twice", leaf.path));
    }
    fn empty(value: &Value) -> bool {
        value.as_object().is_some_and(|map| map.values().all(empty))
    }
    assert!(empty(&rest), "not read: {rest:#}");
}
