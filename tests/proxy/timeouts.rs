//! Slow, silent and stalled clients, and the settings that say how slow is too slow.

use std::time::{Duration, Instant};

use holdfast::proxy::clock::Deadlines;
use tokio::net::TcpStream;

use crate::answers::{assert_ours, black_hole};
use crate::fixture::{edge, edge_with_spec, front, front_with, get, request, within};
use crate::harness::{EDGE, Holdfast, ingress, service};
use crate::pod::{OK, Pod};
use crate::wire::{Kind, Wire};

const SHORT: Deadlines = Deadlines {
    tls_handshake: Duration::from_millis(400),
    head: Duration::from_millis(400),
    stall: Duration::from_millis(400),
};

async fn impatient(pods: &[std::net::SocketAddr]) -> Holdfast {
    let manifests = [
        ("edge.yaml", EDGE),
        ("app.yaml", &service("app", "", pods)),
        ("ingress.yaml", &ingress("app", "app.example", "app")),
    ];
    Holdfast::start_with(&manifests, |config| config.deadlines = SHORT).await
}

#[tokio::test]
async fn idle_connections_end_at_the_listeners_timeout() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front_with(&edge(", timeouts: {idle: 500ms}"), &[pod.address]).await;
        let mut silent = holdfast.client().await;
        let mut used = holdfast.client().await;
        assert_eq!(used.ask(get("/")).await.status(), 200);
        let began = Instant::now();
        assert_eq!(used.ask(get("/")).await.status(), 200);
        for client in [&mut used, &mut silent] {
            let ended = client.end().await;
            assert!(!ended.reset && ended.rest.is_empty(), "{ended:?}");
        }
        assert!(began.elapsed() >= Duration::from_millis(450));
        assert!(began.elapsed() < Duration::from_secs(10));
    })
    .await;
}

#[tokio::test]
async fn a_request_in_flight_is_not_idle() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            wire.head().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
            wire.send(OK).await;
        })
        .await;
        let holdfast = front_with(&edge(", timeouts: {idle: 200ms}"), &[pod.address]).await;
        assert_eq!(holdfast.client().await.ask(get("/")).await.text(), "ok");
    })
    .await;
}

#[tokio::test]
async fn a_head_that_trickles_ends_with_408() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = impatient(&[pod.address]).await;
        for start in ["GET / HT", "G", "GET / HTTP/1.1\r\nHost: app.example\r\n"] {
            let mut client = holdfast.client().await;
            let began = Instant::now();
            let answer = client.ask(start).await;
            assert_ours(&answer, 408, "head_timeout");
            assert_eq!(answer.field("connection"), Some("close"));
            assert!(!client.end().await.reset);
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{:?}",
                began.elapsed()
            );
        }
        // The clock of the second head starts with its own first byte.
        let mut client = holdfast.client().await;
        assert_eq!(client.ask(get("/")).await.status(), 200);
        assert_ours(&client.ask("GET /").await, 408, "head_timeout");
    })
    .await;
}

