//! The frame scanner on any bytes, however they are cut.
//!
//! `tests/fuzz/scanner.rs` says what must hold, and `tests/fuzz/twins.rs` holds it to inputs of proptest's.
#![no_main]

#[path = "../../tests/fuzz/framing.rs"]
#[allow(dead_code)]
mod framing;
#[path = "../../tests/fuzz/input.rs"]
#[allow(dead_code)]
mod input;
#[path = "../../tests/fuzz/scanner.rs"]
mod scanner;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    scanner::check(bytes);
});
