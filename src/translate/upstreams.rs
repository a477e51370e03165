//! Which upstreams the routing table names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::routing::{HostRoutes, PodProtocol, Route, UpstreamId};
use crate::world::ObjectName;

/// How often each upstream is named by the routes of a snapshot.
#[derive(Debug, Default)]
pub(super) struct UpstreamUses {
    counts: BTreeMap<Arc<UpstreamId>, usize>,
    /// Whether an upstream that was touched since the last [`take_changes`](Self::take_changes)
    /// was in use before.
    before: HashMap<Arc<UpstreamId>, bool>,
}

impl UpstreamUses {
    pub(super) fn retain_host(&mut self, routes: &HostRoutes) {
        routes.routes().for_each(|route| self.retain(route));
    }

    pub(super) fn release_host(&mut self, routes: &HostRoutes) {
        routes.routes().for_each(|route| self.release(route));
    }

    pub(super) fn retain(&mut self, route: &Route) {
        for upstream in upstreams(route) {
            self.remember(upstream);
            *self.counts.entry(Arc::clone(upstream)).or_default() += 1;
        }
    }

    pub(super) fn release(&mut self, route: &Route) {
        for upstream in upstreams(route) {
            self.remember(upstream);
            if let Some(count) = self.counts.get_mut(upstream) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(upstream);
                }
            }
        }
    }

    fn remember(&mut self, upstream: &Arc<UpstreamId>) {
        if !self.before.contains_key(upstream) {
            let was_used = self.counts.contains_key(upstream);
            self.before.insert(Arc::clone(upstream), was_used);
        }
    }

    /// The upstreams that have come into use since the last call, and those that have gone out of
    /// it, each in order.
    pub(super) fn take_changes(&mut self) -> (Vec<Arc<UpstreamId>>, Vec<Arc<UpstreamId>>) {
        let (mut entering, mut leaving) = (Vec::new(), Vec::new());
        for (upstream, was_used) in std::mem::take(&mut self.before) {
            match (was_used, self.counts.contains_key(&upstream)) {
                (false, true) => entering.push(upstream),
                (true, false) => leaving.push(upstream),
                _ => {}
            }
        }
        entering.sort_unstable();
        leaving.sort_unstable();
        (entering, leaving)
    }

    pub(super) fn of(&self, service: &ObjectName) -> impl Iterator<Item = &Arc<UpstreamId>> {
        let bound = |port, protocol| UpstreamId {
            namespace: Arc::clone(&service.namespace),
            service: Arc::clone(&service.name),
            port,
            protocol,
        };
        let first = bound(0, PodProtocol::Plain);
        let last = bound(u16::MAX, PodProtocol::Tls);
        self.counts
            .range::<UpstreamId, _>(&first..=&last)
            .map(|(upstream, _)| upstream)
    }
}

fn upstreams(route: &Route) -> impl Iterator<Item = &Arc<UpstreamId>> {
    route
        .backends
        .iter()
        .filter_map(|backend| backend.target.as_ref().ok())
}
