//! Pods that endpoints name, and when they end.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::key::ObjectName;
use super::object::parse_uid;

/// One pod of all that have had its name: a StatefulSet gives the same to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// Namespace and name.
    pub name: ObjectName,
    /// `uid`, 0 where it is not known.
    pub uid: u128,
}

/// When a pod that is being deleted is killed, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodEnd {
    /// Since the epoch, in whole seconds: `metadata.deletionTimestamp`, the time of the deletion
    /// and the grace period.
    pub at: Duration,
    /// All the time that it was given: `metadata.deletionGracePeriodSeconds`.
    pub grace: Duration,
}

impl PodEnd {
    /// As the metadata of the pod say. `None` = it is not being deleted, or has left its name to
    /// another.
    #[must_use]
    pub fn of(pod: &PodId, meta: &ObjectMeta) -> Option<Self> {
        let uid = meta.uid.as_deref().map_or(0, parse_uid);
        if pod.uid != 0 && uid != pod.uid {
            return None;
        }
        let seconds = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Some(Self {
            at: seconds(meta.deletion_timestamp.as_ref()?.0.as_second()),
            grace: seconds(meta.deletion_grace_period_seconds.unwrap_or(0)),
        })
    }
}
