//! Everything the source has said, as typed objects: ordered, pure data.
//!
//! ```text
//! source ──Delta──▶ World::apply ──▶ changed keys ──▶ translate
//! ```
//!
//! An object is stripped on arrival to what translation reads: `managedFields`, foreign
//! annotations and most of statuses are never stored. Key material of Secrets is parsed by `translate`.

pub mod delta;
pub mod key;
pub mod object;
pub mod owned_service;
pub mod pod;
pub mod status_mark;
pub mod store;

pub use delta::{Delta, Scope};
pub use key::{Kind, ObjectKey, ObjectName};
pub use object::{
    EndpointSlice, Ingress, IngressClass, LoadBalancer, Metadata, Namespace, Object, Secret,
    Service,
};
pub use owned_service::OwnedService;
pub use pod::{PodEnd, PodId};
pub use status_mark::StatusMark;
pub use store::{Change, World};
