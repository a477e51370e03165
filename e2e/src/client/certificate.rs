//! Certificates for tests.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;

use super::tls::Trust;

/// Who signs certificates of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The certificate, to compare with what a server presents.
    pub(crate) der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

impl Authority {
    /// A new one that nobody trusts yet.
    ///
    /// # Errors
    ///
    /// Those of the cryptography.
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// Trust in this authority alone.
    pub(crate) fn trust(&self) -> Trust {
        Trust::Authority(self.0.der().clone())
    }

    /// A certificate for some names.
    ///
    /// # Errors
    ///
    /// Those of the cryptography.
    pub(crate) fn issue(&self, names: &[&str]) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.0)?;
        Ok(Issued {
            der: certificate.der().clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Issued {
    /// A Secret of type `kubernetes.io/tls`.
    pub(crate) fn secret(&self, name: &str) -> String {
        secret(name, &self.certificate, &self.key)
    }

    /// A Secret that has the key of another certificate.
    pub(crate) fn secret_with_key_of(&self, other: &Self, name: &str) -> String {
        secret(name, &self.certificate, &other.key)
    }

    /// A Secret that has something else for a key.
    pub(crate) fn secret_with_key(&self, name: &str, key: &str) -> String {
        secret(name, &self.certificate, key)
    }
}

/// A Secret of type `kubernetes.io/tls` with what is given, right or wrong.
pub(crate) fn secret(name: &str, certificate: &str, key: &str) -> String {
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    // JSON is YAML.
    object.to_string()
}
