//! Everything that Holdfast asks of the API server, as data.
//!
//! The chart's roles grant this and nothing more; tests compare the table with the chart, and with
//! the requests that are really made.

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// On objects that have no namespace. Not asked for where `--namespace` limits the watch.
    Cluster,
    /// In every namespace that is watched: all, or those of `--namespace`.
    Watched,
    /// In the controller's own namespace.
    Own,
}

/// What may be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Where.
    pub scope: Scope,
    /// The API group; empty for the first one.
    pub group: &'static str,
    /// The resource, with its subresource after a slash.
    pub resource: &'static str,
    /// The verbs, sorted.
    pub verbs: &'static [&'static str],
}

const fn permission(
    scope: Scope,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Permission {
    Permission {
        scope,
        group,
        resource,
        verbs,
    }
}

/// What `holdfast run` and `holdfast uninstall` ask for; both run under one ServiceAccount.
pub const PERMISSIONS: &[Permission] = &[
    permission(Scope::Cluster, "", "namespaces", &["list", "watch"]),
    permission(
        Scope::Cluster,
        "networking.k8s.io",
        "ingressclasses",
        &["list", "watch"],
    ),
    // One at a time, for when a pod ends that is terminating.
    permission(Scope::Watched, "", "pods", &["get"]),
    permission(Scope::Watched, "", "secrets", &["list", "watch"]),
    permission(Scope::Watched, "", "services", &["list", "watch"]),
    permission(
        Scope::Watched,
        "discovery.k8s.io",
        "endpointslices",
        &["list", "watch"],
    ),
    permission(
        Scope::Watched,
        "networking.k8s.io",
        "ingresses",
        &["list", "watch"],
    ),
    permission(
        Scope::Watched,
        "networking.k8s.io",
        "ingresses/status",
        &["patch"],
    ),
    // Patched for the finalizer.
    permission(
        Scope::Watched,
        "holdfast.dev",
        "loadbalancers",
        &["list", "patch", "watch"],
    ),
    permission(
        Scope::Watched,
        "holdfast.dev",
        "loadbalancers/status",
        &["patch"],
    ),
    permission(
        Scope::Watched,
        "events.k8s.io",
        "events",
        &["create", "patch"],
    ),
    // The owned Services, and the addresses of the other replicas.
    permission(
        Scope::Own,
        "",
        "services",
        &["create", "delete", "list", "patch", "watch"],
    ),
    permission(
        Scope::Own,
        "discovery.k8s.io",
        "endpointslices",
        &["list", "watch"],
    ),
    permission(
        Scope::Own,
        "coordination.k8s.io",
        "leases",
        &["create", "delete", "get", "patch", "update"],
    ),
];

/// What `holdfast crd --apply` asks for.
pub const CRD_PERMISSIONS: &[Permission] = &[permission(
    Scope::Cluster,
    "apiextensions.k8s.io",
    "customresourcedefinitions",
    &["create", "get", "patch"],
)];
