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

use super::close::{By, Cause, CloseCode, Ending, Side, answer};
use super::flow::{Flow, Sink};
use super::scanner::Traffic;
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

/// Clocks of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Silence of both peers that ends the tunnel; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// For each step of an ending: to reach a frame boundary, and to wait for the peers' Close.
    pub close_timeout: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(60)),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// How a tunnel went, for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Identity in the tunnel table.
    pub id: u64,
    /// Why it ended.
    pub cause: Cause,
    /// Who began the end.
    pub by: By,
    /// The Close code: the peer's own where a peer closed, else the one we told; `None` where
    /// there was none, or no boundary to put it at.
    pub code: Option<u16>,
    /// For how long it was open.
    pub duration: Duration,
    /// What the client sent.
    pub from_client: Traffic,
    /// What the pod sent.
    pub from_pod: Traffic,
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
    config: RelayConfig,
    clock: Clock,
    /// One timer for all deadlines. Moved only when it fires or must fire earlier.
    sleep: Option<Pin<Box<Sleep>>>,
    /// What began the end, and who.
    first: Option<(Cause, By)>,
    /// Both peers are to be told to close, for this cause.
    ending: Option<Cause>,
    /// The code that we told the peer whom the cause concerns, if we did.
    told: Option<u16>,
    done: bool,
}

/// What time it is in the life of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// Both peers are there. Silence ends it, if there is an idle timeout.
    Open,
    /// A peer has gone, or both have closed, and something is still being said. Silence of a
    /// close timeout ends it, and at the latest this moment.
    Lingering(Instant),
    /// A Close of ours goes to both at the next boundary, until this moment.
    Closing(Instant),
    /// All has been said and delivered; the peers have until this moment to close and to go.
    Final(Instant),
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
    let (mut from_client, mut from_pod) = (Traffic::default(), Traffic::default());
    let up = Flow::new(&client_prefix, &mut from_client);
    let down = Flow::new(&pod_prefix, &mut from_pod);
    // Nothing of the buffers that the handshake was read into is kept.
    drop((client_prefix, pod_prefix));
    tunnel.add(Side::Client, &from_client);
    tunnel.add(Side::Pod, &from_pod);
    Relay {
        client,
        pod,
        up,
        down,
        tunnel,
        config,
        clock: Clock::Open,
        sleep: None,
        first: None,
        ending: None,
        told: None,
        done: false,
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
            this.first.get_or_insert((cause, By::Proxy));
            this.ending.get_or_insert(cause);
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
        for _ in 0..ROUNDS {
            self.settle();
            if self.done {
                return Poll::Ready(self.outcome());
            }
            let up = self.up.pump(&mut self.client, &mut self.pod, buffer, cx);
            let down = self.down.pump(&mut self.pod, &mut self.client, buffer, cx);
            self.tunnel.add(Side::Client, &up.traffic);
            self.tunnel.add(Side::Pod, &down.traffic);
            // What is discarded keeps nobody open, except where it shows that a peer which still
            // has to take what was said is there.
            let lingering = matches!(self.clock, Clock::Lingering(_));
            if up.active || down.active || lingering && (up.discarded || down.discarded) {
                self.tunnel.touch(Instant::now());
            }
            if !up.progress && !down.progress && !self.poll_timer(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C, P> Relay<C, P> {
    /// Draws the conclusions from what happened. The one place that decides how a tunnel ends.
    fn settle(&mut self) {
        self.observe(Side::Client);
        self.observe(Side::Pod);
        self.advance(Side::Pod);
        self.advance(Side::Client);
        self.set_clock();
        self.done |= [&self.up, &self.down]
            .iter()
            .all(|flow| flow.source_ended && flow.sink == Sink::Finished);
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
            (Some(cause.code(side, by)), cause.reason())
        };
        let counts = match (first, by) {
            (Cause::ClientGone, _) => side == Side::Pod,
            (Cause::PodGone, _) => side == Side::Client,
            (Cause::ProtocolError, culprit) => culprit == side.into(),
            _ => true,
        };
        if counts {
            self.told = code;
        }
        (code, reason)
    }

    fn set_clock(&mut self) {
        if matches!(self.clock, Clock::Final(_)) {
            return;
        }
        let flows = [&self.up, &self.down];
        let timeout = self.config.close_timeout;
        if flows
            .iter()
            .all(|flow| flow.sink >= Sink::Closed && flow.is_delivered())
        {
            self.clock = Clock::Final(after(timeout));
        } else if self.ending.is_some() {
            if !matches!(self.clock, Clock::Closing(_)) {
                self.clock = Clock::Closing(after(timeout));
            }
        } else if self.clock == Clock::Open
            && (flows
                .iter()
                .any(|flow| flow.source_ended || flow.sink_failed)
                || flows.iter().all(|flow| flow.scanner.is_closed()))
        {
            self.clock = Clock::Lingering(after(timeout.saturating_mul(LINGER_MAX)));
        }
    }

    /// Looks whether a deadline has passed, and sees to it that the timer fires when the next one
    /// does. Returns whether something was decided.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(deadline) = self.deadline() else {
                return false;
            };
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    if sleep.deadline() > deadline {
                        sleep.as_mut().reset(deadline);
                    }
                    sleep
                }
                none => none.insert(Box::pin(sleep_until(deadline))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if Instant::now() >= deadline {
                self.time_is_up();
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let closing = self.up.scanner.is_closed() || self.down.scanner.is_closed();
        let silence = |limit| self.tunnel.last_active().checked_add(limit);
        match self.clock {
            Clock::Open => match self.config.idle_timeout {
                Some(idle) if closing => silence(idle.min(CLOSE_UNANSWERED)),
                None if closing => silence(CLOSE_UNANSWERED),
                Some(idle) => silence(idle),
                None => None,
            },
            Clock::Lingering(at) => {
                Some(silence(self.config.close_timeout).map_or(at, |silence| silence.min(at)))
            }
            Clock::Closing(at) | Clock::Final(at) => Some(at),
        }
    }

    fn time_is_up(&mut self) {
        match self.clock {
            Clock::Open => {
                let (cause, _) = *self.first.get_or_insert((Cause::Idle, By::Proxy));
                self.ending = Some(cause);
            }
            Clock::Lingering(_) => {
                let gone = if self.up.sink_failed {
                    (Cause::PodGone, By::Pod)
                } else {
                    (Cause::ClientGone, By::Client)
                };
                let (cause, _) = *self.first.get_or_insert(gone);
                self.ending = Some(cause);
            }
            Clock::Closing(_) => {
                self.up.cut();
                self.down.cut();
                self.clock = Clock::Final(after(self.config.close_timeout));
            }
            Clock::Final(_) => self.done = true,
        }
    }

    fn outcome(&mut self) -> Outcome {
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

    fn flow_toward(&mut self, side: Side) -> &mut Flow {
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

/// The moment `timeout` from now; a timeout beyond the clock's reach is a day.
fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout)
        .unwrap_or(now + Duration::from_secs(86_400))
}
