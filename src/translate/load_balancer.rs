//! The part of a LoadBalancer: its listeners, and its rules.
//!
//! The API server checks most of a LoadBalancer, but a file may hold anything, so that every check
//! is made here as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::admission::{admission, capacity};
use super::drain::{connection_drain, rebalance};
use super::finding::{Notes, Reason};
use super::name;
use super::part::{Claim, Contribution, ListenerSpec, Part, Seniority};
use super::service::{self, PortRef};
use super::websocket::websocket;
use crate::api::{self, GatewayDuration};
use crate::routing::{
    Backend, Capacity, ConnectionDrain, Origin, PathKind, PathMatch, PolicyOverrides, Protocol,
    Rebalance, Route, RouteId, Timeouts, Unavailable, WebSocketPolicy,
};
use crate::world::{Kind, LoadBalancer, ObjectKey, ObjectName};

const MAX_WEIGHT: u32 = 1_000_000;
/// Together with the largest weight this keeps the sum of weights in its type.
const MAX_BACKENDS: usize = 64;
const DEFAULT_WEIGHT: u32 = 100;
/// Longest value of a label.
const MAX_LABEL: usize = 63;

/// Translates a LoadBalancer.
pub(super) fn part(load_balancer: &LoadBalancer, context: &mut Context<'_>) -> Part {
    let seniority = Seniority::new(Kind::LoadBalancer, &load_balancer.meta);
    let mut notes = Notes::new(seniority.key());
    let mut part = Part::new(seniority);
    let name = &load_balancer.meta.name;
    part.load_balancer = Some(name.clone());
    part.exposure = load_balancer.spec.exposure;
    let mut builder = Builder {
        context,
        load_balancer,
        origin: Arc::new(Origin {
            kind: Kind::LoadBalancer.as_str(),
            namespace: Arc::clone(&name.namespace),
            name: Arc::clone(&name.name),
        }),
        drain: connection_drain(load_balancer.spec.connection_drain, &mut notes),
        rebalance: rebalance(load_balancer.spec.rebalance, &mut notes),
        part: &mut part,
        notes: &mut notes,
    };
    builder.exposure();
    builder.listeners();
    for (index, rule) in load_balancer.spec.rules.iter().enumerate() {
        builder.rule(rule, &format!("spec.rules[{index}]"));
    }
    part.findings = notes.into_findings();
    part
}

struct Builder<'a, 'w> {
    context: &'a mut Context<'w>,
    load_balancer: &'a LoadBalancer,
    origin: Arc<Origin>,
    drain: ConnectionDrain,
    rebalance: Option<Rebalance>,
    part: &'a mut Part,
    notes: &'a mut Notes,
}

