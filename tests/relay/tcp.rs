//! Over real TCP, with a WebSocket library at both ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use holdfast::websocket::{By, Cause, Outcome, RelayConfig, TunnelTable, relay};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::tunnels::info;

type Socket = WebSocketStream<TcpStream>;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Two connected sockets.
pub(crate) async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// A client's and a pod's socket with a relay between them.
pub(crate) async fn sockets(table: &TunnelTable) -> (TcpStream, TcpStream, JoinHandle<Outcome>) {
    let (client, client_side) = connection().await;
    let (pod_side, pod) = connection().await;
    let relay = relay(
        client_side,
        Bytes::new(),
        pod_side,
        Bytes::new(),
        table.open(info("a.example")),
        RelayConfig::default(),
    );
    (client, pod, tokio::spawn(relay))
}

async fn peers(table: &TunnelTable) -> (Socket, Socket, JoinHandle<Outcome>) {
    let (client, pod, relay) = sockets(table).await;
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let client = WebSocketStream::from_raw_socket(client, Role::Client, Some(config));
    let pod = WebSocketStream::from_raw_socket(pod, Role::Server, Some(config));
    let (client, pod) = tokio::join!(client, pod);
    (client, pod, relay)
}

/// Echoes until the client closes.
async fn echo(mut pod: Socket) {
    while let Some(Ok(message)) = pod.next().await {
        if message.is_text() || message.is_binary() {
            pod.send(message).await.unwrap();
        }
    }
}

#[tokio::test]
async fn messages_of_all_sizes_are_echoed_and_counted() {
    let run = async {
        let table = TunnelTable::new();
        let (mut client, pod, relay) = peers(&table).await;
        let pod = tokio::spawn(echo(pod));
        let mut sent = 0;
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 64 << 20] {
            let payload: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let message = Message::Binary(payload.into());
            let (mut sink, mut stream) = client.split();
            // At the same time: nobody holds 64 MiB between the two.
            let (result, back) = tokio::join!(sink.send(message.clone()), stream.next());
            result.unwrap();
            assert!(back.unwrap().unwrap() == message, "{size}");
            client = sink.reunite(stream).unwrap();
            sent += size as u64;
        }
        client.send(Message::text("hello")).await.unwrap();
        assert_eq!(
            client.next().await.unwrap().unwrap(),
            Message::text("hello")
        );
        client.close(None).await.unwrap();
        while let Some(message) = client.next().await {
            message.unwrap();
        }
        pod.await.unwrap();
        let outcome = relay.await.unwrap();
        assert_eq!((outcome.cause, outcome.by), (Cause::PeerClosed, By::Client));
        for traffic in [outcome.from_client, outcome.from_pod] {
            assert_eq!((traffic.text, traffic.binary), (1, 8));
            assert_eq!((traffic.text_bytes, traffic.binary_bytes), (5, sent));
            assert_eq!(traffic.frames, 10);
        }
        assert!(table.is_empty());
    };
    tokio::time::timeout(PATIENCE, run).await.unwrap();
}
