//! Everything that is attached to one load balancer, merged per host.
//!
//! ```text
//! parts ─▶ claims: host ─▶ contributors, oldest first ─▶ HostRoutes ─▶ HostTable ─▶ Listener
//!      └─▶ offers: server name ─▶ contributors, oldest first ─▶ CertificateTable ──┘
//! ```
//!
//! Only the hosts that a change concerns are merged again; all others are shared with the tables
//! before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Parts;
use super::finding::{Finding, FindingSet, Notes, Reason};
use super::part::{Claim, Contribution, ListenerSpec, Part, Seniority};
use super::ports::Granted;
use super::sorted::SortedSet;
use super::upstreams::UpstreamUses;
use crate::routing::{
    Certificate, CertificateTable, HostRoutes, HostTable, Listener, ListenerId, Origin, Protocol,
    Route,
};
use crate::world::{Kind, ObjectKey, ObjectName};

/// The parts attached to a load balancer and the tables made from them.
#[derive(Debug, Default)]
pub(super) struct Attached {
    members: BTreeSet<Seniority>,
    claims: HashMap<Claim, SortedSet<Seniority>>,
    offers: HashMap<Arc<str>, SortedSet<Seniority>>,
    granted: Vec<Granted>,
    groups: Vec<Group>,
    certificates: Arc<CertificateTable>,
    /// The tables of listeners that have certificates of their own.
    listener_certificates: HashMap<Arc<str>, Arc<CertificateTable>>,
    route_conflicts: HashMap<Claim, Vec<Finding>>,
    certificate_conflicts: HashMap<Arc<str>, Vec<Finding>>,
    stale: Stale,
}

/// Listeners that serve the same routes and so share a table.
#[derive(Debug)]
struct Group {
    listeners: Vec<Arc<str>>,
    hosts: Arc<HostTable>,
}

/// What has to be merged again.
#[derive(Debug, Default)]
struct Stale {
    claims: BTreeSet<Claim>,
    server_names: BTreeSet<Arc<str>>,
    groups: bool,
}

/// What a merge reads and what it reports to.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) parts: &'a Parts,
    pub(super) findings: &'a mut FindingSet,
    pub(super) upstreams: &'a mut UpstreamUses,
}

impl Attached {
    /// Takes a part in.
    pub(super) fn add(&mut self, part: &Part) {
        self.members.insert(part.seniority.clone());
        for claim in part.routes.keys() {
            let contributors = self.claims.entry(claim.clone()).or_default();
            contributors.insert(part.seniority.clone());
            self.stale.claims.insert(claim.clone());
        }
        for name in part.certificates.keys() {
            let contributors = self.offers.entry(Arc::clone(name)).or_default();
            contributors.insert(part.seniority.clone());
            self.stale.server_names.insert(Arc::clone(name));
        }
        self.stale.groups |= part.seniority.key().kind == Kind::LoadBalancer;
    }

    /// Takes a part out.
    pub(super) fn remove(&mut self, part: &Part) {
        self.members.remove(&part.seniority);
        for claim in part.routes.keys() {
            if let Some(contributors) = self.claims.get_mut(claim) {
                contributors.remove(&part.seniority);
                if contributors.is_empty() {
                    self.claims.remove(claim);
                }
            }
            self.stale.claims.insert(claim.clone());
        }
        for name in part.certificates.keys() {
            if let Some(contributors) = self.offers.get_mut(name) {
                contributors.remove(&part.seniority);
                if contributors.is_empty() {
                    self.offers.remove(name);
                }
            }
            self.stale.server_names.insert(Arc::clone(name));
        }
        self.stale.groups |= part.seniority.key().kind == Kind::LoadBalancer;
    }

    /// Sets the listeners that the load balancer has won; answers whether they differ.
    pub(super) fn grant(&mut self, granted: &[Granted]) -> bool {
        if self.granted == granted {
            return false;
        }
        self.granted = granted.to_vec();
        self.listener_certificates.clear();
        self.stale.groups = true;
        true
    }

    /// The objects attached, oldest first.
    pub(super) fn members(&self) -> impl Iterator<Item = ObjectKey> {
        self.members.iter().map(Seniority::key)
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether nothing is left that is worth keeping.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.granted.is_empty()
    }

    /// Merges again what is stale. `own` is the part of the LoadBalancer itself.
    pub(super) fn refresh(&mut self, own: Option<&Part>, around: &mut Surroundings<'_>) {
        let stale = std::mem::take(&mut self.stale);
        let regrouped = stale.groups && self.regroup(own, around.upstreams);
        if regrouped {
            let gone: Vec<Claim> = self.route_conflicts.keys().cloned().collect();
            let held: Vec<Claim> = self.claims.keys().cloned().collect();
            for claim in gone.iter().chain(&held) {
                self.merge_claim(claim, around);
            }
        } else {
            for claim in &stale.claims {
                self.merge_claim(claim, around);
            }
        }
        for name in &stale.server_names {
            self.merge_offers(name, around);
        }
    }

