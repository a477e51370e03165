//! The Service that a LoadBalancer owns.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use super::key::ObjectName;
use crate::api::{self, Address};

/// A Service that bears the labels of an owner, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedService {
    /// The LoadBalancer that its labels name.
    pub owner: ObjectName,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// As declared.
    pub spec: core::ServiceSpec,
    /// Where clients reach it: addresses that the cloud has given, for type `ClusterIP` its own.
    pub addresses: Vec<Address>,
}

impl OwnedService {
    /// None of a Service without such labels.
    pub(super) fn new(service: &core::Service) -> Option<Box<Self>> {
        let labels = service.metadata.labels.as_ref()?;
        let owner = ObjectName::new(
            labels.get(api::OWNER_NAMESPACE_LABEL)?.as_str(),
            labels.get(api::OWNER_NAME_LABEL)?.as_str(),
        );
        let spec = service.spec.clone().unwrap_or_default();
        let given = service
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
            .flatten()
            .filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()))
            .filter(|value| !value.is_empty());
        let addresses = match spec.type_.as_deref() {
            Some("LoadBalancer") => given.map(Address::new).collect(),
            _ => spec
                .cluster_ips
                .iter()
                .flatten()
                .filter(|ip| *ip != "None")
                .map(Address::new)
                .collect(),
        };
        Some(Box::new(Self {
            owner,
            labels: labels.clone(),
            annotations: service.metadata.annotations.clone().unwrap_or_default(),
            spec,
            addresses,
        }))
    }
}
