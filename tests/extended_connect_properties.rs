//! The translation of extended CONNECTs against the rules of plain handshakes: whatever comes out
//! of it is one that a pod could have got from an HTTP/1.1 client. The rules are those of the fuzz
//! target; here they are held to requests that are nearly right.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "fuzz/extended_connect.rs"]
#[allow(dead_code)]
mod extended_connect;
#[path = "fuzz/fields.rs"]
#[allow(dead_code)]
mod fields;
#[path = "fuzz/input.rs"]
#[allow(dead_code)]
mod input;

use extended_connect::{check_answer, check_request};
use holdfast::websocket::extended_connect::{to_success, to_upgrade};
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

proptest! {
    #[test]
    fn what_comes_out_is_a_handshake_with_our_key(
        head in head(),
        protocol in select(vec!["websocket", "WebSocket", "connect-udp", "", "websocket "]),
        key in any::<[u8; 16]>(),
    ) {
        check_request(protocol, &head, key);
    }

    #[test]
    fn the_answer_keeps_everything_that_is_not_the_handshake(fields in vec(field(), 0..12)) {
        check_answer(&fields.into_iter().collect());
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
