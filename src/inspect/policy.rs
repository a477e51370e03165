//! The policy that is in effect for a route, and words for what routing tables hold.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::GatewayDuration;
use crate::routing::{
    Backend, Certificate, Listener, PathKind, PodProtocol, Protocol, Queue, Route, WebSocketPolicy,
};
use crate::translate::admission::{admission_in_force, capacity_in_force};
use crate::translate::tls::dns_names;
use crate::translate::websocket::in_force;

/// The settings of a route where it has its own, of the listener otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) request_timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) websocket: WebSocketPolicy,
}

impl Policy {
    pub(super) fn of(listener: &Listener, route: &Route) -> Self {
        let own = &route.overrides;
        Self {
            request_timeout: own.request_timeout.unwrap_or(listener.timeouts.request),
            connect_timeout: own.connect_timeout.unwrap_or(listener.timeouts.connect),
            websocket: listener.websocket.with(&own.websocket),
        }
    }

    /// As the API writes them: `0s` = no limit.
    pub(super) fn json(&self) -> Value {
        json!({
            "requestTimeout": limit_field(self.request_timeout),
            "connectTimeout": GatewayDuration(self.connect_timeout).to_string(),
            "websocket": in_force(&self.websocket),
        })
    }
}

/// What is in force for WebSockets, for people; only the idle timeout where nothing else is set.
pub(super) fn websocket_lines(policy: &WebSocketPolicy) -> Vec<(&'static str, String)> {
    let mut lines = vec![("WebSocket idle timeout", limit(policy.idle_timeout))];
    let declared = in_force(policy);
    if let Some(keepalive) = policy.keepalive {
        let peers = match (keepalive.client, keepalive.pod) {
            (true, false) => "the client",
            (false, true) => "the pod",
            _ => "both peers",
        };
        let (interval, timeout) = (
            GatewayDuration(keepalive.interval),
            GatewayDuration(keepalive.timeout),
        );
        let text = format!("pings {peers} after {interval} of silence, waits {timeout}");
        lines.push(("WebSocket keepalive", text));
    }
    if let Some(age) = policy.max_age {
        let text = format!(
            "{}, at random up to {} % less",
            GatewayDuration(age.duration),
            age.jitter_percent
        );
        lines.push(("WebSocket age limit", text));
    }
    if let Some(limits) = declared.limits {
        let mut bounds = Vec::new();
        let sizes = [
            ("message", limits.message_size),
            ("frame", limits.frame_size),
        ];
        bounds.extend(
            sizes
                .into_iter()
                .filter_map(|(what, size)| Some(format!("{what} {}", size?))),
        );
        bounds.extend(
            limits
                .messages_per_second
                .map(|rate| format!("{rate} messages/s")),
        );
        bounds.extend(limits.bytes_per_second.map(|rate| format!("{rate} B/s")));
        if policy.limits.closes {
            bounds.push("faster ones are closed".to_owned());
        }
        lines.push(("WebSocket limits", bounds.join(", ")));
    }
    if let Some(origins) = declared.origins {
        lines.push(("WebSocket origins", origins.join(", ")));
    }
    if let Some(subprotocols) = declared.subprotocols {
        lines.push(("WebSocket subprotocols", subprotocols.join(", ")));
    }
    lines
}

/// How WebSockets end when what they use goes away, and whether they are moved, for people.
pub(super) fn drain_lines(listener: &Listener) -> Vec<(&'static str, String)> {
    let drain = &listener.drain;
    let of_pod = drain.pod_timeout.map_or_else(
        || {
            let unknown = GatewayDuration(drain.pod_window(false));
            format!("over the time that it has ({unknown} where that is not known)")
        },
        |bound| {
            let bound = GatewayDuration(bound);
            format!("over {bound} or the time that it has, if that is less")
        },
    );
    let text = format!(
        "over {}, of a pod {of_pod}, {} a second at most",
        GatewayDuration(drain.timeout),
        drain.closes_per_second
    );
    let mut lines = vec![("WebSocket drain", text)];
    if let Some(rebalance) = &listener.rebalance {
        let text = format!(
            "until pods differ by {} % at most, {} a second",
            rebalance.tolerance_percent, rebalance.closes_per_second
        );
        lines.push(("WebSocket rebalancing", text));
    }
    lines
}

