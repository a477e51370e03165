//! Which Ingress belongs to which load balancer.
//!
//! ```text
//! spec.ingressClassName ─┐
//! legacy annotation ─────┼─▶ IngressClass ─▶ parameters ─▶ LoadBalancer
//! default class ─────────┘                └─ none ───────▶ the built-in load balancer
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Settings;
use super::finding::{Finding, Notes, Reason};
use crate::api;
use crate::world::{Ingress, IngressClass, Kind, ObjectKey, ObjectName, World};

const LEGACY_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// The load balancer that classes without parameters use. No object can have this name, as a
/// LoadBalancer has a namespace.
pub(super) fn built_in() -> ObjectName {
    ObjectName::new("", "default")
}

/// What an IngressClass means to us.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Class {
    /// Its Ingresses attach to this load balancer.
    Ours(ObjectName),
    /// Ours, but its parameters are unusable, for this reason.
    Broken(String),
    /// Another controller's.
    Foreign,
}

/// All IngressClasses, resolved.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ClassTable {
    classes: BTreeMap<Arc<str>, Class>,
    default: Option<Arc<str>>,
    pub(super) findings: Vec<Finding>,
}

/// What an Ingress's class comes to.
#[derive(Debug)]
pub(super) struct Membership {
    /// Where it attaches, if it is ours and can be served.
    pub(super) load_balancer: Option<ObjectName>,
    /// What the decision depends on.
    pub(super) uses: ObjectKey,
}

impl ClassTable {
    pub(super) fn new(world: &World) -> Self {
        let mut table = Self::default();
        for class in world.ingress_classes().values() {
            let name = Arc::clone(&class.meta.name.name);
            let resolved = resolve(class, world);
            if let Class::Broken(why) = &resolved {
                let mut notes = Notes::new(key(&name));
                notes.error(
                    Reason::ClassParametersInvalid,
                    "spec.parameters",
                    format!("{why}; Ingresses of this class are not served until this is mended"),
                );
                table.findings.extend(notes.into_findings());
            }
            table.classes.insert(name, resolved);
        }
        table.default = default_class(world);
        table
    }

    /// Names of the classes that mean something else than in `other`; the empty name where that is
    /// so for Ingresses without a class.
    pub(super) fn changes_from<'a>(&'a self, other: &'a Self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self
            .classes
            .iter()
            .filter(|(name, class)| other.classes.get(*name) != Some(class))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        names.extend(
            other
                .classes
                .keys()
                .filter(|name| !self.classes.contains_key(*name))
                .cloned(),
        );
        let default_changed = self.default != other.default
            || self
                .default
                .as_ref()
                .is_some_and(|name| names.contains(name));
        if default_changed {
            names.push(Arc::default());
        }
        names
    }

    /// Classes of ours without parameters.
    pub(super) fn built_in_users(&self) -> impl Iterator<Item = ObjectKey> {
        let built_in = built_in();
        self.classes
            .iter()
            .filter(move |(_, class)| matches!(class, Class::Ours(name) if *name == built_in))
            .map(|(name, _)| key(name))
    }

    /// Decides where an Ingress belongs. `spec.ingressClassName` goes before the legacy
    /// annotation, and both before the default class.
    pub(super) fn membership(
        &self,
        ingress: &Ingress,
        settings: &Settings,
        notes: &mut Notes,
    ) -> Membership {
        let annotation = ingress.meta.annotations.get(LEGACY_ANNOTATION);
        let (name, field) = if let Some(name) = &ingress.spec.ingress_class_name {
            if !self.classes.contains_key(name.as_str()) {
                notes.warning(
                    Reason::ClassNotFound,
                    "spec.ingressClassName",
                    format!(
                        "there is no IngressClass {name:?}, so no controller serves this Ingress; \
                         create the class or name one that exists"
                    ),
                );
            }
            (name.as_str(), "spec.ingressClassName")
        } else if let Some(name) = annotation.filter(|name| !name.is_empty()) {
            if *name == settings.default_class && !self.classes.contains_key(name.as_str()) {
                return Membership {
                    load_balancer: Some(built_in()),
                    uses: key(name),
                };
            }
            (
                name.as_str(),
                "metadata.annotations[kubernetes.io/ingress.class]",
            )
        } else {
            return Membership {
                load_balancer: self
                    .default
                    .as_ref()
                    .and_then(|name| self.attach(name, "spec.ingressClassName", notes)),
                uses: key(""),
            };
        };
        Membership {
            load_balancer: self.attach(name, field, notes),
            uses: key(name),
        }
    }

    fn attach(&self, name: &str, field: &str, notes: &mut Notes) -> Option<ObjectName> {
        match self.classes.get(name)? {
            Class::Ours(load_balancer) => Some(load_balancer.clone()),
            Class::Foreign => None,
            Class::Broken(why) => {
                notes.error(
                    Reason::ClassParametersInvalid,
                    field,
                    format!(
                        "IngressClass {name} is unusable, so this Ingress is not served: {why}"
                    ),
                );
                None
            }
        }
    }
}

/// The key of a class; the empty name stands for "whichever class is the default".
pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::IngressClass, ObjectName::new("", name))
}

fn resolve(class: &IngressClass, world: &World) -> Class {
    if class.spec.controller.as_deref() != Some(api::CONTROLLER) {
        return Class::Foreign;
    }
    let Some(parameters) = &class.spec.parameters else {
        return Class::Ours(built_in());
    };
    let group = parameters.api_group.as_deref().unwrap_or("");
    if group != api::GROUP || parameters.kind != "LoadBalancer" {
        return Class::Broken(format!(
            "the parameters are a {} of API group {group:?}; they must be a LoadBalancer of {}",
            parameters.kind,
            api::GROUP
        ));
    }
    // An absent scope means Cluster.
    let namespace = parameters.namespace.as_deref().unwrap_or("");
    if parameters.scope.as_deref() != Some("Namespace") || namespace.is_empty() {
        return Class::Broken(
            "a LoadBalancer lives in a namespace; set scope: Namespace and the namespace"
                .to_owned(),
        );
    }
    let name = ObjectName::new(namespace, parameters.name.as_str());
    if world.load_balancers().contains_key(&name) {
        Class::Ours(name)
    } else {
        Class::Broken(format!(
            "there is no LoadBalancer {name}; create it or name one that exists"
        ))
    }
}

/// The newest of the default classes, of whichever controller, then by name: as the API server
/// decides for a new Ingress without a class.
fn default_class(world: &World) -> Option<Arc<str>> {
    world
        .ingress_classes()
        .values()
        .filter(|class| {
            class
                .meta
                .annotations
                .get(DEFAULT_ANNOTATION)
                .is_some_and(|value| value == "true")
        })
        // Of several minima the first is taken, which is the first by name.
        .min_by_key(|class| std::cmp::Reverse(class.meta.created))
        .map(|class| Arc::clone(&class.meta.name.name))
}
