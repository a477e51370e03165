//! One run of a scenario: its namespace, its installation, the items that it reports.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client::{Trust, Visitor};
use crate::cluster::Cluster;
use crate::installation::Installation;
use crate::manifests;
use crate::patience::{PODS, eventually};

/// What a scenario works with.
#[derive(Debug)]
pub(crate) struct Trial {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// A namespace for this scenario alone. It is deleted afterwards, with all those that
    /// [`Trial::namespace`] has made.
    pub(crate) namespace: String,
    shared: Option<Installation>,
    progress: Mutex<Progress>,
}

/// A LoadBalancer of a scenario's own.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// Where clients reach it.
    pub(crate) address: IpAddr,
    /// The IngressClass whose Ingresses attach to it.
    pub(crate) class: String,
}

impl Edge {
    /// A client of its HTTP listener.
    pub(crate) fn http(&self, host: &str) -> Visitor {
        Visitor::http(self.address).host(host)
    }

    /// A client of its HTTPS listener that takes any certificate.
    pub(crate) fn https(&self, host: &str) -> Visitor {
        Visitor::https(self.address, Trust::Anything).host(host)
    }
}

#[derive(Debug, Default)]
struct Progress {
    namespaces: Vec<String>,
    failed: Vec<String>,
    items: usize,
}

impl Trial {
    /// Makes the namespace.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn new(
        cluster: Cluster,
        namespace: String,
        shared: Option<Installation>,
    ) -> Result<Self> {
        let trial = Self {
            cluster,
            namespace: namespace.clone(),
            shared,
            progress: Mutex::default(),
        };
        trial.make(namespace).await?;
        Ok(trial)
    }

    /// A further namespace, by a suffix to the name of the first.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn namespace(&self, suffix: &str) -> Result<String> {
        let name = format!("{}-{suffix}", self.namespace);
        self.make(name.clone()).await?;
        Ok(name)
    }

    async fn make(&self, name: String) -> Result<()> {
        self.progress().namespaces.push(name.clone());
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.cluster.apply_object("", &object).await?;
        Ok(())
    }

    /// A LoadBalancer of the scenario's own with ports 80 and 443, and an IngressClass for it: what
    /// it serves is out of the way of all other scenarios. Waits for its address.
    ///
    /// # Errors
    ///
    /// Those of the API server, and when it gets no address.
    pub(crate) async fn edge(&self, name: &str) -> Result<Edge> {
        let class = format!("{}-{name}", self.namespace);
        self.apply(&manifests::load_balancer(name)).await?;
        self.apply(&manifests::class(&class, &self.namespace, name))
            .await?;
        let installation = self.shared()?;
        Ok(Edge {
            address: installation.address_of(&self.namespace, name).await?,
            class,
        })
    }

    /// Waits until all pods of some Deployments are ready.
    ///
    /// # Errors
    ///
    /// When one does not get there.
    pub(crate) async fn ready(&self, deployments: &[&str]) -> Result<()> {
        for name in deployments {
            eventually(&format!("{name} is ready"), PODS, async || {
                let object = self
                    .cluster
                    .get("Deployment", &self.namespace, name)
                    .await?;
                let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
                let wanted = count("/spec/replicas");
                ensure!(
                    count("/status/observedGeneration") == count("/metadata/generation")
                        && count("/status/readyReplicas").or(Some(0)) == wanted
                        && count("/status/updatedReplicas").or(Some(0)) == wanted
                        && count("/status/replicas").or(Some(0)) == wanted,
                    "{}",
                    object.pointer("/status").unwrap_or(&Value::Null)
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The shared installation.
    ///
    /// # Errors
    ///
    /// When the scenario is one without it.
    pub(crate) fn shared(&self) -> Result<&Installation> {
        self.shared
            .as_ref()
            .context("this scenario has no shared installation")
    }

    /// Applies YAML; objects that name no namespace go to that of the scenario.
    ///
    /// # Errors
    ///
    /// Those of the API server, with the object.
    pub(crate) async fn apply(&self, yaml: &str) -> Result<()> {
        self.cluster.apply(&self.namespace, yaml).await
    }

    /// One thing out of many that the scenario looks at: a line of the report. The others go on
    /// when it fails, and the scenario has failed in the end.
    pub(crate) async fn item(&self, name: &str, work: impl Future<Output = Result<()>>) {
        let start = Instant::now();
        let outcome = work.await;
        let took = start.elapsed().as_secs_f64();
        let mut progress = self.progress();
        progress.items += 1;
        match outcome {
            Ok(()) => eprintln!("      ok {took:6.1} s  {name}"),
            Err(error) => {
                eprintln!("    FAIL {took:6.1} s  {name}: {error:#}");
                progress.failed.push(name.to_owned());
            }
        }
    }

    /// How many items there were.
    ///
    /// # Errors
    ///
    /// When one has failed.
    pub(crate) fn conclude(&self) -> Result<usize> {
        let progress = self.progress();
        if !progress.failed.is_empty() {
            bail!(
                "{} of {} items failed: {}",
                progress.failed.len(),
                progress.items,
                progress.failed.join("; ")
            );
        }
        Ok(progress.items)
    }

    /// All namespaces of the scenario.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.progress().namespaces.clone()
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
