//! Two replicas: both serve, one writes, and another takes over when that one goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{leading, metric};
use crate::client::Visitor;
use crate::cluster::{items, text};
use crate::installation::{Installation, RELEASE, Replica};
use crate::manifests::{Ingress, echo};
use crate::patience::{PODS, eventually, soon};
use crate::trial::Trial;

const HOST: &str = "both.example.com";
/// From the death of a leader to the next.
const TAKEOVER: Duration = Duration::from_secs(15);
/// From a leader's clean end to the next: it looks at the Lease every second.
const HANDOVER: Duration = Duration::from_secs(4);

/// Both serve, one writes; the leader dies, and ends.
pub(crate) async fn share(trial: Arc<Trial>) -> Result<()> {
    let installation = trial.shared()?;
    trial.apply(&echo("echo", 1)).await?;
    trial.ready(&["echo"]).await?;
    let ingress = Ingress::new("both", "holdfast").host(HOST, "echo");
    trial.apply(&ingress.yaml()).await?;
    let stage = Stage {
        trial: &trial,
        installation,
    };
    trial.item("each pod serves", stage.each_serves()).await;
    trial
        .item("one pod says that it leads", stage.one_leads())
        .await;
    trial
        .item("what is written has one owner", stage.one_owner())
        .await;
    let died = stage.leader_dies().await;
    let thawed = trial.cluster.script("kubelet.sh", &["thaw"]).await;
    trial
        .item(
            "the leader's program and its node die: the other leads within 15 s",
            async { died },
        )
        .await;
    thawed?;
    let settled = stage.two_ready();
    trial.item("two are ready again", settled).await;
    trial
        .item(
            "the leader ends cleanly: the other leads at once",
            stage.leader_ends(),
        )
        .await;
    let settled = stage.two_ready();
    trial.item("two are ready once more", settled).await;
    Ok(())
}

struct Stage<'a> {
    trial: &'a Trial,
    installation: &'a Installation,
}

impl Stage<'_> {
    async fn each_serves(&self) -> Result<()> {
        let (cluster, namespace) = (&self.trial.cluster, &self.installation.namespace);
        let object = cluster.get("LoadBalancer", namespace, RELEASE).await?;
        let port = object
            .pointer("/status/listeners/0/targetPort")
            .and_then(Value::as_u64)
            .context("the listener has no target port")?;
        let replicas = self.installation.replicas().await?;
        ensure!(replicas.len() == 2, "{replicas:?}");
        for replica in &replicas {
            let client = Visitor::http(replica.ip).port(port as u16).host(HOST);
            soon(&format!("{} serves", replica.name), async || {
                client.get("/").await?.comes_from("echo")
            })
            .await?;
            let mut socket = client.websocket("/").await?;
            socket.echo("to one pod").await?;
            socket.close(1000, "").await?;
        }
        Ok(())
    }

    async fn one_leads(&self) -> Result<()> {
        let lease = self.installation.leader().await?;
        for replica in self.installation.replicas().await? {
            let leads = metric(self.installation, &replica, "holdfast_leading").await? > 0.0;
            ensure!(
                leads == (replica.name == lease.name),
                "the Lease is held by {}, and {} says {leads}",
                lease.name,
                replica.name
            );
        }
        Ok(())
    }

    /// Every write of ours is by server-side apply, under one name.
    async fn one_owner(&self) -> Result<()> {
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        soon("the status is written, by one owner", async || {
            let ingress = cluster.get("Ingress", namespace, "both").await?;
            let owners: BTreeSet<(&str, &str)> = items(&ingress, "/metadata/managedFields")
                .iter()
                .filter(|entry| text(entry, "/subresource") == "status")
                .map(|entry| (text(entry, "/manager"), text(entry, "/operation")))
                .collect();
            let expected = BTreeSet::from([("holdfast", "Apply")]);
            ensure!(owners == expected, "owners of the status: {owners:?}");
            Ok(())
        })
        .await
    }

    /// As a node that is lost with all on it: nobody starts the program again.
    async fn leader_dies(&self) -> Result<()> {
        let leader = self.installation.leader().await?;
        let cluster = &self.trial.cluster;
        cluster.script("kubelet.sh", &["freeze"]).await?;
        let namespace = &self.installation.namespace;
        cluster
            .script("kill.sh", &[namespace, &leader.name])
            .await?;
        let died = Instant::now();
        self.next_after(&leader, died, TAKEOVER).await
    }

    async fn leader_ends(&self) -> Result<()> {
        let leader = self.installation.leader().await?;
        let namespace = &self.installation.namespace;
        let ended = Instant::now();
        self.trial
            .cluster
            .delete("Pod", namespace, &leader.name)
            .await?;
        self.next_after(&leader, ended, HANDOVER).await
    }

    /// Another leads within `limit`, and writes.
    async fn next_after(&self, before: &Replica, since: Instant, limit: Duration) -> Result<()> {
        let next = eventually("another replica leads", limit, async || {
            let next = leading(self.installation).await?.context("none leads")?;
            ensure!(next.name != before.name, "it is the same");
            Ok(next)
        })
        .await?;
        let led = since.elapsed();
        ensure!(led < limit, "another led after {led:.1?}");
        let name = format!(
            "after-{}",
            before.name.rsplit('-').next().unwrap_or("leader")
        );
        let ingress = Ingress::new(&name, "holdfast").host("next.example.com", "echo");
        self.trial.apply(&ingress.yaml()).await?;
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        soon("it writes statuses", async || {
            let ingress = cluster.get("Ingress", namespace, &name).await?;
            let address = text(&ingress, "/status/loadBalancer/ingress/0/ip");
            ensure!(!address.is_empty(), "the status is empty");
            Ok(())
        })
        .await?;
        eprintln!("        {} led {led:.2?} after", next.name);
        Ok(())
    }

    async fn two_ready(&self) -> Result<()> {
        eventually("two replicas are ready", PODS, async || {
            let replicas = self.installation.replicas().await?;
            ensure!(
                replicas.len() == 2 && replicas.iter().all(|replica| replica.ready),
                "{replicas:?}"
            );
            // The kubelet's word may be from before.
            for replica in &replicas {
                self.installation.admin(replica, "/readyz").await?;
            }
            Ok(())
        })
        .await
    }
}
