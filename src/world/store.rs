//! The store of objects.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::delta::Delta;
use super::key::{Kind, ObjectKey, ObjectName};
use super::object::{
    EndpointSlice, Ingress, IngressClass, LoadBalancer, Metadata, Namespace, Object, Secret,
    Service,
};
use super::pod::{PodEnd, PodId};

type Objects<T> = BTreeMap<ObjectName, Arc<T>>;

/// Everything the source has said. Maps are ordered, so what is derived from them is
/// deterministic.
#[derive(Clone, Debug, Default)]
pub struct World {
    endpoint_slices: Objects<EndpointSlice>,
    ingresses: Objects<Ingress>,
    ingress_classes: Objects<IngressClass>,
    load_balancers: Objects<LoadBalancer>,
    namespaces: Objects<Namespace>,
    secrets: Objects<Secret>,
    services: Objects<Service>,
    /// Slices by namespace and Service, so that an endpoint change touches one Service only.
    slices_by_service: BTreeMap<ObjectName, Objects<EndpointSlice>>,
    /// Pods that slices name as terminating.
    terminating: BTreeMap<Arc<PodId>, Terminating>,
}

/// A pod that is terminating.
#[derive(Clone, Debug, Default)]
struct Terminating {
    /// The slices that name it.
    slices: BTreeSet<ObjectName>,
    end: Option<PodEnd>,
}

impl World {
    /// Takes a delta in and answers which objects differ from before. An object that arrives
    /// unchanged is not among them.
    pub fn apply(&mut self, delta: Delta) -> Vec<Change> {
        match delta {
            Delta::Apply(object) => self.insert(object).into_iter().collect(),
            Delta::Delete(key) => self.remove(&key).into_iter().collect(),
            Delta::Reset(scope, objects, unreadable) => {
                let mut gone: BTreeSet<ObjectName> = self
                    .names(scope.kind)
                    .filter(|name| scope.contains(name))
                    .collect();
                for name in &unreadable {
                    gone.remove(name);
                }
                let mut changes = Vec::new();
                for object in objects {
                    gone.remove(&object.meta().name);
                    changes.extend(self.insert(object));
                }
                for name in gone {
                    changes.extend(self.remove(&ObjectKey::new(scope.kind, name)));
                }
                changes
            }
            Delta::PodEnds(pod, end) => self.end_pod(&pod, end),
        }
    }

    /// Ingresses by name.
    #[must_use]
    pub fn ingresses(&self) -> &BTreeMap<ObjectName, Arc<Ingress>> {
        &self.ingresses
    }

    /// IngressClasses by name.
    #[must_use]
    pub fn ingress_classes(&self) -> &BTreeMap<ObjectName, Arc<IngressClass>> {
        &self.ingress_classes
    }

    /// LoadBalancers by name.
    #[must_use]
    pub fn load_balancers(&self) -> &BTreeMap<ObjectName, Arc<LoadBalancer>> {
        &self.load_balancers
    }

    /// Namespaces by name.
    #[must_use]
    pub fn namespaces(&self) -> &BTreeMap<ObjectName, Arc<Namespace>> {
        &self.namespaces
    }

    /// Secrets by name.
    #[must_use]
    pub fn secrets(&self) -> &BTreeMap<ObjectName, Arc<Secret>> {
        &self.secrets
    }

    /// Services by name.
    #[must_use]
    pub fn services(&self) -> &BTreeMap<ObjectName, Arc<Service>> {
        &self.services
    }

    /// The EndpointSlices of a Service, in the order of their names.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices_by_service
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// When a pod ends that a slice names as terminating, where that is known.
    #[must_use]
    pub fn pod_end(&self, pod: &PodId) -> Option<PodEnd> {
        self.terminating.get(pod)?.end
    }

