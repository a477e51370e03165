//! Host and path match.
//!
//! ```text
//! host ─▶ exact ─▶ wildcard (one label) ─▶ any host        the most specific one decides
//!            └──────────┴──────────┴─▶ path: longest first; Exact, Prefix, ImplementationSpecific
//!                                        └─▶ the host's default backend ─▶ the table's
//! ```
//!
//! Once a host is chosen, less specific hosts are not looked at: a path that the host does not
//! have is answered by a default backend or with 404, as ingress-nginx does.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::NameMap;
use super::path::{PathKind, PathMatch};
use super::route::Route;

/// All routes of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTable {
    /// By exact host in lower case.
    pub exact: NameMap<Arc<HostRoutes>>,
    /// By what follows `*.`, in lower case. A wildcard stands for exactly one label.
    pub wildcard: NameMap<Arc<HostRoutes>>,
    /// For requests whose host nobody has claimed.
    pub any: Option<Arc<HostRoutes>>,
    /// The default backend for what nothing else takes.
    pub fallback: Option<Arc<Route>>,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug)]
pub enum Match<'a> {
    /// A route.
    Route(&'a Arc<Route>),
    /// No object claims the host.
    NoHost,
    /// The host is served, but not this path.
    NoPath,
}

impl HostTable {
    /// The route for a host (lower case, without port and trailing dot; `None` if the client gave
    /// none) and a path in normal form.
    #[must_use]
    pub fn find(&self, host: Option<&str>, path: &str) -> Match<'_> {
        let routes = self.host_routes(host);
        match routes
            .and_then(|routes| routes.find(path))
            .or(self.fallback.as_ref())
        {
            Some(route) => Match::Route(route),
            None if routes.is_some() => Match::NoPath,
            None => Match::NoHost,
        }
    }

    /// The routes of the most specific declared host that covers `host`.
    #[must_use]
    pub fn host_routes(&self, host: Option<&str>) -> Option<&Arc<HostRoutes>> {
        host.and_then(|host| {
            self.exact.find(host).or_else(|| {
                let (label, suffix) = host.split_once('.')?;
                (!label.is_empty())
                    .then(|| self.wildcard.find(suffix))
                    .flatten()
            })
        })
        .or(self.any.as_ref())
    }

    /// Every route, in no particular order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.exact
            .iter()
            .chain(self.wildcard.iter())
            .map(|(_, routes)| routes)
            .chain(self.any.as_ref())
            .flat_map(|routes| routes.routes())
            .chain(self.fallback.as_ref())
    }
}

/// The routes of one host. Build with [`HostRoutes::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRoutes {
    exact: HashMap<Box<str>, Arc<Route>>,
    /// By [`prefix_key`](super::path::PathMatch::prefix_key).
    prefix: HashMap<Box<str>, Arc<Route>>,
    /// Length of the longest prefix key: no longer one needs to be looked up.
    longest_prefix: usize,
    fallback: Option<Arc<Route>>,
}

impl HostRoutes {
    /// Builds the routes of a host. Of two routes that match the same requests the first stays,
    /// and the other is returned as a loser; a `Prefix` goes before an equally long
    /// `ImplementationSpecific` path whatever the order.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>) -> (Self, Vec<Arc<Route>>) {
        let mut host = Self::default();
        let mut losers = Vec::new();
        for route in routes {
            let Some(path) = &route.path else {
                match host.fallback {
                    Some(_) => losers.push(route),
                    None => host.fallback = Some(route),
                }
                continue;
            };
            let (map, key) = match path.kind {
                PathKind::Exact => (&mut host.exact, &*path.value),
                PathKind::Prefix | PathKind::ImplementationSpecific => {
                    host.longest_prefix = host.longest_prefix.max(path.prefix_key().len());
                    (&mut host.prefix, path.prefix_key())
                }
            };
            match map.get(key) {
                Some(holder) if rank(holder) <= rank(&route) => losers.push(route),
                _ => {
                    let key = key.into();
                    losers.extend(map.insert(key, route));
                }
            }
        }
        (host, losers)
    }

    /// The route for a path in normal form: the longest match, and among equals an exact one.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.exact
            .get(path)
            .or_else(|| self.find_prefix(path))
            .or(self.fallback.as_ref())
    }

    /// The route that holds the place which a route with this match would take; `None` as a match
    /// stands for the default backend.
    #[must_use]
    pub fn holder(&self, path: Option<&PathMatch>) -> Option<&Arc<Route>> {
        let Some(path) = path else {
            return self.fallback.as_ref();
        };
        match path.kind {
            PathKind::Exact => self.exact.get(&*path.value),
            PathKind::Prefix | PathKind::ImplementationSpecific => {
                self.prefix.get(path.prefix_key())
            }
        }
    }

    fn find_prefix(&self, path: &str) -> Option<&Arc<Route>> {
        if self.prefix.is_empty() {
            return None;
        }
        // From the longest candidate to the shortest, cutting at element boundaries only.
        let mut end = path.len();
        loop {
            if end <= self.longest_prefix
                && let Some(route) = path.get(..end).and_then(|key| self.prefix.get(key))
            {
                return Some(route);
            }
            if end == 0 {
                return None;
            }
            // Nothing longer than the longest prefix can match: start looking behind it.
            let from = end.min(self.longest_prefix + 1);
            end = path
                .as_bytes()
                .get(..from)?
                .iter()
                .rposition(|&byte| byte == b'/')?;
        }
    }

    /// Every route of the host, in no particular order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.exact
            .values()
            .chain(self.prefix.values())
            .chain(self.fallback.as_ref())
    }
}

fn rank(route: &Route) -> Option<PathKind> {
    route.path.as_ref().map(|path| path.kind)
}
