//! WebSockets through the whole proxy: what passes, what is refused, and how they end.

use std::time::Duration;

use holdfast::demo::Pods;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use holdfast::websocket::TunnelView;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, service, soon};
use crate::peers::{
    BINARY, CLOSE, Frame, PING, PONG, Peer, RawPod, TEXT, apply_mask, close, dial, frame,
    frame_head, handshake, open, pair, request, switching, within,
};

const HOST: &str = "ws.example";

/// A Holdfast in front of one raw pod.
async fn proxy(pod: &RawPod) -> Holdfast {
    proxy_of(pod, "", EDGE).await
}

async fn proxy_of(pod: &RawPod, app_protocol: &str, edge: &str) -> Holdfast {
    Holdfast::start(&[
        ("edge.yaml", edge),
        ("pod.yaml", &service("pod", app_protocol, &[pod.address])),
        ("ingress.yaml", &ingress("pod", HOST, "pod")),
    ])
    .await
}

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

const BOTH: [(&str, bool); 2] = [("http", false), ("https", true)];

#[tokio::test]
async fn frames_pass_untouched_on_both_listeners_without_any_setting() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for (listener, tls) in BOTH {
            let (mut client, mut server) = pair(holdfast.address(listener), tls, HOST, &pod).await;
            // Text, binary, a fragmented message with the longest control frames between its
            // fragments, compressed frames (RSV1), an empty message, unknown opcodes and bits.
            let long = [7; 125];
            let big = vec![9; 70_000];
            let parts: [(u8, &[u8]); 14] = [
                (TEXT, b"hello"),
                (BINARY, &[0, 255, 128]),
                (0x01, b"frag"),
                (PING, &long),
                (0x00, b"ment"),
                (PONG, &long),
                (0x80, b"ed"),
                (0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
                (0x41, b"compressed, first"),
                (0x80, b"compressed, last"),
                (TEXT, b""),
                (0xB2, &big),
                (0x83, b"reserved opcode"),
                (PING, b""),
            ];
            for masked in [true, false] {
                let sent: Vec<u8> = parts
                    .iter()
                    .flat_map(|(first, payload)| frame(*first, masked, payload))
                    .collect();
                let (from, to) = if masked {
                    (&mut client, &mut server)
                } else {
                    (&mut server, &mut client)
                };
                from.send(&sent).await;
                assert!(to.read(sent.len()).await == sent, "masked: {masked}");
            }
            let farewell = close(true, 4001, "see you, λ");
            client.send(&farewell).await;
            assert_eq!(server.read(farewell.len()).await, farewell);
            let answer = close(false, 4001, "bye");
            server.send(&answer).await;
            assert_eq!(client.read(answer.len()).await, answer);
            client.ended().await;
            drop(client);
            server.ended().await;
        }
    })
    .await;
}

#[tokio::test]
async fn closes_of_the_pod_pass_with_code_and_reason() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for (listener, tls) in BOTH {
            let (mut client, mut server) = pair(holdfast.address(listener), tls, HOST, &pod).await;
            let farewell = close(false, 1008, "no more for you");
            server.send(&farewell).await;
            assert_eq!(client.read(farewell.len()).await, farewell);
            // A Close without a code is answered without one.
            let answer = frame(CLOSE, true, b"");
            client.send(&answer).await;
            assert_eq!(server.read(answer.len()).await, answer);
            client.ended().await;
            server.finish().await;
            server.ended().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_pod_sees_the_whole_handshake_and_the_client_the_whole_answer() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let lines = "Origin: https://app.example\r\nCookie: a=1; b=2\r\n\
                     Sec-WebSocket-Protocol: chat.v2, chat.v1\r\n\
                     Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                     Authorization: Bearer x\r\nX-Custom: kept\r\n";
        let wanted = handshake(HOST, lines).replace("/ws ", "/ws/a%20b?token=1&x=%C3%A4 ");
        let client = request(holdfast.address("http"), false, &wanted);
        let server = async {
            let mut server = pod.accept().await;
            let answer = "Sec-WebSocket-Protocol: chat.v2\r\n\
                          Sec-WebSocket-Extensions: permessage-deflate\r\n\
                          Set-Cookie: c=3\r\nX-Pod: kept\r\n";
            server.send(switching(answer).as_bytes()).await;
            server
        };
        let (client, server) = tokio::join!(client, server);
        let seen = server.head.to_ascii_lowercase();
        assert!(
            seen.starts_with("get /ws/a%20b?token=1&x=%c3%a4 http/1.1\r\n"),
            "{seen}"
        );
        for line in [
            "host: ws.example",
            "origin: https://app.example",
            "cookie: a=1; b=2",
            "sec-websocket-protocol: chat.v2, chat.v1",
            "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
            "sec-websocket-version: 13",
            "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
            "authorization: bearer x",
            "x-custom: kept",
            "upgrade: websocket",
            "connection: upgrade",
            "x-forwarded-proto: http",
            "x-forwarded-for: 127.0.0.1",
        ] {
            assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line}: {seen}");
        }
        let got = client.head.to_ascii_lowercase();
        for line in [
            "sec-websocket-protocol: chat.v2",
            "sec-websocket-extensions: permessage-deflate",
            "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
            "set-cookie: c=3",
            "x-pod: kept",
            "upgrade: websocket",
            "connection: upgrade",
        ] {
            assert!(got.contains(&format!("\r\n{line}\r\n")), "{line}: {got}");
        }
    })
    .await;
}

