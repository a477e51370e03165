//! WebSockets as streams of HTTP/2 connections (RFC 8441): everything is as over HTTP/1.1.

use std::collections::BTreeSet;

use bytes::Bytes;
use h2::ext::Protocol;
use holdfast::config::Config;
use holdfast::websocket::TunnelView;
use http::{HeaderValue, Request, Response};
use tokio::task::JoinSet;

use crate::harness::{EDGE, Holdfast, ingress, raw, service, soon};
use crate::http2_client::{Client, accept, connect};
use crate::peers::{BINARY, PING, Peer, RawPod, TEXT, close, frame, pair, within};
use crate::tls_client::TlsClient;
use crate::websocket::{HOST, limited, proxy};

pub async fn proxy_of(pod: &RawPod, edge: &str) -> Holdfast {
    proxy_with(pod, edge, |_| {}).await
}

pub async fn proxy_with(pod: &RawPod, edge: &str, change: impl FnOnce(&mut Config)) -> Holdfast {
    let manifests = [
        ("edge.yaml", edge),
        ("pod.yaml", &service("pod", "", &[pod.address])),
        ("ingress.yaml", &ingress("pod", HOST, "pod")),
    ];
    Holdfast::start_with(&manifests, change).await
}

async fn text(mut response: Response<h2::RecvStream>) -> String {
    let mut all = Vec::new();
    let body = response.body_mut();
    while let Some(data) = within("a body", body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    String::from_utf8(all).unwrap()
}

pub fn only(holdfast: &Holdfast) -> TunnelView {
    let mut tunnels = holdfast.app.tunnels().list();
    assert_eq!(tunnels.len(), 1);
    tunnels.remove(0)
}

#[tokio::test]
async fn a_stream_becomes_a_websocket_and_the_pod_sees_a_plain_handshake() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let mut request = connect(HOST);
        for (name, value) in [
            ("sec-websocket-protocol", "chat.v1, chat.v2"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("origin", "https://app.example"),
            ("cookie", "a=1"),
            ("x-request-id", "one"),
            ("x-forwarded-for", "6.6.6.6"),
            // Not used (RFC 8441 §5): neither reaches the pod.
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ] {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(name, value);
        }
        request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
        let lines = "Sec-WebSocket-Protocol: chat.v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                     X-Pod: one\r\nKeep-Alive: x\r\n";
        let ((stream, fields), server) =
            tokio::join!(client.stream(request), accept(&pod, lines));
        let (mut client_end, mut server) = (Peer::new(Box::new(stream)), server);

        let (line, rest) = server.head.split_once("\r\n").unwrap();
        assert_eq!(line, "GET /ws HTTP/1.1");
        let mut seen: Vec<&str> = rest.lines().filter(|line| !line.is_empty()).collect();
        seen.sort_unstable();
        let key = *seen.iter().find(|l| l.starts_with("sec-websocket-key: ")).unwrap();
        assert_ne!(key, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(
            seen,
            [
                "connection: upgrade",
                "cookie: a=1; b=2",
                "host: ws.example",
                "origin: https://app.example",
                "sec-websocket-extensions: permessage-deflate",
                key,
                "sec-websocket-protocol: chat.v1, chat.v2",
                "sec-websocket-version: 13",
                "upgrade: websocket",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: ws.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 127.0.0.1",
                "x-request-id: one",
            ]
        );
        let names: BTreeSet<&str> = fields.keys().map(http::HeaderName::as_str).collect();
        let expected = [
            "date",
            "sec-websocket-extensions",
            "sec-websocket-protocol",
            "server",
            "x-pod",
        ];
        assert_eq!(names, expected.into());
        assert_eq!(fields["sec-websocket-protocol"], "chat.v2");

        let up = frame(TEXT, true, b"up");
        client_end.send(&up).await;
        assert_eq!(server.read(up.len()).await, up);
        let down = frame(0xC1, false, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        server.send(&down).await;
        assert_eq!(client_end.read(down.len()).await, down);
        let farewell = close(true, 4001, "see you, λ");
        client_end.send(&farewell).await;
        assert_eq!(server.read(farewell.len()).await, farewell);
        let answer = close(false, 4001, "bye");
        server.send(&answer).await;
        assert_eq!(client_end.read(answer.len()).await, answer);
        client_end.ended().await;
        drop(client_end);
        server.ended().await;
    })
    .await;
}

#[tokio::test]
async fn pods_behind_tls_are_reached_as_well() {
    limited(async {
        let pod = RawPod::start_tls().await;
        let service = service("pod", "kubernetes.io/wss", &[pod.address]);
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("pod.yaml", &service),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ])
        .await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut client, mut server) = client.pair(HOST, &pod).await;
        let up = frame(TEXT, true, b"up");
        client.send(&up).await;
        assert_eq!(server.read(up.len()).await, up);
        let down = frame(BINARY, false, &vec![3; 100_000]);
        server.send(&down).await;
        assert!(client.read(down.len()).await == down);
        drop(server);
        assert_eq!(client.close_frame().await.0, 1011);
        client.send(&close(true, 1011, "")).await;
        client.ended().await;
    })
    .await;
}

