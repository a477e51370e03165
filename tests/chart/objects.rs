//! What is rendered is what Kubernetes reads: each object decodes into its type and back unchanged.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::helm;

/// Fails unless the object is of a known type, and says nothing that the type does not know.
pub(crate) fn assert_typed(object: &Value, context: &str) {
    let kind = object["kind"].as_str().unwrap();
    let version = object["apiVersion"].as_str().unwrap();
    let back = match (version, kind) {
        ("v1", "Namespace") => back::<Namespace>(object),
        ("v1", "Service") => back::<Service>(object),
        ("v1", "ServiceAccount") => back::<ServiceAccount>(object),
        ("apps/v1", "DaemonSet") => back::<DaemonSet>(object),
        ("apps/v1", "Deployment") => back::<Deployment>(object),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => back::<HorizontalPodAutoscaler>(object),
        ("batch/v1", "Job") => back::<Job>(object),
        ("networking.k8s.io/v1", "Ingress") => back::<Ingress>(object),
        ("networking.k8s.io/v1", "IngressClass") => back::<IngressClass>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => back::<NetworkPolicy>(object),
        ("policy/v1", "PodDisruptionBudget") => back::<PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => back::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            back::<ClusterRoleBinding>(object)
        }
        ("rbac.authorization.k8s.io/v1", "Role") => back::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => back::<RoleBinding>(object),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
            back::<CustomResourceDefinition>(object)
        }
        ("holdfast.dev/v1alpha1", "LoadBalancer") => back::<holdfast::api::LoadBalancer>(object),
        ("monitoring.coreos.com/v1", "ServiceMonitor" | "PrometheusRule") => {
            back::<Monitoring>(object)
        }
        other => panic!("{context}: an object of an unknown type: {other:?}"),
    };
    let back = back.unwrap_or_else(|error| panic!("{context}: {kind}: {error}"));
    let name = &object["metadata"]["name"];
    if let Some(difference) = difference(object, &back, "") {
        panic!("{context}: {kind} {name} comes back otherwise: {difference}");
    }
}

/// Where two values differ first. 1 and 1.0 are the same number.
fn difference(before: &Value, after: &Value, at: &str) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let fields: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            fields.into_iter().find_map(|field| {
                let at = format!("{at}.{field}");
                match (before.get(field), after.get(field)) {
                    (Some(before), Some(after)) => difference(before, after, &at),
                    (before, _) if before.is_some() => Some(format!("{at} is lost")),
                    _ => Some(format!("{at} is added")),
                }
            })
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => before
            .iter()
            .zip(after)
            .enumerate()
            .find_map(|(index, (before, after))| {
                difference(before, after, &format!("{at}[{index}]"))
            }),
        (Value::Number(before), Value::Number(after)) if before.as_f64() == after.as_f64() => None,
        (before, after) if before == after => None,
        (before, after) => Some(format!("{at} is {before} and becomes {after}")),
    }
}

fn back<T: DeserializeOwned + Serialize>(object: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(object.clone())?)
}

/// The Prometheus operator's objects, as far as the chart makes them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Monitoring {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: MonitoringSpec,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
enum MonitoringSpec {
    Monitor {
        namespace_selector: NamespaceSelector,
        selector: LabelSelector,
        endpoints: Vec<MonitorEndpoint>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        target_labels: Vec<String>,
    },
    Rules {
        groups: Vec<RuleGroup>,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamespaceSelector {
    match_names: Vec<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MonitorEndpoint {
    port: String,
    path: String,
    interval: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relabelings: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metric_relabelings: Vec<Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RuleGroup {
    name: String,
    rules: Vec<BTreeMap<String, Value>>,
}

/// A release name of 53 letters is what Helm allows, and 63 what Kubernetes does for most names.
#[test]
fn long_names_stay_within_bounds() {
    for overrides in [
        "{}",
        "fullnameOverride: abcdefghij-abcdefghij-abcdefghij-abcdefghij-abcdefghi",
    ] {
        let mut values: Value = serde_yaml::from_str(overrides).unwrap();
        super::values::merge(
            &mut values,
            serde_yaml::from_str(super::goldens::EVERYTHING).unwrap(),
        );
        let mut rendering = helm::Rendering::of(values);
        rendering.release = "r2345678901234567890123456789012345678901234567890123".to_owned();
        let objects = rendering.objects();
        assert!(objects.len() > 15);
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(name.len() <= 63, "{name}");
            assert!(!name.ends_with('-'), "{name}");
            let labels = object["metadata"]["labels"].as_object().unwrap();
            for (label, value) in labels {
                assert!(value.as_str().unwrap().len() <= 63, "{label}: {value}");
            }
            let namespaced = object["metadata"].get("namespace").is_some();
            let kind = object["kind"].as_str().unwrap();
            assert_eq!(
                namespaced,
                !(kind.starts_with("Cluster") || kind == "IngressClass"),
                "{kind}"
            );
        }
    }
}

/// Two releases share a namespace: nothing of the one has a name of the other, or selects its pods.
#[test]
fn releases_do_not_meet() {
    let of = |release: &str| {
        let mut rendering = helm::with(
            "controller: {ingressClassResource: {enabled: false}, metrics: {enabled: true}}",
        );
        rendering.release = release.to_owned();
        rendering.objects()
    };
    let names = |objects: &[Value]| -> Vec<String> {
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        objects.iter().map(name).collect()
    };
    let (blue, green) = (of("blue"), of("green"));
    let of_blue = names(&blue);
    assert!(names(&green).iter().all(|name| !of_blue.contains(name)));
    let deployment = helm::find(&blue, "Deployment", "blue-holdfast").unwrap();
    let service = helm::find(&green, "Service", "green-holdfast-peers").unwrap();
    let pods = &deployment["spec"]["template"]["metadata"]["labels"];
    let selector = service["spec"]["selector"].as_object().unwrap();
    assert!(selector.iter().any(|(label, value)| pods[label] != *value));
}
