//! The translation of extended CONNECTs against the rules of plain handshakes: whatever comes out
//! of it is one that a pod could have got from an HTTP/1.1 client.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use holdfast::websocket::extended_connect::{to_success, to_upgrade};
use holdfast::websocket::handshake::{InvalidHandshake, Upgrade};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Version, request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let names = select(vec![
        "connection",
        "content-length",
        "cookie",
        "host",
        "origin",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-any",
    ]);
    let values = prop_oneof![
        Just("13".to_owned()),
        Just("0".to_owned()),
        Just("websocket".to_owned()),
        "[ -~]{0,40}",
    ];
    (names, values).prop_map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_str(&value).unwrap())
    })
}

fn head() -> impl Strategy<Value = request::Parts> {
    let method = prop_oneof![
        9 => Just(Method::CONNECT),
        1 => select(vec![Method::GET, Method::POST]),
    ];
    let version = prop_oneof![
        9 => Just(Version::HTTP_2),
        1 => select(vec![Version::HTTP_11, Version::HTTP_10]),
    ];
    let uri = prop_oneof![
        "(http|https|ws|wss|ftp)://[a-z]{1,9}(:[0-9]{1,4})?/[a-z/?=]{0,20}",
        "/[a-z]{0,9}",
        "[a-z]{1,9}:443",
    ];
    let version_field = prop::option::weighted(0.8, select(vec!["13", "8", ""]));
    (method, version, uri, vec(field(), 0..8), version_field).prop_map(
        |(method, version, uri, fields, version_field)| {
            let request = Request::builder().method(method).version(version).uri(uri);
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            head.headers.extend(fields);
            if let Some(value) = version_field {
                head.headers
                    .insert("sec-websocket-version", HeaderValue::from_static(value));
            }
            head
        },
    )
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

proptest! {
    #[test]
    fn what_comes_out_is_a_handshake_with_our_key(
        head in head(),
        protocol in select(vec!["websocket", "WebSocket", "connect-udp", "", "websocket "]),
        key in any::<[u8; 16]>(),
    ) {
        let mut upgrade = head.clone();
        match to_upgrade(protocol, &mut upgrade, key) {
            Ok(accept) => {
                prop_assert_eq!(&upgrade.uri, &head.uri);
                prop_assert_eq!(others(&upgrade.headers), others(&head.headers));
                // The rules of HTTP/1.1 find nothing wrong with it, and expect the same answer.
                let asked = Upgrade::requested(&upgrade.method, Version::HTTP_11, &upgrade.headers);
                prop_assert_eq!(asked, Ok(Upgrade::WebSocket(accept)));
                prop_assert_eq!((head.method, head.version), (Method::CONNECT, Version::HTTP_2));
                prop_assert!(protocol.eq_ignore_ascii_case("websocket"));
                let version: Vec<_> = head.headers.get_all("sec-websocket-version").iter().collect();
                prop_assert_eq!(version, ["13"]);
            }
            Err(InvalidHandshake::Protocol) => prop_assert_ne!(protocol, "websocket"),
            Err(InvalidHandshake::Version) => {
                let version: Vec<_> = head.headers.get_all("sec-websocket-version").iter().collect();
                prop_assert_ne!(version, ["13"]);
            }
            Err(InvalidHandshake::Malformed) => {
                let scheme = head.uri.scheme_str().unwrap_or("https");
                prop_assert!(
                    head.method != Method::CONNECT
                        || head.version != Version::HTTP_2
                        || !matches!(scheme, "http" | "https")
                        || head.uri.path_and_query().is_none()
                        || head.headers.get("content-length").is_some_and(|length| length != "0")
                );
            }
        }
    }

    #[test]
    fn the_answer_keeps_everything_that_is_not_the_handshake(fields in vec(field(), 0..12)) {
        let fields: HeaderMap = fields.into_iter().collect();
        let mut answer = fields.clone();
        to_success(&mut answer);
        prop_assert_eq!(others(&answer), others(&fields));
        prop_assert_eq!(answer.len(), others(&answer).len());
    }
}

#[test]
fn the_example_of_rfc_8441_becomes_that_of_rfc_6455() {
    let request = Request::connect("https://server.example.com/chat")
        .version(Version::HTTP_2)
        .header("sec-websocket-protocol", "chat, superchat")
        .header("sec-websocket-extensions", "permessage-deflate")
        .header("sec-websocket-version", "13")
        .header("origin", "http://www.example.com");
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let accept = to_upgrade("websocket", &mut head, *b"the sample nonce").unwrap();
    assert_eq!(head.method, Method::GET);
    assert_eq!(head.uri, "https://server.example.com/chat");
    assert_eq!(
        head.headers["sec-websocket-key"],
        "dGhlIHNhbXBsZSBub25jZQ=="
    );
    assert_eq!(head.headers["upgrade"], "websocket");
    assert_eq!(head.headers["connection"], "upgrade");
    assert_eq!(head.headers["origin"], "http://www.example.com");
    let mut answer = HeaderMap::new();
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
    ] {
        answer.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    assert!(accept.completes(&answer));
    to_success(&mut answer);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer["sec-websocket-protocol"], "chat");
}
