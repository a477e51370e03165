//! Configuration changes under open WebSockets: what a change does not concern, it does not touch.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast::config::Source;
use holdfast::demo::Pods;
use tokio_util::sync::CancellationToken;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, raw, service, slice, soon};
use crate::peers::{
    Peer, RawPod, TEXT, close, connect_tls, dial, frame, handshake, open, pair, request, within,
};

const HOST: &str = "ws.example";

/// The load balancer of the tests. What loses something it uses is drained over so long a time that
/// its time does not come in a test: nothing is closed at once.
fn edge() -> String {
    EDGE.replace(
        "  exposure: Host\n",
        "  exposure: Host\n  connectionDrain: {timeout: 24h, podTimeout: 24h}\n",
    )
}

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// Open WebSockets of every listener, which every change must leave as they are.
struct Held {
    holdfast: Holdfast,
    pods: Pods,
    clients: Vec<Peer>,
    markers: AtomicU32,
}

impl Held {
    async fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[any, any], &[], CancellationToken::new())
            .await
            .unwrap();
        let first = pods.echo_addresses()[0];
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge()),
            ("service.yaml", &service("echo", "", &[])),
            ("pod-0.yaml", &slice("pod-0", "echo", first, "ready: true")),
            ("ingress.yaml", &ingress("echo", HOST, "echo")),
            ("secret.yaml", &secret(HOST)),
        ])
        .await;
        let mut clients = Vec::new();
        for (listener, tls) in [("http", false), ("https", true)] {
            clients.push(open(holdfast.address(listener), tls, HOST).await);
        }
        let mut held = Self {
            holdfast,
            pods,
            clients,
            markers: AtomicU32::new(0),
        };
        held.check("before any change").await;
        held
    }

    /// Nobody was cut, and frames flow.
    async fn check(&mut self, change: &str) {
        assert_eq!(self.holdfast.app.tunnels().len(), 2, "after: {change}");
        for client in &mut self.clients {
            client.echo(change).await;
        }
    }

    /// Makes a change, waits until a later one is served, and checks. Only then is it known that
    /// the change was taken in: some change nothing, and so publish nothing.
    async fn change(&mut self, change: &str, name: &str, yaml: &str) {
        self.holdfast.write_only(name, yaml);
        self.settle().await;
        self.check(change).await;
    }

    /// Waits until everything written so far has been taken in.
    async fn settle(&self) {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        let host = format!("marker-{number}.example");
        self.holdfast
            .write_only("marker.yaml", &ingress("marker", &host, "echo"));
        let address = self.holdfast.address("http");
        soon("the marker is served", async || {
            let status = status(address, &host, "/").await;
            (status != 404).then_some(())
        })
        .await;
    }

    /// What `/` answers, by pod.
    async fn pod(&self) -> String {
        get(self.holdfast.address("http"), HOST, "/").await
    }
}

async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    raw(address, request.as_bytes()).await
}

async fn status(address: SocketAddr, host: &str, path: &str) -> u16 {
    let answer = get(address, host, path).await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn secret(name: &str) -> String {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let encode = |pem: String| STANDARD.encode(pem);
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: edge}}
type: kubernetes.io/tls
data: {{tls.crt: {}, tls.key: {}}}
",
        encode(certified.cert.pem()),
        encode(certified.signing_key.serialize_pem())
    )
}

