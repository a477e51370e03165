//! Changes of Holdfast's manifests, each with the sign on the wire that it has been taken up.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::{sleep, timeout};

use crate::client::reconnecting::Reconnecting;
use crate::client::request::{Answer, Requests, get};
use crate::client::wire::{HOST, Target};
use crate::peers::holdfast::Manifests;
use crate::peers::{Certificate, Peer, Scene, manifests};

/// Makes one kind of change after the other, none of which concerns a live tunnel.
#[derive(Debug)]
pub(super) struct Steps<'run> {
    manifests: &'run Manifests,
    scene: &'run Scene,
    plain: Target,
    secure: Target,
}

/// The host whose endpoints move.
const MOVED: &str = "moved.bench.test";
const LIMIT: Duration = Duration::from_secs(5);

/// Writes what the changes need beside the rest.
///
/// # Errors
///
/// Those of the file system.
pub(super) fn prepare(to: &Manifests, scene: &Scene) -> Result<()> {
    let endpoints = &scene.spare()[..1];
    let service = manifests::service("moved", endpoints, scene.backend_port());
    to.write("moved-service.yaml", &service)?;
    to.write(
        "moved-ingress.yaml",
        &manifests::ingress("moved", MOVED, "moved"),
    )
}

impl<'run> Steps<'run> {
    /// Changes for this Holdfast, which follows `manifests`.
    pub(super) fn new(manifests: &'run Manifests, peer: &Peer, scene: &'run Scene) -> Self {
        Self {
            manifests,
            scene,
            plain: peer.target(false),
            secure: peer.target(true),
        }
    }

    /// Makes change `number` and waits for its sign; returns the time that took.
    ///
    /// # Errors
    ///
    /// The sign did not come within 5 s.
    pub(super) async fn make(&self, number: usize) -> Result<Duration> {
        match number % 5 {
            0 => self.add_route().await.context("a new route"),
            1 => self.move_endpoints(number).await.context("moved endpoints"),
            2 => self.renew_certificate().await.context("a new certificate"),
            3 => self.remove_route().await.context("a removed route"),
            _ => self.add_endpoint(number).await.context("a new endpoint"),
        }
    }

    async fn add_route(&self) -> Result<Duration> {
        let ingress = manifests::ingress("added", "added.bench.test", "echo");
        self.manifests.write("added-ingress.yaml", &ingress)?;
        self.answered("added.bench.test", |answer| answer.status == 200)
            .await
    }

    async fn remove_route(&self) -> Result<Duration> {
        self.manifests.remove("added-ingress.yaml")?;
        self.answered("added.bench.test", |answer| answer.status == 404)
            .await
    }

    /// Gives another Service's endpoints a new address.
    async fn move_endpoints(&self, number: usize) -> Result<Duration> {
        let spare = self.scene.spare();
        let to = spare[(number / 5 + 1) % spare.len()];
        let service = manifests::service("moved", &[to], self.scene.backend_port());
        self.manifests.write("moved-service.yaml", &service)?;
        let to = Some(format!("{to}:{}", self.scene.backend_port()));
        self.answered(MOVED, |answer| answer.backend == to).await
    }

    /// Adds an address to the endpoints that the live tunnels use.
    async fn add_endpoint(&self, number: usize) -> Result<Duration> {
        let spare = self.scene.spare();
        let more = &spare[..(number / 5 + 1).min(spare.len())];
        let endpoints = [&self.scene.balanced(), more].concat();
        let service = manifests::service("echo", &endpoints, self.scene.backend_port());
        self.manifests.write("echo-service.yaml", &service)?;
        let port = self.scene.backend_port();
        let newest = more.last().map(|newest| format!("{newest}:{port}"));
        self.answered(HOST, |answer| answer.backend == newest).await
    }

    async fn renew_certificate(&self) -> Result<Duration> {
        let certificate = Certificate::generate()?;
        let secret = manifests::secret(&certificate);
        self.manifests.write("certificate.yaml", &secret)?;
        let started = Instant::now();
        loop {
            let connection = timeout(LIMIT, Requests::open(&self.secure)).await??;
            if connection.certificate() == Some(&certificate.der) {
                return Ok(started.elapsed());
            }
            pause(started).await?;
        }
    }

    /// Asks for `host` until the answer is the one that is waited for.
    async fn answered(&self, host: &str, right: impl Fn(&Answer) -> bool) -> Result<Duration> {
        let started = Instant::now();
        let request = get(host);
        let mut client = Reconnecting::new(self.plain.clone());
        while !right(&client.send(&request).await?) {
            pause(started).await?;
        }
        Ok(started.elapsed())
    }
}

/// Waits a little; fails when the change is overdue.
async fn pause(started: Instant) -> Result<()> {
    if started.elapsed() > LIMIT {
        bail!("was not seen within {LIMIT:?}");
    }
    sleep(Duration::from_millis(1)).await;
    Ok(())
}
