//! What all proxies of a run share: the backend, the certificate, the directory.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::process::Spawned;
use crate::client::request::{Requests, get};
use crate::client::trust;
use crate::client::wire::{HOST, Target};

/// The shared part of a run. Dropped, the backend ends and the directory goes.
#[derive(Debug)]
pub(crate) struct Scene {
    backend: Spawned,
    backend_port: u16,
    certificate: Certificate,
    tls: Arc<ClientConfig>,
    holdfast: PathBuf,
    directory: TempDir,
}

/// A self-signed P-256 certificate for [`HOST`] and its subdomains.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The certificate in PEM.
    pub(crate) certificate: String,
    /// Its key in PEM.
    pub(crate) key: String,
    /// The certificate as it goes over the wire.
    pub(crate) der: CertificateDer<'static>,
}

/// Addresses that the backend listens on. Several, since a proxy has 28,000 ports towards each.
const BACKENDS: u8 = 12;

/// How many of them every proxy balances over; the rest is for changes.
const BALANCED: u8 = 4;

impl Scene {
    /// Starts a backend, and takes Holdfast from the path `holdfast`.
    ///
    /// # Errors
    ///
    /// No directory can be made, or the backend does not start.
    pub(crate) async fn new(holdfast: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("holdfast-bench-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let backend_port = (0..1000)
            .map(|_| fastrand::u16(20_000..32_000))
            .find(|port| {
                (1..=BACKENDS)
                    .all(|number| std::net::TcpListener::bind((backend(number), *port)).is_ok())
            })
            .context("no port is free for the backend")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("backend");
        for number in 1..=BACKENDS {
            command.arg(SocketAddr::from((backend(number), backend_port)).to_string());
        }
        let log = directory.path().join("backend.log");
        let mut scene = Self {
            backend: Spawned::start(&mut command, "the backend", &log)?,
            backend_port,
            certificate: Certificate::generate()?,
            tls: trust::full_handshakes()?,
            holdfast: holdfast.to_owned(),
            directory,
        };
        scene.backend_serves().await?;
        Ok(scene)
    }

    /// Process id of the backend.
    pub(crate) fn backend_pid(&self) -> u32 {
        self.backend.pid()
    }

    /// Port of the backend, the same on all its addresses.
    pub(crate) fn backend_port(&self) -> u16 {
        self.backend_port
    }

    /// The addresses of the backend that every proxy balances over.
    pub(crate) fn balanced(&self) -> Vec<Ipv4Addr> {
        (1..=BALANCED).map(backend).collect()
    }

    /// The addresses of the backend that are in nobody's first configuration.
    pub(crate) fn spare(&self) -> Vec<Ipv4Addr> {
        (BALANCED + 1..=BACKENDS).map(backend).collect()
    }

    /// The certificate that every proxy presents.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// How the generator does TLS.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// The program of Holdfast.
    pub(crate) fn holdfast(&self) -> &Path {
        &self.holdfast
    }

    /// A new directory, which goes with the scene.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = (0..)
            .map(|number| self.directory.path().join(format!("{name}-{number}")))
            .find(|path| !path.exists())
            .context("no name is free")?;
        fs::create_dir(&path)?;
        Ok(path)
    }

    async fn backend_serves(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let target = Target {
            address: SocketAddr::from((backend(BACKENDS), self.backend_port)),
            tls: None,
        };
        let request = get(HOST);
        loop {
            let asked = async { Requests::open(&target).await?.send(&request).await };
            if asked.await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            self.backend.still_runs()?;
            if Instant::now() > deadline {
                bail!("the backend does not serve\n{}", self.backend.end_of_log());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Certificate {
    /// A new one.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub(crate) fn generate() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = vec![HOST.to_owned(), format!("*.{HOST}")];
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        })
    }
}

fn backend(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, number)
}