#[tokio::test]
async fn large_messages_pass_both_ways() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut client, mut server) = client.pair(HOST, &pod).await;
        // 251 is prime to the sizes of all buffers: a lost or doubled piece shows.
        let payload: Vec<u8> = (0..251_u8).cycle().take(8 << 20).collect();
        for from_client in [true, false] {
            let message = frame(BINARY, from_client, &payload);
            let (from, to) = if from_client {
                (&mut client, &mut server)
            } else {
                (&mut server, &mut client)
            };
            let (received, ()) = tokio::join!(to.read(message.len()), from.send(&message));
            assert!(received == message);
        }
    })
    .await;
}

#[tokio::test]
async fn many_websockets_share_a_connection_with_requests_and_one_may_end_alone() {
    const TUNNELS: usize = 100;
    limited(async {
        let pod = RawPod::start().await;
        let app = crate::pod::Pod::answering(crate::pod::OK).await;
        let holdfast = proxy(&pod).await;
        holdfast
            .write("app.yaml", &service("app", "", &[app.address]))
            .await;
        holdfast
            .write("second.yaml", &ingress("app", "app.example", "app"))
            .await;
        let client = Client::connect(&holdfast, HOST).await;
        let mut tunnels = Vec::new();
        for _ in 0..TUNNELS {
            tunnels.push(client.pair(HOST, &pod).await);
        }
        let mut rounds = JoinSet::new();
        for (mut one, mut other) in tunnels {
            rounds.spawn(async move {
                for number in 0..50 {
                    let up = frame(TEXT, true, format!("message {number}").as_bytes());
                    one.send(&up).await;
                    assert_eq!(other.read(up.len()).await, up);
                    other.send(&up).await;
                    assert_eq!(one.read(up.len()).await, up);
                }
                (one, other)
            });
        }
        for _ in 0..50 {
            let get = Request::get("https://app.example/").body(()).unwrap();
            let (response, mut send) = client.ask(get).await.unwrap();
            // It may have been answered already, and its stream be closed.
            let _ = send.send_data(Bytes::new(), true);
            assert_eq!(response.status(), 200);
            assert_eq!(text(response).await, "ok");
        }
        let mut tunnels = rounds.join_all().await;
        assert_eq!(holdfast.app.tunnels().len(), TUNNELS);
        let (mut one, mut other) = tunnels.pop().unwrap();
        one.send(&close(true, 1000, "")).await;
        assert_eq!(other.close_frame().await.0, 1000);
        other.send(&close(false, 1000, "")).await;
        assert_eq!(one.close_frame().await.0, 1000);
        one.ended().await;
        for (one, other) in &mut tunnels {
            let up = frame(TEXT, true, b"still here");
            one.send(&up).await;
            assert_eq!(other.read(up.len()).await, up);
        }
        // A closed connection is the end of all of them.
        client.connection.abort();
        for (_, mut server) in tunnels {
            assert_eq!(server.close_frame().await.0, 1001);
            server.send(&close(false, 1001, "")).await;
            server.ended().await;
        }
        within("no tunnel is left", holdfast.app.tunnels().wait_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_are_not_one_are_answered_and_leave_the_connection_alone() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let version = |version: Option<&'static str>| {
            let mut request = connect(HOST);
            request.headers_mut().remove("sec-websocket-version");
            if let Some(version) = version {
                let version = HeaderValue::from_static(version);
                request
                    .headers_mut()
                    .insert("sec-websocket-version", version);
            }
            request
        };
        let mut unknown = connect(HOST);
        let protocol = Protocol::from_static("connect-udp");
        unknown.extensions_mut().insert(protocol);
        let mut plain = Request::connect(format!("{HOST}:443")).body(()).unwrap();
        plain.extensions_mut().clear();
        for (request, status, reason) in [
            (version(None), 400, "websocket_version"),
            (version(Some("8")), 400, "websocket_version"),
            (unknown, 501, "protocol_unknown"),
            (plain, 501, "method_refused"),
            (connect("other.example"), 404, "no_route_for_host"),
        ] {
            let (response, _send) = client.ask(request).await.unwrap();
            assert_eq!(response.status(), status, "{reason}");
            let offered = response.headers().get("sec-websocket-version").cloned();
            assert_eq!(offered.is_some(), reason == "websocket_version");
            let text = text(response).await;
            assert!(text.contains(reason), "{text}");
        }
        // What a pod answers other than 101 is an ordinary answer.
        let refuse = async {
            let mut server = pod.accept().await;
            server
                .send(b"HTTP/1.1 403 Forbidden\r\nX-Why: tired\r\nContent-Length: 5\r\n\r\nno, I")
                .await;
            server
        };
        let (answer, _server) = tokio::join!(client.ask(connect(HOST)), refuse);
        let (response, _send) = answer.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["x-why"], "tired");
        assert_eq!(text(response).await, "no, I");
        // Except one that an HTTP/2 client would read as success, and a 101 that is none.
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        ] {
            let refuse = async {
                let mut server = pod.accept().await;
                server.send(bad.as_bytes()).await;
                server
            };
            let (answer, _server) = tokio::join!(client.ask(connect(HOST)), refuse);
            let (response, _send) = answer.unwrap();
            assert_eq!(response.status(), 502);
            let text = text(response).await;
            assert!(text.contains("pod_upgrade_invalid"), "{text}");
        }
        assert!(holdfast.app.tunnels().is_empty());
        client
            .pair(HOST, &pod)
            .await
            .0
            .send(&frame(PING, true, b""))
            .await;
    })
    .await;
}

