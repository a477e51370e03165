//! The JSON schema of a Kubernetes type, out of what it asks a deserializer for.
//!
//! ```text
//! T::deserialize(Trace) ─▶ "a struct with these fields" ─▶ {"properties": …}
//!                          └ each field's type in turn ─▶ Trace
//! ```
//!
//! It says which fields there are and of what type, not which of them are needed: the types do not
//! ask for that.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

/// The schema of a type, with no room for fields that it does not have.
pub(crate) fn schema_of<T: for<'de> Deserialize<'de>>() -> Value {
    let mut schema = Value::Null;
    T::deserialize(Trace(&mut schema)).unwrap();
    schema
}

/// Notes what it is asked for, and gives something that will do.
struct Trace<'s>(&'s mut Value);

/// For a scalar: its type, and a value.
macro_rules! scalars {
    ($($method:ident $visit:ident $value:expr, $kind:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            *self.0 = json!({"type": $kind});
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Trace<'_> {
    type Error = Error;

    scalars! {
        deserialize_bool visit_bool false, "boolean";
        deserialize_i32 visit_i32 0, "integer";
        deserialize_i64 visit_i64 0, "integer";
        deserialize_str visit_str "", "string";
        deserialize_string visit_str "", "string";
        // `IntOrString`, the one type that asks for anything.
        deserialize_any visit_i32 0, ["integer", "string"];
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut entries = Entries {
            keys: fields.iter(),
            traced: Map::new(),
            key: "",
        };
        let value = visitor.visit_map(&mut entries)?;
        *self.0 = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": entries.traced,
        });
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut entries = Entries {
            keys: ["key"].iter(),
            traced: Map::new(),
            key: "",
        };
        let value = visitor.visit_map(&mut entries)?;
        *self.0 = json!({"type": "object", "additionalProperties": entries.traced["key"]});
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut item = Item(None);
        let value = visitor.visit_seq(&mut item)?;
        *self.0 = json!({"type": "array", "items": item.0});
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        assert_eq!(name, "Quantity", "a type to be said more about");
        *self.0 = json!({"type": ["string", "number"]});
        visitor.visit_newtype_struct("".into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// One entry for each key.
struct Entries<'k> {
    keys: std::slice::Iter<'k, &'static str>,
    traced: Map<String, Value>,
    key: &'static str,
}

impl<'de> MapAccess<'de> for &mut Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(key) = self.keys.next() else {
            return Ok(None);
        };
        self.key = key;
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let mut schema = Value::Null;
        let value = seed.deserialize(Trace(&mut schema))?;
        self.traced.insert(self.key.to_owned(), schema);
        Ok(value)
    }
}

/// One item.
struct Item(Option<Value>);

impl<'de> SeqAccess<'de> for &mut Item {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.0.is_some() {
            return Ok(None);
        }
        let mut schema = Value::Null;
        let value = seed.deserialize(Trace(&mut schema))?;
        self.0 = Some(schema);
        Ok(Some(value))
    }
}

#[test]
fn a_type_is_traced_to_its_leaves() {
    use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};

    let toleration = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "effect": {"type": "string"},
            "key": {"type": "string"},
            "operator": {"type": "string"},
            "tolerationSeconds": {"type": "integer"},
            "value": {"type": "string"},
        },
    });
    assert_eq!(schema_of::<Toleration>(), toleration);
    let quantities = json!({
        "type": "object",
        "additionalProperties": {"type": ["string", "number"]},
    });
    let resources = schema_of::<ResourceRequirements>();
    assert_eq!(resources["properties"]["limits"], quantities);
    let claims = &resources["properties"]["claims"]["items"];
    assert_eq!(claims["properties"]["request"], json!({"type": "string"}));
}
