//! The program itself: its signals, its exit codes, what it writes, and how much memory it takes.

#![allow(clippy::large_futures, clippy::panic, clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub)]

#[path = "../proxy/harness.rs"]
mod harness;
#[path = "../proxy/peers.rs"]
mod peers;
mod running;
mod words;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::harness::{LIMIT, raw, soon};
use crate::peers::{
    BINARY, RawPod, TEXT, close, dial, frame, frame_head, handshake, open, pair, within,
};
use crate::running::{HOST, PROGRAM, Running, limited, say_goodbye, send_signal, spawn};

#[tokio::test]
async fn sigterm_closes_every_websocket_and_exits_with_0() {
    limited(async {
        let pod = RawPod::start().await;
        let mut running = Running::start(&pod, &["--drain-window", "300ms"]).await;
        let mut pairs = Vec::new();
        for (listener, tls) in [("http", false), ("http", false), ("https", true)] {
            pairs.push(pair(running.at(listener), tls, HOST, &pod).await);
        }
        let began = Instant::now();
        running.signal("TERM");
        for pair in pairs {
            assert_eq!(say_goodbye(pair).await, (1001, 1001));
        }
        assert_eq!(running.exit().await.code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(4));
    })
    .await;
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    limited(async {
        let pod = RawPod::start().await;
        let mut running = Running::start(&pod, &["--drain-window", "1h"]).await;
        let (_client, _server) = pair(running.at("http"), false, HOST, &pod).await;
        running.signal("TERM");
        soon("not ready", async || {
            let page = running.page("/readyz").await;
            page.starts_with("HTTP/1.1 503 ").then_some(())
        })
        .await;
        let began = Instant::now();
        running.signal("INT");
        assert_eq!(running.exit().await.code(), Some(1));
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn large_messages_and_slow_readers_cost_no_memory() {
    const SIZE: u64 = 64 << 20;
    limited(async {
        let pod = RawPod::start().await;
        let running = Running::start(&pod, &["--access-log", "off"]).await;
        let mut pairs = Vec::new();
        for (listener, tls) in [("http", false), ("https", true)] {
            pairs.push(pair(running.at(listener), tls, HOST, &pod).await);
        }
        let before = running.memory();
        for (client, server) in &mut pairs {
            for from_client in [true, false] {
                let (from, to) = if from_client {
                    (&mut *client, &mut *server)
                } else {
                    (&mut *server, &mut *client)
                };
                let chunk = vec![7; 256 * 1024];
                let head = frame_head(BINARY, from_client, SIZE);
                let send = async {
                    from.send(&head).await;
                    for _ in 0..SIZE / chunk.len() as u64 {
                        from.send(&chunk).await;
                    }
                };
                let receive = async {
                    // The sender runs into a wall first.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    let mut left = SIZE as usize + head.len();
                    while left > 0 {
                        let more = to.read_some(left.min(1 << 20)).await;
                        assert!(!more.is_empty());
                        left -= more.len();
                    }
                };
                tokio::join!(send, receive);
            }
        }
        let grown = running.memory() - before;
        assert!(grown < 4 * 1024, "{grown} KiB");
    })
    .await;
}

/// The demo on other ports than its own.
#[tokio::test]
async fn the_demo_serves_and_ends_cleanly() {
    limited(async {
        let held: Vec<TcpListener> = (0..5)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<u16> = held
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/demo");
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let mut yaml = std::fs::read_to_string(entry.path()).unwrap();
            for (known, port) in ["8080", "8443", "7001", "7002", "7003"].iter().zip(&ports) {
                yaml = yaml.replace(&format!(" port: {known}"), &format!(" port: {port}"));
                yaml = yaml.replace(&format!("port: {known},"), &format!("port: {port},"));
            }
            std::fs::write(directory.path().join(entry.file_name()), yaml).unwrap();
        }
        drop(held);
        let (mut child, mut stdout) = spawn(
            Command::new(PROGRAM)
                .args(["demo", "--admin", "127.0.0.1:0", "--drain-window", "100ms"])
                .args([
                    "--echo",
                    &format!("127.0.0.1:{},127.0.0.1:{}", ports[2], ports[3]),
                ])
                .args(["--chat", &format!("127.0.0.1:{}", ports[4])])
                .arg("--manifests")
                .arg(directory.path()),
        );
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C") {
            let line = within("the welcome", stdout.next_line()).await.unwrap();
            welcome.push_str(&line.expect("it runs"));
            welcome.push('\n');
        }
        for (scheme, port) in [("http", ports[0]), ("https", ports[1])] {
            let url = format!("{scheme}://localhost:{port}/");
            assert!(welcome.contains(&url), "{welcome}");
        }
        assert!(!welcome.contains("127.0.0.1:0/"), "{welcome}");
        let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let page = raw(
            address,
            b"GET / HTTP/1.1\r\nHost: chat.localhost\r\nConnection: close\r\n\r\n",
        );
        let page = page.await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        let mut client = open(address, false, "echo.localhost").await;
        client.echo("hello, demo").await;
        let secure = SocketAddr::from(([127, 0, 0, 1], ports[1]));
        let mut other = open(secure, true, "echo.localhost").await;
        other.echo("hello, secure demo").await;
        send_signal(child.id().unwrap(), "INT");
        for client in [&mut client, &mut other] {
            assert_eq!(client.close_frame().await.0, 1001);
            client.send(&close(true, 1001, "")).await;
            client.ended().await;
        }
        let status = within("the exit", child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
    })
    .await;
}

/// Processor time that a process has taken, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn short_of_open_files_the_new_is_refused_and_the_old_stays() {
    let test = async {
        let pod = std::sync::Arc::new(RawPod::start().await);
        let running = Running::start_with_files(&pod, 160).await;
        let address = running.at("http");
        let (client, server) = pair(address, false, HOST, &pod).await;
        let mut held = vec![(client, server)];
        // Until the process has no more than it keeps for itself.
        let mut refused = loop {
            let mut client = dial(address, false).await;
            client.send(handshake(HOST, "").as_bytes()).await;
            let answered = tokio::select! {
                () = client.read_head() => None,
                server = pod.upgrade() => Some(server),
            };
            let Some(server) = answered else {
                break client;
            };
            client.read_head().await;
            held.push((client, server));
            assert!(held.len() < 80, "160 files are enough for 80");
            // Slowly: the process looks four times a second at what it has.
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(held.len() > 30, "{}", held.len());
        assert!(
            refused.head.starts_with("HTTP/1.1 503 "),
            "{}",
            refused.head
        );
        assert!(refused.head.to_ascii_lowercase().contains("retry-after: "));
        let text = String::from_utf8(refused.read_some(4096).await).unwrap();
        assert!(text.contains("overloaded"), "{text}");

        // A crowd that the kernel holds: nothing spins, and what is open works.
        let mut crowd = Vec::new();
        for _ in 0..200 {
            crowd.push(dial(address, false).await);
        }
        let before = ticks(running.child.id().unwrap());
        let echo = frame(TEXT, true, b"still here");
        for (client, server) in &mut held {
            client.send(&echo).await;
            assert_eq!(server.read(echo.len()).await, echo);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let took = ticks(running.child.id().unwrap()) - before;
        assert!(took < 50, "{took} ticks in a second");

        // Recovery needs nobody.
        drop(crowd);
        held.truncate(5);
        soon("there is room again", async || {
            let mut client = dial(address, false).await;
            client.send(handshake(HOST, "").as_bytes()).await;
            tokio::select! {
                () = client.read_head() => None,
                _server = pod.upgrade() => Some(()),
            }
        })
        .await;
        for (client, server) in &mut held {
            client.send(&echo).await;
            assert_eq!(server.read(echo.len()).await, echo);
        }
    };
    tokio::time::timeout(LIMIT, test).await.unwrap();
}
