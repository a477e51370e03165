//! Our own resources, `holdfast.dev/v1alpha1`. Knows nobody.
//!
//! A field enters the CRD on the day the data plane obeys it (P11).

pub mod admission;
pub mod byte_size;
pub mod crd;
pub mod drain;
pub mod duration;
pub mod load_balancer;
pub mod service_template;
pub mod status;
pub mod websocket;

pub use admission::{Admission, Capacity, Queue};
pub use byte_size::ByteSize;
pub use crd::{CrdError, crd_json, crd_yaml};
pub use drain::{ConnectionDrain, Rebalance};
pub use duration::GatewayDuration;
pub use load_balancer::{
    Backend, BackendService, Exposure, Listener, LoadBalancer, LoadBalancerSpec, Path, PathType,
    Protocol, Rule, RuleTimeouts, SecretRef, ServicePort, Timeouts, Tls,
};

pub use service_template::{
    ExternalTrafficPolicy, IpFamily, IpFamilyPolicy, ServiceTemplate, ServiceType,
};
pub use status::{
    Address, AddressType, Condition, ConditionStatus, Effective, ListenerStatus, LoadBalancerStatus,
};
pub use websocket::{Enforce, Keepalive, KeepalivePeers, MaxAge, WebSocket, WebSocketLimits};

/// The API group of our resources and the prefix of our annotations.
pub const GROUP: &str = "holdfast.dev";

/// Who we are in `metadata.managedFields`: the field manager of server-side apply.
pub const FIELD_MANAGER: &str = "holdfast";

/// On a LoadBalancer that owns a Service: it goes only after the Service has gone.
pub const FINALIZER: &str = "holdfast.dev/owned-service";

/// Labels of an owned Service: the LoadBalancer that owns it.
pub const OWNER_NAMESPACE_LABEL: &str = "holdfast.dev/load-balancer-namespace";
/// See [`OWNER_NAMESPACE_LABEL`].
pub const OWNER_NAME_LABEL: &str = "holdfast.dev/load-balancer-name";

/// `spec.controller` of the IngressClasses that are ours.
pub const CONTROLLER: &str = "holdfast.dev/ingress-controller";
