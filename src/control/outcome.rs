//! What the API server should say of what we do, and how that differs from what it says.
//!
//! ```text
//! world, translator ─▶ desired: statuses, owned Services, finalizers ─┐
//!                                        what the world says of them ─┴─ differs ─▶ Agenda
//! findings that stand ─────────────────────────────────────────────────────────────▶ Agenda
//! ```
//!
//! Only the replica that leads looks. What has been written comes back from the source as a
//! change, is found to be as it should, and leaves the agenda; so nothing needs to be remembered,
//! and what somebody else changes is put right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::replicas::Replicas;
use crate::api::{Address, Exposure};
use crate::leader::{Agenda, Aspect, Matter, Notice, Write};
use crate::routing::ListenerId;
use crate::translate::Translator;
use crate::translate::finding::Finding;
use crate::translate::owned_service::{is_as_declared, owned_service, owned_service_name};
use crate::translate::report::{Report, Subject};
use crate::translate::status::{Facts, load_balancer_status};
use crate::world::{
    Change, Ingress, Kind, LoadBalancer, ObjectKey, ObjectName, OwnedService, StatusMark, World,
};

/// How often the status of a LoadBalancer may change because of what is attached to it.
const ATTACHMENT_INTERVAL: Duration = Duration::from_secs(1);
/// How often it may change because of open tunnels alone.
const TUNNEL_INTERVAL: Duration = Duration::from_secs(30);
/// For how long a finding has to stand before an Event tells of it. `kubectl apply` of an Ingress
/// and its Service makes one of some milliseconds.
const STANDING: Duration = Duration::from_secs(2);

/// Asks for the open WebSockets of all replicas, by listener.
pub type OpenTunnels = Arc<dyn Fn() -> BTreeMap<ListenerId, u32> + Send + Sync>;

/// See the module.
pub struct Outcome {
    replicas: Replicas,
    agenda: Agenda,
    leading: watch::Receiver<bool>,
    open_tunnels: OpenTunnels,
    /// Open WebSockets when they were last counted. A status that always had the last number would
    /// be written without end.
    counted: BTreeMap<ListenerId, u32>,
    /// Who wants to know where the replicas' admin ports are.
    peers: Option<watch::Sender<Vec<SocketAddr>>>,
    /// Whether the agenda is being kept.
    is_kept: bool,
    ingresses: BTreeSet<ObjectName>,
    /// To be looked at now, and when the interval is over.
    load_balancers: BTreeSet<ObjectName>,
    attachments: BTreeSet<ObjectName>,
    hosts_changed: bool,
    attachments_due: Instant,
    tunnels_due: Instant,
    /// The addresses that the Ingresses of each load balancer were last compared with.
    addresses: BTreeMap<ObjectName, Arc<[Address]>>,
    /// Findings that are there, since when, and whether they have been told.
    findings: BTreeMap<Finding, Standing>,
    /// What `findings` was taken from.
    told: Option<Arc<Vec<Report>>>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    since: Instant,
    is_told: bool,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// What an outcome is worked out from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) world: &'a World,
    pub(super) translator: &'a Translator,
    /// Findings about LoadBalancers that the translator does not know of.
    pub(super) findings: &'a [Finding],
}

impl Outcome {
    /// Keeps `agenda` while `leading` says so.
    #[must_use]
    pub fn new(
        replicas: Replicas,
        agenda: Agenda,
        leading: watch::Receiver<bool>,
        open_tunnels: OpenTunnels,
    ) -> Self {
        let now = Instant::now();
        Self {
            replicas,
            agenda,
            leading,
            open_tunnels,
            counted: BTreeMap::new(),
            peers: None,
            is_kept: false,
            ingresses: BTreeSet::new(),
            load_balancers: BTreeSet::new(),
            attachments: BTreeSet::new(),
            hosts_changed: false,
            attachments_due: now,
            tunnels_due: now,
            addresses: BTreeMap::new(),
            findings: BTreeMap::new(),
            told: None,
        }
    }

    /// Lets it tell where the admin ports of the replicas are.
    #[must_use]
    pub fn with_peers(mut self, peers: watch::Sender<Vec<SocketAddr>>) -> Self {
        self.peers = Some(peers);
        self
    }

