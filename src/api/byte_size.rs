//! Sizes as Kubernetes writes them: `1Mi`, `64Ki`, `1500`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the API server checks of a size that is text; [`FromStr`] accepts exactly this.
const PATTERN: &str = "^[0-9]{1,12}(Ki|Mi|Gi|k|M|G)?$";
const UNITS: [(&str, u64); 6] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
];
const MAX_DIGITS: usize = 12;

/// A number of bytes: a quantity of Kubernetes without a fraction, or an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// The text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size in bytes such as 1Mi, 64Ki or 1500 is expected")]
pub struct InvalidByteSize;

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, InvalidByteSize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(InvalidByteSize)?;
        if digits > MAX_DIGITS {
            return Err(InvalidByteSize);
        }
        let number: u64 = number.parse().map_err(|_| InvalidByteSize)?;
        let factor = match unit {
            "" => 1,
            unit => {
                let mut units = UNITS.iter();
                let found = units.find(|(name, _)| *name == unit);
                found.map(|(_, factor)| *factor).ok_or(InvalidByteSize)?
            }
        };
        number.checked_mul(factor).map(Self).ok_or(InvalidByteSize)
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("Gi", 1_u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
        match binary
            .iter()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor))
        {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written<'a> {
    Number(u64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer) {
            Ok(Written::Number(number)) => Ok(Self(number)),
            Ok(Written::Text(text)) => text.parse().map_err(serde::de::Error::custom),
            Err(_) => Err(serde::de::Error::custom(InvalidByteSize)),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A structural schema cannot say "integer or string" but by this extension.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_sizes() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("1500", 1500, "1500"),
            ("1024", 1024, "1Ki"),
            ("64Ki", 65_536, "64Ki"),
            ("1Mi", 1 << 20, "1Mi"),
            ("3G", 3_000_000_000, "3000000000"),
            ("2M", 2_000_000, "2000000"),
            ("1k", 1000, "1000"),
            ("2Gi", 2 << 30, "2Gi"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), written);
            assert_eq!(written.parse(), Ok(size));
        }
        for text in [
            "",
            "Mi",
            "1.5Mi",
            "-1",
            "1 Mi",
            "1mi",
            "1Ti",
            "1000000000000",
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(InvalidByteSize), "{text}");
        }
    }

    #[test]
    fn a_number_is_a_size_too() {
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap().0, 4096);
        assert_eq!(serde_json::from_str::<ByteSize>("\"4Ki\"").unwrap().0, 4096);
        for wrong in ["-1", "1.5", "\"x\"", "true", "null"] {
            let error = serde_json::from_str::<ByteSize>(wrong).unwrap_err();
            assert!(error.to_string().contains("a size in bytes"), "{error}");
        }
    }
}
