//! Writes to the API server, each answered when it has been acknowledged.

use anyhow::{Context as _, Result};
use kube::{Client, Config};
use serde_json::Value;

use super::objects::{Kind, NAMESPACE};

/// The API server of the kubeconfig.
#[derive(Clone)]
pub(super) struct ApiServer {
    client: Client,
}

impl ApiServer {
    /// Connects as the kubeconfig says.
    pub(super) async fn connect() -> Result<Self> {
        let config = Config::infer()
            .await
            .context("there is no kubeconfig; run it in a cluster's environment")?;
        Ok(Self {
            client: Client::try_from(config)?,
        })
    }

    /// Creates an object of the bench's namespace.
    pub(super) async fn create(&self, kind: Kind, object: &Value) -> Result<()> {
        self.send("POST", &collection(kind), Some(object)).await?;
        Ok(())
    }

    /// Replaces an object whatever its version is.
    pub(super) async fn replace(&self, kind: Kind, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}", collection(kind));
        self.send("PUT", &path, Some(object)).await?;
        Ok(())
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        let path = format!("{}/{name}", collection(kind));
        self.send("DELETE", &path, None).await?;
        Ok(())
    }

    /// Any request.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()?
            .unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body)?;
        self.client
            .request::<Value>(request)
            .await
            .with_context(|| format!("{method} {path}"))
    }
}

fn collection(kind: Kind) -> String {
    format!("{}/namespaces/{NAMESPACE}/{}", kind.api, kind.plural)
}
