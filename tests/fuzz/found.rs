//! Cases that the fuzzer has found, made plain.

use std::time::Duration;

use holdfast::routing::Keepalive;
use holdfast::websocket::{Cause, RelayConfig, Side};

use crate::endpoint::Manners;
use crate::judge::judge;
use crate::socket::Step;
use crate::strict::write;
use crate::tunnel::{Ask, Moment, Peer, Plan};

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

/// The time to reach a boundary is up in the very instant in which it is reached, and the client is
/// not ready then: it gets its Close all the same, in the time that there is for its end.
#[test]
fn a_close_that_is_due_when_the_time_is_up_is_said() {
    let pod = Peer {
        manners: Manners {
            script: vec![write(Side::Client, true, 2, &[1; 61])],
            answers_close: true,
            ..Manners::default()
        },
        reads: vec![
            Step::Move(37),
            Step::Stall(Duration::from_secs(5)),
            Step::Move(50),
        ],
        ..Peer::default()
    };
    let client = Peer {
        manners: Manners {
            answers_close: true,
            ..Manners::default()
        },
        writes: [vec![Step::Move(100); 2], vec![Step::NotReady; 4]].concat(),
        ..Peer::default()
    };
    let plan = Plan {
        config: RelayConfig {
            close_timeout: Duration::from_secs(5),
            ..RelayConfig::default()
        },
        client,
        pod,
        ask: Some(Ask {
            when: Moment::Turns(0),
            cause: Cause::Drain,
            code: None,
        }),
        seed: 7,
    };
    assert!(judge(&plan, true).client.close_heard);
}
