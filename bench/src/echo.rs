//! Turns the frames of a client into their echo, in place and as they stream by.
//!
//! ```text
//!   read      [ room ][ client's bytes: 81 85 <mask> <masked payload> … ]
//!   written   [ echo: 81 05 <payload> … ]
//! ```
//!
//! Nothing is kept but a header that has not arrived whole, so a connection costs a few bytes and
//! a message of any size passes in as many pieces as it came.

use std::io;

/// Bytes to leave free before what was read: an echo's header may come out before as many bytes
/// of its own chunk went in.
pub(crate) const HEADROOM: usize = 16;

const LONGEST_HEADER: usize = 14;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The state of one connection between two reads.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    header: [u8; LONGEST_HEADER],
    gathered: usize,
    left: u64,
    mask: [u8; 4],
    closing: bool,
}

impl Echo {
    /// Rewrites `buffer[HEADROOM..end]` as its echo at the front of `buffer` and returns the echo's
    /// length.
    ///
    /// # Errors
    ///
    /// A frame that is not masked, which RFC 6455 5.1 forbids to clients.
    pub(crate) fn transform(&mut self, buffer: &mut [u8], end: usize) -> io::Result<usize> {
        let mut input = HEADROOM;
        let mut output = 0;
        while input < end {
            if self.left > 0 {
                let here = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(end - input);
                unmask(&mut buffer[input..input + here], &mut self.mask);
                buffer.copy_within(input..input + here, output);
                input += here;
                output += here;
                self.left -= here as u64;
                continue;
            }
            self.header[self.gathered] = buffer[input];
            self.gathered += 1;
            input += 1;
            if self.gathered < 2 || self.gathered < header_length(self.header[1]) {
                continue;
            }
            output += self.begin(&mut buffer[output..])?;
        }
        Ok(output)
    }

    /// The client's Close frame has been echoed whole: the connection may be ended.
    pub(crate) fn is_over(&self) -> bool {
        self.closing && self.left == 0 && self.gathered == 0
    }

    /// Writes the header of the echo of the frame whose header is complete; returns its length.
    fn begin(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if self.header[1] & 0x80 == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a client's frame is not masked",
            ));
        }
        let opcode = self.header[0] & 0x0F;
        if opcode == PING {
            self.header[0] = self.header[0] & 0xF0 | PONG;
        }
        self.closing |= opcode == CLOSE;
        self.header[1] &= 0x7F;
        let plain = self.gathered - 4;
        self.left = match self.header[1] {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        self.mask.copy_from_slice(&self.header[plain..plain + 4]);
        output[..plain].copy_from_slice(&self.header[..plain]);
        self.gathered = 0;
        Ok(plain)
    }
}

/// Length of a masked frame's header, by its second byte.
fn header_length(second: u8) -> usize {
    match second & 0x7F {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

/// Applies `mask` to `payload` and leaves it turned to where the next piece goes on.
fn unmask(payload: &mut [u8], mask: &mut [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(*mask));
    let wide = wide << 32 | wide;
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(wide.to_ne_bytes()) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
    mask.rotate_left(payload.len() % 4);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::client::message::Message;

    /// The echo of `sent`, fed in pieces of `piece` bytes.
    fn echo(sent: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut echo = Echo::default();
        let mut answer = Vec::new();
        for part in sent.chunks(piece) {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend_from_slice(part);
            let end = buffer.len();
            let length = echo.transform(&mut buffer, end).unwrap();
            answer.extend_from_slice(&buffer[..length]);
        }
        (answer, echo.is_over())
    }

    #[test]
    fn messages_of_every_header_size_come_back_however_they_are_cut() {
        for size in [8, 64, 125, 126, 1_000, 65_535, 65_536, 70_001] {
            let mut message = Message::new(size);
            let mut sent = Vec::new();
            let mut expected = Vec::new();
            for _ in 0..3 {
                message.advance();
                sent.extend_from_slice(message.frame());
                expected.extend_from_slice(message.expected());
            }
            for piece in [1, 2, 3, 5, 7, 13, 4_096, sent.len()] {
                let (answer, over) = echo(&sent, piece);
                assert!(answer == expected, "{size} bytes in pieces of {piece}");
                assert!(!over);
            }
        }
    }

    #[test]
    fn a_ping_is_answered_and_a_close_ends() {
        let ping = [0x89, 0x82, 1, 2, 3, 4, 1 ^ b'h', 2 ^ b'i'];
        assert_eq!(echo(&ping, 3), (vec![0x8A, 2, b'h', b'i'], false));
        let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];
        assert_eq!(echo(&close, 7), (vec![0x88, 2, 0x03, 0xE8], true));
    }

    #[test]
    fn an_unmasked_frame_is_refused() {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(&[0x81, 5, b'h', b'e', b'l', b'l', b'o']);
        let end = buffer.len();
        assert!(Echo::default().transform(&mut buffer, end).is_err());
    }
}
