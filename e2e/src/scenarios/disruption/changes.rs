//! 200 open WebSockets, over ws and wss, by an Ingress and by a rule of a LoadBalancer; and
//! everything changes around them.
//!
//! ```text
//! 4 × 50 WebSockets ─▶ change ─▶ seen on the wire ─▶ all open, each echoes, no message lost
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{by_a_pod, leading, tunnels};
use crate::client::{Authority, Visitor};
use crate::cluster::{items, text};
use crate::installation::{Installation, Replica};
use crate::load::{Fleet, How, Requests};
use crate::manifests::{Ingress, echo, to_service};
use crate::patience::{SOON, eventually, soon};
use crate::trial::Trial;

/// By the Ingress.
const HOST: &str = "open.example.com";
/// By the rule.
const EDGE: &str = "edge.example.com";
/// Open WebSockets of each sort.
const EACH: usize = 50;
/// For which the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// In which a change made after its return is served.
const SERVED: Duration = Duration::from_secs(5);

/// All that may change leaves open WebSockets alone.
pub(crate) async fn stay_open(trial: Arc<Trial>) -> Result<()> {
    let stage = Stage::set(&trial).await?;
    let fleet = Fleet::open(&[
        ("ws", stage.ws(), EACH),
        ("wss", stage.wss(), EACH),
        ("edge-ws", stage.edge_ws(), EACH),
        ("edge-wss", stage.edge_wss(), EACH),
    ])
    .await?;
    let stage = &stage;
    let fleet = &Unharmed {
        trial: &trial,
        fleet,
    };
    fleet
        .by(
            "an Ingress of others added and removed",
            stage.other_ingress(),
        )
        .await;
    fleet
        .by("another path of their host changed", stage.other_path())
        .await;
    fleet
        .by("their certificates rotated", stage.certificates())
        .await;
    fleet
        .by("weights of their rule changed", stage.weights())
        .await;
    fleet
        .by("another listener added and removed", stage.listener())
        .await;
    fleet
        .by("the policy of their listener changed", stage.policy())
        .await;
    fleet
        .by("their Deployment scaled up", stage.scale_up())
        .await;
    fleet.by("every watch cut", stage.cut_watches()).await;
    fleet
        .by("no API server for a minute", stage.no_api_server())
        .await;
    trial
        .item(
            "the leader killed: its WebSockets end, and no other",
            stage.kill_leader(&fleet.fleet),
        )
        .await;
    Ok(())
}

/// A fleet, and where it is reported what has harmed it.
struct Unharmed<'a> {
    trial: &'a Trial,
    fleet: Fleet,
}

impl Unharmed<'_> {
    /// Reports whether the change came, and left each WebSocket alone.
    async fn by(&self, what: &str, change: impl Future<Output = Result<()>>) {
        let changed = async {
            change.await?;
            self.fleet.check(what).await
        };
        self.trial.item(what, changed).await;
    }
}

/// What the WebSockets go through.
struct Stage<'a> {
    trial: &'a Trial,
    installation: &'a Installation,
    authority: Authority,
    /// Of the chart's LoadBalancer, where the Ingress is.
    address: std::net::IpAddr,
    /// Of the scenario's own, where the rule is.
    edge: std::net::IpAddr,
}

/// What changes of the LoadBalancer.
#[derive(Clone, Copy)]
struct Edge {
    weights: [u32; 2],
    has_extra: bool,
    idle: &'static str,
}

const FIRST: Edge = Edge {
    weights: [100, 0],
    has_extra: false,
    idle: "60s",
};

