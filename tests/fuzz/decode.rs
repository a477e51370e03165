//! Peers and policies out of any bytes.

use std::time::Duration;

use holdfast::routing::{Keepalive, MaxAge, MessageLimits};
use holdfast::websocket::{RelayConfig, Side};

use crate::endpoint::{Leave, Manners};
use crate::input::Input;
use crate::socket::Step;
use crate::strict::{close, write};
use crate::tunnel::Peer;

pub fn steps(input: &mut Input<'_>) -> Vec<Step> {
    (0..input.below(8)).map(|_| step(input)).collect()
}

fn step(input: &mut Input<'_>) -> Step {
    match input.byte() {
        0..=63 => Step::NotReady,
        byte @ 64..=127 => Step::Move(usize::from(byte) - 63),
        128..=191 => Step::Move(1 + usize::from(input.byte()) * 16),
        byte @ 192..=223 => Step::Stall(Duration::from_millis(u64::from(byte - 191) * 10)),
        byte => Step::Stall(Duration::from_millis(u64::from(byte - 223) * 400)),
    }
}

/// Messages of any number of fragments, control frames between them, and perhaps a Close.
pub fn conversation(to: Side, input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut is_inside = false;
    for number in 0..input.below(12) {
        // One may be longer than what is read at once; more would only take long.
        let most = if number == 0 { usize::MAX } else { 4096 };
        let (kind, size) = (input.byte(), size(input).min(most));
        let is_last = kind & 1 == 1;
        // No control frame is as long as the proxy's own pings.
        let control = vec![b'c'; if size == 12 { 11 } else { size.min(125) }];
        let filling = [b'a' + (number as u8 % 26)];
        frames.push(match (kind >> 1) % 8 {
            0 => write(to, true, 9, &control),
            1 => write(to, true, 10, &control),
            kind => {
                let opcode = match (is_inside, kind) {
                    (true, _) => 0,
                    (false, 2..=4) => 1,
                    (false, _) => 2,
                };
                is_inside = !is_last;
                write(to, is_last, opcode, &filling.repeat(size))
            }
        });
    }
    if input.byte() & 3 == 1 {
        let codes = [1000, 1001, 1011, 3000, 4000, 4999];
        frames.push(match input.below(codes.len() + 1) {
            0 => write(to, true, 8, b""),
            code => close(to, codes[code - 1]),
        });
    }
    frames
}

fn size(input: &mut Input<'_>) -> usize {
    match input.byte() {
        byte @ 0..=199 => usize::from(byte),
        byte @ 200..=253 => usize::from(byte) * 16,
        254 => 5000,
        _ => 33_000,
    }
}

/// Any bytes, cut into pieces.
pub fn noise(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let length = usize::from(input.byte());
    let bytes = input.take(length);
    bytes
        .chunks(1 + input.below(64))
        .map(<[u8]>::to_vec)
        .collect()
}

pub fn peer(script: Vec<Vec<u8>>, input: &mut Input<'_>) -> Peer {
    let flags = input.byte();
    let leaves = match flags >> 5 {
        0..=4 => Leave::Stays,
        5 => Leave::Finishes,
        6 => Leave::Resets,
        _ => Leave::Vanishes,
    };
    Peer {
        manners: Manners {
            script,
            answers_pings: flags & 1 == 0,
            answers_close: flags & 2 == 0,
            leaves,
            leaves_after: (flags & 4 != 0).then(|| usize::from(input.word() % 2048)),
        },
        reads: steps(input),
        writes: steps(input),
        holds: flags & 8 != 0,
        early: if flags & 16 == 0 {
            0
        } else {
            usize::from(input.byte())
        },
    }
}

pub fn config(input: &mut Input<'_>) -> RelayConfig {
    let flags = input.byte();
    let mut millis = |unit: u64| Duration::from_millis((1 + u64::from(input.byte())) * unit);
    RelayConfig {
        idle_timeout: (flags & 1 == 0).then(|| millis(300)),
        close_timeout: Duration::from_secs(5),
        keepalive: (flags & 6 != 0).then(|| Keepalive {
            interval: millis(20),
            timeout: millis(10),
            client: flags & 2 != 0,
            pod: flags & 4 != 0,
        }),
        max_age: (flags & 8 != 0).then(|| MaxAge {
            duration: millis(40),
            jitter_percent: 20,
        }),
        limits: limits(flags >> 4, input),
    }
}

fn limits(flags: u8, input: &mut Input<'_>) -> MessageLimits {
    let mut bound = |flag: u8| (flags & flag != 0).then(|| 1 + u64::from(input.byte()));
    MessageLimits {
        message_size: bound(1).map(|bound| bound * 8),
        frame_size: bound(2).map(|bound| bound * 4),
        messages_per_second: bound(4).map(|bound| bound as u32),
        bytes_per_second: bound(4).map(|bound| bound * 64),
        closes: flags & 8 != 0,
    }
}
