//! Certificates and the choice among them by SNI (RFC 6066 §3).

use super::names::NameMap;
use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

/// A certificate chain with its key. Equality and `Debug` are by fingerprint, so that no key
/// material can reach a log (P10).
#[derive(Clone)]
pub struct Certificate {
    fingerprint: [u8; 32],
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// `fingerprint` is the SHA-256 over the whole chain and the key's public half; two
    /// certificates with one fingerprint are interchangeable.
    #[must_use]
    pub fn new(fingerprint: [u8; 32], key: Arc<CertifiedKey>) -> Self {
        Self { fingerprint, key }
    }

    /// What rustls signs handshakes with.
    #[must_use]
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The fingerprint in hexadecimal, to be shown.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate")
            .field(&self.fingerprint())
            .finish()
    }
}

/// Certificates of a listener, chosen by server name: exact, then wildcard of one label, then
/// the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateTable {
    /// By exact name in lower case.
    pub exact: NameMap<Arc<Certificate>>,
    /// By what follows `*.`, in lower case.
    pub wildcard: NameMap<Arc<Certificate>>,
    /// For clients without a server name and for names that nobody has claimed. `None` leaves it
    /// to the process's self-signed certificate.
    pub default: Option<Arc<Certificate>>,
}

impl CertificateTable {
    /// The certificate for a server name in lower case without a trailing dot.
    #[must_use]
    pub fn find(&self, server_name: Option<&str>) -> Option<&Arc<Certificate>> {
        server_name
            .and_then(|name| {
                self.exact.find(name).or_else(|| {
                    let (_, suffix) = name.split_once('.')?;
                    self.wildcard.find(suffix)
                })
            })
            .or(self.default.as_ref())
    }

    /// The certificate declared for exactly this name, which may be a wildcard.
    #[must_use]
    pub fn declared(&self, name: &str) -> Option<&Arc<Certificate>> {
        match name.strip_prefix("*.") {
            Some(suffix) => self.wildcard.find(suffix),
            None => self.exact.find(name),
        }
    }

    /// Sets or, with `None`, removes the certificate of a name, which may be a wildcard.
    pub fn set(&mut self, name: &Arc<str>, certificate: Option<Arc<Certificate>>) {
        match name.strip_prefix("*.") {
            Some(suffix) => self.wildcard.set(&suffix.into(), certificate),
            None => self.exact.set(name, certificate),
        }
    }
}