#[tokio::test]
async fn routing_changes_keep_websockets_open() {
    limited(async {
        let mut held = Held::start().await;
        let http = held.holdfast.address("http");

        let other = ingress("other", "other.example", "echo");
        held.change("an Ingress added", "other.yaml", &other).await;
        assert_eq!(status(http, "other.example", "/").await, 200);
        held.holdfast.remove("other.yaml").await;
        held.check("an Ingress removed").await;
        assert_eq!(status(http, "other.example", "/").await, 404);

        let second_path = ingress("echo", HOST, "echo").replace(
            "{path: /, ",
            "{path: /new, pathType: Exact, backend: {service: {name: nobody, port: {number: 80}}}}, {path: /, ",
        );
        held.change("another path of its Ingress", "ingress.yaml", &second_path)
            .await;
        assert_eq!(status(http, HOST, "/new").await, 503);
        held.change(
            "that path removed",
            "ingress.yaml",
            &ingress("echo", HOST, "echo"),
        )
        .await;
        assert_eq!(status(http, HOST, "/new").await, 200);

        let labelled = service("echo", "", &[]).replace(
            "{name: echo, namespace: default}",
            "{name: echo, namespace: default, labels: {a: b}, annotations: {c: d}}",
        );
        held.change("labels of its Service", "service.yaml", &labelled)
            .await;
        let more_ports = labelled.replace(
            "[{name: web, port: 80}]",
            "[{name: web, port: 80}, {name: other, port: 81}]",
        );
        held.change("another port of its Service", "service.yaml", &more_ports)
            .await;
        held.change(
            "the protocol of its Service",
            "service.yaml",
            &service("echo", "kubernetes.io/ws", &[]),
        )
        .await;

        let class = edge().replace(
            "metadata: {name: holdfast}",
            "metadata: {name: holdfast, annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}}",
        );
        held.change("its IngressClass", "edge.yaml", &class).await;

        for number in 0..100 {
            let other = ingress("busy", &format!("busy-{number}.example"), "echo");
            held.holdfast.write_only("busy.yaml", &other);
        }
        held.settle().await;
        assert_eq!(status(http, "busy-99.example", "/").await, 200);
        assert_eq!(status(http, "busy-98.example", "/").await, 404);
        held.check("a file written 100 times").await;

        held.holdfast.remove("ingress.yaml").await;
        assert_eq!(status(http, HOST, "/").await, 404);
        held.check("its own Ingress removed").await;
        held.pods.stop().await;
    })
    .await;
}

#[tokio::test]
async fn endpoint_changes_keep_websockets_open() {
    limited(async {
        let mut held = Held::start().await;
        let first = held.pods.echo_addresses()[0];
        let second = held.pods.echo_addresses()[1];
        let is_at = |pod: SocketAddr| format!("\"address\": \"{pod}\"");

        let scaled = slice("pod-1", "echo", second, "ready: true");
        held.change("scaled up", "pod-1.yaml", &scaled).await;
        soon("the second pod is used", async || {
            held.pod().await.contains(&is_at(second)).then_some(())
        })
        .await;
        for (change, conditions) in [
            ("its endpoint is not ready", "ready: false"),
            (
                "its endpoint is draining",
                "ready: false, serving: true, terminating: true",
            ),
        ] {
            let own = slice("pod-0", "echo", first, conditions);
            held.change(change, "pod-0.yaml", &own).await;
            for _ in 0..4 {
                assert!(held.pod().await.contains(&is_at(second)), "{change}");
            }
        }
        std::fs::remove_file(held.holdfast.directory().join("pod-0.yaml")).unwrap();
        held.settle().await;
        held.check("its endpoint removed").await;
        std::fs::remove_file(held.holdfast.directory().join("pod-1.yaml")).unwrap();
        soon("no endpoint is left", async || {
            held.pod().await.starts_with("HTTP/1.1 503 ").then_some(())
        })
        .await;
        held.check("all endpoints removed").await;
        let back = slice("pod-0", "echo", first, "ready: true");
        held.change("its endpoint is back", "pod-0.yaml", &back)
            .await;
        soon("the first pod is used", async || {
            held.pod().await.contains(&is_at(first)).then_some(())
        })
        .await;
        std::fs::remove_file(held.holdfast.directory().join("service.yaml")).unwrap();
        soon("its Service is gone", async || {
            held.pod().await.starts_with("HTTP/1.1 503 ").then_some(())
        })
        .await;
        held.check("its Service removed").await;
        held.pods.stop().await;
    })
    .await;
}

