//! What becomes of a LoadBalancer, in the words of its status.
//!
//! ```text
//! LoadBalancer ─┐
//! findings ─────┤
//! snapshot ─────┼─▶ LoadBalancerStatus: addresses, conditions, per listener the same and what is
//! facts ────────┘   in force
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Translator;
use super::admission::{admission_in_force, capacity_in_force};
use super::drain::{drain_in_force, rebalance_in_force};
use super::finding::{Finding, Reason, Severity};
use super::websocket::in_force;
use crate::api::{
    self, Address, Condition, ConditionStatus, Effective, Exposure, GatewayDuration,
    ListenerStatus, LoadBalancerStatus,
};
use crate::routing::{Listener, ListenerId, Protocol};
use crate::world::{Kind, LoadBalancer, ObjectKey};

/// Findings that a message repeats; more would make a status that nobody reads.
const MAX_REPEATED: usize = 8;

/// What a status says beside what translation knows.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time, RFC 3339.
    pub now: &'a str,
    /// Where clients reach it.
    pub addresses: &'a [Address],
    /// Findings about the object that are not translation's: of ports, of endpoints.
    pub findings: &'a [Finding],
    /// Open WebSockets by listener.
    pub open_tunnels: &'a BTreeMap<ListenerId, u32>,
}

/// The status that a LoadBalancer should have. What has not changed keeps its transition time.
#[must_use]
pub fn load_balancer_status(
    load_balancer: &LoadBalancer,
    translator: &Translator,
    facts: &Facts<'_>,
) -> LoadBalancerStatus {
    let key = ObjectKey::new(Kind::LoadBalancer, load_balancer.meta.name.clone());
    let findings: Vec<&Finding> = translator
        .findings_of(&key)
        .chain(
            facts
                .findings
                .iter()
                .filter(|finding| finding.object == key),
        )
        .collect();
    Writer {
        load_balancer,
        translator,
        facts,
        findings,
    }
    .status()
}

struct Writer<'a> {
    load_balancer: &'a LoadBalancer,
    translator: &'a Translator,
    facts: &'a Facts<'a>,
    findings: Vec<&'a Finding>,
}

/// A condition but for what is the same for all of an object.
struct Aspect {
    name: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Aspect {
    fn holds(name: &'static str, reason: &'static str) -> Self {
        Self {
            name,
            holds: true,
            reason,
            message: String::new(),
        }
    }

    fn fails(name: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            holds: false,
            reason,
            message: message.into(),
        }
    }
}

