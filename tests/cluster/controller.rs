//! A running Holdfast that watches an API server of ours.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast::app::App;
use holdfast::config::Config;
use holdfast::proxy::listeners::Binding;
use holdfast::shutdown::Windows;
use holdfast::source::ClusterSource;
use holdfast::source::cluster::{ApiServer as Address, Pace};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::api_server::ApiServer;
use crate::harness::{EDGE, LIMIT, raw, service, soon};

/// A running Holdfast.
pub struct Controller {
    pub app: App,
}

/// Ends a test that hangs.
pub async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.expect("in time");
}

/// Waits that tests can wait for. Watches are renewed each second, so that even a quiet test sees
/// several of them.
pub fn pace() -> Pace {
    Pace {
        answer: Duration::from_secs(2),
        watch: Duration::from_secs(1),
        margin: Duration::from_millis(500),
        retry: Duration::from_millis(10)..=Duration::from_millis(200),
    }
}

impl Controller {
    /// Starts and does not wait.
    pub fn start(server: &ApiServer) -> Self {
        Self::start_with(server, |_| {})
    }

    pub fn start_with(server: &ApiServer, change: impl FnOnce(&mut ClusterSource)) -> Self {
        let mut source = ClusterSource::new(Address::at(&server.url()).unwrap(), Vec::new());
        source.pace = pace();
        change(&mut source);
        Self::with(Config::cluster(source), |_| {})
    }

    /// The same with a changed configuration.
    pub fn configured(server: &ApiServer, change: impl FnOnce(&mut Config)) -> Self {
        let mut source = ClusterSource::new(Address::at(&server.url()).unwrap(), Vec::new());
        source.pace = pace();
        Self::with(Config::cluster(source), change)
    }

    fn with(mut config: Config, change: impl FnOnce(&mut Config)) -> Self {
        config.binding = Binding {
            address: Some([127, 0, 0, 1].into()),
            any_port: true,
        };
        config.workers = 2;
        config.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.windows = Windows {
            delay: Duration::ZERO,
            drain: Duration::from_millis(200),
            grace: Duration::from_secs(10),
        };
        change(&mut config);
        Self {
            app: App::start(config).unwrap(),
        }
    }

    /// Starts and waits until it serves.
    pub async fn ready(server: &ApiServer) -> Self {
        let controller = Self::start(server);
        controller.becomes_ready().await;
        controller
    }

    pub async fn becomes_ready(&self) {
        let ready = async || self.readyz().await.0.then_some(());
        soon("ready", ready).await;
    }

    /// Where the listener `http` is bound.
    pub fn http(&self) -> SocketAddr {
        let addresses = self.app.addresses();
        let http = addresses.iter().find(|(id, _)| &*id.name == "http");
        *http.expect("the listener http").1
    }

    /// A page of the admin port: whether it answers 200, and its body.
    pub async fn page(&self, path: &str) -> (bool, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(self.app.admin_address().unwrap(), request.as_bytes()).await;
        (answer.starts_with("HTTP/1.1 200 "), answer)
    }

    pub async fn readyz(&self) -> (bool, String) {
        self.page("/readyz").await
    }

    /// Sends a request: its answer, head and all.
    pub async fn get(&self, host: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw(self.http(), request.as_bytes()).await
    }

    /// Waits until a request for the host is answered by this pod.
    pub async fn serves(&self, host: &str, pod: &str) {
        let served = async || self.get(host).await.ends_with(pod).then_some(());
        soon(&format!("{host} is served by {pod}"), served).await;
    }

    /// Waits until a request for the host is answered with this status.
    pub async fn answers(&self, host: &str, status: u16) {
        let head = format!("HTTP/1.1 {status} ");
        let answered = async || self.get(host).await.starts_with(&head).then_some(());
        soon(&format!("{host} answers {status}"), answered).await;
    }

    /// What is wrong, in words.
    pub fn reports(&self) -> Vec<String> {
        self.app.reports().iter().map(ToString::to_string).collect()
    }

    /// Waits for a report that holds all these words.
    pub async fn reported(&self, words: &[&str]) -> String {
        let find = async || {
            let reports = self.reports();
            let mut fitting = reports.into_iter();
            fitting.find(|report| words.iter().all(|word| report.contains(word)))
        };
        soon(&format!("a report with {words:?}"), find).await
    }

    /// Waits until no report holds the word.
    pub async fn resolved(&self, word: &str) {
        let gone = async || {
            let reports = self.reports();
            (!reports.iter().any(|report| report.contains(word))).then_some(())
        };
        soon(&format!("no report with {word:?}"), gone).await;
    }
}

/// A pod that answers each request with its name.
pub async fn pod(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while matches!(stream.read(&mut request).await, Ok(read) if read > 0) {
                    let length = name.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A server with a load balancer and its class.
pub async fn edge() -> ApiServer {
    let server = ApiServer::start().await;
    server.put_yaml(EDGE);
    server
}

/// The same with a Service `app` of one pod.
pub async fn edge_with_app() -> ApiServer {
    let server = edge().await;
    server.put_yaml(&service("app", "", &[pod("app").await]));
    server
}

/// An Ingress in `default` that sends a host to a Service.
pub fn ingress(name: &str, host: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "ingressClassName": "holdfast",
            "rules": [{"host": host, "http": {"paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": {"service": {"name": service, "port": {"number": 80}}},
            }]}}],
        },
    })
}
