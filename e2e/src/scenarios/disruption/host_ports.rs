//! Without Helm and without a Service: the DaemonSet of `manifests/examples` on the node's ports.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Authority, Visitor};
use crate::cluster::{checkout, items, text};
use crate::installation::is_true;
use crate::manifests::{Ingress, echo};
use crate::patience::{PODS, eventually, soon};
use crate::trial::Trial;

/// As the manifest has it.
const NAMESPACE: &str = "holdfast";
const HOST: &str = "node.example.com";

/// By the commands in the manifest's head: installed, serving, restarted, taken back.
pub(crate) async fn by_manifest(trial: Arc<Trial>) -> Result<()> {
    let cluster = &trial.cluster;
    let file = |path: &str| checkout().join(path).to_string_lossy().into_owned();
    let (crd, manifest) = (
        file("crds/loadbalancer.yaml"),
        file("manifests/examples/host-ports.yaml"),
    );
    let apply = ["apply", "--server-side", "-f"];
    cluster.kubectl(&[&apply[..], &[&crd]].concat()).await?;
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/loadbalancers.holdfast.dev",
    ];
    cluster.kubectl(&established).await?;
    cluster
        .kubectl(&[&apply[..], &[&manifest]].concat())
        .await?;
    rollout(&trial).await?;

    let nodes = cluster.list("Node", "", "").await?;
    let node = nodes.first().context("there is no node")?;
    let node = items(node, "/status/addresses")
        .iter()
        .find(|address| text(address, "/type") == "InternalIP")
        .context("the node has no address")?;
    let address = text(node, "/address").parse()?;

    let authority = Authority::new()?;
    trial.apply(&echo("echo", 1)).await?;
    trial
        .apply(&authority.issue(&[HOST])?.secret("cert"))
        .await?;
    let ingress = Ingress::new("node", "holdfast").host(HOST, "echo");
    trial.apply(&ingress.tls(&[HOST], "cert").yaml()).await?;
    let ws = Visitor::http(address).host(HOST);
    let wss = Visitor::https(address, authority.trust()).host(HOST);
    trial
        .item("ports 80 and 443 of the node serve", serves(&ws, &wss))
        .await;
    let statuses = soon("statuses have the node's address", async || {
        let ingress = cluster.get("Ingress", &trial.namespace, "node").await?;
        let status = text(&ingress, "/status/loadBalancer/ingress/0/ip");
        ensure!(status == address.to_string(), "the Ingress has {status:?}");
        let object = cluster.get("LoadBalancer", NAMESPACE, "holdfast").await?;
        let status = text(&object, "/status/addresses/0/value");
        ensure!(
            status == address.to_string() && is_true(&object, "Programmed"),
            "the LoadBalancer has {}",
            object.pointer("/status").unwrap_or(&Value::Null)
        );
        Ok(())
    });
    trial
        .item("statuses have the node's address", statuses)
        .await;
    trial
        .item("there is no Service but that of the replicas", async {
            let services = cluster.list("Service", NAMESPACE, "").await?;
            let names: Vec<&str> = services
                .iter()
                .map(|service| text(service, "/metadata/name"))
                .collect();
            ensure!(names == ["holdfast-peers"], "{names:?}");
            Ok(())
        })
        .await;
    let restarted = async {
        let annotations = json!({"holdfast-e2e/restart": "1"});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        let mut socket = ws.websocket("/").await?;
        socket.echo("before").await?;
        cluster
            .patch("DaemonSet", NAMESPACE, "holdfast", patch)
            .await?;
        let (code, reason) = eventually("the pod closes its WebSocket", PODS, async || {
            socket.next().await
        })
        .await
        .and_then(|received| match received {
            crate::client::Received::Close(code, reason) => Ok((code, reason)),
            other => anyhow::bail!("{other:?} came"),
        })?;
        ensure!(
            code == 1001 || code == 1012,
            "closed with {code} {reason:?}"
        );
        socket.end().await?;
        rollout(&trial).await?;
        serves(&ws, &wss).await
    };
    trial
        .item(
            "an update of the DaemonSet: the next pod has the ports",
            restarted,
        )
        .await;
    let taken_back = async {
        let exec = ["exec", "--namespace", NAMESPACE, "daemonset/holdfast", "--"];
        cluster
            .kubectl(&[&exec[..], &["/holdfast", "uninstall"]].concat())
            .await?;
        let ingress = cluster.get("Ingress", &trial.namespace, "node").await?;
        let status = items(&ingress, "/status/loadBalancer/ingress");
        ensure!(status.is_empty(), "the Ingress has still {status:?}");
        cluster
            .kubectl(&["delete", "--timeout=60s", "-f", &manifest])
            .await?;
        Ok(())
    };
    trial
        .item(
            "holdfast uninstall and kubectl delete take all back",
            taken_back,
        )
        .await;
    Ok(())
}

async fn rollout(trial: &Trial) -> Result<()> {
    let status = ["rollout", "status", "daemonset/holdfast", "--timeout=60s"];
    trial
        .cluster
        .kubectl(&[&status[..], &["--namespace", NAMESPACE]].concat())
        .await?;
    Ok(())
}

async fn serves(ws: &Visitor, wss: &Visitor) -> Result<()> {
    for client in [ws, wss] {
        soon("the node answers", async || {
            client.get("/").await?.comes_from("echo")
        })
        .await?;
        let mut socket = client.websocket("/").await?;
        socket.echo("through the node").await?;
        socket.close(1000, "").await?;
    }
    Ok(())
}
