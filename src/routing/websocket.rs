//! Policy for WebSockets.

use std::sync::Arc;
use std::time::Duration;

/// Policy for WebSockets on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketPolicy {
    /// Silence of both peers that ends a tunnel; `None` = never. Default 60 s.
    pub idle_timeout: Option<Duration>,
    /// Pings of our own; `None` = none.
    pub keepalive: Option<Keepalive>,
    /// The longest that a tunnel may live; `None` = for ever.
    pub max_age: Option<MaxAge>,
    /// For what a client may send.
    pub limits: MessageLimits,
    /// Who may open one; `None` = any.
    pub origins: Option<Arc<[Origins]>>,
    /// Subprotocols that pods are offered; `None` = any.
    pub subprotocols: Option<Arc<[Box<str>]>>,
}

impl Default for WebSocketPolicy {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(60)),
            keepalive: None,
            max_age: None,
            limits: MessageLimits::default(),
            origins: None,
            subprotocols: None,
        }
    }
}

/// Pings of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence of a peer after which it is pinged.
    pub interval: Duration,
    /// For its answer; then it counts as gone.
    pub timeout: Duration,
    /// Whether the client is pinged.
    pub client: bool,
    /// Whether the pod is.
    pub pod: bool,
}

impl Keepalive {
    /// For an answer, where nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
}

/// The longest that a tunnel may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge {
    /// The longest.
    pub duration: Duration,
    /// By how many hundredths of that it may be shorter, at random: 0 to 100.
    pub jitter_percent: u8,
}

impl MaxAge {
    /// Where nothing else is said.
    pub const JITTER_PERCENT: u8 = 20;
}

/// For what a client may send over one tunnel. `None` = no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageLimits {
    /// Payload bytes of a message, all its frames together; then 1009.
    pub message_size: Option<u64>,
    /// Payload bytes of a frame; then 1009.
    pub frame_size: Option<u64>,
    /// Messages a second, with a burst of as many.
    pub messages_per_second: Option<u32>,
    /// Bytes a second, with a burst of as many.
    pub bytes_per_second: Option<u64>,
    /// Whether a client that sends faster is closed (1008). Otherwise it is read from no faster.
    pub closes: bool,
}

impl MessageLimits {
    /// Whether sizes are bounded.
    #[must_use]
    pub fn bounds_sizes(&self) -> bool {
        self.message_size.is_some() || self.frame_size.is_some()
    }

    /// Whether rates are.
    #[must_use]
    pub fn bounds_rates(&self) -> bool {
        self.messages_per_second.is_some() || self.bytes_per_second.is_some()
    }
}

/// Settings of a route that go before those of its listener. `None` leaves the listener's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocketOverrides {
    /// See [`WebSocketPolicy::idle_timeout`]; `Some(None)` = never.
    pub idle_timeout: Option<Option<Duration>>,
    /// See [`WebSocketPolicy::keepalive`]; `Some(None)` = none.
    pub keepalive: Option<Option<Keepalive>>,
    /// See [`WebSocketPolicy::max_age`]; `Some(None)` = for ever.
    pub max_age: Option<Option<MaxAge>>,
    /// See [`WebSocketPolicy::limits`]; all of them together.
    pub limits: Option<MessageLimits>,
    /// See [`WebSocketPolicy::origins`].
    pub origins: Option<Arc<[Origins]>>,
    /// See [`WebSocketPolicy::subprotocols`].
    pub subprotocols: Option<Arc<[Box<str>]>>,
}

impl WebSocketPolicy {
    /// With what a route has of its own.
    #[must_use]
    pub fn with(&self, own: &WebSocketOverrides) -> Self {
        Self {
            idle_timeout: own.idle_timeout.unwrap_or(self.idle_timeout),
            keepalive: own.keepalive.unwrap_or(self.keepalive),
            max_age: own.max_age.unwrap_or(self.max_age),
            limits: own.limits.unwrap_or(self.limits),
            origins: own.origins.clone().or_else(|| self.origins.clone()),
            subprotocols: own
                .subprotocols
                .clone()
                .or_else(|| self.subprotocols.clone()),
        }
    }
}