#[tokio::test]
async fn app_protocols_ws_and_wss_choose_the_transport_to_the_pod() {
    limited(async {
        for (app_protocol, pod) in [
            ("kubernetes.io/ws", RawPod::start().await),
            ("kubernetes.io/wss", RawPod::start_tls().await),
        ] {
            let holdfast = proxy_of(&pod, app_protocol, EDGE).await;
            for (listener, tls) in BOTH {
                let (mut client, mut server) =
                    pair(holdfast.address(listener), tls, HOST, &pod).await;
                let up = frame(TEXT, true, b"up");
                client.send(&up).await;
                assert_eq!(server.read(up.len()).await, up);
                let down = frame(BINARY, false, &vec![3; 100_000]);
                server.send(&down).await;
                assert!(client.read(down.len()).await == down);
                // Ends are clean over TLS as well.
                drop(server);
                assert_eq!(client.close_frame().await.0, 1011);
                client.send(&close(true, 1011, "")).await;
                client.ended().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn malformed_handshakes_are_refused_before_any_pod_hears_of_them() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let good = handshake(HOST, "");
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let cases = [
            (good.replace("Version: 13", "Version: 8"), 426),
            (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
            (good.replace(key, ""), 400),
            (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
            (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "not base64"), 400),
            (good.replace(key, &key.repeat(2)), 400),
            (good.replace("GET ", "POST "), 400),
            (
                good.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"),
                400,
            ),
        ];
        for (listener, tls) in BOTH {
            for (bytes, status) in &cases {
                let answer = request(holdfast.address(listener), tls, bytes).await;
                let expected = format!("HTTP/1.1 {status} ");
                assert!(
                    answer.head.starts_with(&expected),
                    "{bytes}\n{}",
                    answer.head
                );
                let says_version = answer
                    .head
                    .to_ascii_lowercase()
                    .contains("\r\nsec-websocket-version: 13\r\n");
                assert_eq!(says_version, *status == 426, "{}", answer.head);
            }
        }
        assert!(holdfast.app.tunnels().is_empty());
        let refused: u64 = holdfast.app.metrics().refusals().values().sum();
        assert_eq!(refused, 16);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_does_not_complete_the_handshake_is_a_bad_gateway() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let good = switching("");
        for bad in [
            good.replace("s3pP", "xxxx"),
            good.replace("Upgrade: websocket\r\n", ""),
            good.replace("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
            good.replace("Connection: Upgrade\r\n", ""),
            good.replace("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ""),
            "nonsense\r\n\r\n".to_owned(),
        ] {
            let handshake = handshake(HOST, "");
            let answer = request(holdfast.address("http"), false, &handshake);
            let serve = async {
                let mut server = pod.accept().await;
                server.send(bad.as_bytes()).await;
                server
            };
            let (answer, _server) = tokio::join!(answer, serve);
            assert!(
                answer.head.starts_with("HTTP/1.1 502 "),
                "{bad}\n{}",
                answer.head
            );
        }
        assert!(holdfast.app.tunnels().is_empty());
    })
    .await;
}

#[tokio::test]
async fn other_answers_of_the_pod_are_ordinary_responses() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for (status, lines) in [
            ("401 Unauthorized", "WWW-Authenticate: Bearer\r\n"),
            ("302 Found", "Location: /login\r\n"),
            ("200 OK", "X-Kept: yes\r\n"),
            ("426 Upgrade Required", "Sec-WebSocket-Version: 13, 8\r\n"),
        ] {
            let handshake = handshake(HOST, "");
            let answer = request(holdfast.address("http"), false, &handshake);
            let serve = async {
                let mut server = pod.accept().await;
                let text = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: 6\r\n\r\nno way");
                server.send(text.as_bytes()).await;
                server
            };
            let (mut answer, _server) = tokio::join!(answer, serve);
            let expected = format!("HTTP/1.1 {status}\r\n");
            assert!(answer.head.starts_with(&expected), "{}", answer.head);
            assert!(
                answer
                    .head
                    .to_ascii_lowercase()
                    .contains(&lines.to_ascii_lowercase()),
                "{}",
                answer.head
            );
            assert_eq!(answer.read(6).await, b"no way");
        }
        assert!(holdfast.app.tunnels().is_empty());
    })
    .await;
}

#[tokio::test]
async fn http_1_0_and_other_protocols_are_not_upgraded() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let good = handshake(HOST, "");
        for asked in [
            good.replace("HTTP/1.1", "HTTP/1.0"),
            good.replace("Upgrade: websocket", "Upgrade: h2c"),
            good.replace("Connection: Upgrade", "Connection: close"),
        ] {
            let answer = request(holdfast.address("http"), false, &asked);
            let serve = async {
                let mut server = pod.accept().await;
                server
                    .send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
                server
            };
            let (mut answer, server) = tokio::join!(answer, serve);
            assert!(answer.head.contains(" 200 OK\r\n"), "{}", answer.head);
            assert_eq!(answer.read(2).await, b"ok");
            let seen = server.head.to_ascii_lowercase();
            assert!(!seen.contains("\r\nupgrade:"), "{seen}");
        }
    })
    .await;
}

