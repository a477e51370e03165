//! Over real TCP, with a WebSocket library at both ends or with bare sockets.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use holdfast::websocket::{By, Cause, Outcome, RelayConfig, Side, TunnelTable, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::strict::{close, parse, write};
use crate::tunnels::info;

type Socket = WebSocketStream<TcpStream>;

const PATIENCE: Duration = Duration::from_secs(30);

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
    limited(async {
        let table = TunnelTable::new();
        let (mut client, pod, relay) = peers(&table).await;
        let pod = tokio::spawn(echo(pod));
        let mut sent = 0;
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 4 << 20] {
            let payload: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let message = Message::Binary(payload.into());
            let (mut sink, mut stream) = client.split();
            // At the same time: nobody holds so much between the two.
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
    })
    .await;
}

/// Runs a test under a time limit.
async fn limited<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(PATIENCE, test).await.unwrap()
}

async fn all(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[tokio::test]
async fn a_library_understands_our_close_frames() {
    limited(async {
        for (cause, code) in [
            (Cause::Shutdown, CloseCode::Away),
            (Cause::Drain, CloseCode::Restart),
        ] {
            let table = TunnelTable::new();
            let (mut client, mut pod, relay) = peers(&table).await;
            table.end_all(cause);
            // Both libraries answer by themselves.
            for peer in [&mut client, &mut pod] {
                let Message::Close(Some(frame)) = peer.next().await.unwrap().unwrap() else {
                    panic!("a Close with a code");
                };
                assert_eq!((frame.code, frame.reason.as_str()), (code, cause.reason()));
            }
            while let Some(message) = client.next().await {
                message.unwrap();
            }
            drop((client, pod));
            assert_eq!(relay.await.unwrap().cause, cause);
        }
    })
    .await;
}

#[tokio::test]
async fn connections_end_without_a_reset_though_the_client_talks_on() {
    limited(async {
        let table = TunnelTable::new();
        let (mut client, mut pod, relay) = sockets(&table).await;
        table.end_all(Cause::Shutdown);
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        // Unread bytes on our side would make the kernel reset the connection.
        let chatter = write(Side::Pod, true, 2, &[5; 60_000]);
        for _ in 0..10 {
            client.write_all(&chatter).await.unwrap();
        }
        client.write_all(&close(Side::Pod, 1001)).await.unwrap();
        let rest = all(&mut client).await.expect("an end and no reset");
        let received = parse(Side::Client, &[&head[..], &rest].concat()).unwrap();
        assert_eq!(received.close, Some(Some(1001)));
        client.shutdown().await.unwrap();
        // The pod, too, is told, and ends first as a server does.
        let mut told = vec![0; 2 + 4 + 2 + Cause::Shutdown.reason().len()];
        pod.read_exact(&mut told).await.unwrap();
        let received = parse(Side::Pod, &told).unwrap();
        assert_eq!(received.close, Some(Some(1001)));
        pod.write_all(&close(Side::Client, 1001)).await.unwrap();
        pod.shutdown().await.unwrap();
        assert_eq!(all(&mut pod).await.expect("an end and no reset"), b"");
        let outcome = relay.await.unwrap();
        assert_eq!(
            (outcome.cause, outcome.from_client.bytes),
            (Cause::Shutdown, 0)
        );
    })
    .await;
}

#[tokio::test]
async fn a_pod_killed_between_and_inside_frames() {
    limited(async {
        for inside in [false, true] {
            let table = TunnelTable::new();
            let (mut client, mut pod, relay) = sockets(&table).await;
            let frame = write(Side::Client, true, 2, &[3; 5000]);
            let said = if inside { &frame[..4000] } else { &frame };
            pod.write_all(said).await.unwrap();
            let mut got = vec![0; said.len()];
            client.read_exact(&mut got).await.unwrap();
            // With this the kernel resets the connection, as when a process is killed over
            // unread bytes.
            pod.set_zero_linger().unwrap();
            drop(pod);
            got.extend(all(&mut client).await.expect("an end and no reset"));
            let received = parse(Side::Client, &got).unwrap();
            if inside {
                assert_eq!(got, said, "no byte is made up");
            } else {
                assert_eq!(received.close, Some(Some(1011)));
            }
            drop(client);
            let outcome = relay.await.unwrap();
            assert_eq!((outcome.cause, outcome.by), (Cause::PodGone, By::Pod));
            assert_eq!(outcome.code, (!inside).then_some(1011));
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_peer_and_not_our_memory() {
    const MIB: u64 = 1 << 20;
    limited(async {
        for slow in [Side::Client, Side::Pod] {
            let table = TunnelTable::new();
            let (client, pod, relay) = sockets(&table).await;
            let (mut reader, mut writer) = match slow {
                Side::Client => (client, pod),
                Side::Pod => (pod, client),
            };
            // A header of one frame of 128 MiB, and as many zeros: masked or not, as you like.
            let mut header = vec![0x82, 127];
            header.extend_from_slice(&(128 * MIB).to_be_bytes());
            let size = header.len() as u64 + 128 * MIB;
            let writing = tokio::spawn(async move {
                writer.write_all(&header).await.unwrap();
                let zeros = vec![0; MIB as usize];
                for _ in 0..128 {
                    writer.write_all(&zeros).await.unwrap();
                }
                writer
            });
            let taken = || {
                let view = table.list().remove(0);
                view.from_client.bytes + view.from_pod.bytes
            };
            // Until it stands still: buffers of the kernel are full, and ours.
            let mut before = (0, 0);
            while before.0 == 0 || before.1 < 5 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let now = taken();
                before = (now, if now == before.0 { before.1 + 1 } else { 0 });
            }
            assert!(before.0 < 64 * MIB, "{} MiB", before.0 / MIB);
            assert!(!writing.is_finished());
            let mut got = 0;
            let mut buffer = vec![0; MIB as usize];
            while got < size {
                got += reader.read(&mut buffer).await.unwrap() as u64;
            }
            assert_eq!(got, size);
            drop((reader, writing.await.unwrap()));
            relay.await.unwrap();
        }
    })
    .await;
}
