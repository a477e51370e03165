//! Bounds for what is admitted: WebSockets of a listener, everything of a load balancer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;

/// Bounds for the WebSockets of a listener. Whatever a bound says, those that are open stay; a
/// handshake beyond it is answered before its pod hears of it, with a `Retry-After`. 0 and absent
/// mean no bound. Each replica counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Admission {
    /// WebSockets that may be open at a time; then 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub connections: Option<u32>,
    /// The same of one client address; then 429. An IPv6 client is its /64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub connections_per_client: Option<u32>,
    /// WebSockets that a pod may have, by whichever listener they came, to get one of this listener;
    /// where all pods of a route have as many, 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub connections_per_pod: Option<u32>,
    /// Handshakes a second, with a burst of as many; then 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second: Option<u32>,
    /// The same of one client address; then 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second_per_client: Option<u32>,
    /// Where handshakes wait that a pod has no time for: each pod gets as many at a time as it answers
    /// without falling behind. Absent: as by default, for the queue is there for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

/// Where handshakes wait for their pods, first come, first served. A pod that others wait for is
/// left out while another has time. Beyond the bounds: 503.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Handshakes that may wait at the listener. Default 8192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub length: Option<u32>,
    /// Of those, how many for one pod. Default 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub length_per_pod: Option<u32>,
    /// The longest wait. Default `5s`; `0s` = no queue, and handshakes go to their pods as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GatewayDuration>,
}

/// What a load balancer takes, over all its listeners. What is beyond it gets 503 with a
/// `Retry-After`; what is open stays. 0 and absent mean no bound. Each replica counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Client connections open at a time, those of WebSockets included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub max_connections: Option<u32>,
    /// New client connections a second, with a burst of as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub new_connections_per_second: Option<u32>,
    /// Requests a second, WebSocket handshakes included, with a burst of as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
}
