//! How WebSockets that are streams of HTTP/2 connections end.

use std::time::{Duration, Instant};

use h2::Reason;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::fixture::edge;
use crate::harness::EDGE;
use crate::http2_client::{Client, connect};
use crate::http2_websocket::proxy_of;
use crate::peers::{CLOSE, Peer, RawPod, TEXT, close, frame, within};
use crate::websocket::{HOST, limited, proxy};

/// The pod's end when its client has gone without a Close.
async fn told_gone(server: &mut Peer) {
    let told = server.frame().await;
    assert!(told.masked);
    assert_eq!(
        (told.first, &*told.payload),
        (CLOSE, &b"\x03\xe9client gone"[..])
    );
    server.send(&close(false, 1001, "")).await;
    server.ended().await;
}

#[tokio::test]
async fn end_stream_and_reset_of_the_client_are_the_end_of_its_socket() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let last = frame(TEXT, true, b"last words");
        // END_STREAM without a Close: the pod is told, and what it still says arrives.
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        one.send(&last).await;
        one.finish().await;
        assert_eq!(server.read(last.len()).await, last);
        let told = server.frame().await;
        assert_eq!(told.payload, b"\x03\xe9client gone");
        let answer = [frame(TEXT, false, b"late"), close(false, 1001, "")].concat();
        server.send(&answer).await;
        assert_eq!(one.rest().await, answer);
        server.ended().await;
        // END_STREAM behind a Close: half-closed, as with TCP.
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        let farewell = close(true, 1000, "done");
        one.send(&farewell).await;
        one.finish().await;
        assert_eq!(server.read(farewell.len()).await, farewell);
        let last_of_pod = [frame(TEXT, false, b"last"), close(false, 1000, "")].concat();
        server.send(&last_of_pod).await;
        drop(server);
        assert_eq!(one.rest().await, last_of_pod);
        // Resets, also in the middle of a frame.
        for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
            let (mut stream, mut server) = client.stream_pair(HOST, &pod).await;
            stream.write_all(&last).await.unwrap();
            assert_eq!(server.read(last.len()).await, last);
            stream.send.send_reset(reason);
            told_gone(&mut server).await;
        }
        within("no tunnel is left", holdfast.app.tunnels().wait_empty()).await;
        // The connection has seen none of it.
        client.pair(HOST, &pod).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_vanishes_ends_its_stream_alone() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut other, _other_server) = client.pair(HOST, &pod).await;
        let (stream, mut server) = client.stream_pair(HOST, &pod).await;
        let mut one = Peer::new(Box::new(stream));
        let last = frame(TEXT, false, b"last words");
        server.send(&last).await;
        drop(server);
        assert_eq!(one.read(last.len()).await, last);
        assert_eq!(one.close_frame().await, (1011, "backend gone".to_owned()));
        one.send(&close(true, 1011, "")).await;
        one.ended().await;
        // In the middle of a frame there is nothing that could truthfully be said.
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        let torn = &frame(TEXT, false, &[b't'; 1000])[..500];
        server.send(torn).await;
        drop(server);
        assert_eq!(one.read(500).await, torn);
        one.ended().await;
        assert!(other.is_silent(Duration::from_millis(50)).await);
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_websocket_and_the_idle_timeout_of_http_does_not() {
    limited(async {
        let pod = RawPod::start().await;
        let edge = edge(", timeouts: {idle: 500ms}, websocket: {idleTimeout: 2500ms}");
        let holdfast = proxy_of(&pod, &edge).await;
        let client = Client::connect(&holdfast, HOST).await;
        let began = Instant::now();
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        assert_eq!(one.close_frame().await, (1001, "idle timeout".to_owned()));
        assert!(began.elapsed() >= Duration::from_millis(2500));
        assert_eq!(server.frame().await.payload, b"\x03\xe9idle timeout");
        one.send(&close(true, 1001, "")).await;
        one.ended().await;
        server.send(&close(false, 1001, "")).await;
        server.ended().await;
        // Now nothing is served on it any more.
        client.went_away().await;
    })
    .await;
}

#[tokio::test]
async fn a_removed_listener_ends_its_websockets_first_and_then_the_connection() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        let without = EDGE.replace("  - {name: https, port: 443, protocol: HTTPS}\n", "");
        assert_ne!(without, EDGE);
        let without = without.replace(
            "  exposure: Host\n",
            "  exposure: Host\n  connectionDrain: {timeout: 200ms}\n",
        );
        holdfast.write("edge.yaml", &without).await;
        assert_eq!(
            one.close_frame().await,
            (1001, "listener removed".to_owned())
        );
        assert_eq!(server.frame().await.payload, b"\x03\xe9listener removed");
        // The connection waits for the last word.
        let answer = close(true, 1001, "");
        one.send(&answer).await;
        server.send(&close(false, 1001, "")).await;
        one.ended().await;
        server.ended().await;
        client.went_away().await;
    })
    .await;
}

#[tokio::test]
async fn shutdown_says_1001_on_every_stream() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let mut waits = JoinSet::new();
        for _ in 0..20 {
            let (mut one, mut server) = client.pair(HOST, &pod).await;
            waits.spawn(async move {
                let goodbye = one.close_frame().await;
                assert_eq!(goodbye, (1001, "proxy shutting down".to_owned()));
                assert_eq!(server.frame().await.payload, b"\x03\xe9proxy shutting down");
                server.send(&close(false, 1001, "")).await;
                one.send(&close(true, 1001, "")).await;
                one.ended().await;
                server.ended().await;
            });
        }
        let drained = holdfast.app.shutdown().await;
        assert!(drained.clean);
        assert_eq!(drained.tunnels, 20);
        waits.join_all().await;
        client.went_away().await;
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_is_reset_is_cancelled_at_the_pod() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let mut sender = client.sender.clone().ready().await.unwrap();
        let (response, mut send) = sender.send_request(connect(HOST), false).unwrap();
        let mut server = pod.accept().await;
        send.send_reset(Reason::CANCEL);
        drop(response);
        server.ended().await;
        assert!(holdfast.app.tunnels().is_empty());
    })
    .await;
}
