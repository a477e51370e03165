//! The whole table at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::listener::{Listener, ListenerId};

/// Everything the proxy knows of the configuration at one moment. Requests load it once and see
/// one consistent world to their end (P2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Listeners by identity. At most one per target port: `translate` has settled conflicts.
    pub listeners: BTreeMap<ListenerId, Arc<Listener>>,
}
