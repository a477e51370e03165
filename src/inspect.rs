//! What `check`, `routes` and `explain` print: text in columns for people, JSON for programs.
//!
//! ```text
//! findings ─▶ check        Snapshot ─▶ routes        Snapshot, URL ─▶ explain
//! ```
//!
//! Rendering only: no I/O.

pub mod check;
mod columns;
pub mod explain;
mod policy;
pub mod routes;
pub mod tunnels;

pub use explain::{Explanation, InvalidUrl, explain};
