//! Header fields out of any bytes: those of handshakes, with values that are nearly right.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use crate::input::Input;

const NAMES: [&str; 14] = [
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "content-length",
    "transfer-encoding",
    "host",
    "origin",
    "cookie",
    "te",
    "x-any",
];

const VALUES: [&str; 16] = [
    "websocket",
    "WebSocket",
    "upgrade",
    "keep-alive, Upgrade",
    "13",
    "8",
    "0",
    "5",
    "",
    "dGhlIHNhbXBsZSBub25jZQ==",
    "dGhlIHNhbXBsZSBub25jZR==",
    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    "\t websocket ,h2c",
    "chunked",
    "chat, superchat",
    "trailers",
];

/// Any fields, behind those that a good handshake has.
pub fn fields(input: &mut Input<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let good = input.byte();
    for (bit, name, value) in [
        (1, "upgrade", "websocket"),
        (2, "connection", "Upgrade"),
        (4, "sec-websocket-version", "13"),
        (8, "sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        (16, "sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ] {
        if good & bit != 0 {
            fields.append(name, HeaderValue::from_static(value));
        }
    }
    for _ in 0..input.below(8) {
        let name = HeaderName::from_static(NAMES[input.below(NAMES.len())]);
        let mut value = VALUES[input.below(VALUES.len())].as_bytes().to_vec();
        match input.byte() {
            // As it is.
            0..=127 => {}
            // With another byte in it.
            at @ 128..=191 => {
                let length = value.len().max(1);
                match value.get_mut(usize::from(at) % length) {
                    Some(byte) => *byte = input.byte(),
                    None => value.push(input.byte()),
                }
            }
            _ => {
                let length = input.below(40);
                value = input.take(length).to_vec();
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            fields.append(name, value);
        }
    }
    fields
}

pub fn method(input: &mut Input<'_>) -> Method {
    match input.byte() {
        0..=199 => Method::GET,
        200..=219 => Method::POST,
        220..=239 => Method::CONNECT,
        _ => Method::from_bytes(b"get").unwrap(),
    }
}

pub fn version(input: &mut Input<'_>) -> Version {
    match input.byte() {
        0..=199 => Version::HTTP_11,
        200..=227 => Version::HTTP_10,
        _ => Version::HTTP_2,
    }
}
