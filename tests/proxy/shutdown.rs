//! The end of the process, seen from its sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holdfast::shutdown::Windows;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, raw, service, soon};
use crate::peers::{RawPod, TEXT, close, dial, frame, handshake, pair, switching, within};

const HOST: &str = "ws.example";

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

async fn start(pod: &RawPod, windows: Windows) -> Holdfast {
    let manifests = [
        ("edge.yaml", EDGE),
        ("pod.yaml", &service("pod", "", &[pod.address])),
        ("ingress.yaml", &ingress("pod", HOST, "pod")),
    ];
    Holdfast::start_with(&manifests, |config| config.windows = windows).await
}

fn windows(delay: u64, drain: u64, grace: u64) -> Windows {
    Windows {
        delay: Duration::from_millis(delay),
        drain: Duration::from_millis(drain),
        grace: Duration::from_millis(grace),
    }
}

async fn readiness(admin: SocketAddr) -> String {
    raw(
        admin,
        b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await
}

#[tokio::test]
async fn five_hundred_websockets_end_cleanly_and_one_after_the_other() {
    const TUNNELS: usize = 500;
    const WINDOW: Duration = Duration::from_secs(2);
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, windows(0, 2000, 10_000)).await;
        let mut waits = JoinSet::new();
        for number in 0..TUNNELS {
            let tls = number % 10 == 0;
            let address = holdfast.address(if tls { "https" } else { "http" });
            let (mut client, mut server) = pair(address, tls, HOST, &pod).await;
            waits.spawn(async move {
                let goodbye = client.close_frame().await;
                assert_eq!(goodbye, (1001, "proxy shutting down".to_owned()));
                let at = Instant::now();
                let told = server.frame().await;
                assert!(told.masked);
                assert_eq!(told.payload, b"\x03\xe9proxy shutting down");
                server.send(&close(false, 1001, "")).await;
                server.finish().await;
                client.send(&close(true, 1001, "")).await;
                client.ended().await;
                server.ended().await;
                at
            });
        }
        let began = Instant::now();
        let drained = holdfast.app.shutdown().await;
        assert!(drained.clean);
        assert_eq!(drained.tunnels, TUNNELS);
        assert!(began.elapsed() < WINDOW + Duration::from_secs(3));
        let mut tenths = [0; 10];
        while let Some(at) = waits.join_next().await {
            let since = at
                .unwrap()
                .duration_since(began)
                .min(WINDOW - Duration::from_millis(1));
            tenths[(since.as_millis() * 10 / WINDOW.as_millis()) as usize] += 1;
        }
        let peak = tenths.iter().max().unwrap();
        assert!(*peak <= TUNNELS / 10 * 3, "{tenths:?}");
        assert!(
            tenths.iter().filter(|count| **count > 0).count() >= 8,
            "{tenths:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn readiness_fails_at_once_while_new_connections_are_still_served() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, windows(1500, 100, 10_000)).await;
        let (address, admin) = (
            holdfast.address("http"),
            holdfast.app.admin_address().unwrap(),
        );
        assert!(readiness(admin).await.starts_with("HTTP/1.1 200 "));
        let mut idle = dial(address, false).await;
        idle.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
            .await;
        assert_eq!(idle.read(12).await, b"HTTP/1.1 404");
        let mut busy = dial(address, false).await;
        busy.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
            .await;
        let mut serving = pod.accept().await;

        let ended = tokio::spawn(holdfast.app.shutdown());
        soon("not ready", async || {
            let answer = readiness(admin).await;
            answer
                .starts_with("HTTP/1.1 503 ")
                .then(|| assert!(answer.contains("shutting down")))
        })
        .await;
        // Within the delay everything is as ever, tunnels included; only that an answer says that
        // it is the last of its connection.
        let mut late = dial(address, false).await;
        late.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
            .await;
        let answer = late.rest().await.to_ascii_lowercase();
        let answer = answer.escape_ascii().to_string();
        assert!(answer.contains("connection: close"), "{answer}");
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        let text = frame(TEXT, true, b"late");
        client.send(&text).await;
        assert_eq!(server.read(text.len()).await, text);
        soon("refused", async || TcpStream::connect(address).await.err()).await;
        // Then what is idle ends, what is under way finishes, and tunnels are closed.
        let rest = idle.rest().await;
        assert!(rest.ends_with(b"\n"), "{}", rest.escape_ascii());
        assert_eq!(client.close_frame().await.0, 1001);
        client.send(&close(true, 1001, "")).await;
        client.ended().await;
        assert_eq!(server.close_frame().await.0, 1001);
        drop((client, server));
        assert!(!ended.is_finished());
        assert!(readiness(admin).await.starts_with("HTTP/1.1 503 "));
        serving
            .send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
            .await;
        let answer = busy.rest().await;
        assert!(
            answer.ends_with(b"\r\n\r\nslow"),
            "{}",
            answer.escape_ascii()
        );
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        let drained = within("the end", ended).await.unwrap();
        assert!(drained.clean);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_does_not_hold_up_the_end() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, windows(0, 100, 10_000)).await;
        let mut silent = dial(holdfast.address("http"), false).await;
        let mut secure = dial(holdfast.address("https"), true).await;
        soon("both are accepted", async || {
            (holdfast.app.metrics().connections() == 2).then_some(())
        })
        .await;
        let began = Instant::now();
        assert!(holdfast.app.shutdown().await.clean);
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        silent.ended().await;
        secure.ended().await;
    })
    .await;
}

