//! Bounds for connections, requests and WebSockets: what is beyond them is refused with a word, and
//! what is open stays.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use holdfast::demo::Pods;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::page;
use crate::fixture::{edge, edge_with_spec};
use crate::harness::{EDGE, Holdfast, ingress, service, soon};
use crate::http2_client::{Client, connect};
use crate::peers::{Peer, RawPod, dial, frame, handshake, open, request};
use crate::websocket::{BOTH, HOST, limited};

/// Echoing pods behind listeners with these fields more.
async fn start(edge: &str, pods: usize) -> (Holdfast, Pods) {
    let any = vec![SocketAddr::from(([127, 0, 0, 1], 0)); pods];
    let pods = Pods::start(&any, &[], CancellationToken::new())
        .await
        .unwrap();
    let holdfast = Holdfast::start(&manifests(edge, &pods)).await;
    (holdfast, pods)
}

fn manifests<'a>(edge: &'a str, pods: &Pods) -> [(&'a str, &'a str); 3] {
    [
        ("edge.yaml", edge),
        ("pod.yaml", service("pod", "", pods.echo_addresses()).leak()),
        ("ingress.yaml", ingress("pod", HOST, "pod").leak()),
    ]
}

pub(crate) fn bounds(fields: &str) -> String {
    edge(&format!(", admission: {{{fields}}}"))
}

/// Asks for a WebSocket from an address of its own.
async fn ask_from(client: [u8; 4], address: SocketAddr) -> Peer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(client), 0).into()).unwrap();
    let mut peer = Peer::new(Box::new(socket.connect(address).await.unwrap()));
    peer.send(handshake(HOST, "").as_bytes()).await;
    peer.read_head().await;
    peer
}

pub(crate) async fn ask(address: SocketAddr) -> Peer {
    ask_from([127, 0, 0, 1], address).await
}

/// As many handshakes at once: those that were admitted, and the others.
async fn crowd(address: SocketAddr, size: usize) -> (Vec<Peer>, Vec<Peer>) {
    let mut asking = JoinSet::new();
    for _ in 0..size {
        asking.spawn(ask(address));
    }
    let all = asking.join_all().await;
    all.into_iter()
        .partition(|peer| peer.head.starts_with("HTTP/1.1 101 "))
}

/// It was refused like this, and told when to come back.
pub(crate) async fn refused(peer: &mut Peer, status: u16, reason: &str) {
    let head = peer.head.to_ascii_lowercase();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    let after = head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "))
        .unwrap_or_else(|| panic!("{head}"));
    assert!(after.parse::<u32>().unwrap() >= 1, "{head}");
    let text = String::from_utf8(peer.read_some(4096).await).unwrap();
    assert!(text.contains(reason), "{text}");
}

pub(crate) async fn counted(holdfast: &Holdfast, reason: &str) -> bool {
    let metrics = page(holdfast, "/metrics").await;
    metrics.contains(&format!("reason=\"{reason}\""))
}

/// Opens a WebSocket as soon as there is room for one.
async fn room(address: SocketAddr) -> Peer {
    soon("there is room", async || {
        let peer = ask(address).await;
        peer.head.starts_with("HTTP/1.1 101 ").then_some(peer)
    })
    .await
}

#[tokio::test]
async fn a_listener_has_as_many_websockets_as_it_may_and_not_one_more() {
    limited(async {
        let (holdfast, _pods) = start(&bounds("connections: 10"), 1).await;
        for (listener, tls) in BOTH {
            let address = holdfast.address(listener);
            if tls {
                let mut held = Vec::new();
                for _ in 0..10 {
                    held.push(open(address, true, HOST).await);
                }
                let mut late = request(address, true, &handshake(HOST, "")).await;
                refused(&mut late, 503, "listener_connections_exceeded").await;
                continue;
            }
            let (mut held, mut others) = crowd(address, 40).await;
            assert_eq!((held.len(), others.len()), (10, 30));
            for other in &mut others {
                refused(other, 503, "listener_connections_exceeded").await;
            }
            for peer in &mut held {
                peer.echo("still here").await;
            }
            held.truncate(7);
            let mut more = Vec::new();
            for _ in 0..3 {
                more.push(room(address).await);
            }
            assert!(crowd(address, 20).await.0.is_empty());
            for peer in held.iter_mut().chain(&mut more) {
                peer.echo("still here").await;
            }
        }
        assert!(counted(&holdfast, "listener_connections_exceeded").await);
        // Requests are not WebSockets.
        let get = format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let plain = request(holdfast.address("http"), false, &get).await;
        assert!(!plain.head.contains(" 503 "), "{}", plain.head);
    })
    .await;
}

