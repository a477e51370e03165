//! Clients that come from outside: they know an address, a host name and whom they trust.

mod answer;
mod certificate;
mod kept;
mod tls;
mod visitor;
mod websocket;
mod wire;

pub(crate) use answer::Answer;
pub(crate) use certificate::{Authority, Issued, secret};
pub(crate) use kept::{Kept, Unanswered};
pub(crate) use tls::Trust;
pub(crate) use visitor::Visitor;
pub(crate) use websocket::{Received, Socket};
