//! TLS to pods (`appProtocol: https`, `kubernetes.io/wss`).

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::server::provider;

/// Connects to pods that speak TLS.
///
/// Pods' certificates are not verified, as with ingress-nginx's default: pods commonly present
/// certificates that no authority has signed. It protects against reading along, not against an
/// impostor at the pod's address.
#[derive(Clone)]
pub struct PodTls(TlsConnector);

impl fmt::Debug for PodTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodTls")
    }
}

impl PodTls {
    /// One connector serves all pods.
    ///
    /// # Errors
    /// Never in practice: the provider's defaults support TLS 1.2 and 1.3.
    pub fn new() -> Result<Self, rustls::Error> {
        let provider = provider();
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Sessions are cached by server name, and many pods share one; a pod that is offered
        // another's ticket just ignores it, but the cache is memory for little.
        config.resumption = Resumption::disabled();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake with a pod. The server name is the host that the client asked for, where it
    /// is a DNS name, else the pod's address (which is not sent, RFC 6066 §3). The caller sets the
    /// deadline.
    ///
    /// # Errors
    /// As the connection and the handshake fail.
    pub async fn connect(
        &self,
        host: Option<&str>,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
        let name = match name {
            Some(name) => name,
            None => ServerName::IpAddress(IpAddr::from(stream.peer_addr()?.ip())),
        };
        self.0.connect(name, stream).await
    }
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
