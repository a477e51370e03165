//! What idle WebSockets cost with pings, an age and limits.
//!
//! ```text
//!   Holdfast with every policy on ─▶ 200 open ─▶ base ─▶ all open, answering pings
//!     ─▶ memory of each ─▶ a minute ─▶ processor time, and whether every ping came
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::memory::{WARM_UP, open};
use crate::client::tunnel::Tunnel;
use crate::peers::manifests::load_balancer_with;
use crate::peers::{Kind, Peer, Scene};
use crate::plan::Plan;
use crate::report::{Goal, Row};
use crate::usage::{CpuClock, Memory};

const INTERVAL: Duration = Duration::from_secs(20);
/// Each tunnel is pinged three times in it, on either side.
const WINDOW: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(2);
const POLICY: &str = "{idleTimeout: 60s, keepalive: {interval: 20s, timeout: 10s, peers: Both}, \
    maxAge: {duration: 24h}, limits: {messageSize: 1Mi, frameSize: 1Mi, messagesPerSecond: 1000, \
    bytesPerSecond: 10Mi}}";

/// Measures idle WebSockets of each of the plan's sizes, in clear and over TLS.
///
/// # Errors
///
/// Holdfast does not serve, or a tunnel ends.
pub(crate) async fn pings(scene: &Scene, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (scheme, secure, most) in [("ws", false, 2_000.0), ("wss", true, 3_000.0)] {
        for &size in &plan.idle {
            let name = format!("an idle {scheme} tunnel with pings every 20 s, age and limits");
            eprintln!("{name}, {size} open …");
            let (bytes, cores) = visit(scene, secure, size).await?;
            let memory = format!("memory of {name}, {size} open");
            let memory = Row::new(memory, "B", Some(Goal::Value(most)));
            rows.push(memory.with(Kind::Holdfast, bytes).judged());
            let pings = 2.0 * size as f64 / INTERVAL.as_secs_f64();
            let each = format!("CPU of a ping of {name}, {size} open");
            let each = Row::new(each, "µs", None);
            rows.push(each.with(Kind::Holdfast, cores * 1e6 / pings).judged());
            let all = format!("CPU of {size} such {scheme} tunnels, share of a core");
            let all = Row::new(all, "share", None);
            rows.push(all.with(Kind::Holdfast, cores).judged());
        }
    }
    Ok(rows)
}

/// Bytes of a tunnel, and cores in use while all are pinged.
async fn visit(scene: &Scene, secure: bool, size: usize) -> Result<(f64, f64)> {
    let (peer, manifests) = Peer::start_holdfast(scene, |_| Ok(())).await?;
    let policy = load_balancer_with(peer.ports(), POLICY);
    manifests.write("load-balancer.yaml", &policy)?;
    sleep(SETTLE).await;
    let target = peer.target(secure);
    let anonymous = || Memory::of(peer.pid()).anonymous as f64;
    let count = Arc::new(AtomicU64::new(0));
    let mut answering = JoinSet::new();
    let mut answer = |tunnels: Vec<Tunnel>| {
        for tunnel in tunnels {
            let count = Arc::clone(&count);
            answering.spawn(async move { tunnel.answer_pings(&count).await });
        }
    };
    answer(open(&target, WARM_UP).await.context("first connections")?);
    sleep(SETTLE).await;
    let base = anonymous();
    answer(open(&target, size - WARM_UP).await.context("connections")?);
    // Every tunnel has been pinged and has answered.
    sleep(INTERVAL + SETTLE).await;
    let bytes = (anonymous() - base) / (size - WARM_UP) as f64;
    let before = count.load(Ordering::Relaxed);
    let clock = CpuClock::start(peer.pid(), scene.backend_pid());
    sleep(WINDOW).await;
    let spent = clock.stop();
    let pings = count.load(Ordering::Relaxed) - before;
    if let Some(ended) = answering.try_join_next() {
        ended??;
    }
    let due = size as u64 * WINDOW.as_secs() / INTERVAL.as_secs();
    ensure!(
        pings + size as u64 >= due && pings <= due + size as u64,
        "{pings} pings came to clients, {due} were due"
    );
    Ok((bytes, spent.proxy_cores))
}
