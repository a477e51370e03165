//! Processor time for a unit of work.
//!
//! ```text
//!   all proxies run ──▶ round 1: [Holdfast 1 s][nginx 1 s][HAProxy 1 s]
//!                       round 2: [nginx 1 s][HAProxy 1 s][Holdfast 1 s] …
//!   window: proxy's CPU time / units done;  ratio: to nginx's window of the same round
//! ```
//!
//! What else the machine does changes within seconds; windows this near to each other share it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::workload::{Load, Workload};
use crate::peers::{Kind, Peer, Scene};
use crate::plan::Plan;
use crate::report::{Goal, Row, Shares};
use crate::usage::{CpuClock, CpuSpent};

/// A kind of work and what it may cost.
struct Measure {
    name: &'static str,
    unit: &'static str,
    most: f64,
    load: Load,
}

/// A measure may last this much longer than its windows.
const SLACK: Duration = Duration::from_secs(30);

/// Measures what a WebSocket message costs.
///
/// # Errors
///
/// None: a proxy that fails has its failure in the row.
pub(crate) async fn messages(scene: &Scene, peers: &[Peer], plan: &Plan) -> Result<Vec<Row>> {
    let measure = |name, secure, size, most| Measure {
        name,
        unit: "µs",
        most,
        load: Load::Messages { secure, size },
    };
    let measures = [
        measure("CPU of a ws message of 64 B", false, 64, 1.10),
        measure("CPU of a ws message of 16 KiB", false, 16 * 1024, 0.45),
        measure("CPU of a wss message of 64 B", true, 64, 0.95),
        measure("CPU of a wss message of 16 KiB", true, 16 * 1024, 0.50),
    ];
    all(scene, peers, plan, &measures).await
}

/// Measures what opening and closing a WebSocket costs.
///
/// # Errors
///
/// None: a proxy that fails has its failure in the row.
pub(crate) async fn openings(scene: &Scene, peers: &[Peer], plan: &Plan) -> Result<Vec<Row>> {
    let measures = [
        Measure {
            name: "CPU of ws connect, upgrade, close",
            unit: "µs",
            most: 1.4,
            load: Load::Openings { secure: false },
        },
        Measure {
            name: "CPU of wss full handshake, upgrade, close",
            unit: "µs",
            most: 0.65,
            load: Load::Openings { secure: true },
        },
    ];
    all(scene, peers, plan, &measures).await
}

/// Measures what an ordinary request on a kept connection costs.
///
/// # Errors
///
/// None: a proxy that fails has its failure in the row.
pub(crate) async fn requests(scene: &Scene, peers: &[Peer], plan: &Plan) -> Result<Vec<Row>> {
    let measures = [Measure {
        name: "CPU of an HTTP/1.1 GET of 1 KiB",
        unit: "µs",
        most: 1.3,
        load: Load::Requests,
    }];
    all(scene, peers, plan, &measures).await
}

async fn all(scene: &Scene, peers: &[Peer], plan: &Plan, measures: &[Measure]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for measure in measures {
        eprintln!("{} …", measure.name);
        rows.push(compare(scene, peers, plan, measure).await);
    }
    Ok(rows)
}

/// One proxy in one measure.
struct Contestant<'peer> {
    peer: &'peer Peer,
    workload: Result<Workload>,
    spent: Vec<CpuSpent>,
    cost: Vec<Option<f64>>,
}

impl Contestant<'_> {
    /// One window; its cost in µs a unit. After a failure there are no more.
    async fn window(&mut self, backend: u32, window: Duration) -> Option<f64> {
        let workload = self.workload.as_mut().ok()?;
        let clock = CpuClock::start(self.peer.pid(), backend);
        let worked = tokio::time::timeout(window + SLACK, workload.run(window)).await;
        let spent = clock.stop();
        match worked.map_err(anyhow::Error::from).flatten() {
            Ok(units) => {
                self.spent.push(spent);
                Some(spent.proxy.as_secs_f64() * 1e6 / units as f64)
            }
            Err(error) => {
                self.workload = Err(error);
                None
            }
        }
    }
}

async fn compare(scene: &Scene, peers: &[Peer], plan: &Plan, measure: &Measure) -> Row {
    let mut contestants = Vec::new();
    for peer in peers {
        let target = peer.target(measure.load.is_secure());
        let prepared = Workload::prepare(measure.load, &target, plan.connections);
        let prepared = tokio::time::timeout(SLACK, prepared).await;
        let mut contestant = Contestant {
            peer,
            workload: prepared.map_err(anyhow::Error::from).flatten(),
            spent: Vec::new(),
            cost: Vec::new(),
        };
        // Pools fill, buffers grow, code is read from the disk.
        contestant
            .window(scene.backend_pid(), plan.window / 3)
            .await;
        contestant.spent.clear();
        contestants.push(contestant);
    }
    for round in 0..plan.rounds {
        for turn in 0..contestants.len() {
            // Each has each place in the round once, or who comes after whom would matter.
            let at = (round + turn) % contestants.len();
            let cost = contestants[at]
                .window(scene.backend_pid(), plan.window)
                .await;
            contestants[at].cost.push(cost);
        }
    }
    let rounds: BTreeMap<Kind, Vec<Option<f64>>> = contestants
        .iter()
        .map(|contestant| (contestant.peer.kind, contestant.cost.clone()))
        .collect();
    let goal = Some(Goal::Ratio(measure.most));
    let mut row = Row::new(measure.name, measure.unit, goal).with_rounds(&rounds);
    for contestant in contestants {
        let kind = contestant.peer.kind;
        if let Some(cell) = row.cells.get_mut(&kind) {
            cell.shares = Shares::of(&contestant.spent);
        }
        if let Err(error) = contestant.workload {
            row = row.with_failure(kind, format!("{error:#}"));
        }
    }
    row.judged()
}
