//! TLS clients that take any certificate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use holdfast::tls::server::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::Holdfast;

/// Takes any certificate and remembers the last.
#[derive(Debug)]
struct Seen(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(certificate.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A TLS client of one configuration.
pub struct TlsClient {
    config: Arc<ClientConfig>,
    seen: Arc<Seen>,
}

impl TlsClient {
    pub fn new(alpn: &[&str]) -> Self {
        Self::of(alpn, rustls::ALL_VERSIONS)
    }

    pub fn of(alpn: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Self {
        let seen = Arc::new(Seen(Mutex::new(None)));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self {
            config: Arc::new(config),
            seen,
        }
    }

    /// A handshake with this server name, or none for an address.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, tcp).await.unwrap()
    }

    /// The certificate that is presented for a name.
    pub async fn presented(&self, holdfast: &Holdfast, name: &str) -> CertificateDer<'static> {
        self.connect(holdfast.address("https"), name).await;
        self.seen.0.lock().unwrap().take().unwrap()
    }
}
