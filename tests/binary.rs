//! The program itself: its signals, its exit codes, what it writes, and how much memory it takes.

#![allow(clippy::large_futures, clippy::panic, clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub)]

#[path = "proxy/harness.rs"]
mod harness;
#[path = "proxy/peers.rs"]
mod peers;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use harness::{EDGE, LIMIT, ingress, raw, service, soon};
use peers::{
    BINARY, Peer, RawPod, TEXT, close, dial, frame, frame_head, handshake, open, pair, request,
    within,
};

const HOST: &str = "ws.example";
const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast");

/// A running program.
struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    addresses: BTreeMap<String, SocketAddr>,
    directory: TempDir,
}

impl Running {
    async fn start(pod: &RawPod, flags: &[&str]) -> Self {
        Self::run(pod, Command::new(PROGRAM), flags).await
    }

    /// With so many files to open at most.
    async fn start_with_files(pod: &RawPod, files: usize) -> Self {
        let mut shell = Command::new("sh");
        let script = format!(r#"ulimit -n {files}; exec "$0" "$@""#);
        shell.args(["-c", &script, PROGRAM]);
        Self::run(pod, shell, &[]).await
    }

    async fn run(pod: &RawPod, mut program: Command, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, yaml) in [
            ("edge.yaml", EDGE),
            ("pod.yaml", &service("pod", "", &[pod.address])),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ] {
            std::fs::write(directory.path().join(name), yaml).unwrap();
        }
        let mut child = program
            .args(["run", "--any-port", "--bind-address", "127.0.0.1"])
            .args(["--admin", "127.0.0.1:0", "--shutdown-delay", "0s"])
            .arg("--manifests")
            .arg(directory.path())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut addresses = BTreeMap::new();
        while !addresses.contains_key("admin") {
            let line = within("an address", stdout.next_line())
                .await
                .unwrap()
                .unwrap();
            let mut words: Vec<&str> = line.split(' ').collect();
            let address = words.pop().unwrap().parse().unwrap();
            let name = words.pop().unwrap().rsplit('/').next().unwrap();
            addresses.insert(name.to_owned(), address);
        }
        Self {
            child,
            stdout,
            addresses,
            directory,
        }
    }

    fn at(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    fn signal(&self, signal: &str) {
        send_signal(self.child.id().unwrap(), signal);
    }

    async fn exit(&mut self) -> ExitStatus {
        within("the exit", self.child.wait()).await.unwrap()
    }

    /// A page of the admin port.
    async fn page(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        raw(self.at("admin"), request.as_bytes()).await
    }

    async fn metric(&self, name: &str) -> u64 {
        let page = self.page("/metrics").await;
        page.lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .map(|rest| {
                let value = rest.rsplit(' ').next().unwrap();
                value.parse::<f64>().unwrap() as u64
            })
            .sum()
    }

    /// The most memory that it ever held, in KiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

fn send_signal(process: u32, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// Takes a Close and answers it as an endpoint does.
async fn say_goodbye((mut client, mut server): (Peer, Peer)) -> (u16, u16) {
    let (told, _) = client.close_frame().await;
    let (pod_told, _) = server.close_frame().await;
    server.send(&close(false, pod_told, "")).await;
    server.finish().await;
    client.send(&close(true, told, "")).await;
    client.ended().await;
    server.ended().await;
    (told, pod_told)
}

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
        let mut child = Command::new(PROGRAM)
            .args(["demo", "--admin", "127.0.0.1:0", "--drain-window", "100ms"])
            .args([
                "--echo",
                &format!("127.0.0.1:{},127.0.0.1:{}", ports[2], ports[3]),
            ])
            .args(["--chat", &format!("127.0.0.1:{}", ports[4])])
            .arg("--manifests")
            .arg(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
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
