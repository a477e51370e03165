//! Starts that cannot succeed yet. The process says what is missing and how to mend it, is alive and
//! not ready, and goes on by itself once it is mended: no crash loop.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::client::Visitor;
use crate::cluster::{documents, items, text};
use crate::installation::{Installation, RELEASE, SHARED_VALUES};
use crate::patience::{PODS, eventually, soon, steadily};
use crate::trial::Trial;

const NAMESPACE: &str = "holdfast-system";
/// Longer than the probes of the chart need to kill a process that is not alive.
const WATCHED: Duration = Duration::from_secs(8);

/// A role without the right to read Secrets.
pub(crate) async fn without_a_right(trial: Arc<Trial>) -> Result<()> {
    let values = format!("{SHARED_VALUES}\nrbac: {{create: false}}\n");
    let installation = Installation::begin(&trial.cluster, NAMESPACE, &values, &[]).await?;
    // What the chart would have made, but for one right.
    let rendered = trial
        .cluster
        .helm(
            &[
                "template",
                RELEASE,
                &crate::cluster::checkout()
                    .join("charts/holdfast")
                    .to_string_lossy(),
                "--namespace",
                NAMESPACE,
                "--show-only=templates/rbac.yaml",
                // It does not ask the cluster.
                "--kube-version=1.33.0",
            ],
            "",
        )
        .await?;
    let mut whole = Value::Null;
    for object in documents(&rendered)? {
        let mut object = object;
        if text(&object, "/kind") == "ClusterRole" {
            whole = object.clone();
            take_secrets(&mut object)?;
        }
        trial.cluster.apply_object(NAMESPACE, &object).await?;
    }
    let expected = [
        "secrets",
        "grant the service account the verbs list and watch on secrets",
    ];
    let item = waits(&installation, &expected);
    trial
        .item("alive, not ready, and says which right is missing", item)
        .await;
    trial.cluster.apply_object(NAMESPACE, &whole).await?;
    let item = recovers(&installation);
    trial.item("ready once it is granted", item).await;
    Ok(())
}

fn take_secrets(role: &mut Value) -> Result<()> {
    let rules = role.pointer_mut("/rules").and_then(Value::as_array_mut);
    let mut taken = 0;
    for rule in rules.context("the role has no rules")? {
        let resources = rule.pointer_mut("/resources").and_then(Value::as_array_mut);
        if let Some(resources) = resources {
            let before = resources.len();
            resources.retain(|resource| resource != "secrets");
            taken += before - resources.len();
        }
    }
    ensure!(taken == 1, "secrets are in {taken} rules");
    // A rule without resources is refused.
    if let Some(rules) = role.pointer_mut("/rules").and_then(Value::as_array_mut) {
        rules.retain(|rule| !items(rule, "/resources").is_empty());
    }
    Ok(())
}

/// An API server that does not know what a LoadBalancer is.
pub(crate) async fn without_the_crd(trial: Arc<Trial>) -> Result<()> {
    let values = format!("{SHARED_VALUES}\n  loadBalancer: {{create: false}}\n");
    let values = values.replace("\n\n  loadBalancer", "\n  loadBalancer");
    let without = ["--skip-crds"];
    let installation = Installation::begin(&trial.cluster, NAMESPACE, &values, &without).await?;
    let expected = ["LoadBalancer", "install the CRD"];
    let item = waits(&installation, &expected);
    trial
        .item("alive, not ready, and says what to install", item)
        .await;
    let crd = crate::cluster::checkout().join("crds/loadbalancer.yaml");
    let crd = crd.to_string_lossy();
    trial.cluster.kubectl(&["create", "-f", &crd]).await?;
    let item = recovers(&installation);
    trial.item("ready once it is installed", item).await;
    Ok(())
}

/// An API server that cannot be reached: refused connections first, then silence.
pub(crate) async fn without_the_api_server(trial: Arc<Trial>) -> Result<()> {
    for (what, verdict, expected) in [
        (
            "refused connections",
            &["REJECT", "--reject-with", "tcp-reset"][..],
            "cannot be reached",
        ),
        ("silence", &["DROP"][..], "cannot be reached"),
    ] {
        let barrier = Barrier::raise(verdict)?;
        let installation =
            Installation::begin(&trial.cluster, NAMESPACE, SHARED_VALUES, &[]).await?;
        let expected = ["the API server at", expected];
        let item = waits(&installation, &expected);
        trial
            .item(&format!("{what}: alive, not ready, and says so"), item)
            .await;
        drop(barrier);
        let item = async {
            recovers(&installation).await?;
            installation.address().await.map(drop)
        };
        trial
            .item(&format!("{what}: ready once it answers"), item)
            .await;
        trial.cluster.clear_releases().await?;
    }
    Ok(())
}

/// Keeps pods from the API server, and nobody else, until dropped.
struct Barrier {
    rule: Vec<String>,
}

impl Barrier {
    fn raise(verdict: &[&str]) -> Result<Self> {
        let matches = [
            "INPUT",
            "-p",
            "tcp",
            "-s",
            "10.244.0.0/24",
            "--dport",
            "6443",
            "-j",
        ];
        let rule = matches.iter().chain(verdict);
        let barrier = Self {
            rule: rule.map(|&word| word.to_owned()).collect(),
        };
        let output = barrier.iptables("-I")?;
        if !output.status.success() {
            bail!("iptables: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(barrier)
    }

    fn iptables(&self, action: &str) -> std::io::Result<Output> {
        Command::new("iptables")
            .args(["-w", action])
            .args(&self.rule)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        let lowered = self.iptables("-D");
        if !lowered.is_ok_and(|output| output.status.success()) {
            eprintln!("    a rule stays in iptables: {}", self.rule.join(" "));
        }
    }
}

/// Until a replica runs and says all these words at `/readyz` and in its log; then it stays like
/// that: alive, not ready, never restarted.
async fn waits(installation: &Installation, words: &[&str]) -> Result<()> {
    let says = |text: &str| -> Result<()> {
        for word in words {
            ensure!(text.contains(word), "{word:?} is not in: {text}");
        }
        Ok(())
    };
    let is_waiting = async || {
        let replicas = installation.replicas().await?;
        let replica = replicas
            .first()
            .context("there is no pod with an address")?;
        let client = Visitor::http(replica.ip).port(9090);
        client.get("/healthz").await?.expect(200)?;
        let readiness = client.get("/readyz").await?;
        says(&readiness.expect(503)?.text())?;
        let log = installation.log(&replica.name).await?;
        says(&log)?;
        let restarts = installation.restarts().await?;
        ensure!(restarts == 0, "{restarts} restarts: {log}");
        let lines = log.lines().count();
        ensure!(lines < 60, "it repeats itself: {lines} lines: {log}");
        ensure!(
            replicas.iter().all(|replica| !replica.ready),
            "one is ready"
        );
        Ok(())
    };
    eventually("it says what is missing", PODS, is_waiting).await?;
    steadily("it waits", WATCHED, is_waiting).await
}

/// Until all replicas are ready, by themselves.
async fn recovers(installation: &Installation) -> Result<()> {
    eventually("all replicas are ready", PODS, async || {
        let replicas = installation.replicas().await?;
        ensure!(
            replicas.len() == 2 && replicas.iter().all(|replica| replica.ready),
            "{replicas:?}"
        );
        Ok(())
    })
    .await?;
    let restarts = installation.restarts().await?;
    ensure!(restarts == 0, "{restarts} restarts");
    soon("one of them leads", async || {
        installation.leader().await.map(drop)
    })
    .await
}
