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
use serde_json::Value;

use crate::cluster::{items, text};
use crate::installation::{Installation, Replica};
use crate::scenario::Scenario;

/// The scenarios of this folder, in the order in which they run.
#[rustfmt::skip]
pub(super) fn all() -> Vec<Scenario> {
    let (shared, bare) = (Scenario::shared, Scenario::bare);
    vec![
        shared("pods_come_and_go_without_a_failed_request", 150, pods::come_and_go),
        shared("known_hosts_never_get_a_wrong_answer", 120, churn::known_hosts),
        shared("two_replicas_serve_and_one_writes", 120, replicas::share),
        shared("websockets_stay_open_whatever_changes", 240, changes::stay_open),
        bare("helm_upgrade_refuses_nothing", 180, release::upgrade),
        bare("helm_uninstall_leaves_nothing", 120, release::uninstall),
        bare("some_namespaces_only", 120, namespaces::only),
        bare("host_ports_by_manifest", 120, host_ports::by_manifest),
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

/// `spec` of a route of everything of a host to port 80 of a Service, as YAML of an Ingress.
fn route(name: &str, class: &str, host: &str, service: &str) -> String {
    paths(name, class, host, &[("/", service)])
}

/// An Ingress with some paths of a host.
fn paths(name: &str, class: &str, host: &str, paths: &[(&str, &str)]) -> String {
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, service)| {
            serde_json::json!({
                "path": path,
                "pathType": "Prefix",
                "backend": {"service": {"name": service, "port": {"number": 80}}},
            })
        })
        .collect();
    format!(
        "{}\n---\n",
        serde_json::json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name},
            "spec": {
                "ingressClassName": class,
                "rules": [{"host": host, "http": {"paths": paths}}],
            },
        })
    )
}
