//! The pods of `holdfast demo`, at their sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use holdfast::demo::Pods;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Runs a test against one echo pod and one chat pod, within a time limit, and stops them.
async fn with_pods<T>(test: impl AsyncFnOnce(SocketAddr, SocketAddr) -> T) -> T {
    within(async {
        let pods = Pods::start(&[LOOPBACK], &[LOOPBACK], CancellationToken::new())
            .await
            .unwrap();
        let result = test(pods.echo_addresses()[0], pods.chat_addresses()[0]).await;
        pods.stop().await;
        result
    })
    .await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("the test takes too long")
}

async fn connect(address: SocketAddr, path: &str) -> Client {
    connect_async(format!("ws://{address}{path}"))
        .await
        .unwrap()
        .0
}

/// The next message that is not of the kind that comes and goes by itself.
async fn next(client: &mut Client) -> Message {
    client.next().await.expect("the stream goes on").unwrap()
}

async fn next_json(client: &mut Client, kind: &str) -> Value {
    loop {
        if let Message::Text(text) = next(client).await {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }
}

fn close_frame(message: &Message) -> (u16, String) {
    match message {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("a Close is expected: {other:?}"),
    }
}

/// Sends raw bytes of HTTP and reads the answer to its end.
async fn exchange(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

async fn fetch(address: SocketAddr, target: &str) -> (String, Vec<u8>) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
    exchange(address, &request).await
}

/// A raw WebSocket, for what a well-behaved client does not send.
async fn raw_socket(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{answer}"
    );
    stream
}

#[tokio::test]
async fn echo_tells_what_the_pod_saw() {
    with_pods(async |echo, _| {
        let request = "POST /a/b?x=1&y HTTP/1.1\r\nHost: echo.localhost\r\n\
                       X-Two: 1\r\nX-Two: 2\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let (head, body) = exchange(echo, request).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let seen: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(seen["pod"], "echo-1");
        assert_eq!(seen["address"], echo.to_string());
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["path"], "/a/b");
        assert_eq!(seen["query"], "x=1&y");
        assert_eq!(seen["httpVersion"], "HTTP/1.1");
        let headers = seen["headers"].as_array().unwrap();
        for header in ["x-two: 1", "x-two: 2", "host: echo.localhost"] {
            assert!(headers.contains(&json!(header)), "{headers:?}");
        }
        assert_eq!(
            seen["body"],
            json!({
                "bytes": 5,
                "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                "text": "hello",
            })
        );
    })
    .await;
}

#[tokio::test]
async fn echo_answers_with_the_status_size_and_delay_that_the_query_asks_for() {
    with_pods(async |echo, _| {
        let (head, _) = fetch(echo, "/?status=418").await;
        assert!(head.starts_with("HTTP/1.1 418 "), "{head}");
        let (head, body) = fetch(echo, "/?size=100Ki").await;
        assert!(head.contains("content-length: 102400\r\n"), "{head}");
        assert_eq!(body.len(), 102_400);
        let start = tokio::time::Instant::now();
        fetch(echo, "/?delay=300ms").await;
        assert!(start.elapsed() >= Duration::from_millis(300));
        let (head, body) = fetch(echo, "/?delay=5h").await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(body.starts_with(b"delay=5h: "), "{body:?}");
    })
    .await;
}

#[tokio::test]
async fn echo_returns_messages_of_every_length_as_they_were() {
    with_pods(async |echo, _| {
        let mut client = connect(echo, "/any/path").await;
        for length in [0, 1, 125, 126, 65_535, 65_536, 65_537, 1_000_000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            client.send(Message::binary(bytes.clone())).await.unwrap();
            assert_eq!(next(&mut client).await, Message::binary(bytes), "{length}");
        }
        client.send(Message::text("grüß dich ♥")).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text("grüß dich ♥"));
    })
    .await;
}

#[tokio::test]
async fn echo_answers_a_ping_between_the_fragments_of_a_message() {
    with_pods(async |echo, _| {
        let mut client = connect(echo, "/").await;
        // The ♥ is cut in the middle: text is checked as a whole, not by frame.
        let heart = "♥".as_bytes();
        let frames = [
            Frame::message(heart[..1].to_vec(), OpCode::Data(Data::Text), false),
            Frame::ping(b"there?".to_vec()),
            Frame::message(heart[1..].to_vec(), OpCode::Data(Data::Continue), true),
        ];
        for frame in frames {
            client.send(Message::Frame(frame)).await.unwrap();
        }
        assert_eq!(next(&mut client).await, Message::Pong("there?".into()));
        assert_eq!(next(&mut client).await, Message::text("♥"));
    })
    .await;
}

