//! An hour of Holdfast's life in a few minutes: does it hold on to anything?
//!
//! ```text
//! 2,000 tasks: open ─▶ messages of all sizes ─▶ close, vanish, or be cut inside a message ─▶ again
//! one task:    configuration changes, one a second
//! one task:    resident memory and open files of Holdfast, each second ─▶ second half flat?
//! ```

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::message::Message;
use crate::client::tunnel::Tunnel;
use crate::client::wire::Target;
use crate::peers::holdfast::Manifests;
use crate::peers::{Peer, Scene, manifests};
use crate::usage::Memory;

/// What a soak can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program of Holdfast.
    #[arg(long, default_value = "target/release/holdfast")]
    holdfast: PathBuf,
    /// WebSockets that are open at a time, half of them over TLS.
    #[arg(long, default_value_t = 2000)]
    tunnels: usize,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 240)]
    seconds: u64,
}

/// Lives of a WebSocket, in seconds. With 2,000 of them 75 open each second: in four minutes 18,000,
/// as many as in an hour with lives of seven minutes.
const LIVES: std::ops::Range<f64> = 5.0..48.0;
const SIZES: [usize; 6] = [8, 64, 64, 1024, 16 << 10, 100 << 10];
const LIMIT: Duration = Duration::from_secs(20);
/// By how much memory and open files may grow in the second half, by the line that fits them best.
const MOST_GROWTH: f64 = 0.03;
/// For each WebSocket: its two connections, and its share of those that are still ending.
const FILES: f64 = 2.2;
/// Files that are open for another reason than a WebSocket.
const OTHER_FILES: f64 = 40.0;

#[derive(Debug, Default)]
struct Counts {
    stopped: AtomicBool,
    opened: AtomicU64,
    messages: AtomicU64,
    failed: AtomicU64,
    changes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: f64,
    resident: f64,
    files: f64,
}

/// Soaks and judges.
///
/// # Errors
///
/// Holdfast does not start, or cannot be looked at.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let scene = Scene::new(&options.holdfast).await?;
    let (peer, manifests) = Peer::start_holdfast(&scene, |_| Ok(())).await?;
    let counts = Arc::new(Counts::default());
    let files_before = open_files(peer.pid())?;
    let mut tasks = JoinSet::new();
    for number in 0..options.tunnels {
        let target = peer.target(number % 2 == 1);
        tasks.spawn(keep(target, Arc::clone(&counts)));
    }
    let started = Instant::now();
    let mut samples = Vec::new();
    for second in 1..=options.seconds {
        let due = started + Duration::from_secs(second);
        sleep(due.saturating_duration_since(Instant::now())).await;
        change(&manifests, &scene, second)?;
        counts.changes.fetch_add(1, Relaxed);
        samples.push(Sample {
            at: started.elapsed().as_secs_f64(),
            resident: Memory::of(peer.pid()).resident as f64,
            files: open_files(peer.pid())?,
        });
    }
    counts.stopped.store(true, Relaxed);
    let all = async { while tasks.join_next().await.is_some() {} };
    timeout(2 * LIMIT, all)
        .await
        .context("the WebSockets do not end")?;
    let mut files_after = open_files(peer.pid())?;
    let patience = Instant::now() + LIMIT;
    while files_after > files_before + OTHER_FILES && Instant::now() < patience {
        sleep(Duration::from_millis(200)).await;
        files_after = open_files(peer.pid())?;
    }
    report(&options, &counts, &samples, files_before, files_after)
}