impl Edge {
    fn yaml(self) -> String {
        let backend = |name: &str, weight: u32| {
            let mut backend = to_service(name, json!(80));
            backend["weight"] = json!(weight);
            backend
        };
        let websocket = json!({"idleTimeout": self.idle});
        let mut listeners = vec![
            json!({"name": "http", "port": 80, "protocol": "HTTP", "websocket": websocket}),
            json!({
                "name": "https",
                "port": 443,
                "protocol": "HTTPS",
                "websocket": websocket,
                "tls": {"certificateRefs": [{"name": "edge-cert"}]},
            }),
        ];
        if self.has_extra {
            listeners.push(json!({"name": "extra", "port": 8081, "protocol": "HTTP"}));
        }
        let [first, second] = self.weights;
        json!({
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": {"name": "edge"},
            "spec": {
                // A backend without weight is drained: here for so long that nobody's time comes.
                "connectionDrain": {"timeout": "24h"},
                "listeners": listeners,
                "rules": [{
                    "hosts": [EDGE],
                    "backends": [backend("echo", first), backend("second", second)],
                }],
            },
        })
        .to_string()
    }
}

impl<'a> Stage<'a> {
    async fn set(trial: &'a Trial) -> Result<Self> {
        let installation = trial.shared()?;
        let authority = Authority::new()?;
        for (name, replicas) in [("echo", 2), ("second", 1)] {
            trial.apply(&echo(name, replicas)).await?;
        }
        for (host, secret) in [(HOST, "ws-cert"), (EDGE, "edge-cert")] {
            trial
                .apply(&authority.issue(&[host])?.secret(secret))
                .await?;
        }
        trial.apply(&ingress("second").yaml()).await?;
        trial.apply(&FIRST.yaml()).await?;
        trial.ready(&["echo", "second"]).await?;
        let stage = Self {
            trial,
            installation,
            authority,
            address: installation.address().await?,
            edge: installation.address_of(&trial.namespace, "edge").await?,
        };
        soon("all of it is served", async || {
            for client in [stage.ws(), stage.wss(), stage.edge_ws(), stage.edge_wss()] {
                client.get("/").await?.comes_from("echo")?;
            }
            Ok(())
        })
        .await?;
        Ok(stage)
    }

    fn ws(&self) -> Visitor {
        Visitor::http(self.address).host(HOST)
    }

    fn wss(&self) -> Visitor {
        Visitor::https(self.address, self.authority.trust()).host(HOST)
    }

    fn edge_ws(&self) -> Visitor {
        Visitor::http(self.edge).host(EDGE)
    }

    fn edge_wss(&self) -> Visitor {
        Visitor::https(self.edge, self.authority.trust()).host(EDGE)
    }

    /// The change is there when every replica serves it.
    async fn every_replica(&self) -> Result<Vec<Replica>> {
        let replicas = self.installation.replicas().await?;
        ensure!(
            replicas.len() == 2 && replicas.iter().all(|replica| replica.ready),
            "{replicas:?}"
        );
        Ok(replicas)
    }

    async fn other_ingress(&self) -> Result<()> {
        let host = "other.example.com";
        let other = Ingress::new("other", "holdfast").host(host, "second");
        let client = Visitor::http(self.address).host(host);
        self.trial.apply(&other.yaml()).await?;
        soon("it is served", async || {
            client.get("/").await?.comes_from("second")
        })
        .await?;
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        cluster.delete("Ingress", namespace, "other").await?;
        soon("it is not served any more", async || {
            client.get("/").await?.expect(404).map(drop)
        })
        .await
    }

    async fn other_path(&self) -> Result<()> {
        let client = self.ws();
        client.get("/other").await?.comes_from("second")?;
        self.trial.apply(&ingress("echo").yaml()).await?;
        soon("the path goes elsewhere", async || {
            client.get("/other").await?.comes_from("echo")
        })
        .await
        .map(drop)
    }

