//! `helm upgrade` under load, and what `helm uninstall` leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{by_a_pod, tunnels};
use crate::client::{Authority, Visitor};
use crate::cluster::{items, text};
use crate::installation::Installation;
use crate::load::{Ending, Fleet, How, Requests};
use crate::manifests::{Ingress, echo, load_balancer};
use crate::patience::{PODS, eventually, soon};
use crate::trial::Trial;

const HOST: &str = "release.example.com";
/// Open WebSockets, over ws and over wss.
const EACH: usize = 100;
/// Over which a replica that ends closes its WebSockets.
const WINDOW: Duration = Duration::from_secs(8);

fn values(version: u32) -> String {
    format!(
        "
controller:
  replicaCount: 2
  podAnnotations: {{holdfast-e2e/version: '{version}'}}
  shutdown: {{delay: 3s, drainWindow: {}s, drainGrace: 3s}}
  accessLog: false
  resources: {{requests: {{cpu: 10m}}}}
",
        WINDOW.as_secs()
    )
}

/// Both replicas are replaced under 100 new connections a second and 200 WebSockets.
pub(crate) async fn upgrade(trial: Arc<Trial>) -> Result<()> {
    let installation =
        Installation::install(&trial.cluster, "holdfast-upgrade", &values(1)).await?;
    let authority = Authority::new()?;
    trial.apply(&echo("echo", 2)).await?;
    trial
        .apply(&authority.issue(&[HOST])?.secret("cert"))
        .await?;
    let ingress = Ingress::new("release", "holdfast").host(HOST, "echo");
    trial.apply(&ingress.tls(&[HOST], "cert").yaml()).await?;
    trial.ready(&["echo"]).await?;
    let address = installation.address().await?;
    let ws = Visitor::http(address).host(HOST);
    let wss = Visitor::https(address, authority.trust()).host(HOST);
    soon("it is served", async || {
        ws.get("/").await?.comes_from("echo")?;
        wss.get("/").await?.comes_from("echo")
    })
    .await?;
    let clients = [("ws", ws.clone(), EACH), ("wss", wss.clone(), EACH)];
    let fleet = Fleet::open_again_and_again(&clients).await?;
    let before = installation.replicas().await?;
    let mut places = Vec::new();
    for replica in &before {
        places.push(tunnels(&installation, replica).await?);
    }
    let requests = Requests::new()
        .fresh(ws.clone(), 85, by_a_pod)
        .fresh(wss.clone(), 15, by_a_pod)
        .kept(&ws, 8, 5, by_a_pod)
        .kept(&wss, 2, 5, by_a_pod);
    let began = Instant::now();
    installation.upgrade(&values(2)).await?;
    eventually("the pods before have gone", PODS, async || {
        let labels = "app.kubernetes.io/component=controller";
        let pods = trial
            .cluster
            .list("Pod", &installation.namespace, labels)
            .await?;
        let left = pods.iter().filter(|pod| {
            let name = text(pod, "/metadata/name");
            before.iter().any(|replica| replica.name == name)
        });
        let left = left.count();
        ensure!(left == 0 && pods.len() == 2, "{left} of {}", pods.len());
        Ok(())
    })
    .await?;
    let took = began.elapsed();
    let tally = requests.stop().await?;
    let reopened = fleet.all_open("the upgrade").await;
    eprintln!(
        "        {} requests in {took:.0?}, the slowest {:.0?}; {} kept connections ended, {} \
         requests on them sent again",
        tally.answered, tally.slowest, tally.ended, tally.crossed
    );
    trial
        .item("no new connection and no request fails", async {
            tally.expect_no_failure()
        })
        .await;
    trial
        .item("no request on a kept connection is cut off", async {
            ensure!(tally.crossed == 0, "{} are", tally.crossed);
            Ok(())
        })
        .await;
    trial
        .item("all WebSockets are open again", async { reopened })
        .await;
    trial
        .item("no handshake was refused", async {
            let refusals = fleet.refusals();
            ensure!(
                refusals.is_empty(),
                "{}: {:?}",
                refusals.len(),
                refusals.first()
            );
            Ok(())
        })
        .await;
    let endings = fleet.endings();
    trial
        .item("each WebSocket ended by a clean Close", async {
            clean(&endings, fleet.len())
        })
        .await;
    for (replica, places) in before.iter().zip(&places) {
        let name = format!("the endings of {} are spread", replica.name);
        trial.item(&name, async { spread(&endings, places) }).await;
    }
    fleet.close().await?;
    Ok(())
}

fn clean(endings: &BTreeMap<String, Vec<Ending>>, count: usize) -> Result<()> {
    ensure!(
        endings.len() == count,
        "{} of {count} ended, and all pods were replaced",
        endings.len()
    );
    for (id, endings) in endings {
        for ending in endings {
            match &ending.how {
                How::Close(1001 | 1012, _) => {}
                how => bail!("{id} ended with {how:?}"),
            }
        }
    }
    Ok(())
}

/// Of the WebSockets that a replica had at the beginning.
fn spread(
    endings: &BTreeMap<String, Vec<Ending>>,
    places: &BTreeMap<String, String>,
) -> Result<()> {
    let mut times: Vec<Instant> = endings
        .iter()
        .filter(|(id, _)| places.contains_key(*id))
        .filter_map(|(_, endings)| Some(endings.first()?.at))
        .collect();
    times.sort_unstable();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        bail!("there are none");
    };
    let span = *last - *first;
    let in_second = |from: &Instant| {
        let within = |at: &&Instant| **at >= *from && **at - *from < Duration::from_secs(1);
        times.iter().filter(within).count()
    };
    let most = times.iter().map(in_second).max().unwrap_or_default();
    let even = times.len() as f64 / WINDOW.as_secs_f64();
    eprintln!(
        "        {} endings over {span:.1?}, at most {most} in a second; evenly it were {even:.0}",
        times.len()
    );
    ensure!(
        span >= WINDOW.mul_f64(0.6) && span <= WINDOW.mul_f64(1.5),
        "they took {span:.1?}"
    );
    ensure!(
        (most as f64) < even * 2.5 + 3.0,
        "{most} ended in one second"
    );
    Ok(())
}