impl Builder<'_, '_> {
    fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.notes.error(Reason::SpecInvalid, field, message);
    }

    /// What depends on how the listeners are reached.
    fn exposure(&mut self) {
        let LoadBalancer { meta, spec, .. } = self.load_balancer;
        if spec.exposure == api::Exposure::Host {
            if spec.service.is_some() {
                self.invalid(
                    "spec.service",
                    "service is for exposure Service and is ignored here; remove it or change the \
                     exposure",
                );
            }
            return;
        }
        if meta.name.name.len() > MAX_LABEL {
            self.invalid(
                "metadata.name",
                "the name is longer than 63 characters, so that it cannot be a label of the owned \
                 Service, which is not made; choose a shorter name",
            );
        }
        for name in spec
            .service
            .iter()
            .flat_map(|service| service.node_ports.keys())
        {
            if spec.listeners.iter().all(|listener| listener.name != *name) {
                self.invalid(
                    format!("spec.service.nodePorts.{name}"),
                    format!("there is no listener {name}; name one of spec.listeners"),
                );
            }
        }
    }

    fn listeners(&mut self) {
        let load_balancer = self.load_balancer;
        if load_balancer.spec.listeners.is_empty() {
            self.invalid(
                "spec.listeners",
                "there are no listeners, so nothing is served; add one",
            );
        }
        let capacity = capacity(load_balancer.spec.capacity, self.notes);
        for (index, listener) in load_balancer.spec.listeners.iter().enumerate() {
            let field = format!("spec.listeners[{index}]");
            if let Some(spec) = self.listener(listener, field, capacity) {
                self.part.listeners.push(Arc::new(spec));
            }
        }
    }

    fn listener(
        &mut self,
        declared: &api::Listener,
        field: String,
        capacity: Capacity,
    ) -> Option<ListenerSpec> {
        let name = declared.name.as_str();
        if name.is_empty() || name::host(name).is_err() || name.contains('.') {
            self.invalid(
                format!("{field}.name"),
                "a name consists of lower-case letters, digits and '-'; this listener is left out",
            );
            return None;
        }
        if declared.port == 0 {
            self.invalid(
                format!("{field}.port"),
                "a port is a number from 1 to 65535; this listener is left out",
            );
            return None;
        }
        if self.part.listeners.iter().any(|held| *held.name == *name) {
            self.invalid(
                format!("{field}.name"),
                format!(
                    "an earlier listener has the name {name} already; this one is left out; give \
                     it another name"
                ),
            );
            return None;
        }
        let port = declared.port;
        let holder = self.part.listeners.iter().find(|held| held.port == port);
        if let Some(holder) = holder.map(|held| Arc::clone(&held.name)) {
            self.invalid(
                format!("{field}.port"),
                format!(
                    "listener {holder} has port {port} already; this listener is left out; give it \
                     another port"
                ),
            );
            return None;
        }
        let protocol = match declared.protocol {
            api::Protocol::Http => Protocol::Http,
            api::Protocol::Https => Protocol::Https,
        };
        if protocol == Protocol::Http {
            for (set, setting) in [
                (declared.tls.is_some(), "tls"),
                (declared.http2.is_some(), "http2"),
                (!declared.http1_only.is_empty(), "http1Only"),
            ] {
                if set {
                    self.invalid(
                        format!("{field}.{setting}"),
                        format!(
                            "{setting} is for protocol HTTPS and is ignored here; remove it or \
                             change the protocol"
                        ),
                    );
                }
            }
        }
        let timeouts = self.timeouts(declared.timeouts.as_ref(), &format!("{field}.timeouts"));
        let websocket = websocket(
            declared.websocket.as_ref(),
            &format!("{field}.websocket"),
            self.notes,
        );
        let websocket = WebSocketPolicy::default().with(&websocket);
        let admission = admission(
            declared.admission,
            &format!("{field}.admission"),
            self.notes,
        );
        let mut spec = ListenerSpec {
            name: name.into(),
            port,
            recorded: self.recorded(name),
            protocol,
            http2: protocol == Protocol::Https && declared.http2.unwrap_or(true),
            http1_only: match protocol {
                Protocol::Http => Arc::default(),
                Protocol::Https => {
                    let field = format!("{field}.http1Only");
                    name::server_names(&declared.http1_only, &field, self.notes)
                }
            },
            timeouts,
            websocket: Arc::new(websocket),
            drain: self.drain,
            rebalance: self.rebalance,
            admission: Arc::new(admission),
            capacity,
            default_certificate: None,
            certificates: BTreeMap::new(),
            field,
        };
        if protocol == Protocol::Https {
            for (index, reference) in declared
                .tls
                .iter()
                .flat_map(|tls| &tls.certificate_refs)
                .enumerate()
            {
                self.certificate(reference, index, &mut spec);
            }
        }
        Some(spec)
    }

    fn recorded(&self, listener: &str) -> Option<u16> {
        if self.load_balancer.spec.exposure == api::Exposure::Host {
            return None;
        }
        let mut listeners = self.load_balancer.status.listeners.iter();
        listeners
            .find(|status| status.name == listener)?
            .target_port
    }

    /// The first usable certificate is the default, and the first one that has a name has it.
    fn certificate(
        &mut self,
        reference: &api::SecretRef,
        index: usize,
        listener: &mut ListenerSpec,
    ) {
        let field = format!("{}.tls.certificateRefs[{index}].name", listener.field);
        let secret = self.sibling(&reference.name);
        self.part
            .uses
            .insert(ObjectKey::new(Kind::Secret, secret.clone()));
        let world = self.context.world;
        let found = self
            .context
            .certificates
            .find(world, &secret, &field, self.notes);
        let Some(pair) = found else {
            return;
        };
        for name in &pair.names {
            listener
                .certificates
                .entry(Arc::clone(name))
                .or_insert_with(|| Arc::clone(&pair.certificate));
        }
        listener
            .default_certificate
            .get_or_insert_with(|| Arc::clone(&pair.certificate));
    }

    fn timeouts(&mut self, declared: Option<&api::Timeouts>, field: &str) -> Timeouts {
        let default = Timeouts::default();
        let Some(declared) = declared else {
            return default;
        };
        Timeouts {
            idle: self
                .positive(declared.idle, &format!("{field}.idle"), "the default")
                .unwrap_or(default.idle),
            request: limit(declared.request).unwrap_or(default.request),
            connect: self
                .positive(declared.connect, &format!("{field}.connect"), "the default")
                .unwrap_or(default.connect),
        }
    }

    fn positive(
        &mut self,
        declared: Option<GatewayDuration>,
        field: &str,
        instead: &str,
    ) -> Option<Duration> {
        let GatewayDuration(duration) = declared?;
        if duration.is_zero() {
            self.invalid(
                field,
                format!("this timeout must be longer than 0s; {instead} is used"),
            );
            return None;
        }
        Some(duration)
    }

    fn rule(&mut self, rule: &api::Rule, field: &str) {
        let listeners = self.rule_listeners(rule, field);
        let path = match &rule.path {
            None => PathMatch {
                kind: PathKind::Prefix,
                value: "/".into(),
            },
            Some(path) => match name::path(&path.value) {
                Ok(value) => PathMatch {
                    kind: match path.path_type.unwrap_or_default() {
                        api::PathType::Exact => PathKind::Exact,
                        api::PathType::Prefix => PathKind::Prefix,
                    },
                    value: value.into(),
                },
                Err(why) => {
                    self.notes.error(
                        Reason::PathInvalid,
                        format!("{field}.path.value"),
                        format!("{why}; this rule is left out"),
                    );
                    return;
                }
            },
        };
        let backends: Box<[Backend]> = self.backends(rule, field).into();
        let timeouts = rule.timeouts.as_ref();
        let connect = timeouts.and_then(|timeouts| timeouts.connect);
        let overrides = PolicyOverrides {
            request_timeout: limit(timeouts.and_then(|timeouts| timeouts.request)),
            connect_timeout: self.positive(
                connect,
                &format!("{field}.timeouts.connect"),
                "that of the listener",
            ),
            websocket: websocket(
                rule.websocket.as_ref(),
                &format!("{field}.websocket"),
                self.notes,
            ),
        };
        for claim in self.hosts(rule, field) {
            let route = Route {
                id: Arc::new(RouteId {
                    origin: Arc::clone(&self.origin),
                    host: claim.host(),
                    path: rule.path.as_ref().map_or("/", |path| &path.value).into(),
                }),
                path: Some(path.clone()),
                backends: backends.clone(),
                overrides: overrides.clone(),
            };
            let contribution = Contribution {
                route: Arc::new(route),
                listeners: listeners.clone(),
                field: field.to_owned(),
            };
            self.part.routes.or_default(claim).push(contribution);
        }
    }

    /// `None` = all. Names that are not there are told, and never widen the rule to all.
    fn rule_listeners(&mut self, rule: &api::Rule, field: &str) -> Option<Arc<[Arc<str>]>> {
        if rule.listeners.is_empty() {
            return None;
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        for (index, name) in rule.listeners.iter().enumerate() {
            let declared = &self.load_balancer.spec.listeners;
            if declared.iter().any(|listener| listener.name == *name) {
                names.push(name.as_str().into());
            } else {
                self.notes.error(
                    Reason::ListenerNotFound,
                    format!("{field}.listeners[{index}]"),
                    format!(
                        "there is no listener {name:?} in spec.listeners; the rule is served by \
                         the other listeners that it names, if any"
                    ),
                );
            }
        }
        names.sort_unstable();
        names.dedup();
        Some(names.into())
    }

    fn hosts(&mut self, rule: &api::Rule, field: &str) -> Vec<Claim> {
        if rule.hosts.is_empty() {
            return vec![Claim::AnyHost];
        }
        let mut claims = Vec::with_capacity(rule.hosts.len());
        for (index, host) in rule.hosts.iter().enumerate() {
            let why = match name::host(host) {
                Ok(claim) if claim.is_named() => {
                    if !claims.contains(&claim) {
                        claims.push(claim);
                    }
                    continue;
                }
                Ok(_) => "the host is empty",
                Err(why) => why,
            };
            self.notes.error(
                Reason::HostInvalid,
                format!("{field}.hosts[{index}]"),
                format!("{why}; this host is left out"),
            );
        }
        claims
    }

    fn backends(&mut self, rule: &api::Rule, field: &str) -> Vec<Backend> {
        if rule.backends.is_empty() {
            self.invalid(
                format!("{field}.backends"),
                "there are no backends, so requests get 503; add one",
            );
            return vec![Backend {
                weight: 1,
                target: Err(Unavailable::Unsupported),
            }];
        }
        if rule.backends.len() > MAX_BACKENDS {
            self.invalid(
                format!("{field}.backends"),
                format!("a rule has at most {MAX_BACKENDS} backends; the others are left out"),
            );
        }
        rule.backends
            .iter()
            .take(MAX_BACKENDS)
            .enumerate()
            .map(|(index, backend)| self.backend(backend, &format!("{field}.backends[{index}]")))
            .collect()
    }

    fn backend(&mut self, declared: &api::Backend, field: &str) -> Backend {
        let mut weight = declared.weight.unwrap_or(DEFAULT_WEIGHT);
        if weight > MAX_WEIGHT {
            self.invalid(
                format!("{field}.weight"),
                format!("a weight is at most {MAX_WEIGHT}; that is used"),
            );
            weight = MAX_WEIGHT;
        }
        let name = self.sibling(&declared.service.name);
        self.part
            .uses
            .insert(ObjectKey::new(Kind::Service, name.clone()));
        let port = match &declared.service.port {
            api::ServicePort::Number(number) => PortRef::Number(i32::from(*number)),
            api::ServicePort::Name(name) => PortRef::Name(name),
        };
        let field = format!("{field}.service");
        Backend {
            weight,
            target: service::resolve(self.context.world, &name, port, &field, self.notes),
        }
    }

    /// A LoadBalancer names objects of its own namespace only (P10).
    fn sibling(&self, name: &str) -> ObjectName {
        ObjectName {
            namespace: Arc::clone(&self.load_balancer.meta.name.namespace),
            name: name.into(),
        }
    }
}

/// `0s` = no limit.
fn limit(declared: Option<GatewayDuration>) -> Option<Option<Duration>> {
    declared.map(|GatewayDuration(duration)| (!duration.is_zero()).then_some(duration))
}