#[tokio::test]
async fn the_first_request_of_a_fresh_connection_is_answered() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, windows(0, 100, 10_000)).await;
        let address = holdfast.address("http");
        let mut client = dial(address, false).await;
        soon("it is accepted", async || {
            (holdfast.app.metrics().connections() == 1).then_some(())
        })
        .await;
        let ended = tokio::spawn(holdfast.app.shutdown());
        soon("refused", async || TcpStream::connect(address).await.err()).await;
        client
            .send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
            .await;
        let answer = client.rest().await;
        assert!(
            answer.starts_with(b"HTTP/1.1 404 "),
            "{}",
            answer.escape_ascii()
        );
        assert!(within("the end", ended).await.unwrap().clean);
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_is_added_during_the_end_is_not_opened() {
    limited(async {
        let pod = RawPod::start().await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap();
        drop(free);
        let holdfast = start(&pod, windows(0, 60_000, 1000)).await;
        let address = holdfast.address("http");
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        let admin = holdfast.app.admin_address().unwrap();
        let directory = holdfast.directory().to_owned();
        let ended = tokio::spawn(holdfast.app.shutdown());
        soon("refused", async || TcpStream::connect(address).await.err()).await;
        let late = format!(
            "  - {{name: late, port: {}, protocol: HTTP}}\n---",
            port.port()
        );
        std::fs::write(directory.join("edge.yaml"), EDGE.replace("---", &late)).unwrap();
        soon("the change is taken in", async || {
            let page = b"GET /routes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            raw(admin, page).await.contains("late").then_some(())
        })
        .await;
        assert!(TcpStream::connect(port).await.is_err());
        // Both peers go: there is nothing to wait for any more.
        client.finish().await;
        server.finish().await;
        assert!(within("the end", ended).await.unwrap().clean);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_never_answers_the_close_cannot_hold_up_the_end() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, windows(0, 100, 1500)).await;
        let (mut client, mut server) = pair(holdfast.address("http"), false, HOST, &pod).await;
        let (mut half, mut half_pod) = pair(holdfast.address("https"), true, HOST, &pod).await;
        // Nobody can put a Close into the middle of this frame.
        half_pod.send(&frame(TEXT, false, &[1; 1000])[..10]).await;
        assert_eq!(half.read(10).await.len(), 10);
        let began = Instant::now();
        let drained = holdfast.app.shutdown().await;
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        assert_eq!((drained.tunnels, drained.clean), (2, false));
        assert_eq!(client.close_frame().await.0, 1001);
        assert_eq!(server.close_frame().await.0, 1001);
        client.ended().await;
        server.ended().await;
    })
    .await;
}

#[tokio::test]
async fn a_websocket_whose_handshake_ends_after_the_window_is_closed_too() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = start(&pod, windows(0, 100, 10_000)).await;
        let address = holdfast.address("http");
        let mut client = dial(address, false).await;
        client.send(handshake(HOST, "").as_bytes()).await;
        let mut server = pod.accept().await;
        let ended = tokio::spawn(holdfast.app.shutdown());
        soon("refused", async || TcpStream::connect(address).await.err()).await;
        // Longer than the window.
        assert!(client.is_silent(Duration::from_millis(400)).await);
        server.send(switching("").as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.read(1).await);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        assert_eq!(client.close_frame().await.0, 1001);
        assert_eq!(server.close_frame().await.0, 1001);
        client.send(&close(true, 1001, "")).await;
        client.ended().await;
        drop((client, server));
        assert!(within("the end", ended).await.unwrap().clean);
    })
    .await;
}
