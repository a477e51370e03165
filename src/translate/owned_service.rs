//! The Service that a LoadBalancer owns: what it should be, and whether it still is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::stable_hash::stable_hash;
use crate::api::{self, ServiceTemplate};
use crate::routing::Listener;
use crate::world::{LoadBalancer, ObjectName, OwnedService};

/// Annotation: a hash of all that we declare. Where it differs, something that we declared is no
/// longer wanted, which no comparison with the Service itself could tell from what others added.
const HASH_ANNOTATION: &str = "holdfast.dev/declared";
/// Names of Services are DNS labels (RFC 1035).
const MAX_NAME: usize = 63;

/// Where the controller's pods are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// Their namespace, and that of all owned Services.
    pub namespace: String,
    /// Labels that only they have.
    pub selector: BTreeMap<String, String>,
}

/// The name of the Service that a LoadBalancer owns: readable, and unlike that of any other, as
/// LoadBalancers of many namespaces have theirs in one.
#[must_use]
pub fn owned_service_name(owner: &ObjectName, namespace: &str) -> ObjectName {
    let hash = stable_hash([&*owner.namespace, &*owner.name]);
    let hash = format!("-{:08x}", hash & 0xffff_ffff);
    // A name of a LoadBalancer may begin with a digit and contain dots; one of a Service may not.
    let readable: String = std::iter::once("lb-".to_owned())
        .chain([owner.name.replace('.', "-")])
        .collect::<String>()
        .chars()
        .take(MAX_NAME - hash.len())
        .collect();
    ObjectName::new(namespace, format!("{readable}{hash}"))
}

/// The Service that a LoadBalancer should own. `None` without a listener that is open: a Service
/// needs a port.
#[must_use]
pub fn owned_service<'a>(
    load_balancer: &LoadBalancer,
    listeners: impl Iterator<Item = &'a Listener>,
    pods: &Pods,
) -> Option<Service> {
    let default = ServiceTemplate::default();
    let template = load_balancer.spec.service.as_ref().unwrap_or(&default);
    let ports: Vec<ServicePort> = listeners
        .map(|listener| ServicePort {
            name: Some(listener.id.name.to_string()),
            port: i32::from(listener.port),
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::Int(i32::from(listener.target_port))),
            node_port: template
                .node_ports
                .get(&*listener.id.name)
                .map(|port| i32::from(*port)),
            app_protocol: None,
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    let service_type = template
        .service_type
        .unwrap_or(api::ServiceType::LoadBalancer);
    let is_external = service_type != api::ServiceType::ClusterIp;
    let spec = ServiceSpec {
        type_: Some(service_type.as_str().to_owned()),
        selector: Some(pods.selector.clone()),
        ports: Some(ports),
        external_traffic_policy: template
            .external_traffic_policy
            .filter(|_| is_external)
            .map(|policy| policy.as_str().to_owned()),
        load_balancer_class: template.load_balancer_class.clone(),
        load_balancer_source_ranges: (!template.load_balancer_source_ranges.is_empty())
            .then(|| template.load_balancer_source_ranges.clone()),
        ip_family_policy: template
            .ip_family_policy
            .map(|policy| policy.as_str().to_owned()),
        ip_families: (!template.ip_families.is_empty()).then(|| {
            let families = template.ip_families.iter();
            families.map(|family| family.as_str().to_owned()).collect()
        }),
        ..ServiceSpec::default()
    };
    let owner = &load_balancer.meta.name;
    let mut labels = template.labels.clone();
    for (key, value) in [
        ("app.kubernetes.io/managed-by", "holdfast"),
        (api::OWNER_NAMESPACE_LABEL, &*owner.namespace),
        (api::OWNER_NAME_LABEL, &*owner.name),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let mut annotations = template.annotations.clone();
    annotations.remove(HASH_ANNOTATION);
    let hash = hash(&labels, &annotations, &spec);
    annotations.insert(HASH_ANNOTATION.to_owned(), hash);
    let name = owned_service_name(owner, &pods.namespace);
    Some(Service {
        metadata: ObjectMeta {
            name: Some(name.name.to_string()),
            namespace: Some(name.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

fn hash(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    spec: &ServiceSpec,
) -> String {
    // Plain data, whose JSON cannot fail.
    let text = serde_json::to_string(&(labels, annotations, spec)).unwrap_or_default();
    format!("{:016x}", stable_hash([&*text]))
}

/// Whether the Service is as it should be. What others have added is theirs.
#[must_use]
pub fn is_as_declared(declared: &Service, actual: &OwnedService) -> bool {
    let (Some(wanted), Some(labels), Some(annotations)) = (
        &declared.spec,
        &declared.metadata.labels,
        &declared.metadata.annotations,
    ) else {
        return false;
    };
    let spec = &actual.spec;
    let contains = |all: &BTreeMap<String, String>, part: &BTreeMap<String, String>| {
        part.iter().all(|(key, value)| all.get(key) == Some(value))
    };
    contains(&actual.labels, labels)
        && contains(&actual.annotations, annotations)
        && spec.type_ == wanted.type_
        && spec.selector == wanted.selector
        && has_ports(spec, wanted)
        && is_set(
            &wanted.external_traffic_policy,
            &spec.external_traffic_policy,
        )
        && is_set(&wanted.load_balancer_class, &spec.load_balancer_class)
        && is_set(
            &wanted.load_balancer_source_ranges,
            &spec.load_balancer_source_ranges,
        )
        && is_set(&wanted.ip_family_policy, &spec.ip_family_policy)
        && is_set(&wanted.ip_families, &spec.ip_families)
}

/// What is not declared is Kubernetes' to choose.
fn is_set<T: PartialEq>(wanted: &Option<T>, actual: &Option<T>) -> bool {
    wanted.is_none() || wanted == actual
}

fn has_ports(actual: &ServiceSpec, wanted: &ServiceSpec) -> bool {
    let actual = actual.ports.as_deref().unwrap_or_default();
    let wanted = wanted.ports.as_deref().unwrap_or_default();
    actual.len() == wanted.len()
        && wanted.iter().all(|wanted| {
            let mut candidates = actual.iter();
            candidates.any(|port| {
                port.name == wanted.name
                    && port.port == wanted.port
                    && port.protocol == wanted.protocol
                    && port.target_port == wanted.target_port
                    && is_set(&wanted.node_port, &port.node_port)
            })
        })
}
