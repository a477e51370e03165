//! `holdfast tunnels`: the program asked about a running process.
#![allow(clippy::large_futures, clippy::panic, clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub)]

#[path = "proxy/harness.rs"]
mod harness;
#[path = "proxy/peers.rs"]
mod peers;

use serde_json::Value;
use tokio::process::Command;

use harness::{EDGE, Holdfast, LIMIT, ingress, raw, service, soon};
use peers::{Peer, RawPod, TEXT, close, frame, pair};

const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast");
const HOSTS: [&str; 2] = ["a.example", "b.example"];

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

struct Stage {
    pods: [RawPod; 2],
    holdfast: Holdfast,
}

impl Stage {
    async fn new() -> Self {
        let pods = [RawPod::start().await, RawPod::start().await];
        let [a, b] = [0, 1].map(|index: usize| {
            let name = ["one", "two"][index];
            let service = service(name, "", &[pods[index].address]);
            let ingress = ingress(name, HOSTS[index], name);
            format!("{service}\n---\n{ingress}")
        });
        let manifests = [("edge.yaml", EDGE), ("a.yaml", &a), ("b.yaml", &b)];
        let holdfast = Holdfast::start(&manifests).await;
        Self { pods, holdfast }
    }

    async fn open(&self, pod: usize) -> (Peer, Peer) {
        let address = self.holdfast.address("http");
        pair(address, false, HOSTS[pod], &self.pods[pod]).await
    }

