//! The frame scanner against whole frames: the same result however the stream is cut.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use holdfast::websocket::{Scanner, Stop, Traffic};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A frame of any kind that peers may send, also those that only an extension could mean.
#[derive(Clone, Debug)]
struct Frame {
    fin: bool,
    rsv: u8,
    opcode: u8,
    mask: Option<[u8; 4]>,
    /// How the length is written: 0 = shortest, 2 or 8 = at least in so many bytes.
    length_form: u8,
    payload: Vec<u8>,
}

impl Frame {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode);
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        let length = self.payload.len();
        let form = match length {
            126..=65535 => self.length_form.max(2),
            65536.. => 8,
            _ => self.length_form,
        };
        match form {
            0 => out.push(mask_bit | length as u8),
            2 => {
                out.push(mask_bit | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(mask_bit | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend(self.mask.iter().flatten());
        let key = self.mask.unwrap_or_default();
        let payload = self.payload.iter().zip(key.iter().cycle());
        out.extend(payload.map(|(byte, key)| byte ^ key));
    }
}

fn data_frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![
        4 => vec(any::<u8>(), 0..20),
        2 => vec(any::<u8>(), 120..130),
        1 => vec(any::<u8>(), 65_530..65_540),
    ];
    (
        any::<bool>(),
        0..8u8,
        0..8u8,
        any::<Option<[u8; 4]>>(),
        payload,
    )
        .prop_flat_map(|(fin, rsv, opcode, mask, payload)| {
            let form = prop_oneof![Just(0u8), Just(2), Just(8)];
            (Just((fin, rsv, opcode, mask, payload)), form)
        })
        .prop_map(|((fin, rsv, opcode, mask, payload), length_form)| Frame {
            fin,
            rsv,
            opcode,
            mask,
            length_form,
            payload,
        })
}

fn control_frame(opcode: impl Strategy<Value = u8>) -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![vec(any::<u8>(), 0..4), vec(any::<u8>(), 125..=125)];
    (0..8u8, opcode, any::<Option<[u8; 4]>>(), payload).prop_map(|(rsv, opcode, mask, payload)| {
        Frame {
            fin: true,
            rsv,
            opcode,
            mask,
            length_form: 0,
            payload,
        }
    })
}

/// Frames, and at the end perhaps a Close.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let any_control = prop_oneof![Just(9u8), Just(10), 11..16u8];
    let frame = prop_oneof![3 => data_frame(), 2 => control_frame(any_control)];
    (
        vec(frame, 0..12),
        proptest::option::of(control_frame(Just(8))),
    )
        .prop_map(|(mut frames, close)| {
            frames.extend(close);
            frames
        })
}

/// What the frames amount to, counted frame by frame.
fn expected(frames: &[Frame]) -> (Vec<u8>, Vec<usize>, Traffic) {
    let mut bytes = Vec::new();
    let mut boundaries = vec![0];
    let mut traffic = Traffic::default();
    let mut text = false;
    for frame in frames {
        frame.encode(&mut bytes);
        boundaries.push(bytes.len());
        traffic.frames += 1;
        let length = frame.payload.len() as u64;
        match frame.opcode {
            9 => traffic.pings += 1,
            10 => traffic.pongs += 1,
            8.. => {}
            opcode => {
                if opcode != 0 {
                    text = opcode == 1;
                }
                if text {
                    traffic.text_bytes += length;
                    traffic.text += u64::from(frame.fin);
                } else {
                    traffic.binary_bytes += length;
                    traffic.binary += u64::from(frame.fin);
                }
            }
        }
    }
    traffic.bytes = bytes.len() as u64;
    (bytes, boundaries, traffic)
}

