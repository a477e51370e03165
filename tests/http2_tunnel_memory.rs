//! What an idle WebSocket over HTTP/2 costs the process, counted at the allocator: the stream, its
//! tasks, the pod's socket and the relay between them.
#![allow(
    clippy::large_futures,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub
)]
#![expect(
    unsafe_code,
    reason = "a global allocator that counts cannot be had without"
)]

#[path = "proxy/harness.rs"]
mod harness;
#[path = "proxy/http2_client.rs"]
mod http2_client;
#[path = "proxy/peers.rs"]
mod peers;
#[path = "proxy/tls_client.rs"]
mod tls_client;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, service, soon};
use crate::http2_client::Client;
use crate::peers::{BINARY, PING, Peer, RawPod, frame, pair};

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// Clients and pods run in the test's own thread; every other one is the proxy's.
    static IS_PROXY: Cell<bool> = const { Cell::new(true) };
}

fn count(bytes: isize) {
    if IS_PROXY.try_with(Cell::get).unwrap_or(true) {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: everything is done by the system's allocator; this only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HOST: &str = "ws.example";
const TUNNELS: usize = 100;

/// What is held once it no longer changes.
async fn live() -> isize {
    let mut last = LIVE.load(Ordering::Relaxed);
    let mut same = 0;
    soon("memory is steady", || {
        let now = LIVE.load(Ordering::Relaxed);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        std::future::ready((same == 20).then_some(now))
    })
    .await
}

#[tokio::test]
async fn an_idle_stream_stays_within_its_budget_before_and_after_a_message() {
    const BUDGET: isize = 3000;
    const READ_BUFFER: isize = 9 * 1024;
    IS_PROXY.set(false);
    let test = async {
        let pod = RawPod::start().await;
        let manifests = [
            ("edge.yaml", EDGE),
            ("pod.yaml", &service("pod", "", &[pod.address])),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ];
        // Each worker has buffers of 32 KiB that all its tunnels share. With one worker the first
        // tunnel makes them, before anything is counted.
        let holdfast = Holdfast::start_with(&manifests, |config| config.workers = 1).await;
        let client = Client::connect(&holdfast, HOST).await;
        // What is made once, by the first.
        drop(client.pair(HOST, &pod).await);
        soon("it has ended", async || {
            holdfast.app.tunnels().is_empty().then_some(())
        })
        .await;
        let each = async |before: isize| (live().await - before) / TUNNELS as isize;

        let before = live().await;
        let mut tunnels = Vec::new();
        for _ in 0..TUNNELS {
            tunnels.push(client.pair(HOST, &pod).await);
        }
        let idle = each(before).await;
        println!("{idle} bytes an idle WebSocket over HTTP/2");
        talk(&mut tunnels).await;
        let after = each(before).await;
        println!("{after} bytes after a message of 64 KiB each way");
        small(&mut tunnels).await;
        let after_small = each(before).await;
        println!("{after_small} bytes after a small message on each");
        drop(tunnels);
        soon("all have ended", async || {
            holdfast.app.tunnels().is_empty().then_some(())
        })
        .await;
        // The connection's table of streams does not shrink, and remembers for a while those that
        // it has reset.
        let gone = soon("little is left", || {
            let left = (LIVE.load(Ordering::Relaxed) - before) / TUNNELS as isize;
            std::future::ready((left <= 2000).then_some(left))
        })
        .await;
        println!("{gone} bytes when they have ended");

        let before = live().await;
        let mut tunnels = Vec::new();
        for _ in 0..TUNNELS {
            tunnels.push(pair(holdfast.address("https"), true, HOST, &pod).await);
        }
        let plain = each(before).await;
        println!("{plain} bytes an idle WebSocket over HTTP/1.1 and TLS");
        assert!(idle <= BUDGET, "{idle} bytes");
        // hyper keeps the last DATA that it has handed out, empty as it is, until there is more on
        // the stream, and with it the buffer in which that came: 8 KiB, which many small frames
        // share, and to which nothing can be added.
        assert!(after <= idle + READ_BUFFER, "{after} bytes after a message");
        assert!(
            after_small <= idle + 1024,
            "{after_small} bytes after a small one"
        );
    };
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// As the heartbeats of real WebSockets.
async fn small(tunnels: &mut [(Peer, Peer)]) {
    for (one, other) in tunnels {
        let up = frame(PING, true, b"");
        one.send(&up).await;
        assert_eq!(other.read(up.len()).await, up);
    }
}

async fn talk(tunnels: &mut [(Peer, Peer)]) {
    for (one, other) in tunnels {
        let up = frame(BINARY, true, &[7; 64 << 10]);
        let (received, ()) = tokio::join!(other.read(up.len()), one.send(&up));
        assert!(received == up);
        let down = frame(BINARY, false, &[7; 64 << 10]);
        let (received, ()) = tokio::join!(one.read(down.len()), other.send(&down));
        assert!(received == down);
    }
}
