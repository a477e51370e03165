//! The CustomResourceDefinitions, generated from the types.

use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use super::LoadBalancer;

/// Why a definition could not be written; never in practice.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The generated definition is not JSON.
    #[error("the generated definition is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The generated definition cannot be written as YAML.
    #[error("the generated definition cannot be written as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// The CustomResourceDefinitions of our resources, as YAML; `crds/` holds this text.
///
/// # Errors
/// If the generated schema could not be written, which does not depend on any input.
pub fn crd_yaml() -> Result<String, CrdError> {
    Ok(serde_yaml::to_string(&crd_json()?)?)
}

/// The CustomResourceDefinition of `LoadBalancer`.
///
/// # Errors
/// As [`crd_yaml`].
pub fn crd_json() -> Result<Value, CrdError> {
    let mut crd = serde_json::to_value(LoadBalancer::crd())?;
    if let Some(versions) = crd
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
                schema["x-kubernetes-validations"] = json!([{
                    "rule": "!has(self.spec.exposure) || self.spec.exposure != 'Service' || size(self.metadata.name) <= 63",
                    "message": "the name of a load balancer that owns a Service has at most 63 characters, as it is a label of the Service",
                }]);
            }
        }
    }
    Ok(crd)
}

/// Says in the way of Kubernetes what the generator says in the way of Rust.
fn tidy(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    schema.remove("title");
    // Absent means the default; `null` need not be a third way of saying so.
    schema.remove("nullable");
    // Unsigned formats are unknown to the API server, which warns about them.
    if schema.get("type").is_some_and(|kind| kind == "integer") {
        schema.insert("format".to_owned(), "int32".into());
    }
    for bound in ["minimum", "maximum"] {
        let whole = schema.get(bound).and_then(Value::as_f64).and_then(|value| {
            // The bounds of the types are small whole numbers; others stay as they are.
            i32::try_from(value as i64)
                .ok()
                .filter(|whole| f64::from(*whole) == value)
        });
        if let Some(whole) = whole {
            schema.insert(bound.to_owned(), whole.into());
        }
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = unwrap_lines(text);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(values) = schema.get_mut(key) {
            tidy(values);
        }
    }
    schema
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(tidy);
}

/// Joins the lines of each paragraph: source code is wrapped, `kubectl explain` wraps itself.
fn unwrap_lines(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
