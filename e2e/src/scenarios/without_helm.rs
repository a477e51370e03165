//! manifests/install.yaml, by the commands that stand at its head.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use super::answers;
use super::ingress_classes::{has_address, has_no_address};
use crate::client::{Trust, Visitor};
use crate::cluster::checkout;
use crate::installation::Installation;
use crate::manifests::{Ingress, echo};
use crate::patience::{PODS, eventually, soon};
use crate::trial::Trial;

/// In, served, and out again with all that was made.
pub(crate) async fn install(trial: Arc<Trial>) -> Result<()> {
    let (install, uninstall) = commands("manifests/install.yaml")?;
    trial.cluster.shell(&install).await?;
    let installation = Installation::at(&trial.cluster, "holdfast");
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", "holdfast").host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let item = async {
        let address = installation.address().await?;
        has_address(&trial, "a", &address.to_string()).await?;
        let (http, https) = (
            Visitor::http(address).host("a.example"),
            Visitor::https(address, Trust::Anything).host("a.example"),
        );
        soon("both are served", async || {
            answers(&http, "/", "echo").await?;
            https.websocket("/").await?.echo("hello").await
        })
        .await
    };
    trial.item("installed by its first commands", item).await;
    let item = async {
        trial.cluster.shell(&uninstall).await?;
        nothing_left(&trial).await
    };
    trial
        .item("uninstalled by the others: nothing is left", item)
        .await;
    Ok(())
}

/// The commands at the head of a file: those to install, and those to uninstall.
fn commands(file: &str) -> Result<(String, String)> {
    let text = std::fs::read_to_string(checkout().join(file)).with_context(|| file.to_owned())?;
    let head: Vec<&str> = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .collect();
    let uninstall = head.iter().position(|line| line.contains("Uninstall."));
    let (install, uninstall) = head.split_at(uninstall.unwrap_or(head.len()));
    let commands = |lines: &[&str]| {
        let commands = lines.iter().filter_map(|line| line.strip_prefix("#   "));
        commands.collect::<Vec<_>>().join("\n")
    };
    let install = commands(install);
    ensure!(install.contains("kubectl apply"), "{file} does not say how");
    Ok((install, commands(uninstall)))
}

/// Whether the cluster is as before: no object of ours, and none that bears a trace of us.
async fn nothing_left(trial: &Trial) -> Result<()> {
    has_no_address(trial, "a").await?;
    let cluster = &trial.cluster;
    eventually("nothing of Holdfast is there", PODS, async || {
        for kind in ["ClusterRole", "ClusterRoleBinding", "IngressClass"] {
            let left = cluster
                .list(kind, "", "app.kubernetes.io/part-of=holdfast")
                .await?;
            ensure!(left.is_empty(), "{kind}: {left:?}");
        }
        let namespace = cluster.find("Namespace", "", "holdfast").await?;
        ensure!(namespace.is_none(), "its namespace is there: {namespace:?}");
        let crd = "loadbalancers.holdfast.dev";
        let crd = cluster.find("CustomResourceDefinition", "", crd).await?;
        ensure!(crd.is_none(), "the CRD is there");
        Ok(())
    })
    .await
}
