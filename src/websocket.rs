//! The WebSocket engine: everything after the 101.
//!
//! ```text
//!            ┌──────────────────── Relay (one task) ────────────────────┐
//! client ───▶│ read ─▶ Scanner (frame boundaries) ─▶ write              │───▶ pod
//! client ◀───│              write ◀─ Scanner ◀─ read                    │◀─── pod
//!            └───┬──────────────────────────────────────────────▲───────┘
//!                │ counts, last activity                        │ end(Cause)
//!                ▼                                              │
//!            TunnelTable: one record a tunnel ─▶ metrics, list, drain, shutdown
//! ```
//!
//! The proxy is transparent: payload is never buffered, unmasked or changed, so compression,
//! fragments and extensions that it has never heard of pass untouched. It only knows where a frame
//! ends, and that is enough to end a tunnel with a well-formed Close frame, to count messages and
//! to report why a tunnel ended.

pub mod close;
pub mod extended_connect;
pub mod frame;
pub mod handshake;
pub mod scanner;

mod care;
mod departures;
mod drain;
mod flow;
mod gate;
mod keepalive;
mod outcome;
mod pace;
mod relay;
mod relay_config;
mod selection;
mod surplus;
mod table;
mod tending;
mod tunnel;

pub use close::{By, Cause, CloseCode, Ending, Side};
pub use departures::{Begun, Departures, Leave, Loss};
pub use outcome::Outcome;
pub use relay::{Relay, relay};
pub use relay_config::RelayConfig;
pub use scanner::{Scanner, Stop, Traffic};
pub use selection::{Order, Pod, Selection};
pub use surplus::surplus;
pub use table::{RouteTotals, TunnelTable};
pub use tunnel::{TunnelGuard, TunnelInfo, TunnelView};
