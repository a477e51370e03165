//! Pods that are replaced, deleted and killed under requests and WebSockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{by_a_pod, patient, tunnels};
use crate::client::{Authority, Visitor};
use crate::cluster::text;
use crate::installation::Installation;
use crate::load::{Fleet, How, Requests};
use crate::manifests::Ingress;
use crate::patience::{PODS, eventually, soon};
use crate::trial::Trial;

const HOST: &str = "app.example.com";
const PODS_WANTED: usize = 8;

/// A rolling update, a deletion and a crash.
pub(crate) async fn come_and_go(trial: Arc<Trial>) -> Result<()> {
    let stage = Stage::set(&trial).await?;
    trial
        .item(
            "rolling update of 8 pods: no request fails",
            stage.rolling_update(),
        )
        .await;
    trial
        .item(
            "scaled from 8 to 2 pods and back: no request fails",
            stage.scaling(),
        )
        .await;
    // Two for each pod, on each replica.
    let fleet = Fleet::open(&[
        ("ws", stage.ws.clone(), 2 * PODS_WANTED),
        ("wss", stage.wss.clone(), 2 * PODS_WANTED),
    ])
    .await?;
    trial
        .item(
            "a pod deleted: its WebSockets end with a Close, the others stay",
            stage.deletion(&fleet),
        )
        .await;
    trial
        .item(
            "a pod's program killed: its WebSockets end with 1011, the others stay",
            stage.crash(&fleet),
        )
        .await;
    Ok(())
}

struct Stage<'a> {
    trial: &'a Trial,
    installation: &'a Installation,
    ws: Visitor,
    wss: Visitor,
}

impl<'a> Stage<'a> {
    async fn set(trial: &'a Trial) -> Result<Self> {
        let installation = trial.shared()?;
        let authority = Authority::new()?;
        trial.apply(&patient("app", PODS_WANTED as u32)?).await?;
        let issued = authority.issue(&[HOST])?;
        trial.apply(&issued.secret("app-cert")).await?;
        let ingress = Ingress::new("app", "holdfast").host(HOST, "app");
        trial
            .apply(&ingress.tls(&[HOST], "app-cert").yaml())
            .await?;
        trial.ready(&["app"]).await?;
        let address = installation.address().await?;
        let stage = Self {
            trial,
            installation,
            ws: Visitor::http(address).host(HOST),
            wss: Visitor::https(address, authority.trust()).host(HOST),
        };
        soon("it is served", async || {
            stage.ws.get("/").await?.comes_from("app")?;
            stage.wss.get("/").await?.comes_from("app")
        })
        .await?;
        Ok(stage)
    }

    fn requests(&self) -> Requests {
        Requests::new()
            .fresh(self.ws.clone(), 80, by_a_pod)
            .fresh(self.wss.clone(), 10, by_a_pod)
            .kept(&self.ws, 8, 10, by_a_pod)
            .kept(&self.wss, 2, 5, by_a_pod)
    }

    /// Asks steadily until `change` is over.
    async fn under_requests(&self, change: impl Future<Output = Result<()>>) -> Result<()> {
        let requests = self.requests();
        let began = Instant::now();
        let changed = change.await;
        let took = began.elapsed();
        let tally = requests.stop().await?;
        changed?;
        tally.expect_no_failure()?;
        // Pods come and go, but nobody told the clients' connections to end.
        ensure!(
            tally.crossed == 0 && tally.ended == 0,
            "{} kept connections were ended",
            tally.ended
        );
        eprintln!(
            "        {} requests in {took:.0?}, the slowest {:.0?}",
            tally.answered, tally.slowest
        );
        Ok(())
    }

    async fn rolling_update(&self) -> Result<()> {
        let before = self.pods().await?;
        self.under_requests(async {
            let annotations = json!({"holdfast-e2e/update": "1"});
            let template =
                json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
            self.patch(template).await?;
            self.settled().await
        })
        .await?;
        let after = self.pods().await?;
        let kept = after.keys().filter(|name| before.contains_key(*name));
        ensure!(kept.count() == 0, "some pods were not replaced");
        Ok(())
    }

    async fn scaling(&self) -> Result<()> {
        self.under_requests(async {
            for count in [2, PODS_WANTED] {
                self.patch(json!({"spec": {"replicas": count}})).await?;
                self.settled().await?;
            }
            Ok(())
        })
        .await
    }

