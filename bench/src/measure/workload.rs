//! Work in a closed loop: every connection begins the next unit when its last is done.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::backend::BODY;
use crate::client::message::Message;
use crate::client::request::{Requests, get};
use crate::client::tunnel::Tunnel;
use crate::client::wire::{HOST, Target};

/// A kind of work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// A unit is the echo of a message with `size` bytes of payload on an open WebSocket.
    Messages { secure: bool, size: usize },
    /// A unit is connect, upgrade and close of a WebSocket.
    Openings { secure: bool },
    /// A unit is a GET on a kept connection.
    Requests,
}

/// Connections at work with one proxy.
#[derive(Debug)]
pub(super) struct Workload {
    load: Load,
    workers: Vec<Worker>,
}

/// One connection at work, or one after the other.
#[derive(Debug)]
enum Worker {
    Messages(Box<(Tunnel, Message)>),
    Openings(Target),
    Requests(Requests),
}

impl Load {
    /// It goes over TLS.
    pub(super) fn is_secure(self) -> bool {
        match self {
            Self::Messages { secure, .. } | Self::Openings { secure } => secure,
            Self::Requests => false,
        }
    }
}

impl Workload {
    /// Opens what the work needs.
    ///
    /// # Errors
    ///
    /// A connection that cannot be opened.
    pub(super) async fn prepare(load: Load, target: &Target, connections: usize) -> Result<Self> {
        let mut workers = Vec::with_capacity(connections);
        for _ in 0..connections {
            workers.push(match load {
                Load::Messages { size, .. } => {
                    let tunnel = Tunnel::open(target).await?;
                    Worker::Messages(Box::new((tunnel, Message::new(size))))
                }
                Load::Openings { .. } => Worker::Openings(target.clone()),
                Load::Requests => Worker::Requests(Requests::open(target).await?),
            });
        }
        Ok(Self { load, workers })
    }

    /// Works for the time of `window` and to the end of each unit begun; returns the units done.
    ///
    /// # Errors
    ///
    /// The first that any unit met; the workload is then useless.
    pub(super) async fn run(&mut self, window: Duration) -> Result<u64> {
        let over = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for worker in self.workers.drain(..) {
            running.spawn(worker.run(Arc::clone(&over)));
        }
        sleep(window).await;
        over.store(true, Ordering::Relaxed);
        let mut units = 0;
        while let Some(ended) = running.join_next().await {
            let (worker, done) = ended?.with_context(|| format!("{:?}", self.load))?;
            self.workers.push(worker);
            units += done;
        }
        if units == 0 {
            bail!("no unit of work was done in {window:?}");
        }
        Ok(units)
    }
}

impl Worker {
    async fn run(mut self, over: Arc<AtomicBool>) -> io::Result<(Self, u64)> {
        let request = get(HOST);
        let mut done = 0;
        while !over.load(Ordering::Relaxed) {
            match &mut self {
                Self::Messages(open) => open.0.echo(&mut open.1).await?,
                Self::Openings(target) => Tunnel::open(target).await?.close().await?,
                Self::Requests(connection) => {
                    let answer = connection.send(&request).await?;
                    if (answer.status, answer.body, answer.last) != (200, BODY, false) {
                        return Err(io::Error::other(format!("a GET was answered {answer:?}")));
                    }
                }
            }
            done += 1;
        }
        Ok((self, done))
    }
}