    /// `metadata.uid` of an object, 0 where it is not known.
    #[must_use]
    pub fn uid(&self, key: &ObjectKey) -> u128 {
        fn of<T>(objects: &Objects<T>, name: &ObjectName, meta: fn(&T) -> &Metadata) -> u128 {
            objects.get(name).map_or(0, |object| meta(object).uid)
        }
        let name = &key.name;
        match key.kind {
            Kind::EndpointSlice => of(&self.endpoint_slices, name, |object| &object.meta),
            Kind::Ingress => of(&self.ingresses, name, |object| &object.meta),
            Kind::IngressClass => of(&self.ingress_classes, name, |object| &object.meta),
            Kind::LoadBalancer => of(&self.load_balancers, name, |object| &object.meta),
            Kind::Namespace => of(&self.namespaces, name, |object| &object.meta),
            Kind::Secret => of(&self.secrets, name, |object| &object.meta),
            Kind::Service => of(&self.services, name, |object| &object.meta),
        }
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::EndpointSlice => self.endpoint_slices.len(),
            Kind::Ingress => self.ingresses.len(),
            Kind::IngressClass => self.ingress_classes.len(),
            Kind::LoadBalancer => self.load_balancers.len(),
            Kind::Namespace => self.namespaces.len(),
            Kind::Secret => self.secrets.len(),
            Kind::Service => self.services.len(),
        }
    }

    fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = ObjectName> + '_> {
        match kind {
            Kind::EndpointSlice => Box::new(self.endpoint_slices.keys().cloned()),
            Kind::Ingress => Box::new(self.ingresses.keys().cloned()),
            Kind::IngressClass => Box::new(self.ingress_classes.keys().cloned()),
            Kind::LoadBalancer => Box::new(self.load_balancers.keys().cloned()),
            Kind::Namespace => Box::new(self.namespaces.keys().cloned()),
            Kind::Secret => Box::new(self.secrets.keys().cloned()),
            Kind::Service => Box::new(self.services.keys().cloned()),
        }
    }

    fn insert(&mut self, object: Object) -> Option<Change> {
        let key = object.key();
        let name = key.name.clone();
        let changed = match object {
            Object::EndpointSlice(slice) => {
                let before = self
                    .endpoint_slices
                    .insert(name.clone(), Arc::clone(&slice));
                if before.as_ref() == Some(&slice) {
                    return None;
                }
                self.name_pods(&name, before.as_deref(), Some(&slice));
                let left = before.and_then(|before| self.unlink(&name, &before));
                let joined = self.link(&name, &slice);
                let services = left.into_iter().chain(joined).collect();
                return Some(Change::Endpoints { key, services });
            }
            Object::Ingress(object) => {
                let before = self.ingresses.insert(name, Arc::clone(&object));
                let Some(before) = before.filter(|before| before.is_declared_as(&object)) else {
                    return Some(Change::Object(key));
                };
                return (before != object).then_some(Change::Status(key));
            }
            Object::IngressClass(object) => replace(&mut self.ingress_classes, name, object),
            Object::LoadBalancer(object) => {
                let before = self.load_balancers.insert(name, Arc::clone(&object));
                let Some(before) = before.filter(|before| before.is_declared_as(&object)) else {
                    return Some(Change::Object(key));
                };
                return (before != object).then_some(Change::Status(key));
            }
            Object::Namespace(object) => replace(&mut self.namespaces, name, object),
            Object::Secret(object) => replace(&mut self.secrets, name, object),
            Object::Service(object) => replace(&mut self.services, name, object),
        };
        changed.then_some(Change::Object(key))
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Change> {
        let name = &key.name;
        let existed = match key.kind {
            Kind::EndpointSlice => {
                let slice = self.endpoint_slices.remove(name)?;
                self.name_pods(name, Some(&slice), None);
                let services = self.unlink(name, &slice).into_iter().collect();
                return Some(Change::Endpoints {
                    key: key.clone(),
                    services,
                });
            }
            Kind::Ingress => self.ingresses.remove(name).is_some(),
            Kind::IngressClass => self.ingress_classes.remove(name).is_some(),
            Kind::LoadBalancer => self.load_balancers.remove(name).is_some(),
            Kind::Namespace => self.namespaces.remove(name).is_some(),
            Kind::Secret => self.secrets.remove(name).is_some(),
            Kind::Service => self.services.remove(name).is_some(),
        };
        existed.then(|| Change::Object(key.clone()))
    }

    /// Takes note of which pods a slice names as terminating now; of a pod that no slice names any
    /// more nothing is kept.
    fn name_pods(
        &mut self,
        slice: &ObjectName,
        before: Option<&EndpointSlice>,
        now: Option<&EndpointSlice>,
    ) {
        let pods = |slice: Option<&EndpointSlice>| -> BTreeSet<Arc<PodId>> {
            slice
                .into_iter()
                .flat_map(EndpointSlice::terminating)
                .cloned()
                .collect()
        };
        let now = pods(now);
        for pod in pods(before).difference(&now) {
            if let Entry::Occupied(mut held) = self.terminating.entry(Arc::clone(pod)) {
                held.get_mut().slices.remove(slice);
                if held.get().slices.is_empty() {
                    held.remove();
                }
            }
        }
        for pod in now {
            let held = self.terminating.entry(pod).or_default();
            held.slices.insert(slice.clone());
        }
    }

    fn end_pod(&mut self, pod: &PodId, end: PodEnd) -> Vec<Change> {
        let Some(held) = self.terminating.get_mut(pod) else {
            return Vec::new();
        };
        if held.end.replace(end) == Some(end) {
            return Vec::new();
        }
        let slices = held.slices.iter();
        slices
            .map(|name| {
                let slice = self.endpoint_slices.get(name);
                Change::Endpoints {
                    key: ObjectKey::new(Kind::EndpointSlice, name.clone()),
                    services: slice
                        .and_then(|slice| service_of(name, slice))
                        .into_iter()
                        .collect(),
                }
            })
            .collect()
    }

    fn link(&mut self, name: &ObjectName, slice: &Arc<EndpointSlice>) -> Option<ObjectName> {
        let service = service_of(name, slice)?;
        self.slices_by_service
            .entry(service.clone())
            .or_default()
            .insert(name.clone(), Arc::clone(slice));
        Some(service)
    }

    fn unlink(&mut self, name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
        let service = service_of(name, slice)?;
        if let Entry::Occupied(mut slices) = self.slices_by_service.entry(service.clone()) {
            slices.get_mut().remove(name);
            if slices.get().is_empty() {
                slices.remove();
            }
        }
        Some(service)
    }
}

/// What differs after a delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object that routes are made from.
    Object(ObjectKey),
    /// What the status of an Ingress or a LoadBalancer tells others, and nothing that is read from
    /// it or that it declares.
    Status(ObjectKey),
    /// An EndpointSlice or a pod of it, and the Services whose endpoints it concerns. Takes the short way: no
    /// route is rebuilt.
    Endpoints {
        /// The slice.
        key: ObjectKey,
        /// The Services it belongs to now and belonged to before.
        services: Vec<ObjectName>,
    },
}

fn service_of(name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
    let service = slice.service.as_ref()?;
    Some(ObjectName {
        namespace: Arc::clone(&name.namespace),
        name: Arc::clone(service),
    })
}

fn replace<T: PartialEq>(objects: &mut Objects<T>, name: ObjectName, object: Arc<T>) -> bool {
    match objects.entry(name) {
        Entry::Occupied(mut held) => {
            let changed = **held.get() != *object;
            if changed {
                held.insert(object);
            }
            changed
        }
        Entry::Vacant(place) => {
            place.insert(object);
            true
        }
    }
}
