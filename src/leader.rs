//! What only the replica that holds the Lease does: it writes to the API server.
//!
//! ```text
//! Lease ──is leading──▶ control ──▶ Agenda ──▶ writer ──▶ statuses, finalizers, owned Services
//!                                      └─────▶ events ──▶ Events about findings
//! ```

pub mod agenda;

pub use agenda::{Agenda, Aspect, Matter, Notice, Write};
