//! How WebSockets end or move when the pods behind them change, as a LoadBalancer declares it.

use super::finding::{Notes, Reason};
use crate::api::{self, GatewayDuration};
use crate::routing::{ConnectionDrain, Rebalance};

/// The longest drain: a day.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// `spec.connectionDrain`, with defaults for what is not declared or cannot be.
pub(super) fn connection_drain(
    declared: Option<api::ConnectionDrain>,
    notes: &mut Notes,
) -> ConnectionDrain {
    let default = ConnectionDrain::default();
    let declared = declared.unwrap_or_default();
    let mut duration = |name: &str, declared: Option<GatewayDuration>| {
        let GatewayDuration(duration) = declared?;
        if duration <= LONGEST {
            return Some(duration);
        }
        notes.error(
            Reason::SpecInvalid,
            format!("spec.connectionDrain.{name}"),
            "a drain takes 24h at most; that is used",
        );
        Some(LONGEST)
    };
    let timeout = duration("timeout", declared.timeout).unwrap_or(default.timeout);
    let pod_timeout = duration("podTimeout", declared.pod_timeout);
    ConnectionDrain {
        timeout,
        pod_timeout: pod_timeout.map(|pod_timeout| pod_timeout.min(timeout)),
        closes_per_second: positive(
            declared.closes_per_second,
            default.closes_per_second,
            1_000_000,
            "spec.connectionDrain.closesPerSecond",
            notes,
        ),
    }
}

/// `spec.rebalance`; `None` = tunnels stay where they are.
pub(super) fn rebalance(declared: Option<api::Rebalance>, notes: &mut Notes) -> Option<Rebalance> {
    let declared = declared?;
    let default = Rebalance::default();
    let tolerance = positive(
        declared.tolerance_percent.map(u32::from),
        u32::from(default.tolerance_percent),
        100,
        "spec.rebalance.tolerancePercent",
        notes,
    );
    Some(Rebalance {
        tolerance_percent: u8::try_from(tolerance).unwrap_or(default.tolerance_percent),
        closes_per_second: positive(
            declared.closes_per_second,
            default.closes_per_second,
            10_000,
            "spec.rebalance.closesPerSecond",
            notes,
        ),
    })
}

fn positive(declared: Option<u32>, default: u32, most: u32, field: &str, notes: &mut Notes) -> u32 {
    match declared {
        None => default,
        Some(number) if (1..=most).contains(&number) => number,
        Some(number) => {
            notes.error(
                Reason::SpecInvalid,
                field,
                format!("{number} is not a number from 1 to {most}; {default} is used"),
            );
            default
        }
    }
}

/// As the API writes it, defaults included. Without `podTimeout` pods themselves say it.
pub(crate) fn drain_in_force(drain: &ConnectionDrain) -> api::ConnectionDrain {
    api::ConnectionDrain {
        timeout: Some(GatewayDuration(drain.timeout)),
        pod_timeout: drain.pod_timeout.map(GatewayDuration),
        closes_per_second: Some(drain.closes_per_second),
    }
}

/// As the API writes it, defaults included.
pub(crate) fn rebalance_in_force(rebalance: &Rebalance) -> api::Rebalance {
    api::Rebalance {
        tolerance_percent: Some(rebalance.tolerance_percent),
        closes_per_second: Some(rebalance.closes_per_second),
    }
}