fn close_code(frames: &[Frame]) -> Option<u16> {
    let close = frames.last().filter(|frame| frame.opcode == 8)?;
    let code = close.payload.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*code))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_cut_gives_what_the_frames_amount_to(
        frames in frames(),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let (bytes, boundaries, traffic) = expected(&frames);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut scanner = Scanner::new();
        let mut counted = Traffic::default();
        let mut at = 0;
        for cut in cuts {
            let taken = scanner.scan(&bytes[at..cut], Stop::AfterClose, &mut counted);
            prop_assert_eq!(taken, cut - at);
            at = cut;
            prop_assert_eq!(scanner.at_boundary(), boundaries.contains(&at));
        }
        prop_assert_eq!(counted, traffic);
        prop_assert!(!scanner.is_broken());
        prop_assert_eq!(scanner.is_closed(), frames.last().is_some_and(|f| f.opcode == 8));
        prop_assert_eq!(scanner.close_code(), close_code(&frames));
        if scanner.is_closed() {
            prop_assert_eq!(scanner.scan(b"more", Stop::AfterClose, &mut counted), 0);
            prop_assert_eq!(counted, traffic);
        }
    }

    #[test]
    fn the_next_boundary_is_found_from_every_offset(frames in frames()) {
        let (bytes, boundaries, _) = expected(&frames);
        // Every offset of a short stream, and those around the boundaries of a long one.
        let mut offsets: Vec<usize> = (0..bytes.len().min(600)).collect();
        offsets.extend(boundaries.iter().flat_map(|b| b.saturating_sub(3)..b + 16));
        for offset in offsets.into_iter().filter(|offset| *offset <= bytes.len()) {
            let mut scanner = Scanner::new();
            let mut counted = Traffic::default();
            scanner.scan(&bytes[..offset], Stop::AfterClose, &mut counted);
            let taken = scanner.scan(&bytes[offset..], Stop::AtBoundary, &mut counted);
            let next = boundaries.iter().copied().find(|b| *b > offset).unwrap_or(offset);
            prop_assert_eq!(offset + taken, next);
            prop_assert!(scanner.at_boundary());
        }
    }

    #[test]
    fn any_bytes_are_taken_alike_whole_and_one_by_one(bytes in vec(any::<u8>(), 0..400)) {
        let (mut whole, mut piecewise) = (Scanner::new(), Scanner::new());
        let (mut of_whole, mut of_pieces) = (Traffic::default(), Traffic::default());
        whole.scan(&bytes, Stop::AfterClose, &mut of_whole);
        for byte in bytes.chunks(1) {
            piecewise.scan(byte, Stop::AfterClose, &mut of_pieces);
        }
        prop_assert_eq!(whole.is_closed(), piecewise.is_closed());
        prop_assert_eq!(whole.close_code(), piecewise.close_code());
        prop_assert_eq!(whole.is_broken(), piecewise.is_broken());
        // A broken stream may be given up at the start of the bad header or inside it.
        prop_assert!(of_whole.bytes <= of_pieces.bytes);
        let header = if whole.is_broken() { 10 } else { 0 };
        prop_assert!(of_pieces.bytes - of_whole.bytes <= header);
        of_pieces.bytes = of_whole.bytes;
        prop_assert_eq!(of_whole, of_pieces);
    }
}

#[test]
fn what_hides_the_next_boundary_breaks_the_stream() {
    let long_ping = [0x89, 126, 0, 126];
    let fragmented_ping = [0x09, 0];
    let fragmented_close = [0x08, 0x82];
    let endless = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
    for bad in [
        &long_ping[..],
        &fragmented_ping,
        &fragmented_close,
        &endless,
    ] {
        // Whole, behind a good frame: the stream can end in good form before it.
        let stream = [&[0x81, 1, b'x'][..], bad].concat();
        let mut scanner = Scanner::new();
        let mut traffic = Traffic::default();
        assert_eq!(scanner.scan(&stream, Stop::AfterClose, &mut traffic), 3);
        assert!(scanner.is_broken() && scanner.at_boundary() && !scanner.is_closed());
        assert_eq!((traffic.bytes, traffic.frames), (3, 1));
        // In pieces: its beginning has passed, and no boundary comes any more.
        let mut scanner = Scanner::new();
        for byte in stream.chunks(1) {
            scanner.scan(byte, Stop::AtBoundary, &mut traffic);
        }
        assert!(scanner.is_broken() && !scanner.at_boundary());
        assert_eq!(scanner.scan(&[0; 100], Stop::AtBoundary, &mut traffic), 0);
    }
}

#[test]
fn a_message_of_64_mib_and_one_of_the_greatest_length() {
    const SIZE: u64 = 64 << 20;
    let mut scanner = Scanner::new();
    let mut traffic = Traffic::default();
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&SIZE.to_be_bytes());
    header.extend_from_slice(&[1, 2, 3, 4]);
    scanner.scan(&header, Stop::AfterClose, &mut traffic);
    let chunk = vec![0x88; 32 << 10];
    for _ in 0..SIZE / chunk.len() as u64 {
        assert!(!scanner.at_boundary());
        assert_eq!(
            scanner.scan(&chunk, Stop::AtBoundary, &mut traffic),
            chunk.len()
        );
    }
    assert!(scanner.at_boundary());
    assert_eq!((traffic.binary, traffic.binary_bytes), (1, SIZE));

    let mut greatest = vec![0x82, 127];
    greatest.extend_from_slice(&(i64::MAX as u64).to_be_bytes());
    scanner.scan(&greatest, Stop::AfterClose, &mut traffic);
    scanner.scan(&chunk, Stop::AfterClose, &mut traffic);
    assert!(!scanner.at_boundary() && !scanner.is_broken());
}
