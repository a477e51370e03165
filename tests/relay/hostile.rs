//! Peers that do not play along: every tunnel still ends, in bounded time, and takes what can be
//! saved with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use holdfast::websocket::{By, Cause, Outcome, RelayConfig, Side, TunnelTable, relay};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, duplex, split};
use tokio::time::{Instant, advance, sleep};

use crate::strict::{close, parse, write};
use crate::tunnels::{all, ended, exactly, info, told, tunnel};

/// Talks without a pause, or not at all; takes all, or nothing any more.
struct Mock {
    floods: bool,
    writes_fail: bool,
}

impl AsyncRead for Mock {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.floods {
            return Poll::Pending;
        }
        let room = into.remaining();
        into.put_slice(&vec![0; room]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Mock {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(if self.writes_fail {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            Ok(bytes.len())
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_pauses_neither_starves_others_nor_holds_off_a_deadline() {
    let table = TunnelTable::new();
    let client = Mock {
        floods: true,
        writes_fail: false,
    };
    let pod = Mock {
        floods: false,
        writes_fail: false,
    };
    // It is inside a frame without end.
    let mut header = vec![0x82, 127];
    header.extend_from_slice(&(i64::MAX as u64).to_be_bytes());
    let guard = table.open(info("a.example"));
    let config = RelayConfig::default();
    let relay = relay(client, header.into(), pod, Bytes::new(), guard, config);
    let relay = tokio::spawn(relay);
    table.end_all(Cause::Shutdown);
    for _ in 0..12 {
        assert!(!relay.is_finished());
        // This task has its turn, though the relay is always ready.
        tokio::task::yield_now().await;
        advance(Duration::from_secs(1)).await;
        if relay.is_finished() {
            break;
        }
    }
    assert!(relay.is_finished());
    let outcome: Outcome = relay.await.unwrap();
    assert!(outcome.from_client.bytes > 32 << 10);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_takes_nothing_any_more_but_does_not_go_is_gone() {
    let table = TunnelTable::new();
    let (client, client_side) = duplex(1 << 10);
    let pod = Mock {
        floods: false,
        writes_fail: true,
    };
    let config = RelayConfig {
        idle_timeout: None,
        ..RelayConfig::default()
    };
    let guard = table.open(info("a.example"));
    let none = Bytes::new;
    let relay = tokio::spawn(relay(client_side, none(), pod, none(), guard, config));
    let start = Instant::now();
    let (client_hears, mut client) = split(client);
    client
        .write_all(&write(Side::Pod, true, 1, b"anybody there?"))
        .await
        .unwrap();
    let received = parse(Side::Client, &all(client_hears).await).unwrap();
    assert_eq!(told(&received), Some(1011));
    let outcome = ended(relay).await;
    assert_eq!((outcome.cause, outcome.by), (Cause::PodGone, By::Pod));
    assert!(start.elapsed() < Duration::from_secs(16));
}

#[tokio::test(start_paused = true)]
async fn noise_behind_a_close_does_not_keep_a_tunnel() {
    let mut t = tunnel(1 << 16, RelayConfig::default());
    t.client.write_all(&close(Side::Pod, 1000)).await.unwrap();
    let noise = tokio::spawn(async move {
        while t.client.write_all(b"noise").await.is_ok() {
            sleep(Duration::from_secs(10)).await;
        }
    });
    // The pod never answers; the client is answered for it.
    let received = parse(Side::Client, &all(t.client_hears).await).unwrap();
    assert_eq!(told(&received), Some(1000));
    drop(t.pod_hears);
    let outcome = ended(t.relay).await;
    assert_eq!((outcome.cause, outcome.by), (Cause::PeerClosed, By::Client));
    assert_eq!(outcome.code, Some(1000));
    assert!(outcome.duration <= Duration::from_secs(71));
    noise.abort();
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_close_ends_even_without_an_idle_timeout() {
    let config = RelayConfig {
        idle_timeout: None,
        ..RelayConfig::default()
    };
    let mut t = tunnel(1 << 16, config);
    t.pod.write_all(&close(Side::Client, 1000)).await.unwrap();
    let received = parse(Side::Pod, &all(t.pod_hears).await).unwrap();
    assert_eq!(told(&received), Some(1000), "answered for the client");
    let outcome = ended(t.relay).await;
    assert_eq!((outcome.cause, outcome.by), (Cause::PeerClosed, By::Pod));
    assert!(outcome.duration <= Duration::from_secs(71));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_shows_life_gets_the_last_words_of_a_pod_that_has_gone() {
    let table = TunnelTable::new();
    let guard = table.open(info("a.example"));
    let (client, client_side) = duplex(64);
    let (pod_side, mut pod) = duplex(1 << 16);
    let none = Bytes::new;
    let config = RelayConfig::default();
    let relay = tokio::spawn(relay(client_side, none(), pod_side, none(), guard, config));
    let words = write(Side::Client, true, 2, &[1; 10_000]);
    pod.write_all(&words).await.unwrap();
    pod.write_all(&close(Side::Client, 1000)).await.unwrap();
    drop(pod);
    let (client_hears, mut client) = split(client);
    for _ in 0..15 {
        sleep(Duration::from_secs(2)).await;
        let pong = write(Side::Pod, true, 10, b"");
        client.write_all(&pong).await.unwrap();
    }
    let got = all(client_hears).await;
    assert_eq!(got[..words.len()], words);
    assert_eq!(told(&parse(Side::Client, &got).unwrap()), Some(1000));
    drop(client);
    assert_eq!(ended(relay).await.cause, Cause::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_talks_on_without_end_does_not_keep_what_its_pod_has_left() {
    let mut t = tunnel(1 << 16, RelayConfig::default());
    // It says nothing more, but would take all.
    t.pod.shutdown().await.unwrap();
    let pod_hears = tokio::spawn(all(t.pod_hears));
    let start = Instant::now();
    let talk = tokio::spawn(async move {
        let message = write(Side::Pod, true, 1, b"and another thing");
        while t.client.write_all(&message).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let received = parse(Side::Client, &all(t.client_hears).await).unwrap();
    assert_eq!(told(&received), Some(1011));
    let outcome = ended(t.relay).await;
    assert_eq!(outcome.cause, Cause::PodGone);
    assert!(start.elapsed() <= Duration::from_secs(71));
    let received = parse(Side::Pod, &pod_hears.await.unwrap()).unwrap();
    assert_eq!(told(&received), Some(1001));
    talk.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_closed_and_gone_need_not_wait_for_the_client() {
    let mut t = tunnel(1 << 16, RelayConfig::default());
    t.client.write_all(&close(Side::Pod, 1000)).await.unwrap();
    exactly(&mut t.pod_hears, 8).await;
    t.pod.write_all(&close(Side::Client, 1000)).await.unwrap();
    let start = Instant::now();
    t.pod.shutdown().await.unwrap();
    assert_eq!(all(t.pod_hears).await, b"");
    assert!(start.elapsed() < Duration::from_secs(1));
    // The client stays for as long as it may.
    assert_eq!(ended(t.relay).await.cause, Cause::PeerClosed);
    assert_eq!(start.elapsed().as_secs(), 5);
    drop((t.client, t.client_hears));
}
