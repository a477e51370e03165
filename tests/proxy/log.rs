//! The access log of a real process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::fixture::{get, request, within};
use crate::harness::{EDGE, ingress, service, soon};
use crate::http2_client::Client;
use crate::peers::{RawPod, TEXT, close, frame, pair};
use crate::pod::Pod;
use crate::wire::Wire;

#[tokio::test]
async fn each_request_is_one_json_line() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            while let Ok(request) = wire.message(crate::wire::Kind::Request).await {
                if request.line().contains("/hang") {
                    wire.end().await;
                    return;
                }
                wire.send("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello")
                    .await;
            }
        })
        .await;
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let edge = EDGE
            .replace("port: 80,", &format!("port: {port},"))
            .replace("  - {name: https, port: 443, protocol: HTTPS}\n", "");
        for (name, yaml) in [
            ("edge.yaml", edge),
            ("app.yaml", service("app", "", &[pod.address])),
            ("ingress.yaml", ingress("app", "app.example", "app")),
        ] {
            std::fs::write(directory.path().join(name), yaml).unwrap();
        }
        let mut child = start(directory.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = soon("the process listens", || async {
            TcpStream::connect(address).await.ok()
        })
        .await;
        let mut client = Wire::new(stream);
        let fields = [
            "X-Request-Id: one",
            "User-Agent: tests",
            "Content-Length: 2",
        ];
        client
            .ask(request("POST /a?token=secret", &fields, "hi"))
            .await;
        let mut next = async || {
            let line = lines.next_line().await.unwrap().unwrap();
            assert!(!line.contains("secret"), "{line}");
            serde_json::from_str::<Value>(&line).unwrap()
        };
        let line = next().await;
        for (key, expected) in [
            ("kind", "request"),
            ("request_id", "one"),
            ("listener", "edge/edge/http"),
            ("method", "POST"),
            ("host", "app.example"),
            ("path", "/a"),
            ("protocol", "HTTP/1.1"),
            ("user_agent", "tests"),
            ("upstream", "default/app:80"),
            ("endpoint", &pod.address.to_string()),
        ] {
            assert_eq!(line[key], expected, "{key}: {line}");
        }
        assert_eq!(line["status"], 201);
        assert_eq!(line["bytes_sent"], 5);
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(
            line["route"].as_str().unwrap().contains("default/app"),
            "{line}"
        );
        assert!(line["duration_ms"].as_f64().unwrap() >= 0.0);
        assert!(line["time"].as_str().unwrap().contains('T'));
        assert_eq!(line.get("error"), None);

        client
            .ask("GET /b HTTP/1.1\r\nHost: other.example\r\n\r\n")
            .await;
        let line = next().await;
        assert_eq!(line["status"], 404);
        assert_eq!(line["error"], "no_route_for_host");
        assert_eq!(line.get("endpoint"), None);

        client.send(get("/hang")).await;
        soon("the pod is asked", || async {
            pod.bytes().contains("/hang").then_some(())
        })
        .await;
        drop(client);
        let line = next().await;
        assert_eq!(line["status"], 499);
        assert_eq!(line["error"], "client_closed");
        child.kill().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_one_json_line_when_it_has_ended() {
    within(async {
        let pod = RawPod::start().await;
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let edge = EDGE
            .replace("port: 443,", &format!("port: {port},"))
            .replace("  - {name: http, port: 80, protocol: HTTP}\n", "");
        for (name, yaml) in [
            ("edge.yaml", edge),
            ("pod.yaml", service("pod", "", &[pod.address])),
            ("ingress.yaml", ingress("pod", "ws.example", "pod")),
        ] {
            std::fs::write(directory.path().join(name), yaml).unwrap();
        }
        let mut child = start(directory.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        soon("the process listens", || async {
            TcpStream::connect(address).await.ok()
        })
        .await;
        let http2 = Client::connect_to(address, "ws.example").await;
        for protocol in ["HTTP/2", "HTTP/1.1"] {
            let (mut client, mut server) = match protocol {
                "HTTP/2" => http2.pair("ws.example", &pod).await,
                _ => pair(address, true, "ws.example", &pod).await,
            };
            client.send(&frame(TEXT, true, b"hello")).await;
            client.send(&close(true, 4001, "")).await;
            server.frame().await;
            server.frame().await;
            server.send(&close(false, 4001, "")).await;
            server.ended().await;
            let line = lines.next_line().await.unwrap().unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            for (key, expected) in [
                ("kind", "tunnel"),
                ("protocol", protocol),
                ("listener", "edge/edge/https"),
                ("host", "ws.example"),
                ("path", "/ws"),
                ("cause", "peer_closed"),
                ("by", "client"),
            ] {
                assert_eq!(line[key], expected, "{key}: {line}");
            }
            assert_eq!(line["close_code"], 4001);
            assert_eq!(line["messages_from_client"], 1);
        }
        child.kill().await.unwrap();
    })
    .await;
}

/// A process that serves these manifests.
fn start(manifests: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args([
            "run",
            "--bind-address",
            "127.0.0.1",
            "--admin",
            "127.0.0.1:0",
            "--manifests",
        ])
        .arg(manifests)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A port outside of the range that the system hands out, so that nobody else gets it meanwhile.
fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000));
    ports.take(100).find(free).unwrap()
}
