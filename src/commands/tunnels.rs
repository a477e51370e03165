//! `tunnels`: the open WebSockets of a running process, listed and closed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::admin::{Method, ask};
use super::print;
use crate::api::GatewayDuration;
use crate::cli::{
    CloseTunnels, DrainPod, ListTunnels, Output, RebalanceTunnels, TunnelAction, Tunnels,
};
use crate::inspect;

/// Between two lists that follow each other.
const FOLLOW: Duration = Duration::from_secs(1);

/// Lists or closes.
///
/// # Errors
/// A process that does not answer, or refuses what is asked.
pub fn tunnels(tunnels: &Tunnels) -> anyhow::Result<ExitCode> {
    match &tunnels.action {
        None => list(&tunnels.list),
        Some(TunnelAction::Close(close)) => self::close(close),
        Some(TunnelAction::Drain(drain)) => self::drain(drain),
        Some(TunnelAction::Rebalance(rebalance)) => self::rebalance(rebalance),
    }
}

fn list(list: &ListTunnels) -> anyhow::Result<ExitCode> {
    let mut parameters = list.selector.parameters();
    parameters.push(("sort", list.sort.as_str().to_owned()));
    parameters.push(("limit", list.limit.to_string()));
    loop {
        let table = ask(Method::Get, list.running.admin, "/tunnels", &parameters)?;
        let code = print(&match list.output {
            Output::Json => format!("{table:#}\n"),
            Output::Text => inspect::tunnels::text(&table)
                .context("the answer is not a list of WebSockets of this version")?,
        })?;
        if !list.follow {
            return Ok(code);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing else runs in this process"
        )]
        std::thread::sleep(FOLLOW);
        print("\n")?;
    }
}

fn close(close: &CloseTunnels) -> anyhow::Result<ExitCode> {
    let mut parameters = close.selector.parameters();
    parameters.push(("all", close.all.to_string()));
    parameters.push(("code", close.code.to_string()));
    parameters.push(("over", GatewayDuration(close.over).to_string()));
    parameters.push(("dryRun", close.dry_run.to_string()));
    let admin = close.running.admin;
    let answer = ask(Method::Post, admin, "/tunnels/close", &parameters)?;
    print(&words(&answer).context("the answer is not one of this version")?)
}

fn drain(drain: &DrainPod) -> anyhow::Result<ExitCode> {
    let parameters = [
        ("pod", drain.pod.clone()),
        ("over", GatewayDuration(drain.over).to_string()),
        ("undo", drain.undo.to_string()),
        ("dryRun", drain.dry_run.to_string()),
    ];
    let answer = ask(
        Method::Post,
        drain.running.admin,
        "/tunnels/drain",
        &parameters,
    )?;
    let words = || {
        let count = answer["selected"].as_u64()?;
        let over = answer["over"].as_str()?;
        let pod = &drain.pod;
        let mut text = match (drain.dry_run, drain.undo) {
            (true, false) => format!("would drain pod {pod}: {count} WebSockets over {over}\n"),
            (false, false) => format!("draining pod {pod}: {count} WebSockets over {over}\n"),
            (true, true) => format!("would use pod {pod} again; it has {count} WebSockets\n"),
            (false, true) => format!("pod {pod} is used again; it has {count} WebSockets\n"),
        };
        for upstream in answer["upstreams"].as_array()? {
            text.push_str(&format!("  of {}\n", upstream.as_str()?));
        }
        Some(text)
    };
    print(&words().context("the answer is not one of this version")?)
}

fn rebalance(rebalance: &RebalanceTunnels) -> anyhow::Result<ExitCode> {
    let mut parameters = vec![
        ("tolerancePercent", rebalance.tolerance_percent.to_string()),
        ("over", GatewayDuration(rebalance.over).to_string()),
        ("dryRun", rebalance.dry_run.to_string()),
    ];
    parameters.extend(rebalance.service.clone().map(|text| ("service", text)));
    let admin = rebalance.running.admin;
    let answer = ask(Method::Post, admin, "/tunnels/rebalance", &parameters)?;
    let words = || {
        let count = answer["selected"].as_u64()?;
        let mut text = match rebalance.dry_run {
            true => format!("would move {count} WebSockets\n"),
            false => format!(
                "moving {count} WebSockets over {}\n",
                answer["over"].as_str()?
            ),
        };
        for (upstream, pods) in answer["upstreams"].as_object()? {
            text.push_str(&format!("{upstream}\n"));
            for pod in pods.as_array()? {
                let (open, moving) = (pod["open"].as_u64()?, pod["moving"].as_u64()?);
                let pod = pod["endpoint"].as_str()?;
                text.push_str(&format!("  pod {pod} has {open}, of which {moving} move\n"));
            }
        }
        Some(text)
    };
    print(&words().context("the answer is not one of this version")?)
}

fn words(answer: &Value) -> Option<String> {
    let count = answer["selected"].as_u64()?;
    let is_dry = answer["dryRun"].as_bool()?;
    let (over, code) = (answer["over"].as_str()?, answer["code"].as_u64()?);
    let mut text = match (is_dry, over) {
        (true, _) => format!("would close {count} WebSockets with {code}\n"),
        (false, "0s") => format!("closing {count} WebSockets with {code}\n"),
        (false, over) => format!("closing {count} WebSockets with {code}, over {over}\n"),
    };
    for (pod, count) in answer["byPod"].as_object()? {
        text.push_str(&format!("  {count} of pod {pod}\n"));
    }
    Some(text)
}
