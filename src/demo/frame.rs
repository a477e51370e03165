//! WebSocket frames as bytes (RFC 6455 §5.2), from a server's point of view.

/// The longest header that a server writes: no mask.
pub(super) const MAX_SERVER_HEADER: usize = 10;
/// Control frames carry no more than this.
pub(super) const MAX_CONTROL_PAYLOAD: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) length: u64,
    pub(super) mask: [u8; 4],
}

impl Header {
    /// Reads a header from the front of `input`; answers it and its length, or `None` where more
    /// bytes are needed.
    ///
    /// # Errors
    ///
    /// What the client did wrong, to be closed with 1002.
    pub(super) fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, &'static str> {
        let [first, second, rest @ ..] = input else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err("reserved bits are set, but no extension was agreed on");
        }
        let fin = first & 0x80 != 0;
        let opcode = Opcode::from_bits(first & 0x0F).ok_or("unknown opcode")?;
        if second & 0x80 == 0 {
            return Err("frames from a client are masked");
        }
        let short = second & 0x7F;
        if opcode.is_control() && (!fin || usize::from(short) > MAX_CONTROL_PAYLOAD) {
            return Err("control frames are whole and carry at most 125 bytes");
        }
        let (length, rest) = match short {
            126 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*bytes)), rest)
            }
            127 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*bytes), rest)
            }
            short => (u64::from(short), rest),
        };
        // "The minimal number of bytes MUST be used", and the highest bit is 0.
        if (short == 126 && length < 126)
            || (short == 127 && length < 0x1_0000)
            || length >> 63 != 0
        {
            return Err("the length is not in its shortest form");
        }
        let Some((mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let header = Self {
            opcode,
            fin,
            length,
            mask: *mask,
        };
        Ok(Some((header, input.len() - rest.len())))
    }
}

/// The header of a server's frame.
pub(super) fn server_header(opcode: Opcode, fin: bool, length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(MAX_SERVER_HEADER);
    header.push(if fin { 0x80 } else { 0 } | opcode.bits());
    if let Ok(short @ ..=125) = u8::try_from(length) {
        header.push(short);
    } else if let Ok(medium) = u16::try_from(length) {
        header.push(126);
        header.extend_from_slice(&medium.to_be_bytes());
    } else {
        header.push(127);
        header.extend_from_slice(&(length as u64).to_be_bytes());
    }
    header
}

/// Masks or unmasks `payload`, whose first byte is at `offset` in its frame.
pub(super) fn apply_mask(payload: &mut [u8], mut mask: [u8; 4], offset: u64) {
    mask.rotate_left((offset % 4) as usize);
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Whether a peer may send this code in a Close frame (RFC 6455 §7.4 and the IANA registry).
pub(super) fn is_sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_lengths_are_read_and_no_byte_too_few_is_enough() {
        for (length, bytes) in [
            (5_u64, vec![0x81, 0x85, 1, 2, 3, 4]),
            (126, vec![0x81, 0xFE, 0, 126, 1, 2, 3, 4]),
            (65_536, vec![0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
        ] {
            let (header, used) = Header::parse(&bytes).unwrap().unwrap();
            assert_eq!((header.length, used), (length, bytes.len()));
            assert_eq!((header.opcode, header.fin), (Opcode::Text, true));
            assert_eq!(header.mask, [1, 2, 3, 4]);
            for short in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..short]), Ok(None), "{short}");
            }
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        for bytes in [
            &[0x81, 0x05][..],                           // no mask
            &[0xC1, 0x85],                               // RSV1
            &[0x83, 0x85],                               // unknown opcode
            &[0x09, 0x80],                               // a Ping in fragments
            &[0x89, 0xFE, 0, 126],                       // a long Ping
            &[0x82, 0xFE, 0, 125, 0, 0, 0, 0],           // not the shortest form
            &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], // nor this
            &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0],    // highest bit
        ] {
            assert!(Header::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_server_writes_the_shortest_header() {
        assert_eq!(server_header(Opcode::Text, true, 125), [0x81, 125]);
        assert_eq!(
            server_header(Opcode::Binary, false, 126),
            [0x02, 126, 0, 126]
        );
        assert_eq!(
            server_header(Opcode::Ping, true, 65_536),
            [0x89, 127, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn a_mask_goes_on_where_the_last_piece_ended() {
        let mut whole = *b"holdfast!";
        apply_mask(&mut whole, [1, 2, 3, 4], 0);
        let mut pieces = *b"holdfast!";
        let (left, right) = pieces.split_at_mut(3);
        apply_mask(left, [1, 2, 3, 4], 0);
        apply_mask(right, [1, 2, 3, 4], 3);
        assert_eq!(whole, pieces);
    }
}
