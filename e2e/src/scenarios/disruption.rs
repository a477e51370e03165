//! What is changed, killed or replaced under traffic.

mod changes;
mod churn;
mod host_ports;
mod namespaces;
mod pods;
mod release;
mod replicas;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::cluster::{documents, items, text};
use crate::installation::{Installation, Replica};
use crate::manifests::echo;
use crate::scenario::Scenario;

/// For which a pod goes on after it was told to end, so that everybody has heard of it: what any
/// application does that wants to lose no request. In seconds.
const PRE_STOP: u64 = 3;

/// The scenarios of this folder, in the order in which they run.
#[rustfmt::skip]
pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::shared("pods_come_and_go_without_a_failed_request", 150, pods::come_and_go),
        Scenario::shared("known_hosts_never_get_a_wrong_answer", 120, churn::known_hosts),
        Scenario::shared("two_replicas_serve_and_one_writes", 120, replicas::share),
        Scenario::shared("websockets_stay_open_whatever_changes", 240, changes::stay_open),
        Scenario::bare("helm_upgrade_refuses_nothing", 180, release::upgrade),
        Scenario::bare("helm_uninstall_leaves_nothing", 120, release::uninstall),
        Scenario::bare("some_namespaces_only", 120, namespaces::only),
        Scenario::bare("host_ports_by_manifest", 120, host_ports::by_manifest),
    ]
}

/// The open WebSockets of a replica: which pod each goes to, by the id of its request.
async fn tunnels(
    installation: &Installation,
    replica: &Replica,
) -> Result<BTreeMap<String, String>> {
    let page = installation.admin(replica, "/tunnels").await?;
    let page: Value = serde_json::from_str(&page)?;
    let tunnel = |tunnel: &Value| {
        let (id, endpoint) = (text(tunnel, "/requestId"), text(tunnel, "/endpoint"));
        (id.to_owned(), endpoint.to_owned())
    };
    Ok(items(&page, "/tunnels").iter().map(tunnel).collect())
}

/// The value of a metric without labels.
async fn metric(installation: &Installation, replica: &Replica, name: &str) -> Result<f64> {
    let page = installation.admin(replica, "/metrics").await?;
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .with_context(|| format!("{} has no metric {name}", replica.name))?
        .parse()
        .with_context(|| name.to_owned())
}

/// The replica that says that it leads.
async fn leading(installation: &Installation) -> Result<Option<Replica>> {
    for replica in installation.replicas().await? {
        // One that is just starting does not answer.
        if matches!(metric(installation, &replica, "holdfast_leading").await, Ok(value) if value > 0.0)
        {
            return Ok(Some(replica));
        }
    }
    Ok(None)
}

/// An echo pod has answered.
fn by_a_pod(answer: &Answer) -> Result<()> {
    answer.echo().map(drop)
}

/// Echo pods that go on for a while after they were told to end.
fn patient(name: &str, replicas: u32) -> Result<String> {
    let mut objects = documents(&echo(name, replicas))?;
    for object in &mut objects {
        if let Some(spec) = object.pointer_mut("/spec/template/spec") {
            spec["terminationGracePeriodSeconds"] = json!(PRE_STOP + 5);
            spec["containers"][0]["lifecycle"] =
                json!({"preStop": {"sleep": {"seconds": PRE_STOP}}});
        }
    }
    let objects: Vec<String> = objects.iter().map(Value::to_string).collect();
    Ok(objects.join("\n---\n"))
}
