//! The chart, installed by Helm: its pods, who of them leads, what they say on their admin port.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client::Visitor;
use crate::cluster::{Cluster, checkout, items, text};
use crate::patience::{PODS, eventually, soon};

/// Of the release, and so of the objects that the chart makes.
pub(crate) const RELEASE: &str = "holdfast";

/// The installation that scenarios share: two replicas, and endings that do not take long.
pub(crate) const SHARED_VALUES: &str = "
controller:
  replicaCount: 2
  shutdown: {delay: 1s, drainWindow: 2s, drainGrace: 2s}
  accessLog: false
  resources: {requests: {cpu: 10m}}
";

/// A release of the chart.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    cluster: Cluster,
    /// The namespace of the release.
    pub(crate) namespace: String,
}

/// A pod of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Name of the pod.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Whether it is ready.
    pub(crate) ready: bool,
}

impl Installation {
    /// Installs the chart into a namespace of its own and waits until its pods are ready and its
    /// LoadBalancer has an address.
    ///
    /// # Errors
    ///
    /// When Helm fails, or it does not become ready.
    pub(crate) async fn install(cluster: &Cluster, namespace: &str, values: &str) -> Result<Self> {
        let installation = Self::begin(cluster, namespace, values, &["--wait"]).await?;
        installation.address().await?;
        Ok(installation)
    }

    /// One that has been made without Helm, under the same names.
    pub(crate) fn at(cluster: &Cluster, namespace: &str) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// Installs the chart and waits for nothing but what the further arguments of Helm say.
    ///
    /// # Errors
    ///
    /// When Helm fails.
    pub(crate) async fn begin(
        cluster: &Cluster,
        namespace: &str,
        values: &str,
        further: &[&str],
    ) -> Result<Self> {
        let chart = checkout().join("charts/holdfast");
        let chart = chart.to_string_lossy();
        let install = [
            "install",
            RELEASE,
            &chart,
            "--namespace",
            namespace,
            "--create-namespace",
            "--timeout=60s",
            "--values=-",
        ];
        cluster
            .helm(&[&install[..], further].concat(), values)
            .await?;
        Ok(Self::at(cluster, namespace))
    }

    /// `helm upgrade` with other values; waits until its pods are ready.
    ///
    /// # Errors
    ///
    /// When Helm fails.
    pub(crate) async fn upgrade(&self, values: &str) -> Result<()> {
        let chart = checkout().join("charts/holdfast");
        let chart = chart.to_string_lossy();
        let upgrade = [
            "upgrade",
            RELEASE,
            &chart,
            "--namespace",
            &self.namespace,
            "--timeout=120s",
            "--wait",
            "--values=-",
        ];
        self.cluster.helm(&upgrade, values).await?;
        Ok(())
    }

    /// `helm uninstall`.
    ///
    /// # Errors
    ///
    /// When Helm fails.
    pub(crate) async fn uninstall(&self) -> Result<()> {
        let namespace = &self.namespace;
        let uninstall = ["uninstall", RELEASE, "--namespace", namespace, "--wait"];
        self.cluster.helm(&uninstall, "").await?;
        Ok(())
    }

