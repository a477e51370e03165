//! The tunnel table: counts that are true while everything moves, and ends that are spread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast::websocket::{By, Cause, CloseCode, RelayConfig, RouteTotals, Side, Traffic};
use holdfast::websocket::{TunnelTable, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::strict::{close, write};
use crate::tunnels::info;

/// A tunnel over which the client sends `messages` and closes, and the pod answers the Close.
async fn converse(table: TunnelTable, host: &'static str, messages: usize) {
    let (mut client, client_side) = duplex(256);
    let (pod_side, mut pod) = duplex(256);
    let none = Bytes::new;
    let guard = table.open(info(host));
    let config = RelayConfig::default();
    let relay = relay(client_side, none(), pod_side, none(), guard, config);
    let message = write(Side::Pod, true, 1, b"hello");
    let pod_reads = async {
        let mut bytes = vec![0; messages * message.len() + 8];
        pod.read_exact(&mut bytes).await.unwrap();
        pod.write_all(&close(Side::Client, 1000)).await.unwrap();
        drop(pod);
    };
    let client_writes = async {
        for _ in 0..messages {
            client.write_all(&message).await.unwrap();
        }
        client.write_all(&close(Side::Pod, 1000)).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        drop(client);
    };
    tokio::join!(relay, pod_reads, client_writes);
}

fn sum(totals: &[RouteTotals]) -> (u64, u64, u64, Traffic) {
    let mut sum = (0, 0, 0, Traffic::default());
    for route in totals {
        sum.0 += route.opened;
        sum.1 += route.open;
        sum.2 += route.endings.iter().map(|(_, count)| count).sum::<u64>();
        sum.3 += route.from_client;
        sum.3 += route.from_pod;
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn totals_never_go_back_and_end_as_the_truth() {
    const TUNNELS: usize = 400;
    let table = TunnelTable::new();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (table, stop) = (table.clone(), Arc::clone(&stop));
        move || {
            let mut last = sum(&[]);
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                let now = sum(&table.totals());
                assert_eq!(now.0, now.1 + now.2, "each tunnel is open or closed");
                assert!(now.0 >= last.0 && now.2 >= last.2);
                assert!(now.3.bytes >= last.3.bytes && now.3.text >= last.3.text);
                last = now;
                reads += 1;
            }
            reads
        }
    });
    let mut tasks = JoinSet::new();
    for n in 0..TUNNELS {
        let host = if n % 2 == 0 { "even" } else { "odd" };
        tasks.spawn(converse(table.clone(), host, n % 50));
    }
    let all = async { while tasks.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    assert!(table.is_empty() && table.list().is_empty());

    let totals: HashMap<String, RouteTotals> = table
        .totals()
        .into_iter()
        .map(|totals| (totals.route.host.to_string(), totals))
        .collect();
    assert_eq!(totals.len(), 2);
    for (host, first) in [("even", 0), ("odd", 1)] {
        let sent: u64 = (first..TUNNELS).step_by(2).map(|n| n as u64 % 50).sum();
        let totals = &totals[host];
        let tunnels = TUNNELS as u64 / 2;
        assert_eq!((totals.opened, totals.open), (tunnels, 0));
        assert_eq!(totals.from_client.text, sent);
        assert_eq!(totals.from_client.text_bytes, sent * 5);
        assert_eq!(totals.from_client.frames, sent + tunnels);
        assert_eq!(totals.from_client.bytes, sent * 11 + tunnels * 8);
        assert_eq!(totals.from_pod.bytes, tunnels * 4);
        let [(ending, count)] = totals.endings[..] else {
            panic!("all ended alike: {:?}", totals.endings);
        };
        assert_eq!(count, tunnels);
        assert_eq!((ending.cause, ending.by), (Cause::PeerClosed, By::Client));
        assert_eq!(ending.code, CloseCode::Registered(1000));
    }
    table.forget_routes(|route| &*route.host == "odd");
    assert_eq!(table.totals().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_says_what_a_tunnel_is_doing() {
    let table = TunnelTable::new();
    let (mut client, client_side) = duplex(64);
    let (pod_side, mut pod) = duplex(64);
    let none = Bytes::new;
    let guard = table.open(info("a.example"));
    let id = guard.id();
    let config = RelayConfig::default();
    let relay = tokio::spawn(relay(client_side, none(), pod_side, none(), guard, config));
    tokio::time::sleep(Duration::from_secs(20)).await;
    client
        .write_all(&write(Side::Pod, true, 1, b"x"))
        .await
        .unwrap();
    pod.read_exact(&mut [0; 7]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let [view] = &table.list()[..] else {
        panic!("one tunnel");
    };
    assert_eq!((view.id, view.from_client.text), (id, 1));
    assert_eq!((view.age.as_secs(), view.silent.as_secs()), (30, 10));
    assert_eq!((&*view.info.route.host, view.ending), ("a.example", None));
    assert!(table.end(id, Cause::Operator) && !table.end(id + 16, Cause::Operator));
    assert_eq!(table.list()[0].ending, Some(Cause::Operator));
    drop((client, pod));
    assert_eq!(relay.await.unwrap().id, id);
    table.wait_empty().await;
}

#[tokio::test]
async fn a_relay_that_is_dropped_leaves_the_table() {
    let table = TunnelTable::new();
    let (_client, client_side) = duplex(64);
    let (pod_side, _pod) = duplex(64);
    let none = Bytes::new;
    let guard = table.open(info("a.example"));
    let relay = relay(
        client_side,
        none(),
        pod_side,
        none(),
        guard,
        RelayConfig::default(),
    );
    assert_eq!(table.len(), 1);
    drop(relay);
    assert!(table.is_empty());
    assert_eq!(table.totals()[0].endings[0].0.cause, Cause::Dropped);
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_spread_evenly_and_takes_in_tunnels_that_open_meanwhile() {
    const TUNNELS: usize = 1000;
    const WINDOW: Duration = Duration::from_secs(20);
    let table = TunnelTable::new();
    let mut ends = JoinSet::new();
    let mut open = |host: &str| {
        let (client, client_side) = duplex(64);
        let (pod_side, pod) = duplex(64);
        let guard = table.open(info(host));
        let none = Bytes::new;
        let config = RelayConfig {
            idle_timeout: None,
            ..RelayConfig::default()
        };
        let relay = tokio::spawn(relay(client_side, none(), pod_side, none(), guard, config));
        ends.spawn(async move {
            let (mut client, mut pod) = (client, pod);
            let mut first = [0; 1];
            let read = client.read_exact(&mut first).await;
            let told = Instant::now();
            read.unwrap();
            for (peer, to) in [(&mut client, Side::Pod), (&mut pod, Side::Client)] {
                peer.write_all(&close(to, 1012)).await.unwrap();
                peer.shutdown().await.unwrap();
            }
            drop((client, pod));
            (told, relay.await.unwrap().cause)
        });
    };
    for _ in 0..TUNNELS {
        open("drained");
    }
    open("kept");
    let start = Instant::now();
    let mut drain =
        std::pin::pin!(table.drain(|info| &*info.route.host == "drained", WINDOW, Cause::Drain));
    for _ in 0..10 {
        let second = tokio::time::sleep(Duration::from_secs(1));
        tokio::select! {
            _ = &mut drain => panic!("before its window is over"),
            () = second => open("drained"),
        }
    }
    assert_eq!(drain.await, TUNNELS + 10);
    assert_eq!(start.elapsed(), WINDOW);
    let mut seconds = [0usize; 21];
    for _ in 0..TUNNELS + 10 {
        let (told, cause) = ends.join_next().await.unwrap().unwrap();
        assert_eq!(cause, Cause::Drain);
        seconds[told.duration_since(start).as_secs() as usize] += 1;
    }
    // The mean is 50 a second.
    let peak = seconds.into_iter().max().unwrap();
    assert!(peak <= 75, "{seconds:?}");
    assert!(
        seconds[..20].iter().all(|second| *second >= 25),
        "{seconds:?}"
    );
    assert_eq!(table.len(), 1);
    assert_eq!(&*table.list()[0].info.route.host, "kept");
    ends.abort_all();
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_a_window_asks_all_at_once() {
    let table = TunnelTable::new();
    let guards: Vec<_> = (0..100).map(|_| table.open(info("a"))).collect();
    let asked = table.drain(|_| true, Duration::ZERO, Cause::Shutdown).await;
    assert_eq!(asked, 100);
    let empty = tokio::spawn({
        let table = table.clone();
        async move { table.wait_empty().await }
    });
    tokio::task::yield_now().await;
    assert!(!empty.is_finished());
    drop(guards);
    empty.await.unwrap();
}
