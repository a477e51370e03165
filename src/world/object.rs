//! Kubernetes objects, stripped to what translation reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::key::{Kind, ObjectKey, ObjectName};
use super::owned_service::OwnedService;
use super::pod::PodId;
use super::status_mark::StatusMark;
use crate::api::{self, LoadBalancerSpec, LoadBalancerStatus};

/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The type of Secrets that hold a certificate and its key.
pub const TLS_SECRET: &str = "kubernetes.io/tls";

/// Annotations that are kept; all others are dropped on arrival.
fn is_relevant_annotation(key: &str) -> bool {
    key.starts_with("holdfast.dev/")
        || key == "kubernetes.io/ingress.class"
        || key == "ingressclass.kubernetes.io/is-default-class"
}

/// Metadata that translation reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Namespace and name.
    pub name: ObjectName,
    /// Creation time in seconds since the epoch; 0 where the source gives none (a file). It
    /// settles conflicts: the older object wins.
    pub created: i64,
    /// `metadata.generation`, 0 where there is none.
    pub generation: i64,
    /// `metadata.uid`, 0 where there is none (a file).
    pub uid: u128,
    /// Whether it is being deleted and lives only until its finalizers are done.
    pub is_deleting: bool,
    /// Annotations that mean something to us.
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Takes what is needed. A namespaced object without a namespace lives in `default`, as with
    /// `kubectl apply`; an object without a name gets an empty one, which no reference can reach.
    #[must_use]
    pub fn new(kind: Kind, meta: ObjectMeta) -> Self {
        let namespace = if kind.is_cluster_scoped() {
            String::new()
        } else {
            meta.namespace
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| "default".to_owned())
        };
        Self {
            name: ObjectName::new(namespace, meta.name.unwrap_or_default()),
            created: meta.creation_timestamp.map_or(0, |time| time.0.as_second()),
            generation: meta.generation.unwrap_or(0),
            uid: meta.uid.as_deref().map_or(0, parse_uid),
            is_deleting: meta.deletion_timestamp.is_some(),
            annotations: meta
                .annotations
                .unwrap_or_default()
                .into_iter()
                .filter(|(key, _)| is_relevant_annotation(key))
                .collect(),
        }
    }

    /// Sorts the older object first, then by namespace and name: who comes first wins a clash.
    #[must_use]
    pub fn seniority(&self) -> (i64, &ObjectName) {
        (self.created, &self.name)
    }
}

/// Uids are UUIDs (`metadata.uid`); another form counts as none.
pub(super) fn parse_uid(text: &str) -> u128 {
    let digits: String = text.chars().filter(|&digit| digit != '-').collect();
    if digits.len() == 32 {
        u128::from_str_radix(&digits, 16).unwrap_or(0)
    } else {
        0
    }
}

/// A uid in the form of the API; empty where there is none.
#[must_use]
pub fn format_uid(uid: u128) -> String {
    if uid == 0 {
        return String::new();
    }
    let hex = format!("{uid:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    )
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingress {
    /// Metadata.
    pub meta: Metadata,
    /// As declared.
    pub spec: networking::IngressSpec,
    /// What its status says.
    pub status: StatusMark,
}

impl Ingress {
    /// Whether another state of the object declares the same.
    #[must_use]
    pub fn is_declared_as(&self, other: &Self) -> bool {
        self.meta == other.meta && self.spec == other.spec
    }
}

/// An IngressClass.
#[derive(Clone, Debug, PartialEq)]
pub struct IngressClass {
    /// Metadata.
    pub meta: Metadata,
    /// As declared.
    pub spec: networking::IngressClassSpec,
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Metadata.
    pub meta: Metadata,
    /// `spec.type`, `ClusterIP` where absent.
    pub service_type: String,
    /// `spec.ports`.
    pub ports: Vec<core::ServicePort>,
    /// The rest, of a Service that a LoadBalancer owns.
    pub owned: Option<Box<OwnedService>>,
}

/// One EndpointSlice of a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Metadata,
    /// The Service it belongs to, by its label; a slice without the label serves nobody.
    pub service: Option<Arc<str>>,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Ports, by name.
    pub ports: Vec<discovery::EndpointPort>,
    /// Addresses and conditions.
    pub endpoints: Vec<SliceEndpoint>,
}

impl EndpointSlice {
    /// The pods that it names as terminating.
    pub fn terminating(&self) -> impl Iterator<Item = &Arc<PodId>> {
        self.endpoints
            .iter()
            .filter_map(|endpoint| endpoint.pod.as_ref())
    }
}

/// An entry of an EndpointSlice. All its addresses are the same pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The first address; consumers should use only this one (discovery/v1).
    pub address: String,
    /// `conditions.ready`; unknown counts as ready.
    pub ready: bool,
    /// `conditions.serving`; unknown falls back to `ready`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `targetRef`, of a pod that is terminating: only then anything more is asked of it.
    pub pod: Option<Arc<PodId>>,
}

