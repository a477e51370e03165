//! The proxy as the control loop sees it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::control::publish::{BindFailure, Publish};
use crate::proxy::Proxy;
use crate::proxy::listeners::Listeners;
use crate::routing::{ListenerId, Snapshot};
use crate::websocket::{Cause, TunnelInfo};

/// How often tunnels of a listener that has left are looked for that opened after the drain
/// window, and how many times: pods may take their time to answer a handshake.
const LATE_TUNNELS: Duration = Duration::from_secs(1);
const LATE_LOOKS: u32 = 300;

/// Swaps snapshots in and reconciles listeners.
#[derive(Debug)]
pub struct DataPlane {
    proxy: Arc<Proxy>,
    listeners: Arc<Listeners>,
    runtime: Handle,
    /// Over which the tunnels of a listener that has left are closed.
    drain: Duration,
    /// Drains under way. A listener that comes back keeps the tunnels that are left, and all that
    /// it then takes.
    draining: HashMap<ListenerId, AbortHandle>,
    unbound: Vec<BindFailure>,
}

impl DataPlane {
    /// Its tasks run on `runtime`.
    #[must_use]
    pub fn new(
        proxy: Arc<Proxy>,
        listeners: Arc<Listeners>,
        runtime: Handle,
        drain: Duration,
    ) -> Self {
        Self {
            proxy,
            listeners,
            runtime,
            drain,
            draining: HashMap::new(),
            unbound: Vec::new(),
        }
    }

    fn reconcile(&mut self) -> Vec<BindFailure> {
        let snapshot = self.proxy.snapshot.load_full();
        let (left, errors) = self.listeners.reconcile(&snapshot);
        self.draining.retain(|listener, drain| {
            if snapshot.listeners.contains_key(listener) {
                drain.abort();
            }
            !drain.is_finished()
        });
        for id in left {
            let listener = id.clone();
            let tunnels = self.proxy.tunnels.clone();
            let window = self.drain;
            let drain = async move {
                let left = |tunnel: &TunnelInfo| *tunnel.listener == listener;
                tunnels.drain(left, window, Cause::ListenerRemoved).await;
                // Some have their handshake under way when the window closes.
                for _ in 0..LATE_LOOKS {
                    tokio::time::sleep(LATE_TUNNELS).await;
                    tunnels.end_where(left, Cause::ListenerRemoved);
                }
            };
            // Not a task that the end of the process waits for: that drains all tunnels itself.
            let drain = self.runtime.spawn(drain).abort_handle();
            if let Some(before) = self.draining.insert(id, drain) {
                before.abort();
            }
        }
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
        self.reconcile()
    }

    fn retry(&mut self) -> Vec<BindFailure> {
        self.reconcile()
    }
}
