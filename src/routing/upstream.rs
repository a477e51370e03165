//! Upstreams and their endpoints, as plain data.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The stable identity of an upstream: one port of one Service, and how its pods are spoken to.
///
/// Everything that makes a pooled connection different is part of the identity, so that a
/// Service which switches from plain HTTP to TLS never reuses a connection of the old kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// Port number of the Service (not of the pods).
    pub port: u16,
    /// How pods are spoken to.
    pub protocol: PodProtocol,
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

/// How pods of an upstream are spoken to (KEP-3726 `appProtocol`); always HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodProtocol {
    /// Plain TCP: no `appProtocol`, `http`, `kubernetes.io/ws`.
    Plain,
    /// TLS to the pod: `https`, `kubernetes.io/wss`. The pod's certificate is not verified, as
    /// pods usually present one that they signed themselves; traffic is encrypted, not
    /// authenticated.
    Tls,
}

/// One address that serves an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Pod address and port.
    pub address: SocketAddr,
    /// What may be sent there.
    pub state: EndpointState,
}

/// What an endpoint may be used for (KEP-1672).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointState {
    /// Takes new requests and tunnels.
    Ready,
    /// Terminating but still serving: keeps what it has, and takes new work only when no endpoint
    /// is ready (KEP-1669, as kube-proxy does).
    Draining,
    /// Not ready, and not terminating either: keeps what it has, and takes nothing new. A probe that
    /// fails for a moment cuts nobody off.
    NotReady,
}

/// When the pod of an endpoint is killed, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodEnd {
    /// Since the epoch.
    pub at: Duration,
    /// All the time that the pod was given to end in.
    pub grace: Duration,
}

/// The endpoints of one upstream: sorted by address, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    endpoints: Box<[Endpoint]>,
    ready: usize,
    ends: Box<[(SocketAddr, PodEnd)]>,
}

impl EndpointSet {
    /// Sorts, and merges duplicates: an address that any slice calls ready is ready, since slices
    /// may briefly disagree while an endpoint moves between them.
    #[must_use]
    pub fn new(mut endpoints: Vec<Endpoint>) -> Self {
        // Better states order first, so dedup keeps the best one.
        endpoints.sort_unstable();
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        let ready = endpoints
            .iter()
            .filter(|endpoint| endpoint.state == EndpointState::Ready)
            .count();
        Self {
            endpoints: endpoints.into_boxed_slice(),
            ready,
            ends: Box::default(),
        }
    }

    /// The same with what is known of when pods end: also of those that do not serve any more and are
    /// no endpoints, but may have tunnels. Of two ends the earlier counts.
    #[must_use]
    pub fn ending(mut self, mut ends: Vec<(SocketAddr, PodEnd)>) -> Self {
        ends.sort_unstable();
        ends.dedup_by_key(|(address, _)| *address);
        self.ends = ends.into_boxed_slice();
        self
    }

    /// All endpoints, sorted by address.
    #[must_use]
    pub fn all(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// What may be sent to this address; `None` = it is not an endpoint.
    #[must_use]
    pub fn state(&self, address: SocketAddr) -> Option<EndpointState> {
        let index = self
            .endpoints
            .binary_search_by_key(&address, |endpoint| endpoint.address);
        Some(self.endpoints.get(index.ok()?)?.state)
    }

    /// When the pod of this address ends; `None` = it is not terminating, or that is not known.
    #[must_use]
    pub fn end(&self, address: SocketAddr) -> Option<PodEnd> {
        let index = self
            .ends
            .binary_search_by_key(&address, |(address, _)| *address);
        Some(self.ends.get(index.ok()?)?.1)
    }

    /// How many endpoints are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// The addresses that may take new work: the ready ones, or, where there are none, the
    /// draining ones.
    pub fn candidates(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let wanted = if self.ready > 0 {
            EndpointState::Ready
        } else {
            EndpointState::Draining
        };
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.state == wanted)
            .map(|endpoint| endpoint.address)
    }
}