#[tokio::test]
async fn listener_changes_keep_websockets_open_and_count_for_the_next_handshake() {
    limited(async {
        let mut held = Held::start().await;
        let (http, https) = (
            held.holdfast.address("http"),
            held.holdfast.address("https"),
        );
        let with_cert = edge().replace(
            "protocol: HTTPS}",
            "protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}",
        );
        held.change("a certificate named", "edge.yaml", &with_cert)
            .await;
        let presented = async || {
            let tcp = tokio::net::TcpStream::connect(https).await.unwrap();
            connect_tls(tcp, HOST).await.1
        };
        let before = presented().await;
        held.change("its Secret rotated", "secret.yaml", &secret(HOST))
            .await;
        assert_ne!(before, presented().await);
        held.change("its Secret broken", "secret.yaml", &secret(HOST).replace("tls.key: ", "tls.key: AA"))
            .await;
        held.change("its Secret repaired", "secret.yaml", &secret(HOST))
            .await;

        let clocks = with_cert
            .replace("protocol: HTTP}", "protocol: HTTP, timeouts: {idle: 1s, request: 1s, connect: 1s}}")
            .replace("protocol: HTTPS,", "protocol: HTTPS, http2: false, timeouts: {idle: 1s},");
        held.change("other timeouts, no HTTP/2", "edge.yaml", &clocks).await;

        let with_rules = clocks.replace(
            "\n---",
            "\n  rules:\n  - {hosts: [rule.example], backends: [{service: {name: nobody, port: 80}}]}\n---",
        );
        held.change("a rule added", "edge.yaml", &with_rules).await;
        assert_eq!(status(http, "rule.example", "/").await, 503);

        let another = clocks.replace(
            "  - {name: http, ",
            "  - {name: another, port: 82, protocol: HTTP}\n  - {name: http, ",
        );
        held.change("another listener", "edge.yaml", &another).await;
        assert_eq!(status(held.holdfast.address("another"), HOST, "/").await, 200);
        held.change("that listener removed", "edge.yaml", &clocks).await;
        assert!(held.holdfast.find_address("another").is_none());

        let foreign = "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {name: foreign, namespace: default}
spec:
  exposure: Host
  listeners: [{name: foreign, port: 8088, protocol: HTTP}]
";
        held.change("another LoadBalancer", "foreign.yaml", foreign).await;
        held.holdfast.remove("foreign.yaml").await;
        held.check("that LoadBalancer removed").await;

        // Last, as these leave nothing of the old ports.
        let moved = edge().replace("port: 80,", "port: 90,").replace("port: 443,", "port: 493,");
        held.holdfast.write("edge.yaml", &moved).await;
        held.check("the listeners move to other ports").await;
        assert_ne!(held.holdfast.address("http"), http);
        assert_eq!(status(held.holdfast.address("http"), HOST, "/").await, 200);
        soon("the old port is closed", async || {
            tokio::net::TcpStream::connect(http).await.err()
        })
        .await;
        held.holdfast
            .write("edge.yaml", &moved.replace("protocol: HTTP}", "protocol: HTTPS}"))
            .await;
        held.check("the protocol of a listener").await;
        let address = held.holdfast.address("http");
        let mut secure = open(address, true, HOST).await;
        secure.echo("the same port, now in TLS").await;
        drop(secure);
        held.holdfast.write("edge.yaml", &moved).await;
        assert_eq!(held.holdfast.address("http"), address);
        assert_eq!(status(address, HOST, "/").await, 200);
        held.pods.stop().await;
    })
    .await;
}