    async fn deletion(&self, fleet: &Fleet) -> Result<()> {
        let (victim, ours) = self.victim(fleet).await?;
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        cluster.delete("Pod", namespace, &victim).await?;
        let endings = self.ended(fleet, &ours).await?;
        for (id, how) in endings {
            // Drained by the proxy, or, where the pod was faster, in its own words, handed on.
            let drained = How::Close(1012, "draining, please reconnect".to_owned());
            let by_pod = How::Close(1001, "the pod is going away".to_owned());
            ensure!(how == drained || how == by_pod, "{id} ended with {how:?}");
        }
        self.others_stay(fleet, &ours).await?;
        self.settled().await
    }

    async fn crash(&self, fleet: &Fleet) -> Result<()> {
        let before = fleet.endings();
        let (victim, ours) = self.victim(fleet).await?;
        let namespace = &self.trial.namespace;
        let cluster = &self.trial.cluster;
        cluster.script("kill.sh", &[namespace, &victim]).await?;
        let endings = self.ended(fleet, &ours).await?;
        for (id, how) in endings {
            ensure!(
                how == How::Close(1011, "backend gone".to_owned()),
                "{id} ended with {how:?}"
            );
        }
        let gone = before.into_keys().map(|id| (id, String::new()));
        self.others_stay(fleet, &ours.into_iter().chain(gone).collect())
            .await
    }

    /// A pod, and its WebSockets.
    async fn victim(&self, fleet: &Fleet) -> Result<(String, BTreeMap<String, String>)> {
        let mut open = BTreeMap::new();
        for replica in self.installation.replicas().await? {
            open.append(&mut tunnels(self.installation, &replica).await?);
        }
        ensure!(
            open.len() == fleet.len() - fleet.endings().len(),
            "the replicas know of {} WebSockets",
            open.len()
        );
        let endpoint = open.values().next().context("none is open")?.clone();
        open.retain(|_, pod| *pod == endpoint);
        let mut pods = self.pods().await?.into_iter();
        let victim = pods.find(|(_, address)| format!("{address}:8080") == endpoint);
        let (victim, _) = victim.with_context(|| format!("no pod is at {endpoint}"))?;
        Ok((victim, open))
    }

    /// How some WebSockets have ended, when they all have.
    async fn ended(
        &self,
        fleet: &Fleet,
        ids: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, How)>> {
        soon("the pod's WebSockets have ended", async || {
            let mut endings = fleet.endings();
            endings.retain(|id, _| ids.contains_key(id));
            ensure!(
                endings.len() == ids.len(),
                "{} of {}",
                endings.len(),
                ids.len()
            );
            let hows = endings.into_iter();
            Ok(hows
                .flat_map(|(id, endings)| {
                    endings
                        .into_iter()
                        .map(move |ending| (id.clone(), ending.how))
                })
                .collect())
        })
        .await
    }

    async fn others_stay(&self, fleet: &Fleet, ended: &BTreeMap<String, String>) -> Result<()> {
        fleet
            .check_those("a pod has gone", |id| !ended.contains_key(id))
            .await
    }

    async fn patch(&self, patch: Value) -> Result<()> {
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        cluster.patch("Deployment", namespace, "app", patch).await?;
        Ok(())
    }

    /// All pods are of the last version and ready, and those before have gone.
    async fn settled(&self) -> Result<()> {
        self.trial.ready(&["app"]).await?;
        eventually("pods that were ending have gone", PODS, async || {
            let pods = self.all_pods().await?;
            let ending = pods
                .iter()
                .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
            let count = ending.count();
            ensure!(count == 0, "{count} are ending");
            Ok(())
        })
        .await
    }

    /// Names and addresses.
    async fn pods(&self) -> Result<BTreeMap<String, String>> {
        let pods = self.all_pods().await?;
        Ok(pods
            .iter()
            .map(|pod| {
                let name = text(pod, "/metadata/name").to_owned();
                (name, text(pod, "/status/podIP").to_owned())
            })
            .collect())
    }

    async fn all_pods(&self) -> Result<Vec<Value>> {
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        cluster.list("Pod", namespace, "app=app").await
    }
}
