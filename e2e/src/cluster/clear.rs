//! Removing what a scenario, or a run that was broken off, has left.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Cluster, SCENARIO_LABEL, items, text};
use crate::patience::{PODS, eventually, soon};

const CRD: &str = "loadbalancers.holdfast.dev";
/// Namespaces of tests begin with one of these.
const NAMESPACES: [&str; 2] = ["t-", "holdfast"];
/// Those of manifests/examples end with this.
const EXAMPLE: &str = "-example";
/// Where Holdfast is without Helm.
const WITHOUT_HELM: &str = "holdfast";
/// The namespace of Holdfast itself.
const OWN: &str = "holdfast-system";
/// Kinds without a namespace that scenarios make, or Helm for them.
const UNBOUND: [&str; 3] = ["IngressClass", "ClusterRole", "ClusterRoleBinding"];

impl Cluster {
    /// Makes the cluster what it was before any test: no release, no CRD, no namespace of ours.
    ///
    /// # Errors
    ///
    /// Those of the API server, and when something does not go.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.clear_releases().await?;
        let names: Vec<String> = self
            .list("Namespace", "", "")
            .await?
            .iter()
            .map(|object| text(object, "/metadata/name").to_owned())
            .filter(|name| {
                name == WITHOUT_HELM
                    || name.ends_with(EXAMPLE)
                    || NAMESPACES.iter().any(|prefix| name.starts_with(prefix))
            })
            .filter(|name| name != OWN)
            .collect();
        for name in &names {
            self.delete("Namespace", "", name).await?;
        }
        for name in &names {
            self.namespace_has_gone(name).await?;
        }
        Ok(())
    }

    /// Removes Holdfast, wherever and however it is installed: releases, CRD, roles.
    ///
    /// # Errors
    ///
    /// Those of the API server, and when something does not go.
    pub(crate) async fn clear_releases(&self) -> Result<()> {
        let releases = self
            .helm(&["list", "--all", "--all-namespaces", "-o", "json"], "")
            .await?;
        let releases: Value = serde_json::from_str(&releases)?;
        for release in items(&releases, "") {
            let (name, namespace) = (text(release, "/name"), text(release, "/namespace"));
            let uninstall = ["uninstall", name, "--namespace", namespace, "--no-hooks"];
            self.helm(&uninstall, "").await?;
        }
        if self.has_crd().await? {
            self.delete("CustomResourceDefinition", "", CRD).await?;
            soon("the CRD has gone", async || {
                if !self.has_crd().await? {
                    return Ok(());
                }
                // Nobody is there who would take the finalizers off.
                self.release_load_balancers("").await?;
                ensure!(!self.has_crd().await?, "it is still there");
                Ok(())
            })
            .await?;
        }
        for kind in UNBOUND {
            for label in [SCENARIO_LABEL, "app.kubernetes.io/part-of=holdfast"] {
                self.delete_all(kind, label).await?;
            }
        }
        for class in self.list("IngressClass", "", "").await? {
            if text(&class, "/spec/controller") == "holdfast.dev/ingress-controller" {
                self.delete("IngressClass", "", text(&class, "/metadata/name"))
                    .await?;
            }
        }
        self.delete("Namespace", "", OWN).await?;
        self.namespace_has_gone(OWN).await
    }

    async fn namespace_has_gone(&self, name: &str) -> Result<()> {
        eventually(&format!("namespace {name} has gone"), PODS, async || {
            let found = self.find("Namespace", "", name).await?;
            ensure!(found.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// Deletes the namespaces of a scenario and its objects outside of them. Returns when nothing
    /// in there concerns the controller any more; pods may still be ending.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn remove_namespaces(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.delete("Namespace", "", name).await?;
            for kind in UNBOUND {
                self.delete_all(kind, &format!("{SCENARIO_LABEL}={name}"))
                    .await?;
            }
        }
        if !self.has_crd().await? {
            return Ok(());
        }
        for name in names {
            // Not left to the namespace: what deletes its contents takes half a minute to notice
            // that an API server is back.
            for object in self.list("LoadBalancer", name, "").await? {
                self.delete("LoadBalancer", name, text(&object, "/metadata/name"))
                    .await?;
            }
            let what = format!("the LoadBalancers of {name} have gone");
            let gone = soon(&what, async || {
                let left = self.list("LoadBalancer", name, "").await?;
                ensure!(left.is_empty(), "{} are left", left.len());
                Ok(())
            })
            .await;
            if let Err(error) = gone {
                eprintln!("    {error:#}; their finalizers are taken off by force");
                self.release_load_balancers(name).await?;
            }
        }
        Ok(())
    }

    async fn has_crd(&self) -> Result<bool> {
        let crd = self.find("CustomResourceDefinition", "", CRD).await?;
        Ok(crd.is_some())
    }

    async fn release_load_balancers(&self, namespace: &str) -> Result<()> {
        for object in self.list("LoadBalancer", namespace, "").await? {
            let namespace = text(&object, "/metadata/namespace");
            let name = text(&object, "/metadata/name");
            let patch = json!({"metadata": {"finalizers": null}});
            let released = self.patch("LoadBalancer", namespace, name, patch).await;
            // It may have gone by itself.
            if released.is_err() && self.find("LoadBalancer", namespace, name).await?.is_some() {
                released?;
            }
        }
        Ok(())
    }

    async fn delete_all(&self, kind: &str, labels: &str) -> Result<()> {
        for object in self.list(kind, "", labels).await? {
            self.delete(kind, "", text(&object, "/metadata/name"))
                .await?;
        }
        Ok(())
    }
}
