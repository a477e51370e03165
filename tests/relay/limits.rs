//! Bounds for what a client may send, and for how long a tunnel may live.

use std::time::Duration;

use holdfast::routing::{MaxAge, MessageLimits};
use holdfast::websocket::{By, Cause, RelayConfig, Side};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::strict::{parse, write};
use crate::tunnels::{all, ended, exactly, told, tunnel};

fn limited(limits: MessageLimits) -> RelayConfig {
    RelayConfig {
        limits,
        ..RelayConfig::default()
    }
}

/// Cut at every offset, so that heads of frames come in pieces.
#[tokio::test(start_paused = true)]
async fn what_is_too_big_ends_with_1009_before_its_first_byte_is_forwarded() {
    let small = write(Side::Pod, true, 2, &[1; 200]);
    let first = write(Side::Pod, false, 2, &[2; 200]);
    let ping = write(Side::Pod, true, 9, b"between");
    let second = write(Side::Pod, true, 0, &[3; 200]);
    let big = write(Side::Pod, true, 2, &[4; 301]);
    let by_message = MessageLimits {
        message_size: Some(300),
        ..MessageLimits::default()
    };
    let by_frame = MessageLimits {
        frame_size: Some(300),
        ..MessageLimits::default()
    };
    let cases = [
        (by_message, vec![&small, &small, &first, &ping], &second),
        (by_message, vec![&small], &big),
        (by_frame, vec![&small, &first, &ping, &second], &big),
    ];
    for (limits, good, bad) in cases {
        let good: Vec<u8> = good.into_iter().flatten().copied().collect();
        let bytes = [&good[..], bad].concat();
        for cut in (0..bytes.len()).filter(|cut| cut % 13 == 0 || *cut + 20 > good.len()) {
            let mut t = tunnel(1 << 16, limited(limits));
            t.client.write_all(&bytes[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            t.client.write_all(&bytes[cut..]).await.unwrap();
            let (client_got, pod_got) = tokio::join!(all(t.client_hears), all(t.pod_hears));
            assert_eq!(pod_got[..good.len()], good, "cut at {cut}");
            let pod_got = parse(Side::Pod, &pod_got).unwrap();
            assert_eq!(
                (told(&pod_got), pod_got.torn),
                (Some(1001), 0),
                "cut at {cut}"
            );
            assert_eq!(told(&parse(Side::Client, &client_got).unwrap()), Some(1009));
            let outcome = ended(t.relay).await;
            assert_eq!(
                (outcome.cause, outcome.by),
                (Cause::MessageTooBig, By::Client)
            );
            assert_eq!(outcome.from_client.bytes, good.len() as u64);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_as_big_as_it_may_be_passes_and_pods_are_not_bounded() {
    let mut t = tunnel(
        1 << 16,
        limited(MessageLimits {
            message_size: Some(300),
            frame_size: Some(300),
            ..MessageLimits::default()
        }),
    );
    for size in [0, 1, 125, 126, 300] {
        let frame = write(Side::Pod, true, 2, &vec![1; size]);
        t.client.write_all(&frame).await.unwrap();
        assert_eq!(exactly(&mut t.pod_hears, frame.len()).await, frame);
    }
    let frame = write(Side::Client, true, 2, &[1; 70_000]);
    t.pod.write_all(&frame).await.unwrap();
    assert_eq!(exactly(&mut t.client_hears, frame.len()).await, frame);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_faster_is_slowed_down_and_loses_nothing() {
    for limits in [
        MessageLimits {
            messages_per_second: Some(10),
            ..MessageLimits::default()
        },
        MessageLimits {
            bytes_per_second: Some(2000),
            ..MessageLimits::default()
        },
    ] {
        let mut t = tunnel(256, limited(limits));
        let frame = write(Side::Pod, true, 2, &[7; 194]);
        assert_eq!(frame.len(), 200 + 2, "8 bytes of head");
        let all_frames = frame.repeat(200);
        let length = all_frames.len();
        let start = Instant::now();
        let sent = all_frames.clone();
        let client = tokio::spawn(async move {
            t.client.write_all(&sent).await.unwrap();
            t.client
        });
        // The other direction is as free as ever.
        let back = write(Side::Client, true, 2, &[1; 100]).repeat(500);
        let back_length = back.len();
        let pod = tokio::spawn(async move {
            t.pod.write_all(&back).await.unwrap();
            t.pod
        });
        exactly(&mut t.client_hears, back_length).await;
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(exactly(&mut t.pod_hears, length).await, all_frames);
        let took = start.elapsed().as_secs_f64();
        assert!(
            (17.0..23.0).contains(&took),
            "{took} s for what may take 20"
        );
        client.await.unwrap();
        pod.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn where_it_is_asked_for_a_client_that_sends_faster_is_closed() {
    let mut t = tunnel(
        1 << 16,
        limited(MessageLimits {
            messages_per_second: Some(5),
            closes: true,
            ..MessageLimits::default()
        }),
    );
    let frame = write(Side::Pod, true, 1, b"now");
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        t.client.write_all(&frame).await.unwrap();
        exactly(&mut t.pod_hears, frame.len()).await;
    }
    t.client.write_all(&frame.repeat(20)).await.unwrap();
    let (client_got, pod_got) = tokio::join!(all(t.client_hears), all(t.pod_hears));
    assert_eq!(told(&parse(Side::Client, &client_got).unwrap()), Some(1008));
    assert_eq!(told(&parse(Side::Pod, &pod_got).unwrap()), Some(1001));
    assert_eq!(ended(t.relay).await.cause, Cause::RateExceeded);
}

#[tokio::test(start_paused = true)]
async fn tunnels_end_at_their_age_spread_by_chance() {
    let start = Instant::now();
    let tunnels: Vec<_> = (0..100)
        .map(|_| {
            let config = RelayConfig {
                idle_timeout: None,
                max_age: Some(MaxAge {
                    duration: Duration::from_secs(1000),
                    jitter_percent: 20,
                }),
                ..RelayConfig::default()
            };
            let t = tunnel(1 << 10, config);
            tokio::spawn(async move {
                let got = all(t.client_hears).await;
                assert_eq!(told(&parse(Side::Client, &got).unwrap()), Some(1012));
                let outcome = ended(t.relay).await;
                assert_eq!((outcome.cause, outcome.by), (Cause::MaxAge, By::Proxy));
                drop((t.client, t.pod));
                outcome.duration
            })
        })
        .collect();
    let mut ages = Vec::new();
    for tunnel in tunnels {
        ages.push(tunnel.await.unwrap().as_secs());
    }
    ages.sort_unstable();
    assert!(ages[0] >= 800 && ages[99] <= 1000 + 11, "{ages:?}");
    assert!(ages[99] - ages[0] > 100, "{ages:?}");
    assert!(start.elapsed() < Duration::from_secs(1020));
}
