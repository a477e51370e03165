//! Bounds for what is admitted, as a load balancer declares them.

use std::num::NonZeroU32;

use super::finding::{Notes, Reason};
use crate::api;
use crate::routing::{Admission, Capacity};

/// As in the schema; a file may say more.
const MAX_CONNECTIONS: u32 = 10_000_000;
const MAX_RATE: u32 = 1_000_000;

/// What a listener declares at `field`.
pub(super) fn admission(
    declared: Option<api::Admission>,
    field: &str,
    notes: &mut Notes,
) -> Admission {
    let declared = declared.unwrap_or_default();
    let mut bound = |value, most, name| bound(value, most, field, name, notes);
    Admission {
        connections: bound(declared.connections, MAX_CONNECTIONS, "connections"),
        connections_per_client: bound(
            declared.connections_per_client,
            MAX_CONNECTIONS,
            "connectionsPerClient",
        ),
        connections_per_pod: bound(
            declared.connections_per_pod,
            MAX_CONNECTIONS,
            "connectionsPerPod",
        ),
        handshakes_per_second: bound(
            declared.handshakes_per_second,
            MAX_RATE,
            "handshakesPerSecond",
        ),
        handshakes_per_second_per_client: bound(
            declared.handshakes_per_second_per_client,
            MAX_RATE,
            "handshakesPerSecondPerClient",
        ),
    }
}

/// What a load balancer declares in `spec.capacity`.
pub(super) fn capacity(declared: Option<api::Capacity>, notes: &mut Notes) -> Capacity {
    let declared = declared.unwrap_or_default();
    let mut bound = |value, most, name| bound(value, most, "spec.capacity", name, notes);
    Capacity {
        max_connections: bound(declared.max_connections, MAX_CONNECTIONS, "maxConnections"),
        new_connections_per_second: bound(
            declared.new_connections_per_second,
            MAX_RATE,
            "newConnectionsPerSecond",
        ),
        requests_per_second: bound(declared.requests_per_second, MAX_RATE, "requestsPerSecond"),
    }
}

/// 0 = none.
fn bound(
    declared: Option<u32>,
    most: u32,
    field: &str,
    name: &str,
    notes: &mut Notes,
) -> Option<NonZeroU32> {
    let declared = NonZeroU32::new(declared?)?;
    if declared.get() > most {
        notes.error(
            Reason::SpecInvalid,
            format!("{field}.{name}"),
            format!("{declared} is more than {most}; {most} is used"),
        );
        return NonZeroU32::new(most);
    }
    Some(declared)
}

/// Bounds as the API writes them; what is absent has none.
#[must_use]
pub(crate) fn admission_in_force(admission: &Admission) -> api::Admission {
    let Admission {
        connections,
        connections_per_client,
        connections_per_pod,
        handshakes_per_second,
        handshakes_per_second_per_client,
    } = *admission;
    let plain = |bound: Option<NonZeroU32>| bound.map(NonZeroU32::get);
    api::Admission {
        connections: plain(connections),
        connections_per_client: plain(connections_per_client),
        connections_per_pod: plain(connections_per_pod),
        handshakes_per_second: plain(handshakes_per_second),
        handshakes_per_second_per_client: plain(handshakes_per_second_per_client),
    }
}

/// The same for a load balancer.
#[must_use]
pub(crate) fn capacity_in_force(capacity: &Capacity) -> api::Capacity {
    let plain = |bound: Option<NonZeroU32>| bound.map(NonZeroU32::get);
    api::Capacity {
        max_connections: plain(capacity.max_connections),
        new_connections_per_second: plain(capacity.new_connections_per_second),
        requests_per_second: plain(capacity.requests_per_second),
    }
}
