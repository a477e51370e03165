//! The relay: one small future that carries both directions of a tunnel to their end.
//!
//! ```text
//! Open ─ idle, asked to end, protocol error ───────────────┐
//!  │                                                       ▼
//!  ├─ a peer went, or both closed ─▶ Lingering ─ silence ─▶ Closing (Close at the next boundary)
//!  │                                     │                 │
//!  └────────────── all said ─────────────┴──── all said ───┴▶ Final (their Close, their end) ─▶ Outcome
//! ```
//!
//! Bytes are read into a buffer that all tunnels of a thread share and are written in the same
//! poll; a tunnel owns a buffer only while one peer is slower than the other (P8).
//!
//! How it ends (P4):
//! - The peers' own Close frames pass like any frame. Behind one, nothing more is forwarded; what
//!   still comes is read and discarded, since closing a socket over unread bytes would reset it
//!   and could take the Close frame away from the peer.
//! - An end of our own puts a Close at the next frame boundary of each direction, behind what was
//!   already received. A direction that does not reach a boundary in time is cut without one: in
//!   the middle of a frame there is no byte that we could truthfully add.
//! - A peer that goes without a Close is the other's cause: it gets a Close from us, and what the
//!   other still says is carried on until it closes too.
//! - Toward the client the proxy is the server, and closes the connection first once both Close
//!   frames are through; toward the pod it is the client, and waits for the pod's end (RFC 6455
//!   §7.1.1). No wait is longer than the close timeout without a byte moving.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::care::Care;
use super::close::{By, Cause, CloseCode, Ending, Side, answer};
use super::flow::{Flow, Pumped, Sink};
use super::gate::SizeBounds;
use super::outcome::Outcome;
use super::relay_config::{RelayConfig, millis};
use super::tunnel::TunnelGuard;

/// Holds two TLS records; larger messages take as many reads. Shared by all tunnels of a thread.
const BUFFER: usize = 32 * 1024;
/// Reads per direction in one poll, so that one busy tunnel does not keep others waiting.
const ROUNDS: usize = 16;
/// For how long a peer may leave the other's Close unanswered where no idle timeout is shorter.
const CLOSE_UNANSWERED: Duration = Duration::from_secs(60);
/// How many close timeouts a tunnel may linger while bytes keep moving.
const LINGER_MAX: u32 = 12;

thread_local! {
    static SHARED_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A tunnel on its way; see [`relay`].
#[must_use = "a relay does nothing unless polled"]
pub struct Relay<C, P> {
    client: C,
    pod: P,
    /// Client to pod.
    up: Flow,
    /// Pod to client.
    down: Flow,
    tunnel: TunnelGuard,
    /// Pings, age and pace, where the policy asks for any.
    pub(super) care: Option<Box<Care>>,
    /// In milliseconds; 0 = never.
    idle_timeout: u32,
    /// In milliseconds.
    close_timeout: u32,
    clock: Clock,
    /// The deadline of a clock that has a fixed one.
    until: Instant,
    /// One timer for all deadlines. Moved only when it fires or must fire earlier.
    sleep: Option<Pin<Box<Sleep>>>,
    /// What began the end, and who.
    first: Option<(Cause, By)>,
    /// Both peers are to be told to close, for this cause.
    ending: Option<Cause>,
    /// The code that we told the peer whom the cause concerns, if we did.
    told: Option<u16>,
}

/// What time it is in the life of a tunnel. Only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Clock {
    /// Both peers are there. Silence ends it, if there is an idle timeout.
    Open,
    /// A peer has gone, or both have closed, and something is still being said. Silence of a
    /// close timeout ends it, and a fixed deadline.
    Lingering,
    /// A Close of ours goes to both at the next boundary, if they reach one in time.
    Closing,
    /// All has been said and delivered; the peers may close and go in good time.
    Final,
    /// Both connections are finished, or their time is up.
    Done,
}

/// Carries a tunnel from the 101 to its end.
///
/// `client_prefix` and `pod_prefix` are bytes that were read from either side behind the head of
/// the handshake; they are delivered first. The future ends with both connections finished: dropped
/// after that, the sockets close without a reset. Must be polled in a tokio runtime with time.
pub fn relay<C, P>(
    client: C,
    client_prefix: Bytes,
    pod: P,
    pod_prefix: Bytes,
    tunnel: TunnelGuard,
    config: RelayConfig,
) -> Relay<C, P>
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut from_pod) = (Pumped::default(), Pumped::default());
    let up = Flow::new(&client_prefix, config.bounds(), &mut from_client);
    let down = Flow::new(&pod_prefix, SizeBounds::default(), &mut from_pod);
    // Nothing of the buffers that the handshake was read into is kept.
    drop((client_prefix, pod_prefix));
    tunnel.add(Side::Client, &from_client.traffic);
    tunnel.add(Side::Pod, &from_pod.traffic);
    let too_big = (Cause::MessageTooBig, By::Client);
    let first = from_client.found.too_big.then_some(too_big);
    Relay {
        client,
        pod,
        up,
        down,
        tunnel,
        care: Care::new(&config, Instant::now()),
        idle_timeout: config.idle_timeout.map_or(0, millis),
        close_timeout: millis(config.close_timeout),
        clock: Clock::Open,
        until: Instant::now(),
        sleep: None,
        first,
        ending: first.map(|(cause, _)| cause),
        told: None,
    }
}

