//! The status of an Ingress, reduced.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{self, Address};

/// The status of an Ingress, as far as it has to be known to write it only when it differs: at
/// 10,000 Ingresses the addresses themselves would be megabytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusMark {
    /// Of the addresses, see [`StatusMark::of`]; 0 = none.
    pub fingerprint: u64,
    /// Whether we are among the managers of the status.
    pub is_ours: bool,
}

impl StatusMark {
    /// The fingerprint of addresses in their order.
    #[must_use]
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut count = 0_u32;
        for address in addresses {
            address.hash(&mut hasher);
            count += 1;
        }
        if count == 0 {
            0
        } else {
            hasher.finish().max(1)
        }
    }

    /// The mark of an Ingress as the API server has it.
    pub(super) fn new(ingress: &networking::Ingress) -> Self {
        let entries = ingress
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
            .flatten();
        let addresses: Vec<Address> = entries
            .filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()))
            .map(Address::new)
            .collect();
        Self {
            fingerprint: Self::of(&addresses),
            is_ours: is_status_ours(&ingress.metadata),
        }
    }
}

/// Whether our field manager has written a part of the status.
fn is_status_ours(meta: &ObjectMeta) -> bool {
    meta.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(api::FIELD_MANAGER)
            && entry.subresource.as_deref() == Some("status")
    })
}
