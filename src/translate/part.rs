//! What one object contributes to the routing table, and what it depends on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::finding::Finding;
use super::sorted::{SortedMap, SortedSet};
use crate::api::Exposure;
use crate::routing::{
    Admission, Capacity, Certificate, ConnectionDrain, Protocol, Rebalance, Route, ServerNames,
    Timeouts, WebSocketPolicy,
};
use crate::world::{Kind, Metadata, ObjectKey, ObjectName};

/// An object's part of the translation: a pure function of the object and of what it names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) seniority: Seniority,
    /// The load balancer it belongs to; `None` if it is not ours or cannot be served.
    pub(super) load_balancer: Option<ObjectName>,
    /// Routes by what they claim. A claim without routes is a host without paths (404).
    pub(super) routes: SortedMap<Claim, Vec<Contribution>>,
    /// Certificates by server name, exact or `*.suffix`.
    pub(super) certificates: BTreeMap<Arc<str>, Offer>,
    /// How its listeners are reached, of a LoadBalancer only.
    pub(super) exposure: Exposure,
    /// Listeners, of a LoadBalancer only.
    pub(super) listeners: Vec<Arc<ListenerSpec>>,
    pub(super) findings: Vec<Finding>,
    /// The objects that it names, whether they exist or not.
    pub(super) uses: SortedSet<ObjectKey>,
}

impl Part {
    pub(super) fn new(seniority: Seniority) -> Self {
        Self {
            seniority,
            load_balancer: None,
            routes: SortedMap::default(),
            certificates: BTreeMap::new(),
            exposure: Exposure::default(),
            listeners: Vec::new(),
            findings: Vec::new(),
            uses: SortedSet::default(),
        }
    }
}

/// Who goes first in a contest: the older object, then by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Seniority {
    created: i64,
    name: ObjectName,
    kind: Kind,
}

impl Seniority {
    pub(super) fn new(kind: Kind, meta: &Metadata) -> Self {
        let (created, name) = meta.seniority();
        Self {
            created,
            name: name.clone(),
            kind,
        }
    }

    pub(super) fn name(&self) -> &ObjectName {
        &self.name
    }

    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::new(self.kind, self.name.clone())
    }
}

/// A place in the host table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Claim {
    /// An exact host.
    Exact(Arc<str>),
    /// What follows `*.`.
    Wildcard(Arc<str>),
    /// Requests whose host nobody else has claimed.
    AnyHost,
    /// What nothing else takes.
    Fallback,
}

impl Claim {
    /// The host as it is declared: empty where the claim is not to a host.
    pub(super) fn host(&self) -> Arc<str> {
        match self {
            Self::Exact(host) => Arc::clone(host),
            Self::Wildcard(suffix) => format!("*.{suffix}").into(),
            Self::AnyHost | Self::Fallback => Arc::default(),
        }
    }

    /// Whether it is a host that a client can name.
    pub(super) fn is_named(&self) -> bool {
        matches!(self, Self::Exact(_) | Self::Wildcard(_))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "host {host}"),
            Self::Wildcard(suffix) => write!(f, "host *.{suffix}"),
            Self::AnyHost => f.write_str("any host"),
            Self::Fallback => f.write_str("everything that no rule takes"),
        }
    }
}

/// A route that enters the contest for its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contribution {
    pub(super) route: Arc<Route>,
    /// The listeners that serve it; `None` = all.
    pub(super) listeners: Option<Arc<[Arc<str>]>>,
    /// Where it is declared.
    pub(super) field: String,
}

impl Contribution {
    pub(super) fn is_served_by(&self, listener: &str) -> bool {
        self.listeners
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| **name == *listener))
    }
}

/// A certificate that enters the contest for a server name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Offer {
    pub(super) certificate: Arc<Certificate>,
    /// Where it is declared.
    pub(super) field: String,
}

/// A listener as declared, with its own certificates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListenerSpec {
    pub(super) name: Arc<str>,
    pub(super) port: u16,
    /// The target port that the status of its LoadBalancer has for it.
    pub(super) recorded: Option<u16>,
    pub(super) protocol: Protocol,
    pub(super) http2: bool,
    pub(super) http1_only: Arc<ServerNames>,
    pub(super) timeouts: Timeouts,
    pub(super) websocket: Arc<WebSocketPolicy>,
    pub(super) drain: ConnectionDrain,
    pub(super) rebalance: Option<Rebalance>,
    pub(super) admission: Arc<Admission>,
    pub(super) capacity: Capacity,
    /// For clients without a server name, and for names that nobody has.
    pub(super) default_certificate: Option<Arc<Certificate>>,
    /// By the names in the certificates, exact or `*.suffix`.
    pub(super) certificates: BTreeMap<Arc<str>, Arc<Certificate>>,
    /// Where it is declared.
    pub(super) field: String,
}
