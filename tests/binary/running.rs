//! The program in a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{EDGE, LIMIT, ingress, raw, service};
use crate::peers::{Peer, RawPod, close, within};

pub(crate) const HOST: &str = "ws.example";
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast");

/// A running program.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
    pub(crate) directory: TempDir,
}

impl Running {
    pub(crate) async fn start(pod: &RawPod, flags: &[&str]) -> Self {
        Self::run(pod, Command::new(PROGRAM), flags).await
    }

    /// With so many files to open at most.
    pub(crate) async fn start_with_files(pod: &RawPod, files: usize) -> Self {
        let mut shell = Command::new("sh");
        let script = format!(r#"ulimit -n {files}; exec "$0" "$@""#);
        shell.args(["-c", &script, PROGRAM]);
        Self::run(pod, shell, &[]).await
    }

    pub(crate) async fn run(pod: &RawPod, mut program: Command, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, yaml) in [
            ("edge.yaml", EDGE),
            ("pod.yaml", &service("pod", "", &[pod.address])),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ] {
            std::fs::write(directory.path().join(name), yaml).unwrap();
        }
        let (child, mut stdout) = spawn(
            program
                .args(["run", "--any-port", "--bind-address", "127.0.0.1"])
                .args(["--admin", "127.0.0.1:0", "--shutdown-delay", "0s"])
                .arg("--manifests")
                .arg(directory.path())
                .args(flags),
        );
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

    pub(crate) fn at(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(self.child.id().unwrap(), signal);
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("the exit", self.child.wait()).await.unwrap()
    }

    /// A page of the admin port.
    pub(crate) async fn page(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        raw(self.at("admin"), request.as_bytes()).await
    }

    pub(crate) async fn metric(&self, name: &str) -> u64 {
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
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

/// A process that ends with the test, and the lines that it writes.
pub(crate) fn spawn(command: &mut Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, stdout)
}

pub(crate) fn send_signal(process: u32, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

pub(crate) async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// Takes a Close and answers it as an endpoint does.
pub(crate) async fn say_goodbye((mut client, mut server): (Peer, Peer)) -> (u16, u16) {
    let (told, _) = client.close_frame().await;
    let (pod_told, _) = server.close_frame().await;
    server.send(&close(false, pod_told, "")).await;
    server.finish().await;
    client.send(&close(true, told, "")).await;
    client.ended().await;
    server.ended().await;
    (told, pod_told)
}
