//! Listeners that come, go, move and cannot have their port, with connections on them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holdfast::proxy::listeners::Binding;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Holdfast, LIMIT, ingress, raw, service, soon};
use crate::peers::{RawPod, TEXT, close, dial, frame, handshake, pair, switching};

const HOST: &str = "ws.example";
/// Over which the WebSockets of a listener that has left are closed; see `edge`.
const WINDOW: Duration = Duration::from_millis(1500);

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// A load balancer with these listeners, a line each, and a class for it.
fn edge(listeners: &[String]) -> String {
    let lines: String = listeners
        .iter()
        .map(|listener| format!("  - {{{listener}}}\n"))
        .collect();
    format!(
        "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {{name: edge, namespace: edge}}
spec:
  exposure: Host
  connectionDrain: {{timeout: 1500ms}}
  listeners:
{lines}---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: holdfast}}
spec:
  controller: holdfast.dev/ingress-controller
  parameters: {{apiGroup: holdfast.dev, kind: LoadBalancer, scope: Namespace, namespace: edge, name: edge}}
"
    )
}

fn http(name: &str, port: u16) -> String {
    format!("name: {name}, port: {port}, protocol: HTTP")
}

async fn start(pod: &RawPod, edge: &str, exact_ports: bool) -> Holdfast {
    let manifests = [
        ("edge.yaml", edge),
        ("pod.yaml", &service("pod", "", &[pod.address])),
        ("ingress.yaml", &ingress("pod", HOST, "pod")),
    ];
    Holdfast::start_with(&manifests, |config| {
        config.binding = Binding {
            address: Some([127, 0, 0, 1].into()),
            any_port: !exact_ports,
        };
    })
    .await
}