#[tokio::test]
async fn each_client_has_its_share() {
    limited(async {
        let (holdfast, _pods) = start(&bounds("connectionsPerClient: 3"), 1).await;
        let address = holdfast.address("http");
        let (mut held, mut others) = crowd(address, 12).await;
        assert_eq!(held.len(), 3);
        for other in &mut others {
            refused(other, 429, "client_connections_exceeded").await;
        }
        let mut neighbour = ask_from([127, 0, 0, 2], address).await;
        neighbour.echo("another client").await;
        held.pop();
        let mut again = room(address).await;
        again.echo("in its place").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_has_as_many_as_it_may_and_the_others_get_the_rest() {
    limited(async {
        let (holdfast, _pods) = start(&bounds("connectionsPerPod: 3"), 3).await;
        let address = holdfast.address("http");
        let (mut held, mut others) = crowd(address, 30).await;
        assert_eq!(held.len(), 9);
        for other in &mut others {
            refused(other, 503, "pod_connections_exceeded").await;
        }
        let mut on: Vec<SocketAddr> = Vec::new();
        on.extend(
            holdfast
                .app
                .tunnels()
                .list()
                .iter()
                .map(|it| it.info.endpoint),
        );
        on.sort_unstable();
        let mut pods = on.clone();
        pods.dedup();
        assert_eq!(pods.len(), 3);
        assert!(on.chunks(3).zip(pods).all(|(three, pod)| three == [pod; 3]));
        held.pop();
        room(address).await.echo("in its place").await;
    })
    .await;
}

#[tokio::test]
async fn handshakes_come_no_faster_than_they_may() {
    limited(async {
        let fields = "handshakesPerSecond: 20, handshakesPerSecondPerClient: 5";
        let (holdfast, _pods) = start(&bounds(fields), 1).await;
        let address = holdfast.address("http");
        let began = Instant::now();
        let (held, mut others) = crowd(address, 40).await;
        let most = 5.0 + began.elapsed().as_secs_f64() * 5.0;
        assert!(
            held.len() >= 5 && held.len() as f64 <= most,
            "{}",
            held.len()
        );
        for other in &mut others {
            refused(other, 429, "client_handshake_rate_exceeded").await;
        }
        let mut admitted = held.len();
        for client in 2..40 {
            let mut peer = ask_from([127, 0, 0, client], address).await;
            if peer.head.starts_with("HTTP/1.1 101 ") {
                admitted += 1;
            } else {
                refused(&mut peer, 503, "listener_handshake_rate_exceeded").await;
            }
        }
        let most = 20.0 + began.elapsed().as_secs_f64() * 20.0;
        assert!(admitted >= 20 && admitted as f64 <= most, "{admitted}");
        // A second later there are as many again.
        room(address).await.echo("hello").await;
    })
    .await;
}

#[tokio::test]
async fn streams_of_http2_are_counted_as_websockets_and_counted_off() {
    limited(async {
        let pod = RawPod::start().await;
        let edge = bounds("connections: 2");
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge),
            ("pod.yaml", &service("pod", "", &[pod.address])),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ])
        .await;
        let client = Client::connect(&holdfast, HOST).await;
        let first = client.pair(HOST, &pod).await;
        let _second = client.pair(HOST, &pod).await;
        let refusal = async || client.ask(connect(HOST)).await.unwrap().0;
        let answer = refusal().await;
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        drop(first);
        soon("it is counted off", async || {
            (holdfast.app.tunnels().len() == 1).then_some(())
        })
        .await;
        let (mut third, mut server) = client.pair(HOST, &pod).await;
        third.send(&frame(0x81, true, b"x")).await;
        server.frame().await;
        assert_eq!(refusal().await.status(), 503);
    })
    .await;
}

