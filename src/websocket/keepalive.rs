//! Pings of our own, and what follows from their answers.
//!
//! ```text
//!          interval of silence            timeout
//! Quiet ──────────────────────▶ Waiting ───────────▶ Dead
//!   ▲                              │
//!   └──── any byte of that peer ───┘      its pong also gives the round-trip time
//! ```
//!
//! Any byte shows that a peer is there, so a peer that sends data is never pinged. A peer that takes
//! what was blocked toward it is there as well: its TCP has acknowledged. Silence says nothing of a
//! peer that the proxy itself does not read from, because the other one is slow or because it may
//! send no faster; nor of one whose ping still waits for the end of the other's frame.

use std::time::Duration;

use tokio::time::Instant;

use super::frame;
use super::gate::PING_PAYLOAD;
use super::relay_config::millis;

/// Of an interval that chance may take off, in percent: tunnels that were opened together are not
/// pinged together.
const SPREAD: u64 = 10;

/// Watches over one peer.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// In milliseconds, the spread taken off.
    interval: u32,
    /// In milliseconds.
    timeout: u32,
    heard: Instant,
    /// Since when an answer is due.
    waiting: Option<Instant>,
    /// Its silence said nothing when it was last looked at.
    excused: bool,
    /// The last ping: its number and when it was made.
    number: u32,
    sent: Option<Instant>,
}

/// What is to be done about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// Send the ping of this number.
    Ping(u32),
    /// It has not answered in time.
    Dead,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        let interval = millis(interval);
        let spread = u64::from(interval) * SPREAD / 100;
        let off = fastrand::u64(0..=spread);
        Self {
            interval: interval.saturating_sub(u32::try_from(off).unwrap_or_default()),
            timeout: millis(timeout),
            heard: now,
            waiting: None,
            excused: false,
            number: 0,
            sent: None,
        }
    }

    /// The peer has shown that it is there.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.waiting = None;
    }

    /// The peer has answered a ping; for the last one, how long that took.
    pub(super) fn answered(&mut self, number: u32, now: Instant) -> Option<Duration> {
        self.heard(now);
        let sent = (number == self.number).then(|| self.sent.take())??;
        Some(now.saturating_duration_since(sent))
    }

    /// Whether its silence says nothing at the moment. Its time to answer begins only when that has
    /// ceased to be so.
    pub(super) fn excuse(&mut self, is_excused: bool, now: Instant) {
        if is_excused || self.excused {
            self.waiting = self.waiting.and(Some(now));
        }
        self.excused = is_excused;
    }

    /// The ping, which waited for the end of a frame, is on its way only now.
    pub(super) fn asked(&mut self, now: Instant) {
        self.sent = self.sent.and(Some(now));
    }

    /// Whether a pong may still come.
    pub(super) fn is_awaited(&self) -> bool {
        self.sent.is_some()
    }

    /// When to look again.
    pub(super) fn due(&self) -> Instant {
        match self.waiting {
            Some(since) => since + Duration::from_millis(self.timeout.into()),
            None => self.heard + Duration::from_millis(self.interval.into()),
        }
    }

    pub(super) fn look(&mut self, now: Instant) -> Verdict {
        if now < self.due() {
            return Verdict::Nothing;
        }
        if self.waiting.is_some() {
            return Verdict::Dead;
        }
        self.waiting = Some(now);
        self.sent = Some(now);
        self.number = self.number.wrapping_add(1);
        Verdict::Ping(self.number)
    }
}

/// A ping of ours.
pub(super) fn ping(key: [u8; 8], number: u32, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = [0; PING_PAYLOAD];
    let bytes = key.into_iter().chain(number.to_be_bytes());
    for (slot, byte) in payload.iter_mut().zip(bytes) {
        *slot = byte;
    }
    let mut out = Vec::with_capacity(2 + 4 + PING_PAYLOAD);
    frame::control(&mut out, frame::PING, &payload, mask);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_pinged_and_then_dead() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(20 * second, 10 * second, start);
        assert!(heartbeat.due() >= start + 18 * second && heartbeat.due() <= start + 20 * second);
        assert_eq!(heartbeat.look(start + 17 * second), Verdict::Nothing);
        let at = start + 20 * second;
        assert_eq!(heartbeat.look(at), Verdict::Ping(1));
        assert_eq!(heartbeat.look(at), Verdict::Nothing);
        assert_eq!(heartbeat.look(at + 9 * second), Verdict::Nothing);
        assert_eq!(heartbeat.look(at + 10 * second), Verdict::Dead);
    }

    #[tokio::test(start_paused = true)]
    async fn any_byte_is_a_sign_of_life_and_the_pong_has_the_round_trip_time() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(20 * second, 10 * second, start);
        let at = start + 20 * second;
        assert_eq!(heartbeat.look(at), Verdict::Ping(1));
        heartbeat.heard(at + second);
        assert!(heartbeat.is_awaited());
        assert_eq!(heartbeat.look(at + 11 * second), Verdict::Nothing);
        assert_eq!(heartbeat.answered(7, at + 2 * second), None);
        assert_eq!(heartbeat.answered(1, at + 3 * second), Some(3 * second));
        assert!(!heartbeat.is_awaited());
        assert_eq!(heartbeat.answered(1, at + 4 * second), None);
        assert_eq!(heartbeat.look(at + 24 * second), Verdict::Ping(2));
    }
}
