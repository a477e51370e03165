//! Certificates by SNI, the handshake with clients, TLS to pods.
//!
//! ```text
//! client ─ClientHello─▶ handshake (deadline) ─SNI─▶ Snapshot ─▶ CertificateTable ─▶ certificate
//!                           └─ keys ─▶ TlsStream (session ─▶ record protection)
//! pod    ◀─ClientHello─ PodTls (server name = the request's host)
//! ```

mod handshake;
pub mod pod;
mod protection;
pub mod self_signed;
pub mod server;
mod session;
mod stream;

pub use pod::PodTls;
pub use server::ServerTls;
pub use stream::TlsStream;