#[tokio::test]
async fn a_bound_that_changes_holds_for_the_next_and_ends_nothing() {
    limited(async {
        let (holdfast, _pods) = start(EDGE, 1).await;
        let address = holdfast.address("http");
        let (mut held, _) = crowd(address, 6).await;
        assert_eq!(held.len(), 6);
        // Those that came before there was a bound count as well.
        for fields in [
            "connections: 4",
            "connectionsPerClient: 6",
            "connectionsPerPod: 5",
        ] {
            holdfast.write("edge.yaml", &bounds(fields)).await;
            assert!(crowd(address, 5).await.0.is_empty(), "{fields}");
            for peer in &mut held {
                peer.echo("still here").await;
            }
        }
        holdfast.write("edge.yaml", &bounds("connections: 8")).await;
        assert_eq!(crowd(address, 10).await.0.len(), 2);
        holdfast.write("edge.yaml", &bounds("connections: 0")).await;
        assert_eq!(crowd(address, 10).await.0.len(), 10);
        for peer in &mut held {
            peer.echo("still here").await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_the_capacity_are_told_so_and_the_others_stay() {
    limited(async {
        let edge = edge_with_spec("  capacity: {maxConnections: 3}\n");
        let (holdfast, _pods) = start(&edge, 1).await;
        let mut plain = open(holdfast.address("http"), false, HOST).await;
        let mut secure = open(holdfast.address("https"), true, HOST).await;
        let multiplexed = Client::connect(&holdfast, HOST).await;
        let (mut stream, _) = multiplexed.open(HOST).await;
        for (listener, tls) in BOTH {
            let address = holdfast.address(listener);
            let mut late = request(address, tls, &handshake(HOST, "")).await;
            refused(&mut late, 503, "capacity_connections_exceeded").await;
            assert!(late.head.to_ascii_lowercase().contains("connection: close"));
            late.ended().await;
        }
        let late = Client::connect(&holdfast, HOST).await;
        let answer = late.ask(connect(HOST)).await.unwrap().0;
        assert_eq!(answer.status(), 503);
        late.went_away().await;
        for peer in [&mut plain, &mut secure, &mut stream] {
            peer.echo("still here").await;
        }
        let metrics = page(&holdfast, "/metrics").await;
        assert!(
            metrics.contains("holdfast_refused_connections_total 3"),
            "{metrics}"
        );
        // The connection of a WebSocket counts until the WebSocket has ended.
        drop(plain);
        room(holdfast.address("http"))
            .await
            .echo("in its place")
            .await;
    })
    .await;
}

#[tokio::test]
async fn connections_and_requests_come_no_faster_than_they_may() {
    limited(async {
        let edge = edge_with_spec("  capacity: {requestsPerSecond: 5}\n");
        let (holdfast, pods) = start(&edge, 1).await;
        let address = holdfast.address("http");
        let get = format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let began = Instant::now();
        let mut served = 0;
        let mut late = 0;
        while late < 10 {
            let mut peer = request(address, false, &get).await;
            if peer.head.contains(" 503 ") {
                refused(&mut peer, 503, "capacity_requests_exceeded").await;
                late += 1;
            } else {
                served += 1;
            }
        }
        let most = 5.0 + began.elapsed().as_secs_f64() * 5.0;
        assert!(served >= 5 && f64::from(served) <= most, "{served}");

        let edge = edge_with_spec("  capacity: {newConnectionsPerSecond: 5}\n");
        holdfast
            .write("edge.yaml", manifests(&edge, &pods)[0].1)
            .await;
        let began = Instant::now();
        let (held, mut others) = crowd(address, 30).await;
        let most = 5.0 + began.elapsed().as_secs_f64() * 5.0;
        assert!(
            held.len() >= 5 && held.len() as f64 <= most,
            "{}",
            held.len()
        );
        for other in &mut others {
            refused(other, 503, "capacity_new_connections_exceeded").await;
        }
        room(address).await.echo("hello").await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_that_says_nothing_is_let_go() {
    limited(async {
        let edge = edge_with_spec("  capacity: {maxConnections: 1}\n");
        let (holdfast, _pods) = start(&edge, 1).await;
        let address = holdfast.address("http");
        let mut held = open(address, false, HOST).await;
        let mut silent = Peer::new(Box::new(holdfast.connect("http").await));
        let began = Instant::now();
        silent.ended().await;
        assert!(began.elapsed() < Duration::from_secs(10));
        held.echo("still here").await;
    })
    .await;
}

#[tokio::test]
async fn short_of_memory_the_new_is_refused_and_the_old_stays() {
    limited(async {
        let group = tempfile::tempdir().unwrap();
        let tell = |name: &str, value: u64| {
            let new = group.path().join(format!("{name}.new"));
            std::fs::write(&new, format!("{value}\n")).unwrap();
            std::fs::rename(new, group.path().join(name)).unwrap();
        };
        tell("memory.max", 1000);
        tell("memory.current", 500);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[any], &[], CancellationToken::new())
            .await
            .unwrap();
        let holdfast = Holdfast::start_with(&manifests(EDGE, &pods), |config| {
            config.gauge.control_groups = group.path().to_owned();
        })
        .await;
        let address = holdfast.address("http");
        let mut held = open(address, false, HOST).await;
        tell("memory.current", 920);
        let mut late = soon("it is refused", async || {
            let peer = ask(address).await;
            (!peer.head.starts_with("HTTP/1.1 101 ")).then_some(peer)
        })
        .await;
        refused(&mut late, 503, "overloaded").await;
        let level = async |level: u8| {
            let line = format!("holdfast_overload{{resource=\"memory\"}} {level}\n");
            soon("the level", async || {
                page(&holdfast, "/metrics")
                    .await
                    .contains(&line)
                    .then_some(())
            })
            .await;
        };
        level(1).await;
        // Requests are served for as long as connections are accepted.
        let get = format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let plain = request(address, false, &get).await;
        assert!(!plain.head.contains(" 503 "), "{}", plain.head);
        held.echo("still here").await;

        tell("memory.current", 980);
        level(2).await;
        // A loop may have begun to wait for one more just before.
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let mut peer = dial(address, false).await;
            peer.send(handshake(HOST, "").as_bytes()).await;
            waiting.push(peer);
        }
        let second = waiting.last_mut().unwrap();
        assert!(second.is_silent(Duration::from_millis(300)).await);
        held.echo("still here").await;
        tell("memory.current", 500);
        second.read_head().await;
        assert!(!second.head.is_empty());
        level(0).await;
        room(address).await.echo("new").await;
        held.echo("still here").await;
    })
    .await;
}