    /// Its pods that are not being deleted, by name.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn replicas(&self) -> Result<Vec<Replica>> {
        let labels = "app.kubernetes.io/part-of=holdfast,app.kubernetes.io/component=controller";
        let pods = self.cluster.list("Pod", &self.namespace, labels).await?;
        let mut replicas: Vec<Replica> = pods
            .iter()
            .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
            .filter_map(|pod| {
                Some(Replica {
                    name: text(pod, "/metadata/name").to_owned(),
                    // A pod that has just been made has none.
                    ip: text(pod, "/status/podIP").parse().ok()?,
                    ready: items(pod, "/status/conditions").iter().any(|condition| {
                        text(condition, "/type") == "Ready" && text(condition, "/status") == "True"
                    }),
                })
            })
            .collect();
        replicas.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(replicas)
    }

    /// The pod that holds the Lease.
    ///
    /// # Errors
    ///
    /// When none of its pods does.
    pub(crate) async fn leader(&self) -> Result<Replica> {
        let lease = self.cluster.get("Lease", &self.namespace, RELEASE).await?;
        let holder = text(&lease, "/spec/holderIdentity").to_owned();
        let mut replicas = self.replicas().await?.into_iter();
        replicas
            .find(|replica| replica.name == holder)
            .with_context(|| format!("the Lease is held by {holder:?}, which is none of the pods"))
    }

    /// Where clients reach the chart's own LoadBalancer.
    ///
    /// # Errors
    ///
    /// When it gets no address in time.
    pub(crate) async fn address(&self) -> Result<IpAddr> {
        self.address_of(&self.namespace, RELEASE).await
    }

    /// Where clients reach a LoadBalancer: its only address, which its Service has as well.
    ///
    /// # Errors
    ///
    /// When it gets no address in time, or is not programmed.
    pub(crate) async fn address_of(&self, namespace: &str, name: &str) -> Result<IpAddr> {
        let what = format!("LoadBalancer {namespace}/{name} is programmed and has an address");
        soon(&what, async || {
            let object = self.cluster.get("LoadBalancer", namespace, name).await?;
            ensure!(
                is_true(&object, "Programmed"),
                "{}",
                object.pointer("/status").unwrap_or(&Value::Null)
            );
            Ok(text(&object, "/status/addresses/0/value").parse()?)
        })
        .await
    }

    /// The Service that a LoadBalancer owns.
    ///
    /// # Errors
    ///
    /// When there is not exactly one.
    pub(crate) async fn owned_service(&self, namespace: &str, name: &str) -> Result<Value> {
        let labels = format!(
            "holdfast.dev/load-balancer-namespace={namespace},holdfast.dev/load-balancer-name={name}"
        );
        let mut found = self
            .cluster
            .list("Service", &self.namespace, &labels)
            .await?
            .into_iter();
        match (found.next(), found.next()) {
            (Some(service), None) => Ok(service),
            (None, _) => bail!("LoadBalancer {namespace}/{name} owns no Service"),
            (Some(_), Some(_)) => bail!("LoadBalancer {namespace}/{name} owns several Services"),
        }
    }

    /// What a pod says at a path of its admin port.
    ///
    /// # Errors
    ///
    /// Those of the connection, and any answer but 200.
    pub(crate) async fn admin(&self, replica: &Replica, path: &str) -> Result<String> {
        let answer = Visitor::http(replica.ip).port(9090).get(path).await?;
        ensure!(
            answer.status == 200,
            "{path} of {}: {} {}",
            replica.name,
            answer.status,
            answer.text()
        );
        Ok(answer.text())
    }

    /// The findings that the leader has, as `/findings` says them.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn findings(&self) -> Result<Vec<Value>> {
        let leader = self.leader().await?;
        let page: Value = serde_json::from_str(&self.admin(&leader, "/findings").await?)?;
        let list = page
            .as_array()
            .or_else(|| page.pointer("/findings")?.as_array());
        list.cloned()
            .with_context(|| format!("/findings has no list: {page}"))
    }

    /// The log of a pod.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn log(&self, pod: &str) -> Result<String> {
        let log = ["logs", pod, "--namespace", &self.namespace];
        self.cluster.kubectl(&log).await
    }

    /// How often containers of its pods were started again.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn restarts(&self) -> Result<u64> {
        let labels = "app.kubernetes.io/component=controller";
        let pods = self.cluster.list("Pod", &self.namespace, labels).await?;
        let containers = pods
            .iter()
            .flat_map(|pod| items(pod, "/status/containerStatuses"));
        Ok(containers
            .filter_map(|container| container.pointer("/restartCount")?.as_u64())
            .sum())
    }

    /// Sets the number of pods and waits until so many are ready and no other is left.
    ///
    /// # Errors
    ///
    /// Those of the API server, and when it does not come to that.
    pub(crate) async fn scale(&self, count: usize) -> Result<()> {
        let patch = json!({"spec": {"replicas": count}});
        self.cluster
            .patch("Deployment", &self.namespace, RELEASE, patch)
            .await?;
        eventually(&format!("{count} replicas are ready"), PODS, async || {
            let pods = self
                .cluster
                .list(
                    "Pod",
                    &self.namespace,
                    "app.kubernetes.io/component=controller",
                )
                .await?;
            let replicas = self.replicas().await?;
            ensure!(
                pods.len() == count && replicas.iter().filter(|one| one.ready).count() == count,
                "{replicas:?} of {} pods",
                pods.len()
            );
            Ok(())
        })
        .await
    }
}

/// The condition of an object's status, if it has it.
pub(crate) fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == name)
}

/// Whether a condition of an object's status holds, for the present generation.
pub(crate) fn is_true(object: &Value, name: &str) -> bool {
    condition(object, name).is_some_and(|condition| {
        text(condition, "/status") == "True"
            && condition.pointer("/observedGeneration") == object.pointer("/metadata/generation")
    })
}