/// A Secret. Only type `kubernetes.io/tls` keeps what it holds: nothing else is served from, and
/// what is not stored cannot leak. Others keep their name and type, so that a finding can say what
/// is wrong with a reference to one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Metadata.
    pub meta: Metadata,
    /// `type`.
    pub secret_type: String,
    /// `tls.crt`.
    pub certificate: Option<Vec<u8>>,
    /// `tls.key`.
    pub key: Option<Vec<u8>>,
}

/// Key material must not reach a log (P10).
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("meta", &self.meta)
            .field("secret_type", &self.secret_type)
            .finish_non_exhaustive()
    }
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Metadata.
    pub meta: Metadata,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
}

/// A `LoadBalancer` of `holdfast.dev/v1alpha1`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancer {
    /// Metadata.
    pub meta: Metadata,
    /// As declared.
    pub spec: LoadBalancerSpec,
    /// What became of it, as last written.
    pub status: LoadBalancerStatus,
    /// Whether it bears our finalizer.
    pub has_finalizer: bool,
}

impl LoadBalancer {
    /// Whether another state of the object comes to the same: target ports are read from the
    /// status, the rest of it is not.
    #[must_use]
    pub fn is_declared_as(&self, other: &Self) -> bool {
        let ports = |load_balancer: &Self| -> Vec<(String, Option<u16>)> {
            let listeners = load_balancer.status.listeners.iter();
            listeners
                .map(|listener| (listener.name.clone(), listener.target_port))
                .collect()
        };
        self.meta == other.meta
            && self.spec == other.spec
            && self.has_finalizer == other.has_finalizer
            && ports(self) == ports(other)
    }
}

/// Any object that is read.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the kind of its name")]
pub enum Object {
    EndpointSlice(Arc<EndpointSlice>),
    Ingress(Arc<Ingress>),
    IngressClass(Arc<IngressClass>),
    LoadBalancer(Arc<LoadBalancer>),
    Namespace(Arc<Namespace>),
    Secret(Arc<Secret>),
    Service(Arc<Service>),
}

impl Object {
    /// Kind, namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.kind(), self.meta().name.clone())
    }

    /// Kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Ingress(_) => Kind::Ingress,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::LoadBalancer(_) => Kind::LoadBalancer,
            Self::Namespace(_) => Kind::Namespace,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
        }
    }

    /// Metadata.
    #[must_use]
    pub fn meta(&self) -> &Metadata {
        match self {
            Self::EndpointSlice(object) => &object.meta,
            Self::Ingress(object) => &object.meta,
            Self::IngressClass(object) => &object.meta,
            Self::LoadBalancer(object) => &object.meta,
            Self::Namespace(object) => &object.meta,
            Self::Secret(object) => &object.meta,
            Self::Service(object) => &object.meta,
        }
    }
}

impl From<networking::Ingress> for Object {
    fn from(object: networking::Ingress) -> Self {
        let status = StatusMark::new(&object);
        let mut spec = object.spec.unwrap_or_default();
        // Decoders leave room for three more of each; at 10,000 Ingresses that is 7 MB.
        for rule in spec.rules.iter_mut().flatten() {
            if let Some(http) = &mut rule.http {
                http.paths.shrink_to_fit();
            }
        }
        if let Some(rules) = &mut spec.rules {
            rules.shrink_to_fit();
        }
        Self::Ingress(Arc::new(Ingress {
            meta: Metadata::new(Kind::Ingress, object.metadata),
            spec,
            status,
        }))
    }
}

