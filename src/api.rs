//! Our own resources, `holdfast.dev/v1alpha1`. Knows nobody.
//!
//! A field enters the CRD on the day the data plane obeys it (P11).

pub mod crd;
pub mod duration;
pub mod load_balancer;

pub use crd::{CrdError, crd_yaml};
pub use duration::GatewayDuration;
pub use load_balancer::{
    Backend, BackendService, Exposure, Listener, LoadBalancer, LoadBalancerSpec, Path, PathType,
    Protocol, Rule, RuleTimeouts, SecretRef, ServicePort, Timeouts, Tls, WebSocket,
};

/// The API group of our resources and the prefix of our annotations.
pub const GROUP: &str = "holdfast.dev";

/// `spec.controller` of the IngressClasses that are ours.
pub const CONTROLLER: &str = "holdfast.dev/ingress-controller";
