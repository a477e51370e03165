//! WebSockets whose route, backend or pod goes away: they are closed one by one, paced, and come
//! back elsewhere; those that may stay after all, stay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast::demo::Pods;
use holdfast::websocket::Cause;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, service, slice, soon};
use crate::peers::{Peer, RawPod, TEXT, frame, open, pair};

const HOST: &str = "ws.example";
const DRAINING: (u16, &str) = (1012, "draining, please reconnect");
const TERMINATING: &str = "ready: false, serving: true, terminating: true";

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// The load balancer with more in its spec.
fn edge(more: &str) -> String {
    EDGE.replace(
        "  exposure: Host\n",
        &format!("  exposure: Host\n  {more}\n"),
    )
}

/// An Ingress in front of one Service, to which pods are added as slices.
async fn front(more: &str, pods: &[&RawPod]) -> Holdfast {
    let mut manifests = vec![
        ("edge.yaml".to_owned(), edge(more)),
        ("service.yaml".to_owned(), service("pod", "", &[])),
        ("ingress.yaml".to_owned(), ingress("pod", HOST, "pod")),
    ];
    for (number, pod) in pods.iter().enumerate() {
        let name = format!("pod-{number}");
        let slice = slice(&name, "pod", pod.address, "ready: true");
        manifests.push((format!("{name}.yaml"), slice));
    }
    let manifests: Vec<(&str, &str)> = manifests
        .iter()
        .map(|(name, yaml)| (name.as_str(), yaml.as_str()))
        .collect();
    Holdfast::start(&manifests).await
}

/// How many nobody has asked to end.
fn staying(holdfast: &Holdfast) -> usize {
    let mut staying = 0;
    holdfast.app.tunnels().visit(|_, _| staying += 1);
    staying
}

/// Says something through a tunnel, and the pod hears it.
async fn talks((client, server): &mut (Peer, Peer)) {
    let text = frame(TEXT, true, b"still here");
    client.send(&text).await;
    assert_eq!(server.read(text.len()).await, text);
}

async fn is_closed((client, server): &mut (Peer, Peer), (code, reason): (u16, &str)) {
    let goodbye = (code, reason.to_owned());
    assert_eq!(client.close_frame().await, goodbye);
    assert_eq!(server.close_frame().await, goodbye);
}

#[tokio::test]
async fn who_loses_its_route_or_service_is_closed_and_others_are_not() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = front("connectionDrain: {timeout: 500ms}", &[&pod]).await;
        let other = format!(
            "{}\n---\n{}",
            service("other", "", &[pod.address]),
            ingress("other", "other.example", "other")
        );
        holdfast.write("other.yaml", &other).await;
        let http = holdfast.address("http");
        let mut goes = pair(http, false, HOST, &pod).await;
        let mut stays = pair(http, false, "other.example", &pod).await;

        // Another object declares the same: that concerns nobody.
        holdfast
            .write("again.yaml", &ingress("again", HOST, "pod"))
            .await;
        holdfast.remove("ingress.yaml").await;
        assert!(goes.0.is_silent(Duration::from_millis(700)).await);
        talks(&mut goes).await;

        holdfast.remove("again.yaml").await;
        is_closed(&mut goes, (1001, "route removed")).await;
        talks(&mut stays).await;

        std::fs::remove_file(holdfast.directory().join("other.yaml")).unwrap();
        holdfast.write_only("other.yaml", &ingress("other", "other.example", "other"));
        is_closed(&mut stays, DRAINING).await;
    })
    .await;
}

/// A rule that sends a share to each of two Services.
fn rules(weights: [u32; 2]) -> String {
    let [one, two] = weights;
    let rule = format!(
        "connectionDrain: {{timeout: 400ms}}
  rules:
  - hosts: [{HOST}]
    backends: [{{service: {{name: one, port: 80}}, weight: {one}}}, {{service: {{name: two, port: 80}}, weight: {two}}}]"
    );
    edge(&rule)
        .replace("namespace: edge}", "namespace: default}")
        .replace("namespace: edge,", "namespace: default,")
}

#[tokio::test]
async fn a_backend_without_weight_is_drained() {
    limited(async {
        let (one, two) = (RawPod::start().await, RawPod::start().await);
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &rules([1, 0])),
            ("one.yaml", &service("one", "", &[one.address])),
            ("two.yaml", &service("two", "", &[two.address])),
        ])
        .await;
        let http = holdfast.address("http");
        let mut first = pair(http, false, HOST, &one).await;
        // A canary: both have a share, nobody is moved.
        holdfast.write("edge.yaml", &rules([99, 1])).await;
        assert!(first.0.is_silent(Duration::from_millis(600)).await);
        talks(&mut first).await;
        holdfast.write("edge.yaml", &rules([0, 1])).await;
        let mut second = pair(http, false, HOST, &two).await;
        is_closed(&mut first, DRAINING).await;
        talks(&mut second).await;
        drop(first);
        let causes = soon("it is counted", async || {
            let totals = holdfast.app.tunnels().totals();
            let endings = totals.iter().flat_map(|totals| &totals.endings);
            let causes: Vec<Cause> = endings.map(|(ending, _)| ending.cause).collect();
            (!causes.is_empty()).then_some(causes)
        })
        .await;
        assert_eq!(causes, [Cause::Drain]);
    })
    .await;
}

