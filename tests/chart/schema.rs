//! `values.schema.json`: what `values.yaml` says, what Kubernetes' own types say, and what our
//! CRD says.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

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
    generator: SchemaGenerator,
    crd: BTreeMap<&'static str, Value>,
}

impl Default for References {
    fn default() -> Self {
        Self {
            generator: SchemaSettings::draft07().into_generator(),
            crd: crd(),
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
            Value::Array(items) => items.into_iter().map(|item| self.resolve(item)).collect(),
            other => other,
        }
    }

    fn target(&mut self, reference: &str) -> String {
        if let Some(kind) = reference.strip_prefix("k8s/") {
            let schema = self.kubernetes(kind);
            let reference = schema.get("$ref").and_then(Value::as_str).unwrap();
            return reference.replace("#/definitions/", "#/$defs/");
        }
        if let Some(part) = reference.strip_prefix("crd/") {
            assert!(self.crd.contains_key(part), "{reference} is not known");
        }
        reference.replace("crd/", "#/$defs/loadBalancer.")
    }

    fn kubernetes(&mut self, kind: &str) -> schemars::Schema {
        let of = &mut self.generator;
        match kind {
            "Affinity" => of.subschema_for::<core::Affinity>(),
            "EnvVar" => of.subschema_for::<core::EnvVar>(),
            "HorizontalPodAutoscalerBehavior" => {
                of.subschema_for::<HorizontalPodAutoscalerBehavior>()
            }
            "IngressClassParametersReference" => {
                of.subschema_for::<networking::IngressClassParametersReference>()
            }
            "LocalObjectReference" => of.subschema_for::<core::LocalObjectReference>(),
            "MetricSpec" => of.subschema_for::<MetricSpec>(),
            "NetworkPolicyPeer" => of.subschema_for::<networking::NetworkPolicyPeer>(),
            "PodSecurityContext" => of.subschema_for::<core::PodSecurityContext>(),
            "ResourceRequirements" => of.subschema_for::<core::ResourceRequirements>(),
            "SecurityContext" => of.subschema_for::<core::SecurityContext>(),
            "Toleration" => of.subschema_for::<core::Toleration>(),
            "TopologySpreadConstraint" => of.subschema_for::<core::TopologySpreadConstraint>(),
            other => panic!("k8s/{other} is not known; add it here"),
        }
    }

    fn definitions(mut self) -> Value {
        let mut definitions = own();
        for (name, schema) in self.generator.take_definitions(true) {
            let schema = match name.rsplit('.').next() {
                // Kubernetes takes numbers too.
                Some("Quantity") => json!({"type": ["string", "number"]}),
                Some("IntOrString") => json!({"type": ["string", "integer"]}),
                _ => strict(schema),
            };
            definitions.insert(name, schema);
        }
        for (name, schema) in self.crd {
            definitions.insert(format!("loadBalancer.{name}"), strict(schema));
        }
        Value::Object(definitions)
    }
}

/// The schema without words, and with no room for unknown fields.
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
                .map(|(key, value)| match value {
                    Value::String(text) if key == "$ref" => {
                        (key, text.replace("#/definitions/", "#/$defs/").into())
                    }
                    value => (key, strict(value)),
                })
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
