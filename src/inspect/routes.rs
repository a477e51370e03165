//! The effective routing table, as `routes` prints it.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::{Value, json};

use super::columns::Columns;
use super::policy::{self, Policy};
use crate::api::GatewayDuration;
use crate::routing::{Backend, EndpointSet, Listener, PathKind, Route, Snapshot, UpstreamId};
use crate::translate::admission::{admission_in_force, capacity_in_force};
use crate::translate::drain::{drain_in_force, rebalance_in_force};
use crate::translate::websocket::in_force;

/// The table in columns, made from its JSON form, which may come from a running process: a line a
/// route, and one more for each further backend of it. `None` = it is not such a table.
#[must_use]
pub fn text(table: &Value) -> Option<String> {
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
    for listener in table["listeners"].as_array()? {
        let name = format!(
            "{}/{}/{}",
            listener["namespace"].as_str()?,
            listener["loadBalancer"].as_str()?,
            listener["name"].as_str()?
        );
        let port = format!("{}/{}", listener["port"], listener["protocol"].as_str()?);
        let routes = listener["routes"].as_array()?;
        if routes.is_empty() {
            columns.row([name.as_str(), &port, "-", "no routes"]);
        }
        for route in routes {
            let [mut lead, mut tail] = cells(&name, &port, route)?;
            for backend in route["backends"].as_array()? {
                let mut cells = lead.clone();
                cells.extend(backend_cells(backend)?);
                cells.append(&mut tail);
                columns.row(cells);
                lead = vec![String::new(); lead.len()];
            }
        }
    }
    Some(columns.to_string())
}

/// The cells of a route before and behind those of its backends.
fn cells(name: &str, port: &str, route: &Value) -> Option<[Vec<String>; 2]> {
    let policy = &route["policy"];
    let origin = &route["declaredBy"];
    let path = match &route["path"] {
        Value::Null => "(default backend)".to_owned(),
        path => format!("{} {}", path["type"].as_str()?, path["value"].as_str()?),
    };
    let lead = vec![
        name.to_owned(),
        port.to_owned(),
        route["host"].as_str().unwrap_or("*").to_owned(),
        path,
    ];
    let limit = |limit: &Value| match limit.as_str() {
        None | Some("0s") => "none".to_owned(),
        Some(limit) => limit.to_owned(),
    };
    let tail = vec![
        limit(&policy["requestTimeout"]),
        limit(&policy["connectTimeout"]),
        limit(&policy["websocket"]["idleTimeout"]),
        route["certificate"].as_str()?.to_owned(),
        format!(
            "{} {}/{}",
            origin["kind"].as_str()?,
            origin["namespace"].as_str()?,
            origin["name"].as_str()?
        ),
    ];
    Some([lead, tail])
}

fn backend_cells(backend: &Value) -> Option<[String; 3]> {
    let (target, ready) = match backend["unavailable"].as_str() {
        Some(why) => (format!("503 {why}"), "-".to_owned()),
        None => (
            format!(
                "{}/{}:{}",
                backend["namespace"].as_str()?,
                backend["service"].as_str()?,
                backend["port"]
            ),
            // Ready ones out of all.
            format!(
                "{}/{}",
                backend["endpoints"]["ready"], backend["endpoints"]["all"]
            ),
        ),
    };
    Some([target, backend["weight"].to_string(), ready])
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
        "targetPort": listener.target_port,
        "protocol": policy::protocol(listener.protocol),
        "http2": listener.http2,
        "http1Only": listener.http1_only.declared(),
        "timeouts": {
            "idle": GatewayDuration(listener.timeouts.idle).to_string(),
            "request": policy::limit_field(listener.timeouts.request),
            "connect": GatewayDuration(listener.timeouts.connect).to_string(),
        },
        "websocket": in_force(&listener.websocket),
        "connectionDrain": drain_in_force(&listener.drain),
        "rebalance": listener.rebalance.as_ref().map(rebalance_in_force),
        "admission": admission_in_force(&listener.admission),
        "capacity": capacity_in_force(&listener.capacity),
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
        "certificate": policy::presented(listener, row.host.declared().as_deref()),
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
