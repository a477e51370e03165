//! Bounds for what is admitted, as a load balancer declares them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::finding::{Notes, Reason};
use crate::api::{self, GatewayDuration};
use crate::routing::{Admission, Capacity, Queue};

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
    let queue = queue(
        declared.queue.unwrap_or_default(),
        &format!("{field}.queue"),
        notes,
    );
    let mut bound = |value, most, name| bound(value, most, field, name, notes);
    Admission {
        queue,
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

/// A queue of no length is no bound that can be meant; a timeout of none is.
fn queue(declared: api::Queue, field: &str, notes: &mut Notes) -> Option<Queue> {
    let default = Queue::DEFAULT;
    let mut length = |declared: Option<u32>, name, default: NonZeroU32| {
        if declared == Some(0) {
            notes.error(
                Reason::SpecInvalid,
                format!("{field}.{name}"),
                format!("a queue has a length of at least 1; {default} is used, and timeout 0s is no queue"),
            );
        }
        bound(declared, MAX_RATE, field, name, notes).unwrap_or(default)
    };
    let queue = Queue {
        length: length(declared.length, "length", default.length),
        length_per_pod: length(
            declared.length_per_pod,
            "lengthPerPod",
            default.length_per_pod,
        ),
        timeout: declared
            .timeout
            .map_or(default.timeout, |GatewayDuration(timeout)| timeout),
    };
    (!queue.timeout.is_zero()).then_some(queue)
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
        queue,
    } = *admission;
    let plain = |bound: Option<NonZeroU32>| bound.map(NonZeroU32::get);
    api::Admission {
        connections: plain(connections),
        connections_per_client: plain(connections_per_client),
        connections_per_pod: plain(connections_per_pod),
        handshakes_per_second: plain(handshakes_per_second),
        handshakes_per_second_per_client: plain(handshakes_per_second_per_client),
        queue: Some(api::Queue {
            length: queue.map(|queue| queue.length.get()),
            length_per_pod: queue.map(|queue| queue.length_per_pod.get()),
            timeout: Some(GatewayDuration(
                queue.map_or(Duration::ZERO, |queue| queue.timeout),
            )),
        }),
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
