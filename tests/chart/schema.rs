//! `values.schema.json`: what `values.yaml` says, what Kubernetes' own types say, and what our
//! CRD says.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use serde_json::{Map, Value, json};

use super::trace::schema_of;
use super::values::{Leaf, leaves};

const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
const PROMETHEUS_DURATION: &str = "^([0-9]+(ms|s|m|h|d|w|y))+$";

/// The whole schema.
pub(crate) fn schema() -> Value {
    let mut references = References::default();
    let mut root = object();
    for leaf in leaves() {
        let mut place = &mut root;
        let (parents, key) = leaf.path.rsplit_once('.').unwrap_or(("", &leaf.path));
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            place = place["properties"]
                .as_object_mut()
                .unwrap()
                .entry(parent)
                .or_insert_with(object);
        }
        place["properties"][key] = references.resolve(of_leaf(&leaf));
    }
    // Shared by all charts of a parent chart.
    root["properties"]["global"]["additionalProperties"] = json!(true);
    root["properties"]["global"]["properties"]["image"]["additionalProperties"] = json!(true);
    root["properties"]["enabled"] = json!({
        "description": "Not read: for the `condition` of a parent chart.",
        "type": "boolean",
    });
    let mut whole = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Holdfast chart",
    });
    let whole_fields = whole.as_object_mut().unwrap();
    whole_fields.extend(root.as_object().unwrap().clone());
    whole["$defs"] = references.definitions();
    whole
}

fn object() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

/// The annotation, with the type of the default and the description.
fn of_leaf(leaf: &Leaf) -> Value {
    let mut schema = leaf.schema.clone();
    if !["type", "$ref", "anyOf", "enum"]
        .iter()
        .any(|key| schema.contains_key(*key))
    {
        let kind = match &leaf.default {
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Null => panic!("{} has no default, so its @schema needs a type", leaf.path),
        };
        schema.insert("type".to_owned(), kind.into());
    }
    let bounded = ["$ref", "additionalProperties"]
        .iter()
        .any(|key| schema.contains_key(*key));
    assert!(
        schema.get("type").is_none_or(|kind| kind != "object") || bounded,
        "{} takes anything; say what in its @schema",
        leaf.path
    );
    let bounded = schema.contains_key("items");
    assert!(
        schema.get("type").is_none_or(|kind| kind != "array") || bounded,
        "{} takes a list of anything; say of what in its @schema",
        leaf.path
    );
    schema.insert("description".to_owned(), leaf.description.clone().into());
    Value::Object(schema)
}

/// Gathers the definitions that annotations refer to.
struct References {
    crd: BTreeMap<&'static str, Value>,
    definitions: Map<String, Value>,
}

impl Default for References {
    fn default() -> Self {
        Self {
            crd: crd(),
            definitions: own(),
        }
    }
}

impl References {
    /// Replaces `k8s/…` and `crd/…`.
    fn resolve(&mut self, schema: Value) -> Value {
        match schema {
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, value)| {
                    let value = match value.as_str().filter(|_| key == "$ref") {
                        Some(target) => self.target(target).into(),
                        None => self.resolve(value),
                    };
                    (key, value)
                })
                .collect(),
            other => other,
        }
    }

    fn target(&mut self, reference: &str) -> String {
        let (name, definition) = if let Some(kind) = reference.strip_prefix("k8s/") {
            (kind.to_owned(), kubernetes(kind))
        } else if let Some(part) = reference.strip_prefix("crd/") {
            (
                format!("loadBalancer.{part}"),
                strict(self.crd[part].clone()),
            )
        } else {
            return reference.to_owned();
        };
        let target = format!("#/$defs/{name}");
        self.definitions.insert(name, definition);
        target
    }

    fn definitions(self) -> Value {
        Value::Object(self.definitions)
    }
}

