//! Endpoints and their state that outlives snapshots.
//!
//! ```text
//! control ──EndpointSet──▶ Registry ─▶ Upstream ─▶ [Endpoint] ◀── pick ── proxy
//!                          (by UpstreamId)           └─ in-flight count, idle connections
//! ```
//!
//! A snapshot names upstreams by id; their membership changes here, without a new snapshot. An
//! endpoint that stays a member keeps its state through every change of its upstream.

pub mod endpoint;
pub mod registry;
pub mod upstream;

pub use endpoint::{Endpoint, InFlight};
pub use registry::Registry;
pub use upstream::Upstream;
