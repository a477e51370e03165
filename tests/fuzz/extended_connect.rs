//! Extended CONNECTs (RFC 8441) and what they are turned into, held to the rules of plain
//! handshakes: whatever comes out is one that a pod could have got from an HTTP/1.1 client.

use holdfast::websocket::extended_connect::{to_success, to_upgrade};
use holdfast::websocket::handshake::{InvalidHandshake, Upgrade};
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Uri, Version, request};

use crate::fields::{fields, method, version};
use crate::input::Input;

const PROTOCOLS: [&str; 6] = [
    "websocket",
    "WebSocket",
    "connect-udp",
    "",
    "websocket ",
    "h2c",
];
const URIS: [&str; 8] = [
    "https://a.example/chat",
    "http://a.example:8080/?q=1",
    "ws://a.example/",
    "ftp://a.example/",
    "/chat",
    "a.example:443",
    "https://a.example",
    "wss://a.example/chat",
];

/// Returns what became of the request.
///
/// # Panics
/// As [`check_request`] and [`check_answer`].
pub fn check(bytes: &[u8]) -> &'static str {
    let mut input = Input::new(bytes);
    let protocol = PROTOCOLS[input.below(PROTOCOLS.len())];
    let protocol = if input.coin() {
        String::from_utf8_lossy(input.take(9)).into_owned()
    } else {
        protocol.to_owned()
    };
    let uri = URIS[input.below(URIS.len())];
    let method = match input.byte() {
        0..=199 => Method::CONNECT,
        _ => method(&mut input),
    };
    let version = match input.byte() {
        0..=199 => Version::HTTP_2,
        _ => version(&mut input),
    };
    let request = Request::builder().method(method).version(version);
    let request = request.uri(uri.parse::<Uri>().unwrap()).body(()).unwrap();
    let (mut head, ()) = request.into_parts();
    head.headers = fields(&mut input);
    let key = std::array::from_fn(|_| input.byte());
    check_answer(&fields(&mut input));
    check_request(&protocol, &head, key)
}

/// # Panics
/// Where something comes out that is no handshake, says what the client has not said, or is
/// refused without a reason.
pub fn check_request(protocol: &str, head: &request::Parts, key: [u8; 16]) -> &'static str {
    let mut upgrade = head.clone();
    let versions: Vec<_> = head
        .headers
        .get_all("sec-websocket-version")
        .iter()
        .collect();
    match to_upgrade(protocol, &mut upgrade, key) {
        Ok(accept) => {
            assert_eq!(upgrade.uri, head.uri);
            assert_eq!(others(&upgrade.headers), others(&head.headers));
            // The rules of HTTP/1.1 find nothing wrong with it, and expect the same answer.
            let asked = Upgrade::requested(&upgrade.method, Version::HTTP_11, &upgrade.headers);
            assert_eq!(asked, Ok(Upgrade::WebSocket(accept)));
            assert_eq!(
                (&head.method, head.version),
                (&Method::CONNECT, Version::HTTP_2)
            );
            assert!(protocol.eq_ignore_ascii_case("websocket"));
            assert_eq!(versions, ["13"]);
            assert!(!has_body(&head.headers));
            "upgrade"
        }
        Err(InvalidHandshake::Protocol) => {
            assert_ne!(protocol, "websocket");
            "protocol"
        }
        Err(InvalidHandshake::Version) => {
            assert_ne!(versions, ["13"]);
            "version"
        }
        Err(InvalidHandshake::Malformed) => {
            let scheme = head.uri.scheme_str().unwrap_or("https");
            assert!(
                head.method != Method::CONNECT
                    || head.version != Version::HTTP_2
                    || !matches!(scheme, "http" | "https")
                    || head.uri.path_and_query().is_none()
                    || has_body(&head.headers)
            );
            "malformed"
        }
    }
}

/// # Panics
/// Where the answer keeps anything of the handshake, or loses anything else.
pub fn check_answer(fields: &HeaderMap) {
    let mut answer = fields.clone();
    to_success(&mut answer);
    assert_eq!(others(&answer), others(fields));
    assert_eq!(answer.len(), others(&answer).len());
}

fn has_body(fields: &HeaderMap) -> bool {
    fields
        .get_all("content-length")
        .iter()
        .any(|length| length != "0")
}

/// The fields that are not of the handshake; the order of values matters, that of names does not.
fn others(fields: &HeaderMap) -> Vec<(String, HeaderValue)> {
    let handshake = [
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-key",
        "transfer-encoding",
        "upgrade",
    ];
    let mut others: Vec<_> = fields
        .iter()
        .filter(|(name, _)| !handshake.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect();
    others.sort_by(|(one, _), (other, _)| one.cmp(other));
    others
}
