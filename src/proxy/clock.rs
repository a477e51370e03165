//! The deadlines of a client connection, without a timer per request.
//!
//! ```text
//! accepted ─▶ idle ─first byte─▶ head ─complete─▶ in flight ─answer sent─▶ idle
//!             │ idle timeout      │ head timeout    │ body or write stalls
//! ```
//!
//! Activity stores a time; one timer per connection looks at the times only when it fires, and is
//! set anew for the earliest deadline that could then be due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// No time.
const NEVER: u64 = u64::MAX;
/// WebSockets over HTTP/2 that a client may reset at once, each of which has cost a connection to a
/// pod; and how long it takes, in milliseconds, until it may reset another. A browser that dies
/// resets as many as a connection has streams.
const MAX_RESETS: u64 = 256;
const RESET_COST: u64 = 1000;

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
    unread_body: AtomicBool,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    received_any: AtomicBool,
    blocked_since: AtomicU64,
    /// Requests' bodies of which a pod wants more. One that no pod reads is not the client's fault.
    bodies: Waits,
    /// Parts of answers that the client has no room for. HTTP/2 has windows of its own, so that
    /// the socket does not say.
    answers: Waits,
    /// WebSockets that are streams of the connection.
    tunnels: AtomicU32,
    resets: Resets,
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub struct InUse(Arc<ConnectionClock>);

/// Counts a WebSocket that is a stream of its connection, until it is dropped.
#[derive(Debug)]
pub struct OpenTunnel(InUse);

/// How often the client has reset what it had asked for, as a time: each reset moves it on by
/// [`RESET_COST`], and a client that gets too far ahead of the clock is flooding us.
#[derive(Debug, Default)]
struct Resets {
    paid_until: AtomicU64,
    flooded: AtomicBool,
}

/// Things that only the client can move, and since when none of them has.
#[derive(Debug, Default)]
struct Waits {
    count: AtomicU32,
    since: AtomicU64,
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
            unread_body: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            received_any: AtomicBool::new(false),
            blocked_since: AtomicU64::new(NEVER),
            bodies: Waits::default(),
            answers: Waits::default(),
            tunnels: AtomicU32::new(0),
            resets: Resets::default(),
        }
    }

    /// Something is being served, until the guard is dropped: the connection is not idle.
    #[must_use]
    pub fn in_use(self: &Arc<Self>) -> InUse {
        self.request_began();
        InUse(Arc::clone(self))
    }

    /// A WebSocket is a stream of the connection, until the guard is dropped.
    #[must_use]
    pub fn tunnel_opened(self: &Arc<Self>) -> OpenTunnel {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        OpenTunnel(self.in_use())
    }

    /// The client has reset a WebSocket, or the request for one.
    pub fn websocket_reset(&self) {
        let now = self.now();
        let paid = self.resets.paid_until.load(Ordering::Relaxed).max(now) + RESET_COST;
        // A reset that is lost between the two lines costs the client nothing.
        self.resets.paid_until.store(paid, Ordering::Relaxed);
        if paid > now + MAX_RESETS * RESET_COST {
            self.resets.flooded.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the client resets more than it may.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        self.resets.flooded.load(Ordering::Relaxed)
    }

    /// Bytes came from the client.
    pub fn received(&self) {
        if !self.received_any.load(Ordering::Relaxed) {
            self.received_any.store(true, Ordering::Relaxed);
        }
        if !self.http2
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == NEVER
        {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether the client has sent anything.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.received_any.load(Ordering::Relaxed)
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
    fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(NEVER, Ordering::Relaxed);
    }

    /// A request's answer is complete, or will never be.
    fn request_ended(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// More of a request's body is wanted (`true`), or has come.
    pub fn body_awaited(&self, awaited: bool) {
        self.bodies.set(awaited, self.now());
    }

    /// A part of an answer is on its way (`true`), or the client has room for another. Only told
    /// where [`ConnectionClock::watches_answers`].
    pub fn answer_on_its_way(&self, on_its_way: bool) {
        self.answers.set(on_its_way, self.now());
    }

    /// Whether the clock wants to be told what becomes of answers.
    #[must_use]
    pub fn watches_answers(&self) -> bool {
        self.http2
    }

    /// A request's body will not be read to its end: the rest of it is still to come.
    pub fn body_abandoned(&self) {
        self.unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether more of a request's body is wanted.
    #[must_use]
    pub fn is_awaiting_body(&self) -> bool {
        self.bodies.since() != NEVER
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
        if self.tunnels.load(Ordering::Relaxed) > 0 {
            // The connection has nothing of its own to be late with, and a download that a browser
            // has paused must not cut the WebSockets beside it. They have clocks of their own.
        } else if self.is_in_flight() {
            let body = due(self.bodies.since(), stall);
            if due(self.answers.since(), stall) || body {
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

impl OpenTunnel {
    /// See [`ConnectionClock::websocket_reset`].
    pub fn was_reset(&self) {
        self.0.0.websocket_reset();
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InUse {
    /// The connection's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<ConnectionClock> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

impl Waits {
    fn set(&self, waiting: bool, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        if waiting {
            self.count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn since(&self) -> u64 {
        match self.count.load(Ordering::Relaxed) {
            0 => NEVER,
            _ => self.since.load(Ordering::Relaxed),
        }
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
        assert!(matches!(
            after(&clock, 3600 * second).await,
            Verdict::LookAgain(_)
        ));
        clock.body_awaited(true);
        let _ = after(&clock, 59 * second).await;
        clock.body_awaited(false);
        clock.body_awaited(true);
        assert!(matches!(
            after(&clock, 59 * second).await,
            Verdict::LookAgain(_)
        ));
        assert_eq!(after(&clock, second).await, Verdict::Stalled);
        clock.body_awaited(false);
        clock.answer_on_its_way(true);
        assert_eq!(after(&clock, 60 * second).await, Verdict::Stalled);
        clock.answer_on_its_way(false);
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

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_use_is_not_idle() {
        let clock = Arc::new(ConnectionClock::new(true, Deadlines::default()));
        let (one, other) = (clock.in_use(), clock.in_use());
        let hour = Duration::from_secs(3600);
        assert!(matches!(after(&clock, hour).await, Verdict::LookAgain(_)));
        drop(one);
        assert!(matches!(after(&clock, hour).await, Verdict::LookAgain(_)));
        drop(other);
        assert!(matches!(clock.verdict(IDLE), Verdict::LookAgain(_)));
        assert_eq!(after(&clock, IDLE).await, Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_not_judged_beside_a_tunnel() {
        let clock = Arc::new(ConnectionClock::new(true, Deadlines::default()));
        let _request = clock.in_use();
        let tunnel = clock.tunnel_opened();
        clock.answer_on_its_way(true);
        let hour = Duration::from_secs(3600);
        assert!(matches!(after(&clock, hour).await, Verdict::LookAgain(_)));
        drop(tunnel);
        assert_eq!(clock.verdict(IDLE), Verdict::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_are_many_only_if_they_come_fast() {
        let clock = ConnectionClock::new(true, Deadlines::default());
        for _ in 0..1000 {
            clock.websocket_reset();
            tokio::time::advance(Duration::from_millis(RESET_COST)).await;
        }
        assert!(!clock.is_flooded());
        for _ in 0..MAX_RESETS {
            clock.websocket_reset();
        }
        assert!(!clock.is_flooded());
        clock.websocket_reset();
        assert!(clock.is_flooded());
    }
}
