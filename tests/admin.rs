//! The admin port, at its socket.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use holdfast::admin::{Admin, Handles, Readiness};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn ready() -> Readiness {
    Readiness::unless([""; 0])
}

fn metrics() -> String {
    "# TYPE up gauge\nup 1\n# EOF\n".to_owned()
}

/// Runs a test against an admin port with these handles, within a time limit, and stops it.
async fn with_admin(handles: Handles, test: impl AsyncFnOnce(SocketAddr)) {
    within(async {
        let admin = Admin::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = admin.address();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(admin.serve(handles, shutdown.clone()));
        test(address).await;
        shutdown.cancel();
        server.await.unwrap();
    })
    .await;
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("the test takes too long")
}

async fn exchange(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = exchange(address, "GET", path).await;
    (status, body)
}

#[tokio::test]
async fn readiness_says_why_not_and_changes_with_the_process() {
    let is_read = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_read);
    let handles = Handles::new(
        move || {
            Readiness::unless(
                (!seen.load(Ordering::Relaxed)).then_some("manifests are not read yet"),
            )
        },
        metrics,
    );
    with_admin(handles, async |address| {
        let (status, body) = fetch(address, "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("manifests are not read yet"), "{body}");
        assert_eq!(fetch(address, "/healthz").await, (200, "ok\n".to_owned()));
        is_read.store(true, Ordering::Relaxed);
        assert_eq!(fetch(address, "/readyz").await, (200, "ready\n".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn pages_have_their_media_types_and_contents() {
    let handles = Handles::new(ready, metrics)
        .json("/routes", "the table", || json!([{"host": "a.example"}]))
        .json("/findings", "problems", || json!([]));
    with_admin(handles, async |address| {
        let (status, head, body) = exchange(address, "GET", "/metrics").await;
        assert_eq!((status, body.as_str()), (200, metrics().as_str()));
        assert!(
            head.contains("content-type: application/openmetrics-text;"),
            "{head}"
        );

        let (status, head, body) = exchange(address, "GET", "/routes?pretty").await;
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: application/json\r\n"),
            "{head}"
        );
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!([{"host": "a.example"}]));

        let (status, head, body) = exchange(address, "HEAD", "/metrics").await;
        assert_eq!((status, body.as_str()), (200, ""));
        let length = format!("content-length: {}\r\n", metrics().len());
        assert!(head.contains(&length), "{head}");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_refused_with_what_is() {
    let handles = Handles::new(ready, metrics).json("/routes", "the table", || json!([]));
    with_admin(handles, async |address| {
        for path in ["/nothing", "/routes/", "/healthz/x"] {
            let (status, body) = fetch(address, path).await;
            assert_eq!(status, 404, "{path}");
            for there in [
                "/healthz",
                "/readyz",
                "/metrics",
                "/routes            the table",
            ] {
                assert!(body.contains(there), "{path}: {body}");
            }
        }
        assert_eq!(fetch(address, "/").await.0, 200);
        for method in ["POST", "PUT", "DELETE"] {
            let (status, head, _) = exchange(address, method, "/routes").await;
            assert_eq!(status, 405, "{method}");
            assert!(head.contains("allow: GET, HEAD\r\n"), "{head}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_that_panics_costs_one_answer() {
    let handles = Handles::new(ready, metrics).json("/broken", "panics", || panic!("on purpose"));
    with_admin(handles, async |address| {
        assert_eq!(fetch(address, "/broken").await.0, 500);
        assert_eq!(fetch(address, "/healthz").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn a_slow_page_does_not_hold_up_a_probe() {
    let barrier = Arc::new(Barrier::new(2));
    let page = Arc::clone(&barrier);
    let handles = Handles::new(ready, metrics).json("/slow", "waits", move || {
        page.wait();
        json!("done")
    });
    with_admin(handles, async |address| {
        let slow = tokio::spawn(fetch(address, "/slow"));
        assert_eq!(fetch(address, "/healthz").await.0, 200);
        assert!(!slow.is_finished());
        tokio::task::spawn_blocking(move || barrier.wait())
            .await
            .unwrap();
        assert_eq!(slow.await.unwrap(), (200, "\"done\"\n".to_owned()));
    })
    .await;
}

/// Idle clients up to the bound, then one too many: it is served once the deadline of the others
/// has passed, not before. On the paused clock the ten seconds cost nothing.
#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_silent_ones_are_closed() {
    within(async {
        let admin = Admin::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = admin.address();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(admin.serve(Handles::new(ready, metrics), shutdown.clone()));
        let start = tokio::time::Instant::now();
        let mut silent = Vec::new();
        for _ in 0..128 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(fetch(address, "/healthz").await.0, 200);
        assert!(
            start.elapsed() >= Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        for mut stream in silent {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        }
        shutdown.cancel();
        server.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn shutdown_lets_a_request_finish_and_closes_idle_connections() {
    within(async {
        let barrier = Arc::new(Barrier::new(2));
        let (page, (begun, has_begun)) = (Arc::clone(&barrier), tokio::sync::oneshot::channel());
        let begun = std::sync::Mutex::new(Some(begun));
        let handles = Handles::new(ready, metrics).json("/slow", "waits", move || {
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            page.wait();
            json!("done")
        });
        let admin = Admin::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = admin.address();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(admin.serve(handles, shutdown.clone()));

        let slow = tokio::spawn(fetch(address, "/slow"));
        has_begun.await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n")
            .await
            .unwrap();
        assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);

        shutdown.cancel();
        assert_eq!(
            idle.read(&mut [0; 1024]).await.unwrap(),
            0,
            "idle is closed"
        );
        tokio::task::spawn_blocking(move || barrier.wait())
            .await
            .unwrap();
        assert_eq!(slow.await.unwrap().0, 200);
        server.await.unwrap();
        assert!(
            TcpStream::connect(address).await.is_err(),
            "the port is free"
        );
    })
    .await;
}

/// The chart binds `[::]`: probes come by IPv4 in most clusters, and some machines have no IPv6.
#[test]
fn every_address_is_that_of_ipv4_too() {
    let admin = Admin::bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
    let by_ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, admin.address().port()));
    std::net::TcpStream::connect_timeout(&by_ipv4, Duration::from_secs(5)).unwrap();
}
