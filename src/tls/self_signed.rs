//! The certificate of last resort.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use super::server::provider;
use crate::routing::Certificate;

/// Why there is no self-signed certificate.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// Key generation or signing failed.
    #[error("cannot make a self-signed certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The provider does not take the key.
    #[error("cannot use the self-signed certificate: {0}")]
    Use(#[from] rustls::Error),
}

/// Makes a certificate for `names`, signed by itself, with a P-256 key that lives in this process
/// only. Clients see an untrusted certificate rather than a handshake failure, which is easier to
/// understand while a Secret is missing.
///
/// # Errors
/// See [`SelfSignedError`].
pub fn self_signed(names: &[&str]) -> Result<Certificate, SelfSignedError> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>(),
    )?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Holdfast default certificate");
    let certificate = params.self_signed(&key)?;
    let fingerprint = digest(&SHA256, certificate.der());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(fingerprint.as_ref());
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|error| rustls::Error::General(error.to_owned()))?;
    let key = provider().key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    Ok(Certificate::new(bytes, Arc::new(certified)))
}
