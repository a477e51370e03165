//! TLS records: any script of sealed records, loose bytes, cuts, reads and writes.
//!
//! `tests/tls_record/script.rs` says what must hold, and its twin in that test plays scripts of
//! proptest's.
#![no_main]

#[path = "../../tests/tls_record/peer.rs"]
#[allow(dead_code)]
mod peer;
#[path = "../../tests/tls_record/script.rs"]
mod script;
#[path = "../../tests/tls_record/wire.rs"]
#[allow(dead_code)]
mod wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| script::play(bytes));
