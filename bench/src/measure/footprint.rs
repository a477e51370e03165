//! Holdfast alone, with many Ingresses and no traffic.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::peers::holdfast::Manifests;
use crate::peers::{Kind, Peer, Scene, manifests};
use crate::plan::Plan;
use crate::report::{Goal, Row};
use crate::usage::Memory;

/// Ingresses in one file; as many in a directory as that makes.
const PER_FILE: usize = 100;
/// Ingresses that share a Service.
const PER_SERVICE: usize = 10;
const SETTLE: Duration = Duration::from_secs(3);

/// Measures resident memory, and the time from the start to readiness.
///
/// # Errors
///
/// None: a Holdfast that fails has its failure in the row.
pub(crate) async fn resident(scene: &Scene, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &(count, most) in &plan.footprints {
        let name = format!("RSS with {count} Ingresses, no traffic");
        eprintln!("{name} …");
        let row = Row::new(name, "MB", Some(Goal::Value(most)));
        let started = Instant::now();
        match Peer::start_holdfast(scene, |to| populate(to, scene, count)).await {
            Ok((peer, _)) => {
                let ready = started.elapsed();
                sleep(SETTLE).await;
                let resident = Memory::of(peer.pid()).resident as f64 / 1e6;
                rows.push(row.with(Kind::Holdfast, resident).judged());
                let name = format!("from start to ready, {count} Ingresses");
                let row = Row::new(name, "s", None);
                rows.push(row.with(Kind::Holdfast, ready.as_secs_f64()));
            }
            Err(error) => {
                let failure = format!("{error:#}");
                rows.push(row.with_failure(Kind::Holdfast, failure).judged());
            }
        }
    }
    Ok(rows)
}

/// Writes `count` Ingresses, each for a host of its own, and Services for them.
///
/// # Errors
///
/// Those of the file system.
pub(super) fn populate(to: &Manifests, scene: &Scene, count: usize) -> Result<()> {
    let service = |number: usize| format!("service-{number:05}");
    for first in (0..count).step_by(PER_FILE) {
        let part = first..count.min(first + PER_FILE);
        let services = part.clone().step_by(PER_SERVICE).map(|number| {
            let name = service(number / PER_SERVICE);
            manifests::service(&name, &scene.balanced(), scene.backend_port())
        });
        let ingresses = part.clone().map(|number| {
            let name = format!("ingress-{number:05}");
            let host = format!("host-{number:05}.bench.test");
            manifests::ingress(&name, &host, &service(number / PER_SERVICE))
        });
        let documents: Vec<String> = services.chain(ingresses).collect();
        to.write(&format!("many-{first:05}.yaml"), &documents.join("---\n"))?;
    }
    Ok(())
}
