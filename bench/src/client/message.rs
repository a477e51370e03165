//! A message and the echo that it must come back as.

/// A masked binary frame that carries a sequence number, ready to be sent again and again.
#[derive(Debug)]
pub(crate) struct Message {
    sequence: u64,
    frame: Vec<u8>,
    expected: Vec<u8>,
    pub(super) reply: Vec<u8>,
}

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const SEQUENCE: usize = size_of::<u64>();

impl Message {
    /// A message with a payload of `size` bytes, at least the eight of its sequence number.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(SEQUENCE);
        let payload: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
        let mut expected = header(size, 0);
        expected.extend_from_slice(&payload);
        let mut frame = header(size, 0x80);
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
        Self {
            sequence: fastrand::u64(..),
            reply: vec![0; expected.len()],
            frame,
            expected,
        }
    }

    /// Takes the next sequence number.
    pub(crate) fn advance(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        let number = self.sequence.to_be_bytes();
        let plain = header_length(&self.expected);
        self.expected[plain..plain + SEQUENCE].copy_from_slice(&number);
        let masked = plain + MASK.len();
        let masked = &mut self.frame[masked..masked + SEQUENCE];
        for (to, (byte, key)) in masked
            .iter_mut()
            .zip(number.iter().zip(MASK.iter().cycle()))
        {
            *to = byte ^ key;
        }
    }

    /// The frame to send.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// The bytes that must come back.
    pub(crate) fn expected(&self) -> &[u8] {
        &self.expected
    }
}

/// The header of a final binary frame without its mask.
fn header(size: usize, mask_bit: u8) -> Vec<u8> {
    let mut header = vec![0x82];
    if size < 126 {
        header.push(mask_bit | size as u8);
    } else if let Ok(size) = u16::try_from(size) {
        header.push(mask_bit | 126);
        header.extend_from_slice(&size.to_be_bytes());
    } else {
        header.push(mask_bit | 127);
        header.extend_from_slice(&(size as u64).to_be_bytes());
    }
    header
}

fn header_length(unmasked: &[u8]) -> usize {
    match unmasked[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}