    /// Whether this replica leads.
    pub(super) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// When [`Outcome::settle`] has something to do without any change.
    pub(super) fn due(&self) -> Option<Instant> {
        if !self.is_kept {
            return None;
        }
        let attachments = (!self.attachments.is_empty()).then_some(self.attachments_due);
        let waiting = self.findings.values().filter(|standing| !standing.is_told);
        let findings = waiting.map(|standing| standing.since + STANDING).min();
        [Some(self.tunnels_due), attachments, findings]
            .into_iter()
            .flatten()
            .min()
    }

    /// Notes what differs in the world.
    pub(super) fn note(&mut self, change: &Change, world: &World) {
        if !self.is_kept {
            return;
        }
        match change {
            Change::Status(key) => match key.kind {
                // Our own write, most often, which must not lead to the next one at once.
                Kind::LoadBalancer => {
                    self.attachments.insert(key.name.clone());
                }
                _ => {
                    self.ingresses.insert(key.name.clone());
                }
            },
            Change::Object(key) => match key.kind {
                Kind::Ingress => {
                    self.ingresses.insert(key.name.clone());
                }
                Kind::LoadBalancer => {
                    self.load_balancers.insert(key.name.clone());
                }
                Kind::Service => self.note_service(&key.name, world),
                _ => {}
            },
            Change::Endpoints { services, .. } => {
                self.hosts_changed |= self
                    .replicas
                    .peers
                    .as_ref()
                    .is_some_and(|peers| services.contains(peers));
            }
        }
    }

    /// A Service that is gone can only be told by its name.
    fn note_service(&mut self, name: &ObjectName, world: &World) {
        let namespace = &self.replicas.pods.namespace;
        if *name.namespace != **namespace {
            return;
        }
        if let Some(owned) = world
            .services()
            .get(name)
            .and_then(|held| held.owned.as_ref())
        {
            self.load_balancers.insert(owned.owner.clone());
        }
        let owners = world.load_balancers().keys();
        let owner = owners
            .into_iter()
            .find(|owner| owned_service_name(owner, namespace) == *name);
        self.load_balancers.extend(owner.cloned());
    }

    /// Notes whose part in the table is another.
    pub(super) fn note_replaced(&mut self, replaced: &[ObjectKey], translator: &Translator) {
        if !self.is_kept {
            return;
        }
        for key in replaced {
            match key.kind {
                Kind::Ingress => {
                    self.ingresses.insert(key.name.clone());
                    self.attachments
                        .extend(translator.load_balancer_of(key).cloned());
                }
                Kind::LoadBalancer => {
                    self.load_balancers.insert(key.name.clone());
                    // Ports that it frees or takes are another's to be told.
                    let others = translator.load_balancers();
                    self.attachments.extend(others.cloned());
                }
                _ => {}
            }
        }
    }

    /// Puts on the agenda what differs, and takes off it what does not.
    pub(super) fn settle(&mut self, known: &Known<'_>) {
        let is_leading = *self.leading.borrow_and_update();
        if !is_leading {
            if std::mem::take(&mut self.is_kept) {
                self.forget();
            }
            return;
        }
        if !std::mem::replace(&mut self.is_kept, true) {
            self.look_at_everything(known.world);
            self.tell_peers(known.world);
        }
        let now = Instant::now();
        if std::mem::take(&mut self.hosts_changed) {
            self.tell_peers(known.world);
            let names = known.world.load_balancers().keys();
            self.load_balancers.extend(names.cloned());
            self.load_balancers.extend(self.addresses.keys().cloned());
        }
        if now >= self.tunnels_due {
            self.tunnels_due = now + TUNNEL_INTERVAL;
            self.counted = (self.open_tunnels)();
            let names = known.world.load_balancers().keys();
            self.load_balancers.extend(names.cloned());
        }
        if now >= self.attachments_due && !self.attachments.is_empty() {
            self.attachments_due = now + ATTACHMENT_INTERVAL;
            self.load_balancers.append(&mut self.attachments);
        }
        if !self.load_balancers.is_empty() {
            for name in std::mem::take(&mut self.load_balancers) {
                self.load_balancer(&name, known);
            }
        }
        for name in std::mem::take(&mut self.ingresses) {
            self.ingress(name, known);
        }
    }

