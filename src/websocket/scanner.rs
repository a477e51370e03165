//! Finds where frames and messages begin and end in one direction of a WebSocket.
//!
//! ```text
//! Head ─▶ Length ─▶ Extended (0, 2, 8) ─▶ Mask (0, 4) ─▶ Payload (countdown) ─▶ Head …
//!   ▲ the only place where a frame of our own may go in
//! ```
//!
//! Pure: no I/O, no buffer. It keeps a length, a mask key and a few flags, and reads nothing of
//! any payload but the two bytes of a Close frame's code.
//!
//! What breaks the peers' contract without hiding where the next frame begins is the peers' own
//! affair and passes: reserved bits and opcodes (an extension may have given them a meaning),
//! missing or superfluous masks, lengths that are not minimal, continuations of nothing. What
//! makes the next boundary uncertain, or is forbidden to every extension (RFC 6455 §5.2, §5.5: a
//! 64-bit length with its top bit set, a control frame that is fragmented or longer than 125
//! bytes), makes the scanner [broken](Scanner::is_broken): it takes no more bytes, and the relay
//! ends the tunnel with 1002.

use std::ops::AddAssign;

use super::frame::{CLOSE, CONTROL_MAX, FIN, MASK, PING, PONG, TEXT, is_control};

/// What passed in one direction. All counts start at 0 and only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes, headers included.
    pub bytes: u64,
    /// Complete frames of every kind.
    pub frames: u64,
    /// Complete text messages; one may have many frames.
    pub text: u64,
    /// Complete messages that are not text.
    pub binary: u64,
    /// Pings.
    pub pings: u64,
    /// Pongs.
    pub pongs: u64,
    /// Payload bytes of text messages, as on the wire (compressed, if they are).
    pub text_bytes: u64,
    /// Payload bytes of other messages, as on the wire.
    pub binary_bytes: u64,
}

impl Traffic {
    /// Complete messages of either kind.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.text + self.binary
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.frames += more.frames;
        self.text += more.text;
        self.binary += more.binary;
        self.pings += more.pings;
        self.pongs += more.pongs;
        self.text_bytes += more.text_bytes;
        self.binary_bytes += more.binary_bytes;
    }
}

/// Where a scan stops, if not at the end of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Behind a Close frame: nothing may follow it (RFC 6455 §5.5.1).
    AfterClose,
    /// At the next boundary between frames, or behind a Close frame.
    AtBoundary,
}

