//! Holdfast as a process that watches the API server.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::objects::NAMESPACE;
use crate::client::request::{Requests, get};
use crate::client::wire::Target;
use crate::peers::process::Spawned;
use crate::usage::{CpuTime, Memory, tree};

/// Ports of the listeners and the admin port. Below those that the cluster lends to connections, so
/// that no attempt to connect to them takes them.
pub(super) const HTTP: u16 = 8_080;
pub(super) const HTTPS: u16 = 8_443;
const ADMIN: u16 = 9_090;

/// The longest start that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// A running Holdfast.
#[derive(Debug)]
pub(super) struct Controller {
    process: Spawned,
    /// From its start until it was ready.
    pub(super) started_in: Duration,
    /// Answers other than 200 to requests for a host that exists, before it was ready.
    pub(super) wrong_answers: u64,
}

impl Controller {
    /// Starts it and waits until it is ready, asking for `host` all the time.
    pub(super) async fn start(
        program: &Path,
        directory: &Path,
        node: IpAddr,
        host: Option<&str>,
    ) -> Result<Self> {
        let log: PathBuf = directory.join("holdfast.log");
        let mut command = Command::new(program);
        command
            .arg("run")
            .args(["--admin", &format!("127.0.0.1:{ADMIN}")])
            .args(["--bind-address", "127.0.0.1"])
            .args(["--access-log", "off", "--workers", "2", "--log", "warn"])
            .args(["--pod-namespace", NAMESPACE, "--pod-name", "bench"])
            .args(["--publish-address", &node.to_string()])
            .args(["--shutdown-delay", "0s"]);
        let began = Instant::now();
        let mut process = Spawned::start(&mut command, "holdfast", &log)?;
        let admin = loopback(ADMIN);
        let ready = b"GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n";
        let mut wrong_answers = 0;
        loop {
            if let Some(host) = host
                && let Some(status) = ask(&loopback(HTTP), &get(host)).await
            {
                wrong_answers += u64::from(status != 200);
            }
            if ask(&admin, ready).await == Some(200) {
                break;
            }
            process.still_runs()?;
            if began.elapsed() > LIMIT {
                bail!("holdfast is not ready\n{}", process.end_of_log());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(Self {
            process,
            started_in: began.elapsed(),
            wrong_answers,
        })
    }

    /// Its listener.
    pub(super) fn target(&self) -> Target {
        loopback(HTTP)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory in MB.
    pub(super) fn resident(&self) -> f64 {
        Memory::of(self.pid()).resident as f64 / 1e6
    }

    /// Processor time of all its threads so far.
    pub(super) fn cpu(&self) -> CpuTime {
        CpuTime::of(&tree(self.pid()))
    }

    /// Waits until it has nothing to do: less than 2 % of a core over a second.
    pub(super) async fn rest(&self) {
        let deadline = Instant::now() + Duration::from_secs(420);
        loop {
            let before = self.cpu();
            sleep(Duration::from_secs(1)).await;
            let spent = self.cpu().since(&before);
            if spent < Duration::from_millis(20) || Instant::now() > deadline {
                return;
            }
        }
    }
}

async fn ask(target: &Target, request: &[u8]) -> Option<u16> {
    let answer = async { Requests::open(target).await?.send(request).await };
    Some(answer.await.ok()?.status)
}

fn loopback(port: u16) -> Target {
    Target {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        tls: None,
    }
}