/// Ports that nobody uses at the moment.
async fn free_ports<const N: usize>() -> [u16; N] {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *port = listener.local_addr().unwrap().port();
        held.push(listener);
    }
    ports
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn no_route(address: SocketAddr) {
    let answer = raw(
        address,
        b"GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

fn bind_failures(holdfast: &Holdfast) -> Vec<String> {
    let reports = holdfast.app.reports();
    reports
        .iter()
        .map(ToString::to_string)
        .filter(|report| report.contains("[BindFailed]"))
        .collect()
}

#[tokio::test]
async fn a_removed_listener_lets_its_connections_go_in_good_order() {
    limited(async {
        let pod = RawPod::start().await;
        let both = edge(&[http("stays", 80), http("goes", 81)]);
        let holdfast = start(&pod, &both, false).await;
        let (stays, goes) = (holdfast.address("stays"), holdfast.address("goes"));

        let mut kept = pair(stays, false, HOST, &pod).await;
        let mut tunnels = Vec::new();
        for _ in 0..12 {
            tunnels.push(pair(goes, false, HOST, &pod).await);
        }
        let mut silent = dial(goes, false).await;
        let mut idle = dial(goes, false).await;
        idle.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
            .await;
        let answer = idle.read(12).await;
        assert_eq!(answer, b"HTTP/1.1 404");
        let mut busy = dial(goes, false).await;
        busy.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
            .await;
        let mut serving = pod.accept().await;

        holdfast
            .write("edge.yaml", &edge(&[http("stays", 80)]))
            .await;
        let removed = Instant::now();
        assert!(holdfast.find_address("goes").is_none());
        soon("nobody listens", async || {
            TcpStream::connect(goes).await.err()
        })
        .await;

        // Tunnels work until their turn comes, and their turns are spread.
        let text = frame(TEXT, true, b"before my turn");
        let mut ends = Vec::new();
        let mut worked_on = 0;
        let mut waits = tokio::task::JoinSet::new();
        for (mut client, mut server) in tunnels {
            let text = text.clone();
            waits.spawn(async move {
                client.send(&text).await;
                let goodbye = client.close_frame().await;
                assert_eq!(goodbye, (1001, "listener removed".to_owned()));
                let at = removed.elapsed();
                let mut told = server.frame().await;
                let worked = told.first == TEXT;
                if worked {
                    told = server.frame().await;
                }
                assert_eq!(told.payload, b"\x03\xe9listener removed");
                client.send(&close(true, 1001, "")).await;
                client.ended().await;
                (at, worked)
            });
        }
        // Between requests: ended. In the middle of one: finished, then ended.
        let rest = idle.rest().await;
        assert!(rest.ends_with(b"\n"), "{}", rest.escape_ascii());
        silent.ended().await;
        serving
            .send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
            .await;
        let answer = busy.rest().await;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(answer.ends_with(b"\r\n\r\nslow"));

        while let Some(at) = waits.join_next().await {
            let (at, worked) = at.unwrap();
            ends.push(at);
            worked_on += u32::from(worked);
        }
        assert!(worked_on > 0);
        ends.sort();
        let (first, last) = (ends[0], ends[ends.len() - 1]);
        assert!(last - first > WINDOW / 3, "{ends:?}");
        assert!(last < WINDOW + Duration::from_secs(2), "{ends:?}");

        let text = frame(TEXT, true, b"on the other listener");
        kept.0.send(&text).await;
        assert_eq!(kept.1.read(text.len()).await, text);
        no_route(stays).await;
    })
    .await;
}

#[tokio::test]
async fn a_websocket_that_opens_after_its_listener_has_left_is_closed_too() {
    limited(async {
        let pod = RawPod::start().await;
        let both = edge(&[http("stays", 80), http("goes", 81)]);
        let holdfast = start(&pod, &both, false).await;
        let mut client = dial(holdfast.address("goes"), false).await;
        client.send(handshake(HOST, "").as_bytes()).await;
        let mut server = pod.accept().await;
        holdfast
            .write("edge.yaml", &edge(&[http("stays", 80)]))
            .await;
        // Longer than the window.
        assert!(client.is_silent(WINDOW + Duration::from_millis(200)).await);
        let answer = switching("");
        server.send(answer.as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.read(1).await);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        let goodbye = (1001, "listener removed".to_owned());
        assert_eq!(client.close_frame().await, goodbye);
        assert_eq!(server.close_frame().await, goodbye);
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_comes_back_ends_no_further_websocket() {
    limited(async {
        let pod = RawPod::start().await;
        let both = edge(&[http("stays", 80), http("goes", 81)]);
        let one = edge(&[http("stays", 80)]);
        let holdfast = start(&pod, &both, false).await;
        holdfast.write("edge.yaml", &one).await;
        holdfast.write("edge.yaml", &both).await;
        let back = Instant::now();
        let (mut client, mut server) = pair(holdfast.address("goes"), false, HOST, &pod).await;
        while back.elapsed() < WINDOW + Duration::from_secs(1) {
            let text = frame(TEXT, true, b"still here");
            client.send(&text).await;
            assert_eq!(server.read(text.len()).await, text);
            assert!(server.is_silent(Duration::from_millis(100)).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_a_finding_and_is_bound_when_it_is_free() {
    limited(async {
        let pod = RawPod::start().await;
        let [good, held, other] = free_ports().await;
        let holder = std::net::TcpListener::bind(local(held)).unwrap();
        let listeners = [http("good", good), http("late", held)];
        let holdfast = start(&pod, &edge(&listeners), true).await;
        soon("the finding", async || {
            let failures = bind_failures(&holdfast);
            failures.first().map(|failure| {
                assert!(failure.contains("edge/edge"), "{failure}");
                assert!(failure.contains("late"), "{failure}");
                assert!(failure.contains(&held.to_string()), "{failure}");
            })
        })
        .await;
        no_route(local(good)).await;
        let (mut client, mut server) = pair(local(good), false, HOST, &pod).await;
        // Everything else goes on: changes are served.
        let more = [http("good", good), http("late", held), http("more", other)];
        holdfast.write("edge.yaml", &edge(&more)).await;
        no_route(local(other)).await;
        assert_eq!(bind_failures(&holdfast).len(), 1);
        drop(holder);
        soon("the port is bound", async || {
            TcpStream::connect(local(held)).await.ok()
        })
        .await;
        soon("the finding is gone", async || {
            bind_failures(&holdfast).is_empty().then_some(())
        })
        .await;
        no_route(local(held)).await;
        let text = frame(TEXT, true, b"untouched");
        client.send(&text).await;
        assert_eq!(server.read(text.len()).await, text);
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_cannot_move_stays_where_it_is_until_it_can() {
    limited(async {
        let pod = RawPod::start().await;
        let [old, new] = free_ports().await;
        let holder = std::net::TcpListener::bind(local(new)).unwrap();
        let holdfast = start(&pod, &edge(&[http("web", old)]), true).await;
        let (mut client, mut server) = pair(local(old), false, HOST, &pod).await;
        holdfast
            .write("edge.yaml", &edge(&[http("web", new)]))
            .await;
        soon("the finding", async || {
            (!bind_failures(&holdfast).is_empty()).then_some(())
        })
        .await;
        no_route(local(old)).await;
        drop(holder);
        soon("it has moved", async || {
            TcpStream::connect(local(old)).await.err()
        })
        .await;
        no_route(local(new)).await;
        let text = frame(TEXT, true, b"moved with it");
        client.send(&text).await;
        assert_eq!(server.read(text.len()).await, text);
    })
    .await;
}

#[tokio::test]
async fn listeners_may_swap_ports_and_names() {
    limited(async {
        let pod = RawPod::start().await;
        let [one, two] = free_ports().await;
        let before = edge(&[http("a", one), http("b", two)]);
        let holdfast = start(&pod, &before, true).await;
        let (mut client, mut server) = pair(local(one), false, HOST, &pod).await;
        let swapped = edge(&[http("a", two), http("b", one)]);
        holdfast.write("edge.yaml", &swapped).await;
        assert_eq!(holdfast.address("a"), local(two));
        assert_eq!(holdfast.address("b"), local(one));
        no_route(local(one)).await;
        no_route(local(two)).await;
        let text = frame(TEXT, true, b"a is still there");
        client.send(&text).await;
        assert_eq!(server.read(text.len()).await, text);

        // Under a new name it is another listener, on the same socket: no connection is refused.
        let renamed = edge(&[http("c", two), http("b", one)]);
        holdfast.write("edge.yaml", &renamed).await;
        no_route(local(two)).await;
        assert_eq!(client.close_frame().await.0, 1001);
        assert_eq!(server.close_frame().await.0, 1001);
    })
    .await;
}

/// Neither on new connections nor on those that have others' requests behind them.
#[tokio::test]
async fn nobody_is_refused_while_a_listener_is_renamed() {
    limited(async {
        let pod = RawPod::start().await;
        let [port] = free_ports().await;
        let holdfast = start(&pod, &edge(&[http("n0", port)]), true).await;
        // Routed, and answered by the proxy itself.
        let routed = ingress("dead", "dead.example", "nobody");
        holdfast.write("dead.yaml", &routed).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let stop = stop.clone();
            askers.spawn(async move {
                let one = "GET / HTTP/1.1\r\nHost: dead.example\r\n\r\n";
                while !stop.is_cancelled() {
                    let last = "GET / HTTP/1.1\r\nHost: dead.example\r\nConnection: close\r\n\r\n";
                    let all = one.repeat(19) + last;
                    let answers = raw(local(port), all.as_bytes()).await;
                    let all = answers.matches("HTTP/1.1 ").count();
                    assert!(all > 0);
                    assert_eq!(answers.matches("HTTP/1.1 503 ").count(), all, "{answers}");
                }
            });
        }
        for number in 1..20 {
            let renamed = edge(&[http(&format!("n{number}"), port)]);
            holdfast.write("edge.yaml", &renamed).await;
        }
        stop.cancel();
        while let Some(asked) = askers.join_next().await {
            asked.unwrap();
        }
    })
    .await;
}
