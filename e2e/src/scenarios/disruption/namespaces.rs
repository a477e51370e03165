//! Limited to some namespaces, without rights beyond them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::Visitor;
use crate::cluster::{items, text};
use crate::installation::Installation;
use crate::manifests::{Ingress, echo, load_balancer};
use crate::patience::{soon, steadily};
use crate::trial::Trial;

const SYSTEM: &str = "holdfast-scoped";

/// The chart with `scope.enabled`: two namespaces are served, a third is not seen.
pub(crate) async fn only(trial: Arc<Trial>) -> Result<()> {
    let ours = trial.namespace.clone();
    let second = trial.namespace("second").await?;
    let foreign = trial.namespace("foreign").await?;
    let values = format!(
        "
controller:
  replicaCount: 2
  scope: {{enabled: true, namespace: '{ours},{second}'}}
  shutdown: {{delay: 1s, drainWindow: 1s, drainGrace: 1s}}
  resources: {{requests: {{cpu: 10m}}}}
"
    );
    let cluster = &trial.cluster;
    let installation = Installation::begin(cluster, SYSTEM, &values, &["--wait"]).await?;
    // The first of the namespaces is where the LoadBalancer is.
    let address = installation.address_of(&ours, "holdfast").await?;
    for (namespace, host) in [
        (&ours, "ours.example.com"),
        (&second, "second.example.com"),
        (&foreign, "foreign.example.com"),
    ] {
        cluster.apply(namespace, &echo("echo", 1)).await?;
        let ingress = Ingress::new("web", "holdfast").host(host, "echo");
        cluster.apply(namespace, &ingress.yaml()).await?;
    }
    cluster.apply(&foreign, &load_balancer("foreign")).await?;
    for (namespace, host) in [(&ours, "ours.example.com"), (&second, "second.example.com")] {
        let served = served(&trial, namespace, host, address);
        trial.item(&format!("{namespace} is served"), served).await;
    }
    let client = Visitor::http(address).host("foreign.example.com");
    let unseen = steadily("another is not", Duration::from_secs(2), async || {
        client.get("/").await?.expect(404)?;
        let ingress = cluster.get("Ingress", &foreign, "web").await?;
        let status = items(&ingress, "/status/loadBalancer/ingress");
        ensure!(status.is_empty(), "its Ingress has {status:?}");
        let object = cluster.get("LoadBalancer", &foreign, "foreign").await?;
        let status = object.pointer("/status");
        ensure!(status.is_none(), "its LoadBalancer has {status:?}");
        Ok(())
    });
    trial.item("another namespace is not seen", unseen).await;
    trial
        .item("the chart makes nothing outside of namespaces", async {
            for kind in ["ClusterRole", "ClusterRoleBinding", "IngressClass"] {
                let made = cluster
                    .list(kind, "", "app.kubernetes.io/part-of=holdfast")
                    .await?;
                ensure!(made.is_empty(), "{kind}: {made:?}");
            }
            Ok(())
        })
        .await;
    trial
        .item("it has no rights beyond", rights(&trial, &ours, &foreign))
        .await;
    trial
        .item("nothing that it asks for is refused", async {
            let leader = installation.leader().await?;
            let name = &leader.name;
            let log = cluster
                .kubectl(&["logs", "--namespace", SYSTEM, name])
                .await?;
            let refused: Vec<&str> = log
                .lines()
                .filter(|line| line.contains("forbidden") || line.contains("may not"))
                .collect();
            ensure!(refused.is_empty(), "{refused:?}");
            let findings = installation.findings().await?;
            ensure!(findings.is_empty(), "{findings:?}");
            Ok(())
        })
        .await;
    let uninstalled = async {
        installation.uninstall().await?;
        let object = cluster.get("Ingress", &second, "web").await?;
        let status = items(&object, "/status/loadBalancer/ingress");
        ensure!(status.is_empty(), "an Ingress has still {status:?}");
        let services = cluster.list("Service", SYSTEM, "").await?;
        ensure!(services.is_empty(), "Services are left: {services:?}");
        Ok(())
    };
    trial
        .item("helm uninstall takes all back", uninstalled)
        .await;
    Ok(())
}

async fn served(
    trial: &Trial,
    namespace: &str,
    host: &str,
    address: std::net::IpAddr,
) -> Result<()> {
    let client = Visitor::http(address).host(host);
    soon("requests are answered", async || {
        client.get("/").await?.comes_from("echo")
    })
    .await?;
    let mut socket = client.websocket("/").await?;
    socket.echo("with no more rights than needed").await?;
    socket.close(1000, "").await?;
    soon("the status has the address", async || {
        let ingress = trial.cluster.get("Ingress", namespace, "web").await?;
        let status = text(&ingress, "/status/loadBalancer/ingress/0/ip");
        ensure!(status == address.to_string(), "it has {status:?}");
        Ok(())
    })
    .await
}

/// The API server's own word on what the controller may do.
async fn rights(trial: &Trial, ours: &str, foreign: &str) -> Result<()> {
    let account = format!("system:serviceaccount:{SYSTEM}:holdfast");
    for (verb, what, place, may) in [
        ("list", "ingresses.networking.k8s.io", ours, "yes"),
        ("list", "secrets", ours, "yes"),
        ("list", "ingresses.networking.k8s.io", foreign, "no"),
        ("list", "secrets", foreign, "no"),
        ("patch", "ingresses.networking.k8s.io/status", foreign, "no"),
        ("list", "ingresses.networking.k8s.io", "", "no"),
        ("list", "secrets", "", "no"),
        ("list", "namespaces", "", "no"),
        ("list", "ingressclasses.networking.k8s.io", "", "no"),
    ] {
        let place = match place {
            "" => vec!["--all-namespaces"],
            namespace => vec!["--namespace", namespace],
        };
        let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
        let subresource = format!("--subresource={subresource}");
        let ask = ["auth", "can-i", verb, what, "--as", &account, &subresource];
        // Ends with 1 where the answer is no.
        let (_, said) = trial
            .cluster
            .try_kubectl(&[&ask[..], &place].concat(), "")
            .await?;
        let answer = said.lines().last().unwrap_or_default();
        ensure!(answer == may, "may it {verb} {what} in {place:?}? {said}");
    }
    Ok(())
}
