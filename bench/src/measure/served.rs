//! The time from a changed file to the changed answer on the wire, for Holdfast.
//!
//! ```text
//!   GET new host ─▶ not 200 ─▶ rename the Ingress into place ─▶ GET, GET, … ─▶ 200
//!                                     └────────── measured ──────────────────────┘
//! ```

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::footprint::populate;
use crate::client::reconnecting::Reconnecting;
use crate::client::request::get;
use crate::peers::holdfast::Manifests;
use crate::peers::{Kind, Peer, Scene, manifests};
use crate::plan::Plan;
use crate::report::{Goal, Row};
use crate::statistics::percentile;

/// Between two requests. The time that is measured is exact to this and a round trip.
const POLL: Duration = Duration::from_micros(200);
/// The longest that a change is waited for.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest that all changes together are waited for.
const TOTAL: Duration = Duration::from_secs(90);

/// Times new Ingresses among many others.
///
/// # Errors
///
/// None: a Holdfast that fails has its failure in the row.
pub(crate) async fn new_ingresses(scene: &Scene, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &among in &plan.among {
        eprintln!("file written to served, among {among} Ingresses …");
        let row = |which, most| {
            let name = format!("file written to served, among {among} Ingresses, {which}");
            Row::new(name, "ms", Some(Goal::Value(most)))
        };
        let (middle, late) = (row("p50", 5.0), row("p99", 20.0));
        match times(scene, among, plan.timed).await {
            Ok(times) => {
                let of = |at| percentile(&times, at).unwrap_or(f64::INFINITY);
                rows.push(middle.with(Kind::Holdfast, of(0.5)).judged());
                rows.push(late.with(Kind::Holdfast, of(0.99)).judged());
            }
            Err(error) => {
                let failure = format!("{error:#}");
                rows.push(middle.with_failure(Kind::Holdfast, failure).judged());
                rows.push(
                    late.with_failure(Kind::Holdfast, "see the row above")
                        .judged(),
                );
            }
        }
    }
    Ok(rows)
}

/// The time that each of `count` new Ingresses took, in ms.
async fn times(scene: &Scene, among: usize, count: usize) -> Result<Vec<f64>> {
    let (peer, directory) = Peer::start_holdfast(scene, |to| populate(to, scene, among)).await?;
    let began = Instant::now();
    let mut client = Reconnecting::new(peer.target(false));
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        times.push(time(&mut client, &directory, number).await?.as_secs_f64() * 1e3);
        if began.elapsed() > TOTAL {
            bail!(
                "only {} of {count} changes were served in {TOTAL:?}",
                times.len()
            );
        }
        // Changes come one by one, at no fixed beat.
        sleep(Duration::from_millis(fastrand::u64(50..100))).await;
    }
    Ok(times)
}

/// Publishes a new Ingress and waits until it is served.
async fn time(client: &mut Reconnecting, directory: &Manifests, number: usize) -> Result<Duration> {
    let name = format!("new-{number}");
    let host = format!("{name}.bench.test");
    let file = format!("{name}.yaml");
    directory.prepare(&file, &manifests::ingress(&name, &host, "echo"))?;
    let request = get(&host);
    if client.send(&request).await?.status == 200 {
        bail!("{host} was served before its Ingress was there");
    }
    let started = Instant::now();
    directory.publish(&file)?;
    while client.send(&request).await?.status != 200 {
        if started.elapsed() > LIMIT {
            bail!("{host} was not served within {LIMIT:?}");
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the runtime's clock has steps of 1 ms; nothing else runs on this thread"
        )]
        std::thread::sleep(POLL);
    }
    Ok(started.elapsed())
}