    async fn certificates(&self) -> Result<()> {
        for (client, host, secret) in [
            (self.wss(), HOST, "ws-cert"),
            (self.edge_wss(), EDGE, "edge-cert"),
        ] {
            let issued = self.authority.issue(&[host])?;
            self.trial.apply(&issued.secret(secret)).await?;
            soon("the new certificate is presented", async || {
                ensure!(client.certificate().await? == issued.der, "it is another");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn weights(&self) -> Result<()> {
        let edge = Edge {
            weights: [0, 100],
            ..FIRST
        };
        self.trial.apply(&edge.yaml()).await?;
        let client = self.edge_ws();
        soon("requests go by the new weights", async || {
            client.get("/").await?.comes_from("second")
        })
        .await?;
        let edge = Edge {
            weights: [1, 1],
            ..FIRST
        };
        self.trial.apply(&edge.yaml()).await?;
        soon("requests go to both", async || {
            let mut pods = BTreeSet::new();
            for _ in 0..20 {
                let echo = client.get("/").await?.echo()?;
                pods.insert(echo.deployment().to_owned());
            }
            ensure!(pods.len() == 2, "only to {pods:?}");
            Ok(())
        })
        .await?;
        self.trial.apply(&FIRST.yaml()).await
    }

    async fn listener(&self) -> Result<()> {
        let edge = Edge {
            has_extra: true,
            ..FIRST
        };
        let client = self.edge_ws().port(8081);
        self.trial.apply(&edge.yaml()).await?;
        soon("the listener serves", async || {
            client.get("/").await?.comes_from("echo")
        })
        .await?;
        self.trial.apply(&FIRST.yaml()).await?;
        soon("the listener has gone", async || {
            ensure!(client.get("/").await.is_err(), "it still answers");
            Ok(())
        })
        .await
    }

    async fn policy(&self) -> Result<()> {
        let edge = Edge {
            idle: "10m",
            ..FIRST
        };
        self.trial.apply(&edge.yaml()).await?;
        soon("the new timeout is in force", async || {
            let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
            let object = cluster.get("LoadBalancer", namespace, "edge").await?;
            let timeouts: Vec<&Value> = items(&object, "/status/listeners")
                .iter()
                .filter_map(|listener| listener.pointer("/effective/websocket/idleTimeout"))
                .collect();
            ensure!(timeouts == ["10m", "10m"], "in force: {timeouts:?}");
            Ok(())
        })
        .await
    }

    async fn scale_up(&self) -> Result<()> {
        let (cluster, namespace) = (&self.trial.cluster, &self.trial.namespace);
        let pods = async || -> Result<BTreeSet<String>> {
            let pods = cluster.list("Pod", namespace, "app=echo").await?;
            let names = pods
                .iter()
                .map(|pod| text(pod, "/metadata/name").to_owned());
            Ok(names.collect())
        };
        let before = pods().await?;
        let patch = json!({"spec": {"replicas": 4}});
        cluster
            .patch("Deployment", namespace, "echo", patch)
            .await?;
        self.trial.ready(&["echo"]).await?;
        let new = &pods().await? - &before;
        ensure!(new.len() == 2, "{new:?} are new");
        let client = self.ws();
        // Of the old ones, one may get nothing: it holds more WebSockets than its neighbour.
        soon("the new pods answer", async || {
            let mut seen = BTreeSet::new();
            for _ in 0..20 {
                seen.insert(client.get("/").await?.comes_from("echo")?.pod);
            }
            ensure!(seen.is_superset(&new), "{seen:?} answer, {new:?} are new");
            Ok(())
        })
        .await
    }

    async fn cut_watches(&self) -> Result<()> {
        self.trial.cluster.script("apiserver.sh", &["cut"]).await?;
        // What was said on a watch while it was cut is not missed.
        let gone = self.new_host("cut.example.com", SOON).await?;
        eprintln!("        {gone:.1?} from the cut to a new Ingress being served");
        Ok(())
    }

    async fn no_api_server(&self) -> Result<()> {
        let replicas = self.every_replica().await?;
        let requests = Requests::new()
            .fresh(self.ws(), 20, by_a_pod)
            .fresh(self.edge_wss(), 5, by_a_pod)
            .kept(&self.ws(), 4, 5, by_a_pod);
        let cluster = &self.trial.cluster;
        cluster.script("apiserver.sh", &["kill"]).await?;
        let stopped = Instant::now();
        let readiness = async {
            while stopped.elapsed() < AWAY {
                for replica in &replicas {
                    let ready = self.installation.admin(replica, "/readyz").await;
                    ready.context("without an API server")?;
                }
                // It must hold for the whole outage: there is nothing to wait for.
                sleep(Duration::from_millis(500)).await;
            }
            anyhow::Ok(())
        };
        let ready = readiness.await;
        let started = cluster.script("apiserver.sh", &["start"]).await;
        let back = Instant::now();
        // Whatever came of it, so that what follows has an API server and no load.
        let tally = requests.stop().await?;
        started?;
        ready?;
        tally.expect_no_failure()?;
        ensure!(
            tally.crossed == 0,
            "{} requests were cut off",
            tally.crossed
        );
        let took = self.new_host("after.example.com", SOON).await?;
        eprintln!(
            "        {} requests meanwhile, the slowest {:.0?}; {:.1?} from the API server's return \
             to a new Ingress being served",
            tally.answered,
            tally.slowest,
            back.elapsed()
        );
        ensure!(took < SERVED, "a new Ingress was served after {took:.1?}");
        eventually("a replica leads again", SOON, async || {
            leading(self.installation).await?.context("none leads")
        })
        .await
        .map(drop)
    }

    /// How long it takes until a new Ingress is served by every replica.
    async fn new_host(&self, host: &str, limit: Duration) -> Result<Duration> {
        let name = host.split('.').next().unwrap_or(host);
        let ingress = Ingress::new(name, "holdfast").host(host, "second");
        let began = Instant::now();
        self.trial.apply(&ingress.yaml()).await?;
        let client = Visitor::http(self.address).host(host);
        eventually("a new Ingress is served", limit, async || {
            // Either of them may answer.
            for _ in 0..10 {
                client.get("/").await?.comes_from("second")?;
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    }

    async fn kill_leader(&self, fleet: &Fleet) -> Result<()> {
        let replicas = self.every_replica().await?;
        let leader = self.installation.leader().await?;
        let Some(other) = replicas.iter().find(|replica| replica.name != leader.name) else {
            bail!("there is no other replica: {replicas:?}");
        };
        let doomed = tunnels(self.installation, &leader).await?;
        let safe = tunnels(self.installation, other).await?;
        ensure!(
            doomed.len() + safe.len() == fleet.len() && !doomed.is_empty() && !safe.is_empty(),
            "{} WebSockets on the leader, {} on the other",
            doomed.len(),
            safe.len()
        );
        let namespace = &self.installation.namespace;
        let cluster = &self.trial.cluster;
        cluster
            .script("kill.sh", &[namespace, &leader.name])
            .await?;
        let killed = Instant::now();
        eventually("a replica leads", SOON, async || {
            leading(self.installation).await?.context("none leads")
        })
        .await?;
        let led = killed.elapsed();
        soon("the killed program's WebSockets have ended", async || {
            let ended = fleet.endings().len();
            ensure!(ended >= doomed.len(), "{ended} of {}", doomed.len());
            Ok(())
        })
        .await?;
        fleet
            .check_those("the leader was killed", |id| safe.contains_key(id))
            .await?;
        let polite = fleet
            .endings()
            .values()
            .flatten()
            .filter(|ending| matches!(ending.how, How::Close(..)))
            .count();
        ensure!(
            polite == 0,
            "{polite} Close frames came from a dead program"
        );
        eprintln!(
            "        {} ended, {} stayed; a replica led {led:.1?} after",
            doomed.len(),
            safe.len()
        );
        Ok(())
    }
}

fn ingress(other: &str) -> Ingress {
    Ingress::new("open", "holdfast")
        .host(HOST, "echo")
        .path(HOST, "Prefix", "/other", other)
        .tls(&[HOST], "ws-cert")
}
