//! Clients that come from outside: they know an address, a host name and whom they trust.

mod answer;
mod certificate;
mod tls;
mod visitor;
mod websocket;
mod wire;

pub(crate) use certificate::{Authority, Issued, secret};
pub(crate) use tls::Trust;
pub(crate) use visitor::Visitor;
pub(crate) use websocket::{Received, Socket};