#[tokio::test]
async fn broken_files_keep_websockets_open_and_what_was_good_in_force() {
    limited(async {
        let mut held = Held::start().await;
        let http = held.holdfast.address("http");
        let reports = |held: &Held| held.holdfast.app.reports();
        let good = edge();
        for broken in ["{{{", "kind: LoadBalancer\nspec: [", "\u{0}\u{1}"] {
            held.holdfast.write_only("edge.yaml", broken);
            soon("the broken file is reported", async || {
                let reports = reports(&held);
                reports
                    .iter()
                    .any(|report| report.subject.to_string().contains("edge.yaml"))
                    .then_some(())
            })
            .await;
            held.check("a broken file").await;
            assert_eq!(status(http, HOST, "/").await, 200);
            held.settle().await;
            held.holdfast.write_only("edge.yaml", &good);
            soon("the repair is noticed", async || {
                reports(&held)
                    .iter()
                    .all(|report| !report.subject.to_string().contains("edge.yaml"))
                    .then_some(())
            })
            .await;
            held.check("a repaired file").await;
        }
        // Broken objects of every kind beside the good ones.
        let bad = [
            ("bad-class.yaml", "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: bad}\nspec: {controller: holdfast.dev/ingress-controller, parameters: {apiGroup: holdfast.dev, kind: LoadBalancer, scope: Namespace, namespace: edge, name: nobody}}\n".to_owned()),
            ("bad-ingress.yaml", ingress("bad", "bad host", "echo")),
            ("bad-path.yaml", ingress("bad-path", "good.example", "echo").replace("path: /,", "path: no-slash,")),
            ("bad-backend.yaml", ingress("bad-backend", "backend.example", "nobody")),
            ("bad-lb.yaml", "apiVersion: holdfast.dev/v1alpha1\nkind: LoadBalancer\nmetadata: {name: zz, namespace: zz}\nspec: {exposure: Host, listeners: [{name: a, port: 80, protocol: HTTP}, {name: a, port: 80, protocol: HTTPS}]}\n".to_owned()),
            ("bad-field.yaml", "apiVersion: holdfast.dev/v1alpha1\nkind: LoadBalancer\nmetadata: {name: typo, namespace: default}\nspec: {exposure: Host, listners: []}\n".to_owned()),
            ("bad-slice.yaml", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: bad, namespace: default, labels: {kubernetes.io/service-name: echo}}\naddressType: IPv4\nports: [{name: web, port: 1}]\nendpoints: [{addresses: [not-an-address]}]\n".to_owned()),
        ];
        for (name, yaml) in &bad {
            held.change(name, name, yaml).await;
            for _ in 0..3 {
                assert_eq!(status(http, HOST, "/").await, 200, "{name}");
            }
        }
        let found = reports(&held);
        for subject in ["bad", "bad-path", "bad-backend", "bad-field.yaml"] {
            assert!(
                found.iter().any(|report| report.subject.to_string().contains(subject)),
                "{subject}: {found:#?}"
            );
        }
        let admin = held.holdfast.app.admin_address().unwrap();
        let page = get(admin, "admin", "/findings").await;
        assert!(page.contains("bad-backend"), "{page}");
        let metrics = get(admin, "admin", "/metrics").await;
        let counted: usize = metrics
            .lines()
            .filter(|line| line.starts_with("holdfast_findings{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(counted, reports(&held).len(), "{metrics}");
        held.pods.stop().await;
    })
    .await;
}

/// As a ConfigMap volume is updated: every file is a link through `..data`, which is swapped.
#[tokio::test]
async fn a_swapped_directory_keeps_websockets_open() {
    limited(async {
        let pod = RawPod::start().await;
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path();
        let version = |number: u32, hosts: &[&str]| {
            let directory = path.join(format!("..{number}"));
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("edge.yaml"), edge()).unwrap();
            let service = service("pod", "", &[pod.address]);
            std::fs::write(directory.join("pod.yaml"), service).unwrap();
            let mut ingresses = String::new();
            for (number, host) in hosts.iter().enumerate() {
                ingresses.push_str("---");
                ingresses.push_str(&ingress(&format!("i{number}"), host, "pod"));
            }
            std::fs::write(directory.join("ingress.yaml"), ingresses).unwrap();
            let link = path.join("..new");
            std::os::unix::fs::symlink(format!("..{number}"), &link).unwrap();
            std::fs::rename(link, path.join("..data")).unwrap();
        };
        version(1, &[HOST]);
        for name in ["edge.yaml", "pod.yaml", "ingress.yaml"] {
            std::os::unix::fs::symlink(Path::new("..data").join(name), path.join(name)).unwrap();
        }
        let holdfast = Holdfast::start_with(&[], |config| {
            config.source = Source::Directory(path.to_owned());
        })
        .await;
        let address = holdfast.address("http");
        let (mut client, mut server) = pair(address, false, HOST, &pod).await;
        for number in 2..6 {
            let host = format!("v{number}.example");
            version(number, &[HOST, &host]);
            std::fs::remove_dir_all(path.join(format!("..{}", number - 1))).unwrap();
            soon("the new version is served", async || {
                let wanted = handshake(&host, "").replace("13", "8");
                let answer = request(address, false, &wanted).await;
                assert!(answer.head.contains(" 426 "));
                let routes = get(holdfast.app.admin_address().unwrap(), "a", "/routes").await;
                routes.contains(&host).then_some(())
            })
            .await;
            let text = frame(TEXT, true, host.as_bytes());
            client.send(&text).await;
            assert_eq!(server.read(text.len()).await, text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_handshake_follows_the_new_configuration_at_once() {
    limited(async {
        let (old, new) = (RawPod::start().await, RawPod::start().await);
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge()),
            ("old.yaml", &service("old", "", &[old.address])),
            ("new.yaml", &service("new", "", &[new.address])),
            ("ingress.yaml", &ingress("ws", HOST, "old")),
        ])
        .await;
        let address = holdfast.address("http");
        let (mut client, mut server) = pair(address, false, HOST, &old).await;
        // A client that was connected before asks after.
        let mut early = dial(address, false).await;
        holdfast
            .write("ingress.yaml", &ingress("ws", HOST, "new"))
            .await;
        early.send(handshake(HOST, "").as_bytes()).await;
        drop(new.upgrade().await);
        for _ in 0..4 {
            drop(pair(address, false, HOST, &new).await);
        }
        let text = frame(TEXT, true, b"to the old one");
        client.send(&text).await;
        assert_eq!(server.read(text.len()).await, text);
        let farewell = close(false, 1000, "");
        server.send(&farewell).await;
        assert_eq!(client.read(farewell.len()).await, farewell);
        client.send(&close(true, 1000, "")).await;
        within("the end", client.ended()).await;
    })
    .await;
}
