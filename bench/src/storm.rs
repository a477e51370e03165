//! A crowd that reconnects at once to a pod that takes only so many a second, with and without the
//! queue in front of pods.
//!
//! ```text
//!   clients (all at once; Retry-After, or backoff with jitter) ─▶ Holdfast ─▶ Pod: a handshake each 1/rate s,
//!                                                                             room for some, resets the rest
//! ```

use std::io::{self, Write as _, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backend::{handshake_key, read_head, switching};
use crate::client::wire::{Target, Wire};
use crate::peers::{Peer, Scene, manifests};

/// What a run can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program of Holdfast.
    #[arg(long, default_value = "target/release/holdfast")]
    holdfast: PathBuf,
    /// Clients that reconnect at once. Each takes two files of Holdfast and two of this program.
    #[arg(long, default_value_t = 9_000)]
    clients: usize,
    /// Handshakes that the pod takes a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Handshakes that it has room for; it resets what comes beyond.
    #[arg(long, default_value_t = 256)]
    room: usize,
    /// Seconds after which a storm is given up.
    #[arg(long, default_value_t = 120)]
    limit: u64,
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first and the longest pause of a client that was told nothing.
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
const BACKLOG: u32 = 128;

/// What happened in a storm.
#[derive(Debug, Default)]
struct Tally {
    /// Handshakes that the pod had no room for.
    overrun: AtomicUsize,
    /// Handshakes whose client had gone when their turn came.
    wasted: AtomicUsize,
    /// Answers that told when to come back.
    refused: AtomicUsize,
    /// Attempts that failed in any other way.
    failed: AtomicUsize,
}

/// Runs both storms and prints what they came to.
///
/// # Errors
///
/// Holdfast or the pod does not start.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    writeln!(
        stdout(),
        "{} clients at once, a pod that takes {} a second and has room for {}\n",
        options.clients,
        options.rate,
        options.room
    )?;
    writeln!(
        stdout(),
        "| queue | handshakes that overran the pod | done in vain | refused with Retry-After | other failures | half connected, s | 99 %, s | all, s |"
    )?;
    writeln!(
        stdout(),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )?;
    for (name, queue) in [("on", ""), ("off", ", admission: {queue: {timeout: 0s}}")] {
        let (tally, times) = storm(&options, queue).await?;
        let at = |share: f64| {
            let index = (options.clients as f64 * share).ceil() as usize;
            times.get(index.max(1) - 1).map_or_else(
                || format!("not in {}", options.limit),
                |time| format!("{:.1}", time.as_secs_f64()),
            )
        };
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        writeln!(
            stdout(),
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            count(&tally.overrun),
            count(&tally.wasted),
            count(&tally.refused),
            count(&tally.failed),
            at(0.5),
            at(0.99),
            at(1.0)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One storm: what happened, and when each client was connected, in order.
async fn storm(options: &Options, queue: &str) -> Result<(Arc<Tally>, Vec<Duration>)> {
    let tally = Arc::new(Tally::default());
    let scene = Scene::new(&options.holdfast).await?;
    let pod = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("no pod")?;
    let address = pod.local_addr()?;
    let serving = tokio::spawn(serve(pod, options.rate, options.room, Arc::clone(&tally)));
    let port = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?
        .local_addr()?
        .port();
    let (_peer, _manifests) = Peer::start_holdfast(&scene, |manifests| {
        let service = manifests::service("storm", &[Ipv4Addr::LOCALHOST], address.port());
        manifests.write("storm-service.yaml", &service)?;
        manifests.write(
            "storm.yaml",
            &format!(
                "apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {{name: storm, namespace: bench}}
spec:
  exposure: Host
  listeners:
  - {{name: storm, port: {port}, protocol: HTTP, websocket: {{idleTimeout: 0s}}{queue}}}
  rules:
  - backends: [{{service: {{name: storm, port: 80}}}}]
"
            ),
        )
    })
    .await?;
    let target = Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
    };
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..options.clients {
        let (target, tally) = (target.clone(), Arc::clone(&tally));
        clients.spawn(async move {
            let wire = reconnect(&target, &tally).await;
            (began.elapsed(), wire)
        });
    }
    let mut held = Vec::new();
    let mut times = Vec::new();
    let all = async {
        while let Some(connected) = clients.join_next().await {
            let (time, wire) = connected.context("a client ended")?;
            times.push(time);
            held.push(wire);
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = timeout(Duration::from_secs(options.limit), all).await {
        ended?;
    }
    serving.abort();
    times.sort_unstable();
    Ok((tally, times))
}

/// As clients do: when they are told when to come back they do, and else they back off.
async fn reconnect(target: &Target, tally: &Tally) -> Wire {
    let mut backoff = BACKOFF;
    loop {
        match timeout(PATIENCE, attempt(target)).await {
            Ok(Ok(Ok(wire))) => return wire,
            Ok(Ok(Err(Some(seconds)))) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(seconds)).await;
            }
            _ => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                sleep(backoff.mul_f64(0.5 + fastrand::f64())).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

/// A WebSocket, or the seconds after which to come back.
async fn attempt(target: &Target) -> io::Result<Result<Wire, Option<u64>>> {
    let mut wire = target.connect().await?;
    wire.write_all(
        b"GET / HTTP/1.1\r\nHost: storm.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    .await?;
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if wire.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if head.starts_with("http/1.1 101 ") {
        return Ok(Ok(wire));
    }
    let after = head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "))
        .and_then(|seconds| seconds.trim().parse().ok());
    Ok(Err(after))
}

fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The pod: one handshake after the other, each as long as its rate says.
async fn serve(pod: tokio::net::TcpListener, rate: u32, room: usize, tally: Arc<Tally>) {
    let each = Duration::from_secs(1) / rate.max(1);
    let turn = Arc::new(Mutex::new(Instant::now()));
    let pending = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = pod.accept() => {
                let (turn, pending, tally) = (Arc::clone(&turn), Arc::clone(&pending), Arc::clone(&tally));
                connections.spawn(async move {
                    // How a connection ends is the client's affair, and counted there.
                    drop(handshake(stream, each, room, &turn, &pending, &tally).await);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn handshake(
    mut stream: TcpStream,
    each: Duration,
    room: usize,
    turn: &Mutex<Instant>,
    pending: &AtomicUsize,
    tally: &Tally,
) -> io::Result<()> {
    let mut head = Vec::new();
    let Some(length) = read_head(&mut stream, &mut head).await? else {
        return Ok(());
    };
    let key = handshake_key(head.get(..length).unwrap_or_default())?.unwrap_or_default();
    if pending.fetch_add(1, Ordering::Relaxed) >= room {
        pending.fetch_sub(1, Ordering::Relaxed);
        tally.overrun.fetch_add(1, Ordering::Relaxed);
        return stream.set_zero_linger();
    }
    {
        let mut next = turn.lock().await;
        let due = (*next + each).max(Instant::now());
        *next = due;
        sleep_until(due).await;
    }
    pending.fetch_sub(1, Ordering::Relaxed);
    if matches!(stream.try_read(&mut [0; 1]), Ok(0)) {
        tally.wasted.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    stream.write_all(&switching(&key)).await?;
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
