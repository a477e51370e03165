//! What an idle tunnel costs beside its two sockets, counted at the allocator.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]
#![expect(
    unsafe_code,
    reason = "a global allocator that counts cannot be had without"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use holdfast::routing::{
    Keepalive, ListenerId, MaxAge, MessageLimits, Origin, PodProtocol, RouteId, UpstreamId,
};
use holdfast::websocket::{RelayConfig, TunnelInfo, TunnelTable, relay};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

#[tokio::test]
async fn an_idle_tunnel_stays_within_its_budget_before_and_after_a_message() {
    const TUNNELS: usize = 10_000;
    const BUDGET: usize = 640;
    const WITH_ALL: usize = 960;
    let name: Arc<str> = "test".into();
    let info = TunnelInfo {
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
    };
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