impl<C, P> Future for Relay<C, P>
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        if let Some(cause) = this.tunnel.requested(cx.waker()) {
            this.end(cause, By::Proxy);
        }
        let mut buffer = SHARED_BUFFER.take();
        buffer.resize(BUFFER, 0);
        let poll = this.turn(&mut buffer, cx);
        SHARED_BUFFER.set(buffer);
        poll
    }
}

impl<C, P> Relay<C, P>
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    fn turn(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<Outcome> {
        // One look at the clock serves the whole poll, which is short.
        let now = Instant::now();
        for _ in 0..ROUNDS {
            self.settle();
            if self.clock == Clock::Done {
                return Poll::Ready(self.outcome());
            }
            let reads = self.reads_client(now);
            let (client, pod) = (&mut self.client, &mut self.pod);
            let up = self.up.pump(client, pod, buffer, reads, cx);
            let down = self.down.pump(pod, client, buffer, true, cx);
            self.tunnel.add(Side::Client, &up.traffic);
            self.tunnel.add(Side::Pod, &down.traffic);
            self.take_care(&up, &down, now);
            // What is discarded keeps nobody open, except where it shows that a peer which still
            // has to take what was said is there.
            let lingering = self.clock == Clock::Lingering;
            if up.active || down.active || lingering && (up.discarded || down.discarded) {
                self.tunnel.touch(now);
            }
            if !up.progress && !down.progress && !self.poll_timer(now, cx) {
                return Poll::Pending;
            }
        }
        // A peer that never pauses must not hold off a deadline.
        self.check_deadline(now);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C, P> Relay<C, P> {
    /// Begins an end of ours, unless one has begun.
    pub(super) fn end(&mut self, cause: Cause, by: By) {
        self.first.get_or_insert((cause, by));
        let ending = *self.ending.get_or_insert(cause);
        self.tunnel.ends(ending);
    }

    /// Whether an end of ours has begun.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether nobody has begun to end it.
    pub(super) fn is_open(&self) -> bool {
        let is_closing = self.up.scanner.is_closed() || self.down.scanner.is_closed();
        self.clock == Clock::Open && !self.is_ending() && !is_closing
    }

    /// Its record in the table.
    pub(super) fn tunnel(&self) -> &TunnelGuard {
        &self.tunnel
    }

    /// Draws the conclusions from what happened. The one place that decides how a tunnel ends.
    fn settle(&mut self) {
        self.observe(Side::Client);
        self.observe(Side::Pod);
        self.advance(Side::Pod);
        self.advance(Side::Client);
        self.set_clock();
    }

    /// Notes what a peer did to end the tunnel.
    fn observe(&mut self, side: Side) {
        let flow = self.flow_from(side);
        let event = if flow.scanner.is_closed() {
            Cause::PeerClosed
        } else if flow.scanner.is_broken() {
            Cause::ProtocolError
        } else if flow.source_ended {
            match side {
                Side::Client => Cause::ClientGone,
                Side::Pod => Cause::PodGone,
            }
        } else {
            return;
        };
        self.first.get_or_insert((event, side.into()));
        if event == Cause::ProtocolError {
            self.ending.get_or_insert(event);
        }
    }

    /// Takes the stream toward `side` as far toward its end as it can go.
    fn advance(&mut self, side: Side) {
        let ending = self.ending.is_some();
        let back = self.flow_from(side);
        let (side_closed, side_ended) = (back.scanner.is_closed(), back.source_ended);
        let flow = self.flow_toward(side);
        if flow.sink < Sink::CloseDue && (ending || flow.source_ended) {
            flow.sink = if flow.scanner.at_boundary() {
                Sink::CloseDue
            } else if flow.source_ended {
                Sink::Finishing
            } else {
                Sink::Ending
            };
        }
        if flow.sink == Sink::CloseDue {
            let (code, reason) = self.parting(side);
            self.flow_toward(side).queue_close(side, code, reason);
        }
        let flow = self.flow_toward(side);
        if flow.sink == Sink::Closed {
            let handshake_over = side == Side::Client && side_closed;
            if flow.source_ended || side_ended || handshake_over {
                flow.sink = Sink::Finishing;
            }
        }
    }

    /// The code and reason of our Close to `side`.
    fn parting(&mut self, side: Side) -> (Option<u16>, &'static str) {
        let (first, by) = self.first.unwrap_or((Cause::Shutdown, By::Proxy));
        let back = self.flow_from(side);
        let (code, reason) = if back.scanner.is_closed() {
            (answer(back.scanner.close_code()), "")
        } else {
            let cause = self.ending.unwrap_or(first);
            let asked = match cause {
                Cause::Operator => self.tunnel.requested_code(),
                _ => None,
            };
            let code = asked.unwrap_or_else(|| cause.code(side, by));
            (Some(code), cause.reason())
        };
        let counts = match (first, by) {
            (Cause::ClientGone, _) => side == Side::Pod,
            (Cause::PodGone, _) => side == Side::Client,
            (Cause::MessageTooBig | Cause::ProtocolError | Cause::RateExceeded, culprit) => {
                culprit == side.into()
            }
            (Cause::KeepaliveTimeout, dead) => dead != side.into(),
            _ => true,
        };
        if counts {
            self.told = code;
        }
        (code, reason)
    }

    fn set_clock(&mut self) {
        let flows = [&self.up, &self.down];
        let over = |flow: &&Flow| flow.source_ended && flow.sink == Sink::Finished;
        let said = |flow: &&Flow| flow.sink >= Sink::Closed && flow.is_delivered();
        let gone = |flow: &&Flow| flow.source_ended || flow.sink_failed;
        let next = if flows.iter().all(over) {
            Clock::Done
        } else if flows.iter().all(said) {
            Clock::Final
        } else if self.ending.is_some() {
            Clock::Closing
        } else if flows.iter().any(gone) || flows.iter().all(|flow| flow.scanner.is_closed()) {
            Clock::Lingering
        } else {
            Clock::Open
        };
        if next > self.clock {
            self.enter(next);
        }
    }

    fn enter(&mut self, clock: Clock) {
        self.clock = clock;
        let timeout = Duration::from_millis(self.close_timeout.into());
        self.until = Instant::now()
            + match clock {
                Clock::Lingering => timeout * LINGER_MAX,
                _ => timeout,
            };
    }

    /// Looks whether the deadline has passed, and if not sees to it that the timer fires when it
    /// does. Returns whether something was decided.
    fn poll_timer(&mut self, mut now: Instant, cx: &mut Context<'_>) -> bool {
        loop {
            if self.check_deadline(now) {
                return true;
            }
            let deadlines = [self.silence_ends(), self.care_due()];
            let Some(deadline) = deadlines.into_iter().flatten().min() else {
                return false;
            };
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline || sleep.is_elapsed() {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            now = Instant::now();
        }
    }

    fn check_deadline(&mut self, now: Instant) -> bool {
        if self.tend(now) {
            return true;
        }
        let is_up = self.silence_ends().is_some_and(|at| now >= at);
        if is_up {
            self.time_is_up();
        }
        is_up
    }

    /// When the step of the tunnel's life that it is at is over, unless something happens.
    fn silence_ends(&self) -> Option<Instant> {
        let silence = |limit| self.tunnel.last_active() + limit;
        let idle = match self.idle_timeout {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        };
        match self.clock {
            Clock::Open if self.up.scanner.is_closed() || self.down.scanner.is_closed() => Some(
                silence(idle.unwrap_or(CLOSE_UNANSWERED).min(CLOSE_UNANSWERED)),
            ),
            Clock::Open => idle.map(silence),
            Clock::Lingering => {
                let timeout = Duration::from_millis(self.close_timeout.into());
                Some(silence(timeout).min(self.until))
            }
            Clock::Closing | Clock::Final => Some(self.until),
            Clock::Done => None,
        }
    }

    fn time_is_up(&mut self) {
        match self.clock {
            Clock::Open => {
                let (cause, by) = *self.first.get_or_insert((Cause::Idle, By::Proxy));
                self.end(cause, by);
            }
            Clock::Lingering => {
                let gone = if self.up.sink_failed {
                    (Cause::PodGone, By::Pod)
                } else {
                    (Cause::ClientGone, By::Client)
                };
                let (cause, by) = *self.first.get_or_insert(gone);
                self.end(cause, by);
            }
            Clock::Closing => {
                self.up.cut();
                self.down.cut();
                self.enter(Clock::Final);
            }
            Clock::Final | Clock::Done => self.clock = Clock::Done,
        }
    }

    fn outcome(&self) -> Outcome {
        let (cause, by) = self.first.unwrap_or((Cause::Dropped, By::Proxy));
        let code = match (cause, by) {
            (Cause::PeerClosed, By::Client) => self.up.scanner.close_code(),
            (Cause::PeerClosed, By::Pod) => self.down.scanner.close_code(),
            _ => self.told,
        };
        self.tunnel.close(Ending {
            cause,
            by,
            code: CloseCode::from(code),
        });
        Outcome {
            id: self.tunnel.id(),
            cause,
            by,
            code,
            duration: self.tunnel.age(Instant::now()),
            from_client: self.tunnel.traffic(Side::Client),
            from_pod: self.tunnel.traffic(Side::Pod),
        }
    }

    fn flow_from(&self, side: Side) -> &Flow {
        match side {
            Side::Client => &self.up,
            Side::Pod => &self.down,
        }
    }

    pub(super) fn flow_toward(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.down,
            Side::Pod => &mut self.up,
        }
    }
}

impl<C, P> fmt::Debug for Relay<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("tunnel", &self.tunnel)
            .field("clock", &self.clock)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_small() {
        // Beside its two connections; `tests/tunnel_memory.rs` counts the rest.
        assert!(size_of::<Relay<(), ()>>() <= 152);
    }
}
