//! Handshakes that wait for a pod which has no time for them.

use std::net::SocketAddr;

use holdfast::demo::Pods;
use tokio_util::sync::CancellationToken;

use crate::admin::page;
use crate::admission::{ask, bounds, counted, refused};
use crate::harness::{EDGE, Holdfast, ingress, service, soon};
use crate::peers::{Peer, RawPod, dial, handshake, switching};
use crate::websocket::{HOST, limited};

/// Handshakes that have been sent, their answers not waited for.
async fn send_handshakes(address: SocketAddr, count: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = dial(address, false).await;
        peer.send(handshake(HOST, "").as_bytes()).await;
        peers.push(peer);
    }
    peers
}

async fn waiting(holdfast: &Holdfast, count: usize) {
    let line = format!("holdfast_websocket_handshakes_waiting {count}\n");
    soon("so many wait", async || {
        page(holdfast, "/metrics")
            .await
            .contains(&line)
            .then_some(())
    })
    .await;
}

async fn silent_pod(edge: &str) -> (Holdfast, RawPod) {
    let pod = RawPod::start().await;
    let holdfast = Holdfast::start(&[
        ("edge.yaml", edge),
        ("pod.yaml", &service("pod", "", &[pod.address])),
        ("ingress.yaml", &ingress("pod", HOST, "pod")),
    ])
    .await;
    (holdfast, pod)
}

/// What a pod gets at a time before anything is known of it.
const AT_A_TIME: usize = 128;

#[tokio::test]
async fn handshakes_wait_for_a_pod_that_has_no_time_and_are_refused_in_time() {
    limited(async {
        let edge = bounds("queue: {lengthPerPod: 2, timeout: 2s}");
        let (holdfast, pod) = silent_pod(&edge).await;
        let address = holdfast.address("http");
        let mut first = send_handshakes(address, AT_A_TIME).await;
        let mut servers = Vec::new();
        for _ in 0..AT_A_TIME {
            servers.push(pod.accept().await);
        }
        let mut second = Vec::new();
        for count in 1..=2 {
            second.append(&mut send_handshakes(address, 1).await);
            waiting(&holdfast, count).await;
        }
        let mut third = ask(address).await;
        refused(&mut third, 503, "handshake_queue_full").await;
        for peer in &mut second {
            peer.read_head().await;
            refused(peer, 503, "handshake_queue_timeout").await;
        }
        waiting(&holdfast, 0).await;
        assert!(counted(&holdfast, "handshake_queue_full").await);
        // Who leaves the queue makes room in it.
        let leaves = send_handshakes(address, 1).await;
        waiting(&holdfast, 1).await;
        drop(leaves);
        waiting(&holdfast, 0).await;

        // The pod has time again: those that it was asked for get it, and whoever waits.
        let mut last = send_handshakes(address, 1).await;
        waiting(&holdfast, 1).await;
        for server in &mut servers {
            server.send(switching("").as_bytes()).await;
        }
        servers.push(pod.upgrade().await);
        for peer in first.iter_mut().chain(&mut last) {
            peer.read_head().await;
            assert!(peer.head.starts_with("HTTP/1.1 101 "), "{}", peer.head);
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_queue_handshakes_go_to_the_pod_as_they_come() {
    limited(async {
        let edge = bounds("queue: {timeout: 0s}");
        let (holdfast, pod) = silent_pod(&edge).await;
        let asked = AT_A_TIME + 20;
        let _clients = send_handshakes(holdfast.address("http"), asked).await;
        for _ in 0..asked {
            let server = pod.accept().await;
            assert!(server.head.starts_with("GET /ws "));
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_has_time_gets_what_another_has_no_time_for() {
    limited(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[any], &[], CancellationToken::new())
            .await
            .unwrap();
        let silent = RawPod::start().await;
        let both = [silent.address, pods.echo_addresses()[0]];
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("pod.yaml", &service("pod", "", &both)),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ])
        .await;
        let asked = 2 * AT_A_TIME + 100;
        let _clients = send_handshakes(holdfast.address("http"), asked).await;
        soon("all others are open", async || {
            (holdfast.app.tunnels().len() == asked - AT_A_TIME).then_some(())
        })
        .await;
        waiting(&holdfast, 0).await;
    })
    .await;
}
