//! Policy for WebSockets, of a listener or of a rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::byte_size::ByteSize;
use super::duration::GatewayDuration;

/// Policy for WebSockets. In a rule each setting goes before that of the listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebSocket {
    /// Silence of both peers after which a WebSocket is closed (1001). Default `60s`; `0s` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GatewayDuration>,
    /// Pings of Holdfast's own, so that a living peer is never idle and a dead one is found. Absent:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// After which a WebSocket is closed (1012, reconnect at once), so that the clients of pods that
    /// came later are spread anew. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<MaxAge>,
    /// Bounds for what a client may send. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<WebSocketLimits>,
    /// Origins that may open WebSockets, as browsers send them: `https://app.example.com`,
    /// `https://*.example.com` (one label or more), `http://localhost:3000`. Others get 403; a
    /// client that sends no `Origin` is no browser and is not concerned. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 300)))]
    pub origins: Option<Vec<String>>,
    /// Subprotocols that the pod is offered; what else a client names is not passed on. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(min = 1, max = 100),
            regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
        )
    )]
    pub subprotocols: Option<Vec<String>>,
}

/// Pings of Holdfast's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keepalive {
    /// Silence of a peer after which it is pinged. `0s` = no pings, for a rule whose listener has
    /// some.
    pub interval: GatewayDuration,
    /// For the answer; then the peer counts as gone. Default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GatewayDuration>,
    /// Who is pinged. Default `Both`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<KeepalivePeers>,
}

/// Who is pinged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum KeepalivePeers {
    /// Clients.
    Client,
    /// Pods.
    Pod,
    /// Clients and pods.
    #[default]
    Both,
}

/// The longest that a WebSocket may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaxAge {
    /// The longest. `0s` = for ever, for a rule whose listener has a limit.
    pub duration: GatewayDuration,
    /// By how much of that a WebSocket may live shorter, at random, so that those that were opened
    /// together do not end together. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<u8>,
}

/// Bounds for what a client may send. Each is for one WebSocket; 0 and absent mean no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebSocketLimits {
    /// Payload bytes of a message, all its frames together, as on the wire (compressed, where it
    /// is). The WebSocket of a longer one is closed (1009).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_size: Option<ByteSize>,
    /// Payload bytes of a frame. The WebSocket of a longer one is closed (1009).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_size: Option<ByteSize>,
    /// Messages a second, with a burst of as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub messages_per_second: Option<u32>,
    /// Bytes a second, with a burst of as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<ByteSize>,
    /// What becomes of a client that sends faster. Default `Backpressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<Enforce>,
}

/// What becomes of a client that sends faster than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Enforce {
    /// It is read from only as fast as it may send; TCP slows it down.
    #[default]
    Backpressure,
    /// Its WebSocket is closed (1008).
    Close,
}
