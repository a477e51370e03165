//! The hunt for wrong answers: hosts that everybody knows are asked all the time, while objects of
//! every sort around them come, change and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{by_a_pod, patient};
use crate::client::{Authority, Visitor};
use crate::load::Requests;
use crate::manifests::{Ingress, class};
use crate::patience::soon;
use crate::trial::{Edge, Trial};

const HOSTS: usize = 20;
/// Of them, how many have a certificate.
const OVER_TLS: usize = 5;
const CHANGES_A_SECOND: u32 = 10;
const TIME: Duration = Duration::from_secs(60);
/// Names that objects around the known ones take in turn.
const NAMES: usize = 12;

/// For a minute, never a 404, 502 or 503 for a known host.
pub(crate) async fn known_hosts(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let authority = Authority::new()?;
    let stage = Stage {
        trial: &trial,
        edge,
        authority,
    };
    stage.set().await?;
    let mut requests = Requests::new();
    for index in 0..HOSTS {
        let client = stage.edge.http(&host(index));
        requests = requests
            .fresh(client.clone(), 3, by_a_pod)
            .kept(&client, 1, 5, by_a_pod);
    }
    for index in 0..OVER_TLS {
        let host = host(index);
        let client = Visitor::https(stage.edge.address, stage.authority.trust()).host(&host);
        requests = requests.fresh(client, 2, by_a_pod);
    }
    let (changes, changed) = stage.change().await;
    let tally = requests.stop().await?;
    trial
        .item("objects around them change", async { changed })
        .await;
    trial
        .item("each request has its right answer", async {
            tally.expect_no_failure()?;
            ensure!(
                tally.crossed == 0 && tally.ended == 0,
                "{} kept connections were ended",
                tally.ended
            );
            Ok(())
        })
        .await;
    eprintln!(
        "        {} requests during {changes} changes, the slowest {:.0?}",
        tally.answered, tally.slowest
    );
    Ok(())
}

fn host(index: usize) -> String {
    format!("known-{index}.example.com")
}

struct Stage<'a> {
    trial: &'a Trial,
    edge: Edge,
    authority: Authority,
}

