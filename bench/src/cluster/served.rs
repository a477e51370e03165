//! From the API server's acknowledgment of a write to the changed answer on the wire.
//!
//! ```text
//!   write ─▶ acknowledged ─▶ GET, GET, … ─▶ the answer is the new one
//!                 └────────── measured ──────────┘
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustls::ClientConfig;
use tokio::time::sleep;

use super::api_server::ApiServer;
use super::controller::HTTPS;
use super::objects::{self, INGRESS, SECRET, SLICE};
use crate::client::reconnecting::Reconnecting;
use crate::client::request::{Requests, get};
use crate::client::wire::{HOST, Target};
use crate::peers::Certificate;

/// Between two requests. The time that is measured is exact to this and a round trip.
const POLL: Duration = Duration::from_micros(200);
/// The longest that a change is waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Create,
    Backend,
    Delete,
    Endpoint,
    Certificate,
}

impl Write {
    pub(super) const ALL: [Self; 5] = [
        Self::Create,
        Self::Backend,
        Self::Delete,
        Self::Endpoint,
        Self::Certificate,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "Ingress created",
            Self::Backend => "backend of an Ingress changed",
            Self::Delete => "Ingress deleted",
            Self::Endpoint => "endpoint changed",
            Self::Certificate => "certificate changed",
        }
    }
}

/// Times writes.
pub(super) struct Stopwatch {
    pub(super) api: ApiServer,
    pub(super) target: Target,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) backends: [SocketAddr; 2],
    pub(super) number: u64,
}

impl Stopwatch {
    /// The times of `count` writes of a kind, in ms.
    pub(super) async fn times(&mut self, write: Write, count: usize) -> Result<Vec<f64>> {
        let mut client = Reconnecting::new(self.target.clone());
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            self.number += 1;
            let took = match write {
                Write::Create | Write::Delete => self.come_and_go(&mut client, write).await?,
                Write::Backend => self.backend(&mut client).await?,
                Write::Endpoint => self.endpoint(&mut client).await?,
                Write::Certificate => self.certificate().await?,
            };
            times.push(took.as_secs_f64() * 1e3);
            sleep(Duration::from_millis(fastrand::u64(20..60))).await;
        }
        Ok(times)
    }

    async fn come_and_go(&self, client: &mut Reconnecting, write: Write) -> Result<Duration> {
        let name = format!("new-{}", self.number);
        let host = format!("{name}.{HOST}");
        let ingress = objects::ingress(&name, &host, "echo-0");
        self.api.create(INGRESS, &ingress).await?;
        let acknowledged = Instant::now();
        let created = until(client, &host, acknowledged, |status, _| status == 200).await?;
        self.api.delete(INGRESS, &name).await?;
        let acknowledged = Instant::now();
        let deleted = until(client, &host, acknowledged, |status, _| status == 404).await?;
        Ok(if write == Write::Create {
            created
        } else {
            deleted
        })
    }

    async fn backend(&self, client: &mut Reconnecting) -> Result<Duration> {
        let to = usize::from(self.number.is_multiple_of(2));
        let host = format!("switch.{HOST}");
        let ingress = objects::ingress("switch", &host, &format!("echo-{to}"));
        self.api.replace(INGRESS, &ingress).await?;
        self.reaches(client, &host, to).await
    }

    async fn endpoint(&self, client: &mut Reconnecting) -> Result<Duration> {
        let to = usize::from(self.number.is_multiple_of(2));
        let host = format!("moving.{HOST}");
        let slice = objects::slice("moving", self.backends[to]);
        self.api.replace(SLICE, &slice).await?;
        self.reaches(client, &host, to).await
    }

    async fn reaches(&self, client: &mut Reconnecting, host: &str, to: usize) -> Result<Duration> {
        let acknowledged = Instant::now();
        let wanted = self.backends[to].to_string();
        until(client, host, acknowledged, |_, backend| {
            backend == Some(&*wanted)
        })
        .await
    }

    /// Each look needs a handshake of its own.
    async fn certificate(&self) -> Result<Duration> {
        let certificate = Certificate::generate()?;
        let secret = objects::secret("bench", &certificate);
        self.api.replace(SECRET, &secret).await?;
        let acknowledged = Instant::now();
        let target = Target {
            address: SocketAddr::from(([127, 0, 0, 1], HTTPS)),
            tls: Some(Arc::clone(&self.tls)),
        };
        while Requests::open(&target).await?.certificate() != Some(&certificate.der) {
            pause(acknowledged)?;
        }
        Ok(acknowledged.elapsed())
    }
}

/// Asks for the host until the answer is as wanted.
pub(super) async fn until(
    client: &mut Reconnecting,
    host: &str,
    since: Instant,
    is_wanted: impl Fn(u16, Option<&str>) -> bool,
) -> Result<Duration> {
    let request = get(host);
    loop {
        let answer = client.send(&request).await?;
        if is_wanted(answer.status, answer.backend.as_deref()) {
            return Ok(since.elapsed());
        }
        pause(since).with_context(|| {
            format!(
                "{host}: the last answer is {} from {:?}",
                answer.status, answer.backend
            )
        })?;
    }
}

fn pause(since: Instant) -> Result<()> {
    if since.elapsed() > LIMIT {
        bail!("a change was not served within {LIMIT:?}");
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime's clock has steps of 1 ms; what else runs on this thread can wait"
    )]
    std::thread::sleep(POLL);
    Ok(())
}
