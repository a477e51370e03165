//! Requests on new connections and WebSockets that talk, and how long each took.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::client::message::Message;
use crate::client::request::{Requests, get};
use crate::client::tunnel::Tunnel;
use crate::client::wire::{HOST, Target};
use crate::statistics::percentile;

/// The longest that anything is waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// What clients saw over a time.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Round trips of messages, ms.
    pub(super) messages: Vec<f64>,
    /// New connection, request, answer, ms.
    pub(super) requests: Vec<f64>,
    /// WebSockets that ended, messages without an echo, requests without a 200.
    pub(super) failures: u64,
}

impl Seen {
    /// The value that 99 % of the messages, and of the requests, did not exceed.
    pub(super) fn p99(&self) -> (f64, f64) {
        let of = |times: &[f64]| percentile(times, 0.99).unwrap_or(f64::INFINITY);
        (of(&self.messages), of(&self.requests))
    }
}

/// WebSockets at one message a second each, and requests on new connections at a rate.
#[derive(Debug)]
pub(super) struct Load {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Opens the WebSockets and begins.
    pub(super) async fn start(target: &Target, tunnels: usize, rate: u32) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..tunnels {
            let tunnel = timeout(LIMIT, Tunnel::open(target)).await??;
            tasks.spawn(talk(tunnel, Arc::clone(&seen), Arc::clone(&stop)));
        }
        let target = target.clone();
        let (into, ending) = (Arc::clone(&seen), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut beat = interval(Duration::from_secs(1) / rate);
            let mut asking = JoinSet::new();
            while !ending.load(Relaxed) {
                beat.tick().await;
                asking.spawn(request(target.clone(), Arc::clone(&into)));
                while asking.try_join_next().is_some() {}
            }
            while asking.join_next().await.is_some() {}
        });
        Ok(Self { seen, stop, tasks })
    }

    /// What was seen since the last call.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends all of it.
    pub(super) async fn stop(mut self) -> Seen {
        self.stop.store(true, Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.take()
    }
}

async fn talk(mut tunnel: Tunnel, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    sleep(Duration::from_secs(1).mul_f64(fastrand::f64())).await;
    let mut message = Message::new(64);
    while !stop.load(Relaxed) {
        let sent = Instant::now();
        let echoed = timeout(LIMIT, tunnel.echo(&mut message)).await;
        let took = sent.elapsed();
        if !note(&seen, took, matches!(echoed, Ok(Ok(())))) {
            return;
        }
        sleep(Duration::from_secs(1).saturating_sub(took)).await;
    }
}

/// Answers whether the WebSocket goes on.
fn note(seen: &Mutex<Seen>, took: Duration, is_echoed: bool) -> bool {
    let mut into = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if is_echoed {
        into.messages.push(took.as_secs_f64() * 1e3);
    } else {
        into.failures += 1;
    }
    is_echoed
}

async fn request(target: Target, seen: Arc<Mutex<Seen>>) {
    let sent = Instant::now();
    let asked = async { Requests::open(&target).await?.send(&get(HOST)).await };
    let answer = timeout(LIMIT, asked).await;
    let took = sent.elapsed();
    let mut into = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(Ok(answer)) if answer.status == 200 => into.requests.push(took.as_secs_f64() * 1e3),
        _ => into.failures += 1,
    }
}
