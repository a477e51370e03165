//! Opening handshakes of RFC 8441, and what pods are asked with.
//!
//! `tests/fuzz/extended_connect.rs` says what must hold, and `tests/fuzz/twins.rs` holds it to inputs of proptest's.
#![no_main]

#[path = "../../tests/fuzz/extended_connect.rs"]
mod extended_connect;
#[path = "../../tests/fuzz/fields.rs"]
#[allow(dead_code)]
mod fields;
#[path = "../../tests/fuzz/input.rs"]
#[allow(dead_code)]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    extended_connect::check(bytes);
});
