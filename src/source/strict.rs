//! A deserializer around another one that takes documents as strictly as an API server does.
//!
//! ```text
//! YAML events ──▶ Strict ──▶ Deserialize of the kind
//!                  ├─ a scalar is what it looks like: `true` is no string, `"80"` no number
//!                  ├─ a key comes once
//!                  └─ aliases expand to a bounded number of nodes
//! ```
//!
//! The YAML parser hands any scalar to whoever asks for a string, and neither it nor the decoders
//! of Kubernetes types look for repeated keys. It bounds how often an alias is followed, yet not
//! how much each of them repeats.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// What is counted and noticed over one document.
#[derive(Debug)]
pub(super) struct Guard {
    nodes_left: Cell<usize>,
    merges: Cell<bool>,
}

impl Guard {
    /// For a document of so many bytes. A text has fewer nodes than bytes; aliases may repeat a
    /// few of them.
    pub(super) fn for_document(bytes: usize) -> Self {
        Self {
            nodes_left: Cell::new(bytes.saturating_mul(10).saturating_add(10_000)),
            merges: Cell::new(false),
        }
    }

    /// Whether a merge key (`<<`) was seen; it is for the caller to apply.
    pub(super) fn saw_merge(&self) -> bool {
        self.merges.get()
    }

    fn count<E: Error>(&self) -> Result<(), E> {
        let left = self.nodes_left.get().checked_sub(1).ok_or_else(|| {
            E::custom("aliases repeat too much of the document; write it out instead")
        })?;
        self.nodes_left.set(left);
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strict<'g, T> {
    inner: T,
    guard: &'g Guard,
}

impl<'g, T> Strict<'g, T> {
    pub(super) fn new(inner: T, guard: &'g Guard) -> Self {
        Self { inner, guard }
    }
}

/// Forwards a hint as another one, with a checking visitor.
macro_rules! forward {
    ($($method:ident as $target:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.guard.count()?;
            self.inner.$target(Strict::new(visitor, self.guard))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any as deserialize_any,
        deserialize_bool as deserialize_any,
        deserialize_i8 as deserialize_any,
        deserialize_i16 as deserialize_any,
        deserialize_i32 as deserialize_any,
        deserialize_i64 as deserialize_any,
        deserialize_i128 as deserialize_any,
        deserialize_u8 as deserialize_any,
        deserialize_u16 as deserialize_any,
        deserialize_u32 as deserialize_any,
        deserialize_u64 as deserialize_any,
        deserialize_u128 as deserialize_any,
        deserialize_f32 as deserialize_any,
        deserialize_f64 as deserialize_any,
        deserialize_char as deserialize_any,
        deserialize_str as deserialize_any,
        deserialize_string as deserialize_any,
        deserialize_bytes as deserialize_any,
        deserialize_byte_buf as deserialize_any,
        deserialize_option as deserialize_option,
        deserialize_unit as deserialize_any,
        deserialize_seq as deserialize_seq,
        deserialize_map as deserialize_map,
        deserialize_identifier as deserialize_identifier,
        deserialize_ignored_any as deserialize_any,
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.count()?;
        self.inner
            .deserialize_newtype_struct(name, Strict::new(visitor, self.guard))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.count()?;
        self.inner
            .deserialize_struct(name, fields, Strict::new(visitor, self.guard))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.count()?;
        self.inner.deserialize_enum(name, variants, visitor)
    }
}

/// Hands scalars on as they are.
macro_rules! scalars {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    scalars! {
        visit_bool: bool,
        visit_i64: i64,
        visit_i128: i128,
        visit_u64: u64,
        visit_u128: u128,
        visit_f64: f64,
        visit_char: char,
        visit_str: &str,
        visit_borrowed_str: &'de str,
        visit_string: String,
        visit_bytes: &[u8],
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Strict::new(inner, self.guard))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner
            .visit_newtype_struct(Strict::new(inner, self.guard))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Strict::new(inner, self.guard))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(StrictMap {
            inner,
            guard: self.guard,
            seen: HashSet::new(),
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(inner)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Strict::new(seed, self.guard))
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Strict::new(inner, self.guard))
    }
}

/// A mapping whose keys are strings, each of which comes once.
struct StrictMap<'g, A> {
    inner: A,
    guard: &'g Guard,
    seen: HashSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for StrictMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.guard.count()?;
        self.inner.next_key_seed(KeySeed {
            inner: seed,
            guard: self.guard,
            seen: &mut self.seen,
        })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Strict::new(seed, self.guard))
    }
}

/// Decodes a key within the visit of the original one, so that errors are where the key is.
struct KeySeed<'s, K> {
    inner: K,
    guard: &'s Guard,
    seen: &'s mut HashSet<String>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, K> {
    type Value = K::Value;

    /// A key that looks like a number is a string all the same, as for `kubectl`.
    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<K::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for KeySeed<'_, K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string as key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<K::Value, E> {
        if !self.seen.insert(key.to_owned()) {
            return Err(E::custom(format_args!("the key {key:?} is there twice")));
        }
        if key == "<<" {
            self.guard.merges.set(true);
        }
        self.inner.deserialize(key.into_deserializer())
    }
}
