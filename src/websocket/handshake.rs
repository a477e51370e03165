//! The opening handshake of RFC 6455 §4, checked on both sides.
//!
//! ```text
//! client ─GET, Upgrade: websocket, Key, Version: 13─▶ proxy ─the same─▶ pod
//! client ◀─101, Accept = hash of the Key────────────  proxy ◀─101, Accept checked─ pod
//! ```

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Version, header};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Base64 of 16 bytes.
pub(super) const KEY_LENGTH: usize = 24;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// An ordinary request. Upgrades to anything but WebSocket are not for this hop and are
    /// ignored (RFC 9110 §7.8), as are all in HTTP/1.0.
    None,
    /// A WebSocket.
    WebSocket(Accept),
}

/// The `Sec-WebSocket-Accept` that answers a client's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept([u8; 28]);

/// A handshake that may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidHandshake {
    /// Not GET, a body, or a key that is not one base64 of 16 bytes.
    Malformed,
    /// A version other than 13.
    Version,
    /// Over HTTP/2, a `:protocol` other than `websocket`.
    Protocol,
}

impl Upgrade {
    /// Reads what a request asks for.
    ///
    /// # Errors
    /// A request that asks for a WebSocket in a way that RFC 6455 §4.2.1 does not allow.
    pub fn requested(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, InvalidHandshake> {
        if version != Version::HTTP_11
            || !headers.contains_key(header::UPGRADE)
            || !has_token(headers, header::UPGRADE, "websocket")
            || !has_token(headers, header::CONNECTION, "upgrade")
        {
            return Ok(Self::None);
        }
        let empty = !headers.contains_key(header::TRANSFER_ENCODING) && !has_length(headers);
        if method != Method::GET || !empty {
            return Err(InvalidHandshake::Malformed);
        }
        match only(headers, &header::SEC_WEBSOCKET_VERSION) {
            Some(version) if version.as_bytes() == b"13" => {}
            _ => return Err(InvalidHandshake::Version),
        }
        only(headers, &header::SEC_WEBSOCKET_KEY)
            .filter(|key| key.len() == KEY_LENGTH)
            .filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
            .map(|key| Self::WebSocket(Accept::of(key)))
            .ok_or(InvalidHandshake::Malformed)
    }
}

impl Accept {
    pub(super) fn of(key: &HeaderValue) -> Self {
        let mut input = Vec::with_capacity(KEY_LENGTH + GUID.len());
        input.extend_from_slice(key.as_bytes());
        input.extend_from_slice(GUID);
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &input);
        let mut accept = [0; 28];
        // 20 bytes are 28 characters of base64: this cannot fail.
        let _ = STANDARD.encode_slice(hash.as_ref(), &mut accept);
        Self(accept)
    }

    /// Whether a pod's 101 completes the handshake (RFC 6455 §4.1).
    #[must_use]
    pub fn completes(&self, headers: &HeaderMap) -> bool {
        has_token(headers, header::UPGRADE, "websocket")
            && has_token(headers, header::CONNECTION, "upgrade")
            && only(headers, &header::SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|accept| accept.as_bytes() == self.0)
    }
}

/// Whether any line of a list-valued field holds a token, in any case.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Whether any line says that a body follows.
pub(super) fn has_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    lengths.any(|length| length != "0")
}

/// The value of a field that occurs once.
pub(super) fn only<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|&(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    fn requested(fields: &[(&'static str, &'static str)]) -> Result<Upgrade, InvalidHandshake> {
        Upgrade::requested(&Method::GET, Version::HTTP_11, &headers(fields))
    }

    #[test]
    fn the_example_of_rfc_6455_is_accepted() {
        let Ok(Upgrade::WebSocket(accept)) = requested(&GOOD) else {
            panic!("refused")
        };
        let answer = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        assert!(accept.completes(&headers(&answer)));
        for without in 0..3 {
            let mut broken = answer.to_vec();
            broken.remove(without);
            assert!(!accept.completes(&headers(&broken)));
        }
        let mut wrong = answer;
        wrong[2].1 = "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=";
        assert!(!accept.completes(&headers(&wrong)));
    }

    #[test]
    fn other_upgrades_are_ordinary_requests() {
        for fields in [
            vec![],
            vec![("upgrade", "h2c"), ("connection", "upgrade")],
            vec![("upgrade", "websocket")],
        ] {
            assert_eq!(requested(&fields), Ok(Upgrade::None), "{fields:?}");
        }
        let old = Upgrade::requested(&Method::GET, Version::HTTP_10, &headers(&GOOD));
        assert_eq!(old, Ok(Upgrade::None));
    }

    #[test]
    fn malformed_handshakes_are_refused() {
        let with = |index: usize, value| {
            let mut fields = GOOD;
            fields[index].1 = value;
            requested(&fields)
        };
        assert_eq!(with(3, "8"), Err(InvalidHandshake::Version));
        assert_eq!(requested(&GOOD[..3]), Err(InvalidHandshake::Version));
        for key in [
            "",
            "dGhl",
            "dGhlIHNhbXBsZSBub25jZQ=!",
            "dGhlIHNhbXBsZSBub25jZXh4",
        ] {
            assert_eq!(with(2, key), Err(InvalidHandshake::Malformed), "{key}");
        }
        let post = Upgrade::requested(&Method::POST, Version::HTTP_11, &headers(&GOOD));
        assert_eq!(post, Err(InvalidHandshake::Malformed));
        let mut twice = headers(&GOOD);
        twice.append("sec-websocket-key", HeaderValue::from_static(GOOD[2].1));
        assert_eq!(
            Upgrade::requested(&Method::GET, Version::HTTP_11, &twice),
            Err(InvalidHandshake::Malformed)
        );
        let mut body = headers(&GOOD);
        // Another line does not hide it.
        for length in ["0", "5"] {
            body.append("content-length", HeaderValue::from_static(length));
        }
        assert_eq!(
            Upgrade::requested(&Method::GET, Version::HTTP_11, &body),
            Err(InvalidHandshake::Malformed)
        );
    }
}
