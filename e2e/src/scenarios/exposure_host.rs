//! A LoadBalancer on the hosts themselves, which here are the pods' own addresses.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::answers;
use super::ingress_classes::has_address;
use crate::client::Visitor;
use crate::cluster::{items, text};
use crate::manifests::{Ingress, echo, load_balancer};
use crate::patience::{next_second, soon, steadily};
use crate::trial::Trial;

/// From an owned Service to the hosts, two that want one port, and back.
pub(crate) async fn there_and_back(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let installation = trial.shared()?;
    let cluster = &trial.cluster;
    let on_host = |name: &str, port: u16| {
        json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": {"name": name},
            "spec": {"exposure": "Host", "listeners": [
                {"name": "http", "port": port, "protocol": "HTTP"},
            ]},
        })
        .to_string()
    };
    trial.apply(&on_host("edge", 18_080)).await?;
    let item = async {
        soon("its Service has gone", async || {
            let service = installation.owned_service(&trial.namespace, "edge").await;
            ensure!(service.is_err(), "it is still there");
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "edge")
                .await?;
            let finalizers = items(&object, "/metadata/finalizers");
            ensure!(finalizers.is_empty(), "{finalizers:?}");
            Ok(())
        })
        .await?;
        let mut replicas: Vec<String> = Vec::new();
        for replica in installation.replicas().await? {
            replicas.push(replica.ip.to_string());
            let client = Visitor::http(replica.ip).port(18_080).host("a.example");
            soon("each replica serves it", async || {
                answers(&client, "/", "echo").await
            })
            .await?;
        }
        replicas.sort();
        soon("the addresses are those of the replicas", async || {
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "edge")
                .await?;
            let ingress = cluster.get("Ingress", &trial.namespace, "a").await?;
            let of = |object: &Value, list: &str, field: &str| {
                let list = items(object, list).iter();
                let mut all: Vec<String> = list.map(|one| text(one, field).to_owned()).collect();
                all.sort();
                all
            };
            let status = of(&object, "/status/addresses", "/value");
            ensure!(status == replicas, "they are {status:?}, not {replicas:?}");
            let status = of(&ingress, "/status/loadBalancer/ingress", "/ip");
            ensure!(status == replicas, "the Ingress has {status:?}");
            Ok(())
        })
        .await
    };
    trial.item("from Service to Host", item).await;

    next_second().await;
    trial.apply(&on_host("a-newer", 18_080)).await?;
    let item = async {
        soon("the newer one is told", async || {
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "a-newer")
                .await?;
            let conditions = items(&object, "/status/listeners/0/conditions");
            let conflicted = conditions
                .iter()
                .find(|one| text(one, "/type") == "Conflicted")
                .context("there is no condition yet")?;
            ensure!(
                text(conflicted, "/status") == "True"
                    && text(conflicted, "/message").contains("edge"),
                "{conflicted}"
            );
            Ok(())
        })
        .await?;
        let replica = installation.leader().await?;
        let client = Visitor::http(replica.ip).port(18_080).host("a.example");
        steadily(
            "the older one keeps it",
            Duration::from_secs(1),
            async || answers(&client, "/", "echo").await,
        )
        .await
    };
    trial
        .item("of two that want one port the older has it", item)
        .await;

    trial.apply(&load_balancer("edge")).await?;
    let item = async {
        // The old one has exposure Host still, as a field that nobody applied is kept.
        let patch = json!({"spec": {"exposure": "Service"}});
        cluster
            .patch("LoadBalancer", &trial.namespace, "edge", patch)
            .await?;
        let address = installation.address_of(&trial.namespace, "edge").await?;
        has_address(&trial, "a", &address.to_string()).await?;
        let client = Visitor::http(address).host("a.example");
        soon("it is served", async || answers(&client, "/", "echo").await).await
    };
    trial.item("and back to Service", item).await;
    Ok(())
}