impl Stage<'_> {
    async fn set(&self) -> Result<()> {
        self.trial.apply(&patient("known", 2)?).await?;
        for index in 0..OVER_TLS {
            self.rotate(index).await?;
        }
        for index in 0..HOSTS {
            self.known(index, "0").await?;
        }
        self.trial.ready(&["known"]).await?;
        soon("all known hosts are served", async || {
            for index in 0..HOSTS {
                self.edge
                    .http(&host(index))
                    .get("/")
                    .await?
                    .comes_from("known")?;
            }
            Ok(())
        })
        .await?;
        soon("and over TLS", async || {
            for index in 0..OVER_TLS {
                let trust = self.authority.trust();
                let client = Visitor::https(self.edge.address, trust).host(&host(index));
                client.get("/").await?.comes_from("known")?;
            }
            Ok(())
        })
        .await
    }

    /// A known host's Ingress; `version` goes to an annotation of no meaning and to another path.
    async fn known(&self, index: usize, version: &str) -> Result<()> {
        let host = host(index);
        let mut ingress = Ingress::new(&format!("known-{index}"), &self.edge.class)
            .annotation("holdfast-e2e/version", version)
            .host(&host, "known")
            .path(&host, "Prefix", &format!("/{version}"), "known");
        if index < OVER_TLS {
            ingress = ingress.tls(&[&host], &format!("known-{index}"));
        }
        self.trial.apply(&ingress.yaml()).await
    }

    /// A new certificate for a known host.
    async fn rotate(&self, index: usize) -> Result<()> {
        let issued = self.authority.issue(&[&host(index)])?;
        self.trial
            .apply(&issued.secret(&format!("known-{index}")))
            .await
    }

    /// Changes objects at a steady rate; answers how many times.
    async fn change(&self) -> (usize, Result<()>) {
        let mut ticks = interval(Duration::from_secs(1) / CHANGES_A_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        let mut turn = 0;
        while began.elapsed() < TIME {
            ticks.tick().await;
            if let Err(error) = self.change_one(turn).await {
                return (turn, Err(error));
            }
            turn += 1;
        }
        let wanted = TIME.as_secs() as usize * CHANGES_A_SECOND as usize;
        if turn < wanted / 2 {
            let error = anyhow::anyhow!("only {turn} of {wanted} changes could be made");
            return (turn, Err(error));
        }
        (turn, Ok(()))
    }

    async fn change_one(&self, turn: usize) -> Result<()> {
        let Trial {
            cluster, namespace, ..
        } = self.trial;
        let round = turn / 12;
        let name = format!("around-{}", round % NAMES);
        // Made in one half of the rounds, deleted in the other.
        let is_there = (round / NAMES).is_multiple_of(2);
        let make = async |object: String| self.trial.apply(&object).await;
        match turn % 12 {
            0 => self.known(round % HOSTS, &round.to_string()).await,
            1 => self.rotate(round % OVER_TLS).await,
            // Pods of the known hosts' Service come and go.
            2 if round.is_multiple_of(10) => {
                let replicas = json!({"spec": {"replicas": 2 + (round / 10) % 2}});
                cluster
                    .patch("Deployment", namespace, "known", replicas)
                    .await?;
                Ok(())
            }
            3 if is_there => make(service(&name)).await,
            3 => cluster.delete("Service", namespace, &name).await,
            4 if is_there => make(endpoints(&name, round)).await,
            4 => cluster.delete("EndpointSlice", namespace, &name).await,
            5 if is_there => {
                let host = format!("{name}.example.com");
                let ingress = Ingress::new(&name, &self.edge.class).host(&host, &name);
                make(ingress.tls(&[&host], &name).yaml()).await
            }
            5 => cluster.delete("Ingress", namespace, &name).await,
            6 if is_there => {
                let issued = self.authority.issue(&[&format!("{name}.example.com")])?;
                make(issued.secret(&name)).await
            }
            6 => cluster.delete("Secret", namespace, &name).await,
            // A class of the same LoadBalancer, and one of nobody's.
            7 if is_there => make(class(&format!("{namespace}-{name}"), namespace, "edge")).await,
            7 => {
                let name = format!("{namespace}-{name}");
                cluster.delete("IngressClass", "", &name).await
            }
            // Others speak of the same hosts: other paths, and the same one, later and so in vain.
            8 if is_there => {
                let host = host(round % HOSTS);
                let other = Ingress::new(&format!("{name}-path"), &self.edge.class);
                make(other.path(&host, "Prefix", "/around", "known").yaml()).await
            }
            8 => {
                let name = format!("{name}-path");
                cluster.delete("Ingress", namespace, &name).await
            }
            9 if is_there => {
                let host = host((round + 7) % HOSTS);
                let other = Ingress::new(&format!("{name}-rival"), &self.edge.class);
                make(other.host(&host, "nobody").yaml()).await
            }
            9 => {
                let name = format!("{name}-rival");
                cluster.delete("Ingress", namespace, &name).await
            }
            // Broken ones.
            10 if is_there => {
                let secret = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "type": "kubernetes.io/tls",
                    "metadata": {"name": format!("{name}-broken")},
                    "stringData": {"tls.crt": "no certificate", "tls.key": "no key"},
                });
                make(secret.to_string()).await
            }
            10 => {
                let name = format!("{name}-broken");
                cluster.delete("Secret", namespace, &name).await
            }
            // Of no meaning to anybody's routes.
            _ => {
                let labels = json!({"metadata": {"labels": {"round": round.to_string()}}});
                cluster.patch("Namespace", "", namespace, labels).await?;
                Ok(())
            }
        }
    }
}

fn service(name: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
    .to_string()
}

/// Pods that nobody has.
fn endpoints(name: &str, round: usize) -> String {
    let addresses: Vec<Value> = (0..3)
        .map(|index| {
            let address = format!("10.244.200.{}", 1 + (round + index) % 250);
            json!({"addresses": [address], "conditions": {"ready": true}})
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": addresses,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
    .to_string()
}
