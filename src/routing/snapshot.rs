//! The whole table at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::host::{HostRoutes, HostTable};
use super::listener::{Listener, ListenerId};
use super::route::{Route, RouteId};
use super::upstream::UpstreamId;

/// Everything the proxy knows of the configuration at one moment. Requests load it once and see
/// one consistent world to their end (P2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Listeners by identity. At most one per target port: `translate` has settled conflicts.
    pub listeners: BTreeMap<ListenerId, Arc<Listener>>,
}

/// What has become of the way that a tunnel came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// It still leads there.
    Current,
    /// The listener is not there any more.
    ListenerRemoved,
    /// The listener serves no route for its host and path any more.
    RouteRemoved,
    /// Their route sends nothing to the upstream any more: it does not name it, or with weight 0,
    /// or the Service is gone.
    BackendRemoved,
}

impl Snapshot {
    /// What has become of the way through a listener and a route to an upstream. Which object
    /// declares the route does not matter, nor do its other backends: a new handshake that would
    /// have matched `route` could still come to `upstream`.
    #[must_use]
    pub fn standing(
        &self,
        listener: &ListenerId,
        route: &RouteId,
        upstream: &UpstreamId,
    ) -> Standing {
        let Some(listener) = self.listeners.get(listener) else {
            return Standing::ListenerRemoved;
        };
        let leads_there = |route: &Route| {
            route.backends.iter().any(|backend| {
                backend.weight > 0 && matches!(&backend.target, Ok(target) if **target == *upstream)
            })
        };
        let hosts = &listener.hosts;
        let host = declared(hosts, &route.host);
        // One path may be there as Exact and as Prefix; the declared one says not which it was.
        let same = host
            .into_iter()
            .flat_map(|host| host.routes())
            .filter(|held| held.id.path == route.path);
        let found = host.and_then(|host| host.find(&route.path));
        let mut standing = Standing::RouteRemoved;
        for held in same.chain(found).chain(&hosts.fallback) {
            if leads_there(held) {
                return Standing::Current;
            }
            standing = Standing::BackendRemoved;
        }
        standing
    }
}

/// The routes of the most specific host that covers a declared one, which may be a wildcard.
fn declared<'a>(hosts: &'a HostTable, host: &str) -> Option<&'a Arc<HostRoutes>> {
    match host.strip_prefix("*.") {
        Some(suffix) => hosts.wildcard.find(suffix).or(hosts.any.as_ref()),
        None => hosts.host_routes((!host.is_empty()).then_some(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{
        Backend, ConnectionDrain, Origin, PathKind, PathMatch, PodProtocol, PolicyOverrides,
        Protocol, Timeouts,
    };

    /// Services, each with its weight.
    type Weights<'a> = &'a [(&'a str, u32)];

    fn upstream(service: &str) -> Arc<UpstreamId> {
        Arc::new(UpstreamId {
            namespace: "default".into(),
            service: service.into(),
            port: 80,
            protocol: PodProtocol::Plain,
        })
    }

    fn id(object: &str, host: &str, path: &str) -> RouteId {
        RouteId {
            origin: Arc::new(Origin {
                kind: "Ingress",
                namespace: "default".into(),
                name: object.into(),
            }),
            host: host.into(),
            path: path.into(),
        }
    }

    fn listener() -> ListenerId {
        ListenerId {
            namespace: "default".into(),
            load_balancer: "edge".into(),
            name: "http".into(),
        }
    }

    /// A listener with routes: object, host, path, backends with their weights.
    fn snapshot(routes: &[(&str, &str, &str, Weights<'_>)]) -> Snapshot {
        let mut hosts = HostTable::default();
        for (object, host, path, backends) in routes {
            let backend = |&(service, weight): &(&str, u32)| Backend {
                weight,
                target: Ok(upstream(service)),
            };
            let route = Arc::new(Route {
                id: Arc::new(id(object, host, path)),
                path: Some(PathMatch {
                    kind: PathKind::Prefix,
                    value: (*path).into(),
                }),
                backends: backends.iter().map(backend).collect(),
                overrides: PolicyOverrides::default(),
            });
            let before = declared(&hosts, host).map(|host| host.routes().cloned());
            let all = before.into_iter().flatten().chain([route]);
            let all = Arc::new(HostRoutes::new(all.collect::<Vec<_>>()).0);
            match host.strip_prefix("*.") {
                Some(suffix) => hosts.wildcard.set(&suffix.into(), Some(all)),
                None if host.is_empty() => hosts.any = Some(all),
                None => hosts.exact.set(&(*host).into(), Some(all)),
            }
        }
        let held = Listener {
            id: listener(),
            port: 80,
            target_port: 80,
            protocol: Protocol::Http,
            http2: false,
            http1_only: Arc::default(),
            timeouts: Timeouts::default(),
            websocket: Arc::default(),
            drain: ConnectionDrain::default(),
            rebalance: None,
            admission: Arc::default(),
            capacity: crate::routing::Capacity::default(),
            hosts: Arc::new(hosts),
            certificates: Arc::default(),
        };
        Snapshot {
            listeners: BTreeMap::from([(listener(), Arc::new(held))]),
        }
    }

    #[test]
    fn a_way_stands_for_as_long_as_a_handshake_could_come_by_it() {
        let chat = upstream("chat");
        let standing = |snapshot: &Snapshot, host: &str, path: &str| {
            snapshot.standing(&listener(), &id("chat", host, path), &chat)
        };
        for host in ["chat.example", "*.example", ""] {
            let path = "/ws";
            let backends: &[(&str, u32)] = &[("chat", 100)];
            let same = snapshot(&[("chat", host, path, backends)]);
            assert_eq!(standing(&same, host, path), Standing::Current);
            let renamed = snapshot(&[("other", host, path, &[("more", 1), ("chat", 1)])]);
            assert_eq!(standing(&renamed, host, path), Standing::Current);
            let wider = snapshot(&[("chat", host, "/", backends)]);
            assert_eq!(standing(&wider, host, path), Standing::Current);
            let without_weight = snapshot(&[("chat", host, path, &[("chat", 0), ("new", 1)])]);
            assert_eq!(
                standing(&without_weight, host, path),
                Standing::BackendRemoved
            );
            let elsewhere = snapshot(&[("chat", host, path, &[("new", 1)])]);
            assert_eq!(standing(&elsewhere, host, path), Standing::BackendRemoved);
            let narrower = snapshot(&[("chat", host, "/ws/v2", backends)]);
            assert_eq!(standing(&narrower, host, path), Standing::RouteRemoved);
            assert_eq!(standing(&snapshot(&[]), host, path), Standing::RouteRemoved);
        }
        assert_eq!(
            standing(&Snapshot::default(), "", "/"),
            Standing::ListenerRemoved
        );
        // A more specific host has taken what a wildcard served, but not all of it.
        let both = snapshot(&[
            ("chat", "*.example", "/", &[("chat", 1)]),
            ("new", "chat.example", "/", &[("new", 1)]),
        ]);
        assert_eq!(standing(&both, "*.example", "/"), Standing::Current);
    }
}