/// A scanner for one direction. Gives the same result however its input is cut.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// In `Payload`: bytes still to come. Before: the length as far as it has been read.
    left: u64,
    /// Mask key; kept only for Close frames.
    mask: [u8; 4],
    /// Code of the Close frame, as far as it has been read.
    code: u16,
    stage: Stage,
    /// First byte of the current frame's header: FIN, RSV1–3, opcode.
    head: u8,
    masked: bool,
    /// Payload bytes of the Close frame read so far, 2 at most.
    code_bytes: u8,
    /// Whether the message in progress, or the last one, is text.
    text: bool,
    closed: bool,
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next byte begins a frame.
    Head,
    /// The next byte holds the mask bit and the 7-bit length.
    Length,
    /// So many bytes of an extended length are still to come.
    Extended(u8),
    /// So many bytes of the mask key are still to come.
    Mask(u8),
    /// `left` bytes of payload are still to come; never 0.
    Payload,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            left: 0,
            mask: [0; 4],
            code: 0,
            stage: Stage::Head,
            head: 0,
            masked: false,
            code_bytes: 0,
            text: false,
            closed: false,
            broken: false,
        }
    }

    /// Scans `bytes`, adds what it sees to `traffic`, and returns how many bytes belong to the
    /// stream up to where it stopped.
    ///
    /// Fewer than all are returned only for the reason of `stop`, behind a Close frame, or when
    /// the scanner broke. In the last case the count ends before the offending frame if that
    /// frame's header began in `bytes`, so that the stream can be ended in good form there.
    pub fn scan(&mut self, bytes: &[u8], stop: Stop, traffic: &mut Traffic) -> usize {
        let mut at = 0;
        // Where the current frame began, if in these bytes.
        let mut began = None;
        while let Some(&byte) = bytes.get(at) {
            if self.closed || self.broken {
                break;
            }
            match self.stage {
                Stage::Head => {
                    began = Some(at);
                    self.head = byte;
                    self.stage = Stage::Length;
                    at += 1;
                }
                Stage::Length => {
                    self.length(byte);
                    at += 1;
                }
                Stage::Extended(more) => {
                    self.left = self.left << 8 | u64::from(byte);
                    match more {
                        1 => self.length_known(),
                        _ => self.stage = Stage::Extended(more - 1),
                    }
                    at += 1;
                }
                Stage::Mask(more) => {
                    if let Some(slot) = self.mask.get_mut(4 - usize::from(more)) {
                        *slot = byte;
                    }
                    match more {
                        1 => self.stage = Stage::Payload,
                        _ => self.stage = Stage::Mask(more - 1),
                    }
                    at += 1;
                }
                Stage::Payload => {}
            }
            if self.broken {
                if let Some(began) = began {
                    self.stage = Stage::Head;
                    at = began;
                }
                break;
            }
            if self.stage == Stage::Payload {
                at += self.payload(bytes.get(at..).unwrap_or_default(), traffic);
                if self.left == 0 {
                    self.frame_ends(traffic);
                    if stop == Stop::AtBoundary {
                        break;
                    }
                }
            }
        }
        traffic.bytes += at as u64;
        at
    }

    /// Whether the stream stands between two frames, so that a frame of our own may go in.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.stage == Stage::Head
    }

    /// Whether a Close frame has passed whole. Nothing is scanned behind it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The code of the Close frame that has passed; `None` if it had none.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        (self.closed && self.code_bytes == 2).then_some(self.code)
    }

    /// Whether the stream broke the rules in a way that no later boundary could be trusted.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn length(&mut self, byte: u8) {
        self.masked = byte & MASK != 0;
        let length = byte & !MASK;
        if is_control(self.head) && (self.head & FIN == 0 || usize::from(length) > CONTROL_MAX) {
            self.broken = true;
            return;
        }
        self.left = 0;
        match length {
            126 => self.stage = Stage::Extended(2),
            127 => self.stage = Stage::Extended(8),
            _ => {
                self.left = u64::from(length);
                self.length_known();
            }
        }
    }

    fn length_known(&mut self) {
        // "The most significant bit MUST be 0" (RFC 6455 §5.2).
        if self.left > i64::MAX as u64 {
            self.broken = true;
            return;
        }
        self.stage = if self.masked {
            Stage::Mask(4)
        } else {
            Stage::Payload
        };
        match self.opcode() {
            0x0 => {}
            opcode if is_control(opcode) => {}
            opcode => self.text = opcode == TEXT,
        }
    }

    /// Takes what `bytes` hold of the payload, and returns how many that are.
    fn payload(&mut self, bytes: &[u8], traffic: &mut Traffic) -> usize {
        let take = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if self.opcode() == CLOSE {
            self.read_code(bytes.get(..take).unwrap_or_default());
        }
        self.left -= take as u64;
        if !is_control(self.head) {
            if self.text {
                traffic.text_bytes += take as u64;
            } else {
                traffic.binary_bytes += take as u64;
            }
        }
        take
    }

    fn read_code(&mut self, payload: &[u8]) {
        for &byte in payload.iter().take(2 - usize::from(self.code_bytes.min(2))) {
            let key = match (self.masked, self.code_bytes) {
                (false, _) => 0,
                (true, 0) => self.mask[0],
                (true, _) => self.mask[1],
            };
            self.code = self.code << 8 | u16::from(byte ^ key);
            self.code_bytes += 1;
        }
    }

    fn frame_ends(&mut self, traffic: &mut Traffic) {
        self.stage = Stage::Head;
        traffic.frames += 1;
        match self.opcode() {
            CLOSE => self.closed = true,
            PING => traffic.pings += 1,
            PONG => traffic.pongs += 1,
            opcode if is_control(opcode) => {}
            _ if self.head & FIN == 0 => {}
            _ if self.text => traffic.text += 1,
            _ => traffic.binary += 1,
        }
    }

    fn opcode(&self) -> u8 {
        self.head & 0x0f
    }
}
