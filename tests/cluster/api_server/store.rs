//! Objects, their versions, and what has happened to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// Kinds whose objects live outside of namespaces.
const CLUSTER_SCOPED: [&str; 6] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "Namespace",
    "Node",
];

/// Resource, namespace (empty for those without) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub resource: String,
    pub namespace: String,
    pub name: String,
}

/// Something that has happened to an object.
#[derive(Clone, Debug)]
pub struct Event {
    pub version: u64,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub sort: &'static str,
    pub key: Key,
    pub object: Arc<Value>,
    /// The object before, by which selectors decide.
    pub before: Option<Arc<Value>>,
}

/// See the module.
#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    history: Vec<Event>,
    version: u64,
    /// History up to here is forgotten.
    compacted: u64,
    uids: u64,
    watches: BTreeMap<String, usize>,
}

/// The resource of a kind.
pub fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    }
}

impl Key {
    pub fn find(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: plural(kind),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn of(object: &Value) -> Self {
        let kind = object["kind"].as_str().expect("a kind");
        let namespace = if CLUSTER_SCOPED.contains(&kind) {
            ""
        } else {
            object["metadata"]["namespace"]
                .as_str()
                .unwrap_or("default")
        };
        let name = object["metadata"]["name"].as_str().expect("a name");
        Self::find(kind, namespace, name)
    }
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    pub fn compact(&mut self) {
        // What is there now still has to be watched from somewhere newer.
        self.version += 1;
        self.compacted = self.version;
        self.history.clear();
    }

    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Objects of a resource, in all namespaces or in one, in order.
    pub fn of<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let first = Key {
            resource: resource.to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            key.resource == resource && namespace.is_none_or(|namespace| key.namespace == namespace)
        })
    }

    /// What has happened after a version.
    pub fn events_after(&self, version: u64) -> &[Event] {
        let start = self
            .history
            .partition_point(|event| event.version <= version);
        &self.history[start..]
    }

    /// Creates or replaces an object. One that says the same as before keeps its version.
    pub fn put(&mut self, mut object: Value) -> Value {
        let key = Key::of(&object);
        let before = self.objects.get(&key).cloned();
        let meta = object["metadata"].as_object_mut().expect("metadata");
        if !key.namespace.is_empty() {
            meta.insert("namespace".to_owned(), json!(key.namespace));
        }
        for field in ["uid", "creationTimestamp", "resourceVersion", "generation"] {
            let kept = before
                .as_ref()
                .map(|before| before["metadata"][field].clone());
            match kept {
                Some(value) => drop(meta.insert(field.to_owned(), value)),
                None if field == "uid" => {
                    self.uids += 1;
                    let uid = format!("00000000-0000-4000-8000-{:012x}", self.uids);
                    meta.entry(field).or_insert(json!(uid));
                }
                None if field == "creationTimestamp" => {
                    meta.entry(field).or_insert(json!("2026-01-01T00:00:00Z"));
                }
                None if field == "generation" => drop(meta.insert(field.to_owned(), json!(1))),
                None => {}
            }
        }
        if let Some(before) = &before {
            if **before == object {
                return object;
            }
            if before["spec"] != object["spec"] {
                let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
                object["metadata"]["generation"] = json!(generation);
            }
        }
        // A pod is there until its grace period ends.
        let meta = &object["metadata"];
        let is_deleted = meta["deletionTimestamp"].is_string()
            && meta["deletionGracePeriodSeconds"].as_u64().unwrap_or(0) == 0
            && finalizers(&object).is_empty();
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let stored = Arc::new(object);
        let sort = match (&before, is_deleted) {
            (_, true) => "DELETED",
            (Some(_), false) => "MODIFIED",
            (None, false) => "ADDED",
        };
        if is_deleted {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key.clone(), Arc::clone(&stored));
        }
        self.history.push(Event {
            version: self.version,
            sort,
            key,
            object: Arc::clone(&stored),
            before,
        });
        (*stored).clone()
    }

    /// Deletes an object: at once, or when its finalizers have gone. `None` where there is none.
    pub fn delete(&mut self, key: &Key) -> Option<Value> {
        let object = self.objects.get(key)?;
        if finalizers(object).is_empty() {
            let gone = (**object).clone();
            self.erase(key);
            return Some(gone);
        }
        let mut object = (**object).clone();
        let meta = object["metadata"].as_object_mut()?;
        meta.entry("deletionTimestamp")
            .or_insert(json!("2026-01-02T00:00:00Z"));
        Some(self.put(object))
    }

    /// Removes an object at once; `false` where there is none.
    pub fn erase(&mut self, key: &Key) -> bool {
        let Some(before) = self.objects.remove(key) else {
            return false;
        };
        self.version += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push(Event {
            version: self.version,
            sort: "DELETED",
            key: key.clone(),
            object: Arc::new(last),
            before: Some(before),
        });
        true
    }

    pub fn watch_opened(&mut self, resource: &str) {
        *self.watches.entry(resource.to_owned()).or_default() += 1;
    }

    pub fn watch_ended(&mut self, resource: &str) {
        *self.watches.entry(resource.to_owned()).or_default() -= 1;
    }

    pub fn open_watches(&self, resource: &str) -> usize {
        self.watches.get(resource).copied().unwrap_or_default()
    }
}

fn finalizers(object: &Value) -> &[Value] {
    object["metadata"]["finalizers"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}