#[tokio::test]
async fn names_of_http1_only_are_not_offered_http2_and_misdirected_requests_are_told() {
    limited(async {
        let pod = RawPod::start().await;
        let edge = EDGE.replace(
            "protocol: HTTPS}",
            "protocol: HTTPS, http1Only: [ws.example, \"*.old.example\"]}",
        );
        let holdfast = proxy_of(&pod, &edge).await;
        let chosen = async |name: &str| {
            let tls = TlsClient::new(&["h2", "http/1.1"]);
            let stream = tls.connect(holdfast.address("https"), name).await;
            let alpn = stream.get_ref().1.alpn_protocol().unwrap();
            String::from_utf8(alpn.to_vec()).unwrap()
        };
        for (name, protocol) in [
            ("ws.example", "http/1.1"),
            ("WS.example", "http/1.1"),
            ("a.old.example", "http/1.1"),
            ("old.example", "h2"),
            ("other.example", "h2"),
            ("127.0.0.1", "h2"),
        ] {
            assert_eq!(chosen(name).await, protocol, "{name}");
        }
        // A connection for another host of the certificate does not go round it.
        let client = Client::connect(&holdfast, "other.example").await;
        for request in [
            connect(HOST),
            Request::get(format!("https://{HOST}/")).body(()).unwrap(),
        ] {
            let (response, mut send) = client.ask(request).await.unwrap();
            assert_eq!(response.status(), 421);
            let _ = send.send_data(Bytes::new(), true);
            assert!(text(response).await.contains("misdirected"));
        }
        // A change of the list holds from the next handshake on.
        let (mut one, mut server) = pair(holdfast.address("https"), true, HOST, &pod).await;
        holdfast.write("edge.yaml", EDGE).await;
        assert_eq!(chosen(HOST).await, "h2");
        let up = frame(TEXT, true, b"up");
        one.send(&up).await;
        assert_eq!(server.read(up.len()).await, up);
        assert!(!only(&holdfast).info.is_http2());
    })
    .await;
}

#[tokio::test]
async fn metrics_and_pages_tell_the_two_apart() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let _one = client.pair(HOST, &pod).await;
        let (mut two, mut server) = client.pair(HOST, &pod).await;
        let _http1 = pair(holdfast.address("https"), true, HOST, &pod).await;
        two.send(&close(true, 1000, "")).await;
        server.frame().await;
        server.send(&close(false, 1000, "")).await;
        server.ended().await;
        soon("one has closed", async || {
            (holdfast.app.tunnels().len() == 2).then_some(())
        })
        .await;
        let admin = holdfast.app.admin_address().unwrap();
        let page = async |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            raw(admin, request.as_bytes()).await
        };
        let metrics = page("/metrics").await;
        let value = |name: &str, protocol: &str| {
            let protocol = format!("protocol=\"{protocol}\"");
            let line = metrics
                .lines()
                .find(|l| l.starts_with(name) && l.contains(&protocol));
            line.unwrap_or_else(|| panic!("{metrics}"))
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(value("holdfast_tunnels_open{", "HTTP/2"), "1");
        assert_eq!(value("holdfast_tunnels_open{", "HTTP/1.1"), "1");
        assert_eq!(value("holdfast_tunnels_opened_total{", "HTTP/2"), "2");
        assert_eq!(value("holdfast_tunnels_opened_total{", "HTTP/1.1"), "1");
        let tunnels = page("/tunnels").await;
        for protocol in ["HTTP/1.1", "HTTP/2"] {
            assert!(
                tunnels.contains(&format!("\"protocol\": \"{protocol}\"")),
                "{tunnels}"
            );
        }
    })
    .await;
}
