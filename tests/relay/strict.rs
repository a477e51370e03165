//! A WebSocket peer that forgives nothing (RFC 6455), and the frames to speak with it.

use holdfast::websocket::Side;

/// A complete frame as received, payload unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) fin: bool,
    pub(crate) payload: Vec<u8>,
}

/// What a peer received from its first byte to the end of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) frames: Vec<Frame>,
    /// Bytes of the last frame, if the stream ended inside it.
    pub(crate) torn: usize,
    /// Code of the Close frame; `Some(None)` = a Close without one.
    pub(crate) close: Option<Option<u16>>,
}

/// Parses a whole stream that went toward `to`, or says which rule it broke.
pub(crate) fn parse(to: Side, mut bytes: &[u8]) -> Result<Received, String> {
    let mut received = Received::default();
    let mut message: Option<(u8, Vec<u8>)> = None;
    while !bytes.is_empty() {
        if received.close.is_some() {
            return Err(format!("{} bytes after the Close", bytes.len()));
        }
        let Some((frame, rest)) = frame(to, bytes)? else {
            received.torn = bytes.len();
            return Ok(received);
        };
        bytes = rest;
        match (frame.opcode, &mut message) {
            (0, None) => return Err("continuation of nothing".into()),
            (1 | 2, Some(_)) => return Err("a new message inside a message".into()),
            (1 | 2, None) => message = Some((frame.opcode, frame.payload.clone())),
            (0, Some((_, so_far))) => so_far.extend_from_slice(&frame.payload),
            (8, _) => received.close = Some(close_code(&frame.payload)?),
            (9 | 10, _) => {}
            (other, _) => return Err(format!("opcode {other}")),
        }
        if frame.fin && frame.opcode < 8 {
            let (opcode, payload) = message.take().unwrap();
            if opcode == 1 && std::str::from_utf8(&payload).is_err() {
                return Err("text that is not UTF-8".into());
            }
        }
        received.frames.push(frame);
    }
    Ok(received)
}

/// The first frame of what went toward `to`, and what follows it; `None` where it is not whole.
pub(crate) fn frame(to: Side, bytes: &[u8]) -> Result<Option<(Frame, &[u8])>, String> {
    let &[head, length, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if head & 0x70 != 0 {
        return Err("reserved bits".into());
    }
    let (opcode, fin, masked) = (head & 0xf, head & 0x80 != 0, length & 0x80 != 0);
    if masked != (to == Side::Pod) {
        return Err(format!("mask bit {masked} toward {to:?}"));
    }
    let (length, rest) = match length & 0x7f {
        126 => match rest {
            [a, b, rest @ ..] => match u16::from_be_bytes([*a, *b]) {
                0..=125 => return Err("length not minimal".into()),
                length => (usize::from(length), rest),
            },
            _ => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => match u64::from_be_bytes(*length) {
                0..=65535 => return Err("length not minimal".into()),
                length if length >> 63 == 1 => return Err("length too big".into()),
                length => (length as usize, rest),
            },
            None => return Ok(None),
        },
        length => (usize::from(length), rest),
    };
    if opcode >= 8 && (length > 125 || !fin) {
        return Err("control frame too long or fragmented".into());
    }
    let (key, rest) = match (masked, rest.split_first_chunk::<4>()) {
        (false, _) => ([0; 4], rest),
        (true, Some((key, rest))) => (*key, rest),
        (true, None) => return Ok(None),
    };
    if rest.len() < length {
        return Ok(None);
    }
    let (payload, rest) = rest.split_at(length);
    let payload = payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k);
    let frame = Frame {
        opcode,
        fin,
        payload: payload.collect(),
    };
    Ok(Some((frame, rest)))
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, String> {
    match payload {
        [] => Ok(None),
        [_] => Err("a Close of one byte".into()),
        [a, b, reason @ ..] => {
            std::str::from_utf8(reason).map_err(|error| error.to_string())?;
            match u16::from_be_bytes([*a, *b]) {
                code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Some(code)),
                code => Err(format!("Close code {code}")),
            }
        }
    }
}

/// A frame as the peer opposite to `to` sends it.
pub(crate) fn write(to: Side, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![opcode | if fin { 0x80 } else { 0 }];
    let mask_bit = if to == Side::Pod { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => out.push(mask_bit | length as u8),
        length @ 126..=65535 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if to == Side::Pod {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        out.extend_from_slice(&key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    } else {
        out.extend_from_slice(payload);
    }
    out
}

/// A Close frame.
pub(crate) fn close(to: Side, code: u16) -> Vec<u8> {
    write(to, true, 8, &code.to_be_bytes())
}
