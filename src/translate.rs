//! World to snapshot: pure, total, deterministic.
//!
//! ```text
//! World ─┬─▶ class      which Ingress belongs to which LoadBalancer
//!        ├─▶ ingress  ─┐
//!        ├─▶ load_balancer ─▶ part per object ─▶ merge per host ─▶ Snapshot
//!        ├─▶ service  ─┘         └─▶ findings
//!        └─▶ tls
//! ```
//!
//! A broken object yields findings and is left out, or serves a defined failure; it never changes
//! how another object is served (P3).

pub mod finding;