    fn forget(&mut self) {
        self.agenda.clear();
        self.ingresses.clear();
        self.load_balancers.clear();
        self.attachments.clear();
        self.addresses.clear();
        self.findings.clear();
        self.told = None;
    }

    fn look_at_everything(&mut self, world: &World) {
        self.ingresses = world.ingresses().keys().cloned().collect();
        self.load_balancers = world.load_balancers().keys().cloned().collect();
        // Services may have outlived their owners while nobody led.
        let owned = world.services().iter().filter_map(|(name, service)| {
            let owned = service.owned.as_ref()?;
            (*name.namespace == *self.replicas.pods.namespace).then(|| owned.owner.clone())
        });
        self.load_balancers.extend(owned);
    }

    fn load_balancer(&mut self, name: &ObjectName, known: &Known<'_>) {
        let key = ObjectKey::new(Kind::LoadBalancer, name.clone());
        let declared = known.world.load_balancers().get(name);
        self.service(name, declared.map(|declared| &**declared), known);
        let addresses = self.addresses_of(name, known.world);
        let before = self.addresses.get(name).map_or(&[][..], |before| before);
        if *before != *addresses {
            let members = known.translator.members_of(name);
            let ingresses = members.filter(|member| member.kind == Kind::Ingress);
            self.ingresses.extend(ingresses.map(|ingress| ingress.name));
        }
        let status = declared
            .filter(|declared| !declared.meta.is_deleting)
            .and_then(|declared| {
                let facts = Facts {
                    now: &now(),
                    addresses: &addresses,
                    findings: known.findings,
                    open_tunnels: &self.counted,
                };
                let status = load_balancer_status(declared, known.translator, &facts);
                (status != declared.status).then_some(status)
            });
        self.put(
            key,
            Aspect::Status,
            |status| Write::LoadBalancerStatus(Box::new(status)),
            status,
        );
        match declared {
            Some(_) => self.addresses.insert(name.clone(), addresses),
            None => self.addresses.remove(name),
        };
    }

    /// The finalizer goes on before the Service is made, and off after it has gone.
    fn service(&self, owner: &ObjectName, declared: Option<&LoadBalancer>, known: &Known<'_>) {
        let name = owned_service_name(owner, &self.replicas.pods.namespace);
        let held = known.world.services().get(&name);
        let actual = owned(known.world, &name, owner);
        let key = ObjectKey::new(Kind::LoadBalancer, owner.clone());
        let has_finalizer = declared.is_some_and(|declared| declared.has_finalizer);
        let wanting = declared.filter(|declared| {
            !declared.meta.is_deleting
                && declared.spec.exposure == Exposure::Service
                && !self.replicas.pods.selector.is_empty()
        });
        let (finalizer, write) = match wanting {
            Some(_) if !has_finalizer => (Some(true), None),
            Some(declared) => {
                let listeners = known.translator.listeners_of(owner);
                let wanted = owned_service(declared, listeners, &self.replicas.pods);
                let wanted = wanted.filter(|wanted| match (actual, held) {
                    (Some(actual), _) => !is_as_declared(wanted, actual),
                    // Somebody else's Service of this name is not ours to change.
                    (None, Some(_)) => false,
                    (None, None) => true,
                });
                (None, wanted.map(|wanted| Write::Service(Box::new(wanted))))
            }
            None => {
                let uid = held.filter(|_| actual.is_some()).map(|held| held.meta.uid);
                let finalizer = (has_finalizer && actual.is_none()).then_some(false);
                (finalizer, uid.map(Write::DeleteService))
            }
        };
        let service = ObjectKey::new(Kind::Service, name);
        self.put(key, Aspect::Finalizer, Write::Finalizer, finalizer);
        self.put(service, Aspect::Object, |write| write, write);
    }