#[tokio::test]
async fn frames_that_travel_with_the_handshake_are_delivered() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for (listener, tls) in BOTH {
            let early = frame(TEXT, true, &[b'e'; 3000]);
            let mut bytes = handshake(HOST, "").into_bytes();
            bytes.extend_from_slice(&early);
            let mut client = dial(holdfast.address(listener), tls).await;
            client.send(&bytes).await;
            let mut server = pod.accept().await;
            // The 101 and the first frames in one segment.
            let greeting = frame(BINARY, false, &[b'g'; 5000]);
            let mut answer = switching("").into_bytes();
            answer.extend_from_slice(&greeting);
            server.send(&answer).await;
            let mut back = Vec::new();
            while !back.ends_with(&greeting) {
                let more = client.read_some(64 * 1024).await;
                assert!(!more.is_empty());
                back.extend_from_slice(&more);
            }
            assert!(back.starts_with(b"HTTP/1.1 101 "));
            assert_eq!(server.read(early.len()).await, early);
            // Nothing is lost or said twice behind them.
            let next = frame(TEXT, true, b"next");
            client.send(&next).await;
            assert_eq!(server.read(next.len()).await, next);
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_may_end_its_sending_half_behind_a_close() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let (mut client, mut server) = pair(holdfast.address("http"), false, HOST, &pod).await;
        let farewell = close(true, 1000, "done");
        client.send(&farewell).await;
        client.finish().await;
        assert_eq!(server.read(farewell.len()).await, farewell);
        let last = [frame(TEXT, false, b"last"), close(false, 1000, "")].concat();
        server.send(&last).await;
        drop(server);
        assert_eq!(client.rest().await, last);
    })
    .await;
}

