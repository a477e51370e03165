//! Cases that the fuzzer has found, made plain.

use std::time::Duration;

use holdfast::routing::Keepalive;
use holdfast::websocket::{Cause, RelayConfig, Side};

use crate::endpoint::Manners;
use crate::judge::judge;
use crate::socket::Step;
use crate::strict::write;
use crate::tunnel::{Peer, Plan};

/// One that takes what it is sent, slowly and through what holds it until a flush, is there, even if
/// it never says a word.
#[test]
fn a_client_that_takes_slowly_what_is_flushed_is_not_dead() {
    let frames = vec![write(Side::Client, true, 2, &[1; 200]); 10];
    let silent = Peer {
        writes: vec![Step::Move(5000), Step::Stall(Duration::from_secs(3))],
        holds: true,
        ..Peer::default()
    };
    let pod = Peer {
        manners: Manners {
            script: frames,
            ..Manners::default()
        },
        reads: vec![Step::Move(202)],
        ..Peer::default()
    };
    let plan = Plan {
        config: RelayConfig {
            keepalive: Some(Keepalive {
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(4),
                client: true,
                pod: false,
            }),
            ..RelayConfig::default()
        },
        client: silent,
        pod,
        ask: None,
        seed: 7,
    };
    let outcome = judge(&plan, true).outcome;
    assert_ne!(outcome.cause, Cause::KeepaliveTimeout);
}

/// A pod is not read from while its client's socket holds what could not be flushed. When that goes,
/// the time of the pod's answer begins anew.
#[test]
fn a_pod_whose_answer_waits_for_a_flush_is_not_dead() {
    let interval = Duration::from_millis(20);
    let timeout = Duration::from_millis(40);
    let slow = Peer {
        writes: vec![Step::Stall(Duration::from_millis(800))],
        holds: true,
        ..Peer::default()
    };
    let good = Peer {
        manners: Manners {
            script: vec![write(Side::Client, true, 2, &[1; 200])],
            answers_pings: true,
            answers_close: true,
            ..Manners::default()
        },
        reads: vec![Step::NotReady; 6],
        ..Peer::default()
    };
    let plan = Plan {
        config: RelayConfig {
            keepalive: Some(Keepalive {
                interval,
                timeout,
                client: false,
                pod: true,
            }),
            ..RelayConfig::default()
        },
        client: slow,
        pod: good,
        ask: None,
        seed: 7,
    };
    let outcome = judge(&plan, true).outcome;
    assert_ne!(outcome.cause, Cause::KeepaliveTimeout);
}
