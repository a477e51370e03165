//! A running Holdfast on free ports, with a directory of manifests that tests edit.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use holdfast::app::App;
use holdfast::config::Config;
use holdfast::proxy::listeners::Binding;
use holdfast::routing::ListenerId;
use holdfast::shutdown::Windows;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test takes longer.
pub const LIMIT: Duration = Duration::from_secs(60);
/// No wait takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running Holdfast.
pub struct Holdfast {
    pub app: App,
    directory: TempDir,
}

impl Holdfast {
    /// Serves these manifests, on free ports of loopback. Needs a multi-threaded or current-thread
    /// tokio runtime around it only for its waits: it has threads of its own.
    pub async fn start(manifests: &[(&str, &str)]) -> Self {
        Self::start_with(manifests, |_| {}).await
    }

    /// The same with a changed configuration.
    pub async fn start_with(manifests: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, yaml) in manifests {
            std::fs::write(directory.path().join(name), yaml).unwrap();
        }
        let mut config = Config::new(directory.path());
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
        let app = App::start(config).unwrap();
        tokio::time::timeout(PATIENCE, app.ready()).await.unwrap();
        Self { app, directory }
    }

    /// Where the listener of this name (of any load balancer) is bound.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.find_address(listener)
            .unwrap_or_else(|| panic!("no listener {listener}: {:?}", self.app.addresses()))
    }

    pub fn find_address(&self, listener: &str) -> Option<SocketAddr> {
        let addresses = self.app.addresses();
        let named = |(id, _): &(&ListenerId, &SocketAddr)| &*id.name == listener;
        addresses.iter().find(named).map(|(_, address)| *address)
    }

    /// Writes a manifest as editors and controllers do, by rename, and waits until what it says
    /// is published. The change must be one that rebuilds the table (not an EndpointSlice alone).
    pub async fn write(&self, name: &str, yaml: &str) {
        let before = self.app.generation();
        self.write_only(name, yaml);
        tokio::time::timeout(PATIENCE, self.app.published_after(before))
            .await
            .expect("published");
    }

    /// Writes a manifest and does not wait.
    pub fn write_only(&self, name: &str, yaml: &str) {
        let temporary = self.directory.path().join(format!(".{name}.new"));
        let mut file = std::fs::File::create(&temporary).unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        drop(file);
        std::fs::rename(temporary, self.directory.path().join(name)).unwrap();
    }

    /// Removes a manifest and waits until that is published.
    pub async fn remove(&self, name: &str) {
        let before = self.app.generation();
        std::fs::remove_file(self.directory.path().join(name)).unwrap();
        tokio::time::timeout(PATIENCE, self.app.published_after(before))
            .await
            .expect("published");
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub async fn connect(&self, listener: &str) -> TcpStream {
        TcpStream::connect(self.address(listener)).await.unwrap()
    }
}

/// Waits until `ready` answers something; fails when it does not within [`PATIENCE`].
pub async fn soon<T, F: Future<Output = Option<T>>>(what: &str, mut ready: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "not soon: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends bytes on a fresh connection and reads all that comes back: the last request is to say
/// `Connection: close`.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is the client's problem, not this test's.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

/// A load balancer with listeners `http` (80) and `https` (443), and a class for it.
pub const EDGE: &str = "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {name: edge, namespace: edge}
spec:
  exposure: Host
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: holdfast}
spec:
  controller: holdfast.dev/ingress-controller
  parameters: {apiGroup: holdfast.dev, kind: LoadBalancer, scope: Namespace, namespace: edge, name: edge}
";

/// An Ingress in `default` that sends a host (empty: any) and all its paths to port 80 of a
/// Service.
pub fn ingress(name: &str, host: &str, service: &str) -> String {
    let host = if host.is_empty() {
        String::new()
    } else {
        format!("host: \"{host}\", ")
    };
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default}}
spec:
  ingressClassName: holdfast
  rules:
  - {{{host}http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}
"
    )
}

/// A Service in `default` with port 80 and these pods; `app_protocol` may be empty.
pub fn service(name: &str, app_protocol: &str, pods: &[SocketAddr]) -> String {
    let app_protocol = if app_protocol.is_empty() {
        String::new()
    } else {
        format!(", appProtocol: {app_protocol}")
    };
    let mut yaml = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{ports: [{{name: web, port: 80{app_protocol}}}]}}
"
    );
    // One slice a pod, as their ports differ.
    for (number, pod) in pods.iter().enumerate() {
        yaml.push_str(&slice(
            &format!("{name}-{number}"),
            name,
            *pod,
            "ready: true",
        ));
    }
    yaml
}

/// An EndpointSlice of one pod.
pub fn slice(name: &str, service: &str, pod: SocketAddr, conditions: &str) -> String {
    let family = if pod.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {family}
ports: [{{name: web, port: {}}}]
endpoints: [{{addresses: [\"{}\"], conditions: {{{conditions}}}}}]
",
        pod.port(),
        pod.ip()
    )
}
