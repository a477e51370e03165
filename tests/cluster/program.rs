//! The program itself: how it finds the API server, and what it writes when it cannot.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{edge_with_app, ingress, limited};
use crate::harness::{raw, soon};
use crate::peers::within;

/// `holdfast run` in an environment where nothing but this kubeconfig leads to a server.
fn run(home: &TempDir, kubeconfig: Option<&str>, flags: &[&str]) -> Child {
    let path = home.path().join("kubeconfig");
    if let Some(kubeconfig) = kubeconfig {
        std::fs::write(&path, kubeconfig).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["run", "--any-port", "--bind-address", "127.0.0.1"])
        .args(["--admin", "127.0.0.1:0", "--shutdown-delay", "0s"])
        .args(flags)
        .env_clear()
        .env("HOME", home.path())
        .env("KUBECONFIG", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn terminate(child: &Child) {
    let status = std::process::Command::new("kill")
        .args(["-TERM", &child.id().unwrap().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// All that it has written to its log once it has ended.
async fn log(child: &mut Child) -> String {
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    within("the log", stderr.read_to_string(&mut log))
        .await
        .unwrap();
    log
}

#[tokio::test]
async fn the_kubeconfig_leads_to_the_server() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        let home = tempfile::tempdir().unwrap();
        let mut child = run(&home, Some(&server.kubeconfig()), &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = within("the listener", lines.next_line())
                .await
                .unwrap()
                .unwrap();
            if line.starts_with("listener edge/edge/http ") {
                break line.rsplit(' ').next().unwrap().parse().unwrap();
            }
        };
        let request = b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
        assert!(raw(address, request).await.ends_with("app"));
        terminate(&child);
        assert!(within("the end", child.wait()).await.unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn with_namespaces_it_asks_for_nothing_else() {
    limited(async {
        let server = ApiServer::start().await;
        let home = tempfile::tempdir().unwrap();
        let flags = [
            "--namespace",
            "shop,forum",
            "--namespace",
            "blog",
            "--pod-namespace",
            "blog",
        ];
        let child = run(&home, Some(&server.kubeconfig()), &flags);
        let asked = async || (server.requests().len() >= 15).then_some(());
        soon("five kinds of three namespaces", asked).await;
        for request in server.requests() {
            let namespace = request.namespace.as_deref();
            assert!(
                matches!(namespace, Some("shop" | "forum" | "blog")),
                "{}",
                request.uri
            );
        }
        drop(child);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_is_logged_once_a_kind_and_the_program_goes_on() {
    limited(async {
        let server = ApiServer::start().await;
        server.script(Rule::on("*", "*", Fault::status(503, "not yet")));
        let home = tempfile::tempdir().unwrap();
        let mut child = run(&home, Some(&server.kubeconfig()), &[]);
        let retried = async || (server.count("watch", "secrets") >= 4).then_some(());
        soon("several attempts", retried).await;
        assert_eq!(child.try_wait().unwrap(), None);
        terminate(&child);
        assert!(within("the end", child.wait()).await.unwrap().success());
        let log = log(&mut child).await;
        for kind in ["EndpointSlice", "Ingress", "LoadBalancer", "Secret"] {
            let lines: Vec<&str> = log
                .lines()
                .filter(|line| line.contains(&format!("watch of {kind}:")))
                .collect();
            assert_eq!(lines.len(), 1, "{log}");
            assert!(lines[0].contains("status 503: not yet"), "{log}");
        }
        assert!(
            !log.contains("failed with"),
            "the client logs by itself: {log}"
        );
    })
    .await;
}

#[tokio::test]
async fn without_any_way_to_a_server_it_says_so_and_ends() {
    limited(async {
        let home = tempfile::tempdir().unwrap();
        for kubeconfig in [None, Some("clusters: 7")] {
            let mut child = run(&home, kubeconfig, &[]);
            let status = within("the end", child.wait()).await.unwrap();
            assert_eq!(status.code(), Some(2));
            let log = log(&mut child).await;
            assert!(
                log.contains("cannot tell which API server to watch"),
                "{log}"
            );
            assert!(log.contains("--manifests DIR"), "{log}");
        }
        let unusable = ApiServer::down()
            .await
            .kubeconfig()
            .replace("\"user\":{}", "\"user\":{\"tokenFile\":\"/nowhere/token\"}");
        let mut child = run(&home, Some(&unusable), &[]);
        let status = within("the end", child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(2));
        let log = log(&mut child).await;
        assert!(log.contains("/nowhere/token"), "{log}");
    })
    .await;
}
