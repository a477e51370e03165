//! How WebSockets end, or move, when the pods behind them change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;

/// How WebSockets end when what they use goes away: their listener, route, backend or pod. They are
/// closed one by one over the time given here, at random, so that no reconnect storm follows; new
/// ones go elsewhere at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionDrain {
    /// Over which they are closed. Default `300s`; `0s` = as fast as `closesPerSecond` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GatewayDuration>,
    /// The same for those of a pod that is terminating, at most. Without it, as long as the pod has:
    /// its `terminationGracePeriodSeconds` less a sixth or 5 seconds, whichever is less; `25s` where
    /// that is not known. Set it for pods that end by themselves before that. Never more than
    /// `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_timeout: Option<GatewayDuration>,
    /// No more are closed than so many a second, all drains of a listener together, even where that
    /// takes longer than the time given. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub closes_per_second: Option<u32>,
}

/// Moving WebSockets from pods that have many to pods that have few, as after a scale-out: some are
/// closed (1012, reconnect at once), and come back to the pods that have the fewest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rebalance {
    /// By how much the pods of a Service may differ, in percent of what they hold on average. Default
    /// 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub tolerance_percent: Option<u8>,
    /// How many are closed a second, of one Service. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub closes_per_second: Option<u32>,
}
