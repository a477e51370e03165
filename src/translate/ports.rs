//! Which load balancer has which port of the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::finding::{Finding, Notes, Reason};
use super::part::{ListenerSpec, Seniority};
use crate::world::{Kind, ObjectKey, ObjectName};

/// What the contest for ports came to.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// The listeners that each load balancer has won; none has an empty list.
    pub(super) granted: BTreeMap<ObjectName, Vec<Arc<ListenerSpec>>>,
    /// About the ones it has lost.
    pub(super) findings: Vec<Finding>,
    /// Ports that the built-in load balancer has lost, and to whom.
    pub(super) built_in_lost: Vec<(u16, ObjectName)>,
}

impl Ports {
    /// Grants each port to the first who wants it: `load_balancers` come in order of seniority, and
    /// the built-in one, which nobody has declared, comes last.
    pub(super) fn new<'a>(
        load_balancers: impl Iterator<Item = (&'a Seniority, &'a [Arc<ListenerSpec>])>,
        built_in: Option<(&ObjectName, &[Arc<ListenerSpec>])>,
    ) -> Self {
        let mut ports = Self::default();
        let mut holders: BTreeMap<u16, ObjectName> = BTreeMap::new();
        for (seniority, listeners) in load_balancers {
            let mut notes =
                Notes::new(ObjectKey::new(Kind::LoadBalancer, seniority.name().clone()));
            for lost in ports.grant(seniority.name(), listeners, &mut holders) {
                let (listener, holder) = lost;
                notes.error(
                    Reason::PortConflict,
                    format!("{}.port", listener.field),
                    format!(
                        "port {} belongs to LoadBalancer {holder}, which is older, or as old and \
                         first by name, so listener {} is not opened; choose another port",
                        listener.port, listener.name
                    ),
                );
            }
            ports.findings.extend(notes.into_findings());
        }
        if let Some((name, listeners)) = built_in {
            ports.built_in_lost = ports
                .grant(name, listeners, &mut holders)
                .into_iter()
                .map(|(listener, holder)| (listener.port, holder))
                .collect();
        }
        ports
    }

    fn grant(
        &mut self,
        name: &ObjectName,
        listeners: &[Arc<ListenerSpec>],
        holders: &mut BTreeMap<u16, ObjectName>,
    ) -> Vec<(Arc<ListenerSpec>, ObjectName)> {
        let mut lost = Vec::new();
        for listener in listeners {
            match holders.get(&listener.port) {
                Some(holder) => lost.push((Arc::clone(listener), holder.clone())),
                None => {
                    holders.insert(listener.port, name.clone());
                    self.granted
                        .entry(name.clone())
                        .or_default()
                        .push(Arc::clone(listener));
                }
            }
        }
        lost
    }
}
