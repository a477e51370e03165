//! `crds/` holds what the types say.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use holdfast::api;

/// `UPDATE_CRDS=1 cargo test --test crd` writes the file.
#[test]
fn crds_are_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/loadbalancer.yaml");
    let generated = api::crd_yaml().unwrap();
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        held, generated,
        "crds/loadbalancer.yaml is out of date; run UPDATE_CRDS=1 cargo test --test crd"
    );
}

/// What a structural schema must not have (apiextensions.k8s.io/v1).
#[test]
fn the_schema_is_structural() {
    let crd: serde_json::Value = serde_yaml::from_str(&api::crd_yaml().unwrap()).unwrap();
    let schema = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema")
        .unwrap();
    assert_structural(schema, "");
}

fn assert_structural(schema: &serde_json::Value, at: &str) {
    let fields = schema.as_object().unwrap();
    for key in fields.keys() {
        let known = [
            "additionalProperties",
            "default",
            "description",
            "enum",
            "format",
            "items",
            "maxItems",
            "maxLength",
            "maxProperties",
            "maximum",
            "minItems",
            "minLength",
            "minimum",
            "pattern",
            "properties",
            "required",
            "type",
        ];
        assert!(
            known.contains(&key.as_str()) || key.starts_with("x-kubernetes-"),
            "{at}: {key}"
        );
    }
    assert!(
        fields.contains_key("type") || fields.contains_key("x-kubernetes-int-or-string"),
        "{at} has no type"
    );
    if !at.ends_with("[]") {
        assert!(fields.contains_key("description"), "{at} is not described");
    }
    if let Some(items) = fields.get("items") {
        assert!(fields.contains_key("maxItems"), "{at} has no bound");
        assert_structural(items, &format!("{at}[]"));
    }
    if let Some(values) = fields.get("additionalProperties") {
        assert!(fields.contains_key("maxProperties"), "{at} has no bound");
        assert_structural(values, &format!("{at}[]"));
    }
    if let Some(properties) = fields.get("properties") {
        for (name, schema) in properties.as_object().unwrap() {
            assert_structural(schema, &format!("{at}.{name}"));
        }
    }
}
