//! Every setting of `websocket` on the wire: what a rule says goes before what its listener says.

use std::time::Duration;

use holdfast::shutdown::Windows;

use crate::harness::{EDGE, Holdfast, ingress, service, soon};
use crate::peers::{
    BINARY, PING, PONG, RawPod, TEXT, dial, frame, handshake, pair, request, switching,
};
use crate::websocket::limited;

/// An Ingress's host, with what the listener says; and a rule's, with what that says.
const HOST: &str = "listener.example";
const RULE: &str = "rule.example";

async fn start(pod: &RawPod, listener: &str, rule: &str) -> Holdfast {
    let edge = EDGE.replace(
        "protocol: HTTP}\n",
        &format!("protocol: HTTP, websocket: {{{listener}}}}}\n"),
    );
    let edge = edge.replace(
        "---\n",
        &format!(
            "  rules:\n  - hosts: [{RULE}]\n    websocket: {{{rule}}}\n    backends: [{{service: {{name: \
             pod, port: 80}}}}]\n---\n"
        ),
    );
    let own = service("pod", "", &[pod.address]).replace("default", "edge");
    let manifests = [
        ("edge.yaml", edge.as_str()),
        ("pod.yaml", &service("pod", "", &[pod.address])),
        ("own.yaml", &own),
        ("ingress.yaml", &ingress("pod", HOST, "pod")),
    ];
    Holdfast::start_with(&manifests, |config| config.windows = Windows::default()).await
}

#[tokio::test]
async fn keepalive_pings_find_a_dead_peer_and_keep_a_living_one() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(
            &pod,
            "idleTimeout: 1s, keepalive: {interval: 100ms, timeout: 30s, peers: Client}",
            "idleTimeout: 0s, keepalive: {interval: 100ms, timeout: 300ms, peers: Pod}",
        )
        .await;
        let address = holdfast.address("http");
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        for _ in 0..20 {
            let ping = client.frame().await;
            assert_eq!(
                (ping.first, ping.masked, ping.payload.len()),
                (PING, false, 12)
            );
            client.send(&frame(PONG, true, &ping.payload)).await;
        }
        let text = frame(TEXT, true, b"still here");
        client.send(&text).await;
        assert_eq!(
            server.read(text.len()).await,
            text,
            "the pod has seen no pong"
        );

        let (mut client, mut server) = pair(address, false, RULE, &pod).await;
        let ping = server.frame().await;
        assert_eq!(
            (ping.first, ping.masked, ping.payload.len()),
            (PING, true, 12)
        );
        assert_eq!(
            client.close_frame().await,
            (1011, "no answer to pings".to_owned())
        );

        let page = crate::admin::page(&holdfast, "/metrics").await;
        let count = |peer: &str| {
            let name = format!("websocket_round_trip_seconds_count{{peer=\"{peer}\"}} ");
            let line = page
                .lines()
                .find_map(|line| line.split_once(&name))
                .unwrap();
            line.1.parse::<u64>().unwrap()
        };
        assert!(count("client") >= 20 && count("pod") == 0);
        drop((client, server));
        soon("it is counted", async || {
            let page = crate::admin::page(&holdfast, "/metrics").await;
            page.contains("cause=\"keepalive_timeout\"").then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_too_old_is_asked_to_reconnect() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(
            &pod,
            "maxAge: {duration: 1h}",
            "maxAge: {duration: 300ms, jitterPercent: 0}",
        )
        .await;
        let address = holdfast.address("http");
        let (mut young, mut its_pod) = pair(address, false, HOST, &pod).await;
        let (mut old, _server) = pair(address, false, RULE, &pod).await;
        let (code, reason) = old.close_frame().await;
        assert_eq!((code, &*reason), (1012, "age limit, please reconnect"));
        let text = frame(TEXT, true, b"an hour");
        young.send(&text).await;
        assert_eq!(its_pod.read(text.len()).await, text);
    })
    .await;
}

