//! The relay and the tunnel table, seen from the sockets of the two peers.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod endings;
mod hostile;
mod keepalive;
mod limits;
mod policy_endings;
mod schedules;
mod strict;
mod table;
mod tcp;
mod tls;
mod tunnels;
