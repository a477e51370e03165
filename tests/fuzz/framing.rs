//! A second opinion on where frames begin and end (RFC 6455 §5.2): whole streams, parsed with all
//! their bytes at hand, by no code of the scanner's.

use std::ops::Range;

use holdfast::websocket::Traffic;

/// A frame whose header is whole; its payload may be cut off by the end of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub start: usize,
    pub fin: bool,
    pub opcode: u8,
    pub key: Option<[u8; 4]>,
    /// Where its payload is, also beyond what has come.
    pub payload: Range<u64>,
}

/// Where a stream leaves off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Between two frames.
    Whole,
    /// Inside the frame that begins here.
    Torn(usize),
    /// Behind a Close, at this offset.
    Closed(usize),
    /// The frame that begins at `start` cannot be; the byte at `at` shows it.
    Broken { start: usize, at: usize },
}

impl Frame {
    pub fn end(&self) -> u64 {
        self.payload.end
    }

    pub fn length(&self) -> u64 {
        self.payload.end - self.payload.start
    }

    pub fn is_control(&self) -> bool {
        self.opcode >= 8
    }

    /// As far as it has come, unmasked.
    pub fn content(&self, stream: &[u8]) -> Vec<u8> {
        let key = self.key.unwrap_or_default();
        let payload = stream.iter().skip(self.payload.start as usize);
        let payload = payload.take(usize::try_from(self.length()).unwrap_or(usize::MAX));
        payload
            .zip(key.iter().cycle())
            .map(|(b, k)| b ^ k)
            .collect()
    }

    /// The code of a Close that has come whole.
    pub fn close_code(&self, stream: &[u8]) -> Option<u16> {
        let content = self.content(stream);
        content.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

/// All frames of a stream up to a Close, the torn one included.
pub fn frames(stream: &[u8]) -> (Vec<Frame>, Rest) {
    let mut frames = Vec::new();
    let mut start = 0;
    loop {
        let rest = &stream[start..];
        let (Some(&first), second) = (rest.first(), rest.get(1)) else {
            return (frames, Rest::Whole);
        };
        let Some(&second) = second else {
            return (frames, Rest::Torn(start));
        };
        let (opcode, short) = (first & 0x0f, second & 0x7f);
        if opcode >= 8 && (first & 0x80 == 0 || short > 125) {
            let at = start + 1;
            return (frames, Rest::Broken { start, at });
        }
        let (length, mut head) = match short {
            126 => (rest.get(2..4).map(big_endian), 4),
            127 => (rest.get(2..10).map(big_endian), 10),
            _ => (Some(u64::from(short)), 2),
        };
        let Some(length) = length else {
            return (frames, Rest::Torn(start));
        };
        if length >> 63 == 1 {
            let at = start + 9;
            return (frames, Rest::Broken { start, at });
        }
        let mut key = None;
        if second & 0x80 != 0 {
            let Some(bytes) = rest.get(head..head + 4) else {
                return (frames, Rest::Torn(start));
            };
            key = Some([bytes[0], bytes[1], bytes[2], bytes[3]]);
            head += 4;
        }
        let payload = (start + head) as u64;
        let frame = Frame {
            start,
            fin: first & 0x80 != 0,
            opcode,
            key,
            payload: payload..payload + length,
        };
        let end = frame.end();
        frames.push(frame);
        if end > stream.len() as u64 {
            return (frames, Rest::Torn(start));
        }
        if opcode == 8 {
            return (frames, Rest::Closed(end as usize));
        }
        start = end as usize;
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// What is to be counted of a stream, up to a Close.
pub fn traffic(stream: &[u8]) -> Traffic {
    let (frames, _) = frames(stream);
    let length = stream.len() as u64;
    let mut traffic = Traffic {
        bytes: length,
        ..Traffic::default()
    };
    let mut is_text = false;
    for frame in frames {
        let is_whole = frame.end() <= length;
        traffic.frames += u64::from(is_whole);
        match frame.opcode {
            9 => traffic.pings += u64::from(is_whole),
            10 => traffic.pongs += u64::from(is_whole),
            8.. => {}
            opcode => {
                if opcode != 0 {
                    is_text = opcode == 1;
                }
                let arrived = frame.end().min(length) - frame.payload.start.min(length);
                let message = u64::from(is_whole && frame.fin);
                let (messages, bytes) = if is_text {
                    (&mut traffic.text, &mut traffic.text_bytes)
                } else {
                    (&mut traffic.binary, &mut traffic.binary_bytes)
                };
                *messages += message;
                *bytes += arrived;
            }
        }
    }
    traffic
}
