//! What an idle tunnel costs beside its two sockets, counted at the allocator.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, missing_docs)]
#![expect(
    unsafe_code,
    reason = "neither a global allocator that counts nor malloc's figures can be had without"
)]

#[path = "tls_record/wire.rs"]
#[allow(dead_code, unreachable_pub)]
mod wire;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use holdfast::routing::{
    Keepalive, ListenerId, MaxAge, MessageLimits, Origin, PodProtocol, RouteId, UpstreamId,
};
use holdfast::websocket::{RelayConfig, TunnelInfo, TunnelTable, relay};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::{Ends, Wire, connect, hear, say};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is done by the system's allocator; this only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whoever counts is alone.
static ALONE: Mutex<()> = Mutex::new(());

/// A peer without a socket that says what it is given, then nothing.
#[derive(Default)]
struct Silent {
    says: Option<Box<[u8]>>,
}

impl AsyncRead for Silent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.says.take() {
            Some(says) => {
                into.put_slice(&says);
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Silent {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn info() -> TunnelInfo {
    let name: Arc<str> = "test".into();
    TunnelInfo {
        route: Arc::new(RouteId {
            origin: Arc::new(Origin {
                kind: "Ingress",
                namespace: Arc::clone(&name),
                name: Arc::clone(&name),
            }),
            host: Arc::clone(&name),
            path: Arc::clone(&name),
        }),
        listener: Arc::new(ListenerId {
            namespace: Arc::clone(&name),
            load_balancer: Arc::clone(&name),
            name: Arc::clone(&name),
        }),
        upstream: Arc::new(UpstreamId {
            namespace: Arc::clone(&name),
            service: name,
            port: 80,
            protocol: PodProtocol::Plain,
        }),
        endpoint: "10.0.0.1:80".parse().unwrap(),
        client: "192.0.2.1:40000".parse().unwrap(),
        http_version: http::Version::HTTP_11,
        request_id: None,
    }
}

#[test]
fn an_idle_tunnel_stays_within_its_budget_before_and_after_a_message() {
    const TUNNELS: usize = 10_000;
    const BUDGET: usize = 640;
    const WITH_ALL: usize = 960;
    let _alone = ALONE.lock().unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let info = info();
    let table = TunnelTable::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut tunnels = Vec::with_capacity(TUNNELS);
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 0..TUNNELS {
        let mut tunnel = Box::pin(relay(
            Silent::default(),
            Bytes::new(),
            Silent::default(),
            Bytes::new(),
            table.open(info.clone()),
            RelayConfig::default(),
        ));
        assert!(tunnel.as_mut().poll(&mut cx).is_pending());
        tunnels.push(tunnel);
    }
    let sockets = 2 * size_of::<Silent>();
    let future = size_of_val(&*tunnels[0]) - sockets;
    let idle = (LIVE.load(Ordering::Relaxed) - before) / TUNNELS - sockets;
    println!("{idle} bytes an idle tunnel, of which the relay {future}");
    assert!(idle <= BUDGET, "{idle} bytes");

    drop(tunnels);
    let policy = RelayConfig {
        keepalive: Some(Keepalive {
            interval: Duration::from_secs(20),
            timeout: Duration::from_secs(10),
            client: true,
            pod: true,
        }),
        max_age: Some(MaxAge {
            duration: Duration::from_secs(3600),
            jitter_percent: 20,
        }),
        limits: MessageLimits {
            message_size: Some(1 << 20),
            messages_per_second: Some(100),
            bytes_per_second: Some(1 << 20),
            ..MessageLimits::default()
        },
        ..RelayConfig::default()
    };
    let mut tunnels = Vec::with_capacity(TUNNELS);
    for _ in 0..TUNNELS {
        let (client, pod) = (Silent::default(), Silent::default());
        let none = Bytes::new;
        let guard = table.open(info.clone());
        let mut tunnel = Box::pin(relay(client, none(), pod, none(), guard, policy));
        assert!(tunnel.as_mut().poll(&mut cx).is_pending());
        tunnels.push(tunnel);
    }
    let with_all = (LIVE.load(Ordering::Relaxed) - before) / TUNNELS - sockets;
    println!("{with_all} bytes with keepalive, age and every limit");
    assert!(with_all <= WITH_ALL, "{with_all} bytes");

    drop(tunnels);
    let message = [&[0x82, 126, 0x40, 0][..], &[7; 16 << 10]].concat();
    let mut tunnels = Vec::with_capacity(TUNNELS);
    for _ in 0..TUNNELS {
        let says = || Silent {
            says: Some(message.clone().into()),
        };
        let none = Bytes::new;
        let guard = table.open(info.clone());
        let relay = relay(
            says(),
            none(),
            says(),
            none(),
            guard,
            RelayConfig::default(),
        );
        let mut tunnel = Box::pin(relay);
        assert!(tunnel.as_mut().poll(&mut cx).is_pending());
        tunnels.push(tunnel);
    }
    let after = (LIVE.load(Ordering::Relaxed) - before) / TUNNELS - sockets;
    println!("{after} bytes after a message of 16 KiB each way");
    assert!(after <= idle + 8, "{after} bytes after a message");
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap()
}

/// What malloc has given out, to C libraries too, with what it rounds up.
fn allocated() -> usize {
    // SAFETY: it takes nothing and returns numbers.
    let figures = unsafe { libc::mallinfo2() };
    figures.uordblks + figures.hblkhd
}

#[test]
fn an_idle_tls_tunnel_stays_within_its_budget_before_and_after_a_message() {
    const TUNNELS: usize = 1_000;
    const BUDGET: usize = 2_000;
    const BUDGET_TLS_1_2: usize = 1_200;
    let _alone = ALONE.lock().unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let info = info();
    let message = [&[0x82, 0x80 | 126, 0x40, 0, 1, 2, 3, 4][..], &[7; 16 << 10]].concat();
    let answer = [&[0x82, 126, 0x40, 0][..], &[7; 16 << 10]].concat();
    for (version, budget) in [
        (&rustls::version::TLS13, BUDGET),
        (&rustls::version::TLS12, BUDGET_TLS_1_2),
    ] {
        let mut ends = Ends::new(version);
        let mut client = (*ends.client).clone();
        // Its memory is not what is measured.
        client.resumption = rustls::client::Resumption::disabled();
        ends.client = Arc::new(client);
        let table = TunnelTable::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut tunnel = |speaks: bool| {
            let (server, mut client) = connect(&ends);
            let pod = Silent {
                says: speaks.then(|| answer.clone().into()),
            };
            let mut tunnel = Box::pin(relay(
                Box::new(server.stream),
                Bytes::new(),
                pod,
                Bytes::new(),
                table.open(info.clone()),
                RelayConfig::default(),
            ));
            assert!(tunnel.as_mut().poll(&mut cx).is_pending());
            if speaks {
                server.wire.feed(&say(&mut client, &message));
                assert!(tunnel.as_mut().poll(&mut cx).is_pending());
                assert_eq!(hear(&mut client, &server.wire.take()), answer);
            }
            server.wire.pipe().to_server.shrink_to_fit();
            drop(server.wire.take());
            tunnel
        };
        // What all tunnels share is there already.
        drop((tunnel(true), tunnel(false)));
        let before = allocated();
        let wires: Vec<Wire> = (0..TUNNELS).map(|_| Wire::default()).collect();
        let socket = (allocated() - before) / TUNNELS;
        drop(wires);
        let mut measure = |speaks| {
            let mut tunnels = Vec::with_capacity(TUNNELS);
            let before = allocated();
            for _ in 0..TUNNELS {
                tunnels.push(tunnel(speaks));
            }
            (allocated() - before) / TUNNELS - socket - size_of::<Silent>()
        };
        // The table has grown to its size.
        measure(true);
        let idle = measure(false);
        println!("{idle} bytes an idle tunnel over {version:?}");
        let after = measure(true);
        println!("{after} bytes after a message of 16 KiB each way");
        assert!(idle <= budget, "{idle} bytes");
        assert!(after <= idle + 32, "{after} bytes after a message");
    }
}
