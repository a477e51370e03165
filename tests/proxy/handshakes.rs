//! Opening handshakes through the whole proxy: what passes and what is refused.

use tokio::io::AsyncWriteExt;

use crate::peers::{
    BINARY, CLOSE, RawPod, TEXT, dial, frame, handshake, request, switching, within,
};
use crate::websocket::{BOTH, HOST, limited, proxy};

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
