//! Which tunnels are meant, for those who look at the table.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::tunnel::TunnelView;

/// Tunnels that have all that is named here. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// One of these; empty = any.
    pub ids: Vec<u64>,
    /// Part of the route as it is shown: the object, the host, the path.
    pub route: Option<String>,
    /// The listener as it is shown, or its last parts.
    pub listener: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Open for at least so long.
    pub older_than: Duration,
    /// Nobody has said anything for at least so long.
    pub silent_for: Duration,
    /// Bytes a second, both directions together, over the whole life; at least.
    pub faster_than: u64,
}

/// A pod by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pod {
    /// All its ports.
    Address(IpAddr),
    /// One of them.
    Port(SocketAddr),
}

impl Pod {
    /// Whether the address is one of the pod's.
    #[must_use]
    pub fn has(self, endpoint: SocketAddr) -> bool {
        match self {
            Self::Address(address) => endpoint.ip() == address,
            Self::Port(address) => endpoint == address,
        }
    }
}

impl Selection {
    /// Whether the tunnel is meant.
    #[must_use]
    pub fn contains(&self, view: &TunnelView) -> bool {
        let info = &view.info;
        let is_pod = match self.pod {
            None => true,
            Some(pod) => pod.has(info.endpoint),
        };
        // Texts last: they are made for each tunnel.
        is_pod
            && view.age >= self.older_than
            && view.silent >= self.silent_for
            && (self.ids.is_empty() || self.ids.contains(&view.id))
            && self
                .client
                .is_none_or(|client| info.client.ip() == client.to_canonical())
            && (self.faster_than == 0 || view.bytes_per_second() >= self.faster_than)
            && self
                .route
                .as_deref()
                .is_none_or(|part| info.route.to_string().contains(part))
            && self.listener.as_deref().is_none_or(|end| {
                let shown = info.listener.to_string();
                shown
                    .strip_suffix(end)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            })
    }
}

impl TunnelView {
    /// Both directions together, over the whole life.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        let bytes = self.from_client.bytes + self.from_pod.bytes;
        bytes / self.age.as_secs().max(1)
    }
}
