//! How tunnels end: at every offset of a conversation, with slow peers and with dead ones. Both
//! ends are parsed by a peer that forgives nothing.
//!
//! The clock is paused: it moves only when nothing else can, so every deadline is exact and a
//! test that waits for what never comes ends at once.

use std::time::Duration;

use bytes::Bytes;
use holdfast::websocket::{By, Cause, RelayConfig, Side, TunnelTable, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

use crate::strict::{close, parse, write};
use crate::tunnels::{Tunnel, all, ended, exactly, info, told, tunnel};

/// A conversation toward `to`: fragments with control frames between them, every form of length,
/// empty frames. And its frame boundaries, 0 and the end included.
pub(crate) fn conversation(to: Side) -> (Vec<u8>, Vec<usize>) {
    let frames = [
        write(to, true, 1, b"hi"),
        write(to, false, 1, "grüße".as_bytes()),
        write(to, true, 9, &[b'p'; 125]),
        write(to, false, 0, b""),
        write(to, true, 10, b""),
        write(to, true, 0, b" from afar"),
        write(to, true, 2, &[7; 300]),
        write(to, true, 2, b""),
    ];
    let mut bytes = Vec::new();
    let mut boundaries = vec![0];
    for frame in frames {
        bytes.extend(frame);
        boundaries.push(bytes.len());
    }
    (bytes, boundaries)
}

pub(crate) fn boundary_from(boundaries: &[usize], offset: usize) -> usize {
    *boundaries.iter().find(|&&b| b >= offset).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_end_of_ours_is_well_formed_at_every_offset() {
    let (up, up_boundaries) = conversation(Side::Pod);
    let (down, down_boundaries) = conversation(Side::Client);
    for offset in 0..=up.len() {
        let down_offset = (offset * 7) % (down.len() + 1);
        let mut t = tunnel(1 << 16, RelayConfig::default());
        t.client.write_all(&up[..offset]).await.unwrap();
        t.pod.write_all(&down[..down_offset]).await.unwrap();
        let mut pod_got = exactly(&mut t.pod_hears, offset).await;
        let mut client_got = exactly(&mut t.client_hears, down_offset).await;

        assert!(t.table.end(t.id, Cause::Shutdown));
        assert!(
            !t.table.end(t.id, Cause::Operator),
            "the first cause counts"
        );
        tokio::task::yield_now().await;
        // The peers know nothing yet and go on, then answer what they are told.
        t.client.write_all(&up[offset..]).await.unwrap();
        t.client.write_all(&close(Side::Pod, 1001)).await.unwrap();
        t.pod.write_all(&down[down_offset..]).await.unwrap();
        t.pod.write_all(&close(Side::Client, 1001)).await.unwrap();
        t.pod.shutdown().await.unwrap();
        client_got.extend(all(t.client_hears).await);
        t.client.shutdown().await.unwrap();
        pod_got.extend(all(t.pod_hears).await);

        for (to, got, sent, boundaries, at) in [
            (Side::Pod, &pod_got, &up, &up_boundaries, offset),
            (
                Side::Client,
                &client_got,
                &down,
                &down_boundaries,
                down_offset,
            ),
        ] {
            let boundary = boundary_from(boundaries, at);
            assert_eq!(got[..boundary], sent[..boundary], "{to:?} {at}");
            let received = parse(to, got).unwrap_or_else(|e| panic!("{to:?} {at}: {e}"));
            assert_eq!((told(&received), received.torn), (Some(1001), 0));
            let close_frame = parse(to, &got[boundary..]).unwrap();
            assert_eq!(close_frame.frames.len(), 1, "{to:?} {at}: only our Close");
        }
        let outcome = ended(t.relay).await;
        assert_eq!((outcome.cause, outcome.by), (Cause::Shutdown, By::Proxy));
        assert_eq!(outcome.code, Some(1001));
        let boundary = boundary_from(&up_boundaries, offset) as u64;
        assert_eq!(outcome.from_client.bytes, boundary);
        assert!(outcome.duration < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_of_ours_waits_behind_blocked_writers_at_every_offset() {
    let (up, up_boundaries) = conversation(Side::Pod);
    for capacity in [1, 16, 100] {
        for offset in 0..=up.len() {
            let mut t = tunnel(capacity, RelayConfig::default());
            let client = async {
                t.client.write_all(&up[..offset]).await.unwrap();
                assert!(t.table.end(t.id, Cause::ListenerRemoved));
                t.client.write_all(&up[offset..]).await.unwrap();
                t.client.write_all(&close(Side::Pod, 1001)).await.unwrap();
                t.client
            };
            let pod = async {
                // Takes nothing until the relay, too, can take no more.
                tokio::time::sleep(Duration::from_secs(1)).await;
                all(t.pod_hears).await
            };
            let (client, pod_got, client_got) = tokio::join!(client, pod, all(t.client_hears));
            drop(client);
            let received = parse(Side::Pod, &pod_got).unwrap();
            assert_eq!((told(&received), received.torn), (Some(1001), 0));
            let boundary = received.frames.iter().rev().skip(1).count();
            let boundary = up_boundaries[boundary];
            assert_eq!(pod_got[..boundary], up[..boundary]);
            assert!(boundary >= offset.saturating_sub(capacity) || boundary == up.len());
            assert_eq!(told(&parse(Side::Client, &client_got).unwrap()), Some(1001));
            drop(t.pod);
            assert_eq!(ended(t.relay).await.cause, Cause::ListenerRemoved);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_is_told_to_the_other_at_every_boundary_and_never_inside_a_frame() {
    for gone in [Side::Client, Side::Pod] {
        let to = gone.other();
        let (bytes, boundaries) = conversation(to);
        for offset in 0..=bytes.len() {
            let Tunnel {
                client,
                pod,
                client_hears,
                pod_hears,
                relay,
                ..
            } = tunnel(1 << 16, RelayConfig::default());
            let (mut goes, goes_hears, mut stays, stays_hears) = match gone {
                Side::Client => (client, client_hears, pod, pod_hears),
                Side::Pod => (pod, pod_hears, client, client_hears),
            };
            goes.write_all(&bytes[..offset]).await.unwrap();
            drop((goes, goes_hears));
            let got = all(stays_hears).await;
            assert_eq!(got[..offset], bytes[..offset]);
            let received = parse(to, &got).unwrap();
            let code = match gone {
                Side::Client => 1001,
                Side::Pod => 1011,
            };
            let at_boundary = boundaries.contains(&offset);
            if at_boundary {
                assert_eq!(
                    (told(&received), received.torn),
                    (Some(code), 0),
                    "{offset}"
                );
            } else {
                assert_eq!(got.len(), offset, "no byte is made up");
            }
            stays.shutdown().await.unwrap();
            let outcome = ended(relay).await;
            assert!(outcome.duration < Duration::from_secs(1), "without a wait");
            let cause = match gone {
                Side::Client => Cause::ClientGone,
                Side::Pod => Cause::PodGone,
            };
            assert_eq!((outcome.cause, outcome.by), (cause, gone.into()));
            assert_eq!(outcome.code, at_boundary.then_some(code));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_of_the_idle_timeout_ends_with_1001_and_a_ping_is_not_silence() {
    let start = Instant::now();
    let mut t = tunnel(1 << 16, RelayConfig::default());
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(59)).await;
        let ping = write(Side::Pod, true, 9, b"");
        t.client.write_all(&ping).await.unwrap();
        exactly(&mut t.pod_hears, ping.len()).await;
    }
    let mut got = [0];
    t.client_hears.read_exact(&mut got).await.unwrap();
    let ended_after = start.elapsed();
    assert!(ended_after >= Duration::from_secs(5 * 59 + 60));
    assert!(ended_after < Duration::from_secs(5 * 59 + 61));

    // The peers never answer; after the close timeout the connections end all the same.
    let (client_got, pod_got) = tokio::join!(all(t.client_hears), all(t.pod_hears));
    let client_got = [&got[..], &client_got].concat();
    assert_eq!(told(&parse(Side::Client, &client_got).unwrap()), Some(1001));
    assert_eq!(told(&parse(Side::Pod, &pod_got).unwrap()), Some(1001));
    let outcome = ended(t.relay).await;
    assert_eq!((outcome.cause, outcome.code), (Cause::Idle, Some(1001)));
    assert!(start.elapsed() < ended_after + Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_timeout_silence_lasts() {
    let config = RelayConfig {
        idle_timeout: None,
        ..RelayConfig::default()
    };
    let mut t = tunnel(1 << 16, config);
    tokio::time::sleep(Duration::from_secs(90 * 86_400)).await;
    let hello = write(Side::Client, true, 1, b"still here");
    t.pod.write_all(&hello).await.unwrap();
    assert_eq!(exactly(&mut t.client_hears, hello.len()).await, hello);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_never_ends_is_cut_after_the_close_timeout() {
    let mut t = tunnel(1 << 16, RelayConfig::default());
    let frame = write(Side::Pod, true, 2, &[1; 1000]);
    t.client.write_all(&frame[..500]).await.unwrap();
    exactly(&mut t.pod_hears, 500).await;
    let start = Instant::now();
    t.table.end(t.id, Cause::Drain);
    let (client_got, pod_got) = tokio::join!(all(t.client_hears), all(t.pod_hears));
    assert_eq!(told(&parse(Side::Client, &client_got).unwrap()), Some(1012));
    assert!(pod_got.is_empty(), "the end of the stream and no Close");
    assert_eq!(start.elapsed().as_secs(), 5);
    let outcome = ended(t.relay).await;
    assert_eq!(outcome.cause, Cause::Drain);
    assert!(start.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_cut_in_bounded_time() {
    let mut t = tunnel(64, RelayConfig::default());
    let flood = write(Side::Client, true, 2, &[1; 100_000]);
    let pod = tokio::spawn(async move {
        let _ = t.pod.write_all(&flood).await;
        t.pod
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    t.table.end(t.id, Cause::Shutdown);
    let outcome = ended(t.relay).await;
    assert_eq!(outcome.cause, Cause::Shutdown);
    assert!(start.elapsed() <= Duration::from_secs(11));
    drop((t.client, t.client_hears, t.pod_hears, pod.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn the_peers_own_close_passes_and_the_ends_follow() {
    for (first, by) in [(Side::Client, By::Client), (Side::Pod, By::Pod)] {
        let mut t = tunnel(1 << 16, RelayConfig::default());
        let start = Instant::now();
        let (ask, answer) = (close(first.other(), 4321), close(first, 4321));
        let noise = write(first.other(), true, 1, b"noise");
        match first {
            Side::Client => {
                // Nothing may follow a Close; this client does not know.
                t.client
                    .write_all(&[&ask[..], &noise].concat())
                    .await
                    .unwrap();
                assert_eq!(exactly(&mut t.pod_hears, ask.len()).await, ask);
                t.pod.write_all(&answer).await.unwrap();
            }
            Side::Pod => {
                t.pod.write_all(&[&ask[..], &noise].concat()).await.unwrap();
                assert_eq!(exactly(&mut t.client_hears, ask.len()).await, ask);
                t.client.write_all(&answer).await.unwrap();
            }
        }
        // The server ends the connection to the client without waiting for it.
        let rest = all(t.client_hears).await;
        assert_eq!(
            rest,
            if first == Side::Client {
                answer
            } else {
                vec![]
            }
        );
        assert!(start.elapsed() < Duration::from_secs(1));
        t.client.shutdown().await.unwrap();
        all(t.pod_hears).await;
        t.pod.shutdown().await.unwrap();
        let outcome = ended(t.relay).await;
        assert_eq!((outcome.cause, outcome.by), (Cause::PeerClosed, by));
        assert_eq!(outcome.code, Some(4321));
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_without_answering_a_close_has_it_answered_for_it() {
    let mut t = tunnel(1 << 16, RelayConfig::default());
    t.client.write_all(&close(Side::Pod, 1000)).await.unwrap();
    exactly(&mut t.pod_hears, 8).await;
    drop((t.pod, t.pod_hears));
    let received = parse(Side::Client, &all(t.client_hears).await).unwrap();
    assert_eq!(told(&received), Some(1000));
    drop(t.client);
    let outcome = ended(t.relay).await;
    assert_eq!((outcome.cause, outcome.by), (Cause::PeerClosed, By::Client));
    assert_eq!(outcome.code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_says_after_the_client_stopped_talking_still_arrives() {
    let mut t = tunnel(1 << 16, RelayConfig::default());
    t.client.shutdown().await.unwrap();
    let told_pod = parse(Side::Pod, &all(t.pod_hears).await).unwrap();
    assert_eq!(told(&told_pod), Some(1001));
    let last_words = write(Side::Client, true, 1, b"last words");
    for _ in 0..3 {
        t.pod.write_all(&last_words).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    t.pod.write_all(&close(Side::Client, 1001)).await.unwrap();
    drop(t.pod);
    let received = parse(Side::Client, &all(t.client_hears).await).unwrap();
    assert_eq!((received.frames.len(), told(&received)), (4, Some(1001)));
    assert_eq!(ended(t.relay).await.cause, Cause::ClientGone);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_the_framing_is_told_1002() {
    // A fragmented ping, whole in one write: the pod never sees it.
    let mut t = tunnel(1 << 16, RelayConfig::default());
    let good = write(Side::Pod, true, 1, b"good");
    let bad = write(Side::Pod, false, 9, b"");
    t.client
        .write_all(&[&good[..], &bad].concat())
        .await
        .unwrap();
    let (client_got, pod_got) = tokio::join!(
        async {
            let got = all(t.client_hears).await;
            drop(t.client);
            got
        },
        async {
            let mut got = exactly(&mut t.pod_hears, good.len()).await;
            got.extend(all(t.pod_hears).await);
            drop(t.pod);
            got
        }
    );
    assert_eq!(told(&parse(Side::Client, &client_got).unwrap()), Some(1002));
    assert_eq!(pod_got[..good.len()], good);
    assert_eq!(told(&parse(Side::Pod, &pod_got).unwrap()), Some(1001));
    let outcome = ended(t.relay).await;
    assert_eq!(
        (outcome.cause, outcome.by),
        (Cause::ProtocolError, By::Client)
    );
    assert_eq!(outcome.code, Some(1002));

    // A length with its top bit set, in pieces: half of its header is with the client already.
    let mut t = tunnel(1 << 16, RelayConfig::default());
    t.pod.write_all(&[0x82, 127]).await.unwrap();
    exactly(&mut t.client_hears, 2).await;
    t.pod.write_all(&[0xff; 20]).await.unwrap();
    let told_pod = parse(Side::Pod, &all(t.pod_hears).await).unwrap();
    assert_eq!(told(&told_pod), Some(1002));
    drop((t.client, t.pod));
    let outcome = ended(t.relay).await;
    assert_eq!((outcome.cause, outcome.by), (Cause::ProtocolError, By::Pod));
}

#[tokio::test(start_paused = true)]
async fn bytes_read_with_the_handshake_come_first() {
    let table = TunnelTable::new();
    let (mut client, client_side) = duplex(64);
    let (pod_side, mut pod) = duplex(64);
    let up = write(Side::Pod, true, 1, &[b'u'; 200]);
    let down = write(Side::Client, true, 1, &[b'd'; 200]);
    let relay = tokio::spawn(relay(
        client_side,
        Bytes::copy_from_slice(&up[..150]),
        pod_side,
        Bytes::copy_from_slice(&down[..150]),
        table.open(info("a.example")),
        RelayConfig::default(),
    ));
    let (mut at_pod, mut at_client) = (vec![0; up.len()], vec![0; down.len()]);
    tokio::join!(
        async { client.write_all(&up[150..]).await.unwrap() },
        async { pod.read_exact(&mut at_pod).await.unwrap() },
    );
    tokio::join!(
        async { pod.write_all(&down[150..]).await.unwrap() },
        async { client.read_exact(&mut at_client).await.unwrap() },
    );
    assert_eq!((at_pod, at_client), (up, down));
    drop((client, pod));
    let outcome = ended(relay).await;
    assert_eq!((outcome.from_client.text, outcome.from_pod.text), (1, 1));
}
