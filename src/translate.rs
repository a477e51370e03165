//! World to snapshot: pure, total, deterministic.
//!
//! ```text
//! World ─┬─▶ class ─────────┐ which Ingress belongs to which load balancer
//!        ├─▶ ingress        ├─▶ a part per object ─▶ attached: merged per host ─┐
//!        ├─▶ load_balancer  │      └─▶ findings                                 ├─▶ Snapshot
//!        ├─▶ service        │                        ports: who has which ──────┘
//!        └─▶ tls ───────────┘
//! ```
//!
//! A broken object yields findings and is left out, or serves a defined failure; it never changes
//! how another object is served (P3).
//!
//! A [`Translator`] remembers the part of every object and what each part depends on, so that a
//! change costs what it touches and not what there is. What it answers depends on the world alone.

pub mod finding;
pub mod report;
pub mod settings;

pub(crate) mod admission;
mod attached;
mod class;
pub(crate) mod drain;
mod ingress;
mod load_balancer;
mod lookup;
mod name;
pub mod owned_service;
mod part;
pub mod ports;
mod service;
mod sorted;
mod stable_hash;
pub mod status;
pub(crate) mod tls;
mod upstreams;
pub(crate) mod websocket;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub use finding::{Finding, Reason, Severity};
pub use service::{endpoint_finding, endpoints};
pub use settings::{Settings, TargetPorts};

use attached::{Attached, Surroundings};
use class::ClassTable;
use finding::{FindingSet, Notes};
use part::{ListenerSpec, Part, Seniority};
use ports::{Claimant, Ports};
use tls::CertificateMemo;
use upstreams::UpstreamUses;

use crate::routing::{
    Capacity, ConnectionDrain, Listener, ListenerId, Protocol, Snapshot, Timeouts, UpstreamId,
};
use crate::world::{Kind, ObjectKey, ObjectName, World};

/// What a world comes to.
#[derive(Clone, Debug)]
pub struct Translation {
    /// The routing table.
    pub snapshot: Snapshot,
    /// Upstreams that routes name now and did not at the last call.
    pub entering: Vec<Arc<UpstreamId>>,
    /// Upstreams that routes named at the last call and do not now.
    pub leaving: Vec<Arc<UpstreamId>>,
    /// Objects whose part in the table is another than at the last call.
    pub replaced: Vec<ObjectKey>,
    /// All current findings, sorted, save those about endpoints (see [`endpoint_finding`]).
    pub findings: Vec<Finding>,
}

type Parts = HashMap<ObjectKey, Arc<Part>>;

/// Translates worlds, one after the other. What it answers is a function of the settings and the
/// world; what it remembers only makes it fast.
#[derive(Debug)]
pub struct Translator {
    settings: Settings,
    /// Whether a world has been seen.
    is_warm: bool,
    classes: ClassTable,
    certificates: CertificateMemo,
    parts: Parts,
    /// Which parts name an object.
    users: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    load_balancers: BTreeSet<Seniority>,
    attached: BTreeMap<ObjectName, Attached>,
    built_in: ObjectName,
    built_in_listeners: Vec<Arc<ListenerSpec>>,
    /// Target ports that wait to be recorded.
    proposed: BTreeMap<ObjectName, BTreeMap<Arc<str>, u16>>,
    /// The last findings that depend on many objects: about ports.
    port_findings: Vec<Finding>,
    findings: FindingSet,
    upstreams: UpstreamUses,
    snapshot: Snapshot,
}

/// What the translation of one object reads.
struct Context<'a> {
    world: &'a World,
    settings: &'a Settings,
    classes: &'a ClassTable,
    certificates: &'a mut CertificateMemo,
}

/// What has to be looked at after the parts have been replaced.
#[derive(Default)]
struct Touched {
    load_balancers: BTreeSet<ObjectName>,
    /// A LoadBalancer changed, or who uses the built-in one.
    ports: bool,
}

