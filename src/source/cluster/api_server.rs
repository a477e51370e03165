//! Where the API server is and who we are there.

use std::fmt;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

/// For a connection, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// For a write, and for silence within an answer. Watches have deadlines of their own, which are
/// shorter; this one is for whoever sends single requests.
const SILENCE: Duration = Duration::from_secs(75);

/// An API server, as a kubeconfig or the surroundings of a pod describe it.
#[derive(Clone)]
pub struct ApiServer(Box<Config>);

/// The API server cannot be known or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// There is neither a usable kubeconfig nor a service account.
    #[error(
        "cannot tell which API server to watch: no kubeconfig ({kubeconfig}) and no service \
         account of a pod ({in_cluster}); set KUBECONFIG, or run in a pod that has a service \
         account, or read manifests with --manifests DIR"
    )]
    Unknown {
        /// What is wrong with the kubeconfig.
        kubeconfig: String,
        /// What is wrong with the service account.
        in_cluster: String,
    },
    /// The address is none.
    #[error("{0:?} is not the URL of an API server")]
    Address(String),
    /// Certificates, keys or credentials of the configuration cannot be used.
    #[error("the configuration for the API server at {address} cannot be used: {why}")]
    Unusable {
        /// The server's address.
        address: String,
        /// What is wrong.
        why: String,
    },
}

impl ApiServer {
    /// From the kubeconfig (`KUBECONFIG`, `~/.kube/config`), or from the service account of the
    /// pod that this runs in. Nothing is sent.
    ///
    /// # Errors
    /// There is neither.
    pub async fn infer() -> Result<Self, ApiServerError> {
        let kubeconfig = match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
            Ok(config) => return Ok(Self::new(config)),
            Err(error) => error,
        };
        match Config::incluster() {
            Ok(config) => Ok(Self::new(config)),
            Err(in_cluster) => Err(ApiServerError::Unknown {
                kubeconfig: kubeconfig.to_string(),
                in_cluster: in_cluster.to_string(),
            }),
        }
    }

    /// At a URL, without credentials.
    ///
    /// # Errors
    /// It is no URL.
    pub fn at(url: &str) -> Result<Self, ApiServerError> {
        let uri = url
            .parse()
            .map_err(|_| ApiServerError::Address(url.to_owned()))?;
        Ok(Self::new(Config::new(uri)))
    }

    fn new(mut config: Config) -> Self {
        config.connect_timeout = Some(CONNECT);
        config.write_timeout = Some(SILENCE);
        config.read_timeout = Some(SILENCE);
        // Else the time that a pooled connection lay idle counts.
        config.reset_reader_on_write = true;
        // Whoever sends a request knows better when to send it again.
        config.default_retry = false;
        let agent = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
        let agent = (USER_AGENT, HeaderValue::from_static(agent));
        config.headers.push(agent);
        Self(Box::new(config))
    }

    /// A client. Has to be called within the runtime that it is to live on. Tokens of service
    /// accounts and their root certificates are read again every minute, as they rotate.
    ///
    /// # Errors
    /// Certificates, keys or credentials cannot be used.
    pub fn client(&self) -> Result<Client, ApiServerError> {
        Client::try_from((*self.0).clone()).map_err(|error| ApiServerError::Unusable {
            address: self.address(),
            why: error.to_string(),
        })
    }

    /// The namespace of the pod that this runs in, or of the kubeconfig's context.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.default_namespace
    }

    /// The URL.
    #[must_use]
    pub fn address(&self) -> String {
        self.0
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned()
    }
}

/// Without credentials (P10).
impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiServer").field(&self.address()).finish()
    }
}
