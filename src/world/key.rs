//! Names of objects.

use std::fmt;
use std::sync::Arc;

/// The kinds that Holdfast reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `discovery.k8s.io/v1`
    EndpointSlice,
    /// `networking.k8s.io/v1`
    Ingress,
    /// `networking.k8s.io/v1`, cluster-scoped
    IngressClass,
    /// `holdfast.dev/v1alpha1`
    LoadBalancer,
    /// `v1`, cluster-scoped
    Namespace,
    /// `v1`
    Secret,
    /// `v1`
    Service,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::EndpointSlice,
        Self::Ingress,
        Self::IngressClass,
        Self::LoadBalancer,
        Self::Namespace,
        Self::Secret,
        Self::Service,
    ];

    /// The kind's name as in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSlice",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::LoadBalancer => "LoadBalancer",
            Self::Namespace => "Namespace",
            Self::Secret => "Secret",
            Self::Service => "Service",
        }
    }

    /// Whether objects of this kind live outside namespaces.
    #[must_use]
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::IngressClass | Self::Namespace)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Namespace and name; the namespace of cluster-scoped objects is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Namespace, or empty.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// From its two parts.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
}

impl ObjectKey {
    /// From its parts.
    #[must_use]
    pub fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
