//! Certificates by SNI, the handshake, TLS to pods.