#[tokio::test]
async fn a_terminating_pod_is_drained_once_clients_can_go_elsewhere() {
    limited(async {
        let pods = [RawPod::start().await, RawPod::start().await];
        let drain = "connectionDrain: {timeout: 24h, podTimeout: 600ms}";
        let holdfast = front(drain, &[&pods[0]]).await;
        let http = holdfast.address("http");
        let mut tunnels = Vec::new();
        for _ in 0..4 {
            tunnels.push(pair(http, false, HOST, &pods[0]).await);
        }
        // They could only come back to the same pod.
        let own = slice("pod-0", "pod", pods[0].address, TERMINATING);
        holdfast.write_only("pod-0.yaml", &own);
        assert!(tunnels[0].0.is_silent(Duration::from_millis(900)).await);
        for tunnel in &mut tunnels {
            talks(tunnel).await;
        }
        let other = slice("pod-1", "pod", pods[1].address, "ready: true");
        holdfast.write_only("pod-1.yaml", &other);
        for tunnel in &mut tunnels {
            is_closed(tunnel, DRAINING).await;
        }
        let mut next = pair(http, false, HOST, &pods[1]).await;
        talks(&mut next).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_has_left_is_drained_and_one_that_is_back_keeps_the_rest() {
    limited(async {
        let pods = [RawPod::start().await, RawPod::start().await];
        let drain = "connectionDrain: {timeout: 24h, podTimeout: 3s}";
        let holdfast = front(drain, &[&pods[0]]).await;
        let http = holdfast.address("http");
        let mut tunnels = Vec::new();
        for _ in 0..30 {
            tunnels.push(pair(http, false, HOST, &pods[0]).await);
        }
        let other = slice("pod-1", "pod", pods[1].address, "ready: true");
        holdfast.write_only("pod-1.yaml", &other);
        std::fs::remove_file(holdfast.directory().join("pod-0.yaml")).unwrap();
        soon("some are closed", async || {
            (staying(&holdfast) < 28).then_some(())
        })
        .await;
        let own = slice("pod-0", "pod", pods[0].address, "ready: true");
        holdfast.write_only("pod-0.yaml", &own);
        let metrics = holdfast.app.metrics();
        soon("nobody is to be closed any more", async || {
            (metrics.draining.load(Ordering::Relaxed) == 0).then_some(())
        })
        .await;
        let left = staying(&holdfast);
        assert!(left > 0, "all were closed");
        let mut talking = 0;
        for (client, server) in &mut tunnels {
            if client.is_silent(Duration::from_millis(20)).await {
                talks_to(client, server).await;
                talking += 1;
            }
        }
        assert_eq!(talking, left);
    })
    .await;
}

async fn talks_to(client: &mut Peer, server: &mut Peer) {
    let text = frame(TEXT, true, b"still here");
    client.send(&text).await;
    assert_eq!(server.read(text.len()).await, text);
}

#[tokio::test]
async fn a_listener_closes_no_more_a_second_than_it_may_in_all_its_drains() {
    const EACH: usize = 15;
    const RATE: usize = 20;
    limited(async {
        let pod = RawPod::start().await;
        let drain = format!("connectionDrain: {{timeout: 0s, closesPerSecond: {RATE}}}");
        let holdfast = front(&drain, &[&pod]).await;
        holdfast
            .write("more.yaml", &ingress("more", "more.example", "pod"))
            .await;
        let http = holdfast.address("http");
        let mut clients = Vec::new();
        for host in [HOST, "more.example"] {
            for _ in 0..EACH {
                clients.push(pair(http, false, host, &pod).await);
            }
        }
        let began = Instant::now();
        holdfast.remove("ingress.yaml").await;
        holdfast.remove("more.yaml").await;
        for pair in &mut clients {
            is_closed(pair, (1001, "route removed")).await;
        }
        // The first goes at once; a late timer may catch up for 20 ms.
        let least = Duration::from_secs_f64((2.0 * EACH as f64 - 2.0) / RATE as f64);
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    })
    .await;
}

/// Clients that come back whenever they are told to reconnect. Each has its number of closes.
struct Fleet {
    clients: JoinSet<()>,
    closes: Arc<AtomicUsize>,
}

impl Fleet {
    fn start(address: SocketAddr, count: usize) -> Self {
        let closes = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..count {
            let closes = Arc::clone(&closes);
            clients.spawn(async move {
                loop {
                    let mut client = open(address, false, HOST).await;
                    client.wait().await;
                    assert_eq!(client.close_frame().await.0, 1012);
                    closes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { clients, closes }
    }
}

fn open_by_pod(holdfast: &Holdfast, pods: &[SocketAddr]) -> Vec<usize> {
    let views = holdfast.app.tunnels().list();
    let of = |pod: &SocketAddr| {
        let open = views
            .iter()
            .filter(|view| view.info.endpoint == *pod && view.ending.is_none());
        open.count()
    };
    pods.iter().map(of).collect()
}

#[tokio::test]
async fn tunnels_move_to_a_pod_that_has_come_later_and_no_more_than_must() {
    const ALL: usize = 60;
    limited(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[any, any, any], &[], CancellationToken::new())
            .await
            .unwrap();
        let addresses = pods.echo_addresses().to_vec();
        let more = "rebalance: {tolerancePercent: 10, closesPerSecond: 50}";
        let manifests = [
            ("edge.yaml", edge(more)),
            ("service.yaml", service("echo", "", &[])),
            ("ingress.yaml", ingress("echo", HOST, "echo")),
            (
                "pod-0.yaml",
                slice("pod-0", "echo", addresses[0], "ready: true"),
            ),
            (
                "pod-1.yaml",
                slice("pod-1", "echo", addresses[1], "ready: true"),
            ),
        ];
        let manifests = manifests
            .each_ref()
            .map(|(name, yaml)| (*name, yaml.as_str()));
        let holdfast = Holdfast::start(&manifests).await;
        let mut fleet = Fleet::start(holdfast.address("http"), ALL);
        soon("all are connected", async || {
            (holdfast.app.tunnels().len() == ALL).then_some(())
        })
        .await;
        assert_eq!(open_by_pod(&holdfast, &addresses), [30, 30, 0]);
        let third = slice("pod-2", "echo", addresses[2], "ready: true");
        holdfast.write_only("pod-2.yaml", &third);
        soon("the third pod has its share", async || {
            let open = open_by_pod(&holdfast, &addresses);
            let (most, least) = (open.iter().max()?, open.iter().min()?);
            (open.iter().sum::<usize>() == ALL && most - least <= 2).then_some(())
        })
        .await;
        let closes = fleet.closes.load(Ordering::Relaxed);
        assert!((18..=20).contains(&closes), "{closes} were closed");
        fleet.clients.abort_all();
        pods.stop().await;
    })
    .await;
}

/// How even the closes of many are: a measurement, made where `HOLDFAST_DRAIN` has their number.
#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    let Ok(count) = std::env::var("HOLDFAST_DRAIN") else {
        return;
    };
    let count: usize = count.parse().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let pods = Pods::start(&[any, any], &[], CancellationToken::new())
        .await
        .unwrap();
    let addresses = pods.echo_addresses().to_vec();
    let manifests = [
        (
            "edge.yaml",
            edge("connectionDrain: {podTimeout: 20s, closesPerSecond: 1000}"),
        ),
        ("service.yaml", service("echo", "", &[])),
        ("ingress.yaml", ingress("echo", HOST, "echo")),
        (
            "pod-0.yaml",
            slice("pod-0", "echo", addresses[0], "ready: true"),
        ),
    ];
    let manifests = manifests
        .each_ref()
        .map(|(name, yaml)| (*name, yaml.as_str()));
    let holdfast = Holdfast::start(&manifests).await;
    let mut fleet = Fleet::start(holdfast.address("http"), count);
    soon("all are connected", async || {
        (holdfast.app.tunnels().len() == count).then_some(())
    })
    .await;
    let second = slice("pod-1", "echo", addresses[1], "ready: true");
    holdfast.write_only("pod-1.yaml", &second);
    holdfast.write_only(
        "pod-0.yaml",
        &slice("pod-0", "echo", addresses[0], TERMINATING),
    );
    let (began, mut before, mut seconds) = (Instant::now(), 0, Vec::new());
    while before < count {
        assert!(began.elapsed() < Duration::from_secs(60), "{seconds:?}");
        tokio::time::sleep_until((began + Duration::from_secs(seconds.len() as u64 + 1)).into())
            .await;
        let closes = fleet.closes.load(Ordering::Relaxed);
        seconds.push(closes - before);
        before = closes;
    }
    let peak = *seconds.iter().max().unwrap();
    let mean = count as f64 / 20.0;
    println!(
        "closes by second {seconds:?}; peak {peak}, mean {mean}: {:.2}",
        peak as f64 / mean
    );
    fleet.clients.abort_all();
}
