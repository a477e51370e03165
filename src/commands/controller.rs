//! What the flags of a controller come to.

use std::collections::BTreeMap;

use crate::api::Address;
use crate::cli;
use crate::config::{Config, Controller, Source};
use crate::control::replicas::Replicas;
use crate::leader::{LeaderSettings, LeaseSettings};
use crate::source::ApiServer;
use crate::translate::owned_service::Pods;
use crate::translate::settings::TargetPorts;
use crate::world::ObjectName;

/// Puts the flags into the configuration.
pub(super) fn configure(config: &mut Config, flags: cli::Controller) {
    let cli::Controller {
        ingress_class,
        load_balancer,
        lease,
        pod_name,
        pod_selector,
        peers_service,
        publish_address,
    } = flags;
    let settings = &mut config.settings;
    settings.default_class = ingress_class;
    settings.default_load_balancer =
        load_balancer.map(|name| ObjectName::new(name.namespace, name.name));
    let Source::Cluster(source) = &mut config.source else {
        return;
    };
    settings.sees_classes = source.namespaces.is_empty();
    settings.target_ports = TargetPorts::Recorded;
    let lease = lease_settings(lease, &source.server, given(pod_name));
    let namespace = lease.namespace.clone();
    let selector: BTreeMap<String, String> = pod_selector.into_iter().flatten().collect();
    let peers = given(peers_service).map(|name| ObjectName::new(namespace.as_str(), name));
    let addresses = publish_address
        .into_iter()
        .filter(|address| !address.is_empty())
        .map(Address::new);
    source.own_namespace = Some(namespace.clone());
    config.controller = Some(Controller {
        replicas: Replicas {
            pods: Pods {
                namespace,
                selector,
            },
            peers,
            addresses: addresses.collect(),
        },
        leader: LeaderSettings::new(lease),
    });
}

/// The Lease of these flags.
pub(super) fn lease_settings(
    flags: cli::Lease,
    server: &ApiServer,
    identity: Option<String>,
) -> LeaseSettings {
    let cli::Lease {
        pod_namespace,
        lease,
    } = flags;
    let namespace = given(pod_namespace).unwrap_or_else(|| server.namespace().to_owned());
    LeaseSettings::new(namespace, lease, identity.unwrap_or_else(some_identity))
}

/// An environment variable that is empty says nothing.
pub(super) fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// The name of the host, and something that no other process on it has.
fn some_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "holdfast",
        host => host,
    };
    format!("{host}-{:08x}", fastrand::u32(..))
}