    fn ingress(&self, name: ObjectName, known: &Known<'_>) {
        let key = ObjectKey::new(Kind::Ingress, name);
        let write = known.world.ingresses().get(&key.name).and_then(|ingress| {
            let owner = known.translator.load_balancer_of(&key);
            let addresses = owner.map_or_else(Arc::default, |owner| {
                let known_addresses = self.addresses.get(owner).cloned();
                known_addresses.unwrap_or_else(|| self.addresses_of(owner, known.world))
            });
            differs(ingress, &addresses).then_some(addresses)
        });
        self.put(key, Aspect::Status, Write::IngressAddresses, write);
    }

    fn put<T>(
        &self,
        object: ObjectKey,
        aspect: Aspect,
        write: impl FnOnce(T) -> Write,
        wanted: Option<T>,
    ) {
        let matter = Matter { object, aspect };
        match wanted {
            Some(wanted) => self.agenda.set(matter, write(wanted)),
            None => self.agenda.withdraw(&matter),
        }
    }

    /// Where clients reach a load balancer.
    fn addresses_of(&self, name: &ObjectName, world: &World) -> Arc<[Address]> {
        let declared = world.load_balancers().get(name);
        let exposure = declared.map(|declared| declared.spec.exposure);
        if exposure == Some(Exposure::Service) {
            let service = owned_service_name(name, &self.replicas.pods.namespace);
            let actual = owned(world, &service, name);
            return actual.map_or_else(Arc::default, |actual| actual.addresses.as_slice().into());
        }
        self.replicas.hosts(world)
    }

    /// Takes in all that is wrong now, and tells what has been for long enough.
    pub(super) fn tell(&mut self, reports: &Arc<Vec<Report>>, world: &World) {
        if !self.is_kept {
            return;
        }
        let now = Instant::now();
        if self
            .told
            .as_ref()
            .is_some_and(|told| Arc::ptr_eq(told, reports))
        {
            self.tell_standing(world, now);
            return;
        }
        self.told = Some(Arc::clone(reports));
        let current: BTreeSet<Finding> = reports.iter().filter_map(finding_of).collect();
        let agenda = &self.agenda;
        self.findings.retain(|finding, standing| {
            let stays = current.contains(finding);
            if !stays && standing.is_told {
                agenda.resolved(&Notice {
                    finding: finding.clone(),
                    uid: world.uid(&finding.object),
                });
            }
            stays
        });
        for finding in current {
            self.findings.entry(finding).or_insert(Standing {
                since: now,
                is_told: false,
            });
        }
        self.tell_standing(world, now);
    }

    fn tell_peers(&self, world: &World) {
        if let Some(peers) = &self.peers {
            peers.send_replace(self.replicas.admin_ports(world));
        }
    }

    fn tell_standing(&mut self, world: &World, now: Instant) {
        for (finding, standing) in &mut self.findings {
            if standing.is_told || now < standing.since + STANDING {
                continue;
            }
            standing.is_told = true;
            let given_up = self.agenda.tell(Notice {
                finding: finding.clone(),
                uid: world.uid(&finding.object),
            });
            if given_up > 0 {
                tracing::debug!(given_up, "too many findings to tell them all as Events");
            }
        }
    }
}

/// Whether an Ingress has to be written. Addresses that others have written stay where we have
/// none to tell.
fn differs(ingress: &Ingress, addresses: &[Address]) -> bool {
    let StatusMark {
        fingerprint,
        is_ours,
    } = ingress.status;
    fingerprint != StatusMark::of(addresses) && (is_ours || !addresses.is_empty())
}

fn owned<'a>(world: &'a World, name: &ObjectName, owner: &ObjectName) -> Option<&'a OwnedService> {
    let owned = world.services().get(name)?.owned.as_deref()?;
    (owned.owner == *owner).then_some(owned)
}

fn finding_of(report: &Report) -> Option<Finding> {
    let Subject::Object(object) = &report.subject else {
        return None;
    };
    Some(Finding {
        object: object.clone(),
        severity: report.severity,
        reason: report.reason,
        field: report.field.clone(),
        message: report.message.clone(),
    })
}

/// RFC 3339 with seconds, as Kubernetes writes conditions.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}
