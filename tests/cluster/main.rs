//! The whole program against an API server that does what a test says.

#![allow(
    clippy::large_futures,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub
)]

mod api_server;
mod changes;
mod controller;
mod faults;
#[path = "../proxy/harness.rs"]
mod harness;
mod leader;
mod leader_app;
mod leader_events;
mod leader_lease;
mod leader_peers;
mod leader_permissions;
mod leader_uninstall;
mod leader_writer;
mod objects;
mod outages;
#[path = "../proxy/peers.rs"]
mod peers;
mod pod_ends;
mod program;
mod refusals;
mod scale;
mod start;
