//! Durations as Gateway API writes them (GEP-2257): `90s`, `1h30m`, `250ms`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the API server checks; [`FromStr`] accepts exactly this.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A duration string of Gateway API: up to four parts of at most five digits and a unit out of
/// `h`, `m`, `s`, `ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayDuration(pub Duration);

/// The text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a duration such as 90s, 1h30m or 250ms is expected")]
pub struct InvalidDuration;

impl FromStr for GatewayDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        for _ in 0..4 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits).ok_or(InvalidDuration)?;
            if digits > 5 {
                return Err(InvalidDuration);
            }
            let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
            let (part, tail) = if let Some(tail) = tail.strip_prefix("ms") {
                (Duration::from_millis(number), tail)
            } else if let Some(tail) = tail.strip_prefix('s') {
                (Duration::from_secs(number), tail)
            } else if let Some(tail) = tail.strip_prefix('m') {
                (Duration::from_secs(number * 60), tail)
            } else if let Some(tail) = tail.strip_prefix('h') {
                (Duration::from_secs(number * 3600), tail)
            } else {
                return Err(InvalidDuration);
            };
            total += part;
            rest = tail;
            if rest.is_empty() {
                return Ok(Self(total));
            }
        }
        Err(InvalidDuration)
    }
}

impl fmt::Display for GatewayDuration {
    /// The shortest form; zero is `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let seconds = self.0.as_secs();
        for (number, unit) in [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(self.0.subsec_millis()), "ms"),
        ] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for GatewayDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for GatewayDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for GatewayDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_gateway_api_durations() {
        for (text, millis) in [
            ("0s", 0),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1h2m3s4ms", 3_723_004),
        ] {
            let duration: GatewayDuration = text.parse().unwrap();
            assert_eq!(duration.0, Duration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string().parse(), Ok(duration), "{text}");
        }
        for text in [
            "",
            "1",
            "s",
            "1d",
            "-1s",
            "1.5s",
            "100000s",
            "1s1s1s1s1s",
            " 1s",
            "1s ",
        ] {
            assert_eq!(
                text.parse::<GatewayDuration>(),
                Err(InvalidDuration),
                "{text}"
            );
        }
    }
}
