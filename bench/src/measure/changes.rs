//! Configuration changes under live WebSockets.
//!
//! ```text
//!   all open ─▶ warm-up ─▶ the same time without changes ─▶ changes, each awaited on the wire ─▶ end
//!   every tunnel: a message a second, each echo awaited; closed and opened anew after a while
//! ```
//!
//! nginx reloads as often, in contrast: it keeps every old generation of workers while a tunnel of
//! its time lives.

mod live;
mod step;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::os;
use crate::peers::holdfast::Manifests;
use crate::peers::{Kind, Peer, Scene};
use crate::plan::Plan;
use crate::report::{Goal, Row};
use crate::usage::{Memory, tree};
use live::Live;
use step::Steps;

/// One of so many tunnels goes over TLS.
const SECURE_OF: usize = 4;
/// The time before the comparison begins, in steps.
const WARM_UP: u32 = 5;

/// What one proxy did.
#[derive(Debug, Default)]
struct Outcome {
    not_seen: u64,
    dropped: u64,
    lost: u64,
    refused: u64,
    growth: f64,
    growth_without: f64,
    processes: f64,
    worst: f64,
    worst_without: f64,
    notes: Vec<String>,
}

/// Runs the changes on Holdfast and, in contrast, reloads of nginx; those that take part.
///
/// # Errors
///
/// None: a proxy that fails has its failure in the row.
pub(crate) async fn under_load(
    scene: &Scene,
    kinds: &[Kind],
    plan: &Plan,
    notes: &mut Vec<String>,
) -> Result<Vec<Row>> {
    let title = format!("{} changes, {} live tunnels", plan.changes, plan.live);
    let none = Some(Goal::Value(0.0));
    let mut rows = [
        ("changes not seen on the wire", "changes", none),
        ("tunnels dropped", "tunnels", none),
        ("messages lost", "messages", none),
        ("tunnels refused", "tunnels", none),
        ("growth of RSS", "MB", Some(Goal::Value(2.0))),
        ("growth of RSS in the same time before", "MB", None),
        ("processes added", "processes", none),
        ("worst round trip", "ms", None),
        ("worst round trip in the same time before", "ms", None),
    ]
    .map(|(name, unit, goal)| Row::new(format!("{title}: {name}"), unit, goal));
    for &kind in kinds.iter().filter(|kind| **kind != Kind::Haproxy) {
        eprintln!("{title}: {} …", kind.name());
        match run(scene, kind, plan).await {
            Ok(outcome) => {
                let values = [
                    outcome.not_seen as f64,
                    outcome.dropped as f64,
                    outcome.lost as f64,
                    outcome.refused as f64,
                    outcome.growth,
                    outcome.growth_without,
                    outcome.processes,
                    outcome.worst,
                    outcome.worst_without,
                ];
                let with = |(row, value): (Row, f64)| row.with(kind, value);
                let mut values = values.into_iter();
                rows = rows.map(|row| with((row, values.next().unwrap_or_default())));
                let noted = outcome.notes.into_iter();
                notes.extend(noted.map(|note| format!("{title}: {}: {note}", kind.name())));
            }
            Err(error) => {
                let mut failure = format!("{error:#}");
                rows = rows.map(|row| {
                    let why = std::mem::replace(&mut failure, "see the rows above".to_owned());
                    row.with_failure(kind, why)
                });
            }
        }
    }
    Ok(rows.map(Row::judged).into_iter().collect())
}

async fn run(scene: &Scene, kind: Kind, plan: &Plan) -> Result<Outcome> {
    let (peer, manifests) = match kind {
        Kind::Holdfast => {
            let (peer, manifests) =
                Peer::start_holdfast(scene, |to| step::prepare(to, scene)).await?;
            (peer, Some(manifests))
        }
        _ => (Peer::start(kind, scene).await?, None),
    };
    let live = Arc::new(Live::new(plan.change_every * 5..plan.change_every * 35));
    let mut tunnels = JoinSet::new();
    for number in 0..plan.live {
        let target = peer.target(number % SECURE_OF == 0);
        tunnels.spawn(Arc::clone(&live).keep(target));
    }
    live.all_open(plan.live).await?;
    sleep(plan.change_every * WARM_UP).await;

    let mut outcome = Outcome::default();
    let resident = || Memory::of(peer.pid()).resident as f64 / 1e6;
    let time = plan.change_every * u32::try_from(plan.changes)?;
    let first = resident();
    live.take_worst();
    sleep(time).await;
    outcome.worst_without = live.take_worst();
    let before = resident();
    let processes = tree(peer.pid()).len() as f64;

    change(&peer, manifests.as_ref(), scene, plan, &mut outcome).await;

    outcome.worst = live.take_worst();
    sleep(plan.change_every).await;
    outcome.growth = resident() - before;
    outcome.growth_without = before - first;
    outcome.processes = tree(peer.pid()).len() as f64 - processes;
    live.stop();
    timeout(Duration::from_secs(30), async {
        while tunnels.join_next().await.is_some() {}
    })
    .await?;
    outcome.dropped = live.dropped();
    outcome.lost = live.lost();
    outcome.refused = live.refused();
    outcome.notes.extend(live.failures());
    Ok(outcome)
}

/// Makes the changes, one after the other at the plan's pace.
async fn change(
    peer: &Peer,
    manifests: Option<&Manifests>,
    scene: &Scene,
    plan: &Plan,
    outcome: &mut Outcome,
) {
    let steps = manifests.map(|manifests| Steps::new(manifests, peer, scene));
    let mut slowest = Duration::ZERO;
    for number in 0..plan.changes {
        let due = Instant::now() + plan.change_every;
        let seen = match &steps {
            Some(steps) => steps.make(number).await,
            None => os::signal(peer.pid(), libc::SIGHUP)
                .map(|()| Duration::ZERO)
                .map_err(Into::into),
        };
        match seen {
            Ok(time) => slowest = slowest.max(time),
            Err(error) => {
                outcome.not_seen += 1;
                outcome.notes.push(format!("change {number}: {error:#}"));
            }
        }
        sleep(due.saturating_duration_since(Instant::now())).await;
    }
    if steps.is_some() {
        let slowest = slowest.as_secs_f64() * 1e3;
        outcome.notes.push(format!(
            "the slowest change was on the wire after {slowest:.1} ms"
        ));
    }
}
