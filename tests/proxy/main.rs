//! The whole proxy, at its sockets: real manifests in a directory, real pods, real clients.
//!
//! Each test is named after a behaviour, waits with [`harness::soon`] and never sleeps, and ends
//! within [`harness::LIMIT`].

#![allow(
    clippy::large_futures,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub
)]

mod admin;
mod admission;
mod admission_queue;
mod answers;
mod balance;
mod bodies;
mod browser;
mod changes;
mod drains;
mod fields;
mod fixture;
mod handshakes;
mod harness;
mod http2;
mod http2_client;
mod http2_pressure;
mod http2_websocket;
mod http2_websocket_ends;
mod listeners;
mod log;
mod peers;
mod pod;
mod pod_tls;
mod raw;
mod retries;
mod routing;
mod shutdown;
mod smoke;
mod timeouts;
mod tls;
mod tls_client;
mod websocket;
mod websocket_policy;
mod wire;
