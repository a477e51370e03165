//! All scenarios, in the order in which they run.

mod websockets;

use crate::scenario::Scenario;

/// All scenarios, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    vec![Scenario::shared(
        "websockets_reach_pods_with_no_annotation",
        60,
        websockets::reach_pods,
    )]
}
