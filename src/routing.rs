//! The routing table that the proxy reads: immutable, plain data, no Kubernetes types.
//!
//! ```text
//! Snapshot ─▶ Listener ─▶ HostTable ─▶ HostRoutes ─▶ Route ─▶ Backend ─▶ UpstreamId ─▶ (balance) endpoints
//!                 │
//!                 └─▶ CertificateTable (SNI)
//! ```
//!
//! Nothing in here does I/O, reads a clock or draws a random number. State that must outlive a
//! swap (endpoints, pools, tunnels) lives in registries beside the snapshot, keyed by
//! [`UpstreamId`] and [`RouteId`].

pub mod admission;
pub mod certificate;
pub mod drain;
pub mod host;
pub mod listener;
pub mod names;
pub mod path;
pub mod route;
pub mod server_names;
pub mod snapshot;
pub mod upstream;
pub mod websocket;

pub use admission::{Admission, Capacity, Queue};
pub use certificate::{Certificate, CertificateTable};
pub use drain::{ConnectionDrain, Rebalance};
pub use host::{HostRoutes, HostTable, Match};
pub use listener::{Listener, ListenerId, Protocol, Timeouts};
pub use path::{PathKind, PathMatch};
pub use route::{Backend, Origin, PolicyOverrides, Route, RouteId, Unavailable};
pub use server_names::ServerNames;
pub use snapshot::{Snapshot, Standing};
pub use upstream::{Endpoint, EndpointSet, EndpointState, PodEnd, PodProtocol, UpstreamId};
pub use websocket::{
    Keepalive, MaxAge, MessageLimits, Origins, WebSocketOverrides, WebSocketPolicy,
};
