//! WebSockets over HTTP/2 whose peers are slow, stalled or hostile: what they hold up, and for how
//! long.

use std::time::{Duration, Instant};

use h2::Reason;
use holdfast::config::Config;
use http::Request;
use tokio::io::AsyncWriteExt;

use crate::fixture::edge;
use crate::harness::{EDGE, Holdfast, ingress, raw, service, soon};
use crate::http2_client::{Client, Stream, connect, switching_for};
use crate::http2_websocket::{only, proxy_of, proxy_with};
use crate::peers::{BINARY, PING, Peer, RawPod, TEXT, close, frame, within};
use crate::websocket::{HOST, limited, proxy};

/// A stalled answer ends the connection after a second.
fn impatient(config: &mut Config) {
    config.deadlines.stall = Duration::from_secs(1);
}

/// Writes until nothing is taken for a while, and answers how much was.
async fn fill(peer: &mut Peer, piece: &[u8], most: usize) -> usize {
    let mut sent = 0;
    loop {
        assert!(sent < most, "nothing holds the sender back");
        let write = peer.stream.write(&piece[sent % piece.len()..]);
        match tokio::time::timeout(Duration::from_millis(300), write).await {
            Ok(written) => sent += written.unwrap(),
            Err(_) => return sent,
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_one_stream_slowly_holds_that_pod_back_alone() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy_with(&pod, EDGE, impatient).await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut other, mut other_server) = client.pair(HOST, &pod).await;
        let mut slow = Vec::new();
        let message = frame(BINARY, false, &vec![5; 256 * 1024]);
        for _ in 0..4 {
            let (mut one, mut server) = client.pair(HOST, &pod).await;
            let sent = fill(&mut server, &message, 16 << 20).await;
            // Nothing of it is read here, and still the others move.
            let up = frame(TEXT, true, b"ping");
            other.send(&up).await;
            assert_eq!(other_server.read(up.len()).await, up);
            other_server.send(&frame(TEXT, false, b"pong")).await;
            assert_eq!(other.frame().await.payload, b"pong");
            // Its own way up is open as well.
            one.send(&up).await;
            assert_eq!(server.read(up.len()).await, up);
            slow.push((one, server, sent));
        }
        for (mut one, mut server, sent) in slow {
            let mut rest = message[sent % message.len()..].to_vec();
            let total = sent + rest.len();
            rest.extend_from_slice(&frame(TEXT, false, b"after"));
            let (_, ()) = tokio::join!(server.send(&rest), async {
                let mut received = 0;
                while received < total {
                    let at = received % message.len();
                    let chunk = one.read_some(message.len() - at).await;
                    assert!(!chunk.is_empty() && chunk == message[at..at + chunk.len()]);
                    received += chunk.len();
                }
            });
            assert_eq!(one.frame().await.payload, b"after");
        }
    })
    .await;
}

