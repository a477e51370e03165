//! Certificates by SNI, the handshake with clients, TLS to pods.
//!
//! ```text
//! client ─ClientHello─▶ handshake (deadline) ─SNI─▶ Snapshot ─▶ CertificateTable ─▶ certificate
//! pod    ◀─ClientHello─ PodTls (server name = the request's host)
//! ```

pub mod pod;
pub mod self_signed;
pub mod server;

pub use pod::PodTls;
pub use server::ServerTls;