/// Types of Kubernetes that values have.
fn kubernetes(kind: &str) -> Value {
    match kind {
        "Affinity" => schema_of::<core::Affinity>(),
        "EnvVar" => schema_of::<core::EnvVar>(),
        "HorizontalPodAutoscalerBehavior" => schema_of::<HorizontalPodAutoscalerBehavior>(),
        "IngressClassParametersReference" => {
            schema_of::<networking::IngressClassParametersReference>()
        }
        "LocalObjectReference" => schema_of::<core::LocalObjectReference>(),
        "MetricSpec" => schema_of::<MetricSpec>(),
        "NetworkPolicyPeer" => schema_of::<networking::NetworkPolicyPeer>(),
        "PodSecurityContext" => schema_of::<core::PodSecurityContext>(),
        "ResourceRequirements" => schema_of::<core::ResourceRequirements>(),
        "SecurityContext" => schema_of::<core::SecurityContext>(),
        "Toleration" => schema_of::<core::Toleration>(),
        "TopologySpreadConstraint" => schema_of::<core::TopologySpreadConstraint>(),
        other => panic!("k8s/{other} is not known; add it here"),
    }
}

/// A schema of the CRD without words, and with no room for unknown fields.
fn strict(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let either = fields.get("x-kubernetes-int-or-string") == Some(&json!(true));
            let closed = fields.contains_key("properties");
            // A field of that name is a schema; the keyword has a text.
            let keyword = |key: &str, value: &Value| match key {
                "description" | "title" | "format" => value.is_string(),
                _ => key.starts_with("x-kubernetes-"),
            };
            let mut strict: Map<String, Value> = fields
                .into_iter()
                .filter(|(key, value)| !keyword(key, value))
                .map(|(key, value)| (key, strict(value)))
                .collect();
            if either {
                strict.insert("type".to_owned(), json!(["integer", "string"]));
            }
            if closed {
                strict
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
            Value::Object(strict)
        }
        Value::Array(items) => items.into_iter().map(strict).collect(),
        other => other,
    }
}

/// Parts of the LoadBalancer's schema, named after what they are for.
fn crd() -> BTreeMap<&'static str, Value> {
    let crd: Value = serde_yaml::from_str(&holdfast::api::crd_yaml().unwrap()).unwrap();
    let spec = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .unwrap();
    let listener = spec.pointer("/properties/listeners/items").unwrap();
    let without = |schema: &Value, names: &[&str]| {
        let mut schema = schema.clone();
        let fields = schema.as_object_mut().unwrap();
        fields.remove("required");
        fields["properties"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !names.contains(&name.as_str()));
        schema
    };
    BTreeMap::from([
        ("listener", without(listener, &["name", "port", "protocol"])),
        ("listeners", listener.clone()),
        ("spec", without(spec, &["exposure", "service", "listeners"])),
    ])
}

/// Definitions of our own.
fn own() -> Map<String, Value> {
    let seconds = json!({"type": "integer", "minimum": 1});
    let count = json!({
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": "^[0-9]{1,3}%$"},
            {"type": "null"},
        ],
    });
    let text = json!({"type": "string", "minLength": 1});
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let prometheus_duration = json!({"type": "string", "pattern": PROMETHEUS_DURATION});
    let closed = |properties: Value| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        })
    };
    let probe = json!({
        "initialDelaySeconds": {"type": "integer", "minimum": 0},
        "periodSeconds": seconds,
        "timeoutSeconds": seconds,
        "failureThreshold": seconds,
    });
    // Kubernetes takes no other than 1 for the others.
    let mut readiness_probe = probe.clone();
    readiness_probe["successThreshold"] = seconds;
    let definitions = json!({
        "count": count,
        "duration": {"type": "string", "pattern": DURATION},
        "probe": closed(probe),
        "prometheusDuration": prometheus_duration,
        "prometheusDurationOrEmpty": {"anyOf": [{"const": ""}, prometheus_duration]},
        "prometheusRule": closed(json!({
            "alert": text,
            "annotations": strings,
            "expr": text,
            "for": prometheus_duration,
            "keep_firing_for": prometheus_duration,
            "labels": strings,
            "record": text,
        })),
        "readinessProbe": closed(readiness_probe),
        "relabeling": closed(json!({
            "action": text,
            "modulus": {"type": "integer", "minimum": 0},
            "regex": {"type": "string"},
            "replacement": {"type": "string"},
            "separator": {"type": "string"},
            "sourceLabels": {"type": "array", "items": text},
            "targetLabel": text,
        })),
        "strings": strings,
        "updateStrategy": closed(json!({
            "type": {"enum": ["RollingUpdate", "Recreate", "OnDelete"]},
            "rollingUpdate": closed(json!({"maxSurge": count, "maxUnavailable": count})),
        })),
    });
    match definitions {
        Value::Object(definitions) => definitions,
        _ => unreachable!("it is an object"),
    }
}
