//! What comes back.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;

/// An answer of HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// `HTTP/1.1`, say.
    pub(crate) version: http::Version,
    /// Fields.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

/// What an echo pod saw of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Echo {
    /// Name of the pod, which begins with that of its Deployment.
    pub(crate) pod: String,
    /// Method.
    pub(crate) method: String,
    /// Path without the query.
    pub(crate) path: String,
    /// `HTTP/1.1`, say.
    pub(crate) http_version: String,
    /// As `name: value`.
    headers: Vec<String>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field; empty where it is missing.
    pub(crate) fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Fails unless the answer has this status.
    ///
    /// # Errors
    ///
    /// What the answer is instead.
    pub(crate) fn expect(&self, status: u16) -> Result<&Self> {
        ensure!(
            self.status == status,
            "answered {} instead of {status}: {}",
            self.status,
            self.text()
        );
        Ok(self)
    }

    /// What the echo pod saw; fails unless one has answered 200.
    ///
    /// # Errors
    ///
    /// What the answer is instead.
    pub(crate) fn echo(&self) -> Result<Echo> {
        self.expect(200)?;
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no echo pod has answered: {}", self.text()))
    }

    /// Fails unless a pod of this Deployment has answered 200.
    ///
    /// # Errors
    ///
    /// What the answer is instead.
    pub(crate) fn comes_from(&self, deployment: &str) -> Result<Echo> {
        let echo = self.echo()?;
        ensure!(
            echo.deployment() == deployment,
            "pod {} has answered, and not one of {deployment}",
            echo.pod
        );
        Ok(echo)
    }
}

impl Echo {
    /// The Deployment of the pod: its name without the two last parts.
    pub(crate) fn deployment(&self) -> &str {
        let mut parts = self.pod.rsplitn(3, '-');
        parts.nth(2).unwrap_or(&self.pod)
    }

    /// The values of a field, in the order of their arrival.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter_map(|field| field.split_once(": "))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}
