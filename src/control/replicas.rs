//! Where the replicas of this controller are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::api::Address;
use crate::translate::owned_service::Pods;
use crate::world::{EndpointSlice, ObjectName, World};

/// The name of the admin port in the Service of the pods.
const ADMIN_PORT: &str = "admin";

/// Where this controller runs, as far as objects tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// The controller's pods.
    pub pods: Pods,
    /// The headless Service of the pods, whose addresses are those of the hosts where the pods are
    /// on host ports.
    pub peers: Option<ObjectName>,
    /// Addresses of the hosts, where the pods' own are not to be told.
    pub addresses: Vec<Address>,
}

impl Replicas {
    /// Addresses by which clients reach ports of the hosts.
    pub(super) fn hosts(&self, world: &World) -> Arc<[Address]> {
        if !self.addresses.is_empty() {
            return self.addresses.as_slice().into();
        }
        let addresses: BTreeSet<Address> = self
            .slices(world)
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.ready)
            .map(|endpoint| Address::new(endpoint.address.as_str()))
            .collect();
        addresses.into_iter().collect()
    }

    /// The admin ports of all replicas, ready or not, each once: a pod with addresses of both
    /// families is asked by the older one.
    pub(super) fn admin_ports(&self, world: &World) -> Vec<SocketAddr> {
        let has_v4 = self.slices(world).any(|slice| slice.address_type == "IPv4");
        let family = if has_v4 { "IPv4" } else { "IPv6" };
        let slices = self
            .slices(world)
            .filter(|slice| slice.address_type == family);
        let addresses: BTreeSet<SocketAddr> = slices
            .flat_map(|slice| {
                let mut ports = slice.ports.iter();
                let port = ports
                    .find(|port| port.name.as_deref() == Some(ADMIN_PORT))
                    .and_then(|port| u16::try_from(port.port?).ok());
                let hosts = slice.endpoints.iter();
                hosts.filter_map(move |endpoint| {
                    Some(SocketAddr::new(endpoint.address.parse().ok()?, port?))
                })
            })
            .collect();
        addresses.into_iter().collect()
    }

    fn slices<'a>(&'a self, world: &'a World) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
        let peers = self.peers.iter();
        peers.flat_map(|peers| world.slices_of(peers))
    }
}
