//! Who a request is for: host and path in the one form that is routed on.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri, Version, header};

use super::error::Reason;
use crate::routing::path::{self, InvalidPath};

/// Longest host name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// Host and path of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Lower case, without port and trailing dot; an IPv6 address keeps its brackets. `None` for
    /// an HTTP/1.0 request without `Host`.
    pub host: Option<Cow<'a, str>>,
    /// Path in normal form; what is sent to the pod is the original.
    pub path: Cow<'a, str>,
}

impl<'a> Target<'a> {
    /// Reads the target of a request and refuses what could mean one thing here and another to
    /// the pod.
    ///
    /// # Errors
    /// The reason for a refusal.
    pub fn parse(
        method: &Method,
        uri: &'a Uri,
        version: Version,
        headers: &'a HeaderMap,
    ) -> Result<Self, Reason> {
        if method == Method::CONNECT {
            return Err(Reason::MethodRefused);
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let named = match (hosts.next(), hosts.next()) {
            (_, Some(_)) => return Err(Reason::HostInvalid),
            (None, None) => None,
            // RFC 9112 §3.2: an empty Host is for targets without authority.
            (Some(value), None) => {
                let text = value.to_str().map_err(|_| Reason::HostInvalid)?;
                Some(parse_host(text)?)
            }
        };
        // Absolute form in HTTP/1 (RFC 9112 §3.2.2) and `:authority` in HTTP/2 (RFC 9113 §8.3.1)
        // go before Host; a request whose two names differ is refused rather than interpreted.
        let host = match (uri.authority(), named) {
            (Some(authority), named) => {
                let host = parse_host(authority.as_str())?;
                if named.is_some_and(|named| named != host) {
                    return Err(Reason::HostConflict);
                }
                Some(host)
            }
            (None, Some(named)) => Some(named),
            (None, None) if version <= Version::HTTP_10 => None,
            (None, None) => return Err(Reason::HostMissing),
        };
        let path = match uri.path_and_query().map(PathAndQuery::path) {
            // `OPTIONS *` asks the server as a whole (RFC 9110 §9.3.7): routed as `/`.
            Some("*") if method == Method::OPTIONS => Cow::Borrowed("/"),
            Some(path) => path::normalize(path).map_err(Reason::Path)?,
            None => return Err(Reason::Path(InvalidPath::NotAbsolute)),
        };
        Ok(Self { host, path })
    }
}

/// `host[:port]` as RFC 3986 §3.2.2 has it, without userinfo.
fn parse_host(text: &str) -> Result<Cow<'_, str>, Reason> {
    let (host, port) = if text.starts_with('[') {
        let (address, rest) = text
            .strip_prefix('[')
            .and_then(|text| text.split_once(']'))
            .ok_or(Reason::HostInvalid)?;
        address
            .parse::<Ipv6Addr>()
            .map_err(|_| Reason::HostInvalid)?;
        let host = text.get(..address.len() + 2).ok_or(Reason::HostInvalid)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(Reason::HostInvalid),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host_name(host) {
            return Err(Reason::HostInvalid);
        }
        (host, port)
    };
    // An empty port is legal (RFC 3986 §3.2.3) and says nothing.
    if port.is_some_and(|port| {
        !port.is_empty()
            && (port.bytes().any(|byte| !byte.is_ascii_digit()) || port.parse::<u16>().is_err())
    }) {
        return Err(Reason::HostInvalid);
    }
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Letters, digits, `-`, `_` and dots between non-empty labels: DNS names and IPv4 addresses.
/// Underscores are not in RFC 1123 but exist in the wild.
fn is_host_name(host: &str) -> bool {
    host.len() <= MAX_HOST
        && host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<String, Reason> {
        parse_host(text).map(Cow::into_owned)
    }

    #[test]
    fn hosts_have_one_form() {
        for (text, expected) in [
            ("example.com", "example.com"),
            ("Example.COM:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:", "example.com"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "", "a b", "u@h", "h:99999", "h:8a", "h:-1", "h/evil", "h?x", "a..b", ".a", "..",
            "[::1", "[::1]x", "[x]", "h:1:2", "h\\x", "a,b", "h#f", "%41",
        ] {
            assert_eq!(host(text), Err(Reason::HostInvalid), "{text:?}");
        }
    }
}
