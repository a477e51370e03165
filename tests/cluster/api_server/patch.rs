//! Merge patches (RFC 7386), and server-side apply in a simple form.

use serde_json::{Map, Value, json};

/// Merges a patch into a value: `null` removes, objects merge, everything else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Who applies what.
pub struct Application<'a> {
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub force: bool,
    pub fields: &'a Value,
}

/// Applies fields: what the manager applied before and does not now is removed, and another
/// manager's value is a conflict unless it is forced. Lists are atomic. Returns the path of the
/// field in conflict.
pub fn apply(object: &mut Value, application: &Application<'_>) -> Result<(), String> {
    let Application {
        manager,
        subresource,
        force,
        ..
    } = application;
    let mut fields = application.fields.clone();
    let entries = object["metadata"]["managedFields"].take();
    let mut entries: Vec<Value> = entries.as_array().cloned().unwrap_or_default();
    for name in ["apiVersion", "kind"] {
        fields.as_object_mut().unwrap().remove(name);
    }
    if let Some(meta) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in [
            "name",
            "namespace",
            "resourceVersion",
            "uid",
            "managedFields",
        ] {
            meta.remove(name);
        }
        if meta.is_empty() {
            fields.as_object_mut().unwrap().remove("metadata");
        }
    }
    let is_ours = |entry: &Value| {
        entry["manager"] == *manager
            && entry["subresource"].as_str().unwrap_or_default() == *subresource
            && entry["operation"] == "Apply"
    };
    let mut new = Vec::new();
    leaves(&fields, String::new(), &mut new);
    for entry in entries.iter_mut().filter(|entry| !is_ours(entry)) {
        let owned = entry["fieldsV1"].as_object_mut().unwrap();
        for (path, value) in &new {
            if owned.contains_key(path) && object.pointer(path) != Some(value) {
                if !force {
                    return Err(path.clone());
                }
                owned.remove(path);
            }
        }
    }
    let before = entries.iter().position(is_ours);
    if let Some(entry) = before.map(|index| entries.remove(index)) {
        for path in entry["fieldsV1"].as_object().unwrap().keys() {
            let shared = entries
                .iter()
                .any(|other| other["fieldsV1"].get(path).is_some());
            if !shared && !new.iter().any(|(kept, _)| kept == path) {
                remove(object, path);
            }
        }
    }
    merge(object, &fields);
    let owned: Map<String, Value> = new.into_iter().map(|(path, _)| (path, json!({}))).collect();
    let mut entry = json!({
        "manager": manager,
        "operation": "Apply",
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
    });
    if !subresource.is_empty() {
        entry["subresource"] = json!(subresource);
    }
    entries.push(entry);
    object["metadata"]["managedFields"] = Value::Array(entries);
    Ok(())
}

/// JSON pointers of everything that is no object, and of empty objects.
fn leaves(value: &Value, path: String, found: &mut Vec<(String, Value)>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{path}/{name}"), found);
            }
        }
        _ => found.push((path, value.clone())),
    }
}

fn remove(object: &mut Value, path: &str) {
    let Some((parent, name)) = path.rsplit_once('/') else {
        return;
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    if let Some(fields) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        fields.remove(&name);
    }
}
