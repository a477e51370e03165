//! Any schedule of saying, cutting, reading, refusing and changing keys.

use std::fs;
use std::task::Poll;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::script::play;
use crate::wire::{End, Ends, connect, hear, said, say, suites};

#[derive(Clone, Debug)]
enum Step {
    ClientSays(usize),
    ClientChangesKeys,
    /// So much of what the client has said arrives.
    Arrives(usize),
    ServerReads(usize),
    ServerSays(usize),
    /// The client's side takes so much more.
    Room(usize),
    ServerFlushes,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..40_000_usize).prop_map(Step::ClientSays),
        (1..100_usize).prop_map(Step::ClientSays),
        Just(Step::ClientChangesKeys),
        (1..40_000_usize).prop_map(Step::Arrives),
        (1..60_usize).prop_map(Step::Arrives),
        (1..40_000_usize).prop_map(Step::ServerReads),
        (1..100_000_usize).prop_map(Step::ServerSays),
        (1..100_usize).prop_map(Step::ServerSays),
        (0..50_000_usize).prop_map(Step::Room),
        Just(Step::ServerFlushes),
    ]
}

fn count(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at % 253) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_is_heard(
        suite in any::<Index>(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let suites = suites();
        let suite = *suite.get(&suites);
        let (mut server, mut client) = connect(&Ends::of(suite));
        let (mut on_the_way, mut said_up, mut read) = (Vec::new(), 0, Vec::new());
        let (mut said_down, mut heard, mut asked) = (0, Vec::new(), 0);
        for step in steps {
            match step {
                Step::ClientSays(length) => {
                    on_the_way.extend(say(&mut client, &count(said_up, length)));
                    said_up += length;
                    asked = 0;
                }
                // No more in a row than anybody has a reason for.
                Step::ClientChangesKeys if suite.tls13().is_some() && asked < 32 => {
                    client.refresh_traffic_keys().unwrap();
                    on_the_way.extend(said(&mut client));
                    asked += 1;
                }
                Step::ClientChangesKeys => {}
                Step::Arrives(length) => {
                    let now = length.min(on_the_way.len());
                    server.wire.feed(&on_the_way.drain(..now).collect::<Vec<u8>>());
                }
                Step::ServerReads(room) => match server.read_once(room) {
                    Ok(data) => read.extend(data),
                    Err(end) => prop_assert!(matches!(end, End::Pending), "{end:?}"),
                },
                Step::ServerSays(length) => {
                    if let Poll::Ready(taken) = server.poll_write(&count(said_down, length)) {
                        said_down += taken.unwrap();
                    }
                }
                Step::Room(room) => server.wire.pipe().room = Some(room),
                Step::ServerFlushes => {
                    let _ = server.poll_flush();
                    heard.extend(hear(&mut client, &server.wire.take()));
                }
            }
        }
        client.send_close_notify();
        on_the_way.extend(said(&mut client));
        server.wire.feed(&on_the_way);
        let (rest, end) = server.read();
        prop_assert!(matches!(end, End::Closed), "{end:?}");
        read.extend(rest);
        prop_assert!(read == count(0, said_up));
        server.wire.pipe().room = None;
        prop_assert!(matches!(server.poll_shutdown(), Poll::Ready(Ok(()))));
        heard.extend(hear(&mut client, &server.wire.take()));
        prop_assert!(heard == count(0, said_down));
        prop_assert!(client.process_new_packets().unwrap().peer_has_closed());
    }

    #[test]
    fn nothing_comes_out_that_did_not_go_in(script in prop::collection::vec(any::<u8>(), 0..300)) {
        play(&script);
    }
}

/// What the fuzz target starts from: each kind of step once, between data and a look at all of it.
#[test]
fn every_seed_plays() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/tls_records");
    if std::env::var_os("HOLDFAST_GENERATE").is_some() {
        fs::create_dir_all(folder).unwrap();
        for kind in 0..12 {
            let steps = [
                0, 40, 3, kind, 5, 23, 1, 2, 3, 0, 0, 9, 30, 7, 255, 255, 8, 255, 11,
            ];
            fs::write(format!("{folder}/step_{kind}"), steps).unwrap();
        }
    }
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        play(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert_eq!(count, 12);
}
