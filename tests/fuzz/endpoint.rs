//! A WebSocket endpoint without a socket: what it says next, and what it makes of what it hears.
//!
//! ```text
//! script ─┐
//! pongs ──┼─▶ say(n) ─▶ said: every byte that was taken from it
//! Close ──┘                                    hear(bytes) ─▶ heard ─▶ pings and Closes to answer
//! ```

use std::collections::VecDeque;

use holdfast::websocket::Side;

use crate::strict;

/// How an endpoint goes, once it has said so many bytes or all that it has to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// Not by itself.
    #[default]
    Stays,
    /// It says no more, and listens on.
    Finishes,
    /// Its connection fails, both ways.
    Resets,
    /// Neither says nor takes anything any more, and nobody is told.
    Vanishes,
}

/// What an endpoint does.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Frames, or any pieces of a stream, in order.
    pub script: Vec<Vec<u8>>,
    pub answers_pings: bool,
    pub answers_close: bool,
    pub leaves: Leave,
    /// After so many bytes; `None` = at the end of its script.
    pub leaves_after: Option<usize>,
}

/// See the module.
#[derive(Debug)]
pub struct Endpoint {
    pub side: Side,
    pub manners: Manners,
    script: VecDeque<Vec<u8>>,
    answers: VecDeque<Vec<u8>>,
    saying: Vec<u8>,
    saying_at: usize,
    /// A Close is what it says last.
    pub has_closed: bool,
    pub said: Vec<u8>,
    pub heard: Vec<u8>,
    /// Bytes on their way to it that have been accepted.
    pub accepted: usize,
    understood: usize,
    pub close_heard: bool,
    /// It has heard the end of the stream.
    pub end_heard: bool,
}

impl Endpoint {
    pub fn new(side: Side, manners: Manners) -> Self {
        Self {
            side,
            script: manners.script.iter().cloned().collect(),
            manners,
            answers: VecDeque::new(),
            saying: Vec::new(),
            saying_at: 0,
            has_closed: false,
            said: Vec::new(),
            heard: Vec::new(),
            accepted: 0,
            understood: 0,
            close_heard: false,
            end_heard: false,
        }
    }

    /// How it has gone, if it has.
    pub fn left(&self) -> Option<Leave> {
        let leave = self.manners.leaves;
        let is_time = match self.manners.leaves_after {
            Some(after) => self.said.len() >= after,
            None => !self.has_something_to_say(),
        };
        (leave != Leave::Stays && is_time).then_some(leave)
    }

    pub fn has_something_to_say(&self) -> bool {
        let has_more = !(self.script.is_empty() && self.answers.is_empty());
        self.saying_at < self.saying.len() || !self.has_closed && has_more
    }

    /// Whether its stream ends here: a server or client that has closed and heard a Close ends the
    /// connection, as one does that has heard its end (RFC 6455 §7.1.1).
    pub fn has_finished(&self) -> bool {
        let is_over = self.end_heard && !self.has_something_to_say()
            || self.has_closed && self.side == Side::Pod && self.close_heard;
        self.left() == Some(Leave::Finishes) || is_over && self.saying_at == self.saying.len()
    }

    /// At most so many bytes; none where there is nothing to say for now.
    pub fn say(&mut self, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < most {
            if self.saying_at == self.saying.len() && !self.next_frame() {
                break;
            }
            let rest = &self.saying[self.saying_at..];
            let mut count = rest.len().min(most - out.len());
            if let Some(after) = self.manners.leaves_after
                && self.manners.leaves != Leave::Stays
            {
                count = count.min(after - self.said.len().min(after));
            }
            if count == 0 {
                break;
            }
            out.extend_from_slice(&rest[..count]);
            self.said.extend_from_slice(&rest[..count]);
            self.saying_at += count;
        }
        out
    }

    /// Whether there was one.
    fn next_frame(&mut self) -> bool {
        if self.has_closed {
            return false;
        }
        let next = self.answers.pop_front().or_else(|| self.script.pop_front());
        let Some(next) = next else { return false };
        self.has_closed = next.first().is_some_and(|first| first & 0x8f == 0x88);
        (self.saying, self.saying_at) = (next, 0);
        true
    }

    /// Takes what the proxy sends.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        loop {
            let unread = &self.heard[self.understood..];
            // What cannot be understood is for the judge.
            let Ok(Some((frame, rest))) = strict::frame(self.side, unread) else {
                return;
            };
            self.understood = self.heard.len() - rest.len();
            self.close_heard |= frame.opcode == 8;
            match frame.opcode {
                9 if self.manners.answers_pings => {
                    let pong = strict::write(self.side.other(), true, 10, &frame.payload);
                    self.answers.push_back(pong);
                }
                8 if self.manners.answers_close => {
                    let code = frame.payload.get(..2).unwrap_or_default();
                    let close = strict::write(self.side.other(), true, 8, code);
                    self.answers.push_back(close);
                }
                _ => {}
            }
        }
    }
}
