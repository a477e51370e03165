//! Frames of the proxy's own (RFC 6455 §5.2); those of the peers are never taken apart.

/// Bit of the first header byte: this frame ends its message.
pub const FIN: u8 = 0x80;
/// Bit of the second header byte: a mask key follows, and the payload is masked with it.
pub const MASK: u8 = 0x80;
/// The longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_MAX: usize = 125;

/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// Opcode of a Close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xa;

/// Whether an opcode is a control frame's, also one that is still reserved: "control frames are
/// identified by opcodes where the most significant bit of the opcode is 1" (RFC 6455 §5.5).
#[must_use]
pub fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

/// A mask key for one frame toward a pod. Clients must mask, and with keys that the author of the
/// payload cannot foresee (RFC 6455 §5.3, §10.3); toward a pod the proxy is the client.
#[must_use]
pub fn mask_key() -> [u8; 4] {
    let mut key = [0; 4];
    if aws_lc_rs::rand::fill(&mut key).is_err() {
        // The payloads of our frames are our own words, so a weaker key gives nobody anything:
        // better than no Close frame.
        key = fastrand::u32(..).to_ne_bytes();
    }
    key
}

/// Appends a control frame to `out`. A payload over [`CONTROL_MAX`] bytes is cut.
pub fn control(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let payload = payload.get(..CONTROL_MAX).unwrap_or(payload);
    // At most 125, as just cut.
    let length = u8::try_from(payload.len()).unwrap_or_default();
    out.push(FIN | opcode);
    match mask {
        None => {
            out.push(length);
            out.extend_from_slice(payload);
        }
        Some(key) => {
            out.push(MASK | length);
            out.extend_from_slice(&key);
            out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
        }
    }
}

/// Appends a Close frame to `out`: empty without a code; a reason that does not fit is cut at a
/// character's boundary, since it must stay valid UTF-8 (RFC 6455 §5.5.1).
pub fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) {
    let Some(code) = code else {
        return control(out, CLOSE, &[], mask);
    };
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CONTROL_MAX - 2)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason);
    control(out, CLOSE, &payload, mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_is_well_formed_masked_and_not() {
        let mut out = Vec::new();
        close(&mut out, Some(1001), "bye", None);
        assert_eq!(out, [0x88, 5, 0x03, 0xe9, b'b', b'y', b'e']);

        let mut out = Vec::new();
        close(&mut out, Some(1001), "bye", Some([1, 2, 3, 4]));
        assert_eq!(
            out,
            [
                0x88,
                0x85,
                1,
                2,
                3,
                4,
                2,
                0xe9 ^ 2,
                b'b' ^ 3,
                b'y' ^ 4,
                b'e' ^ 1
            ]
        );

        let mut out = Vec::new();
        close(&mut out, None, "not sent without a code", None);
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        close(&mut out, Some(1001), &"é".repeat(100), None);
        // 2 bytes of code and 61 characters of 2 bytes: the 62nd would end at 126.
        assert_eq!(out[1], 124);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn mask_keys_differ() {
        assert!((0..8).any(|_| mask_key() != mask_key()));
    }
}
