//! What the tests need to have a tunnel at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::routing::{ListenerId, Origin, PodProtocol, RouteId, UpstreamId};
use holdfast::websocket::{Outcome, RelayConfig, TunnelInfo, TunnelTable, relay};
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::strict::Received;

/// A tunnel of the route `host/`.
pub(crate) fn info(host: &str) -> TunnelInfo {
    let name: Arc<str> = "test".into();
    TunnelInfo {
        route: Arc::new(RouteId {
            origin: Arc::new(Origin {
                kind: "Ingress",
                namespace: Arc::clone(&name),
                name: Arc::clone(&name),
            }),
            host: host.into(),
            path: "/".into(),
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
        endpoint: SocketAddr::from(([10, 0, 0, 1], 80)),
        client: SocketAddr::from(([192, 0, 2, 1], 40000)),
        http_version: http::Version::HTTP_11,
        request_id: None,
    }
}

const PATIENCE: Duration = Duration::from_secs(3600);

/// A tunnel in memory, and both ends of it.
pub(crate) struct Tunnel {
    pub(crate) table: TunnelTable,
    pub(crate) id: u64,
    pub(crate) client: WriteHalf<DuplexStream>,
    pub(crate) pod: WriteHalf<DuplexStream>,
    pub(crate) client_hears: ReadHalf<DuplexStream>,
    pub(crate) pod_hears: ReadHalf<DuplexStream>,
    pub(crate) relay: JoinHandle<Outcome>,
}

pub(crate) fn tunnel(capacity: usize, config: RelayConfig) -> Tunnel {
    let table = TunnelTable::new();
    let guard = table.open(info("a.example"));
    let id = guard.id();
    let (client, client_side) = duplex(capacity);
    let (pod_side, pod) = duplex(capacity);
    let none = Bytes::new;
    let relay = tokio::spawn(relay(client_side, none(), pod_side, none(), guard, config));
    let (client_hears, client) = split(client);
    let (pod_hears, pod) = split(pod);
    Tunnel {
        table,
        id,
        client,
        pod,
        client_hears,
        pod_hears,
        relay,
    }
}

/// All until the end of the stream.
pub(crate) async fn all(mut stream: ReadHalf<DuplexStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    bytes
}

pub(crate) async fn exactly(stream: &mut ReadHalf<DuplexStream>, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let read = stream.read_exact(&mut bytes);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    bytes
}

pub(crate) async fn ended(relay: JoinHandle<Outcome>) -> Outcome {
    timeout(PATIENCE, relay).await.unwrap().unwrap()
}

/// The code of the Close that a peer received.
pub(crate) fn told(received: &Received) -> Option<u16> {
    received.close.expect("a Close")
}
