//! The load generator's side of the wire: sockets, TLS, handshakes and messages, written by hand so
//! that it costs little and checks every byte.

pub(crate) mod message;
pub(crate) mod reconnecting;
pub(crate) mod request;
pub(crate) mod trust;
pub(crate) mod tunnel;
pub(crate) mod wire;
