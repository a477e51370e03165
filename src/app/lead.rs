//! The leader and what it is told, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Controller;
use crate::control::outcome::{OpenTunnels, Outcome};
use crate::leader::{Agenda, Leader, Leads};
use crate::proxy::Proxy;
use crate::routing::ListenerId;

/// A leader, and the part of the control loop that keeps its agenda.
pub(super) fn leader(controller: Controller, proxy: &Arc<Proxy>) -> (Leader, Outcome, Leads) {
    let Controller { replicas, leader } = controller;
    let agenda = Agenda::default();
    let (leader, leads) = Leader::new(leader, agenda.clone(), Arc::clone(&proxy.metrics));
    let outcome = Outcome::new(
        replicas,
        agenda,
        leads.leading.clone(),
        open_tunnels(&leads, proxy),
    )
    .with_peers(leads.peers.clone());
    (leader, outcome, leads)
}

/// Those of all replicas, as the leader has asked them; until it has, this one's.
fn open_tunnels(leads: &Leads, proxy: &Arc<Proxy>) -> OpenTunnels {
    let sums = leads.tunnels.clone();
    let tunnels = proxy.tunnels.clone();
    Arc::new(move || {
        let sums = sums.borrow();
        let counts: BTreeMap<ListenerId, u64> = if sums.is_empty() {
            let own = tunnels.open_by_listener();
            own.into_iter()
                .map(|(listener, count)| ((*listener).clone(), count))
                .collect()
        } else {
            sums.iter()
                .filter_map(|(name, count)| Some((listener(name)?, *count)))
                .collect()
        };
        counts
            .into_iter()
            .map(|(listener, count)| (listener, u32::try_from(count).unwrap_or(u32::MAX)))
            .collect()
    })
}

/// A listener by its name as it is shown.
fn listener(name: &str) -> Option<ListenerId> {
    let (namespace, rest) = name.split_once('/')?;
    let (load_balancer, name) = rest.split_once('/')?;
    Some(ListenerId {
        namespace: namespace.into(),
        load_balancer: load_balancer.into(),
        name: name.into(),
    })
}
