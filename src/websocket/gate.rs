//! A direction that is looked at frame by frame: for our own pongs, for sizes, to put a frame in.
//!
//! ```text
//! bytes read ─▶ [head of the next frame, held until it is whole] ─┬─ our pong ─▶ swallowed
//!                                                                 ├─ too big ─▶ TooBig, nothing forwarded
//!  a frame of ours goes in before it ◀────────────────────────────┴─ else ─▶ scanner ─▶ forwarded
//! ```
//!
//! Most tunnels have no gate most of the time: one exists while a pong is awaited, while a frame of
//! ours waits for a boundary, or where sizes are bounded. Only heads of frames are held back, and
//! the 12 bytes of a pong that may be ours.

use std::borrow::Cow;

use super::frame::{FIN, MASK, PONG, is_control};
use super::scanner::{Scanner, Stop, Traffic};

/// The longest head of a frame (RFC 6455 §5.2).
const MAX_HEAD: usize = 14;
/// Payload bytes of our pings, and so of their pongs: the tunnel's key and a number.
pub(super) const PING_PAYLOAD: usize = 12;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// A frame of ours that goes in at the next boundary; empty = none.
    pub(super) insert: Vec<u8>,
    /// Pongs that begin with this key are ours.
    pub(super) awaits: Option<[u8; 8]>,
    bounds: SizeBounds,
    /// Payload of the message in progress so far.
    message: u64,
    /// Read, not scanned, not forwarded: the beginning of a frame.
    held: Vec<u8>,
}

/// Bounds in bytes; 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SizeBounds {
    pub(super) frame: u64,
    pub(super) message: u64,
}

/// What a gate found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The number of the last ping of ours that was answered.
    pub(super) pong: Option<u32>,
    /// The next frame is larger than it may be. It is not forwarded.
    pub(super) too_big: bool,
    /// The frame of ours that waited for a boundary has gone in.
    pub(super) inserted: bool,
}

/// The head of a frame.
struct Head {
    opcode: u8,
    is_final: bool,
    payload: u64,
    /// Bytes of the head itself.
    length: usize,
    mask: Option<[u8; 4]>,
}

impl Gate {
    /// Where sizes are bounded.
    pub(super) fn bounded(bounds: SizeBounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// Whether there is nothing that it is needed for.
    pub(super) fn is_idle(&self) -> bool {
        self.insert.is_empty()
            && self.awaits.is_none()
            && self.held.is_empty()
            && self.bounds == SizeBounds::default()
    }

    /// The beginning of a frame that was not forwarded.
    pub(super) fn into_held(self) -> Vec<u8> {
        self.held
    }

    /// What of `chunk`, and of what was held, goes on; and what of `chunk` lies behind the point
    /// where it stopped, if it did.
    pub(super) fn pass<'a>(
        &mut self,
        scanner: &mut Scanner,
        chunk: &'a [u8],
        stop: Stop,
        traffic: &mut Traffic,
        found: &mut Found,
    ) -> (Cow<'a, [u8]>, &'a [u8]) {
        let mut out = Out::new(chunk);
        let mut at = 0;
        loop {
            if scanner.is_closed() || scanner.is_broken() {
                break;
            }
            if scanner.at_boundary() {
                found.inserted |= !self.insert.is_empty();
                out.add(&std::mem::take(&mut self.insert));
                if stop == Stop::AtBoundary {
                    break;
                }
                match self.look(chunk.get(at..).unwrap_or_default(), found) {
                    Look::Incomplete => {
                        let rest = chunk.get(at..).unwrap_or_default();
                        self.held.extend_from_slice(rest);
                        at = chunk.len();
                        break;
                    }
                    Look::Swallow(length) => {
                        at += length.saturating_sub(self.held.len());
                        self.held.clear();
                        continue;
                    }
                    Look::TooBig => {
                        found.too_big = true;
                        break;
                    }
                    Look::Pass => {
                        let held = std::mem::take(&mut self.held);
                        let scanned = scanner.scan(&held, Stop::AtBoundary, traffic);
                        out.add(held.get(..scanned).unwrap_or_default());
                        if scanned < held.len() {
                            // It broke in what was held.
                            break;
                        }
                    }
                }
            }
            let rest = chunk.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let scanned = scanner.scan(rest, Stop::AtBoundary, traffic);
            out.take(at, scanned);
            at += scanned;
            if scanned == 0 {
                break;
            }
        }
        (out.finish(), chunk.get(at..).unwrap_or_default())
    }

