//! The relay between two peers of any manners and any luck, under any policy.
//!
//! `tests/fuzz/relay.rs` says what must hold, and `tests/fuzz/twins.rs` holds it to inputs of proptest's.
#![no_main]

#[path = "../../tests/fuzz/decode.rs"]
#[allow(dead_code)]
mod decode;
#[path = "../../tests/fuzz/endpoint.rs"]
#[allow(dead_code)]
mod endpoint;
#[path = "../../tests/fuzz/framing.rs"]
#[allow(dead_code)]
mod framing;
#[path = "../../tests/fuzz/input.rs"]
#[allow(dead_code)]
mod input;
#[path = "../../tests/fuzz/judge.rs"]
#[allow(dead_code)]
mod judge;
#[path = "../../tests/fuzz/relay.rs"]
mod relay;
#[path = "../../tests/fuzz/socket.rs"]
#[allow(dead_code)]
mod socket;
#[path = "../../tests/relay/strict.rs"]
#[allow(dead_code)]
mod strict;
#[path = "../../tests/fuzz/tunnel.rs"]
#[allow(dead_code)]
mod tunnel;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    relay::check(bytes);
});