#[tokio::test]
async fn echo_closes_with_the_code_it_is_given_or_asked_for() {
    with_pods(async |echo, _| {
        let mut client = connect(echo, "/").await;
        let frame = CloseFrame {
            code: 4001.into(),
            reason: "enough".into(),
        };
        client.close(Some(frame)).await.unwrap();
        assert_eq!(close_frame(&next(&mut client).await), (4001, String::new()));
        assert!(client.next().await.is_none(), "the connection ends");

        let mut client = connect(echo, "/?close=4000").await;
        client.send(Message::text("bye")).await.unwrap();
        assert_eq!(close_frame(&next(&mut client).await).0, 4000);
    })
    .await;
}

#[tokio::test]
async fn echo_sends_ticks_when_asked() {
    with_pods(async |echo, _| {
        let mut client = connect(echo, "/?every=10ms").await;
        assert_eq!(next(&mut client).await, Message::text("tick 1 from echo-1"));
        assert_eq!(next(&mut client).await, Message::text("tick 2 from echo-1"));
    })
    .await;
}

#[tokio::test]
async fn echo_takes_the_first_subprotocol_and_refuses_a_handshake_on_request() {
    with_pods(async |echo, _| {
        let mut request = format!("ws://{echo}/").into_client_request().unwrap();
        let offered = "chat.v2, chat.v1".parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", offered);
        let (_client, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat.v2");

        match connect_async(format!("ws://{echo}/?status=403")).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403),
            other => panic!("a refusal is expected: {other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_break_the_rules_are_refused() {
    with_pods(async |echo, _| {
        const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        const SHORT_KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==";
        for (method, connection, version, key, status) in [
            ("GET", "Upgrade", 8, KEY, "426"),
            ("GET", "Upgrade", 13, SHORT_KEY, "400"),
            ("GET", "keep-alive", 13, KEY, "400"),
            ("POST", "Upgrade", 13, KEY, "400"),
        ] {
            let request = format!(
                "{method} / HTTP/1.1\r\nHost: pod\r\nUpgrade: websocket\r\n{key}\r\n\
                 Connection: {connection}, close\r\nSec-WebSocket-Version: {version}\r\n\r\n"
            );
            let (head, _) = exchange(echo, &request).await;
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}{head}"
            );
            let offers_version = head.contains("sec-websocket-version: 13\r\n");
            assert_eq!(offers_version, status == "426", "{head}");
        }
    })
    .await;
}

#[tokio::test]
async fn frames_that_break_the_rules_are_answered_with_a_truthful_close() {
    with_pods(async |echo, chat| {
        for (address, path, frame, code) in [
            (echo, "/", &b"\x81\x02hi"[..], 1002_u16), // not masked
            (echo, "/", b"\xc1\x80\0\0\0\0", 1002),    // RSV1, no extension
            (echo, "/", b"\x80\x80\0\0\0\0", 1002),    // continues nothing
            (echo, "/", b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002), // two at once
            (echo, "/", b"\x81\x82\0\0\0\0\xc3\x28", 1007), // not UTF-8
            (echo, "/", b"\x81\x81\0\0\0\0\xc3", 1007), // half a character
            (echo, "/", b"\x88\x81\0\0\0\0\x03", 1002), // half a code
            (echo, "/", b"\x88\x82\0\0\0\0\x03\xee", 1002), // 1006 is not for the wire
            (chat, "/ws", b"\x81\xfe\x10\x01\0\0\0\0", 1009), // 4097 bytes
            (chat, "/ws", b"\x81\x84\0\0\0\0nope", 1008), // not JSON
        ] {
            let mut stream = raw_socket(address, path).await;
            stream.write_all(frame).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let close = last_close(&answer);
            assert_eq!(close, Some(code), "{frame:?}: {answer:?}");
        }
    })
    .await;
}

/// The code of the Close frame that ends what a server wrote.
fn last_close(mut bytes: &[u8]) -> Option<u16> {
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            length => (usize::from(*length), rest),
        };
        let (payload, rest) = rest.split_at(length);
        if first & 0x0F == 8 {
            assert!(rest.is_empty(), "bytes after a Close");
            return Some(u16::from_be_bytes([payload[0], payload[1]]));
        }
        bytes = rest;
    }
    None
}

