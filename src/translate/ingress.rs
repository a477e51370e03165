//! The part of an Ingress (networking/v1).

use std::collections::btree_map::Entry;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend, IngressTLS};

use super::Context;
use super::finding::{Notes, Reason};
use super::name;
use super::part::{Claim, Contribution, Offer, Part, Seniority};
use super::service::{self, PortRef};
use crate::routing::{
    Backend, Origin, PathKind, PathMatch, PolicyOverrides, Route, RouteId, Unavailable,
};
use crate::world::{Ingress, Kind, ObjectKey, ObjectName};

/// Translates an Ingress.
pub(super) fn part(ingress: &Ingress, context: &mut Context<'_>) -> Part {
    let seniority = Seniority::new(Kind::Ingress, &ingress.meta);
    let mut notes = Notes::new(seniority.key());
    let mut part = Part::new(seniority);
    let membership = context
        .classes
        .membership(ingress, context.settings, &mut notes);
    part.uses.insert(membership.uses);
    part.load_balancer = membership.load_balancer;
    if part.load_balancer.is_some() {
        let origin = Arc::new(Origin {
            kind: Kind::Ingress.as_str(),
            namespace: Arc::clone(&ingress.meta.name.namespace),
            name: Arc::clone(&ingress.meta.name.name),
        });
        let mut builder = Builder {
            context,
            ingress,
            origin,
            part: &mut part,
            notes: &mut notes,
        };
        builder.rules();
        builder.default_backend();
        builder.tls();
    }
    part.findings = notes.into_findings();
    part
}

struct Builder<'a, 'w> {
    context: &'a mut Context<'w>,
    ingress: &'a Ingress,
    origin: Arc<Origin>,
    part: &'a mut Part,
    notes: &'a mut Notes,
}

impl Builder<'_, '_> {
    fn rules(&mut self) {
        let ingress = self.ingress;
        for (index, rule) in ingress.spec.rules.iter().flatten().enumerate() {
            let field = format!("spec.rules[{index}]");
            let claim = match name::host(rule.host.as_deref().unwrap_or_default()) {
                Ok(claim) => claim,
                Err(why) => {
                    self.notes.error(
                        Reason::HostInvalid,
                        format!("{field}.host"),
                        format!("{why}; this rule is left out"),
                    );
                    continue;
                }
            };
            self.part.routes.or_default(claim.clone());
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            for (index, path) in paths.enumerate() {
                self.path(&claim, path, &format!("{field}.http.paths[{index}]"));
            }
        }
    }

    fn path(&mut self, claim: &Claim, declared: &HTTPIngressPath, field: &str) {
        let kind = match declared.path_type.as_str() {
            "Exact" => PathKind::Exact,
            "Prefix" => PathKind::Prefix,
            "ImplementationSpecific" => PathKind::ImplementationSpecific,
            _ => {
                self.notes.error(
                    Reason::SpecInvalid,
                    format!("{field}.pathType"),
                    "pathType must be Exact, Prefix or ImplementationSpecific; this path is left \
                     out",
                );
                return;
            }
        };
        let text = match declared.path.as_deref() {
            None | Some("") if kind == PathKind::ImplementationSpecific => "/",
            path => path.unwrap_or_default(),
        };
        let value: Arc<str> = match name::path(text) {
            Ok(value) => value.into(),
            Err(why) => {
                self.notes.error(
                    Reason::PathInvalid,
                    format!("{field}.path"),
                    format!("{why}; this path is left out"),
                );
                return;
            }
        };
        let backend = self.backend(&declared.backend, &format!("{field}.backend"));
        let path = PathMatch { kind, value };
        self.contribute(claim, text, Some(path), backend, field.to_owned());
    }

    /// With rules, what the paths of its own hosts do not take; without, what nobody takes.
    fn default_backend(&mut self) {
        let ingress = self.ingress;
        let Some(declared) = &ingress.spec.default_backend else {
            return;
        };
        let field = "spec.defaultBackend";
        let backend = self.backend(declared, field);
        let claims: Vec<Claim> = if ingress.spec.rules.as_ref().is_none_or(Vec::is_empty) {
            vec![Claim::Fallback]
        } else {
            self.part.routes.keys().cloned().collect()
        };
        for claim in claims {
            self.contribute(&claim, "", None, backend.clone(), field.to_owned());
        }
    }

    fn contribute(
        &mut self,
        claim: &Claim,
        declared_path: &str,
        path: Option<PathMatch>,
        backend: Backend,
        field: String,
    ) {
        let declared_path = match &path {
            Some(path) if *path.value == *declared_path => Arc::clone(&path.value),
            _ => declared_path.into(),
        };
        let route = Route {
            id: Arc::new(RouteId {
                origin: Arc::clone(&self.origin),
                host: claim.host(),
                path: declared_path,
            }),
            path,
            backends: Box::new([backend]),
            overrides: PolicyOverrides::default(),
        };
        let contribution = Contribution {
            route: Arc::new(route),
            listeners: None,
            field,
        };
        let contributions = self.part.routes.or_default(claim.clone());
        if contributions.is_empty() {
            // Most hosts have one path.
            contributions.reserve_exact(1);
        }
        contributions.push(contribution);
    }

