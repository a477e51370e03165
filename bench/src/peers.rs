//! The proxies under comparison: how each is configured, started and ended.
//!
//! ```text
//!   Scene (directory, certificate, backend) ──▶ Peer::start ──▶ configuration file(s)
//!                                                           └─▶ process, awaited until it serves
//! ```

mod haproxy;
pub(crate) mod holdfast;
pub(crate) mod manifests;
mod nginx;
pub(crate) mod process;
mod scene;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use rustls::ClientConfig;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::client::request::{Requests, get};
use crate::client::wire::{HOST, Target};
use holdfast::Manifests;
use process::Spawned;
pub(crate) use scene::{Certificate, Scene};

/// A proxy that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// This project's.
    Holdfast,
    /// The one that ratios are taken to.
    Nginx,
    /// The best of the others in memory.
    Haproxy,
}

/// A running proxy. Dropped, its processes end.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Which it is.
    pub(crate) kind: Kind,
    process: Spawned,
    ports: Ports,
    tls: Arc<ClientConfig>,
}

/// Where a proxy listens, on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    pub(crate) admin: u16,
}

/// How long a proxy may take from its start until it serves.
const START: Duration = Duration::from_secs(30);

impl Kind {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "Holdfast",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
        }
    }

    /// The program, by path for Holdfast and by name for the others.
    fn program(self, scene: &Scene) -> &Path {
        match self {
            Self::Holdfast => scene.holdfast(),
            Self::Nginx => Path::new("nginx"),
            Self::Haproxy => Path::new("haproxy"),
        }
    }

    /// What the program says its version is.
    ///
    /// # Errors
    ///
    /// The program is not there or cannot be run.
    pub(crate) fn version(self, scene: &Scene) -> Result<String> {
        let flag = match self {
            Self::Holdfast => "--version",
            Self::Nginx | Self::Haproxy => "-v",
        };
        let output = Command::new(self.program(scene))
            .arg(flag)
            .env("PATH", search_path())
            .output()
            .with_context(|| format!("{} cannot be run", self.program(scene).display()))?;
        // nginx says it on the standard error.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let version = said
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().find(|word| word.contains('.')));
        match version {
            Some(version) => Ok(version.rsplit('/').next().unwrap_or(version).to_owned()),
            None => bail!("{} {flag} names no version", self.program(scene).display()),
        }
    }
}

impl Peer {
    /// Starts a proxy in a directory of its own under the scene's and waits until it serves.
    ///
    /// # Errors
    ///
    /// The program is missing, ends, or does not serve within 30 s; with the end of its log.
    pub(crate) async fn start(kind: Kind, scene: &Scene) -> Result<Self> {
        if kind == Kind::Holdfast {
            let (peer, _) = Self::start_holdfast(scene, |_| Ok(())).await?;
            return Ok(peer);
        }
        let ports = Ports::free()?;
        let directory = scene.fresh_directory(kind.name())?;
        let mut command = Command::new(kind.program(scene));
        match kind {
            Kind::Nginx => nginx::configure(&mut command, scene, ports, &directory)?,
            _ => haproxy::configure(&mut command, scene, ports, &directory)?,
        }
        Self::run(kind, command, scene, ports, &directory).await
    }

    /// Starts Holdfast as [`start`](Self::start) does, with what `fill` adds to its manifests.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start), and those of `fill`.
    pub(crate) async fn start_holdfast(
        scene: &Scene,
        fill: impl FnOnce(&Manifests) -> Result<()>,
    ) -> Result<(Self, Manifests)> {
        let kind = Kind::Holdfast;
        let ports = Ports::free()?;
        let manifests = Manifests::create(scene)?;
        manifests.write_base(scene, ports)?;
        fill(&manifests)?;
        let directory = scene.fresh_directory(kind.name())?;
        let mut command = Command::new(kind.program(scene));
        holdfast::arguments(&mut command, &manifests, ports);
        let peer = Self::run(kind, command, scene, ports, &directory).await?;
        Ok((peer, manifests))
    }

    async fn run(
        kind: Kind,
        mut command: Command,
        scene: &Scene,
        ports: Ports,
        directory: &Path,
    ) -> Result<Self> {
        command.env("PATH", search_path());
        let mut peer = Self {
            kind,
            process: Spawned::start(&mut command, kind.name(), &directory.join("log"))?,
            ports,
            tls: scene.tls(),
        };
        peer.serves().await?;
        Ok(peer)
    }

    /// Process id of the root of its processes.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Its plain listener, or its TLS listener.
    pub(crate) fn target(&self, secure: bool) -> Target {
        let port = if secure {
            self.ports.https
        } else {
            self.ports.http
        };
        Target {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            tls: secure.then(|| Arc::clone(&self.tls)),
        }
    }

    /// Waits until both listeners answer, and Holdfast's `/readyz` with them.
    async fn serves(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        let admin = Target {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.admin)),
            tls: None,
        };
        let mut probes = vec![
            (self.target(false), get(HOST)),
            (self.target(true), get(HOST)),
        ];
        if self.kind == Kind::Holdfast {
            let readiness = get(HOST);
            let readiness = String::from_utf8_lossy(&readiness).replacen("/", "/readyz", 1);
            probes.insert(0, (admin, readiness.into_bytes()));
        }
        for (target, request) in probes {
            loop {
                let last = match ask(&target, &request).await {
                    Ok(200) => break,
                    Ok(status) => format!("status {status}"),
                    Err(error) => error.to_string(),
                };
                self.process.still_runs()?;
                if Instant::now() > deadline {
                    let log = self.process.end_of_log();
                    bail!("{} does not serve: {last}\n{log}", self.kind.name());
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

impl Ports {
    /// Ports that nobody listens on, below those that the kernel gives to outgoing connections.
    fn free() -> Result<Self> {
        let mut free = (0..1000)
            .map(|_| fastrand::u16(20_000..32_000))
            .filter(|port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        let mut next = || free.next().context("no port is free");
        Ok(Self {
            http: next()?,
            https: next()?,
            admin: next()?,
        })
    }
}

/// Status of one request on a new connection.
async fn ask(target: &Target, request: &[u8]) -> Result<u16> {
    let asked = async { Requests::open(target).await?.send(request).await };
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await??;
    Ok(answer.status)
}

/// The search path with the places of system daemons, which users often lack.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}
