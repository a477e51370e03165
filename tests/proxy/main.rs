//! The whole proxy, at its sockets: real manifests in a directory, real pods, real clients.
//!
//! Each test is named after a behaviour, waits with [`harness::soon`] and never sleeps, and ends
//! within [`harness::LIMIT`].

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod admin;
mod changes;
mod harness;
mod listeners;
mod peers;
mod shutdown;
mod smoke;
mod websocket;