    /// Looks at the frame that begins with what is held and goes on with `rest`.
    fn look(&mut self, rest: &[u8], found: &mut Found) -> Look {
        const LOOK: usize = MAX_HEAD + PING_PAYLOAD;
        let mut bytes = [0; LOOK];
        let mut length = 0;
        for (slot, byte) in bytes.iter_mut().zip(self.held.iter().chain(rest)) {
            *slot = *byte;
            length += 1;
        }
        let bytes = bytes.get(..length).unwrap_or_default();
        let Some(head) = Head::parse(bytes) else {
            return Look::Incomplete;
        };
        if head.opcode == PONG
            && head.is_final
            && head.payload == PING_PAYLOAD as u64
            && let Some(key) = self.awaits
        {
            let payload = bytes.get(head.length..head.length + PING_PAYLOAD);
            let Some(payload) = payload else {
                return Look::Incomplete;
            };
            if let Some(number) = number(payload, head.mask, key) {
                found.pong = Some(number);
                return Look::Swallow(head.length + PING_PAYLOAD);
            }
        }
        if !is_control(head.opcode) {
            let SizeBounds { frame, message } = self.bounds;
            if head.opcode != 0 {
                self.message = 0;
            }
            self.message = self.message.saturating_add(head.payload);
            if (frame > 0 && head.payload > frame) || (message > 0 && self.message > message) {
                return Look::TooBig;
            }
        }
        Look::Pass
    }
}

enum Look {
    /// More bytes are needed to tell.
    Incomplete,
    /// A pong of ours, of so many bytes.
    Swallow(usize),
    TooBig,
    Pass,
}

impl Head {
    /// `None` where `bytes` do not hold all of it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let extended = match second & !MASK {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let payload = match extended {
            0 => u64::from(second & !MASK),
            _ => bytes
                .get(2..2 + extended)?
                .iter()
                .fold(0, |payload: u64, byte| payload << 8 | u64::from(*byte)),
        };
        let (mask, length) = if second & MASK == 0 {
            (None, 2 + extended)
        } else {
            let mask = bytes.get(2 + extended..6 + extended)?.try_into().ok()?;
            (Some(mask), 6 + extended)
        };
        Some(Self {
            opcode: first & 0x0f,
            is_final: first & FIN != 0,
            payload,
            length,
            mask,
        })
    }
}

/// The number in the payload of a pong, if it is one of ours.
fn number(payload: &[u8], mask: Option<[u8; 4]>, key: [u8; 8]) -> Option<u32> {
    let mask = mask.unwrap_or_default();
    let mut plain = [0; PING_PAYLOAD];
    for ((slot, byte), mask) in plain.iter_mut().zip(payload).zip(mask.iter().cycle()) {
        *slot = byte ^ mask;
    }
    let (own, number) = plain.split_at(8);
    (own == key).then(|| {
        number
            .iter()
            .fold(0, |all, byte| all << 8 | u32::from(*byte))
    })
}

/// What is forwarded: a prefix of the chunk for as long as that is true, else bytes of its own.
struct Out<'a> {
    chunk: &'a [u8],
    plain: usize,
    own: Option<Vec<u8>>,
}

impl<'a> Out<'a> {
    fn new(chunk: &'a [u8]) -> Self {
        Self {
            chunk,
            plain: 0,
            own: None,
        }
    }

    fn own(&mut self) -> &mut Vec<u8> {
        let plain = self.chunk.get(..self.plain).unwrap_or_default();
        let room = self.chunk.len();
        self.own.get_or_insert_with(|| {
            let mut own = Vec::with_capacity(room + 64);
            own.extend_from_slice(plain);
            own
        })
    }

