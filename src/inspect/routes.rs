//! The effective routing table, as `routes` prints it.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::{Value, json};

use super::columns::Columns;
use super::policy::{self, Policy};
use crate::api::GatewayDuration;
use crate::routing::{Backend, EndpointSet, Listener, PathKind, Route, Snapshot, UpstreamId};

/// The table in columns: a line a route, and one more for each further backend of it. `endpoints`
/// answers who serves an upstream now.
#[must_use]
pub fn text(snapshot: &Snapshot, endpoints: impl Fn(&UpstreamId) -> EndpointSet) -> String {
    let mut columns = Columns::new(0);
    columns.row([
        "LISTENER",
        "PORT",
        "HOST",
        "PATH",
        "BACKEND",
        "WEIGHT",
        "READY",
        "REQUEST",
        "CONNECT",
        "WS-IDLE",
        "CERTIFICATE",
        "DECLARED-BY",
    ]);
    for listener in snapshot.listeners.values() {
        let name = listener.id.to_string();
        let port = format!("{}/{}", listener.port, policy::protocol(listener.protocol));
        let rows = sorted(listener);
        if rows.is_empty() {
            columns.row([name.as_str(), &port, "-", "no routes"]);
        }
        for row in rows {
            let effective = Policy::of(listener, row.route);
            let mut lead = vec![
                name.clone(),
                port.clone(),
                row.host.to_string(),
                policy::path(row.route),
            ];
            let mut tail = vec![
                policy::limit(effective.request_timeout),
                GatewayDuration(effective.connect_timeout).to_string(),
                policy::limit(effective.websocket_idle_timeout),
                policy::presented(listener, row.host.declared().as_deref()),
                row.route.id.origin.to_string(),
            ];
            for backend in &row.route.backends {
                let (target, ready) = match &backend.target {
                    Ok(upstream) => (upstream.to_string(), readiness(&endpoints(upstream))),
                    Err(why) => (format!("503 {}", why.as_str()), "-".to_owned()),
                };
                let mut cells = lead.clone();
                cells.extend([target, backend.weight.to_string(), ready]);
                cells.append(&mut tail);
                columns.row(cells);
                lead = vec![String::new(); lead.len()];
            }
        }
    }
    columns.to_string()
}

/// The table as JSON: listeners with their settings, certificates, hosts and routes.
#[must_use]
pub fn json(snapshot: &Snapshot, endpoints: impl Fn(&UpstreamId) -> EndpointSet) -> Value {
    let listeners = snapshot.listeners.values();
    let listeners: Vec<Value> = listeners
        .map(|listener| listener_json(listener, &endpoints))
        .collect();
    json!({ "listeners": listeners })
}

/// Ready ones out of all, such as `2/3`.
fn readiness(set: &EndpointSet) -> String {
    format!("{}/{}", set.ready(), set.all().len())
}

fn listener_json(listener: &Listener, endpoints: &impl Fn(&UpstreamId) -> EndpointSet) -> Value {
    let routes: Vec<Value> = sorted(listener)
        .iter()
        .map(|row| route_json(listener, row, endpoints))
        .collect();
    json!({
        "namespace": &*listener.id.namespace,
        "loadBalancer": &*listener.id.load_balancer,
        "name": &*listener.id.name,
        "port": listener.port,
        "protocol": policy::protocol(listener.protocol),
        "http2": listener.http2,
        "timeouts": {
            "idle": GatewayDuration(listener.timeouts.idle).to_string(),
            "request": policy::limit_field(listener.timeouts.request),
            "connect": GatewayDuration(listener.timeouts.connect).to_string(),
        },
        "websocket": {
            "idleTimeout": policy::limit_field(listener.websocket.idle_timeout),
        },
        "certificates": certificates_json(listener),
        "routes": routes,
    })
}

fn certificates_json(listener: &Listener) -> Vec<Value> {
    let table = &listener.certificates;
    let exact = table.exact.iter();
    let mut named: Vec<(String, _)> = exact
        .map(|(name, certificate)| (name.to_string(), certificate))
        .collect();
    let wildcard = table.wildcard.iter();
    named.extend(wildcard.map(|(suffix, certificate)| (format!("*.{suffix}"), certificate)));
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let named = named
        .into_iter()
        .map(|(name, certificate)| (Value::from(name), certificate));
    let default = table.default.iter();
    named
        .chain(default.map(|certificate| (Value::Null, certificate)))
        .map(|(server_name, certificate)| {
            json!({
                "serverName": server_name,
                "dnsNames": policy::certificate_names(certificate),
                "fingerprint": certificate.fingerprint(),
            })
        })
        .collect()
}

fn route_json(
    listener: &Listener,
    row: &Row<'_>,
    endpoints: &impl Fn(&UpstreamId) -> EndpointSet,
) -> Value {
    let route = row.route;
    let backends: Vec<Value> = route
        .backends
        .iter()
        .map(|backend| backend_json(backend, endpoints))
        .collect();
    json!({
        "host": row.host.declared(),
        "path": policy::path_json(route),
        "declaredBy": policy::origin_json(route),
        "policy": Policy::of(listener, route).json(),
        "backends": backends,
    })
}

fn backend_json(backend: &Backend, endpoints: &impl Fn(&UpstreamId) -> EndpointSet) -> Value {
    let mut value = policy::backend_json(backend);
    if let (Ok(upstream), Some(fields)) = (&backend.target, value.as_object_mut()) {
        let set = endpoints(upstream);
        let counts = json!({ "ready": set.ready(), "all": set.all().len() });
        fields.insert("endpoints".to_owned(), counts);
    }
    value
}

/// A route with the place it has.
struct Row<'a> {
    host: Host<'a>,
    route: &'a Arc<Route>,
}

/// The order is that of specificity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Host<'a> {
    Exact(&'a str),
    Wildcard(&'a str),
    Any,
    /// What no host takes.
    Fallback,
}

impl Host<'_> {
    /// As declared; `None` where no host is.
    fn declared(&self) -> Option<String> {
        match self {
            Self::Exact(host) => Some((*host).to_owned()),
            Self::Wildcard(suffix) => Some(format!("*.{suffix}")),
            Self::Any | Self::Fallback => None,
        }
    }
}

impl std::fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
            Self::Fallback => f.write_str("(nobody's)"),
        }
    }
}

/// The routes of a listener, as they are looked at: specific hosts and long paths first.
fn sorted(listener: &Listener) -> Vec<Row<'_>> {
    let table = &listener.hosts;
    let exact = table
        .exact
        .iter()
        .map(|(host, routes)| (Host::Exact(host), routes));
    let wildcard = table
        .wildcard
        .iter()
        .map(|(suffix, routes)| (Host::Wildcard(suffix), routes));
    let any = table.any.iter().map(|routes| (Host::Any, routes));
    let mut rows: Vec<Row<'_>> = exact
        .chain(wildcard)
        .chain(any)
        .flat_map(|(host, routes)| routes.routes().map(move |route| Row { host, route }))
        .chain(table.fallback.iter().map(|route| Row {
            host: Host::Fallback,
            route,
        }))
        .collect();
    rows.sort_by(|a, b| {
        a.host
            .cmp(&b.host)
            .then_with(|| path_order(a).cmp(&path_order(b)))
    });
    rows
}

/// Long paths first, a default backend last.
fn path_order<'a>(row: &Row<'a>) -> (bool, Reverse<usize>, Option<PathKind>, &'a str) {
    let path = row.route.path.as_ref();
    let value = path.map_or("", |path| &*path.value);
    (
        path.is_none(),
        Reverse(value.len()),
        path.map(|path| path.kind),
        value,
    )
}
