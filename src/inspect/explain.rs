//! Which listener, host, route and policy would serve a URL, and why the others do not.

use std::fmt;

use http::Uri;
use serde_json::{Value, json};

use super::columns::Columns;
use super::policy::{self, Policy};
use crate::api::GatewayDuration;
use crate::routing::path::normalize;
use crate::routing::{
    Backend, HostRoutes, HostTable, Listener, Match, PathKind, Protocol, Route, Snapshot,
};
use crate::translate::drain::{drain_in_force, rebalance_in_force};

/// How many of the routes that do not serve the URL are listed; a host may have thousands.
const LISTED: usize = 100;

/// The text is not a URL that a client could ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a URL; write it whole, as in https://chat.example.com/ws (http, https, ws or wss)"
)]
pub struct InvalidUrl(pub String);

/// What would become of a request.
#[derive(Clone, Debug)]
pub struct Explanation {
    url: String,
    /// What is in charge of the URL, as name and value; empty where nothing is.
    served: Vec<(&'static str, String)>,
    /// Why nothing serves it: the answer that the client gets.
    refused: Option<String>,
    /// What does not serve it, and why.
    others: Vec<Other>,
    details: Value,
}

#[derive(Clone, Debug)]
struct Other {
    kind: &'static str,
    name: String,
    why: String,
}

/// Explains a URL with the scheme `http`, `https`, `ws` or `wss`.
///
/// # Errors
/// The text is not such a URL.
pub fn explain(snapshot: &Snapshot, url: &str) -> Result<Explanation, InvalidUrl> {
    let request = Request::parse(url).ok_or_else(|| InvalidUrl(url.to_owned()))?;
    let mut explanation = Explanation {
        url: url.to_owned(),
        served: Vec::new(),
        refused: None,
        others: Vec::new(),
        details: Value::Null,
    };
    explanation.trace(snapshot, &request);
    Ok(explanation)
}

impl Explanation {
    /// Whether the URL would reach an upstream. It may still have no pod.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.refused.is_none()
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let others: Vec<Value> = self
            .others
            .iter()
            .map(|other| json!({ "kind": other.kind, "name": other.name, "why": other.why }))
            .collect();
        json!({
            "url": self.url,
            "served": self.details,
            "refused": self.refused,
            "others": others,
        })
    }

    fn trace(&mut self, snapshot: &Snapshot, request: &Request) {
        let Some(listener) = self.listener(snapshot, request) else {
            return;
        };
        let path = match normalize(&request.path) {
            Ok(path) => path,
            Err(why) => {
                self.refused = Some(format!("the client gets 400, as {why}"));
                return;
            }
        };
        let host = Some(request.host.as_str());
        let table = &listener.hosts;
        let (host_name, routes) = self.host(table, &request.host);
        let found = match table.find(host, &path) {
            Match::Route(route) => Some(route),
            Match::NoHost => {
                self.refused = Some(format!(
                    "the client gets 404, as no route of listener {} is for host {}",
                    listener.id, request.host
                ));
                None
            }
            Match::NoPath => {
                self.refused = Some(format!(
                    "the client gets 404, as host {host_name} has no route for path {path}"
                ));
                None
            }
        };
        if let Some(routes) = routes {
            self.other_paths(routes, found.map(|route| &**route), &path);
        }
        if let Some(route) = found {
            self.serve(listener, route, request);
        }
    }

