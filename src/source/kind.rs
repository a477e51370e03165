//! The kinds that are read: their versions and their decoders.

use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::world::{Kind, Object};

/// The version of a kind that is read.
pub(super) fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
        Kind::LoadBalancer => "holdfast.dev/v1alpha1",
        Kind::Namespace | Kind::Secret | Kind::Service => "v1",
    }
}

/// The name of a kind's collection at the API server, which is also the resource of its RBAC.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::EndpointSlice => "endpointslices",
        Kind::Ingress => "ingresses",
        Kind::IngressClass => "ingressclasses",
        Kind::LoadBalancer => "loadbalancers",
        Kind::Namespace => "namespaces",
        Kind::Secret => "secrets",
        Kind::Service => "services",
    }
}

/// Whether a group has this kind in some version.
pub(super) fn holds(group: &str, kind: Kind) -> bool {
    let own = api_version(kind)
        .rsplit_once('/')
        .map_or("", |(group, _)| group);
    group == own || (kind == Kind::Ingress && group == "extensions")
}

/// Decodes an object of a kind.
pub(super) fn decode_kind<'de, D: Deserializer<'de>>(
    kind: Kind,
    from: D,
) -> Result<Object, D::Error> {
    Ok(match kind {
        Kind::EndpointSlice => discovery::EndpointSlice::deserialize(from)?.into(),
        Kind::Ingress => networking::Ingress::deserialize(from)?.into(),
        Kind::IngressClass => networking::IngressClass::deserialize(from)?.into(),
        Kind::LoadBalancer => crate::api::LoadBalancer::deserialize(from)?.into(),
        Kind::Namespace => core::Namespace::deserialize(from)?.into(),
        Kind::Secret => core::Secret::deserialize(from)?.into(),
        Kind::Service => core::Service::deserialize(from)?.into(),
    })
}

/// Decodes a List and of its items only one, to learn from the error where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemSeed {
    pub(super) kind: Kind,
    pub(super) index: usize,
}

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<(), D::Error> {
        list.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(key) = list.next_key::<String>()? {
            if key == "items" {
                list.next_value_seed(ItemsSeed(self))?;
            } else {
                list.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct ItemsSeed(ItemSeed);

impl<'de> DeserializeSeed<'de> for ItemsSeed {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, items: D) -> Result<(), D::Error> {
        items.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for _ in 0..self.0.index {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        items.next_element_seed(KindSeed(self.0.kind))?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct KindSeed(Kind);

impl<'de> DeserializeSeed<'de> for KindSeed {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, item: D) -> Result<Object, D::Error> {
        decode_kind(self.0, item)
    }
}
