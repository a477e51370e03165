//! The relay between two peers of any manners and any luck, under any policy.

use std::time::Duration;

use holdfast::websocket::{Cause, Side};

use crate::decode::{config, conversation, noise, peer};
use crate::input::Input;
use crate::judge::judge;
use crate::tunnel::{Ask, Moment, Plan};

/// Returns why the tunnel ended.
///
/// # Panics
/// Where anything does not hold that must hold of every tunnel.
pub fn check(bytes: &[u8]) -> &'static str {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    // Pings of ours cannot be told from noise, nor is it answered.
    let is_valid = flags & 7 != 7;
    let config = config(&mut input);
    let ask = (flags & 24 == 24).then(|| Ask {
        when: Moment::At(Duration::from_millis(u64::from(input.word() / 8))),
        cause: Cause::Drain,
        code: None,
    });
    let mut side = |to| {
        let script = if is_valid {
            conversation(to, &mut input)
        } else {
            noise(&mut input)
        };
        let mut peer = peer(script, &mut input);
        peer.manners.answers_pings &= is_valid;
        peer
    };
    let plan = Plan {
        config,
        client: side(Side::Pod),
        pod: side(Side::Client),
        ask,
        seed: 7,
    };
    judge(&plan, is_valid).outcome.cause.as_str()
}
