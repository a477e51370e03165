//! The cluster: objects as JSON, by the client or by kubectl and Helm, and trouble on demand.
//!
//! ```text
//! YAML ─▶ documents ─▶ server-side apply ─┐
//! get, list, patch, delete ───────────────┼─▶ API server
//! kubectl, helm (processes) ──────────────┘
//! script ─▶ e2e/cluster/apiserver.sh, kill.sh
//! ```

mod clear;
mod kinds;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Client, Error};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use kinds::resource;

/// Who we are to the API server.
const MANAGER: &str = "holdfast-e2e";
/// On objects without a namespace: which scenario's they are.
const SCENARIO_LABEL: &str = "holdfast-e2e";

/// The checkout.
pub(crate) fn checkout() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The cluster of `KUBECONFIG`.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// The text at a JSON pointer such as `/status/loadBalancer/ingress/0/ip`; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The items at a JSON pointer; none where there is no list.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The documents of a YAML text.
pub(crate) fn documents(yaml: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).with_context(|| format!("in {yaml}"))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

impl Cluster {
    /// Connects to the cluster of `KUBECONFIG`.
    ///
    /// # Errors
    ///
    /// When none is named, or it does not answer: there is nothing to test then.
    pub(crate) async fn connect() -> Result<Self> {
        if std::env::var_os("KUBECONFIG").is_none() {
            bail!(
                "KUBECONFIG is not set; these tests change the cluster that they run on, so they \
                 take none by chance: use e2e/run.sh, or e2e/cluster/enter.sh"
            );
        }
        let client = Client::try_default().await?;
        let version = client
            .apiserver_version()
            .await
            .context("the cluster does not answer; bring it up with e2e/cluster/up.sh")?;
        eprintln!("Kubernetes {}", version.git_version);
        Ok(Self { client })
    }

    /// Applies YAML as `kubectl apply --server-side --force-conflicts` does. Objects that name no
    /// namespace go to `namespace`.
    ///
    /// # Errors
    ///
    /// Those of the API server, with the object.
    pub(crate) async fn apply(&self, namespace: &str, yaml: &str) -> Result<()> {
        for document in documents(yaml)? {
            self.apply_object(namespace, &document).await?;
        }
        Ok(())
    }