impl Translator {
    /// A translator that has not seen a world.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let built_in_listeners = settings
            .default_listeners
            .iter()
            .map(|(name, port, protocol)| {
                Arc::new(ListenerSpec {
                    name: name.as_str().into(),
                    port: *port,
                    recorded: None,
                    protocol: *protocol,
                    http2: *protocol == Protocol::Https,
                    http1_only: Arc::default(),
                    timeouts: Timeouts::default(),
                    websocket: Arc::default(),
                    drain: ConnectionDrain::default(),
                    rebalance: None,
                    admission: Arc::default(),
                    capacity: Capacity::default(),
                    default_certificate: None,
                    certificates: BTreeMap::new(),
                    field: String::new(),
                })
            })
            .collect();
        Self {
            settings,
            is_warm: false,
            classes: ClassTable::default(),
            certificates: CertificateMemo::new(),
            parts: HashMap::new(),
            users: HashMap::new(),
            load_balancers: BTreeSet::new(),
            attached: BTreeMap::new(),
            built_in: class::built_in(),
            built_in_listeners,
            proposed: BTreeMap::new(),
            port_findings: Vec::new(),
            findings: FindingSet::default(),
            upstreams: UpstreamUses::default(),
            snapshot: Snapshot::default(),
        }
    }

    /// Translates the world. `changed` must name every object that differs from the last call; at
    /// the first call the whole world is looked at.
    pub fn translate(&mut self, world: &World, changed: &[ObjectKey]) -> Translation {
        let mut touched = Touched::default();
        let mut replaced = Vec::new();
        for key in self.affected(world, changed, &mut touched) {
            if self.replace_part(world, &key, &mut touched) {
                replaced.push(key);
            }
        }
        if touched.ports {
            self.contest_ports(&mut touched);
        }
        for name in &touched.load_balancers {
            self.refresh(name);
        }
        let (entering, leaving) = self.upstreams.take_changes();
        Translation {
            snapshot: self.snapshot.clone(),
            entering,
            leaving,
            replaced,
            findings: self.findings.to_vec(),
        }
    }

    /// The objects whose parts may differ.
    fn affected(
        &mut self,
        world: &World,
        changed: &[ObjectKey],
        touched: &mut Touched,
    ) -> BTreeSet<ObjectKey> {
        let mut affected = BTreeSet::new();
        let mut classes_changed = false;
        for key in changed {
            match key.kind {
                Kind::Ingress => {
                    affected.insert(key.clone());
                }
                Kind::LoadBalancer => {
                    affected.insert(key.clone());
                    classes_changed = true;
                }
                Kind::IngressClass => classes_changed = true,
                Kind::Secret | Kind::Service => {
                    affected.extend(self.users.get(key).into_iter().flatten().cloned());
                }
                Kind::Namespace | Kind::EndpointSlice => {}
            }
        }
        if !self.is_warm {
            self.is_warm = true;
            classes_changed = true;
            let ingresses = world.ingresses().keys();
            let load_balancers = world.load_balancers().keys();
            affected = ingresses
                .map(|name| ObjectKey::new(Kind::Ingress, name.clone()))
                .chain(load_balancers.map(|name| ObjectKey::new(Kind::LoadBalancer, name.clone())))
                .collect();
        }
        if classes_changed {
            let classes = ClassTable::new(world, &self.settings);
            let before = std::mem::replace(&mut self.classes, classes);
            for name in self.classes.changes_from(&before) {
                affected.extend(self.users_of_class(&name));
                touched.ports = true;
            }
            self.findings.remove(&before.findings);
            self.findings.add(&self.classes.findings);
        }
        affected
    }

    fn users_of_class(&self, name: &str) -> impl Iterator<Item = ObjectKey> {
        let users = self.users.get(&class::key(name));
        users.into_iter().flatten().cloned()
    }

    /// Answers whether the part is another than before.
    fn replace_part(&mut self, world: &World, key: &ObjectKey, touched: &mut Touched) -> bool {
        let mut context = Context {
            world,
            settings: &self.settings,
            classes: &self.classes,
            certificates: &mut self.certificates,
        };
        let part = match key.kind {
            Kind::Ingress => world
                .ingresses()
                .get(&key.name)
                .map(|ingress| ingress::part(ingress, &mut context)),
            Kind::LoadBalancer => world
                .load_balancers()
                .get(&key.name)
                .filter(|load_balancer| !load_balancer.meta.is_deleting)
                .map(|load_balancer| load_balancer::part(load_balancer, &mut context)),
            _ => None,
        };
        let before = self.parts.get(key).cloned();
        if before.as_deref() == part.as_ref() {
            return false;
        }
        if let Some(before) = &before {
            self.leave(key, before, part.as_ref(), touched);
        }
        if let Some(part) = &part {
            self.enter(key, part, touched);
        }
        match part {
            Some(part) => self.parts.insert(key.clone(), Arc::new(part)),
            None => self.parts.remove(key),
        };
        true
    }

    fn enter(&mut self, key: &ObjectKey, part: &Part, touched: &mut Touched) {
        for used in &part.uses {
            let users = self.users.entry(used.clone()).or_default();
            users.insert(key.clone());
        }
        self.findings.add(&part.findings);
        if key.kind == Kind::LoadBalancer {
            self.load_balancers.insert(part.seniority.clone());
            touched.ports = true;
        }
        if let Some(name) = &part.load_balancer {
            self.attached.entry(name.clone()).or_default().add(part);
            touched.ports |= *name == self.built_in;
            touched.load_balancers.insert(name.clone());
        }
    }

    fn leave(
        &mut self,
        key: &ObjectKey,
        part: &Part,
        successor: Option<&Part>,
        touched: &mut Touched,
    ) {
        for used in &part.uses {
            if successor.is_some_and(|successor| successor.uses.contains(used)) {
                continue;
            }
            if let Some(users) = self.users.get_mut(used) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(used);
                    if used.kind == Kind::Secret {
                        self.certificates.forget(&used.name);
                    }
                }
            }
        }
        self.findings.remove(&part.findings);
        if key.kind == Kind::LoadBalancer {
            self.load_balancers.remove(&part.seniority);
            touched.ports = true;
        }
        if let Some(name) = &part.load_balancer {
            if let Some(attached) = self.attached.get_mut(name) {
                attached.remove(part);
            }
            touched.ports |= *name == self.built_in;
            touched.load_balancers.insert(name.clone());
        }
    }

    /// Decides again who has which port.
    fn contest_ports(&mut self, touched: &mut Touched) {
        let built_in = self.attached.get(&self.built_in);
        let is_built_in_used = self.classes.built_in_users().next().is_some()
            || built_in.is_some_and(Attached::has_members);
        let claimants: Vec<Claimant<'_>> = self
            .load_balancers
            .iter()
            .filter_map(|seniority| {
                let part = self.parts.get(&seniority.key())?;
                Some(Claimant {
                    seniority,
                    exposure: part.exposure,
                    listeners: &part.listeners,
                })
            })
            .collect();
        let ports = Ports::new(
            &claimants,
            is_built_in_used.then_some((&self.built_in, &*self.built_in_listeners)),
            self.settings.target_ports,
        );
        let names: BTreeSet<ObjectName> = self
            .attached
            .keys()
            .chain(ports.granted.keys())
            .cloned()
            .collect();
        for name in names {
            let granted = ports.granted.get(&name).map_or(&[][..], Vec::as_slice);
            let attached = self.attached.entry(name.clone()).or_default();
            if attached.grant(granted) {
                touched.load_balancers.insert(name);
            }
        }
        self.proposed = ports.proposed;
        let mut findings = ports.findings;
        if !ports.built_in_lost.is_empty() {
            findings.extend(self.built_in_findings(&ports.built_in_lost));
        }
        self.findings.remove(&self.port_findings);
        self.findings.add(&findings);
        self.port_findings = findings;
    }

    /// No object declares the built-in load balancer, so its users are told: the classes without
    /// parameters or, where none exists, the Ingresses with the legacy annotation.
    fn built_in_findings(&self, lost: &[(u16, ObjectName)]) -> Vec<Finding> {
        let classes: Vec<ObjectKey> = self.classes.built_in_users().collect();
        let (objects, field) = if classes.is_empty() {
            let attached = self.attached.get(&self.built_in);
            let members = attached.into_iter().flat_map(Attached::members).collect();
            (members, "metadata.annotations[kubernetes.io/ingress.class]")
        } else {
            (classes, "spec.parameters")
        };
        let mut findings = Vec::new();
        for object in objects {
            let mut notes = Notes::new(object);
            for (port, holder) in lost {
                notes.error(
                    Reason::PortConflict,
                    field,
                    format!(
                        "a class without parameters is served by the built-in load balancer, whose \
                         port {port} belongs to LoadBalancer {holder}; use a class whose \
                         parameters name that LoadBalancer"
                    ),
                );
            }
            findings.extend(notes.into_findings());
        }
        findings
    }

    /// Merges what is stale in a load balancer and puts its listeners into the snapshot.
    fn refresh(&mut self, name: &ObjectName) {
        let Some(attached) = self.attached.get_mut(name) else {
            return;
        };
        let own = ObjectKey::new(Kind::LoadBalancer, name.clone());
        attached.refresh(
            self.parts.get(&own).map(|part| &**part),
            &mut Surroundings {
                parts: &self.parts,
                findings: &mut self.findings,
                upstreams: &mut self.upstreams,
            },
        );
        let listeners = attached.listeners(name);
        if attached.is_empty() {
            self.attached.remove(name);
        }
        publish(&mut self.snapshot, name, listeners);
    }
}

/// Replaces the listeners of a load balancer. One that is equal to the one before stays the same
/// object.
fn publish(snapshot: &mut Snapshot, name: &ObjectName, listeners: Vec<Listener>) {
    let first = ListenerId {
        namespace: Arc::clone(&name.namespace),
        load_balancer: Arc::clone(&name.name),
        name: Arc::default(),
    };
    let gone: Vec<ListenerId> = snapshot
        .listeners
        .range(first..)
        .map(|(id, _)| id)
        .take_while(|id| id.namespace == name.namespace && id.load_balancer == name.name)
        .filter(|id| listeners.iter().all(|listener| listener.id != **id))
        .cloned()
        .collect();
    for id in gone {
        snapshot.listeners.remove(&id);
    }
    for listener in listeners {
        let held = snapshot.listeners.get(&listener.id);
        if held.is_none_or(|held| **held != listener) {
            snapshot
                .listeners
                .insert(listener.id.clone(), Arc::new(listener));
        }
    }
}
