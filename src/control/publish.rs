//! Giving a snapshot to the data plane.

use crate::routing::{ListenerId, Snapshot};
use crate::translate::finding::{Finding, Reason, Severity};
use crate::world::{Kind, ObjectKey, ObjectName};

/// Where snapshots go. The proxy's side of it is made in `app`, as the loop knows no sockets.
pub trait Publish: Send {
    /// Swaps the snapshot in and opens and closes ports accordingly; answers the ports that could
    /// not be bound. An equal snapshot changes nothing.
    fn publish(&mut self, snapshot: Snapshot) -> Vec<BindFailure>;

    /// Endpoints have changed.
    fn endpoints_changed(&mut self);

    /// Tries again to bind what could not be bound.
    fn retry(&mut self) -> Vec<BindFailure>;
}

/// A listener that cannot have its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindFailure {
    /// The listener.
    pub listener: ListenerId,
    /// Its target port.
    pub port: u16,
    /// What the system says.
    pub error: String,
}

impl BindFailure {
    /// The failure as a finding on the LoadBalancer.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let Self {
            listener,
            port,
            error,
        } = self;
        let name = ObjectName {
            namespace: listener.namespace.clone(),
            name: listener.load_balancer.clone(),
        };
        Finding {
            object: ObjectKey::new(Kind::LoadBalancer, name),
            severity: Severity::Error,
            reason: Reason::BindFailed,
            field: format!("spec.listeners[name={}].port", listener.name),
            message: format!(
                "port {port} cannot be bound ({error}), so the listener is not served; free the \
                 port or choose another (it is tried again every few seconds)"
            ),
        }
    }
}
