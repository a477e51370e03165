//! Handshakes, beside the rules of RFC 6455 §4 written down once more.

use holdfast::websocket::handshake::{InvalidHandshake, Upgrade};
use http::{HeaderMap, Method, Version};

use crate::fields::{fields, method, version};
use crate::input::Input;

/// Returns how far it came.
///
/// # Panics
/// Where a handshake is accepted that RFC 6455 does not allow, or the reverse.
pub fn check(bytes: &[u8]) -> &'static str {
    let mut input = Input::new(bytes);
    let (method, version) = (method(&mut input), version(&mut input));
    let (request, answer) = (fields(&mut input), fields(&mut input));
    let asked = Upgrade::requested(&method, version, &request);
    let expected = expected(&method, version, &request);
    match asked {
        Ok(Upgrade::None) => {
            assert_eq!(expected, Ok(None));
            "none"
        }
        Err(fault) => {
            assert_eq!(expected, Err(fault));
            match fault {
                InvalidHandshake::Malformed => "malformed",
                InvalidHandshake::Version => "version",
                InvalidHandshake::Protocol => unreachable!("there is none in HTTP/1.1"),
            }
        }
        Ok(Upgrade::WebSocket(accept)) => {
            let key = expected.unwrap().expect("a WebSocket is asked for");
            let is_complete = has(&answer, "upgrade", "websocket")
                && has(&answer, "connection", "upgrade")
                && lines(&answer, "sec-websocket-accept") == [accept_of(key).as_bytes()];
            assert_eq!(accept.completes(&answer), is_complete);
            if is_complete { "complete" } else { "asked" }
        }
    }
}

/// The key of a WebSocket that is asked for, in so many words.
fn expected<'a>(
    method: &Method,
    version: Version,
    fields: &'a HeaderMap,
) -> Result<Option<&'a [u8]>, InvalidHandshake> {
    if version != Version::HTTP_11
        || !has(fields, "upgrade", "websocket")
        || !has(fields, "connection", "upgrade")
    {
        return Ok(None);
    }
    let has_no_body = lines(fields, "transfer-encoding").is_empty()
        && lines(fields, "content-length")
            .iter()
            .all(|length| *length == b"0");
    if method != Method::GET || !has_no_body {
        return Err(InvalidHandshake::Malformed);
    }
    if lines(fields, "sec-websocket-version") != [b"13"] {
        return Err(InvalidHandshake::Version);
    }
    match lines(fields, "sec-websocket-key")[..] {
        [key] if is_key(key) => Ok(Some(key)),
        _ => Err(InvalidHandshake::Malformed),
    }
}

fn lines<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let values = fields.get_all(name).iter();
    values.map(http::HeaderValue::as_bytes).collect()
}

/// A token in a list, in any case; a line with anything but visible characters counts for nothing.
fn has(fields: &HeaderMap, name: &str, token: &str) -> bool {
    let is_text = |line: &&[u8]| line.iter().all(|b| matches!(b, 9 | 32..=126));
    lines(fields, name)
        .into_iter()
        .filter(is_text)
        .flat_map(|line| line.split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of 16 bytes: 21 digits, one of which only two bits count, and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_last_chunk() else {
        return false;
    };
    let place = |digit: &u8| ALPHABET.iter().position(|known| known == digit);
    let places: Option<Vec<usize>> = digits.iter().map(place).collect();
    places.is_some_and(|places| places.len() == 22 && places[21] % 16 == 0)
}

fn accept_of(key: &[u8]) -> String {
    let hash = sha1(&[key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
    let mut text = String::new();
    for three in hash.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for digit in 0..4 {
            let place = bits >> (18 - 6 * digit) & 63;
            let is_padding = digit > three.len();
            text.push(if is_padding {
                '='
            } else {
                ALPHABET[place as usize] as char
            });
        }
    }
    text
}

/// RFC 3174.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    let mut state = [
        0x6745_2301_u32,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    for block in padded.chunks(64) {
        let mut words: Vec<u32> = block
            .chunks(4)
            .map(|word| word.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)))
            .collect();
        for at in 16..80 {
            let word = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words.push(word.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (choice, constant) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999_u32),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(choice)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, more) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(more);
        }
    }
    let mut hash = [0; 20];
    for (bytes, word) in hash.chunks_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}
