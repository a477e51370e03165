//! The kinds that tests speak of, and where the API server has them.

use anyhow::{Context as _, Result};
use kube::api::ApiResource;
use kube::core::GroupVersionKind;

const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";

/// Kind, group, version, plural, whether it lives in a namespace.
const KINDS: [(&str, &str, &str, &str, bool); 24] = [
    ("ClusterRole", RBAC, "v1", "clusterroles", false),
    (
        "ClusterRoleBinding",
        RBAC,
        "v1",
        "clusterrolebindings",
        false,
    ),
    ("ConfigMap", "", "v1", "configmaps", true),
    (
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        false,
    ),
    ("DaemonSet", "apps", "v1", "daemonsets", true),
    ("Deployment", "apps", "v1", "deployments", true),
    (
        "EndpointSlice",
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        true,
    ),
    ("Event", "", "v1", "events", true),
    ("Ingress", NETWORKING, "v1", "ingresses", true),
    ("IngressClass", NETWORKING, "v1", "ingressclasses", false),
    ("Job", "batch", "v1", "jobs", true),
    ("Lease", "coordination.k8s.io", "v1", "leases", true),
    (
        "LoadBalancer",
        "holdfast.dev",
        "v1alpha1",
        "loadbalancers",
        true,
    ),
    ("Namespace", "", "v1", "namespaces", false),
    ("NetworkPolicy", NETWORKING, "v1", "networkpolicies", true),
    ("Node", "", "v1", "nodes", false),
    ("Pod", "", "v1", "pods", true),
    (
        "PodDisruptionBudget",
        "policy",
        "v1",
        "poddisruptionbudgets",
        true,
    ),
    ("ReplicaSet", "apps", "v1", "replicasets", true),
    ("Role", RBAC, "v1", "roles", true),
    ("RoleBinding", RBAC, "v1", "rolebindings", true),
    ("Secret", "", "v1", "secrets", true),
    ("Service", "", "v1", "services", true),
    ("ServiceAccount", "", "v1", "serviceaccounts", true),
];

/// Where the API server has the kind, and whether its objects live in a namespace.
///
/// # Errors
///
/// When the table lacks it.
pub(super) fn resource(kind: &str) -> Result<(ApiResource, bool)> {
    let (_, group, version, plural, is_namespaced) = KINDS
        .iter()
        .find(|entry| entry.0 == kind)
        .with_context(|| {
            format!("kind {kind:?} is not in the table of e2e/src/cluster/kinds.rs")
        })?;
    let kind = GroupVersionKind::gvk(group, version, kind);
    Ok((
        ApiResource::from_gvk_with_plural(&kind, plural),
        *is_namespaced,
    ))
}
