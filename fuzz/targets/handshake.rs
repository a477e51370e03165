//! Opening handshakes of RFC 6455.
//!
//! `tests/fuzz/handshake.rs` says what must hold, and `tests/fuzz/twins.rs` holds it to inputs of proptest's.
#![no_main]

#[path = "../../tests/fuzz/fields.rs"]
#[allow(dead_code)]
mod fields;
#[path = "../../tests/fuzz/handshake.rs"]
mod handshake;
#[path = "../../tests/fuzz/input.rs"]
#[allow(dead_code)]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    handshake::check(bytes);
});
