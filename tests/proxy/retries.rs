//! Connections to pods: kept, bounded, and tried again only where that is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::answers::assert_ours;
use crate::fixture::{front, get, request, within};
use crate::harness::{EDGE, Holdfast, ingress, service, soon};
use crate::pod::{OK, Pod};
use crate::wire::Kind;

/// A pod that answers the first request of each connection, and ends the first connection when it
/// has read a second one.
async fn closes_at_the_second() -> Pod {
    Pod::serving(|mut wire, number| async move {
        while wire.message(Kind::Request).await.is_ok() {
            wire.send(OK).await;
            if number == 0 {
                drop(wire.message(Kind::Request).await);
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_share_connections_to_a_pod() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        for _ in 0..5 {
            let mut client = holdfast.client().await;
            for _ in 0..5 {
                assert_eq!(client.ask(get("/")).await.status(), 200);
            }
        }
        assert_eq!(pod.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_that_the_pod_closes_costs_no_idempotent_request() {
    within(async {
        for line in ["GET /", "HEAD /", "OPTIONS /", "DELETE /"] {
            let pod = closes_at_the_second().await;
            let holdfast = front(&[pod.address]).await;
            let mut client = holdfast.client().await;
            assert_eq!(client.ask(get("/")).await.status(), 200);
            client.send(request(line, &[], "")).await;
            let kind = if line == "HEAD /" {
                Kind::AnswerToHead
            } else {
                Kind::Answer
            };
            assert_eq!(client.message(kind).await.unwrap().status(), 200, "{line}");
            assert_eq!(pod.connections(), 2);
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_upon_is_not_repeated() {
    within(async {
        for bytes in [
            request("POST /", &["Content-Length: 5"], "hello"),
            request("POST /", &[], ""),
            request("PATCH /", &["Content-Length: 5"], "hello"),
            // Idempotent, but its body is spent.
            request("PUT /", &["Content-Length: 5"], "hello"),
        ] {
            let pod = closes_at_the_second().await;
            let holdfast = front(&[pod.address]).await;
            let mut client = holdfast.client().await;
            assert_eq!(client.ask(get("/")).await.status(), 200);
            assert_ours(&client.ask(&bytes).await, 502, "pod_closed");
            assert_eq!(pod.connections(), 1, "{bytes}");
            // The next one is served.
            assert_eq!(client.ask(&bytes).await.status(), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_fresh_connection_that_the_pod_closes_is_not_tried_again() {
    within(async {
        let pods = [Pod::answering_once("").await, Pod::answering_once("").await];
        let holdfast = front(&[pods[0].address, pods[1].address]).await;
        assert_ours(
            &holdfast.client().await.ask(get("/")).await,
            502,
            "pod_closed",
        );
        assert_eq!(pods[0].connections() + pods[1].connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_a_pod_has_closed_is_not_used() {
    within(async {
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                wire.message(Kind::Request).await.unwrap();
                wire.send(OK).await;
                drop(wire);
                told.send(()).unwrap();
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        for _ in 0..20 {
            // Also for what could not be repeated.
            let answer = client
                .ask(request("POST /", &["Content-Length: 2"], "hi"))
                .await;
            assert_eq!(answer.status(), 200);
            hear.recv().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn the_next_pod_takes_what_one_refuses() {
    within(async {
        let pod = Pod::answering(OK).await;
        let mut gone = Vec::new();
        for _ in 0..2 {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.push(listener.local_addr().unwrap());
        }
        let holdfast = front(&[gone[0], pod.address, gone[1]]).await;
        let mut client = holdfast.client().await;
        for _ in 0..12 {
            let post = request("POST /", &["Content-Length: 5"], "hello");
            assert_eq!(client.ask(post).await.status(), 200);
        }
        assert_eq!(pod.bytes().matches("hello").count(), 12);
    })
    .await;
}

#[tokio::test]
async fn connections_of_a_pod_that_leaves_are_closed() {
    within(async {
        let ended = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ended);
        let leaving = Pod::serving(move |mut wire, _| {
            let ended = Arc::clone(&counter);
            async move {
                while wire.message(Kind::Request).await.is_ok() {
                    wire.send(OK).await;
                }
                ended.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await;
        let staying = Pod::answering(OK).await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("app.yaml", &service("app", "", &[leaving.address])),
            ("ingress.yaml", &ingress("app", "app.example", "app")),
        ])
        .await;
        let mut client = holdfast.client().await;
        assert_eq!(client.ask(get("/")).await.status(), 200);
        holdfast.write_only("app.yaml", &service("app", "", &[staying.address]));
        soon("the connection is closed", || async {
            (ended.load(Ordering::Relaxed) == 1).then_some(())
        })
        .await;
        assert_eq!(client.ask(get("/")).await.status(), 200);
        assert_eq!((leaving.connections(), staying.connections()), (1, 1));
    })
    .await;
}
