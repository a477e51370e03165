//! Secrets to certificates. No message here ever quotes what a Secret holds (P10).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::finding::{Notes, Reason};
use crate::routing::Certificate;
use crate::world::object::TLS_SECRET;
use crate::world::{ObjectName, Secret, World};

/// A usable Secret.
#[derive(Debug)]
pub(super) struct KeyPair {
    pub(super) certificate: Arc<Certificate>,
    /// The DNS names of the certificate, in lower case.
    pub(super) names: Vec<Arc<str>>,
}

type Parsed = Result<Arc<KeyPair>, (Reason, &'static str)>;

/// Secrets that have been parsed, so that a Secret which 10,000 Ingresses name is parsed once.
#[derive(Debug)]
pub(super) struct CertificateMemo {
    provider: CryptoProvider,
    parsed: HashMap<ObjectName, (Arc<Secret>, Parsed)>,
}

impl CertificateMemo {
    pub(super) fn new() -> Self {
        Self {
            provider: rustls::crypto::aws_lc_rs::default_provider(),
            parsed: HashMap::new(),
        }
    }

    /// The certificate in a Secret, or a finding at `field` why there is none.
    pub(super) fn find(
        &mut self,
        world: &World,
        name: &ObjectName,
        field: &str,
        notes: &mut Notes,
    ) -> Option<Arc<KeyPair>> {
        let Some(secret) = world.secrets().get(name) else {
            notes.error(
                Reason::SecretNotFound,
                field,
                format!(
                    "there is no Secret {name} of type kubernetes.io/tls; its hosts are served \
                     with the default certificate until it exists"
                ),
            );
            return None;
        };
        let parsed = match self.parsed.get(name) {
            Some((held, parsed)) if Arc::ptr_eq(held, secret) => parsed.clone(),
            _ => {
                let parsed = parse(secret, &self.provider);
                let entry = (Arc::clone(secret), parsed.clone());
                self.parsed.insert(name.clone(), entry);
                parsed
            }
        };
        match parsed {
            Ok(pair) => Some(pair),
            Err((reason, why)) => {
                notes.error(
                    reason,
                    field,
                    format!(
                        "Secret {name} cannot be used: {why}; its hosts are served with the \
                         default certificate until it is mended"
                    ),
                );
                None
            }
        }
    }

    /// Forgets a Secret that nobody names any more.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        self.parsed.remove(name);
    }
}

fn parse(secret: &Secret, provider: &CryptoProvider) -> Parsed {
    let invalid = |why| (Reason::CertificateInvalid, why);
    if secret.secret_type != TLS_SECRET {
        return Err((
            Reason::SecretTypeInvalid,
            "its type is not kubernetes.io/tls",
        ));
    }
    let chain = secret.certificate.as_deref().unwrap_or_default();
    if chain.is_empty() {
        return Err(invalid("tls.crt is missing"));
    }
    let key = secret.key.as_deref().unwrap_or_default();
    if key.is_empty() {
        return Err(invalid("tls.key is missing"));
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| invalid("tls.crt is not valid PEM"))?;
    let leaf = chain
        .first()
        .ok_or(invalid("tls.crt has no CERTIFICATE block"))?;
    let names = dns_names(leaf).ok_or(invalid("the first certificate in tls.crt is malformed"))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| invalid("tls.key has no valid PRIVATE KEY block"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| invalid("the key in tls.key is malformed or of an unsupported kind"))?;
    let fingerprint = fingerprint(&chain);
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err((
                Reason::KeyMismatch,
                "tls.key does not belong to the first certificate in tls.crt",
            ));
        }
        Err(_) => return Err(invalid("the first certificate in tls.crt is malformed")),
    }
    Ok(Arc::new(KeyPair {
        certificate: Arc::new(Certificate::new(fingerprint, Arc::new(certified))),
        names,
    }))
}

/// The DNS names of a certificate, in lower case; `None` if it cannot be parsed. The common name
/// does not count, as clients ignore it (RFC 9110 §4.3.4).
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Option<Vec<Arc<str>>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    Some(
        names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
                _ => None,
            })
            .collect(),
    )
}

/// Over the whole chain. The leaf holds the public key, and the private one matches it.
fn fingerprint(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for certificate in chain {
        digest.update(certificate);
    }
    let mut fingerprint = [0; 32];
    // A SHA-256 digest is 32 bytes long; zip rather than copy_from_slice, which could panic.
    for (to, from) in fingerprint.iter_mut().zip(digest.finish().as_ref()) {
        *to = *from;
    }
    fingerprint
}