    /// Groups the listeners by the rules they serve; answers whether the groups differ.
    fn regroup(&mut self, own: Option<&Part>, upstreams: &mut UpstreamUses) -> bool {
        let restrictions: BTreeSet<&Arc<[Arc<str>]>> = own
            .iter()
            .flat_map(|part| part.routes.values().flatten())
            .filter_map(|contribution| contribution.listeners.as_ref())
            .collect();
        let mut groups: BTreeMap<Vec<bool>, Vec<Arc<str>>> = BTreeMap::new();
        for Granted { spec: listener, .. } in &self.granted {
            let signature = restrictions
                .iter()
                .map(|names| names.contains(&listener.name))
                .collect();
            groups
                .entry(signature)
                .or_default()
                .push(Arc::clone(&listener.name));
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_unstable();
        if groups
            .iter()
            .eq(self.groups.iter().map(|group| &group.listeners))
        {
            return false;
        }
        for group in &self.groups {
            group
                .hosts
                .routes()
                .for_each(|route| upstreams.release(route));
        }
        self.groups = groups
            .into_iter()
            .map(|listeners| Group {
                listeners,
                hosts: Arc::default(),
            })
            .collect();
        true
    }

    /// The contest for a place: contributors come oldest first, and the first keeps it.
    fn merge_claim(&mut self, claim: &Claim, around: &mut Surroundings<'_>) {
        if let Some(findings) = self.route_conflicts.remove(claim) {
            around.findings.remove(&findings);
        }
        let contributors: Vec<(&Part, &[Contribution])> = self
            .claims
            .get(claim)
            .into_iter()
            .flatten()
            .filter_map(|seniority| {
                let part = around.parts.get(&seniority.key())?;
                Some((&**part, part.routes.find(claim)?.as_slice()))
            })
            .collect();
        let mut conflicts = Vec::new();
        for group in &mut self.groups {
            let served_by = group.listeners.first().map_or("", |name| &**name);
            let mut is_claimed = false;
            let mut entries: Vec<(&Part, &Contribution)> = Vec::new();
            for (part, contributions) in &contributors {
                is_claimed |= contributions.is_empty();
                entries.extend(
                    contributions
                        .iter()
                        .filter(|contribution| contribution.is_served_by(served_by))
                        .map(|contribution| (*part, contribution)),
                );
            }
            is_claimed |= !entries.is_empty();
            let routes = entries.iter().map(|(_, entry)| Arc::clone(&entry.route));
            let (routes, losers) = HostRoutes::new(routes);
            for loser in losers {
                let place = entries
                    .iter()
                    .find(|(_, entry)| Arc::ptr_eq(&entry.route, &loser));
                if let (Some((part, entry)), Some(winner)) =
                    (place, routes.holder(loser.path.as_ref()))
                {
                    let finding = route_conflict(claim, part, entry, winner);
                    conflicts.extend(finding);
                }
            }
            let routes = is_claimed.then(|| Arc::new(routes));
            set_claim(&mut group.hosts, claim, routes, around.upstreams);
        }
        if !conflicts.is_empty() {
            conflicts.sort_unstable();
            conflicts.dedup();
            around.findings.add(&conflicts);
            self.route_conflicts.insert(claim.clone(), conflicts);
        }
    }

    fn merge_offers(&mut self, name: &Arc<str>, around: &mut Surroundings<'_>) {
        if let Some(findings) = self.certificate_conflicts.remove(name) {
            around.findings.remove(&findings);
        }
        let mut winner: Option<(&Part, &Arc<Certificate>)> = None;
        let mut conflicts = Vec::new();
        for seniority in self.offers.get(name).into_iter().flatten() {
            let Some(part) = around.parts.get(&seniority.key()) else {
                continue;
            };
            let Some(offer) = part.certificates.get(name) else {
                continue;
            };
            match winner {
                None => winner = Some((part, &offer.certificate)),
                Some((holder, certificate)) if *certificate != offer.certificate => {
                    let mut notes = Notes::new(seniority.key());
                    notes.error(
                        Reason::CertificateConflict,
                        offer.field.clone(),
                        format!(
                            "{name} has another certificate from {}, which is older, or as old \
                             and first by name, and stays; name the host in one Ingress only, or \
                             the same certificate in both",
                            holder.seniority.key()
                        ),
                    );
                    conflicts.extend(notes.into_findings());
                }
                Some(_) => {}
            }
        }
        let certificate = winner.map(|(_, certificate)| Arc::clone(certificate));
        if !conflicts.is_empty() {
            around.findings.add(&conflicts);
            self.certificate_conflicts
                .insert(Arc::clone(name), conflicts);
        }
        if self.certificates.declared(name) != certificate.as_ref() {
            Arc::make_mut(&mut self.certificates).set(name, certificate);
            self.listener_certificates.clear();
        }
    }

    /// The listeners as the proxy reads them.
    pub(super) fn listeners(&mut self, name: &ObjectName) -> Vec<Listener> {
        let granted = self.granted.clone();
        granted
            .iter()
            .map(|Granted { spec, target_port }| Listener {
                id: ListenerId {
                    namespace: Arc::clone(&name.namespace),
                    load_balancer: Arc::clone(&name.name),
                    name: Arc::clone(&spec.name),
                },
                port: spec.port,
                target_port: *target_port,
                protocol: spec.protocol,
                http2: spec.http2,
                http1_only: Arc::clone(&spec.http1_only),
                timeouts: spec.timeouts,
                websocket: Arc::clone(&spec.websocket),
                drain: spec.drain,
                rebalance: spec.rebalance,
                admission: Arc::clone(&spec.admission),
                capacity: spec.capacity,
                hosts: self
                    .groups
                    .iter()
                    .find(|group| group.listeners.contains(&spec.name))
                    .map(|group| Arc::clone(&group.hosts))
                    .unwrap_or_default(),
                certificates: self.certificates_of(spec),
            })
            .collect()
    }

    /// Certificates of Ingresses go before those of the listener: a `tls` block names one host,
    /// where a listener's certificate happens to be for it among others.
    fn certificates_of(&mut self, spec: &ListenerSpec) -> Arc<CertificateTable> {
        if spec.protocol == Protocol::Http {
            return Arc::default();
        }
        if spec.default_certificate.is_none() {
            return Arc::clone(&self.certificates);
        }
        let base = &self.certificates;
        let table = self
            .listener_certificates
            .entry(Arc::clone(&spec.name))
            .or_insert_with(|| {
                let mut table = CertificateTable::clone(base);
                table.default.clone_from(&spec.default_certificate);
                for (name, certificate) in &spec.certificates {
                    if base.declared(name).is_none() {
                        table.set(name, Some(Arc::clone(certificate)));
                    }
                }
                Arc::new(table)
            });
        Arc::clone(table)
    }
}

/// Puts routes in their place, unless equal ones are there, and keeps count of upstreams.
fn set_claim(
    hosts: &mut Arc<HostTable>,
    claim: &Claim,
    routes: Option<Arc<HostRoutes>>,
    upstreams: &mut UpstreamUses,
) {
    if *claim == Claim::Fallback {
        let route = routes.and_then(|routes| routes.holder(None).cloned());
        if hosts.fallback != route {
            hosts
                .fallback
                .iter()
                .for_each(|route| upstreams.release(route));
            route.iter().for_each(|route| upstreams.retain(route));
            Arc::make_mut(hosts).fallback = route;
        }
        return;
    }
    let held = match claim {
        Claim::Exact(host) => hosts.exact.find(host),
        Claim::Wildcard(suffix) => hosts.wildcard.find(suffix),
        Claim::AnyHost | Claim::Fallback => hosts.any.as_ref(),
    };
    if held == routes.as_ref() {
        return;
    }
    if let Some(held) = held {
        upstreams.release_host(held);
    }
    if let Some(routes) = &routes {
        upstreams.retain_host(routes);
    }
    let hosts = Arc::make_mut(hosts);
    match claim {
        Claim::Exact(host) => hosts.exact.set(host, routes),
        Claim::Wildcard(suffix) => hosts.wildcard.set(suffix, routes),
        Claim::AnyHost | Claim::Fallback => hosts.any = routes,
    }
}

fn route_conflict(
    claim: &Claim,
    part: &Part,
    entry: &Contribution,
    winner: &Route,
) -> Vec<Finding> {
    let object = part.seniority.key();
    let what = entry.route.path.as_ref().map_or_else(
        || "the default backend".to_owned(),
        |path| format!("path {}", path.value),
    );
    let message = if is_origin(&winner.id.origin, &object) {
        format!("{what} of {claim} is declared twice in this object; one of the two has no effect")
    } else if winner.path.as_ref().map(|path| path.kind)
        != entry.route.path.as_ref().map(|path| path.kind)
    {
        format!(
            "{what} of {claim} belongs to {}, as Prefix goes before ImplementationSpecific; this \
             one has no effect",
            winner.id.origin
        )
    } else {
        format!(
            "{what} of {claim} belongs to {}, which is older, or as old and first by name; this one \
             has no effect; choose another host or path, or remove one of the two",
            winner.id.origin
        )
    };
    let mut notes = Notes::new(object);
    notes.error(Reason::RouteConflict, entry.field.clone(), message);
    notes.into_findings()
}

fn is_origin(origin: &Origin, object: &ObjectKey) -> bool {
    *origin.kind == *object.kind.as_str()
        && origin.namespace == object.name.namespace
        && origin.name == object.name.name
}