#[tokio::test]
async fn a_long_idle_timeout_does_not_make_a_long_head_timeout() {
    within(async {
        let manifests = [("edge.yaml", &*edge(", timeouts: {idle: 1h}"))];
        let holdfast = Holdfast::start_with(&manifests, |config| config.deadlines = SHORT).await;
        let answer = holdfast.client().await.ask("GET /").await;
        assert_ours(&answer, 408, "head_timeout");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stalls_ends_and_the_pods_request_with_it() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = impatient(&[pod.address]).await;
        let mut client = holdfast.client().await;
        client
            .send(request("POST /", &["Content-Length: 10"], "hello"))
            .await;
        let ended = client.end().await;
        let seen = String::from_utf8_lossy(&ended.rest).into_owned();
        assert!(
            seen.is_empty() || seen.starts_with("HTTP/1.1 408 "),
            "{seen}"
        );
        // One that is slow but moves is served.
        let mut client = holdfast.client().await;
        client
            .send(request("POST /", &["Content-Length: 10"], ""))
            .await;
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..10 {
            ticks.tick().await;
            client.send("a").await;
        }
        assert_eq!(client.answer().await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_let_go() {
    within(async {
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                use tokio::io::AsyncWriteExt;
                wire.head().await.unwrap();
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                    .await;
                let block = vec![0; 64 * 1024];
                while wire.stream.write_all(&block).await.is_ok() {}
                told.send(()).unwrap();
            }
        })
        .await;
        let holdfast = impatient(&[pod.address]).await;
        let mut client = holdfast.client().await;
        client.send(get("/")).await;
        hear.recv().await.unwrap();
        assert!(client.end().await.reset);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_silent_in_the_handshake_is_let_go() {
    within(async {
        let holdfast = impatient(&[]).await;
        for start in [&b""[..], &b"\x16\x03\x01\x02\x00"[..]] {
            let mut client =
                Wire::new(TcpStream::connect(holdfast.address("https")).await.unwrap());
            client.send(start).await;
            client.end().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_defaults_end_slow_clients() {
    let Deadlines {
        tls_handshake,
        head,
        stall,
    } = Deadlines::default();
    assert_eq!(
        (tls_handshake.as_secs(), head.as_secs(), stall.as_secs()),
        (10, 10, 60)
    );
}

#[tokio::test]
async fn a_rule_goes_before_its_listener() {
    within(async {
        let (hole, _held) = black_hole().await;
        let silent = Pod::serving(|mut wire, _| async move {
            wire.message(Kind::Request).await.unwrap();
            wire.end().await;
        })
        .await;
        let late = Pod::serving(|mut wire, _| async move {
            wire.message(Kind::Request).await.unwrap();
            tokio::time::sleep(Duration::from_millis(900)).await;
            wire.send(OK).await;
        })
        .await;
        let rules = "  rules:
  - hosts: [silent.example]
    backends: [{service: {name: silent, port: 80}}]
    timeouts: {request: 200ms}
  - hosts: [hole.example]
    backends: [{service: {name: hole, port: 80}}]
    timeouts: {connect: 200ms}
  - hosts: [late.example]
    backends: [{service: {name: late, port: web}}]
    timeouts: {request: 0s}
";
        // The listener's own are the other way round.
        let edge = edge_with_spec(rules).replace(
            "protocol: HTTP}",
            "protocol: HTTP, timeouts: {request: 500ms, connect: 1h}}",
        );
        let in_edge =
            |name, pod| service(name, "", &[pod]).replace("namespace: default", "namespace: edge");
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge),
            ("silent.yaml", &in_edge("silent", silent.address)),
            ("hole.yaml", &in_edge("hole", hole)),
            ("late.yaml", &in_edge("late", late.address)),
        ])
        .await;
        let ask = async |host: &str| {
            let began = Instant::now();
            let answer = holdfast
                .client()
                .await
                .ask(get("/").replace("app.example", host))
                .await;
            (answer, began.elapsed())
        };
        let (answer, took) = ask("silent.example").await;
        assert_ours(&answer, 504, "pod_response_timeout");
        assert!(took < Duration::from_millis(480), "{took:?}");
        // The request's clock runs while connecting as well.
        let (answer, took) = ask("hole.example").await;
        assert_ours(&answer, 504, "pod_connect_timeout");
        assert!(took < Duration::from_millis(480), "{took:?}");
        let (answer, _) = ask("late.example").await;
        assert_eq!(answer.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_request_without_limit_waits() {
    within(async {
        let late = Pod::serving(|mut wire, _| async move {
            wire.message(Kind::Request).await.unwrap();
            tokio::time::sleep(Duration::from_millis(600)).await;
            wire.send(OK).await;
        })
        .await;
        let never = front_with(&edge(", timeouts: {request: 0s}"), &[late.address]).await;
        assert_eq!(never.client().await.ask(get("/")).await.status(), 200);
        let unset = front(&[late.address]).await;
        assert_eq!(unset.client().await.ask(get("/")).await.status(), 200);
    })
    .await;
}