#[tokio::test]
async fn what_is_too_big_or_too_fast_is_closed_with_its_code() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(
            &pod,
            "limits: {messageSize: 1Ki, frameSize: 2Ki}",
            "limits: {messagesPerSecond: 3, enforce: Close}",
        )
        .await;
        let address = holdfast.address("http");
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        let good = frame(BINARY, true, &[7; 1024]);
        client.send(&good).await;
        assert_eq!(server.read(good.len()).await, good);
        client.send(&frame(BINARY, true, &[7; 1025])).await;
        assert_eq!(
            client.close_frame().await,
            (1009, "message too big".to_owned())
        );
        assert_eq!(server.close_frame().await.0, 1001);

        let (mut client, mut server) = pair(address, false, RULE, &pod).await;
        let text = frame(TEXT, true, b"x");
        client.send(&text.repeat(10)).await;
        assert_eq!(client.close_frame().await.0, 1008);
        let frames = server.frame().await;
        assert_eq!(frames.payload, b"x");
    })
    .await;
}

#[tokio::test]
async fn only_origins_that_are_named_may_open_a_websocket() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(
            &pod,
            "origins: ['https://*.example.com']",
            "origins: ['https://app.example.com']",
        )
        .await;
        let address = holdfast.address("http");
        for (host, origin, admitted) in [
            (HOST, "Origin: https://a.example.com\r\n", true),
            (HOST, "Origin: https://evil.com\r\n", false),
            (HOST, "Origin: null\r\n", false),
            (HOST, "", true),
            (RULE, "Origin: https://app.example.com\r\n", true),
            (RULE, "Origin: https://a.example.com\r\n", false),
            (
                RULE,
                "Origin: https://app.example.com\r\nOrigin: https://evil.com\r\n",
                false,
            ),
        ] {
            let wanted = handshake(host, origin);
            if admitted {
                let (client, _server) =
                    tokio::join!(request(address, false, &wanted), pod.upgrade());
                assert!(
                    client.head.starts_with("HTTP/1.1 101 "),
                    "{origin}: {}",
                    client.head
                );
            } else {
                let refused = request(address, false, &wanted).await;
                assert!(
                    refused.head.starts_with("HTTP/1.1 403 "),
                    "{origin}: {}",
                    refused.head
                );
            }
        }
        // Other requests are for CORS, which is the pod's.
        let mut client = dial(address, false).await;
        let plain = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: https://evil.com\r\n\r\n");
        client.send(plain.as_bytes()).await;
        pod.accept().await;
    })
    .await;
}

#[tokio::test]
async fn pods_are_offered_the_subprotocols_that_are_named() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(
            &pod,
            "subprotocols: [chat.v2, chat.v3]",
            "subprotocols: [mqtt]",
        )
        .await;
        let address = holdfast.address("http");
        for (host, offered, passed) in [
            (HOST, "chat.v1, chat.v2,chat.v3", Some("chat.v2, chat.v3")),
            (HOST, "chat.v1", None),
            (RULE, "chat.v2, mqtt", Some("mqtt")),
        ] {
            let wanted = handshake(host, &format!("Sec-WebSocket-Protocol: {offered}\r\n"));
            let client = request(address, false, &wanted);
            let server = async {
                let mut server = pod.accept().await;
                server.send(switching("").as_bytes()).await;
                server
            };
            let (_client, server) = tokio::join!(client, server);
            let head = server.head.to_ascii_lowercase();
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            assert_eq!(line, passed, "{offered}");
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_come_no_faster_than_they_may() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, "limits: {bytesPerSecond: 20000}", "").await;
        let (mut client, mut server) = pair(holdfast.address("http"), false, HOST, &pod).await;
        let message = frame(BINARY, true, &[7; 1000]);
        let all = message.repeat(50);
        let began = std::time::Instant::now();
        let sent = all.clone();
        let sending = tokio::spawn(async move {
            client.send(&sent).await;
            client
        });
        assert_eq!(server.read(all.len()).await, all);
        // 50 kB, of which the first 20 are free.
        assert!(
            began.elapsed() > Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
        sending.await.unwrap();
        soon("it is still open", async || {
            (holdfast.app.tunnels().len() == 1).then_some(())
        })
        .await;
    })
    .await;
}