/// Everything that was written is taken back; what users made stays theirs.
pub(crate) async fn uninstall(trial: Arc<Trial>) -> Result<()> {
    let installation =
        Installation::install(&trial.cluster, "holdfast-uninstall", &values(1)).await?;
    let (cluster, namespace) = (&trial.cluster, &trial.namespace);
    trial.apply(&echo("echo", 1)).await?;
    trial.apply(&load_balancer("mine")).await?;
    for (name, host) in [("one", "one.example.com"), ("two", "two.example.com")] {
        let ingress = Ingress::new(name, "holdfast").host(host, "echo");
        trial.apply(&ingress.yaml()).await?;
    }
    // What another controller said stays.
    let foreign = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    trial
        .apply(
            &Ingress::new("foreign", "of-others")
                .host("f.example.com", "echo")
                .yaml(),
        )
        .await?;
    cluster
        .patch_status("Ingress", namespace, "foreign", foreign)
        .await?;
    installation.address_of(namespace, "mine").await?;
    soon("all statuses are written", async || {
        for name in ["one", "two"] {
            let ingress = cluster.get("Ingress", namespace, name).await?;
            let status = items(&ingress, "/status/loadBalancer/ingress");
            ensure!(!status.is_empty(), "that of {name} is empty");
        }
        Ok(())
    })
    .await?;
    let owned = cluster
        .list("Service", "", "holdfast.dev/load-balancer-name")
        .await?;
    ensure!(owned.len() == 2, "{} owned Services", owned.len());

    let began = Instant::now();
    let uninstalled = installation.uninstall().await;
    let took = began.elapsed();
    eprintln!("        helm uninstall took {took:.1?}");
    trial
        .item("helm uninstall succeeds", async { uninstalled })
        .await;
    trial
        .item("owned Services have gone", async {
            let left = cluster
                .list("Service", "", "holdfast.dev/load-balancer-name")
                .await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await;
    trial
        .item(
            "statuses of Ingresses are cleared, those of others stay",
            async {
                for name in ["one", "two"] {
                    let ingress = cluster.get("Ingress", namespace, name).await?;
                    let status = items(&ingress, "/status/loadBalancer/ingress");
                    ensure!(status.is_empty(), "{name} has {status:?}");
                }
                let ingress = cluster.get("Ingress", namespace, "foreign").await?;
                let status = text(&ingress, "/status/loadBalancer/ingress/0/ip");
                ensure!(status == "192.0.2.1", "that of others is {status:?}");
                Ok(())
            },
        )
        .await;
    trial
        .item(
            "a LoadBalancer of the user's own: no status, no finalizer",
            async {
                let mine = cluster.get("LoadBalancer", namespace, "mine").await?;
                let status = mine.pointer("/status").cloned().unwrap_or(json!({}));
                ensure!(
                    status.as_object().is_some_and(serde_json::Map::is_empty),
                    "the status is {status}"
                );
                let finalizers = items(&mine, "/metadata/finalizers");
                ensure!(finalizers.is_empty(), "{finalizers:?}");
                Ok(())
            },
        )
        .await;
    trial
        .item(
            "nothing is left in the release's namespace",
            leftovers(&trial, &installation),
        )
        .await;
    trial
        .item("nothing is left outside of namespaces but the CRD", async {
            for kind in ["ClusterRole", "ClusterRoleBinding", "IngressClass"] {
                let left = cluster
                    .list(kind, "", "app.kubernetes.io/part-of=holdfast")
                    .await?;
                ensure!(left.is_empty(), "{kind}: {left:?}");
            }
            let crd = "loadbalancers.holdfast.dev";
            cluster
                .get("CustomResourceDefinition", "", crd)
                .await
                .map(drop)
        })
        .await;
    trial
        .item("the user's LoadBalancer can be deleted afterwards", async {
            cluster.delete("LoadBalancer", namespace, "mine").await?;
            soon("it has gone", async || {
                let mine = cluster.find("LoadBalancer", namespace, "mine").await?;
                ensure!(mine.is_none(), "it is still there");
                Ok(())
            })
            .await
        })
        .await;
    Ok(())
}

/// All that the controller or the chart makes, of every kind. Pods may still be ending.
async fn leftovers(trial: &Trial, installation: &Installation) -> Result<()> {
    let kinds = "deployments,daemonsets,replicasets,pods,jobs,services,endpointslices,serviceaccounts,\
                 roles,rolebindings,secrets,configmaps,leases,poddisruptionbudgets,\
                 networkpolicies,horizontalpodautoscalers,loadbalancers,ingresses";
    let namespace = &installation.namespace;
    let get = ["get", kinds, "--namespace", namespace, "-o", "json"];
    eventually("nothing is left", PODS, async || {
        let list: Value = serde_json::from_str(&trial.cluster.kubectl(&get).await?)?;
        let left: Vec<String> = items(&list, "/items")
            .iter()
            .map(|object| {
                let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
                format!("{kind} {name}")
            })
            // Every namespace has them.
            .filter(|name| name != "ServiceAccount default" && name != "ConfigMap kube-root-ca.crt")
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
