//! The frame scanner on any bytes, however they are cut, beside a parser that sees all at once.

use holdfast::websocket::{Scanner, Stop, Traffic};

use crate::framing::{Rest, frames, traffic};
use crate::input::Input;

/// The first byte says how many cuts there are, each a byte: how much comes, and with which stop.
/// The rest is the stream.
///
/// Returns how the stream ends.
///
/// # Panics
/// Where the scanner and the parser disagree.
pub fn check(bytes: &[u8]) -> &'static str {
    let mut input = Input::new(bytes);
    let cuts = 1 + input.below(16);
    let cuts: Vec<u8> = (0..cuts).map(|_| input.byte()).collect();
    let stream = input.rest();
    let (frames, rest) = frames(stream);
    let mut boundaries: Vec<usize> = frames.iter().map(|frame| frame.start).collect();
    boundaries.extend(match rest {
        Rest::Closed(end) => Some(end),
        Rest::Broken { start, .. } | Rest::Torn(start) => Some(start),
        Rest::Whole => Some(stream.len()),
    });

    let mut scanner = Scanner::new();
    let (mut counted, mut at) = (Traffic::default(), 0);
    for turn in 0.. {
        let cut = cuts[turn % cuts.len()];
        let stop = if cut & 1 == 0 {
            Stop::AfterClose
        } else {
            Stop::AtBoundary
        };
        let piece = match turn {
            0..64 => 1 + usize::from(cut >> 1),
            _ => stream.len(),
        };
        let to = stream.len().min(at + piece);
        let taken = scanner.scan(&stream[at..to], stop, &mut counted);
        let next = boundaries.get(boundaries.partition_point(|boundary| *boundary <= at));
        let expected = match (rest, stop) {
            (Rest::Broken { start, at: shown }, _) if shown < to => {
                // Up to the frame, if it began in this piece; else its beginning has gone on.
                let end = if start >= at { start } else { shown + 1 };
                match (stop, next) {
                    (Stop::AtBoundary, Some(&next)) if next <= start => next,
                    _ => end,
                }
            }
            (_, Stop::AtBoundary) => next.map_or(to, |next| to.min(*next)),
            (Rest::Closed(end), Stop::AfterClose) => to.min(end),
            (_, Stop::AfterClose) => to,
        };
        assert_eq!(
            at + taken,
            expected,
            "from {at} to {to}, {stop:?}, {rest:?}"
        );
        at = expected;
        if scanner.is_broken() {
            let Rest::Broken { start, .. } = rest else {
                panic!("broken at {at}, {rest:?}");
            };
            assert_eq!(scanner.at_boundary(), at == start);
            assert_eq!(counted.bytes, at as u64);
            assert_eq!(scanner.scan(&stream[at..], stop, &mut counted), 0);
            return "broken";
        }
        assert_eq!(
            scanner.at_boundary(),
            boundaries.binary_search(&at).is_ok(),
            "at {at}"
        );
        // Not everywhere: it is counted from the first byte each time.
        if turn % 16 == 0 || at == stream.len() {
            assert_eq!(counted, traffic(&stream[..at]), "at {at}");
        }
        let is_closed = matches!(rest, Rest::Closed(end) if at == end);
        assert_eq!(scanner.is_closed(), is_closed);
        if is_closed {
            let close = frames.last().and_then(|frame| frame.close_code(stream));
            assert_eq!(scanner.close_code(), close);
            assert_eq!(scanner.scan(&stream[at..], stop, &mut counted), 0);
            return "closed";
        }
        assert_eq!(scanner.close_code(), None);
        if at == stream.len() {
            return match rest {
                Rest::Whole => "whole",
                _ => "torn",
            };
        }
    }
    unreachable!("each turn takes a byte at least, or is the last")
}