impl Writer<'_> {
    fn status(&self) -> LoadBalancerStatus {
        let declared = &self.load_balancer.spec.listeners;
        let mut listeners: Vec<ListenerStatus> = Vec::new();
        for (index, listener) in declared.iter().enumerate() {
            // A file, or an API server without our schema, may have two of one name; the list is
            // keyed by it.
            if listeners.iter().all(|known| known.name != listener.name) {
                listeners.push(self.listener(listener, index));
            }
        }
        LoadBalancerStatus {
            addresses: self.facts.addresses.to_vec(),
            conditions: self.conditions(
                &self.load_balancer.status.conditions,
                self.aspects(&listeners),
            ),
            listeners,
        }
    }

    /// Conditions of the whole object.
    fn aspects(&self, listeners: &[ListenerStatus]) -> Vec<Aspect> {
        let holds = |listener: &&ListenerStatus, name: &str| {
            let mut conditions = listener.conditions.iter();
            conditions.any(|condition| {
                condition.condition_type == name && condition.status == ConditionStatus::True
            })
        };
        let accepted = listeners
            .iter()
            .filter(|one| holds(one, "Accepted"))
            .count();
        let programmed = listeners
            .iter()
            .filter(|one| holds(one, "Programmed"))
            .count();
        let is_listeners = |finding: &&&Finding| finding.field.starts_with("spec.listeners[");
        let others: Vec<&Finding> = self
            .findings
            .iter()
            .filter(|finding| !is_listeners(finding) && !is_reference(finding.reason))
            .copied()
            .collect();
        let references: Vec<&Finding> = self
            .findings
            .iter()
            .filter(|finding| is_reference(finding.reason))
            .copied()
            .collect();
        let acceptance = if accepted == 0 {
            Aspect::fails("Accepted", "ListenersNotValid", "no listener can be served")
        } else if accepted < listeners.len() {
            Aspect {
                message: "some listeners cannot be served; see status.listeners".to_owned(),
                ..Aspect::holds("Accepted", "ListenersNotValid")
            }
        } else if let Some(first) = others.first() {
            Aspect {
                message: repeat(&others),
                ..Aspect::holds("Accepted", first.reason.as_str())
            }
        } else {
            Aspect::holds("Accepted", "Accepted")
        };
        let resolution = match references.first() {
            Some(first) => {
                Aspect::fails("ResolvedRefs", first.reason.as_str(), repeat(&references))
            }
            None => Aspect::holds("ResolvedRefs", "ResolvedRefs"),
        };
        let programming = if programmed < accepted || accepted == 0 {
            Aspect::fails(
                "Programmed",
                "ListenersNotProgrammed",
                "some listeners are not open; see status.listeners",
            )
        } else if self.facts.addresses.is_empty() {
            Aspect::fails("Programmed", "AddressNotAssigned", self.without_address())
        } else {
            Aspect::holds("Programmed", "Programmed")
        };
        vec![acceptance, resolution, programming]
    }

    fn without_address(&self) -> &'static str {
        match self.load_balancer.spec.exposure {
            Exposure::Service => "the owned Service has no address yet: the cluster gives it one",
            Exposure::Host => "no address of the hosts is known",
        }
    }

    fn listener(&self, declared: &api::Listener, index: usize) -> ListenerStatus {
        let name = &self.load_balancer.meta.name;
        let id = ListenerId {
            namespace: Arc::clone(&name.namespace),
            load_balancer: Arc::clone(&name.name),
            name: declared.name.as_str().into(),
        };
        let open = self.translator.listener(&id);
        let proposed = self.translator.proposed_port(&id);
        let before = self
            .load_balancer
            .status
            .listeners
            .iter()
            .find(|status| status.name == declared.name);
        let routes = open.map_or(0, |listener| listener.hosts.routes().count());
        ListenerStatus {
            name: declared.name.clone(),
            target_port: match self.load_balancer.spec.exposure {
                Exposure::Service => open.map(|listener| listener.target_port).or(proposed),
                Exposure::Host => None,
            },
            conditions: self.conditions(
                before.map_or(&[][..], |status| &status.conditions),
                self.listener_aspects(declared, index, open),
            ),
            attached_routes: u32::try_from(routes).unwrap_or(u32::MAX),
            open_tunnels: self.facts.open_tunnels.get(&id).copied().unwrap_or(0),
            effective: open.map(effective),
        }
    }

    fn listener_aspects(
        &self,
        declared: &api::Listener,
        index: usize,
        open: Option<&Listener>,
    ) -> Vec<Aspect> {
        // Findings name a listener by its index or, where only the snapshot is known, its name.
        let by_index = format!("spec.listeners[{index}]");
        let by_name = format!("spec.listeners[name={}]", declared.name);
        let about = |of: &dyn Fn(Reason) -> bool| -> Vec<&Finding> {
            let is_mine = |finding: &&&Finding| {
                finding.field.starts_with(&by_index) || finding.field.starts_with(&by_name)
            };
            let mine = self.findings.iter().filter(is_mine);
            mine.filter(|finding| of(finding.reason)).copied().collect()
        };
        let conflicts = about(&|reason| reason == Reason::PortConflict);
        let references = about(&is_reference);
        let unbound = about(&|reason| reason == Reason::BindFailed);
        let others = about(&|reason| {
            !is_reference(reason) && !matches!(reason, Reason::PortConflict | Reason::BindFailed)
        });
        let name = &self.load_balancer.meta.name;
        let is_accepted = self.translator.is_accepted(name, &declared.name);
        let acceptance = match (others.first(), is_accepted) {
            (Some(first), false) => {
                Aspect::fails("Accepted", first.reason.as_str(), repeat(&others))
            }
            (Some(first), true) => Aspect {
                message: repeat(&others),
                ..Aspect::holds("Accepted", first.reason.as_str())
            },
            (None, false) => Aspect::fails("Accepted", "Invalid", "the listener is left out"),
            (None, true) => Aspect::holds("Accepted", "Accepted"),
        };
        let conflict = match conflicts.is_empty() {
            true => Aspect::fails("Conflicted", "NoConflicts", ""),
            false => Aspect {
                message: repeat(&conflicts),
                ..Aspect::holds("Conflicted", "PortConflict")
            },
        };
        let resolution = match references.first() {
            Some(first) => {
                Aspect::fails("ResolvedRefs", first.reason.as_str(), repeat(&references))
            }
            None => Aspect::holds("ResolvedRefs", "ResolvedRefs"),
        };
        let programming = if !unbound.is_empty() {
            Aspect::fails("Programmed", "BindFailed", repeat(&unbound))
        } else if open.is_some() {
            Aspect::holds("Programmed", "Programmed")
        } else if !conflicts.is_empty() {
            Aspect::fails("Programmed", "PortConflict", repeat(&conflicts))
        } else if !is_accepted {
            Aspect::fails("Programmed", "Invalid", repeat(&others))
        } else {
            Aspect::fails("Programmed", "Pending", "the target port is being recorded")
        };
        let mut aspects = vec![acceptance, conflict, resolution, programming];
        if declared.protocol == api::Protocol::Https {
            aspects.push(tls_readiness(open));
        }
        aspects
    }

    fn conditions(&self, before: &[Condition], aspects: Vec<Aspect>) -> Vec<Condition> {
        let condition = |aspect: Aspect| {
            let status = if aspect.holds {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            };
            let known = before
                .iter()
                .find(|known| known.condition_type == aspect.name && known.status == status);
            Condition {
                condition_type: aspect.name.to_owned(),
                status,
                reason: aspect.reason.to_owned(),
                message: aspect.message,
                observed_generation: self.load_balancer.meta.generation,
                last_transition_time: known.map_or_else(
                    || self.facts.now.to_owned(),
                    |known| known.last_transition_time.clone(),
                ),
            }
        };
        aspects.into_iter().map(condition).collect()
    }
}