    /// Applies an object and gives it as it is then.
    ///
    /// # Errors
    ///
    /// Those of the API server, with the object.
    pub(crate) async fn apply_object(&self, namespace: &str, object: &Value) -> Result<Value> {
        let name = text(object, "/metadata/name");
        let kind = text(object, "/kind");
        let what = format!("applying {kind} {namespace}/{name}");
        let (resource, is_namespaced) = resource(kind)?;
        let mut object = object.clone();
        if !is_namespaced && kind != "Namespace" {
            let labels = object
                .pointer_mut("/metadata")
                .and_then(Value::as_object_mut)
                .with_context(|| format!("{what}: no metadata"))?
                .entry("labels")
                .or_insert_with(|| json!({}));
            labels[SCENARIO_LABEL] = json!(namespace);
        }
        let own = text(&object, "/metadata/namespace");
        let namespace = if own.is_empty() { namespace } else { own };
        let api = self.api(&resource, is_namespaced, namespace);
        let applied = api
            .patch(
                name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&object),
            )
            .await
            .with_context(|| what)?;
        Ok(serde_json::to_value(applied)?)
    }

    /// Creates an object, which must not be there, with the defaults and admission of a creation.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn create(&self, namespace: &str, object: &Value) -> Result<Value> {
        let (resource, is_namespaced) = resource(text(object, "/kind"))?;
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let created = self
            .api(&resource, is_namespaced, namespace)
            .create(&PostParams::default(), &object)
            .await?;
        Ok(serde_json::to_value(created)?)
    }

    /// An object.
    ///
    /// # Errors
    ///
    /// Those of the API server; also where it is not there.
    pub(crate) async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        self.find(kind, namespace, name)
            .await?
            .with_context(|| format!("there is no {kind} {namespace}/{name}"))
    }

    /// An object, if it is there.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn find(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>> {
        let (resource, is_namespaced) = resource(kind)?;
        let found = self
            .api(&resource, is_namespaced, namespace)
            .get_opt(name)
            .await
            .with_context(|| format!("getting {kind} {namespace}/{name}"))?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    /// Objects by a label selector, which may be empty; of all namespaces where `namespace` is.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn list(
        &self,
        kind: &str,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>> {
        let (resource, is_namespaced) = resource(kind)?;
        let all = namespace.is_empty() || !is_namespaced;
        let api = self.api(&resource, !all, namespace);
        let list = api
            .list(&ListParams::default().labels(labels))
            .await
            .with_context(|| format!("listing {kind} {namespace}"))?;
        list.items
            .into_iter()
            .map(|object| Ok(serde_json::to_value(object)?))
            .collect()
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn patch(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Value> {
        let (resource, is_namespaced) = resource(kind)?;
        let changed = self
            .api(&resource, is_namespaced, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("patching {kind} {namespace}/{name}"))?;
        Ok(serde_json::to_value(changed)?)
    }

    /// Changes the status of an object by a merge patch, as another manager would.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn patch_status(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        status: Value,
    ) -> Result<Value> {
        let (resource, is_namespaced) = resource(kind)?;
        let patch = Patch::Merge(json!({ "status": status }));
        let changed = self
            .api(&resource, is_namespaced, namespace)
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("patching the status of {kind} {namespace}/{name}"))?;
        Ok(serde_json::to_value(changed)?)
    }

    /// Deletes an object, which may be gone already, and does not wait for its end.
    ///
    /// # Errors
    ///
    /// Those of the API server.
    pub(crate) async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let (resource, is_namespaced) = resource(kind)?;
        let api = self.api(&resource, is_namespaced, namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("deleting {kind} {namespace}/{name}")),
        }
    }

    /// Runs kubectl and gives its standard output.
    ///
    /// # Errors
    ///
    /// When it fails, with what it says.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        said("kubectl", arguments, &run("kubectl", arguments, "").await?)
    }

    /// Runs kubectl with a standard input; gives its exit status and all that it says.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) async fn try_kubectl(
        &self,
        arguments: &[&str],
        input: &str,
    ) -> Result<(bool, String)> {
        let output = run("kubectl", arguments, input).await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }

    /// Runs Helm with a standard input, the values say, and gives its standard output.
    ///
    /// # Errors
    ///
    /// When it fails, with what it says.
    pub(crate) async fn helm(&self, arguments: &[&str], input: &str) -> Result<String> {
        said("helm", arguments, &run("helm", arguments, input).await?)
    }

    /// Runs commands of a text for people, one after the other until one fails, in the checkout.
    ///
    /// # Errors
    ///
    /// When one fails, with what it says.
    pub(crate) async fn shell(&self, commands: &str) -> Result<String> {
        let folder = checkout();
        let commands = format!("set -eu; cd '{}'\n{commands}", folder.display());
        let arguments = ["-c", &commands];
        said("sh", &arguments, &run("sh", &arguments, "").await?)
    }

    /// Runs a script of `e2e/cluster`: trouble on demand.
    ///
    /// # Errors
    ///
    /// When it fails, with what it says.
    pub(crate) async fn script(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let script = checkout().join("e2e/cluster").join(name);
        said(name, arguments, &run(script, arguments, "").await?)
    }

    fn api(
        &self,
        resource: &ApiResource,
        is_namespaced: bool,
        namespace: &str,
    ) -> Api<DynamicObject> {
        if is_namespaced {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        } else {
            Api::all_with(self.client.clone(), resource)
        }
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

async fn run(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[&str],
    input: &str,
) -> Result<Output> {
    let name = program.as_ref().to_string_lossy().into_owned();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {name}; is it in the PATH? use e2e/cluster/enter.sh"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing may have gone already.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    Ok(child.wait_with_output().await?)
}

fn said(program: &str, arguments: &[&str], output: &Output) -> Result<String> {
    let standard = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(standard);
    }
    Err(anyhow!(
        "{program} {}: {}\n{standard}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
