//! What a URL's query asks of the echo pod.

use std::time::Duration;

use http::StatusCode;

const MAX_DELAY: Duration = Duration::from_secs(60);
const MIN_EVERY: Duration = Duration::from_millis(10);
const MAX_SIZE: u64 = 1 << 30;

/// How the echo pod shall answer; all of it is optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// `status=418`: the status, 200 to 599. On a handshake: refuse it so.
    pub(super) status: Option<StatusCode>,
    /// `delay=2s`: wait before answering, one minute at most.
    pub(super) delay: Duration,
    /// `size=1Mi`: answer with so many bytes of filler, 1Gi at most.
    pub(super) size: Option<u64>,
    /// `every=1s`: on a WebSocket, send a message so often.
    pub(super) every: Option<Duration>,
    /// `close=4000`: on a WebSocket, answer the first message with a Close of this code.
    pub(super) close: Option<u16>,
}

impl Wishes {
    /// Reads a query; keys it does not know are left alone, since an echo should take any URL.
    ///
    /// # Errors
    ///
    /// What is wrong with a known key, in words for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut wishes = Self::default();
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let wrong = |expected: &str| format!("{key}={value}: {expected}");
            match key {
                "status" => {
                    let status = value
                        .parse()
                        .ok()
                        .filter(|status| (200..=599).contains(status))
                        .and_then(|status| StatusCode::from_u16(status).ok())
                        .ok_or_else(|| wrong("a status from 200 to 599 is expected"))?;
                    wishes.status = Some(status);
                }
                "delay" => {
                    wishes.delay = parse_duration(value)
                        .filter(|delay| *delay <= MAX_DELAY)
                        .ok_or_else(|| {
                            wrong("a duration such as 250ms or 2s, 1m at most, is expected")
                        })?;
                }
                "size" => {
                    let size = parse_size(value)
                        .filter(|size| *size <= MAX_SIZE)
                        .ok_or_else(|| {
                            wrong("a size such as 500, 64Ki or 1Mi, 1Gi at most, is expected")
                        })?;
                    wishes.size = Some(size);
                }
                "every" => {
                    let every = parse_duration(value)
                        .filter(|every| *every >= MIN_EVERY)
                        .ok_or_else(|| {
                            wrong("a duration such as 1s, 10ms at least, is expected")
                        })?;
                    wishes.every = Some(every);
                }
                "close" => {
                    let code = value
                        .parse()
                        .ok()
                        .filter(|code| super::frame::is_sendable_close_code(*code))
                        .ok_or_else(|| wrong("a close code such as 1000 or 4000 is expected"))?;
                    wishes.close = Some(code);
                }
                _ => {}
            }
        }
        Ok(wishes)
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let factor = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_within_their_bounds() {
        assert_eq!(
            Wishes::parse("status=418&delay=2s&size=1Mi&every=250ms&close=4000&other=x&y"),
            Ok(Wishes {
                status: Some(StatusCode::IM_A_TEAPOT),
                delay: Duration::from_secs(2),
                size: Some(1 << 20),
                every: Some(Duration::from_millis(250)),
                close: Some(4000),
            })
        );
        assert_eq!(Wishes::parse(""), Ok(Wishes::default()));
        for query in [
            "status=101",
            "status=600",
            "status=x",
            "delay=61s",
            "delay=2",
            "delay=99999999999999999999s",
            "size=2Gi",
            "size=99999999999Gi",
            "size=1k",
            "every=1ms",
            "close=1006",
            "close=99999",
        ] {
            let message = Wishes::parse(query).unwrap_err();
            assert!(message.starts_with(query), "{message}");
        }
    }
}
