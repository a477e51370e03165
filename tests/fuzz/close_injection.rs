//! An end that somebody asks for, or a peer that goes, anywhere in any conversation: RFC 6455 holds
//! at both ends to the last byte.

use holdfast::websocket::{By, Cause, Side};

use crate::decode::{config, conversation, steps};
use crate::endpoint::{Leave, Manners};
use crate::input::Input;
use crate::judge::judge;
use crate::tunnel::{Ask, Moment, Peer, Plan};

/// What an operator or the proxy itself asks for.
const CAUSES: [Cause; 6] = [
    Cause::Drain,
    Cause::Idle,
    Cause::ListenerRemoved,
    Cause::Operator,
    Cause::RouteRemoved,
    Cause::Shutdown,
];

/// Returns why the tunnel ended.
///
/// # Panics
/// Where a peer gets what RFC 6455 forbids, or anything does not hold that must hold of every
/// tunnel.
pub fn check(bytes: &[u8]) -> &'static str {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    let config = config(&mut input);
    let offset = usize::from(input.word() % 4096);
    let side = if flags & 1 == 0 {
        Side::Client
    } else {
        Side::Pod
    };
    let cause = CAUSES[input.below(CAUSES.len())];
    let mut peer = |to| Peer {
        manners: Manners {
            script: conversation(to, &mut input),
            answers_pings: true,
            answers_close: true,
            ..Manners::default()
        },
        reads: steps(&mut input),
        writes: steps(&mut input),
        holds: flags & 2 != 0,
        early: usize::from(flags & 4),
    };
    let mut plan = Plan {
        config,
        client: peer(Side::Pod),
        pod: peer(Side::Client),
        ask: None,
        seed: 7,
    };
    match flags >> 4 {
        0..=7 => {
            let when = if flags & 8 == 0 {
                Moment::Heard(side, offset)
            } else {
                Moment::Turns(offset / 16)
            };
            let code = (cause == Cause::Operator).then_some(4000 + u16::from(flags));
            plan.ask = Some(Ask { when, cause, code });
        }
        leaves => {
            let peer = match side {
                Side::Client => &mut plan.client,
                Side::Pod => &mut plan.pod,
            };
            peer.manners.leaves = match leaves {
                8..=10 => Leave::Finishes,
                11..=13 => Leave::Resets,
                _ => Leave::Vanishes,
            };
            peer.manners.leaves_after = Some(offset);
        }
    }
    let played = judge(&plan, true);
    let asked = plan
        .ask
        .is_some_and(|ask| ask.cause == played.outcome.cause);
    if asked
        && played.outcome.by == By::Proxy
        && let Some(code) = plan.ask.and_then(|ask| ask.code)
    {
        let told = played.outcome.code;
        assert!(
            told.is_none() || told == Some(code) || played.has_closed(),
            "{told:?}"
        );
    }
    played.outcome.cause.as_str()
}
