//! Pings of the proxy's own: who is pinged, what is swallowed, who is dead.

use std::time::Duration;

use holdfast::routing::{Keepalive, MessageLimits};
use holdfast::websocket::{By, Cause, RelayConfig, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::strict::{parse, write};
use crate::tunnels::{Tunnel, all, ended, exactly, told, tunnel};

const INTERVAL: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(10);
/// A ping of the proxy's, toward a client and toward a pod: head, mask, payload.
const TO_CLIENT: usize = 2 + 12;
const TO_POD: usize = 2 + 4 + 12;

fn config(client: bool, pod: bool) -> RelayConfig {
    RelayConfig {
        keepalive: Some(Keepalive {
            interval: INTERVAL,
            timeout: TIMEOUT,
            client,
            pod,
        }),
        ..RelayConfig::default()
    }
}

/// Reads a ping and gives its payload.
async fn ping(to: Side, t: &mut Tunnel) -> Vec<u8> {
    let bytes = match to {
        Side::Client => exactly(&mut t.client_hears, TO_CLIENT).await,
        Side::Pod => exactly(&mut t.pod_hears, TO_POD).await,
    };
    let received = parse(to, &bytes).unwrap();
    assert_eq!(received.frames[0].opcode, 9, "{received:?}");
    received.frames[0].payload.clone()
}

#[tokio::test(start_paused = true)]
async fn a_living_silent_tunnel_outlives_its_idle_timeout_and_nobody_sees_the_pongs() {
    let mut t = tunnel(1 << 16, config(true, true));
    let start = Instant::now();
    for round in 1..=50_u32 {
        let client = ping(Side::Client, &mut t).await;
        let pong = write(Side::Pod, true, 10, &client);
        t.client.write_all(&pong).await.unwrap();
        let pod = ping(Side::Pod, &mut t).await;
        let pong = write(Side::Client, true, 10, &pod);
        t.pod.write_all(&pong).await.unwrap();
        assert_eq!(client[..8], pod[..8], "one key a tunnel");
        let least = (INTERVAL - INTERVAL / 10) * round;
        assert!(
            start.elapsed() >= least,
            "{:?} < {least:?}",
            start.elapsed()
        );
    }
    assert!(start.elapsed() > Duration::from_secs(600));
    let hello = write(Side::Pod, true, 1, b"hello");
    t.client.write_all(&hello).await.unwrap();
    assert_eq!(exactly(&mut t.pod_hears, hello.len()).await, hello);
    let views = t.table.list();
    assert!(views[0].client_round_trip.is_some() && views[0].pod_round_trip.is_some());
    assert_eq!(
        views[0].from_client.pongs, 0,
        "swallowed pongs are not the client's traffic"
    );
    for side in [Side::Client, Side::Pod] {
        assert_eq!(t.table.round_trips(side).count(), 50);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_peers_that_are_named_are_pinged() {
    for (side, dead) in [(Side::Client, By::Client), (Side::Pod, By::Pod)] {
        let mut t = tunnel(1 << 16, config(side == Side::Client, side == Side::Pod));
        ping(side, &mut t).await;
        let start = Instant::now();
        let (client_got, pod_got) = tokio::join!(all(t.client_hears), all(t.pod_hears));
        let (client_got, pod_got) = (
            parse(Side::Client, &client_got).unwrap(),
            parse(Side::Pod, &pod_got).unwrap(),
        );
        // The only frame that either sees is the Close.
        assert_eq!((client_got.frames.len(), pod_got.frames.len()), (1, 1));
        let outcome = ended(t.relay).await;
        assert_eq!((outcome.cause, outcome.by), (Cause::KeepaliveTimeout, dead));
        let code = if side == Side::Client { 1001 } else { 1011 };
        let other = if side == Side::Client {
            &pod_got
        } else {
            &client_got
        };
        assert_eq!((told(other), outcome.code), (Some(code), Some(code)));
        let took = start.elapsed();
        assert!(
            took >= TIMEOUT && took < TIMEOUT + Duration::from_secs(11),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_client_is_found_in_interval_and_timeout() {
    let mut t = tunnel(1 << 16, config(true, false));
    // It was there, and then not.
    let hello = write(Side::Pod, true, 1, b"hello");
    t.client.write_all(&hello).await.unwrap();
    exactly(&mut t.pod_hears, hello.len()).await;
    let gone = Instant::now();
    let close = all(t.pod_hears);
    let close = tokio::spawn(async move { (close.await, Instant::now()) });
    let (_, at) = tokio::time::timeout(Duration::from_secs(60), close)
        .await
        .unwrap()
        .unwrap();
    // The Close came with the end of the timeout; the end of the stream after the close timeout.
    let took = at - gone;
    assert!(
        took <= INTERVAL + TIMEOUT + Duration::from_secs(6),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn pings_wait_for_a_boundary_and_do_not_tear_a_frame() {
    let mut t = tunnel(1 << 16, config(true, true));
    let frame = write(Side::Client, true, 2, &[7; 1000]);
    t.pod.write_all(&frame[..500]).await.unwrap();
    exactly(&mut t.client_hears, 500).await;
    let toward_pod = ping(Side::Pod, &mut t).await;
    let pong = write(Side::Client, true, 10, &toward_pod);
    // The client's ping is due as well, and waits: the pod is in the middle of a frame.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let next = write(Side::Client, true, 1, b"next");
    let rest = [&frame[500..], &next, &pong].concat();
    t.pod.write_all(&rest).await.unwrap();
    let got = exactly(&mut t.client_hears, 500 + 4 + TO_CLIENT + next.len()).await;
    let whole = [&frame[..500], &got].concat();
    let received = parse(Side::Client, &whole).unwrap();
    let opcodes: Vec<u8> = received.frames.iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [2, 9, 1]);
}

#[tokio::test(start_paused = true)]
async fn our_pong_is_swallowed_however_it_is_cut_and_all_else_passes() {
    let parts: [(&str, Vec<u8>); 4] = [
        (
            "a ping of its own",
            write(Side::Pod, true, 9, b"are you there"),
        ),
        ("a pong of its own", write(Side::Pod, true, 10, b"unasked")),
        (
            "one as long as ours",
            write(Side::Pod, true, 10, b"twelve bytes"),
        ),
        ("text", write(Side::Pod, true, 1, b"hello")),
    ];
    let length = 2 + 4 + 12;
    let expected: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    for cut in 0..=expected.len() + length {
        let mut t = tunnel(1 << 16, config(true, false));
        let payload = ping(Side::Client, &mut t).await;
        let pong = write(Side::Pod, true, 10, &payload);
        let place = cut % parts.len();
        let mut bytes = Vec::new();
        for (number, (_, part)) in parts.iter().enumerate() {
            if number == place {
                bytes.extend_from_slice(&pong);
            }
            bytes.extend_from_slice(part);
        }
        t.client.write_all(&bytes[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        t.client.write_all(&bytes[cut..]).await.unwrap();
        let got = exactly(&mut t.pod_hears, expected.len()).await;
        assert_eq!(got, expected, "cut at {cut}");
        assert_eq!(t.table.round_trips(Side::Client).count(), 1, "cut at {cut}");
        let counted = t.table.list()[0].from_client;
        assert_eq!((counted.pongs, counted.pings, counted.text), (2, 1, 1));
        assert_eq!(counted.bytes, expected.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_is_not_pinged() {
    let mut t = tunnel(1 << 16, config(true, false));
    let text = write(Side::Pod, true, 1, b"tick");
    for _ in 0..100 {
        tokio::time::sleep(INTERVAL / 2).await;
        t.client.write_all(&text).await.unwrap();
        exactly(&mut t.pod_hears, text.len()).await;
    }
    let close = write(Side::Client, true, 8, &1000_u16.to_be_bytes());
    t.pod.write_all(&close).await.unwrap();
    // Nothing but the Close has ever come.
    let mut got = vec![0; close.len()];
    t.client_hears.read_exact(&mut got).await.unwrap();
    assert_eq!(got, close);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_dead_and_one_that_takes_slowly_is_not() {
    // It neither takes nor answers: the ping waits behind a blocked write.
    let mut t = tunnel(64, config(true, false));
    let flood = write(Side::Client, true, 2, &[1; 100_000]);
    let pod = tokio::spawn(async move {
        // An error is the end of the tunnel.
        let _ = t.pod.write_all(&flood).await;
        t.pod
    });
    let start = Instant::now();
    let outcome = ended(t.relay).await;
    assert_eq!(
        (outcome.cause, outcome.by),
        (Cause::KeepaliveTimeout, By::Client)
    );
    assert!(start.elapsed() <= INTERVAL + TIMEOUT + Duration::from_secs(11));
    pod.await.unwrap();

    // Slowly, without a word, for ten minutes.
    let mut t = tunnel(64, config(true, false));
    let flood = write(Side::Client, true, 2, &[1; 30_000]);
    let length = flood.len();
    let pod = tokio::spawn(async move {
        t.pod.write_all(&flood).await.unwrap();
        t.pod
    });
    let mut taken = 0;
    while taken < length {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let more = 300.min(length - taken);
        exactly(&mut t.client_hears, more).await;
        taken += more;
    }
    assert!(!t.relay.is_finished());
    pod.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_sent_a_long_frame_slowly_is_asked_behind_it_and_not_dead() {
    let mut t = tunnel(1 << 16, config(false, true));
    let frame = write(Side::Pod, true, 2, &[7; 100]);
    for byte in &frame {
        tokio::time::sleep(Duration::from_secs(1)).await;
        t.client.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(exactly(&mut t.pod_hears, frame.len()).await, frame);
    // Asked for the first time, it has the whole timeout.
    let payload = ping(Side::Pod, &mut t).await;
    tokio::time::sleep(TIMEOUT - Duration::from_millis(10)).await;
    let pong = write(Side::Client, true, 10, &payload);
    t.pod.write_all(&pong).await.unwrap();
    ping(Side::Pod, &mut t).await;
    let round_trip = t.table.list()[0].pod_round_trip.unwrap();
    assert!(
        round_trip < TIMEOUT,
        "{round_trip:?}, from when it was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_answer_waits_behind_a_slow_client_is_not_dead() {
    let mut t = tunnel(64, config(false, true));
    let words = write(Side::Client, true, 2, &[1; 300]);
    let length = words.len();
    let pod = tokio::spawn(async move {
        t.pod.write_all(&words).await.unwrap();
        t.pod
    });
    let asked = exactly(&mut t.pod_hears, TO_POD).await;
    let payload = parse(Side::Pod, &asked).unwrap().frames[0].payload.clone();
    let pong = tokio::spawn(async move {
        let mut pod = pod.await.unwrap();
        let pong = write(Side::Client, true, 10, &payload);
        pod.write_all(&pong).await.unwrap();
        pod
    });
    tokio::time::sleep(3 * TIMEOUT).await;
    exactly(&mut t.client_hears, length).await;
    pong.await.unwrap();
    // It has been heard, and the next ping comes in its time.
    exactly(&mut t.pod_hears, TO_POD).await;
    assert!(t.table.list()[0].pod_round_trip.unwrap() >= 3 * TIMEOUT);
}

/// A client that may send 100 bytes a second, and is pinged.
fn paced() -> RelayConfig {
    RelayConfig {
        limits: MessageLimits {
            bytes_per_second: Some(100),
            ..MessageLimits::default()
        },
        ..config(true, false)
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_from_because_it_was_too_fast_is_not_dead() {
    let mut t = tunnel(1 << 16, paced());
    // Not read from for 50 seconds, in which it is asked.
    let message = write(Side::Pod, true, 2, &[1; 5000]);
    t.client.write_all(&message).await.unwrap();
    exactly(&mut t.pod_hears, message.len()).await;
    let payload = ping(Side::Client, &mut t).await;
    let pong = write(Side::Pod, true, 10, &payload);
    t.client.write_all(&pong).await.unwrap();
    ping(Side::Client, &mut t).await;
    assert!(!t.relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_read_again_in_the_last_moment_has_the_whole_timeout() {
    let mut t = tunnel(64, config(true, false));
    // One fills the way to the pod, the other waits for it; nothing more is read of the client.
    let message = write(Side::Pod, true, 2, &[1; 58]);
    assert_eq!(message.len(), 64);
    t.client.write_all(&message).await.unwrap();
    t.client.write_all(&message).await.unwrap();
    let payload = ping(Side::Client, &mut t).await;
    tokio::time::sleep(TIMEOUT - Duration::from_millis(1)).await;
    exactly(&mut t.pod_hears, 2 * message.len()).await;
    tokio::time::sleep(TIMEOUT / 2).await;
    let pong = write(Side::Pod, true, 10, &payload);
    t.client.write_all(&pong).await.unwrap();
    ping(Side::Client, &mut t).await;
    assert!(!t.relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_pause_has_just_ended_has_the_whole_timeout() {
    let mut t = tunnel(1 << 16, paced());
    // It is asked after 18 to 20 seconds, and could be judged every 10 from then on: just after
    // the 48 seconds for which it is not read from.
    let start = Instant::now();
    let message = write(Side::Pod, true, 2, &[1; 4882]);
    t.client.write_all(&message).await.unwrap();
    exactly(&mut t.pod_hears, message.len()).await;
    let payload = ping(Side::Client, &mut t).await;
    let paused = Duration::from_millis(47_900);
    tokio::time::sleep_until(start + paused + TIMEOUT * 9 / 10).await;
    let pong = write(Side::Pod, true, 10, &payload);
    t.client.write_all(&pong).await.unwrap();
    ping(Side::Client, &mut t).await;
    assert!(!t.relay.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_could_not_be_asked_is_not_dead_for_a_moment_in_which_it_takes_nothing() {
    let mut t = tunnel(64, config(false, true));
    let message = write(Side::Pod, true, 2, &[1; 200]);
    let (begin, rest) = message.split_at(20);
    let (middle, end) = rest.split_at(60);
    let start = Instant::now();
    t.client.write_all(begin).await.unwrap();
    exactly(&mut t.pod_hears, begin.len()).await;
    // It is to be asked after 18 to 20 seconds, behind the message, and judged 10 later: in the four
    // seconds in which it has more to take than there is room for.
    tokio::time::sleep_until(start + Duration::from_millis(27_900)).await;
    t.client.write_all(middle).await.unwrap();
    t.client.write_all(&end[..60]).await.unwrap();
    tokio::time::sleep_until(start + Duration::from_secs(32)).await;
    exactly(&mut t.pod_hears, middle.len() + 60).await;
    t.client.write_all(&end[60..]).await.unwrap();
    exactly(&mut t.pod_hears, end.len() - 60).await;
    let payload = ping(Side::Pod, &mut t).await;
    let pong = write(Side::Client, true, 10, &payload);
    t.pod.write_all(&pong).await.unwrap();
    // And not a Close.
    ping(Side::Pod, &mut t).await;
}