fn tls_readiness(open: Option<&Listener>) -> Aspect {
    let Some(listener) = open else {
        return Aspect::fails("TLSReady", "NotProgrammed", "the listener is not open");
    };
    let table = &listener.certificates;
    if table.default.is_none() && table.exact.len() + table.wildcard.len() == 0 {
        return Aspect::fails(
            "TLSReady",
            "NoCertificate",
            "there is no certificate, so clients get a self-signed one and will refuse it; name \
             Secrets in tls.certificateRefs, or in spec.tls of an Ingress",
        );
    }
    Aspect::holds("TLSReady", "CertificatesServed")
}

fn effective(listener: &Listener) -> Effective {
    let limit =
        |limit: Option<std::time::Duration>| Some(GatewayDuration(limit.unwrap_or_default()));
    Effective {
        port: listener.port,
        protocol: match listener.protocol {
            Protocol::Http => api::Protocol::Http,
            Protocol::Https => api::Protocol::Https,
        },
        http2: listener.http2,
        http1_only: listener.http1_only.declared(),
        timeouts: api::Timeouts {
            idle: Some(GatewayDuration(listener.timeouts.idle)),
            request: limit(listener.timeouts.request),
            connect: Some(GatewayDuration(listener.timeouts.connect)),
        },
        websocket: in_force(&listener.websocket),
        connection_drain: Some(drain_in_force(&listener.drain)),
        rebalance: listener.rebalance.as_ref().map(rebalance_in_force),
        admission: Some(admission_in_force(&listener.admission))
            .filter(|bounds| *bounds != api::Admission::default()),
        capacity: Some(capacity_in_force(&listener.capacity))
            .filter(|bounds| *bounds != api::Capacity::default()),
    }
}

/// Whether a finding is about something that the object names and that is not there or unusable.
fn is_reference(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::CertificateInvalid
            | Reason::KeyMismatch
            | Reason::PortNotFound
            | Reason::SecretNotFound
            | Reason::SecretTypeInvalid
            | Reason::ServiceNotFound
    )
}

/// The same words as everywhere, errors first.
fn repeat(findings: &[&Finding]) -> String {
    let mut sorted = findings.to_vec();
    sorted.sort_by_key(|finding| finding.severity != Severity::Error);
    let mut text = sorted
        .iter()
        .take(MAX_REPEATED)
        .map(|finding| format!("{}: {}", finding.field, finding.message))
        .collect::<Vec<_>>()
        .join("\n");
    if sorted.len() > MAX_REPEATED {
        text.push_str(&format!("\nand {} more", sorted.len() - MAX_REPEATED));
    }
    text
}
