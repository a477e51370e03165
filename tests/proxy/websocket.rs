//! WebSockets through the whole proxy: what passes, and how they end.

use std::time::Duration;

use holdfast::demo::Pods;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use holdfast::websocket::TunnelView;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, service, soon};
use crate::peers::{
    BINARY, CLOSE, Frame, PING, PONG, Peer, RawPod, TEXT, apply_mask, close, frame, frame_head,
    open, pair, within,
};

pub const HOST: &str = "ws.example";

/// A Holdfast in front of one raw pod.
pub async fn proxy(pod: &RawPod) -> Holdfast {
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

pub async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

pub const BOTH: [(&str, bool); 2] = [("http", false), ("https", true)];

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
