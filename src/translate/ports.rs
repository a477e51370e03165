//! Which listener binds which port.
//!
//! A listener behind an owned Service has the port that clients connect to on the Service, and
//! binds a target port, allotted once and recorded in the status of its LoadBalancer. With
//! exposure `Host` it binds its own port, for which load balancers contend.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::TargetPorts;
use super::finding::{Finding, Notes, Reason};
use super::part::{ListenerSpec, Seniority};
use super::stable_hash::stable_hash;
use crate::api::Exposure;
use crate::world::{Kind, ObjectKey, ObjectName};

/// Target ports come from here: below the ports that Kubernetes gives to nodes (30000) and that
/// Linux gives to clients (32768), above those that programs are known by.
pub const RANGE: RangeInclusive<u16> = 20_000..=29_999;

/// A listener and the port that it binds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Granted {
    pub(super) spec: Arc<ListenerSpec>,
    pub(super) target_port: u16,
}

/// What the contest for ports came to.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// The listeners that each load balancer has won; none has an empty list.
    pub(super) granted: BTreeMap<ObjectName, Vec<Granted>>,
    /// Target ports that are to be recorded, by load balancer and listener; a listener waits for
    /// it.
    pub(super) proposed: BTreeMap<ObjectName, BTreeMap<Arc<str>, u16>>,
    /// About the ones it has lost.
    pub(super) findings: Vec<Finding>,
    /// Ports that the built-in load balancer has lost, and to whom.
    pub(super) built_in_lost: Vec<(u16, ObjectName)>,
    holders: BTreeMap<u16, ObjectName>,
}

/// A load balancer that wants ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimant<'a> {
    pub(super) seniority: &'a Seniority,
    pub(super) exposure: Exposure,
    pub(super) listeners: &'a [Arc<ListenerSpec>],
}

impl Ports {
    /// Grants each port to the first who wants it. Recorded target ports come first, as they never
    /// change; then those of hosts, in the order of `claimants`, which is that of seniority; then
    /// the built-in load balancer, which nobody has declared; new target ports take what is left.
    pub(super) fn new(
        claimants: &[Claimant<'_>],
        built_in: Option<(&ObjectName, &[Arc<ListenerSpec>])>,
        target_ports: TargetPorts,
    ) -> Self {
        let mut ports = Self::default();
        let (hosts, services): (Vec<&Claimant<'_>>, Vec<_>) = claimants
            .iter()
            .partition(|claimant| claimant.exposure == Exposure::Host);
        let mut without: Vec<(&ObjectName, &Arc<ListenerSpec>)> = Vec::new();
        for claimant in services {
            let name = claimant.seniority.name();
            for listener in claimant.listeners {
                let recorded = listener.recorded.filter(|port| RANGE.contains(port));
                match recorded {
                    Some(port) if !ports.holders.contains_key(&port) => {
                        ports.give(name, listener, port);
                    }
                    _ => without.push((name, listener)),
                }
            }
        }
        for claimant in hosts {
            ports.contend(claimant);
        }
        if let Some((name, listeners)) = built_in {
            for listener in listeners {
                match ports.holders.get(&listener.port).cloned() {
                    Some(holder) => ports.built_in_lost.push((listener.port, holder)),
                    None => ports.give(name, listener, listener.port),
                }
            }
        }
        // On a machine without a cluster clients connect to the port itself, so whoever can have
        // the port that it declares should.
        if target_ports == TargetPorts::AtOnce {
            without.retain(|(name, listener)| {
                let is_taken = ports.holders.contains_key(&listener.port);
                if !is_taken {
                    ports.give(name, listener, listener.port);
                }
                is_taken
            });
        }
        for (name, listener) in without {
            ports.allot(name, listener, target_ports);
        }
        ports
    }

    fn give(&mut self, name: &ObjectName, listener: &Arc<ListenerSpec>, target_port: u16) {
        self.holders.insert(target_port, name.clone());
        self.granted.entry(name.clone()).or_default().push(Granted {
            spec: Arc::clone(listener),
            target_port,
        });
    }

    fn contend(&mut self, claimant: &Claimant<'_>) {
        let name = claimant.seniority.name();
        let mut notes = Notes::new(ObjectKey::new(Kind::LoadBalancer, name.clone()));
        for listener in claimant.listeners {
            let Some(holder) = self.holders.get(&listener.port) else {
                self.give(name, listener, listener.port);
                continue;
            };
            let why = if RANGE.contains(&listener.port) && holder != name {
                "which has it as a target port or is older"
            } else {
                "which is older, or as old and first by name"
            };
            notes.error(
                Reason::PortConflict,
                format!("{}.port", listener.field),
                format!(
                    "port {} belongs to LoadBalancer {holder}, {why}, so listener {} is not \
                     opened; choose another port",
                    listener.port, listener.name
                ),
            );
        }
        self.findings.extend(notes.into_findings());
    }

    fn allot(&mut self, name: &ObjectName, listener: &Arc<ListenerSpec>, how: TargetPorts) {
        let Some(port) = self.free(name, &listener.name) else {
            let mut notes = Notes::new(ObjectKey::new(Kind::LoadBalancer, name.clone()));
            notes.error(
                Reason::PortConflict,
                format!("{}.port", listener.field),
                format!(
                    "all target ports from {} to {} are taken, so listener {} is not opened; \
                     remove listeners that are not needed",
                    RANGE.start(),
                    RANGE.end(),
                    listener.name
                ),
            );
            self.findings.extend(notes.into_findings());
            return;
        };
        match how {
            TargetPorts::AtOnce => self.give(name, listener, port),
            TargetPorts::Recorded => {
                self.holders.insert(port, name.clone());
                self.proposed
                    .entry(name.clone())
                    .or_default()
                    .insert(Arc::clone(&listener.name), port);
            }
        }
    }

    /// The search begins where the name points, so that a port that is given back is not soon
    /// another's, and that a status which was lost is written as it was.
    fn free(&self, name: &ObjectName, listener: &str) -> Option<u16> {
        let hash = stable_hash([&*name.namespace, &*name.name, listener]);
        let count = RANGE.end() - RANGE.start() + 1;
        let first = u16::try_from(hash % u64::from(count)).unwrap_or(0);
        (0..count)
            .map(|step| RANGE.start() + (first + step) % count)
            .find(|port| !self.holders.contains_key(port))
    }
}
