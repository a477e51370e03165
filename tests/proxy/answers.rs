//! Answers of pods that are wrong, and answers of our own.

use std::time::Duration;

use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use tokio::net::TcpStream;

use crate::fixture::{edge, edge_with_spec, front, front_with, get, request, within};
use crate::harness::{EDGE, Holdfast, ingress, service, slice};
use crate::pod::{OK, Pod};
use crate::wire::{Kind, Message};

/// An error of ours: this status and reason, with an id in header and text.
pub fn assert_ours(answer: &Message, status: u16, reason: &str) {
    assert_eq!(answer.status(), status, "{}{}", answer.head, answer.text());
    let id = answer.field("x-request-id").unwrap();
    let text = answer.text();
    assert!(text.contains(reason), "{text}");
    assert!(text.ends_with(&format!("\nrequest id: {id}\n")), "{text}");
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("server"), Some("holdfast"));
    let wait = answer
        .field("retry-after")
        .map(|wait| wait.parse().unwrap());
    match wait {
        Some(1..=5) => assert_eq!(status, 503),
        Some(other) => panic!("retry-after: {other}"),
        None => assert_ne!(status, 503),
    }
}

#[tokio::test]
async fn answers_that_could_be_framed_in_two_ways_are_502() {
    within(async {
        for head in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\r\nContent-Length: +5",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 6",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
            "HTTP/1.1 200 OK\r\nContent-Length: x",
            "HTTP/1.1 200 OK\r\nX-A: 1\r\n folded",
            "HTTP/1.1 200 OK\r\nX-A : 1",
            "HTTP/1.1 200 OK\r\nX-A: 1\0",
            "HTTP/1.1 20 OK",
            "HTTP/3.0 200 OK",
            "ICY 200 OK",
            "hello",
        ] {
            let pod = Pod::answering(format!("{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
            let holdfast = front(&[pod.address]).await;
            let mut client = holdfast.client().await;
            let answer = client
                .ask(request("GET /", &["X-Request-Id: id"], ""))
                .await;
            assert_eq!(answer.status(), 502, "{head:?}: {}", answer.head);
            assert_ours(&answer, 502, "pod_protocol_error");
            assert_eq!(answer.field("x-request-id"), Some("id"));
            // Not the client's fault: its connection goes on.
            assert_eq!(client.ask(get("/")).await.status(), 502);
        }
    })
    .await;
}

#[tokio::test]
async fn heads_of_answers_have_a_bound() {
    within(async {
        let endless = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: {}\r\n\r\n",
            "a".repeat(70_000)
        );
        let pod = Pod::answering(endless).await;
        let holdfast = front(&[pod.address]).await;
        let answer = holdfast.client().await.ask(get("/")).await;
        assert_ours(&answer, 502, "pod_protocol_error");
        // As many fields as a client may send.
        let fields: String = (0..95).map(|n| format!("X-{n}: 1\r\n")).collect();
        let many = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
        let pod = Pod::answering(many).await;
        let holdfast = front(&[pod.address]).await;
        assert_eq!(holdfast.client().await.ask(get("/")).await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn chunks_go_before_a_pods_length() {
    within(async {
        let pod = Pod::answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
        )
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        for _ in 0..2 {
            let answer = client.ask(get("/")).await;
            assert_eq!(answer.text(), "hello");
            assert_eq!(answer.field("content-length"), None);
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_an_answer_never_answer_another_client() {
    within(async {
        let pod = Pod::answering(format!(
            "{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        ))
        .await;
        let holdfast = front(&[pod.address]).await;
        for _ in 0..10 {
            assert_eq!(holdfast.client().await.ask(get("/")).await.text(), "ok");
        }
        assert_eq!(pod.connections(), 10);
    })
    .await;
}

#[tokio::test]
async fn interim_answers_of_a_pod_are_passed_over() {
    within(async {
        let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let pod = Pod::answering(format!("{hints}{OK}")).await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        for _ in 0..2 {
            assert_eq!(client.ask(get("/")).await.text(), "ok");
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_no_route_is_404_and_the_connection_stays() {
    within(async {
        let pod = Pod::answering(OK).await;
        let only_a = ingress("app", "app.example", "app").replace("path: /,", "path: /a,");
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("app.yaml", &service("app", "", &[pod.address])),
            ("ingress.yaml", &only_a),
        ])
        .await;
        let mut client = holdfast.client().await;
        let answer = client
            .ask("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
            .await;
        assert_ours(&answer, 404, "no_route_for_host");
        assert_ours(&client.ask(get("/b")).await, 404, "no_route_for_path");
        assert_eq!(client.ask(get("/a")).await.status(), 200);
        let bad = client.ask(get("/a/../b")).await;
        assert_ours(&bad, 400, "path_dot_segment");
        assert_eq!(bad.field("connection"), Some("close"));
    })
    .await;
}

#[tokio::test]
async fn backends_that_cannot_serve_are_503() {
    within(async {
        let external = "apiVersion: v1\nkind: Service\nmetadata: {name: external, namespace: default}\n\
             spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}\n";
        let rules = "  rules:\n  - {hosts: [zero.example], backends: [{service: {name: app, port: 80}, weight: 0}]}\n";
        let unready = slice("app-0", "app", "127.0.0.1:1".parse().unwrap(), "ready: false");
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge_with_spec(rules)),
            ("external.yaml", external),
            ("app.yaml", &service("app", "", &[])),
            ("slice.yaml", &unready),
            ("a.yaml", &ingress("missing", "missing.example", "missing")),
            ("b.yaml", &ingress("external", "external.example", "external")),
            ("c.yaml", &ingress("empty", "empty.example", "app")),
            ("d.yaml", &ingress("port", "port.example", "app").replace("number: 80", "number: 81")),
        ])
        .await;
        let mut client = holdfast.client().await;
        for (host, reason) in [
            ("missing.example", "service_not_found"),
            ("external.example", "backend_unsupported"),
            ("empty.example", "no_ready_endpoint"),
            ("port.example", "service_port_not_found"),
            ("zero.example", "no_backend_with_weight"),
        ] {
            let answer = client.ask(get("/").replace("app.example", host)).await;
            assert_ours(&answer, 503, reason);
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_refuses_or_breaks_off_is_502() {
    within(async {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = gone.local_addr().unwrap();
        drop(gone);
        let holdfast = front(&[address]).await;
        let answer = holdfast.client().await.ask(get("/")).await;
        assert_ours(&answer, 502, "pod_connect_failed");

        for start in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-"] {
            let pod = Pod::answering_once(start).await;
            let holdfast = front(&[pod.address]).await;
            let answer = holdfast.client().await.ask(get("/")).await;
            assert_ours(&answer, 502, "pod_closed");
            assert_eq!(pod.connections(), 1, "asked again");
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_does_not_answer_is_504_and_loses_its_connection() {
    within(async {
        let (gone, mut told) = tokio::sync::mpsc::channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let gone = gone.clone();
            async move {
                wire.message(Kind::Request).await.unwrap();
                wire.end().await;
                gone.try_send(()).unwrap();
            }
        })
        .await;
        let holdfast = front_with(&edge(", timeouts: {request: 300ms}"), &[pod.address]).await;
        let mut client = holdfast.client().await;
        let answer = client.ask(get("/")).await;
        assert_ours(&answer, 504, "pod_response_timeout");
        told.recv().await.unwrap();
        assert_eq!(client.ask(get("/")).await.status(), 504);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_in_time_is_408() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front_with(&edge(", timeouts: {request: 300ms}"), &[pod.address]).await;
        let mut client = holdfast.client().await;
        let answer = client
            .ask(request("POST /", &["Content-Length: 10"], "hello"))
            .await;
        assert_ours(&answer, 408, "client_timeout");
        assert_eq!(answer.field("connection"), Some("close"));
        client.end().await;
    })
    .await;
}

/// An address that takes no more connections, and what keeps it so.
pub async fn black_hole() -> (SocketAddr, impl Drop) {
    struct Held(#[expect(dead_code, reason = "held")] Socket, Vec<TcpStream>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.1.clear();
        }
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    loop {
        assert!(held.len() < 16, "the queue has no end");
        let connect = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(stream) => held.push(stream.unwrap()),
            Err(_) => return (address, Held(socket, held)),
        }
    }
}

#[tokio::test]
async fn a_pod_that_does_not_accept_is_504_or_the_next_ones_turn() {
    within(async {
        let (hole, _held) = black_hole().await;
        let quick = edge(", timeouts: {connect: 200ms}");
        let holdfast = front_with(&quick, &[hole]).await;
        let answer = holdfast.client().await.ask(get("/")).await;
        assert_ours(&answer, 504, "pod_connect_timeout");

        let pod = Pod::answering(OK).await;
        let holdfast = front_with(&quick, &[hole, pod.address]).await;
        for _ in 0..4 {
            let answer = holdfast.client().await.ask(get("/")).await;
            assert_eq!(answer.text(), "ok");
        }
    })
    .await;
}
