//! Memory of an idle WebSocket.
//!
//! ```text
//!   fresh proxy ─▶ 200 open, one echo each ─▶ base ─▶ all open, one echo each ─▶ idle
//!     ─▶ 16 KiB echoed on each ─▶ idle again ─▶ all closed ─▶ what has come back
//! ```
//!
//! The base has what the first connections bring with them once: pools, arenas, code.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::message::Message;
use crate::client::tunnel::Tunnel;
use crate::client::wire::Target;
use crate::peers::{Kind, Peer, Scene};
use crate::plan::Plan;
use crate::report::{Goal, Row};
use crate::usage::Memory;

pub(super) const WARM_UP: usize = 200;
const AT_ONCE: usize = 64;
const SMALL: usize = 64;
const LARGE: usize = 16 * 1024;
const SETTLE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(90);
/// The share of the growth that should come back when all have closed.
const GIVEN_BACK: f64 = 0.9;

/// Anonymous bytes of one proxy at the stations of a run.
struct Stations {
    base: u64,
    idle: u64,
    after: u64,
}

/// A proxy whose connections have all closed.
struct Emptied {
    peer: Peer,
    stations: Stations,
    closed: Instant,
}

/// Measures the memory of idle WebSockets, in clear and over TLS.
///
/// # Errors
///
/// None: a proxy that fails has its failure in the row.
pub(crate) async fn idle(scene: &Scene, kinds: &[Kind], plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (scheme, secure, most) in [("ws", false, 2_000.0), ("wss", true, 3_000.0)] {
        let mut emptied = Vec::new();
        for &size in &plan.idle {
            let name = format!("memory of an idle {scheme} tunnel, {size} open");
            eprintln!("{name} …");
            let after = format!("{name}, after 16 KiB on each");
            let mut before = Row::new(name, "B", Some(Goal::Value(most)));
            let mut after = Row::new(after, "B", Some(Goal::Value(most * 1.1)));
            emptied.clear();
            for &kind in kinds {
                match visit(scene, kind, secure, size).await {
                    Ok(end) => {
                        let held = (size - WARM_UP) as f64;
                        let base = end.stations.base as f64;
                        before = before.with(kind, (end.stations.idle as f64 - base) / held);
                        after = after.with(kind, (end.stations.after as f64 - base) / held);
                        emptied.push(end);
                    }
                    Err(error) => {
                        before = before.with_failure(kind, format!("{error:#}"));
                        after = after.with_failure(kind, "see the row above");
                    }
                }
            }
            rows.extend([before.judged(), after.judged()]);
        }
        if !plan.give_back.is_zero() {
            rows.push(given_back(scheme, emptied, plan.give_back).await);
        }
    }
    Ok(rows)
}

/// Takes a fresh proxy through the stations.
async fn visit(scene: &Scene, kind: Kind, secure: bool, size: usize) -> Result<Emptied> {
    let peer = Peer::start(kind, scene).await?;
    let target = peer.target(secure);
    let anonymous = || Memory::of(peer.pid()).anonymous;

    let mut tunnels = open(&target, WARM_UP).await.context("first connections")?;
    sleep(SETTLE).await;
    let base = anonymous();
    tunnels.extend(open(&target, size - WARM_UP).await.context("connections")?);
    sleep(SETTLE).await;
    let idle = anonymous();
    tunnels = echo_on_each(tunnels).await.context("16 KiB on each")?;
    sleep(SETTLE).await;
    let after = anonymous();
    drop(tunnels);
    Ok(Emptied {
        peer,
        stations: Stations { base, idle, after },
        closed: Instant::now(),
    })
}

/// Opens `count` WebSockets, each of which echoes a small message.
pub(super) async fn open(target: &Target, count: usize) -> Result<Vec<Tunnel>> {
    let mut openers = JoinSet::new();
    for opener in 0..AT_ONCE {
        let share = count / AT_ONCE + usize::from(opener < count % AT_ONCE);
        let target = target.clone();
        openers.spawn(async move {
            let mut message = Message::new(SMALL);
            let mut tunnels = Vec::with_capacity(share);
            for _ in 0..share {
                let mut tunnel = Tunnel::open(&target).await?;
                tunnel.echo(&mut message).await?;
                tunnels.push(tunnel);
            }
            Ok(tunnels)
        });
    }
    gather(openers).await
}

/// Echoes a large message on each; none may have been closed meanwhile.
async fn echo_on_each(mut tunnels: Vec<Tunnel>) -> Result<Vec<Tunnel>> {
    let mut echoes = JoinSet::new();
    let share = tunnels.len().div_ceil(AT_ONCE).max(1);
    while !tunnels.is_empty() {
        let mut part = tunnels.split_off(tunnels.len().saturating_sub(share));
        echoes.spawn(async move {
            let mut message = Message::new(LARGE);
            for tunnel in &mut part {
                tunnel.echo(&mut message).await?;
            }
            Ok(part)
        });
    }
    gather(echoes).await
}

async fn gather(mut parts: JoinSet<std::io::Result<Vec<Tunnel>>>) -> Result<Vec<Tunnel>> {
    let all = async {
        let mut all = Vec::new();
        while let Some(part) = parts.join_next().await {
            all.extend(part??);
        }
        Ok(all)
    };
    timeout(LIMIT, all).await.context("took too long")?
}

/// Waits for `patience` after the closing, or until every proxy has given enough back.
async fn given_back(scheme: &str, emptied: Vec<Emptied>, patience: Duration) -> Row {
    let seconds = patience.as_secs();
    let name = format!("growth by {scheme} tunnels given back within {seconds} s of closing");
    eprintln!("{name} …");
    let mut shares = BTreeMap::new();
    loop {
        for end in &emptied {
            if end.closed.elapsed() <= patience || !shares.contains_key(&end.peer.kind) {
                let now = Memory::of(end.peer.pid()).anonymous;
                let grown = end.stations.after.saturating_sub(end.stations.base).max(1);
                let back = end.stations.after.saturating_sub(now);
                shares.insert(end.peer.kind, back as f64 / grown as f64);
            }
        }
        let waiting = |end: &Emptied| {
            end.closed.elapsed() <= patience
                && shares
                    .get(&end.peer.kind)
                    .is_none_or(|share| *share < GIVEN_BACK)
        };
        if !emptied.iter().any(waiting) {
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    shares
        .into_iter()
        .fold(
            Row::new(name, "share", Some(Goal::AtLeast(GIVEN_BACK))),
            |row, (kind, share)| row.with(kind, share),
        )
        .judged()
}
