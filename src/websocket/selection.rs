//! Which tunnels are meant, for those who look at the table.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::close::Side;
use super::scanner::Traffic;
use super::tunnel::{Record, TunnelView};

/// Tunnels that have all that is named here. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// One of these; empty = any.
    pub ids: Vec<u64>,
    /// Part of the route as it is shown: the object, the host, the path.
    pub route: Option<String>,
    /// The listener as it is shown, or its last parts.
    pub listener: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Open for at least so long.
    pub older_than: Duration,
    /// Nobody has said anything for at least so long.
    pub silent_for: Duration,
    /// Bytes a second, both directions together, over the whole life; at least.
    pub faster_than: u64,
}

/// A pod by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pod {
    /// All its ports.
    Address(IpAddr),
    /// One of them.
    Port(SocketAddr),
}

impl Pod {
    /// Whether the address is one of the pod's.
    #[must_use]
    pub fn has(self, endpoint: SocketAddr) -> bool {
        match self {
            Self::Address(address) => endpoint.ip() == address,
            Self::Port(address) => endpoint == address,
        }
    }
}

/// What is listed first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    #[default]
    Age,
    /// The most silent.
    Silent,
    /// Those with the most bytes.
    Bytes,
    /// Those with the most messages.
    Messages,
    /// Those with the most bytes a second, over their whole lives.
    Rate,
}

impl Order {
    /// A number that is lower for what comes first.
    pub(super) fn rank(self, record: &Record, now: Instant) -> u64 {
        let both = [Side::Client, Side::Pod].map(|side| record.traffic(side));
        let bytes = || both.iter().map(|traffic| traffic.bytes).sum::<u64>();
        u64::MAX
            - match self {
                // Numbers are given in the order of age.
                Self::Age => u64::MAX - record.id,
                Self::Silent => micros(record.silent(now)),
                Self::Bytes => bytes(),
                Self::Messages => both.iter().map(Traffic::messages).sum(),
                Self::Rate => bytes() / record.age(now).as_secs().max(1),
            }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A [`Selection`] at work. It remembers which routes and listeners are meant, by where they are in
/// memory, as thousands of tunnels have the same: the records must live for as long as it does.
pub(super) struct Matcher<'a> {
    selection: &'a Selection,
    now: Instant,
    routes: HashMap<usize, bool>,
    listeners: HashMap<usize, bool>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(selection: &'a Selection, now: Instant) -> Self {
        Self {
            selection,
            now,
            routes: HashMap::new(),
            listeners: HashMap::new(),
        }
    }

    /// Whether the tunnel is meant.
    pub(super) fn matches(&mut self, record: &Record) -> bool {
        let Selection {
            ids,
            route,
            listener,
            pod,
            client,
            older_than,
            silent_for,
            faster_than,
        } = self.selection;
        let (info, now) = (&record.info, self.now);
        pod.is_none_or(|pod| pod.has(info.endpoint))
            && (ids.is_empty() || ids.contains(&record.id))
            && client.is_none_or(|client| info.client.ip() == client.to_canonical())
            && (older_than.is_zero() || record.age(now) >= *older_than)
            && (silent_for.is_zero() || record.silent(now) >= *silent_for)
            && (*faster_than == 0 || record.view(now).bytes_per_second() >= *faster_than)
            && route.as_deref().is_none_or(|part| {
                let place = Arc::as_ptr(&info.route).addr();
                let is_meant = || info.route.to_string().contains(part);
                *self.routes.entry(place).or_insert_with(is_meant)
            })
            && listener.as_deref().is_none_or(|end| {
                let place = Arc::as_ptr(&info.listener).addr();
                *self.listeners.entry(place).or_insert_with(|| {
                    let shown = info.listener.to_string();
                    shown
                        .strip_suffix(end)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
                })
            })
    }
}

impl TunnelView {
    /// Both directions together, over the whole life.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        let bytes = self.from_client.bytes + self.from_pod.bytes;
        bytes / self.age.as_secs().max(1)
    }
}
