//! The relay on a simulated network and clock: a thousand tunnels between peers of all manners,
//! over links that delay, lose, hold up, reset and fall silent, under policies drawn by lot.
//!
//! ```text
//! client endpoint ─▶ link ─▶ relay ─▶ link ─▶ pod endpoint
//!        seed ─▶ manners, weather, policy, when an operator ends it
//! ```
//!
//! A failure prints its seed; `HOLDFAST_SIMULATION_SEED=17` plays that one alone. The same seed is
//! the same tunnel, to the millisecond.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]
#![allow(missing_debug_implementations)]

#[path = "../fuzz/decode.rs"]
#[allow(dead_code)]
mod decode;
#[path = "../fuzz/endpoint.rs"]
#[allow(dead_code)]
mod endpoint;
#[path = "../fuzz/framing.rs"]
#[allow(dead_code)]
mod framing;
#[path = "../fuzz/input.rs"]
#[allow(dead_code)]
mod input;
#[path = "../fuzz/judge.rs"]
#[allow(dead_code)]
mod judge;
mod link;
mod scene;
#[path = "../fuzz/socket.rs"]
#[allow(dead_code)]
mod socket;
#[path = "../relay/strict.rs"]
#[allow(dead_code)]
mod strict;
#[path = "../fuzz/tunnel.rs"]
#[allow(dead_code)]
mod tunnel;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const SEEDS: u64 = 1000;

#[test]
fn a_thousand_tunnels_keep_every_promise() {
    let mut causes = BTreeMap::new();
    let only: Option<u64> = std::env::var("HOLDFAST_SIMULATION_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| scene::play(seed))) {
            Ok(cause) => *causes.entry(cause).or_insert(0) += 1,
            Err(panic) => {
                eprintln!("play it again with HOLDFAST_SIMULATION_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    if only.is_none() {
        println!("{causes:?}");
        assert!(
            causes.len() >= 10,
            "the lots are too much alike: {causes:?}"
        );
    }
}
