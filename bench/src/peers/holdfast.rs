//! Holdfast, configured by a directory of manifests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Ports, Scene, manifests};

/// The directory of manifests that a Holdfast follows.
///
/// A file appears in it whole, by a rename from a directory beside it.
#[derive(Debug)]
pub(crate) struct Manifests {
    directory: PathBuf,
    beside: PathBuf,
}

/// Completes the command for a Holdfast that follows `manifests`.
pub(super) fn arguments(command: &mut Command, manifests: &Manifests, ports: Ports) {
    command
        .arg("run")
        .arg("--manifests")
        .arg(&manifests.directory)
        .arg("--admin")
        .arg(format!("127.0.0.1:{}", ports.admin))
        .args(["--bind-address", "127.0.0.1"])
        .args(["--access-log", "off"])
        .args(["--workers", "2"])
        .args(["--log", "warn"]);
}

impl Manifests {
    /// An empty directory in the scene's.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn create(scene: &Scene) -> Result<Self> {
        Ok(Self {
            directory: scene.fresh_directory("manifests")?,
            beside: scene.fresh_directory("unfinished")?,
        })
    }

    /// Writes what makes Holdfast serve [`HOST`](crate::client::wire::HOST) as the others do.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn write_base(&self, scene: &Scene, ports: Ports) -> Result<()> {
        self.write("load-balancer.yaml", &manifests::load_balancer(ports))?;
        self.write("certificate.yaml", &manifests::secret(scene.certificate()))?;
        let service = manifests::service("echo", &scene.balanced(), scene.backend_port());
        self.write("echo-service.yaml", &service)?;
        let ingress = manifests::ingress("echo", crate::client::wire::HOST, "echo");
        self.write("echo-ingress.yaml", &ingress)
    }

    /// Writes or replaces a file, in one step for whoever watches.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        self.prepare(name, text)?;
        self.publish(name)
    }

    /// Writes a file that nobody sees before [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn prepare(&self, name: &str, text: &str) -> Result<()> {
        let path = self.beside.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Renames a prepared file into the directory.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn publish(&self, name: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::rename(self.beside.join(name), &path)
            .with_context(|| format!("cannot rename to {}", path.display()))
    }

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}