    fn backend(&mut self, declared: &IngressBackend, field: &str) -> Backend {
        Backend {
            weight: 1,
            target: self.target(declared, field),
        }
    }

    fn target(
        &mut self,
        declared: &IngressBackend,
        field: &str,
    ) -> Result<Arc<crate::routing::UpstreamId>, Unavailable> {
        let Some(declared) = &declared.service else {
            if declared.resource.is_some() {
                self.notes.error(
                    Reason::Unsupported,
                    format!("{field}.resource"),
                    "resource backends are not supported; requests get 503; name a Service",
                );
            } else {
                self.notes.error(
                    Reason::SpecInvalid,
                    field,
                    "the backend names no Service; requests get 503",
                );
            }
            return Err(Unavailable::Unsupported);
        };
        let field = format!("{field}.service");
        let port = declared.port.as_ref();
        let number = port.and_then(|port| port.number).map(PortRef::Number);
        let port_name = port
            .and_then(|port| port.name.as_deref())
            .filter(|name| !name.is_empty())
            .map(PortRef::Name);
        let name = self.sibling(&declared.name);
        self.part
            .uses
            .insert(ObjectKey::new(Kind::Service, name.clone()));
        let Some(port) = number.or(port_name) else {
            self.notes.error(
                Reason::SpecInvalid,
                format!("{field}.port"),
                "the port needs a number or a name; requests get 503",
            );
            return Err(Unavailable::PortNotFound);
        };
        service::resolve(self.context.world, &name, port, &field, self.notes)
    }

    fn tls(&mut self) {
        let ingress = self.ingress;
        for (index, block) in ingress.spec.tls.iter().flatten().enumerate() {
            self.tls_block(block, &format!("spec.tls[{index}]"));
        }
    }

    fn tls_block(&mut self, block: &IngressTLS, field: &str) {
        let declared = block.hosts.as_deref().unwrap_or_default();
        let mut hosts: Vec<(Arc<str>, String)> = Vec::new();
        for (index, host) in declared.iter().enumerate() {
            let field = format!("{field}.hosts[{index}]");
            match name::host(host) {
                Ok(claim) if claim.is_named() => hosts.push((claim.host(), field)),
                Ok(_) => self.notes.error(
                    Reason::HostInvalid,
                    field,
                    "the host is empty; it is left out",
                ),
                Err(why) => {
                    self.notes
                        .error(Reason::HostInvalid, field, format!("{why}; it is left out"))
                }
            }
        }
        let secret = block.secret_name.as_deref().unwrap_or_default();
        if secret.is_empty() {
            return;
        }
        let secret = self.sibling(secret);
        self.part
            .uses
            .insert(ObjectKey::new(Kind::Secret, secret.clone()));
        let secret_field = format!("{field}.secretName");
        let found =
            self.context
                .certificates
                .find(self.context.world, &secret, &secret_field, self.notes);
        let Some(pair) = found else {
            return;
        };
        if declared.is_empty() {
            let claims = self.part.routes.keys().filter(|claim| claim.is_named());
            hosts.extend(claims.map(|claim| (claim.host(), secret_field.clone())));
            if hosts.is_empty() {
                let names = pair.names.iter().filter(|name| name::host(name).is_ok());
                hosts.extend(names.map(|name| (Arc::clone(name), secret_field.clone())));
            }
        }
        for (host, field) in hosts {
            if !pair.names.iter().any(|name| name::covers(name, &host)) {
                self.notes.warning(
                    Reason::CertificateInvalid,
                    field.clone(),
                    format!(
                        "the certificate in Secret {secret} is not for {host}, so clients will \
                         refuse it; it is for {}",
                        name_list(&pair.names)
                    ),
                );
            }
            match self.part.certificates.entry(host) {
                Entry::Vacant(place) => {
                    place.insert(Offer {
                        certificate: Arc::clone(&pair.certificate),
                        field,
                    });
                }
                Entry::Occupied(held) if held.get().certificate != pair.certificate => {
                    self.notes.error(
                        Reason::CertificateConflict,
                        field,
                        format!(
                            "{} has another certificate from an earlier entry of this Ingress, \
                             which stays; name each host once",
                            held.key()
                        ),
                    );
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// An Ingress names objects of its own namespace only (P10).
    fn sibling(&self, name: &str) -> ObjectName {
        ObjectName {
            namespace: Arc::clone(&self.ingress.meta.name.namespace),
            name: name.into(),
        }
    }
}

fn name_list(names: &[Arc<str>]) -> String {
    const SHOWN: usize = 5;
    let mut list = names
        .iter()
        .take(SHOWN)
        .map(|name| &**name)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len() {
        0 => list.push_str("no DNS name at all"),
        count if count > SHOWN => list.push_str(", …"),
        _ => {}
    }
    list
}
