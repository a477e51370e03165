//! What the pages are made from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub(super) type Read<T> = Arc<dyn Fn() -> T + Send + Sync>;
/// An answer, or what is wrong with the query.
pub(super) type Ask = Arc<dyn Fn(&Query) -> Result<Value, String> + Send + Sync>;

/// Parameters of a request; of those with one name the last.
pub type Query = BTreeMap<String, String>;

/// Read handles on the rest of the process. They may take a while, as they run on threads where
/// blocking is allowed, but they must not wait for anything.
#[derive(Clone)]
pub struct Handles {
    pub(super) ready: Read<Readiness>,
    pub(super) metrics: Read<String>,
    pub(super) json: BTreeMap<&'static str, JsonPage>,
}

/// A page of JSON.
#[derive(Clone)]
pub(super) struct JsonPage {
    pub(super) about: &'static str,
    pub(super) ask: Ask,
    /// Asked by POST, from this machine only.
    pub(super) is_action: bool,
}

impl Handles {
    /// `ready` for `/readyz`; `metrics` for `/metrics`, as OpenMetrics text.
    pub fn new(
        ready: impl Fn() -> Readiness + Send + Sync + 'static,
        metrics: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self {
            ready: Arc::new(ready),
            metrics: Arc::new(metrics),
            json: BTreeMap::new(),
        }
    }

    /// Adds a page of JSON at `path`, which starts with `/`; `about` says in a few words what it
    /// shows.
    #[must_use]
    pub fn json(
        self,
        path: &'static str,
        about: &'static str,
        read: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        self.search(path, about, move |_| Ok(read()))
    }

    /// The same, where the answer depends on the parameters of the query.
    #[must_use]
    pub fn search(
        mut self,
        path: &'static str,
        about: &'static str,
        ask: impl Fn(&Query) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        let page = JsonPage {
            about,
            ask: Arc::new(ask),
            is_action: false,
        };
        self.json.insert(path, page);
        self
    }

    /// Something to be done: asked by POST, and only from this machine (`kubectl exec`, `kubectl
    /// port-forward`), as the admin port asks nobody who they are.
    #[must_use]
    pub fn action(
        mut self,
        path: &'static str,
        about: &'static str,
        ask: impl Fn(&Query) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        let page = JsonPage {
            about,
            ask: Arc::new(ask),
            is_action: true,
        };
        self.json.insert(path, page);
        self
    }

    /// What there is, a line a page.
    pub(super) fn index(&self) -> String {
        let fixed = [
            ("/healthz", "200 while the process runs"),
            ("/metrics", "metrics, for Prometheus"),
            ("/readyz", "200 when traffic is welcome, else 503 and why"),
        ];
        let pages = self.json.iter().map(|(path, page)| (*path, page.about));
        fixed
            .into_iter()
            .chain(pages)
            .map(|(path, about)| format!("{path:<18} {about}\n"))
            .collect()
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles")
            .field("json", &self.json.keys())
            .finish_non_exhaustive()
    }
}

/// Whether traffic is welcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    reasons: Vec<String>,
}

impl Readiness {
    /// Ready if there is no reason against it. Reasons are shown to whoever asks, such as
    /// `manifests are not read yet` or `shutting down`.
    #[must_use]
    pub fn unless(reasons: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            reasons: reasons.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether there is no reason against it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Why not, if not.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}