    /// Bytes that are not the chunk's.
    fn add(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.own().extend_from_slice(bytes);
        }
    }

    /// So many bytes of the chunk from `at`.
    fn take(&mut self, at: usize, length: usize) {
        if self.own.is_none() && at == self.plain {
            self.plain += length;
        } else if length > 0 {
            let bytes = self.chunk.get(at..at + length).unwrap_or_default();
            self.own().extend_from_slice(bytes);
        }
    }

    fn finish(self) -> Cow<'a, [u8]> {
        match self.own {
            Some(own) => Cow::Owned(own),
            None => Cow::Borrowed(self.chunk.get(..self.plain).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::websocket::frame;

    const KEY: [u8; 8] = *b"the key!";

    fn pong(number: u32, mask: Option<[u8; 4]>) -> Vec<u8> {
        let payload = [&KEY[..], &number.to_be_bytes()].concat();
        let mut out = Vec::new();
        frame::control(&mut out, PONG, &payload, mask);
        out
    }

    /// A frame of any kind and length, well-formed or not quite.
    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![4 => 0..126usize, 1 => 126..400usize, 1 => 65_536..65_600usize];
        (0..11u8, length, any::<Option<[u8; 4]>>(), any::<bool>()).prop_map(
            |(opcode, length, mask, fin)| {
                let is_control = opcode >= 8;
                let opcode = if opcode == frame::CLOSE { 2 } else { opcode };
                let length = if is_control { length.min(125) } else { length };
                let mut out = vec![opcode | if fin || is_control { FIN } else { 0 }];
                let bit = if mask.is_some() { MASK } else { 0 };
                match u16::try_from(length) {
                    Ok(short @ 0..=125) => out.push(bit | short as u8),
                    Ok(middle) => {
                        out.push(bit | 126);
                        out.extend(middle.to_be_bytes());
                    }
                    Err(_) => {
                        out.push(bit | 127);
                        out.extend((length as u64).to_be_bytes());
                    }
                }
                out.extend(mask.into_iter().flatten());
                out.resize(out.len() + length, 7);
                out
            },
        )
    }

    proptest! {
        /// Whatever comes, however it is cut: all but our own pongs passes in order, and a frame of
        /// ours goes in between two frames, once.
        #[test]
        fn all_but_our_pongs_passes_in_order(
            frames in vec((any_frame(), any::<bool>(), any::<Option<[u8; 4]>>()), 0..8),
            cuts in vec(1..300usize, 1..20),
            insert_at in 0..12usize,
        ) {
            let (mut sent, mut expected, mut boundaries) = (Vec::new(), Vec::new(), vec![0]);
            let mut pongs = 0;
            for (frame, is_before_pong, mask) in &frames {
                sent.extend_from_slice(frame);
                expected.extend_from_slice(frame);
                boundaries.push(expected.len());
                if *is_before_pong {
                    pongs += 1;
                    sent.extend(pong(pongs, *mask));
                }
            }
            let ours = b"<ours>".to_vec();
            let mut gate = Gate { awaits: Some(KEY), ..Gate::default() };
            let (mut scanner, mut traffic) = (Scanner::new(), Traffic::default());
            let (mut got, mut last, mut rest, mut chunks) = (Vec::new(), None, &sent[..], 0);
            while !rest.is_empty() {
                let (chunk, next) = rest.split_at(cuts[chunks % cuts.len()].min(rest.len()));
                if chunks == insert_at {
                    gate.insert = ours.clone();
                }
                let mut found = Found::default();
                let (out, behind) =
                    gate.pass(&mut scanner, chunk, Stop::AfterClose, &mut traffic, &mut found);
                prop_assert!(behind.is_empty() && !found.too_big);
                last = found.pong.or(last);
                got.extend_from_slice(&out);
                (rest, chunks) = (next, chunks + 1);
            }
            prop_assert_eq!(last, (pongs > 0).then_some(pongs));
            if let Some(at) = got.windows(ours.len()).position(|window| window == ours) {
                prop_assert!(boundaries.contains(&at), "{} in {:?}", at, boundaries);
                got.drain(at..at + ours.len());
            }
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(traffic.bytes, expected.len() as u64);
            prop_assert_eq!(traffic.frames, frames.len() as u64);
        }

        /// A bound holds for every cut, and nothing of the frame that breaks it passes.
        #[test]
        fn what_is_too_big_is_found_at_its_head(
            good in vec(0..=100usize, 0..5),
            cut in 1..40usize,
            is_masked: bool,
        ) {
            let frame = |length: usize| {
                let mut out = vec![FIN | 2];
                let bit = if is_masked { MASK } else { 0 };
                out.push(bit | length as u8);
                if is_masked {
                    out.extend([1, 2, 3, 4]);
                }
                out.resize(out.len() + length, 7);
                out
            };
            let expected: Vec<u8> = good.iter().flat_map(|length| frame(*length)).collect();
            let sent = [expected.clone(), frame(101)].concat();
            let mut gate = Gate::bounded(SizeBounds { frame: 0, message: 100 });
            let (mut scanner, mut traffic) = (Scanner::new(), Traffic::default());
            let (mut got, mut found) = (Vec::new(), Found::default());
            for chunk in sent.chunks(cut) {
                let (out, _) =
                    gate.pass(&mut scanner, chunk, Stop::AfterClose, &mut traffic, &mut found);
                got.extend_from_slice(&out);
                if found.too_big {
                    break;
                }
            }
            prop_assert!(found.too_big && scanner.at_boundary());
            prop_assert_eq!(got, expected);
        }
    }
}
