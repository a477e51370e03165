//! The opening handshake of RFC 8441: a WebSocket as one stream of an HTTP/2 connection, and the
//! HTTP/1.1 handshake that asks a pod for the same.
//!
//! ```text
//! client ─CONNECT, :protocol websocket, Version: 13─▶ proxy ─GET, Upgrade, a Key of ours─▶ pod
//! client ◀─200; from here on DATA is the socket─────  proxy ◀─101, Accept checked──────── pod
//! ```
//!
//! HTTP/2 needs no proof that the other side has understood, so that there is no key between
//! client and proxy; the pod gets one of ours, and has to answer it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Version, header, request};

use super::handshake::{Accept, InvalidHandshake, KEY_LENGTH, has_length, only};

/// The one `:protocol` that is served.
const WEBSOCKET: &str = "websocket";

/// Fields that belong to the handshake of one hop or frame a body, and are not the client's to
/// say here: DATA is the socket (RFC 8441 §5).
const NOT_THE_CLIENTS: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_KEY,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Turns the head of an extended CONNECT into that of a handshake (RFC 6455 §4.1) for the same
/// scheme, authority and path, with `key` in it. The version stays, as forwarding changes it for
/// every request.
///
/// Answers what completes that handshake.
///
/// # Errors
/// A `:protocol` other than `websocket`, or a handshake that RFC 8441 §4 and §5 do not allow. The
/// head may be half changed then.
pub fn to_upgrade(
    protocol: &str,
    head: &mut request::Parts,
    key: [u8; 16],
) -> Result<Accept, InvalidHandshake> {
    if head.method != Method::CONNECT || head.version != Version::HTTP_2 {
        return Err(InvalidHandshake::Malformed);
    }
    // A token of the upgrade registry, which are compared without case (RFC 9110 §7.8).
    if !protocol.eq_ignore_ascii_case(WEBSOCKET) {
        return Err(InvalidHandshake::Protocol);
    }
    // RFC 8441 §5: `ws` and `wss` are `http` and `https` here. The scheme is lost where the
    // authority is missing.
    let is_http = |scheme: &str| matches!(scheme, "http" | "https");
    if !head.uri.scheme_str().is_none_or(is_http) || head.uri.path_and_query().is_none() {
        return Err(InvalidHandshake::Malformed);
    }
    let fields = &mut head.headers;
    if has_length(fields) {
        return Err(InvalidHandshake::Malformed);
    }
    match only(fields, &header::SEC_WEBSOCKET_VERSION) {
        Some(version) if version.as_bytes() == b"13" => {}
        _ => return Err(InvalidHandshake::Version),
    }
    for name in &NOT_THE_CLIENTS {
        fields.remove(name);
    }
    let mut text = [0; KEY_LENGTH];
    // 16 bytes are 24 characters of base64, which are all allowed in a field: neither fails.
    let _ = STANDARD.encode_slice(key, &mut text);
    let key = HeaderValue::from_bytes(&text).map_err(|_| InvalidHandshake::Malformed)?;
    let accept = Accept::of(&key);
    fields.insert(header::SEC_WEBSOCKET_KEY, key);
    let value = HeaderValue::from_static;
    fields.insert(header::UPGRADE, value(WEBSOCKET));
    fields.insert(header::CONNECTION, value("upgrade"));
    head.method = Method::GET;
    Ok(accept)
}

/// Makes the fields of a pod's 101 those of the 200 that the client gets: without what belongs to
/// the handshake with the pod, and without what would frame a body.
pub fn to_success(fields: &mut HeaderMap) {
    for name in &NOT_THE_CLIENTS {
        fields.remove(name);
    }
}
