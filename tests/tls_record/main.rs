//! TLS with clients, record by record: against rustls, OpenSSL and GnuTLS, and against a client
//! that seals records of its own, right and wrong ones.
//!
//! ```text
//! client (rustls, or keys in the test's hands) ◀─▶ Wire (in memory, any cut) ◀─▶ TlsStream
//! openssl s_client, gnutls-cli                 ◀─▶ TCP                       ◀─▶ TlsStream
//! ```
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod interop;
mod limits;
mod peer;
mod rules;
mod schedules;
mod script;
mod splits;
mod wire;
