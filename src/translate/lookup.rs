//! What a [`Translator`] knows of the world that it translated last.

use std::sync::Arc;

use super::Translator;
use super::attached::Attached;
use super::finding::Finding;
use super::part::Seniority;
use crate::routing::{Listener, ListenerId, UpstreamId};
use crate::world::{Kind, ObjectKey, ObjectName};

impl Translator {
    /// The load balancer that an Ingress is attached to, as of the last call.
    #[must_use]
    pub fn load_balancer_of(&self, ingress: &ObjectKey) -> Option<&ObjectName> {
        self.parts.get(ingress)?.load_balancer.as_ref()
    }

    /// What is attached to a load balancer, itself included, as of the last call.
    pub fn members_of(&self, load_balancer: &ObjectName) -> impl Iterator<Item = ObjectKey> {
        let attached = self.attached.get(load_balancer);
        attached.into_iter().flat_map(Attached::members)
    }

    /// The LoadBalancers that are served or could not be, as of the last call.
    pub fn load_balancers(&self) -> impl Iterator<Item = &ObjectName> {
        self.load_balancers.iter().map(Seniority::name)
    }

    /// The findings about an object, as of the last call.
    pub fn findings_of<'a>(&'a self, object: &'a ObjectKey) -> impl Iterator<Item = &'a Finding> {
        self.findings.of(object)
    }

    /// A listener that is served, as of the last call.
    #[must_use]
    pub fn listener(&self, id: &ListenerId) -> Option<&Listener> {
        self.snapshot.listeners.get(id).map(|listener| &**listener)
    }

    /// The listeners of a load balancer that are served, as of the last call.
    pub fn listeners_of<'a>(
        &'a self,
        load_balancer: &'a ObjectName,
    ) -> impl Iterator<Item = &'a Listener> {
        let listeners = self.snapshot.listeners.values().map(|listener| &**listener);
        listeners.filter(|listener| {
            listener.id.namespace == load_balancer.namespace
                && listener.id.load_balancer == load_balancer.name
        })
    }

    /// The target port that a listener waits for to be recorded.
    #[must_use]
    pub fn proposed_port(&self, id: &ListenerId) -> Option<u16> {
        let name = ObjectName {
            namespace: Arc::clone(&id.namespace),
            name: Arc::clone(&id.load_balancer),
        };
        self.proposed.get(&name)?.get(&id.name).copied()
    }

    /// Whether a listener is fit to be served: it may still wait for its port.
    #[must_use]
    pub fn is_accepted(&self, load_balancer: &ObjectName, listener: &str) -> bool {
        let key = ObjectKey::new(Kind::LoadBalancer, load_balancer.clone());
        self.parts.get(&key).is_some_and(|part| {
            let mut listeners = part.listeners.iter();
            listeners.any(|accepted| *accepted.name == *listener)
        })
    }

    /// The upstreams of a Service that routes name, as of the last call.
    pub fn upstreams_of(&self, service: &ObjectName) -> impl Iterator<Item = &Arc<UpstreamId>> {
        self.upstreams.of(service)
    }
}