#[tokio::test]
async fn a_download_that_stalls_does_not_cut_the_websockets_beside_it() {
    limited(async {
        let pod = RawPod::start().await;
        let app = crate::pod::Pod::serving(|mut wire, _| async move {
            let _ = wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                .await;
            let block = vec![0; 64 * 1024];
            while wire.stream.write_all(&block).await.is_ok() {}
        })
        .await;
        let holdfast = proxy_with(&pod, EDGE, impatient).await;
        holdfast
            .write("app.yaml", &service("app", "", &[app.address]))
            .await;
        holdfast
            .write("second.yaml", &ingress("app", "app.example", "app"))
            .await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        let get = Request::get("https://app.example/").body(()).unwrap();
        let (_unread, _send) = client.ask(get).await.unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2500) {
            assert!(one.is_silent(Duration::from_millis(100)).await);
            let up = frame(PING, true, b"");
            one.send(&up).await;
            assert_eq!(server.read(up.len()).await, up);
        }
        // Alone it is as ever: let go.
        one.send(&close(true, 1000, "")).await;
        server.frame().await;
        server.send(&close(false, 1000, "")).await;
        one.close_frame().await;
        one.ended().await;
        let _ = within("the end", client.connection).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn pods_that_do_not_read_hold_up_their_own_streams_alone() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = proxy(&pod).await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut other, mut other_server) = client.pair(HOST, &pod).await;
        let message = frame(BINARY, true, &vec![5; 256 * 1024]);
        let mut slow = Vec::new();
        // Their windows together are many times that of a stream.
        for _ in 0..20 {
            let (mut one, server) = client.pair(HOST, &pod).await;
            let sent = fill(&mut one, &message, 16 << 20).await;
            slow.push((one, server, sent));
        }
        let up = frame(BINARY, true, &vec![7; 1 << 20]);
        let (received, ()) = tokio::join!(other_server.read(up.len()), other.send(&up));
        assert!(received == up);
        let (mut one, mut server, sent) = slow.pop().unwrap();
        let mut rest = message[sent % message.len()..].to_vec();
        let total = sent + rest.len();
        rest.extend_from_slice(&frame(TEXT, true, b"after"));
        let (received, ()) = tokio::join!(server.read(total), one.send(&rest));
        assert!(received.chunks(message.len()).all(|chunk| chunk == message));
        assert_eq!(server.frame().await.payload, b"after");
    })
    .await;
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_reset_when_its_time_is_up() {
    limited(async {
        let pod = RawPod::start().await;
        let edge = edge(", websocket: {idleTimeout: 1s}");
        let holdfast = proxy_of(&pod, &edge).await;
        let client = Client::connect(&holdfast, HOST).await;
        let (mut one, server) = client.stream_pair(HOST, &pod).await;
        let mut server = server;
        let message = frame(BINARY, false, &vec![5; 256 * 1024]);
        fill(&mut server, &message, 16 << 20).await;
        // The Close cannot reach a boundary: nobody takes what is before it.
        within("no tunnel is left", holdfast.app.tunnels().wait_empty()).await;
        drop(server);
        assert_eq!(one.reset().await, Some(Reason::CANCEL));
        // And the connection is as good as before.
        let (mut one, mut server) = client.pair(HOST, &pod).await;
        let up = frame(TEXT, true, b"up");
        one.send(&up).await;
        assert_eq!(server.read(up.len()).await, up);
    })
    .await;
}

/// A client that resets what it opens, as fast as it can: at once, or as soon as it is open.
async fn reset_in_a_loop(client: &Client, opens: bool) -> usize {
    for number in 0..100_000 {
        let Ok(mut sender) = client.sender.clone().ready().await else {
            return number;
        };
        let Ok((response, mut send)) = sender.send_request(connect(HOST), false) else {
            return number;
        };
        if opens && within("an answer", response).await.is_err() {
            return number;
        }
        // So that the request is on its way before the reset.
        tokio::task::yield_now().await;
        send.send_reset(Reason::CANCEL);
    }
    panic!("nothing ends the connection");
}

#[tokio::test]
async fn a_client_that_opens_and_resets_in_a_loop_is_ended() {
    limited(async {
        let pod = crate::pod::Pod::serving(|mut wire, _| async move {
            if let Ok(head) = wire.head().await {
                wire.send(switching_for(&head, "")).await;
                wire.end().await;
            }
        })
        .await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("pod.yaml", &service("pod", "", &[pod.address])),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ])
        .await;
        let kept = Client::connect(&holdfast, HOST).await;
        let (stream, _) = kept.stream(connect(HOST)).await;
        for opens in [true, false] {
            let before = pod.connections();
            let client = Client::connect(&holdfast, HOST).await;
            let resets = reset_in_a_loop(&client, opens).await;
            within("the end", client.connection).await.unwrap().ok();
            let connections = pod.connections() - before;
            assert!(connections < 500, "{connections} for {resets} resets");
        }
        // Only those who do it; and what they had opened is gone.
        soon("one tunnel is left", async || {
            (holdfast.app.tunnels().len() == 1).then_some(())
        })
        .await;
        let metrics = raw(
            holdfast.app.admin_address().unwrap(),
            b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(
            metrics.contains("holdfast_http2_reset_floods_total "),
            "{metrics}"
        );
        let mut stream: Stream = stream;
        stream.write_all(&frame(TEXT, true, b"here")).await.unwrap();
        soon("it moves", async || {
            (only(&holdfast).from_client.text == 1).then_some(())
        })
        .await;
    })
    .await;
}
