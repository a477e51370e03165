//! `tunnels`: the open WebSockets of a running process, listed and closed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::admin::{Method, ask};
use super::print;
use crate::api::GatewayDuration;
use crate::cli::{CloseTunnels, ListTunnels, Output, TunnelAction, Tunnels};
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