impl From<networking::IngressClass> for Object {
    fn from(object: networking::IngressClass) -> Self {
        Self::IngressClass(Arc::new(IngressClass {
            meta: Metadata::new(Kind::IngressClass, object.metadata),
            spec: object.spec.unwrap_or_default(),
        }))
    }
}

impl From<core::Service> for Object {
    fn from(object: core::Service) -> Self {
        let owned = OwnedService::new(&object);
        let spec = object.spec.unwrap_or_default();
        Self::Service(Arc::new(Service {
            meta: Metadata::new(Kind::Service, object.metadata),
            service_type: spec.type_.unwrap_or_else(|| "ClusterIP".to_owned()),
            ports: spec.ports.unwrap_or_default(),
            owned,
        }))
    }
}

impl From<discovery::EndpointSlice> for Object {
    fn from(object: discovery::EndpointSlice) -> Self {
        let service = object
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME_LABEL))
            .map(|name| Arc::from(name.as_str()));
        let meta = Metadata::new(Kind::EndpointSlice, object.metadata);
        let namespace = &meta.name.namespace;
        let endpoints = object
            .endpoints
            .into_iter()
            .filter_map(|endpoint| {
                let conditions = endpoint.conditions.unwrap_or_default();
                let ready = conditions.ready.unwrap_or(true);
                let terminating = conditions.terminating.unwrap_or(false);
                let target = endpoint.target_ref.filter(|_| terminating);
                Some(SliceEndpoint {
                    address: endpoint.addresses.into_iter().next()?,
                    ready,
                    serving: conditions.serving.unwrap_or(ready),
                    terminating,
                    pod: target.and_then(|target| pod(namespace, target)),
                })
            })
            .collect();
        Self::EndpointSlice(Arc::new(EndpointSlice {
            meta,
            service,
            address_type: object.address_type,
            ports: object.ports.unwrap_or_default(),
            endpoints,
        }))
    }
}

/// The pod that an endpoint is. Pods of another namespace are none of the slice's (P10), nor is what
/// has no name that a pod can have: it is to become part of a path.
fn pod(namespace: &Arc<str>, target: core::ObjectReference) -> Option<Arc<PodId>> {
    let foreign = target.namespace.is_some_and(|name| *name != **namespace);
    let name = target.name?;
    if foreign || target.kind.as_deref() != Some("Pod") || !is_subdomain(&name) {
        return None;
    }
    Some(Arc::new(PodId {
        name: ObjectName::new(Arc::clone(namespace), name),
        uid: target.uid.as_deref().map_or(0, parse_uid),
    }))
}

/// Whether a name is made as a DNS subdomain is (RFC 1123, in small letters).
fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl From<core::Secret> for Object {
    fn from(object: core::Secret) -> Self {
        let secret_type = object.type_.unwrap_or_default();
        if secret_type != TLS_SECRET {
            return Self::Secret(Arc::new(Secret {
                meta: Metadata::new(Kind::Secret, object.metadata),
                secret_type,
                certificate: None,
                key: None,
            }));
        }
        let mut data = object.data.unwrap_or_default();
        // `stringData` is write-only at the API server; in a file nobody has merged it yet.
        for (key, value) in object.string_data.unwrap_or_default() {
            data.insert(key, ByteString(value.into_bytes()));
        }
        let mut take = |key| data.remove(key).map(|ByteString(bytes)| bytes);
        Self::Secret(Arc::new(Secret {
            meta: Metadata::new(Kind::Secret, object.metadata),
            secret_type,
            certificate: take("tls.crt"),
            key: take("tls.key"),
        }))
    }
}

impl From<core::Namespace> for Object {
    fn from(object: core::Namespace) -> Self {
        Self::Namespace(Arc::new(Namespace {
            labels: object.metadata.labels.clone().unwrap_or_default(),
            meta: Metadata::new(Kind::Namespace, object.metadata),
        }))
    }
}

impl From<api::LoadBalancer> for Object {
    fn from(object: api::LoadBalancer) -> Self {
        let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
        Self::LoadBalancer(Arc::new(LoadBalancer {
            has_finalizer: finalizers.iter().any(|name| name == api::FINALIZER),
            status: object.status.unwrap_or_default(),
            meta: Metadata::new(Kind::LoadBalancer, object.metadata),
            spec: object.spec,
        }))
    }
}
