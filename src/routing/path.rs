//! Paths: how a route declares them and how a request's path is brought into one form.

use std::borrow::Cow;
use std::sync::Arc;

/// How a path matches. The order is that of precedence among paths of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathKind {
    /// The whole path, byte for byte.
    Exact,
    /// Whole elements from the start: `/a` matches `/a`, `/a/` and `/a/b`, not `/ab`.
    Prefix,
    /// Matches as `Prefix` and goes after it.
    ImplementationSpecific,
}

/// A declared path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMatch {
    /// How it matches.
    pub kind: PathKind,
    /// The path in normal form (see [`normalize`]), as declared otherwise.
    pub value: Arc<str>,
}

impl PathMatch {
    /// What identifies a prefix: its elements, that is, the value without trailing slashes.
    /// `/a` and `/a/` are the same prefix (Ingress v1).
    #[must_use]
    pub fn prefix_key(&self) -> &str {
        self.value.trim_end_matches('/')
    }
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// A `.` or `..` segment, plain or percent-encoded. Pods would resolve it and serve another
    /// path than the one that was routed.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A `%` that two hexadecimal digits do not follow (RFC 3986 §2.1), or an encoded NUL.
    #[error("the path has an invalid percent-encoding")]
    Encoding,
    /// A path does not start with `/`.
    #[error("the path does not start with '/'")]
    NotAbsolute,
}

/// Brings a request's path into the form that routes are matched on, so that no spelling of a path
/// escapes its route: percent-encoded unreserved characters are decoded and hexadecimal digits
/// are made upper-case (RFC 3986 §6.2.2). Encoded reserved characters (`%2F`) stay as they are.
/// The bytes sent to the pod are not changed.
///
/// # Errors
/// Where the path could mean one thing here and another to the pod; the request is answered 400.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    if !path.starts_with('/') {
        return Err(InvalidPath::NotAbsolute);
    }
    let normal = if path.contains('%') {
        Cow::Owned(decode_unreserved(path)?)
    } else {
        Cow::Borrowed(path)
    };
    // To some servers `\`, `%2F` and `%5C` separate segments as well, and some cut parameters off
    // before they resolve: `..\`, `..%2F` and `..;x/` count as dot segments too.
    if ["/.", "\\.", "%2F.", "%5C."]
        .iter()
        .any(|start| normal.contains(start))
    {
        let flat = normal.replace("%2F", "/").replace("%5C", "/");
        let mut segments = flat
            .split(['/', '\\'])
            .map(|segment| segment.split(';').next());
        if segments.any(|segment| matches!(segment, Some("." | ".."))) {
            return Err(InvalidPath::DotSegment);
        }
    }
    Ok(normal)
}

fn decode_unreserved(path: &str) -> Result<String, InvalidPath> {
    let mut normal = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            normal.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (
            bytes.next().and_then(hex_digit),
            bytes.next().and_then(hex_digit),
        ) else {
            return Err(InvalidPath::Encoding);
        };
        match high << 4 | low {
            0 => return Err(InvalidPath::Encoding),
            decoded if is_unreserved(decoded) => normal.push(decoded),
            decoded => normal.extend(format!("%{decoded:02X}").bytes()),
        }
    }
    String::from_utf8(normal).map_err(|_| InvalidPath::Encoding)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        assert_eq!(normalize("/a/b").unwrap(), "/a/b");
        assert_eq!(normalize("/%61dmin").unwrap(), "/admin");
        assert_eq!(normalize("/a%2fb").unwrap(), "/a%2Fb");
        assert_eq!(normalize("/%e2%82%ac").unwrap(), "/%E2%82%AC");
        assert_eq!(normalize("/.well-known/..x").unwrap(), "/.well-known/..x");
        assert_eq!(normalize("/a%2F.b;c=..").unwrap(), "/a%2F.b;c=..");
    }

    #[test]
    fn what_pods_may_read_otherwise_is_refused() {
        for path in [
            "/a/../b",
            "/a/..",
            "/.",
            "/%2e%2E/b",
            "/a/.%2e",
            "/a\\..\\b",
            "/a%2f..%2fb",
            "/a%5C%2e%2e",
            "/a/..;x=1/b",
        ] {
            assert_eq!(normalize(path), Err(InvalidPath::DotSegment), "{path}");
        }
        for path in ["/%", "/%4", "/%zz", "/a%00b", "/%€"] {
            assert_eq!(normalize(path), Err(InvalidPath::Encoding), "{path}");
        }
        assert_eq!(normalize("*"), Err(InvalidPath::NotAbsolute));
    }
}