#[tokio::test]
async fn large_messages_pass_both_ways() {
    const SIZE: usize = 64 << 20;
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let (client, server) = pair(holdfast.address("http"), false, HOST, &pod).await;
        // 251 is prime to the sizes of all buffers: a lost or doubled chunk shows.
        let pattern: Vec<u8> = (0..251_u8).cycle().take(251 * 1024).collect();
        async fn send(peer: &mut Peer, masked: bool, pattern: &[u8]) {
            peer.send(&frame_head(BINARY, masked, SIZE as u64)).await;
            let mut masking = pattern.repeat(4);
            if masked {
                apply_mask(&mut masking, 0);
            }
            let mut left = SIZE;
            while left > 0 {
                let chunk = left.min(masking.len());
                peer.send(&masking[..chunk]).await;
                left -= chunk;
            }
        }
        async fn receive(peer: &mut Peer, masked: bool, pattern: &[u8]) {
            let head = frame_head(BINARY, masked, SIZE as u64);
            assert_eq!(peer.read(head.len()).await, head);
            let mut expected = pattern.repeat(4);
            if masked {
                apply_mask(&mut expected, 0);
            }
            let mut at = 0;
            while at < SIZE {
                let start = at % expected.len();
                let most = (expected.len() - start).min(SIZE - at);
                let chunk = peer.read_some(most).await;
                assert!(!chunk.is_empty() && chunk == expected[start..start + chunk.len()]);
                at += chunk.len();
            }
        }
        let (mut client, mut server) = (client, server);
        tokio::join!(
            send(&mut client, true, &pattern),
            receive(&mut server, true, &pattern)
        );
        tokio::join!(
            send(&mut server, false, &pattern),
            receive(&mut client, false, &pattern)
        );
        soon("both are counted", async || {
            let view = &holdfast.app.tunnels().list()[0];
            let counted = (view.from_client.binary, view.from_pod.binary_bytes);
            (counted == (1, SIZE as u64)).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_its_sender_back() {
    const MOST: usize = 48 << 20;
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for from_client in [true, false] {
            let (client, server) = pair(holdfast.address("http"), false, HOST, &pod).await;
            let (mut from, mut to) = if from_client {
                (client, server)
            } else {
                (server, client)
            };
            let message = frame(BINARY, from_client, &vec![5; 256 * 1024]);
            let mut sent = 0;
            // What the kernel's buffers of two connections hold, and one buffer of ours.
            loop {
                assert!(sent < MOST, "nothing holds the sender back");
                let write = from.stream.write(&message[sent % message.len()..]);
                match tokio::time::timeout(Duration::from_millis(300), write).await {
                    Ok(written) => sent += written.unwrap(),
                    Err(_) => break,
                }
            }
            // Then everything arrives, and the tunnel goes on.
            let mut rest = message[sent % message.len()..].to_vec();
            rest.extend_from_slice(&frame(TEXT, from_client, b"after"));
            let mut received = 0;
            let (_, ()) = tokio::join!(from.send(&rest), async {
                while received < sent + (message.len() - sent % message.len()) {
                    let at = received % message.len();
                    let chunk = to.read_some(message.len() - at).await;
                    assert!(!chunk.is_empty() && chunk == message[at..at + chunk.len()]);
                    received += chunk.len();
                }
            });
            let after = to.frame().await;
            assert_eq!((after.first, &*after.payload), (TEXT, &b"after"[..]));
        }
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_websocket_at_the_timeout_of_its_listener_or_rule() {
    let edge = EDGE
        .replace(
            "protocol: HTTP}",
            "protocol: HTTP, websocket: {idleTimeout: 300ms}}",
        )
        .replace(
            "protocol: HTTPS}",
            "protocol: HTTPS, websocket: {idleTimeout: 0s}}",
        );
    let inline = "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {name: own, namespace: default}
spec:
  exposure: Host
  listeners: [{name: own, port: 81, protocol: HTTP, websocket: {idleTimeout: 1h}}]
  rules:
  - {hosts: [ws.example], backends: [{service: {name: pod, port: 80}}], websocket: {idleTimeout: 300ms}}
  - {hosts: [never.example], backends: [{service: {name: pod, port: 80}}], websocket: {idleTimeout: 0s}}
  - {hosts: [inherits.example], backends: [{service: {name: pod, port: 80}}]}
";
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy_of(&pod, "", &edge).await;
        holdfast.write("own.yaml", inline).await;
        let mut kept = Vec::new();
        for (listener, tls, host) in [
            ("https", true, HOST),
            ("own", false, "never.example"),
            ("own", false, "inherits.example"),
        ] {
            kept.push(pair(holdfast.address(listener), tls, host, &pod).await);
        }
        for listener in ["http", "own"] {
            let began = std::time::Instant::now();
            let (mut client, mut server) =
                pair(holdfast.address(listener), false, HOST, &pod).await;
            // A frame of either peer, of any kind, keeps it open: longer than the timeout in all.
            for round in 0..4 {
                assert!(client.is_silent(Duration::from_millis(150)).await);
                if round % 2 == 0 {
                    client.send(&frame(PING, true, b"")).await;
                    assert_eq!(server.frame().await.first, PING);
                } else {
                    server.send(&frame(PONG, false, b"")).await;
                    assert_eq!(client.frame().await.first, PONG);
                }
            }
            let goodbye = (1001, "idle timeout".to_owned());
            assert_eq!(client.close_frame().await, goodbye);
            let told = server.frame().await;
            assert!(told.masked);
            assert_eq!(told.first, CLOSE);
            assert_eq!(told.payload, b"\x03\xe9idle timeout");
            assert!(began.elapsed() >= Duration::from_millis(850));
            client.send(&close(true, 1001, "")).await;
            client.ended().await;
        }
        for (client, server) in &mut kept {
            let text = frame(TEXT, true, b"still here");
            client.send(&text).await;
            assert_eq!(server.read(text.len()).await, text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_vanishes_is_told_to_the_client() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for (listener, tls) in BOTH {
            let (mut client, mut server) = pair(holdfast.address(listener), tls, HOST, &pod).await;
            let last = frame(TEXT, false, b"last words");
            server.send(&last).await;
            drop(server);
            assert_eq!(client.read(last.len()).await, last);
            assert_eq!(
                client.close_frame().await,
                (1011, "backend gone".to_owned())
            );
            client.send(&close(true, 1011, "")).await;
            client.ended().await;
        }
        // In the middle of a frame there is nothing that could truthfully be said.
        for (listener, tls) in BOTH {
            let (mut client, mut server) = pair(holdfast.address(listener), tls, HOST, &pod).await;
            let torn = &frame(TEXT, false, &[b't'; 1000])[..500];
            server.send(torn).await;
            drop(server);
            assert_eq!(client.read(500).await, torn);
            client.ended().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_vanishes_is_told_to_the_pod() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        for (listener, tls) in BOTH {
            let (mut client, mut server) = pair(holdfast.address(listener), tls, HOST, &pod).await;
            let last = frame(TEXT, true, b"last words");
            client.send(&last).await;
            drop(client);
            assert_eq!(server.read(last.len()).await, last);
            let told = server.frame().await;
            let expected = Frame {
                first: CLOSE,
                masked: true,
                payload: b"\x03\xe9client gone".to_vec(),
            };
            assert_eq!(told, expected);
            server.send(&close(false, 1001, "")).await;
            server.ended().await;
        }
        within("no tunnel is left", holdfast.app.tunnels().wait_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_during_the_handshake_leaves_nothing_behind() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let mut client = dial(holdfast.address("http"), false).await;
        client.send(handshake(HOST, "").as_bytes()).await;
        let mut server = pod.accept().await;
        drop(client);
        // The pod answers somebody who has gone: it is told so, or its connection ends.
        let answer = switching("");
        drop(server.stream.write_all(answer.as_bytes()).await);
        let rest = within("the end of the pod's connection", async {
            let mut rest = Vec::new();
            drop(tokio::io::AsyncReadExt::read_to_end(&mut server.stream, &mut rest).await);
            rest
        });
        let rest = rest.await;
        assert!(rest.is_empty() || rest[0] == CLOSE, "{rest:?}");
        drop(server);
        within("no tunnel is left", holdfast.app.tunnels().wait_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn counters_tell_what_was_sent_while_sockets_are_open_and_after() {
    limited(async {
        let any = "127.0.0.1:0".parse().unwrap();
        let pods = Pods::start(&[any], &[], CancellationToken::new())
            .await
            .unwrap();
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("echo.yaml", &service("echo", "", pods.echo_addresses())),
            ("ingress.yaml", &ingress("echo", HOST, "echo")),
        ])
        .await;
        let mut clients = Vec::new();
        for (listener, tls) in BOTH {
            clients.push(open(holdfast.address(listener), tls, HOST).await);
        }
        for client in &mut clients {
            for number in 0..20 {
                client.echo(&format!("message {number:04}")).await;
            }
            client.send(&frame(PING, true, b"p")).await;
            assert_eq!(client.frame().await.first, PONG);
        }
        // A text frame of 12 bytes has 2 bytes of head, and 4 of mask from the client.
        // Counted behind the write, so a moment after the peer has it.
        let views = soon("all is counted", async || {
            let views = holdfast.app.tunnels().list();
            let all = |view: &TunnelView| (view.from_client.frames, view.from_pod.frames);
            views
                .iter()
                .all(|view| all(view) == (21, 21))
                .then_some(views)
        })
        .await;
        assert_eq!(views.len(), 2);
        for view in &views {
            let (up, down) = (&view.from_client, &view.from_pod);
            assert_eq!((up.text, up.pings, up.frames), (20, 1, 21));
            assert_eq!((down.text, down.pongs, down.frames), (20, 1, 21));
            assert_eq!((up.bytes, down.bytes), (20 * 18 + 7, 20 * 14 + 3));
        }
        for client in &mut clients {
            client.send(&close(true, 1000, "")).await;
            assert_eq!(client.close_frame().await.0, 1000);
            client.ended().await;
        }
        drop(clients);
        within("no tunnel is left", holdfast.app.tunnels().wait_empty()).await;
        let totals = holdfast.app.tunnels().totals();
        let text: u64 = totals.iter().map(|route| route.from_client.text).sum();
        assert_eq!(text, 40);
        pods.stop().await;
    })
    .await;
}