    fn listener<'a>(&mut self, snapshot: &'a Snapshot, request: &Request) -> Option<&'a Listener> {
        let mut found = None;
        for listener in snapshot.listeners.values() {
            let wanted = policy::protocol(request.protocol);
            let spoken = policy::protocol(listener.protocol);
            let why = if listener.port != request.port {
                format!("has port {}, not {}", listener.port, request.port)
            } else if listener.protocol != request.protocol {
                self.refused = Some(format!(
                    "port {} speaks {spoken}, and the URL asks for {wanted}",
                    request.port
                ));
                format!("speaks {spoken}, not {wanted}")
            } else {
                found = Some(&**listener);
                continue;
            };
            self.other("listener", listener.id.to_string(), why);
        }
        if found.is_none() && self.refused.is_none() {
            self.refused = Some(format!(
                "the client cannot connect, as no listener has port {}",
                request.port
            ));
        }
        found
    }

    /// The most specific host that covers the name, and why the other ones that do are passed by.
    fn host<'a>(&mut self, table: &'a HostTable, name: &str) -> (String, Option<&'a HostRoutes>) {
        let suffix = name
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .map_or("", |(_, suffix)| suffix);
        let candidates = [
            (name.to_owned(), table.exact.find(name)),
            (format!("*.{suffix}"), table.wildcard.find(suffix)),
            ("*".to_owned(), table.any.as_ref()),
        ];
        let mut chosen: Option<(String, &HostRoutes)> = None;
        for (declared, routes) in candidates {
            let Some(routes) = routes else { continue };
            match &chosen {
                None => chosen = Some((declared, routes)),
                Some((winner, _)) => {
                    let why = format!("covers {name} as well, but {winner} is more specific");
                    self.other("host", declared, why);
                }
            }
        }
        let hosts = table.exact.len() + table.wildcard.len();
        let covering = usize::from(table.exact.find(name).is_some())
            + usize::from(table.wildcard.find(suffix).is_some());
        if hosts > covering {
            let number = hosts - covering;
            self.other(
                "host",
                format!("{number} others"),
                "are other names".to_owned(),
            );
        }
        match chosen {
            Some((declared, routes)) => (declared, Some(routes)),
            None => (String::new(), None),
        }
    }

    fn other_paths(&mut self, routes: &HostRoutes, found: Option<&Route>, path: &str) {
        let mut others: Vec<&Route> = routes
            .routes()
            .map(|route| &**route)
            .filter(|route| found.is_none_or(|found| !std::ptr::eq(*route, found)))
            .collect();
        // Those that match first, as they are what one wonders about.
        let matches = |route: &Route| match &route.path {
            None => true,
            Some(declared) => match declared.kind {
                PathKind::Exact => *declared.value == *path,
                PathKind::Prefix | PathKind::ImplementationSpecific => path
                    .strip_prefix(declared.prefix_key())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            },
        };
        let value = |route: &Route| route.path.as_ref().map(|path| path.value.to_string());
        others.sort_by_key(|route| (!matches(route), value(route)));
        let more = others.len().saturating_sub(LISTED);
        for route in others.into_iter().take(LISTED) {
            let why = match (&route.path, found) {
                (None, _) => "takes only what no path of the host takes".to_owned(),
                (Some(declared), _) if !matches(route) => match declared.kind {
                    PathKind::Exact => "is for exactly this path".to_owned(),
                    _ => format!("is not a prefix of {path} by whole elements"),
                },
                (Some(_), Some(found)) => match &found.path {
                    Some(winner) if winner.kind == PathKind::Exact => {
                        "matches as well, but an Exact path goes first".to_owned()
                    }
                    _ => "matches as well, but a longer path goes first".to_owned(),
                },
                (Some(_), None) => "matches".to_owned(),
            };
            self.other("path", policy::path(route), why);
        }
        if more > 0 {
            self.other(
                "path",
                format!("{more} others"),
                "are not listed".to_owned(),
            );
        }
    }

    fn other(&mut self, kind: &'static str, name: String, why: String) {
        self.others.push(Other { kind, name, why });
    }

    fn serve(&mut self, listener: &Listener, route: &Route, request: &Request) {
        let effective = Policy::of(listener, route);
        let mut add = |name, value| self.served.push((name, value));
        add(
            "listener",
            format!(
                "{} (port {}, {}{})",
                listener.id,
                listener.port,
                policy::protocol(listener.protocol),
                if !listener.http2 {
                    ""
                } else if listener.http1_only.contains(&request.host) {
                    ", HTTP/1.1 alone for this host"
                } else {
                    ", HTTP/2 offered"
                }
            ),
        );
        if listener.protocol == Protocol::Https {
            add(
                "certificate",
                policy::presented(listener, Some(&request.host)),
            );
        }
        let host = match &*route.id.host {
            "" => "*",
            host => host,
        };
        add("host", host.to_owned());
        add("path", policy::path(route));
        add("declared by", route.id.origin.to_string());
        let total = route.total_weight();
        for backend in &route.backends {
            let target = match &backend.target {
                Ok(upstream) => upstream.to_string(),
                Err(why) => format!("503 {}", why.as_str()),
            };
            add(
                "backend",
                format!("{target} (weight {} of {total})", backend.weight),
            );
        }
        add("request timeout", policy::limit(effective.request_timeout));
        add(
            "connect timeout",
            GatewayDuration(effective.connect_timeout).to_string(),
        );
        for (what, value) in policy::websocket_lines(&effective.websocket) {
            add(what, value);
        }
        for (what, value) in policy::drain_lines(listener) {
            add(what, value);
        }
        for (what, value) in policy::bound_lines(listener) {
            add(what, value);
        }
        let backends: Vec<Value> = route.backends.iter().map(policy::backend_json).collect();
        let is_usable = |backend: &Backend| backend.weight > 0 && backend.target.is_ok();
        if !route.backends.iter().any(is_usable) {
            let why = if total == 0 {
                "all weights are 0"
            } else {
                "no backend of the route can be used; the findings say why"
            };
            self.refused = Some(format!("the client gets 503, as {why}"));
        }
        self.details = json!({
            "listener": listener.id.to_string(),
            "port": listener.port,
            "protocol": policy::protocol(listener.protocol),
            "certificate": listener
                .certificates
                .find(Some(&request.host))
                .map(|certificate| policy::certificate_names(certificate)),
            "host": host,
            "path": policy::path_json(route),
            "declaredBy": policy::origin_json(route),
            "backends": backends,
            "policy": effective.json(),
            "connectionDrain": drain_in_force(&listener.drain),
            "rebalance": listener.rebalance.as_ref().map(rebalance_in_force),
        });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refused {
            Some(why) => writeln!(f, "{} is not served: {why}", self.url)?,
            None => writeln!(f, "{} is served by", self.url)?,
        }
        let mut served = Columns::new(2);
        for (name, value) in &self.served {
            served.row([*name, value.as_str()]);
        }
        write!(f, "{served}")?;
        if !self.others.is_empty() {
            writeln!(f, "not by")?;
            let mut others = Columns::new(2);
            for other in &self.others {
                others.row([other.kind, other.name.as_str(), other.why.as_str()]);
            }
            write!(f, "{others}")?;
        }
        Ok(())
    }
}

/// A URL, taken apart.
struct Request {
    protocol: Protocol,
    port: u16,
    /// In lower case, without a trailing dot.
    host: String,
    path: String,
}

impl Request {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let (protocol, default_port) = match uri.scheme_str()?.to_ascii_lowercase().as_str() {
            "http" | "ws" => (Protocol::Http, 80),
            "https" | "wss" => (Protocol::Https, 443),
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if host.is_empty() {
            return None;
        }
        Some(Self {
            protocol,
            port: uri.port_u16().unwrap_or(default_port),
            host: host.to_owned(),
            path: uri.path().to_owned(),
        })
    }
}
