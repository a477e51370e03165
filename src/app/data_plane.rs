//! The proxy as the control loop sees it.

use std::sync::Arc;

use super::drainer::Wake;
use crate::control::publish::{BindFailure, Publish};
use crate::proxy::Proxy;
use crate::proxy::listeners::Listeners;
use crate::routing::Snapshot;

/// Swaps snapshots in and reconciles listeners.
#[derive(Debug)]
pub struct DataPlane {
    proxy: Arc<Proxy>,
    listeners: Arc<Listeners>,
    drainer: Wake,
    unbound: Vec<BindFailure>,
}

impl DataPlane {
    /// Tells `drainer` of every change.
    #[must_use]
    pub(super) fn new(proxy: Arc<Proxy>, listeners: Arc<Listeners>, drainer: Wake) -> Self {
        Self {
            proxy,
            listeners,
            drainer,
            unbound: Vec::new(),
        }
    }

    fn reconcile(&mut self) -> Vec<BindFailure> {
        let errors = self.listeners.reconcile(&self.proxy.snapshot.load_full());
        self.unbound = errors
            .into_iter()
            .map(|error| BindFailure {
                listener: error.listener,
                port: error.port,
                error: error.error.to_string(),
            })
            .collect();
        self.unbound.clone()
    }
}

impl Publish for DataPlane {
    fn publish(&mut self, snapshot: Snapshot) -> Vec<BindFailure> {
        if **self.proxy.snapshot.load() == snapshot {
            return self.unbound.clone();
        }
        self.proxy.snapshot.store(Arc::new(snapshot));
        self.drainer.wake();
        self.reconcile()
    }

    fn endpoints_changed(&mut self) {
        self.drainer.wake();
    }

    fn retry(&mut self) -> Vec<BindFailure> {
        self.reconcile()
    }
}
