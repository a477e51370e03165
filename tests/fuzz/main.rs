//! What the fuzz targets look for counter-examples to, on inputs of proptest's and on their seeds.
//!
//! ```text
//! fuzz/targets/NAME.rs (libFuzzer) ──┐
//! twins.rs (proptest) ───────────────┼─▶ NAME::check(bytes) ─▶ a panic, or what became of it
//! seeds.rs (fuzz/corpus/NAME) ───────┘
//! ```
//!
//! Each check takes any bytes and makes a case of them. The target of TLS records has its twin in
//! `tests/tls_record`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]
#![allow(missing_debug_implementations)]

mod close_injection;
mod decode;
mod endpoint;
mod extended_connect;
mod fields;
mod found;
mod framing;
mod handshake;
mod input;
mod judge;
mod relay;
mod scanner;
mod seeds;
mod socket;
#[path = "../relay/strict.rs"]
mod strict;
mod tunnel;
mod twins;
