//! Runs Helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde::Deserialize as _;
use serde_json::Value;

use super::{chart, repository};

/// Which Kubernetes Helm is to render for; without a cluster it would assume its own guess.
const KUBERNETES: &str = "1.34.0";

/// What `helm template` is given beside the chart.
#[derive(Clone, Debug)]
pub(crate) struct Rendering {
    pub(crate) release: String,
    pub(crate) namespace: String,
    pub(crate) values: Value,
    pub(crate) chart: PathBuf,
    pub(crate) flags: Vec<&'static str>,
}

/// `helm template` of the chart with values, as YAML or JSON.
pub(crate) fn with(values: &str) -> Rendering {
    Rendering::of(serde_yaml::from_str(values).unwrap())
}

impl Rendering {
    pub(crate) fn of(values: Value) -> Self {
        Self {
            release: "holdfast".to_owned(),
            namespace: "edge".to_owned(),
            values,
            chart: chart(),
            flags: Vec::new(),
        }
    }

    /// What Helm prints.
    ///
    /// # Panics
    /// When it refuses.
    pub(crate) fn text(&self) -> String {
        self.run()
            .unwrap_or_else(|message| panic!("{:#}: {message}", self.values))
    }

    /// The objects, hooks included.
    pub(crate) fn objects(&self) -> Vec<Value> {
        documents(&self.text())
    }

    /// Why Helm refuses.
    ///
    /// # Panics
    /// When it does not.
    pub(crate) fn refusal(&self) -> String {
        match self.run() {
            Ok(_) => panic!("rendered in spite of {:#}", self.values),
            Err(message) => message,
        }
    }

    fn run(&self) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let values = folder.path().join("values.json");
        fs::write(&values, self.values.to_string()).unwrap();
        let mut command = helm();
        command
            .arg("template")
            .arg(&self.release)
            .arg(&self.chart)
            .args(["--namespace", &self.namespace])
            .args(["--kube-version", KUBERNETES])
            .arg("--values")
            .arg(&values)
            .args(&self.flags);
        outcome(&command.output().unwrap())
    }
}

/// `helm lint --strict` of the chart with its own values.
pub(crate) fn lint(chart: &Path) -> Result<String, String> {
    let mut command = helm();
    command
        .args(["lint", "--strict", "--kube-version", KUBERNETES])
        .arg(chart);
    outcome(&command.output().unwrap())
}

fn outcome(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8(output.stdout.clone()).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The documents of a YAML text that are not empty.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

/// The one object of a kind whose name ends so.
pub(crate) fn find<'o>(objects: &'o [Value], kind: &str, name: &str) -> Option<&'o Value> {
    let mut found = objects.iter().filter(|object| {
        object["kind"] == kind && object["metadata"]["name"].as_str().unwrap() == name
    });
    let first = found.next();
    assert!(found.next().is_none(), "{kind} {name} is there twice");
    first
}

fn helm() -> Command {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    let path = HELM.get_or_init(|| {
        // Builds Helm where it has not been built, which `make test-deps` sees to beforehand.
        let output = Command::new(repository("e2e/cluster/build.sh"))
            .arg("helm")
            .output()
            .unwrap();
        let folder = outcome(&output).unwrap_or_else(|message| {
            panic!("Helm cannot be built; run scripts/install-test-deps.sh: {message}")
        });
        Path::new(folder.trim()).join("helm")
    });
    let mut command = Command::new(path);
    // Nothing of the machine's own configuration, and nothing written to it.
    command
        .env_clear()
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("PATH", "");
    command
}