    /// Exit status, standard output and error.
    async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let admin = self.holdfast.app.admin_address().unwrap().to_string();
        let mut command = Command::new(PROGRAM);
        command.arg("tunnels");
        let (action, rest) = match arguments {
            [action @ ("close" | "drain" | "rebalance"), rest @ ..] => (Some(*action), rest),
            rest => (None, rest),
        };
        command.args(action).args(["--admin", &admin]).args(rest);
        let output = command.output().await.unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    async fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let (good, text, problem) = self.run(&[arguments, &["-o", "json"]].concat()).await;
        assert!(good, "{problem}");
        let list: Value = serde_json::from_str(&text).unwrap();
        list["tunnels"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn they_are_listed_filtered_and_sorted() {
    limited(async {
        let stage = Stage::new().await;
        let (mut busy, mut its_pod) = stage.open(0).await;
        let (_calm, _its_pod) = stage.open(1).await;
        let text = frame(TEXT, true, &[b'x'; 1000]);
        busy.send(&text).await;
        its_pod.read(text.len()).await;
        soon("it is counted", async || {
            let all = stage.list(&["--sort", "bytes"]).await;
            (all.len() == 2 && all[0]["fromClient"]["messages"] == 1).then_some(())
        })
        .await;
        let id = stage.list(&[]).await[1]["id"].to_string();
        let pod = stage.pods[1].address.to_string();
        for arguments in [
            &["--route", "b.example"][..],
            &["--route", "default/two"],
            &["--pod", &pod],
            &["--id", &id],
            &["--pod", "127.0.0.1", "--listener", "edge/http", "--id", &id],
        ] {
            let found = stage.list(arguments).await;
            assert_eq!(found.len(), 1, "{arguments:?}");
            assert_eq!(found[0]["endpoint"], pod.as_str(), "{arguments:?}");
        }
        for (arguments, count) in [
            (&["--client", "127.0.0.1"][..], 2),
            (&["--client", "127.0.0.2"], 0),
            (&["--older-than", "1h"], 0),
            (&["--silent-for", "1h"], 0),
            (&["--faster-than", "900"], 1),
            (&["--listener", "https"], 0),
            (&["--listener", "ttp"], 0),
            (&["--limit", "1"], 1),
        ] {
            assert_eq!(stage.list(arguments).await.len(), count, "{arguments:?}");
        }
        let (good, text, _) = stage.run(&["--limit", "1", "--sort", "messages"]).await;
        assert!(good);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("ID ") && lines[1].contains("a.example/"),
            "{text}"
        );
        assert_eq!(lines[2], "and 1 more");
        let (good, _, problem) = stage.run(&["--pod", "nonsense"]).await;
        assert!(
            !good && problem.contains("pod: an IP address is expected"),
            "{problem}"
        );
    })
    .await;
}

#[tokio::test]
async fn they_are_closed_by_selector_with_a_code_and_dry_first() {
    limited(async {
        let stage = Stage::new().await;
        let (mut leaves, mut its_pod) = stage.open(0).await;
        let (mut stays, mut other) = stage.open(1).await;
        let pod = stage.pods[0].address.to_string();
        let close_it = ["close", "--pod", &pod, "--code", "1012"];

        let (good, text, _) = stage.run(&[&close_it[..], &["--dry-run"]].concat()).await;
        assert!(good);
        assert_eq!(
            text,
            format!("would close 1 WebSockets with 1012\n  1 of pod {pod}\n")
        );
        assert_eq!(stage.holdfast.app.tunnels().len(), 2);

        let (good, text, _) = stage.run(&close_it).await;
        assert!(
            good && text.starts_with("closing 1 WebSockets with 1012\n"),
            "{text}"
        );
        assert_eq!(
            leaves.close_frame().await,
            (1012, "closed by operator".to_owned())
        );
        assert_eq!(its_pod.close_frame().await.0, 1012);
        its_pod.send(&close(false, 1012, "")).await;
        its_pod.finish().await;
        leaves.send(&close(true, 1012, "")).await;
        leaves.ended().await;

        let text = frame(TEXT, true, b"still here");
        stays.send(&text).await;
        assert_eq!(other.read(text.len()).await, text);

        let (good, _, problem) = stage.run(&["close"]).await;
        assert!(!good && problem.contains("name what to close"), "{problem}");
        let (good, _, problem) = stage.run(&["close", "--all", "--code", "1002"]).await;
        assert!(
            !good && problem.contains("1001, 1008, 1012, 1013"),
            "{problem}"
        );
        let (good, _, _) = stage.run(&["close", "--all", "--over", "1s"]).await;
        assert!(good);
        assert_eq!(stays.close_frame().await.0, 1001);
    })
    .await;
}

#[tokio::test]
async fn what_closes_is_asked_by_post_and_from_this_machine_only() {
    limited(async {
        let stage = Stage::new().await;
        let admin = stage.holdfast.app.admin_address().unwrap();
        let ask = async |method: &str, path: &str| {
            let text = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            raw(admin, text.as_bytes()).await
        };
        for (method, path, status) in [
            ("GET", "/tunnels/close?all=true", "405"),
            ("POST", "/tunnels", "405"),
            ("POST", "/tunnels/close?all=true&unknown=1", "400"),
            ("POST", "/tunnels/close?all=maybe", "400"),
            ("POST", "/tunnels/close?all=true&over=48h", "400"),
            ("POST", "/tunnels/close?all=true", "200"),
            ("GET", "/tunnels?sort=size", "400"),
            ("GET", "/tunnels?limit=-1", "400"),
            ("GET", "/tunnels?id=1,2,x", "400"),
        ] {
            let answer = ask(method, path).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{method} {path}: {answer}");
        }
        let text = "POST /tunnels/close?all=true HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                    Origin: https://evil.example\r\n\r\n";
        let answer = raw(admin, text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_drained_dry_first_and_put_back() {
    limited(async {
        let pods = [RawPod::start().await, RawPod::start().await];
        let addresses = [pods[0].address, pods[1].address];
        let both = service("one", "", &addresses);
        let ingress = ingress("one", HOSTS[0], "one");
        let manifests = [("edge.yaml", EDGE), ("a.yaml", &both), ("b.yaml", &ingress)];
        let holdfast = Holdfast::start(&manifests).await;
        let stage = Stage { pods, holdfast };
        let http = stage.holdfast.address("http");
        let open = async |pod: usize| pair(http, false, HOSTS[0], &stage.pods[pod]).await;
        // In turn, as each takes the pod that has the fewest.
        let at = async || {
            let views = stage.holdfast.app.tunnels().list();
            let pod = views.first()?.info.endpoint;
            addresses.iter().position(|address| *address == pod)
        };
        let whichever = async {
            tokio::select! {
                server = stage.pods[0].upgrade() => (0, server),
                server = stage.pods[1].upgrade() => (1, server),
            }
        };
        let (mut client, (drained, mut server)) =
            tokio::join!(peers::open(http, false, HOSTS[0]), whichever);
        soon("it is in the table", at).await;
        let (mut other, mut its_pod) = open(1 - drained).await;

        let pod = addresses[drained].to_string();
        let drain = ["drain", "--pod", &pod, "--over", "200ms"];
        let (good, text, problem) = stage.run(&[&drain[..], &["--dry-run"]].concat()).await;
        assert!(good, "{problem}");
        assert_eq!(
            text,
            format!("would drain pod {pod}: 1 WebSockets over 200ms\n  of default/one:80\n")
        );
        let said = frame(TEXT, true, b"still here");
        client.send(&said).await;
        assert_eq!(server.read(said.len()).await, said);

        let (good, _, problem) = stage.run(&drain).await;
        assert!(good, "{problem}");
        let goodbye = (1012, "draining, please reconnect".to_owned());
        assert_eq!(client.close_frame().await, goodbye);
        assert_eq!(server.close_frame().await, goodbye);
        drop((client, server));
        // New ones go to the other pod, although it has more.
        let more = [open(1 - drained).await, open(1 - drained).await];
        let (good, text, problem) = stage.run(&["drain", "--pod", &pod, "--undo"]).await;
        assert!(good, "{problem}");
        assert!(text.contains("is used again"), "{text}");
        let _back = open(drained).await;
        other.send(&said).await;
        assert_eq!(its_pod.read(said.len()).await, said);
        drop(more);

        let (good, _, problem) = stage.run(&["drain", "--pod", "192.0.2.1"]).await;
        assert!(!good && problem.contains("no Service"), "{problem}");
        let (good, _, _) = stage.run(&["drain"]).await;
        assert!(!good);
    })
    .await;
}

#[tokio::test]
async fn they_are_rebalanced_dry_first() {
    limited(async {
        let pods = [RawPod::start().await, RawPod::start().await];
        let one = service("one", "", &[pods[0].address]);
        let ingress = ingress("one", HOSTS[0], "one");
        let manifests = [("edge.yaml", EDGE), ("a.yaml", &one), ("b.yaml", &ingress)];
        let holdfast = Holdfast::start(&manifests).await;
        let stage = Stage { pods, holdfast };
        let mut tunnels = Vec::new();
        for _ in 0..6 {
            tunnels.push(stage.open(0).await);
        }
        let (good, text, _) = stage.run(&["rebalance", "--dry-run"]).await;
        assert!(
            good && text.starts_with("would move 0 WebSockets\n"),
            "{text}"
        );
        let both = service("one", "", &[stage.pods[0].address, stage.pods[1].address]);
        stage.holdfast.write_only("a.yaml", &both);
        let text = soon("the new pod is known", async || {
            let (good, text, problem) = stage.run(&["rebalance", "--dry-run"]).await;
            assert!(good, "{problem}");
            text.starts_with("would move 3 WebSockets\n")
                .then_some(text)
        })
        .await;
        let [first, second] = [0, 1].map(|index: usize| stage.pods[index].address);
        assert!(text.contains("default/one:80\n"), "{text}");
        assert!(
            text.contains(&format!("  pod {first} has 6, of which 3 move\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("  pod {second} has 0, of which 0 move\n")),
            "{text}"
        );
        let other = ["rebalance", "--service", "nobody/", "--dry-run"];
        let (_, text, _) = stage.run(&other).await;
        assert_eq!(text, "would move 0 WebSockets\n");

        let (good, text, problem) = stage.run(&["rebalance", "--over", "0s"]).await;
        assert!(
            good && text.starts_with("moving 3 WebSockets"),
            "{text}{problem}"
        );
        let mut closed = 0;
        for (client, _) in &mut tunnels {
            if !client
                .is_silent(std::time::Duration::from_millis(500))
                .await
            {
                closed += 1;
            }
        }
        assert_eq!(closed, 3);
        let (good, _, _) = stage.run(&["rebalance", "--tolerance-percent", "0"]).await;
        assert!(!good);
    })
    .await;
}