/// Bounds for what is admitted, for people; none where none is set.
pub(super) fn bound_lines(listener: &Listener) -> Vec<(&'static str, String)> {
    let admission = admission_in_force(&listener.admission);
    let capacity = capacity_in_force(&listener.capacity);
    let open = [
        ("", admission.connections),
        (" of a client", admission.connections_per_client),
        (" on a pod", admission.connections_per_pod),
    ];
    let opened = [
        ("", admission.handshakes_per_second),
        (" of a client", admission.handshakes_per_second_per_client),
    ];
    let whole = [
        (" connections", capacity.max_connections),
        (" new connections/s", capacity.new_connections_per_second),
        (" requests/s", capacity.requests_per_second),
    ];
    let lines = [
        ("WebSockets at a time", bounds(&open)),
        ("WebSocket handshakes a second", bounds(&opened)),
        ("load balancer takes", bounds(&whole)),
    ];
    let set = lines.into_iter().filter(|(_, text)| !text.is_empty());
    let mut lines: Vec<_> = set.collect();
    if listener.admission.queue != Some(Queue::DEFAULT) {
        let text = match &listener.admission.queue {
            None => "off".to_owned(),
            Some(queue) => format!(
                "{}, {} for a pod, at most {}",
                queue.length,
                queue.length_per_pod,
                GatewayDuration(queue.timeout)
            ),
        };
        lines.push(("WebSocket handshakes waiting", text));
    }
    lines
}

fn bounds(bounds: &[(&str, Option<u32>)]) -> String {
    let set = bounds
        .iter()
        .filter_map(|(what, bound)| Some(format!("{}{what}", (*bound)?)));
    set.collect::<Vec<_>>().join(", ")
}

/// `none` where there is no limit.
pub(super) fn limit(duration: Option<Duration>) -> String {
    duration.map_or_else(
        || "none".to_owned(),
        |duration| GatewayDuration(duration).to_string(),
    )
}

/// As the API writes it: `0s` = no limit.
pub(super) fn limit_field(duration: Option<Duration>) -> String {
    GatewayDuration(duration.unwrap_or_default()).to_string()
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Https => "HTTPS",
    }
}

pub(super) fn path_kind(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Exact => "Exact",
        PathKind::Prefix => "Prefix",
        PathKind::ImplementationSpecific => "ImplementationSpecific",
    }
}

/// Kind and value, or `default backend`.
pub(super) fn path(route: &Route) -> String {
    route.path.as_ref().map_or_else(
        || "default backend".to_owned(),
        |path| format!("{} {}", path_kind(path.kind), path.value),
    )
}

/// The DNS names in a certificate.
pub(super) fn certificate_names(certificate: &Certificate) -> Vec<String> {
    certificate
        .key()
        .cert
        .first()
        .and_then(dns_names)
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The names of the certificate that a listener presents for a host, for people.
pub(super) fn presented(listener: &Listener, server_name: Option<&str>) -> String {
    if listener.protocol == Protocol::Http {
        return "-".to_owned();
    }
    match listener.certificates.find(server_name) {
        None => "self-signed".to_owned(),
        Some(certificate) => match certificate_names(certificate) {
            names if names.is_empty() => "no DNS name".to_owned(),
            names => names.join(","),
        },
    }
}

/// Type and value, or null for a default backend.
pub(super) fn path_json(route: &Route) -> Value {
    route.path.as_ref().map_or(
        Value::Null,
        |path| json!({ "type": path_kind(path.kind), "value": &*path.value }),
    )
}

/// The object that declares a route.
pub(super) fn origin_json(route: &Route) -> Value {
    let origin = &route.id.origin;
    json!({
        "kind": origin.kind,
        "namespace": &*origin.namespace,
        "name": &*origin.name,
    })
}

pub(super) fn backend_json(backend: &Backend) -> Value {
    match &backend.target {
        Err(why) => json!({ "weight": backend.weight, "unavailable": why.as_str() }),
        Ok(upstream) => json!({
            "weight": backend.weight,
            "namespace": &*upstream.namespace,
            "service": &*upstream.service,
            "port": upstream.port,
            "tls": upstream.protocol == PodProtocol::Tls,
        }),
    }
}
