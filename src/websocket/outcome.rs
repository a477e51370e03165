//! How a tunnel went.

use std::time::Duration;

use super::close::{By, Cause};
use super::scanner::Traffic;

/// How a tunnel went, for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Identity in the tunnel table.
    pub id: u64,
    /// Why it ended.
    pub cause: Cause,
    /// Who began the end.
    pub by: By,
    /// The Close code: the peer's own where a peer closed, else the one we told; `None` where
    /// there was none, or no boundary to put it at.
    pub code: Option<u16>,
    /// For how long it was open.
    pub duration: Duration,
    /// What the client sent.
    pub from_client: Traffic,
    /// What the pod sent.
    pub from_pod: Traffic,
}
