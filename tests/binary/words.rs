//! What the program writes: why it does not start, and its log.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::harness::raw;
use crate::peers::{BINARY, RawPod, TEXT, close, dial, frame, handshake, pair, request, within};
use crate::running::{HOST, PROGRAM, Running, limited, say_goodbye};

async fn failure(arguments: &[&str]) -> (Option<i32>, String) {
    let command = Command::new(PROGRAM)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = within("the exit", command).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_in_words() {
    limited(async {
        let (code, text) = failure(&[
            "run",
            "--manifests",
            "/nowhere/at-all",
            "--admin",
            "127.0.0.1:0",
        ])
        .await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("/nowhere/at-all"), "{text}");
        assert!(text.contains("holdfast: "), "{text}");

        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap().to_string();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let (code, text) = failure(&["run", "--manifests", path, "--admin", &address]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains(&format!("the admin port cannot listen on {address}")),
            "{text}"
        );

        let (code, text) = failure(&["run", "--manifests", path, "--log", "no=such=level"]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("--log"), "{text}");
        let (code, text) = failure(&["run", "--manifests", path, "--drain-window", "soon"]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("a duration such as"), "{text}");
        let (code, text) = failure(&["demo", "--manifests", "/nowhere/at-all"]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("/nowhere/at-all"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_line_is_written_for_each_request_and_each_websocket() {
    limited(async {
        let pod = RawPod::start().await;
        let mut running = Running::start(&pod, &["--drain-window", "0s"]).await;
        let address = running.at("http");
        let mut lines = Vec::new();
        let nobody = b"GET /p?secret=1 HTTP/1.1\r\nHost: nobody.example\r\nUser-Agent: t\r\nConnection: close\r\n\r\n";
        assert!(raw(address, nobody).await.contains(" 404 "));
        let refused = handshake(HOST, "").replace("Version: 13", "Version: 7");
        drop(request(address, false, &refused).await);

        // Closed by the client, by the pod's death, and by the end of the process.
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        for _ in 0..3 {
            client.send(&frame(TEXT, true, b"up")).await;
        }
        server.send(&frame(BINARY, false, b"down")).await;
        client.send(&close(true, 4001, "bye")).await;
        for _ in 0..4 {
            server.frame().await;
        }
        server.send(&close(false, 4001, "")).await;
        client.frame().await;
        client.close_frame().await;
        client.ended().await;
        drop((client, server));
        let (mut client, server) = pair(running.at("https"), true, HOST, &pod).await;
        drop(server);
        client.close_frame().await;
        client.send(&close(true, 1011, "")).await;
        client.ended().await;
        drop(client);
        let last = pair(address, false, HOST, &pod).await;
        running.signal("TERM");
        say_goodbye(last).await;
        assert_eq!(running.exit().await.code(), Some(0));
        while let Some(line) = running.stdout.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap();
            lines.push(line);
        }
        assert_eq!(lines.len(), 5, "{lines:#?}");
        let of = |kind: &str| -> Vec<&Value> {
            lines.iter().filter(|line| line["kind"] == kind).collect()
        };
        let requests = of("request");
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0]["status"], 404);
        assert_eq!(requests[0]["path"], "/p");
        assert_eq!(requests[0]["host"], "nobody.example");
        assert_eq!(requests[0]["user_agent"], "t");
        assert_eq!(requests[1]["status"], 426);
        assert_eq!(requests[1]["path"], "/ws");
        let tunnels = of("tunnel");
        let ends: Vec<(&str, &str, u64)> = tunnels
            .iter()
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap();
                (
                    text("cause"),
                    text("by"),
                    line["close_code"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            ends,
            [
                ("peer_closed", "client", 4001),
                ("pod_gone", "pod", 1011),
                ("shutdown", "proxy", 1001)
            ]
        );
        let first = tunnels[0];
        assert_eq!(first["messages_from_client"], 3);
        assert_eq!(first["messages_from_pod"], 1);
        assert_eq!(first["bytes_from_client"], 3 * 8 + 11);
        assert_eq!(first["bytes_from_pod"], 6 + 4);
        assert_eq!(first["endpoint"], pod.address.to_string());
        assert_eq!(first["listener"], "edge/edge/http");
        assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
        for line in &lines {
            assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"));
            assert!(!line["request_id"].as_str().unwrap().is_empty());
            assert!(line["time"].as_str().unwrap().ends_with('Z'));
            assert!(!line.to_string().contains("secret"), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_costs_lines_and_nothing_else() {
    const REQUESTS: usize = 3000;
    limited(async {
        let pod = RawPod::start().await;
        let mut running = Running::start(&pod, &["--drain-window", "0s"]).await;
        let address = running.at("http");
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        let request = b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n";
        let last = b"GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n";
        let mut rounds = 0;
        while running
            .metric("holdfast_access_log_dropped_lines_total")
            .await
            == 0
        {
            rounds += 1;
            assert!(rounds < 10, "no line is dropped");
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..2 {
                asking.spawn(async move {
                    let peer = dial(address, false).await;
                    let (mut from, mut to) = tokio::io::split(peer.stream);
                    let write = async {
                        to.write_all(&request.repeat(REQUESTS - 1)).await.unwrap();
                        to.write_all(last).await.unwrap();
                    };
                    let mut answers = Vec::new();
                    let (_, read) = tokio::join!(write, from.read_to_end(&mut answers));
                    read.unwrap();
                    let answers = String::from_utf8(answers).unwrap();
                    assert_eq!(answers.matches("HTTP/1.1 404 ").count(), REQUESTS);
                });
            }
            while let Some(asked) = asking.join_next().await {
                asked.unwrap();
            }
            let text = frame(TEXT, true, b"on we go");
            client.send(&text).await;
            assert_eq!(server.read(text.len()).await, text);
        }
        // Nor does it hold up the end for long.
        let began = Instant::now();
        running.signal("TERM");
        say_goodbye((client, server)).await;
        assert_eq!(running.exit().await.code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
        // What was written is whole lines.
        let mut rest = Vec::new();
        let mut stdout = running.stdout.into_inner();
        stdout.read_to_end(&mut rest).await.unwrap();
        let text = String::from_utf8(rest).unwrap();
        let (whole, _torn) = text.rsplit_once('\n').unwrap();
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["status"], 404);
        }
    })
    .await;
}