#[tokio::test]
async fn chat_carries_a_line_to_everybody_and_shows_newcomers_the_last_ones() {
    with_pods(async |_, chat| {
        let mut ann = connect(chat, "/ws").await;
        assert_eq!(next_json(&mut ann, "hello").await["pod"], "chat-1");
        assert_eq!(next_json(&mut ann, "presence").await["online"], 1);
        let mut bob = connect(chat, "/ws").await;
        assert_eq!(next_json(&mut ann, "presence").await["online"], 2);

        let line = json!({"name": "Ann", "text": " <b>hello</b> "}).to_string();
        ann.send(Message::text(line)).await.unwrap();
        for client in [&mut ann, &mut bob] {
            let message = next_json(client, "message").await;
            assert_eq!(message["from"], "Ann");
            assert_eq!(message["text"], "<b>hello</b>");
            assert_eq!(message["id"], 1);
        }

        let mut late = connect(chat, "/ws").await;
        assert_eq!(
            next_json(&mut late, "message").await["text"],
            "<b>hello</b>"
        );
        bob.close(None).await.unwrap();
        while next_json(&mut ann, "presence").await["online"] != 2 {}
    })
    .await;
}

#[tokio::test]
async fn chat_pods_share_a_room() {
    within(async {
        let pods = Pods::start(&[], &[LOOPBACK, LOOPBACK], CancellationToken::new())
            .await
            .unwrap();
        let mut ann = connect(pods.chat_addresses()[0], "/ws").await;
        let mut bob = connect(pods.chat_addresses()[1], "/ws").await;
        assert_eq!(next_json(&mut bob, "hello").await["pod"], "chat-2");
        ann.send(Message::text(r#"{"name": "Ann", "text": "hello"}"#))
            .await
            .unwrap();
        assert_eq!(next_json(&mut bob, "message").await["text"], "hello");
        drop((ann, bob));
        pods.stop().await;
    })
    .await;
}

/// A client that never reads must cost the room neither memory nor a stalled message.
#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_others() {
    with_pods(async |_, chat| {
        let _deaf = raw_socket(chat, "/ws").await;
        let mut ann = connect(chat, "/ws").await;
        let text = "x".repeat(3_000);
        // 12 MB: far more than the socket buffers of the deaf one hold.
        for number in 0..4_000 {
            let line = json!({"name": number.to_string(), "text": text}).to_string();
            ann.send(Message::text(line)).await.unwrap();
            let message = next_json(&mut ann, "message").await;
            assert_eq!(message["from"], number.to_string());
        }
    })
    .await;
}

#[tokio::test]
async fn the_page_is_whole_in_itself() {
    with_pods(async |_, chat| {
        let (head, body) = fetch(chat, "/").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("content-security-policy: default-src 'none';"),
            "{head}"
        );
        let page = String::from_utf8(body).unwrap();
        assert!(page.contains("new WebSocket(url)"));
        for foreign in ["http://", "https://", "src=", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(fetch(chat, "/other").await.0.starts_with("HTTP/1.1 404 "));
        assert!(fetch(chat, "/ws").await.0.starts_with("HTTP/1.1 426 "));
    })
    .await;
}

#[tokio::test]
async fn stopping_tells_every_websocket_1001_and_frees_the_port() {
    within(async {
        let pods = Pods::start(&[LOOPBACK], &[LOOPBACK], CancellationToken::new())
            .await
            .unwrap();
        let addresses: Vec<SocketAddr> = pods.addresses().collect();
        let mut clients = [
            connect(addresses[0], "/").await,
            connect(addresses[1], "/ws").await,
        ];
        let stop = tokio::spawn(pods.stop());
        for client in &mut clients {
            let close = loop {
                match next(client).await {
                    Message::Text(_) => {}
                    message => break close_frame(&message),
                }
            };
            assert_eq!(close, (1001, "the pod is going away".to_owned()));
            // Reading on sends our Close, and sees the end of the connection.
            assert!(client.next().await.is_none());
        }
        stop.await.unwrap();
        Pods::start(&addresses, &[], CancellationToken::new())
            .await
            .unwrap()
            .stop()
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    with_pods(async |echo, _| {
        let error = Pods::start(&[], &[echo], CancellationToken::new())
            .await
            .unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("chat pod") && error.contains(&echo.to_string()),
            "{error}"
        );
    })
    .await;
}

/// The manifests point at the addresses that the demo gives its pods.
#[test]
fn the_manifests_of_the_demo_are_yaml_of_the_kinds_expected() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/demo");
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object: Value = serde::Deserialize::deserialize(document).unwrap();
            if object["kind"] == "LoadBalancer" {
                let typed: holdfast::api::LoadBalancer =
                    serde_json::from_value(object.clone()).unwrap();
                assert_eq!(typed.spec.listeners.len(), 2);
            }
            kinds.push(object["kind"].as_str().unwrap().to_owned());
        }
    }
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "EndpointSlice",
            "EndpointSlice",
            "EndpointSlice",
            "Ingress",
            "IngressClass",
            "LoadBalancer",
            "Service",
            "Service",
        ]
    );
}