fn report(
    options: &Options,
    counts: &Counts,
    samples: &[Sample],
    files_before: f64,
    files_after: f64,
) -> Result<ExitCode> {
    let (first, second) = samples.split_at(samples.len() / 2);
    ensure!(second.len() > 10, "too short to be judged");
    let grown = slope(second, |sample| sample.resident) * second.len() as f64;
    let resident = mean(second, |sample| sample.resident);
    let most_files = |part: &[Sample]| part.iter().map(|sample| sample.files).fold(0.0, f64::max);
    let bound = FILES * options.tunnels as f64 + files_before + OTHER_FILES;
    let files = mean(second, |sample| sample.files);
    let more_files = slope(second, |sample| sample.files) * second.len() as f64;
    let mut out = stdout();
    writeln!(
        out,
        "{} tunnels for {} s: {} opened, {} messages, {} changes, {} failures",
        options.tunnels,
        options.seconds,
        counts.opened.load(Relaxed),
        counts.messages.load(Relaxed),
        counts.changes.load(Relaxed),
        counts.failed.load(Relaxed),
    )?;
    writeln!(
        out,
        "RSS: {:.1} MB in the first half, {:.1} MB in the second, there {:+.2} MB by its best line",
        mean(first, |sample| sample.resident) / 1e6,
        resident / 1e6,
        grown / 1e6,
    )?;
    writeln!(
        out,
        "open files: {files_before} before, at most {} in the first half and {} in the second, \
         there {more_files:+.0} by their best line, {files_after} after",
        most_files(first),
        most_files(second),
    )?;
    let is_flat = grown < resident * MOST_GROWTH;
    let is_bounded = most_files(samples) <= bound
        && more_files < files * MOST_GROWTH
        && files_after <= files_before + OTHER_FILES;
    let is_whole = counts.failed.load(Relaxed) == 0;
    for (holds, what) in [
        (is_flat, "memory grows"),
        (is_bounded, "files stay open"),
        (is_whole, "WebSockets were refused, cut or changed"),
    ] {
        if !holds {
            eprintln!("soak: {what}");
        }
    }
    Ok(if is_flat && is_bounded && is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Keeps one WebSocket open, of one life after the other.
async fn keep(target: Target, counts: Arc<Counts>) {
    // Not all in one moment.
    sleep(Duration::from_secs_f64(10.0 * fastrand::f64())).await;
    while !counts.stopped.load(Relaxed) {
        if let Err(error) = life(&target, &counts).await {
            if counts.failed.fetch_add(1, Relaxed) < 3 {
                eprintln!("soak: {error:#}");
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn life(target: &Target, counts: &Counts) -> Result<()> {
    let mut tunnel = timeout(LIMIT, Tunnel::open(target)).await??;
    counts.opened.fetch_add(1, Relaxed);
    let seconds = LIVES.start + (LIVES.end - LIVES.start) * fastrand::f64();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end && !counts.stopped.load(Relaxed) {
        let mut message = Message::new(SIZES[fastrand::usize(..SIZES.len())]);
        timeout(LIMIT, tunnel.echo(&mut message)).await??;
        counts.messages.fetch_add(1, Relaxed);
        sleep(Duration::from_secs_f64(1.0 + 3.0 * fastrand::f64())).await;
    }
    match fastrand::u8(..4) {
        0 | 1 => timeout(LIMIT, tunnel.close()).await??,
        2 => drop(tunnel),
        _ => {
            // Gone in the middle of a message.
            let message = Message::new(SIZES[4]);
            let half = &message.frame()[..SIZES[4] / 2];
            tunnel.wire().write_all(half).await?;
            tunnel.wire().flush().await?;
        }
    }
    Ok(())
}

/// A change that concerns none of the WebSockets: a route comes, moves and goes.
fn change(manifests: &Manifests, scene: &Scene, number: u64) -> Result<()> {
    let (name, spare) = (format!("soak-{}", number / 3 % 20), scene.spare());
    let file = format!("{name}.yaml");
    if number % 3 == 2 {
        return manifests.remove(&file);
    }
    let place = usize::try_from(number)? % spare.len();
    let service = manifests::service(&name, &spare[place..=place], scene.backend_port());
    let ingress = manifests::ingress(&name, &format!("{name}.bench.test"), &name);
    manifests.write(&file, &format!("{service}---\n{ingress}"))
}

fn open_files(pid: u32) -> Result<f64> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).context("Holdfast has ended")?;
    Ok(files.count() as f64)
}

fn mean(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    samples.iter().map(value).sum::<f64>() / samples.len() as f64
}

/// Growth a second, by least squares.
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let (time, level) = (mean(samples, |sample| sample.at), mean(samples, &value));
    let (above, below) = samples.iter().fold((0.0, 0.0), |(above, below), sample| {
        let late = sample.at - time;
        (above + late * (value(sample) - level), below + late * late)
    });
    above / below
}
