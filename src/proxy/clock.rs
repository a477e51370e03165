//! The deadlines of a client connection, without a timer per request.
//!
//! ```text
//! accepted ─▶ idle ─first byte─▶ head ─complete─▶ in flight ─answer sent─▶ idle
//!             │ idle timeout      │ head timeout    │ body or write stalls
//! ```
//!
//! Activity stores a time; one timer per connection looks at the times only when it fires, and is
//! set anew for the earliest deadline that could then be due.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// No time.
const NEVER: u64 = u64::MAX;

/// For how long a slow or silent client is borne with, whatever its listener says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the TLS handshake. Default 10 s.
    pub tls_handshake: Duration,
    /// To send a request's head, from its first byte; then 408. Default 10 s.
    pub head: Duration,
    /// Without a byte of a request's body, or without the client taking a byte of the answer.
    /// Default 60 s.
    pub stall: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            stall: Duration::from_secs(60),
        }
    }
}

/// What a client connection is doing, and since when. Times are milliseconds since `origin`.
#[derive(Debug)]
pub struct ConnectionClock {
    origin: Instant,
    deadlines: Deadlines,
    /// HTTP/2 has frames of its own between requests: only HTTP/1 has a head to wait for.
    http2: bool,
    in_flight: AtomicU32,
    bodies: AtomicU32,
    unread_body: AtomicBool,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    received_at: AtomicU64,
    blocked_since: AtomicU64,
}

/// A deadline that has passed, or when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is due before this time.
    LookAgain(Instant),
    /// No request came; the connection may end without a word.
    Idle,
    /// A request's head was begun and not finished.
    HeadTimeout,
    /// The client stopped sending a body or taking an answer.
    Stalled,
}

impl ConnectionClock {
    /// A connection just accepted.
    #[must_use]
    pub fn new(http2: bool, deadlines: Deadlines) -> Self {
        Self {
            origin: Instant::now(),
            deadlines,
            http2,
            in_flight: AtomicU32::new(0),
            bodies: AtomicU32::new(0),
            unread_body: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            received_at: AtomicU64::new(NEVER),
            blocked_since: AtomicU64::new(NEVER),
        }
    }

    /// Bytes came from the client.
    pub fn received(&self) {
        let now = self.now();
        self.received_at.store(now, Ordering::Relaxed);
        if !self.http2
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == NEVER
        {
            self.head_since.store(now, Ordering::Relaxed);
        }
    }

    /// Whether the client has sent anything.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.received_at.load(Ordering::Relaxed) != NEVER
    }

    /// Whether the client takes what is written.
    pub fn write_blocked(&self, blocked: bool) {
        let since = self.blocked_since.load(Ordering::Relaxed);
        if blocked && since == NEVER {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        } else if !blocked && since != NEVER {
            self.blocked_since.store(NEVER, Ordering::Relaxed);
        }
    }

    /// A request's head is complete.
    pub fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(NEVER, Ordering::Relaxed);
    }

    /// A request's answer is complete, or will never be.
    pub fn request_ended(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request's body is being read.
    pub fn body_began(&self) {
        self.received_at.store(self.now(), Ordering::Relaxed);
        self.bodies.fetch_add(1, Ordering::Relaxed);
    }

    /// A request's body has been read, or will never be: then the rest of it is still to come.
    pub fn body_ended(&self, whole: bool) {
        if !whole {
            self.unread_body.store(true, Ordering::Relaxed);
        }
        self.bodies.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request's body has not come in whole.
    #[must_use]
    pub fn is_reading_body(&self) -> bool {
        self.bodies.load(Ordering::Relaxed) > 0
    }

    /// Whether a request's body was left before its end.
    #[must_use]
    pub fn has_unread_body(&self) -> bool {
        self.unread_body.load(Ordering::Relaxed)
    }

    /// Whether a request is being served.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// The shortest time in which a deadline can come due that is not there yet.
    #[must_use]
    pub fn look_every(&self, idle: Duration) -> Duration {
        idle.min(self.deadlines.head).min(self.deadlines.stall)
    }

    /// Judges the connection now.
    #[must_use]
    pub fn verdict(&self, idle: Duration) -> Verdict {
        let Deadlines { head, stall, .. } = self.deadlines;
        let now = self.now();
        let mut next = now + millis(self.look_every(idle));
        let mut due = |since: u64, limit: Duration| {
            if since == NEVER {
                return false;
            }
            let deadline = since.saturating_add(millis(limit));
            next = if deadline > now {
                next.min(deadline)
            } else {
                next
            };
            deadline <= now
        };
        if due(self.blocked_since.load(Ordering::Relaxed), stall) {
            return Verdict::Stalled;
        }
        if self.is_in_flight() {
            let received = self.received_at.load(Ordering::Relaxed);
            if self.is_reading_body() && due(received, stall) {
                return Verdict::Stalled;
            }
        } else {
            if due(self.head_since.load(Ordering::Relaxed), head) {
                return Verdict::HeadTimeout;
            }
            if self.head_since.load(Ordering::Relaxed) == NEVER
                && due(self.idle_since.load(Ordering::Relaxed), idle)
            {
                return Verdict::Idle;
            }
        }
        Verdict::LookAgain(self.origin + Duration::from_millis(next))
    }

    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(15);

    async fn after(clock: &ConnectionClock, wait: Duration) -> Verdict {
        tokio::time::advance(wait).await;
        clock.verdict(IDLE)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_idle_timeout_only_between_requests() {
        let clock = ConnectionClock::new(false, Deadlines::default());
        let second = Duration::from_secs(1);
        assert!(matches!(
            after(&clock, 14 * second).await,
            Verdict::LookAgain(_)
        ));
        clock.received();
        clock.request_began();
        assert!(matches!(
            after(&clock, 3600 * second).await,
            Verdict::LookAgain(_)
        ));
        clock.request_ended();
        assert!(matches!(
            after(&clock, 14 * second).await,
            Verdict::LookAgain(_)
        ));
        assert_eq!(after(&clock, second).await, Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickling_head_ends_at_its_deadline() {
        let clock = ConnectionClock::new(false, Deadlines::default());
        let second = Duration::from_secs(1);
        let _ = after(&clock, 14 * second).await;
        for _ in 0..9 {
            clock.received();
            assert!(matches!(after(&clock, second).await, Verdict::LookAgain(_)));
        }
        clock.received();
        assert_eq!(after(&clock, second).await, Verdict::HeadTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_bodies_and_readers_end() {
        let clock = ConnectionClock::new(false, Deadlines::default());
        let second = Duration::from_secs(1);
        clock.request_began();
        clock.body_began();
        let _ = after(&clock, 59 * second).await;
        clock.received();
        assert!(matches!(
            after(&clock, 59 * second).await,
            Verdict::LookAgain(_)
        ));
        assert_eq!(after(&clock, second).await, Verdict::Stalled);
        clock.body_ended(true);
        clock.write_blocked(true);
        let _ = after(&clock, 30 * second).await;
        clock.write_blocked(true);
        assert!(matches!(
            after(&clock, 29 * second).await,
            Verdict::LookAgain(_)
        ));
        assert_eq!(after(&clock, second).await, Verdict::Stalled);
        clock.write_blocked(false);
        assert!(matches!(clock.verdict(IDLE), Verdict::LookAgain(_)));
    }
}