/// One origin, or all that differ in the first labels of their host (RFC 6454 §6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// In lower case, with `://`.
    scheme: Box<str>,
    /// In lower case; with a dot before it where any labels may precede it.
    host: Box<str>,
    /// With a colon; empty for the scheme's default.
    port: Box<str>,
    wildcard: bool,
}

/// The text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin such as https://app.example.com, https://*.example.com or http://localhost:3000 is expected"
)]
pub struct InvalidOrigin;

impl Origins {
    /// Reads `scheme://host[:port]`, where the host may begin with `*.`.
    ///
    /// # Errors
    /// Anything else, a path for example.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, rest) = split_origin(text).ok_or(InvalidOrigin)?;
        let (wildcard, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (host, port) = split_port(&scheme, rest).ok_or(InvalidOrigin)?;
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || host.starts_with('.') || !host.bytes().all(is_known) {
            return Err(InvalidOrigin);
        }
        let dot = if wildcard { "." } else { "" };
        Ok(Self {
            host: format!("{dot}{host}").into(),
            scheme: scheme.into(),
            port: port.into(),
            wildcard,
        })
    }

    /// Whether the value of an `Origin` field is among them. `null` never is.
    #[must_use]
    pub fn contains(&self, origin: &str) -> bool {
        let Some((scheme, rest)) = split_origin(origin) else {
            return false;
        };
        let Some((host, port)) = split_port(&scheme, rest) else {
            return false;
        };
        let is_host = if self.wildcard {
            host.len() > self.host.len() && host.ends_with(&*self.host)
        } else {
            host == *self.host
        };
        *self.scheme == *scheme && *self.port == *port && is_host
    }
}

impl std::fmt::Display for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let star = if self.wildcard { "*" } else { "" };
        write!(f, "{}{star}{}{}", self.scheme, self.host, self.port)
    }
}

/// Scheme with `://`, and the rest, in lower case.
fn split_origin(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
        return None;
    }
    Some((format!("{}://", scheme.to_ascii_lowercase()), rest))
}

/// Host in lower case, and port with its colon; empty where it is the scheme's own.
fn split_port(scheme: &str, rest: &str) -> Option<(String, String)> {
    let colon = rest.rfind(':').filter(|_| !rest.ends_with(']'));
    let (host, port) = match colon {
        None => (rest, ""),
        Some(colon) => rest.split_at_checked(colon)?,
    };
    if let Some(digits) = port.strip_prefix(':') {
        digits.parse::<u16>().ok()?;
    }
    let port = match (scheme, port) {
        ("http://", ":80") | ("https://", ":443") => "",
        (_, port) => port,
    };
    Some((host.to_ascii_lowercase(), port.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_by_scheme_host_and_port() {
        let all = |text: &str| Origins::parse(text).unwrap();
        for (pattern, origin, is_in) in [
            ("https://app.example.com", "https://app.example.com", true),
            (
                "https://app.example.com",
                "https://APP.example.com:443",
                true,
            ),
            (
                "https://app.example.com:443",
                "https://app.example.com",
                true,
            ),
            ("https://app.example.com", "http://app.example.com", false),
            (
                "https://app.example.com",
                "https://app.example.com:8443",
                false,
            ),
            (
                "https://app.example.com",
                "https://app.example.com.evil.com",
                false,
            ),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("http://[::1]", "http://[::1]", true),
            ("https://app.example.com", "null", false),
            ("https://app.example.com", "", false),
            ("https://app.example.com", "https://app.example.com/", false),
            ("chrome-extension://abc", "chrome-extension://abc", true),
        ] {
            assert_eq!(all(pattern).contains(origin), is_in, "{pattern} {origin}");
        }
        assert_eq!(
            all("https://*.Example.com").to_string(),
            "https://*.example.com"
        );
        for wrong in [
            "",
            "*",
            "app.example.com",
            "https://",
            "https://*",
            "https://a/b",
            "https://*.",
            "https://a:x",
        ] {
            assert_eq!(Origins::parse(wrong), Err(InvalidOrigin), "{wrong}");
        }
    }
}
