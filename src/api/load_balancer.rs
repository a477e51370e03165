//! The `LoadBalancer` resource.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::{Admission, Capacity};
use super::drain::{ConnectionDrain, Rebalance};
use super::duration::GatewayDuration;
use super::service_template::ServiceTemplate;
use super::status::LoadBalancerStatus;
use super::websocket::WebSocket;

/// Listeners that clients connect to, their policy, and routes of their own. Ingresses attach to
/// it through the `parameters` of their IngressClass.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "LoadBalancer",
    plural = "loadbalancers",
    singular = "loadbalancer",
    shortname = "hlb",
    category = "holdfast",
    namespaced,
    status = "LoadBalancerStatus",
    derive = "PartialEq",
    doc = "A load balancer: listeners, their policy, and routes to Services.",
    printcolumn = r#"{"name":"Exposure","type":"string","jsonPath":".spec.exposure"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".status.addresses[0].value"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.listeners.all(l, self.listeners.exists_one(m, m.port == l.port))",
        "message": "two listeners have the same port; give each listener a port of its own",
    },
    {
        "rule": "!has(self.service) || !has(self.exposure) || self.exposure == 'Service'",
        "message": "service is for exposure Service; remove it or change the exposure",
    },
    {
        "rule": "!has(self.service) || !has(self.service.nodePorts) || self.service.nodePorts.all(n, self.listeners.exists(l, l.name == n))",
        "message": "service.nodePorts names a listener that spec.listeners does not have",
    },
]))]
pub struct LoadBalancerSpec {
    /// How clients reach the listeners. Default `Service`.
    #[serde(default)]
    pub exposure: Exposure,
    /// The Service that this load balancer owns. Only with exposure `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTemplate>,
    /// How WebSockets end when what they use goes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_drain: Option<ConnectionDrain>,
    /// Moving WebSockets to pods that have fewer. Absent: they stay where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// What all listeners together take. Absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// The ports that clients connect to.
    #[schemars(length(min = 1, max = 32), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
    ))]
    pub listeners: Vec<Listener>,
    /// Routes of this load balancer, beside those of the Ingresses that attach to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub rules: Vec<Rule>,
}

/// How clients reach the listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Exposure {
    /// The load balancer owns a Service in the controller's namespace, and so has an address and
    /// all ports of its own. Without an API server (manifests from a directory) each listener
    /// binds its port on the host, or another where that one is taken.
    #[default]
    Service,
    /// Each listener binds its port on the host that Holdfast runs on. Of two load balancers that
    /// want one port the older has it, and the other is told.
    Host,
}

/// A port that clients connect to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.protocol == 'HTTPS' || !has(self.tls)",
        "message": "tls is for listeners with protocol HTTPS; remove it or change the protocol",
    },
    {
        "rule": "self.protocol == 'HTTPS' || !has(self.http2)",
        "message": "http2 is negotiated over TLS and so is for listeners with protocol HTTPS; remove it or change the protocol",
    },
    {
        "rule": "self.protocol == 'HTTPS' || !has(self.http1Only)",
        "message": "http1Only is about what is negotiated over TLS and so is for listeners with protocol HTTPS; remove it or change the protocol",
    },
]))]
pub struct Listener {
    /// Name, unique in this load balancer; rules refer to it.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// TCP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What clients speak. `HTTP` carries WebSocket as well (`ws`), and so does `HTTPS` (`wss`).
    pub protocol: Protocol,
    /// Offer HTTP/2 to clients by ALPN. Only with protocol `HTTPS`; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<bool>,
    /// Host names, exact or `*.` and a suffix (one label exactly), that HTTP/2 is not offered for:
    /// for applications whose clients must have a connection of their own. Only with protocol
    /// `HTTPS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
            )
        )
    )]
    pub http1_only: Vec<String>,
    /// Clocks of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Policy for WebSockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocket>,
    /// How many WebSockets are admitted, and how fast. Absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// Certificates. Only with protocol `HTTPS`; without any, a self-signed certificate is
    /// presented to clients whose server name no Ingress has a certificate for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS 1.2 and 1.3.
    Https,
}

/// Clocks of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// How long a client connection may be silent between requests. Default `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<GatewayDuration>,
    /// From the request's head to the head of the pod's answer; then the client gets 504. Default
    /// `60s`; `0s` = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GatewayDuration>,
    /// For connecting to one pod; then the next pod is tried. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<GatewayDuration>,
}

/// Certificates of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Secrets of type `kubernetes.io/tls` in the namespace of the load balancer. The client's
    /// server name chooses among their DNS names; the first is the default.
    #[schemars(length(max = 256))]
    pub certificate_refs: Vec<SecretRef>,
}

/// A Secret in the namespace of the load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Host names, exact or `*.` and a suffix (one label exactly). Absent: any host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
            )
        )
    )]
    pub hosts: Vec<String>,
    /// Names of the listeners that serve the rule. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub listeners: Vec<String>,
    /// Path. Absent: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Where requests go, by weight.
    #[schemars(length(min = 1, max = 64))]
    pub backends: Vec<Backend>,
    /// Clocks that go before those of the listener; `idle` is the listener's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RuleTimeouts>,
    /// WebSocket policy that goes before that of the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocket>,
}

/// Clocks of HTTP that a rule can set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleTimeouts {
    /// From the request's head to the head of the pod's answer; then the client gets 504.
    /// `0s` = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GatewayDuration>,
    /// For connecting to one pod; then the next pod is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<GatewayDuration>,
}

/// A path to match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Path {
    /// How it matches. Default `Prefix`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(rename = "type")]
    pub path_type: Option<PathType>,
    /// The path; starts with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub value: String,
}

/// How a path matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PathType {
    /// The whole path, byte for byte.
    Exact,
    /// By whole elements: `/a` matches `/a`, `/a/` and `/a/b`, not `/ab`.
    #[default]
    Prefix,
}

/// A weighted backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// The Service.
    pub service: BackendService,
    /// Share of the traffic, relative to the other backends of the rule. 0 sends none. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
}

/// A port of a Service in the namespace of the load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendService {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Port of the Service, by number or by name.
    pub port: ServicePort,
}

/// A port of a Service, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum ServicePort {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl JsonSchema for ServicePort {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServicePort".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A structural schema cannot say "integer or string" but by this extension.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            // Each bound is for the type that it can be of. A CEL rule would cost more than the API
            // server allows, as it takes the string to be of any length.
            "minimum": 1,
            "maximum": 65535,
            "minLength": 1,
            "maxLength": 63,
        })
    }
}
