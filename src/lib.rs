//! Holdfast: a Kubernetes ingress controller whose proxy lives in the same process.
//!
//! ```text
//! source ──deltas──▶ world ──▶ translate ──▶ control (publish) ──▶ routing::Snapshot ◀── proxy ◀── client
//!   ▲ files             │            └─▶ findings ─▶ log, metrics, admin                  │
//!                       └─ EndpointSlices take the short way ──▶ balance ◀────────────────┴─▶ pod
//! ```
//!
//! `translate`, `routing` and `world` are pure: no I/O, no clock, no randomness. `proxy`,
//! `websocket`, `balance` and `tls` know `routing` and never Kubernetes types. `app` knows all.
//! The table of allowed edges is in `docs/architecture.md`, and a test holds the code to it.

pub mod admin;
pub mod admission;
pub mod api;
pub mod app;
pub mod balance;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod demo;
pub mod inspect;
pub mod leader;
pub mod metrics;
pub mod proxy;
pub mod routing;
pub mod shutdown;
pub mod source;
pub mod telemetry;
pub mod tls;
pub mod translate;
pub mod websocket;
pub mod world;
