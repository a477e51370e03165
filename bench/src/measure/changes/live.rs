//! WebSockets that stay open, talk once a second, and are now and then replaced.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::{sleep, timeout};

use crate::client::message::Message;
use crate::client::tunnel::Tunnel;
use crate::client::wire::Target;

/// What all of them have seen.
#[derive(Debug)]
pub(super) struct Live {
    lifetime: Range<Duration>,
    stopped: AtomicBool,
    opened: AtomicU64,
    sent: AtomicU64,
    echoed: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    worst_micros: AtomicU64,
    failures: Mutex<Vec<String>>,
}

const EVERY: Duration = Duration::from_secs(1);
/// The longest that one handshake, echo or close is waited for.
const LIMIT: Duration = Duration::from_secs(5);
/// How many failures are told in words; all are counted.
const TOLD: usize = 3;

impl Live {
    /// None yet; each will live for a random time of this range.
    pub(super) fn new(lifetime: Range<Duration>) -> Self {
        Self {
            lifetime,
            stopped: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            worst_micros: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
        }
    }

    /// Keeps one WebSocket open until [`stop`](Self::stop), replaced when its time has come.
    pub(super) async fn keep(self: Arc<Self>, target: Target) {
        // Not all in the same instant, neither at the start nor later.
        sleep(EVERY.mul_f64(fastrand::f64())).await;
        let mut message = Message::new(64);
        while !self.stopped.load(Relaxed) {
            let tunnel = match within(Tunnel::open(&target)).await {
                Ok(tunnel) => tunnel,
                Err(error) => {
                    self.refused.fetch_add(1, Relaxed);
                    self.failed(&error);
                    sleep(EVERY / 10).await;
                    continue;
                }
            };
            self.opened.fetch_add(1, Relaxed);
            if let Err(error) = self.talk(tunnel, &mut message).await {
                self.dropped.fetch_add(1, Relaxed);
                self.failed(&error);
            }
        }
    }

    /// One life: messages, then a clean close.
    async fn talk(&self, mut tunnel: Tunnel, message: &mut Message) -> Result<()> {
        let range = self.lifetime.end.saturating_sub(self.lifetime.start);
        let end = Instant::now() + self.lifetime.start + range.mul_f64(fastrand::f64());
        while Instant::now() < end && !self.stopped.load(Relaxed) {
            let sent = Instant::now();
            self.sent.fetch_add(1, Relaxed);
            within(tunnel.echo(message)).await?;
            self.echoed.fetch_add(1, Relaxed);
            let took = u64::try_from(sent.elapsed().as_micros())?;
            self.worst_micros.fetch_max(took, Relaxed);
            sleep(EVERY.saturating_sub(sent.elapsed())).await;
        }
        within(tunnel.close()).await
    }

    fn failed(&self, error: &anyhow::Error) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD {
            failures.push(format!("{error:#}"));
        }
    }

    /// Waits until so many have been opened.
    ///
    /// # Errors
    ///
    /// They have not within 30 s.
    pub(super) async fn all_open(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.opened.load(Relaxed) < count as u64 {
            if Instant::now() > deadline {
                let opened = self.opened.load(Relaxed);
                bail!(
                    "{opened} of {count} tunnels could be opened: {:?}",
                    self.failures()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Lets every WebSocket close and none be opened.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// The longest round trip since the last call, in ms.
    pub(super) fn take_worst(&self) -> f64 {
        self.worst_micros.swap(0, Relaxed) as f64 / 1e3
    }

    /// WebSockets that ended otherwise than by the generator's will.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Messages without an echo; true once all tasks have ended.
    pub(super) fn lost(&self) -> u64 {
        self.sent.load(Relaxed) - self.echoed.load(Relaxed)
    }

    /// WebSockets that could not be opened.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// The first failures, in words.
    pub(super) fn failures(&self) -> Vec<String> {
        let failures = self.failures.lock();
        failures.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    Ok(timeout(LIMIT, work).await??)
}
