//! The status of a `LoadBalancer`: what became of the declaration. Written by the replica that
//! leads, by server-side apply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::{Admission, Capacity};
use super::drain::{ConnectionDrain, Rebalance};
use super::load_balancer::{Protocol, Timeouts};
use super::websocket::WebSocket;

/// What became of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub addresses: Vec<Address>,
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"],
    ))]
    pub conditions: Vec<Condition>,
    /// One entry for each listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
    ))]
    pub listeners: Vec<ListenerStatus>,
}

/// Where clients reach a load balancer.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// What the value is.
    #[serde(rename = "type")]
    #[schemars(rename = "type")]
    pub address_type: AddressType,
    /// An IP address or a host name.
    pub value: String,
}

/// What an address is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum AddressType {
    /// An IPv4 or IPv6 address.
    #[serde(rename = "IPAddress")]
    Ip,
    /// A DNS name.
    Hostname,
}

impl Address {
    /// An IP address where it is one, a host name otherwise.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        let address_type = if value.parse::<std::net::IpAddr>().is_ok() {
            AddressType::Ip
        } else {
            AddressType::Hostname
        };
        Self {
            address_type,
            value,
        }
    }
}

/// One aspect of the state, in the form that Kubernetes uses for conditions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect: `Accepted`, `ResolvedRefs`, `Programmed`, `Conflicted`, `TLSReady`.
    #[serde(rename = "type")]
    #[schemars(rename = "type")]
    pub condition_type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word that says why.
    pub reason: String,
    /// What is wrong, what happens because of it, and the remedy; empty where nothing is.
    pub message: String,
    /// `metadata.generation` that this was found for.
    #[serde(default)]
    pub observed_generation: i64,
    /// When `status` last changed, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}

/// What became of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// The port that the controller's pods listen on, behind the owned Service. Allotted once;
    /// absent with exposure `Host`, where it is the listener's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// `Accepted`, `Conflicted`, `ResolvedRefs`, `Programmed` and, with HTTPS, `TLSReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"],
    ))]
    pub conditions: Vec<Condition>,
    /// Routes served, of rules and of Ingresses.
    #[serde(default)]
    pub attached_routes: u32,
    /// Open WebSockets on all replicas, as of half a minute ago or less.
    #[serde(default)]
    pub open_tunnels: u32,
    /// The settings in force, defaults included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
}

/// The settings of a listener in force, defaults included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Port that clients connect to.
    pub port: u16,
    /// What clients speak.
    pub protocol: Protocol,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Host names that it is not offered for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 255)))]
    pub http1_only: Vec<String>,
    /// Clocks of HTTP.
    pub timeouts: Timeouts,
    /// Policy for WebSockets.
    pub websocket: WebSocket,
    /// How they end when what they use goes away. Absent in a status that was written before
    /// there was this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_drain: Option<ConnectionDrain>,
    /// Moving them to pods that have fewer; absent = they stay where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// How many WebSockets are admitted, and how fast; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// What all listeners of the load balancer together take; absent = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}
