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
    /// What the name of our class means where no object has it.
    implied: Option<(Arc<str>, Class)>,
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
    pub(super) fn new(world: &World, settings: &Settings) -> Self {
        let mut table = Self::default();
        for class in world.ingress_classes().values() {
            let name = Arc::clone(&class.meta.name.name);
            let resolved = resolve(class, world, settings);
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
        let ours = settings.default_class.as_str();
        if !table.classes.contains_key(ours) {
            table.implied = Some((ours.into(), without_parameters(world, settings)));
        }
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
        if self.implied != other.implied {
            let implied = [&self.implied, &other.implied].into_iter().flatten();
            names.extend(implied.map(|(name, _)| Arc::clone(name)));
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
            if !settings.sees_classes {
                return self.by_name_alone(name, "spec.ingressClassName", notes);
            }
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
            let field = "metadata.annotations[kubernetes.io/ingress.class]";
            if !self.classes.contains_key(name.as_str()) {
                return self.by_name_alone(name, field, notes);
            }
            (name.as_str(), field)
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

    /// For a class of which there is no object.
    fn by_name_alone(&self, name: &str, field: &str, notes: &mut Notes) -> Membership {
        let implied = self.implied.as_ref().filter(|(ours, _)| **ours == *name);
        Membership {
            load_balancer: implied.and_then(|(name, class)| Self::join(name, class, field, notes)),
            uses: key(name),
        }
    }

    fn attach(&self, name: &str, field: &str, notes: &mut Notes) -> Option<ObjectName> {
        Self::join(name, self.classes.get(name)?, field, notes)
    }

    fn join(name: &str, class: &Class, field: &str, notes: &mut Notes) -> Option<ObjectName> {
        match class {
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

fn resolve(class: &IngressClass, world: &World, settings: &Settings) -> Class {
    if class.spec.controller.as_deref() != Some(api::CONTROLLER) {
        return Class::Foreign;
    }
    let Some(parameters) = &class.spec.parameters else {
        return without_parameters(world, settings);
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
    existing(ObjectName::new(namespace, parameters.name.as_str()), world)
}

fn without_parameters(world: &World, settings: &Settings) -> Class {
    match &settings.default_load_balancer {
        Some(name) => existing(name.clone(), world),
        None => Class::Ours(built_in()),
    }
}

/// One that is being deleted is as good as gone.
fn existing(name: ObjectName, world: &World) -> Class {
    let found = world.load_balancers().get(&name);
    if found.is_some_and(|load_balancer| !load_balancer.meta.is_deleting) {
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
