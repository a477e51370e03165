//! One direction of a tunnel: what one peer says to the other, and how far that has come.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::close::Side;
use super::frame;
use super::gate::{Found, Gate, SizeBounds};
use super::scanner::{Scanner, Stop, Traffic};

/// One direction. Owns no buffer unless its sink is slower than its source.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) scanner: Scanner,
    /// Read (or made) but not yet taken by the sink. While it exists nothing more is read to be
    /// forwarded: that is the back-pressure.
    pending: Option<Box<Pending>>,
    /// The source's stream has ended, by end or error.
    pub(super) source_ended: bool,
    pub(super) sink: Sink,
    /// Written, but perhaps still in a buffer of the sink's own (TLS).
    unflushed: bool,
    /// A write failed: the sink takes nothing any more.
    pub(super) sink_failed: bool,
    /// There while frames are looked at one by one.
    gate: Option<Box<Gate>>,
}

#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    written: usize,
    /// The sink has refused to take more, once at least.
    blocked: bool,
}

/// How far the stream toward the sink has come. Only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sink {
    /// What is read is forwarded.
    Forwarding,
    /// As before, but a Close of ours goes in at the next boundary.
    Ending,
    /// At a boundary, where a Close of ours goes in now; what is read from here on is discarded.
    CloseDue,
    /// A Close frame is the last of the stream.
    Closed,
    /// The stream is complete, or cut off: the end of it is to be sent.
    Finishing,
    /// The end of the stream has been sent, or the sink failed.
    Finished,
}

/// What a [`Flow::pump`] did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pumped {
    /// Anything at all: try again.
    pub(super) progress: bool,
    /// Bytes were read to be forwarded, or written.
    pub(super) active: bool,
    /// Bytes were read and discarded.
    pub(super) discarded: bool,
    /// The source has sent something.
    pub(super) received: bool,
    /// The sink has taken what it would not take before.
    pub(super) relieved: bool,
    /// What passed.
    pub(super) traffic: Traffic,
    /// What the gate found.
    pub(super) found: Found,
}

impl Flow {
    /// A flow that begins with bytes that have been read already.
    pub(super) fn new(prefix: &[u8], bounds: SizeBounds, pumped: &mut Pumped) -> Self {
        let mut flow = Self {
            scanner: Scanner::new(),
            pending: None,
            source_ended: false,
            sink: Sink::Forwarding,
            unflushed: false,
            sink_failed: false,
            gate: SizeBounds::default()
                .ne(&bounds)
                .then(|| Box::new(Gate::bounded(bounds))),
        };
        let forward = flow.admit(prefix, pumped);
        flow.keep(&forward);
        flow
    }

    /// Whether everything for the sink has been taken by it.
    pub(super) fn is_delivered(&self) -> bool {
        self.pending.is_none() && !self.unflushed
    }

    /// Puts a Close frame behind what the sink has not yet taken, and says nothing more to it.
    pub(super) fn queue_close(&mut self, toward: Side, code: Option<u16>, reason: &str) {
        let mask = match toward {
            Side::Client => None,
            Side::Pod => Some(frame::mask_key()),
        };
        let pending = self.pending.get_or_insert_with(|| {
            Box::new(Pending {
                bytes: Vec::with_capacity(64),
                written: 0,
                blocked: false,
            })
        });
        frame::close(&mut pending.bytes, code, reason, mask);
        self.sink = Sink::Closed;
    }

    /// Puts a frame of ours in at the next boundary, in place of one that still waits for it.
    pub(super) fn insert(&mut self, frame: Vec<u8>) {
        if self.sink != Sink::Forwarding {
            return;
        }
        if !self.scanner.at_boundary() {
            self.gate().insert = frame;
            return;
        }
        match &mut self.pending {
            Some(pending) => pending.bytes.extend_from_slice(&frame),
            None => self.keep(&frame),
        }
    }

    /// Whether a frame of ours still waits for a boundary.
    pub(super) fn is_insert_waiting(&self) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|gate| !gate.insert.is_empty())
    }

    /// Swallows pongs that begin with this key, until [`Flow::stop_awaiting`].
    pub(super) fn await_pongs(&mut self, key: [u8; 8]) {
        self.gate().awaits = Some(key);
    }

    /// No such pong is on its way any more.
    pub(super) fn stop_awaiting(&mut self) {
        if let Some(gate) = &mut self.gate {
            gate.awaits = None;
            if gate.is_idle() {
                self.gate = None;
            }
        }
    }

    fn gate(&mut self) -> &mut Gate {
        self.gate.get_or_insert_default()
    }

    /// Ends the stream here, and gives up what the sink has not taken. A stream that has its Close or
    /// its end already keeps what waits to be taken.
    pub(super) fn cut(&mut self) {
        if self.sink < Sink::Closed {
            self.pending = None;
        }
        self.sink = self.sink.max(Sink::Finishing);
    }

    /// One round: deliver what is pending, end the stream if it is complete, read once.
    ///
    /// Returns without progress only when every side that it waits for has the task's waker: the
    /// source only if `may_read`.
    pub(super) fn pump<S, D>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffer: &mut [u8],
        may_read: bool,
        cx: &mut Context<'_>,
    ) -> Pumped
    where
        S: AsyncRead + Unpin,
        D: AsyncWrite + Unpin,
    {
        let mut pumped = Pumped::default();
        self.deliver(sink, cx, &mut pumped);
        if may_read {
            self.read(source, sink, buffer, cx, &mut pumped);
        }
        pumped.progress |= pumped.active || pumped.discarded;
        pumped
    }

    /// Writes what is pending, flushes, and ends a complete stream.
    fn deliver<D: AsyncWrite + Unpin>(
        &mut self,
        sink: &mut D,
        cx: &mut Context<'_>,
        pumped: &mut Pumped,
    ) {
        if self.sink == Sink::Finished {
            return;
        }
        // Where it is still so, the sink would not take what it holds when it was last flushed.
        let was_held = self.unflushed;
        while let Some(pending) = self.pending.as_deref_mut() {
            let rest = pending.bytes.get(pending.written..).unwrap_or_default();
            if rest.is_empty() {
                self.pending = None;
                break;
            }
            match Pin::new(&mut *sink).poll_write(cx, rest) {
                Poll::Ready(Ok(written @ 1..)) => {
                    pending.written += written;
                    pumped.relieved |= pending.blocked;
                    self.unflushed = true;
                    pumped.active = true;
                }
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(pumped),
                Poll::Pending => {
                    pending.blocked = true;
                    return;
                }
            }
        }
        if self.sink == Sink::Finishing {
            // Flushes too, as far as a sink has anything to flush.
            if let Poll::Ready(result) = Pin::new(&mut *sink).poll_shutdown(cx) {
                self.unflushed = false;
                self.sink = Sink::Finished;
                self.sink_failed |= result.is_err();
                pumped.progress = true;
            }
        } else if self.unflushed {
            self.flush(sink, cx, pumped);
            pumped.relieved |= was_held && !self.unflushed && !self.sink_failed;
        }
    }

    fn flush<D: AsyncWrite + Unpin>(
        &mut self,
        sink: &mut D,
        cx: &mut Context<'_>,
        pumped: &mut Pumped,
    ) {
        match Pin::new(sink).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                pumped.progress = true;
            }
            Poll::Ready(Err(_)) => self.fail(pumped),
            Poll::Pending => {}
        }
    }

    /// Reads once, if what is read can go somewhere.
    fn read<S, D>(
        &mut self,
        source: &mut S,
        sink: &mut D,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
        pumped: &mut Pumped,
    ) where
        S: AsyncRead + Unpin,
        D: AsyncWrite + Unpin,
    {
        let discarding = self.sink > Sink::Ending;
        if self.source_ended || !(discarding || self.is_delivered()) {
            return;
        }
        let mut into = ReadBuf::new(buffer);
        let chunk = match Pin::new(source).poll_read(cx, &mut into) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) if !into.filled().is_empty() => into.filled(),
            Poll::Ready(_) => {
                self.source_ended = true;
                pumped.progress = true;
                pumped.active = true;
                return;
            }
        };
        pumped.received = true;
        if discarding {
            self.discard(chunk);
            pumped.discarded = true;
            return;
        }
        pumped.active = true;
        let forward = self.admit(chunk, pumped);
        let mut forward = &*forward;
        while !forward.is_empty() {
            match Pin::new(&mut *sink).poll_write(cx, forward) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.unflushed = true;
                    forward = forward.get(written..).unwrap_or_default();
                }
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(pumped),
                Poll::Pending => {
                    self.keep(forward);
                    if let Some(pending) = &mut self.pending {
                        pending.blocked = true;
                    }
                    return;
                }
            }
        }
        self.flush(sink, cx, pumped);
    }

    /// Scans what was read, and returns what of it goes to the sink. The rest is discarded: what
    /// follows a Close, or the boundary at which a Close of ours goes in.
    fn admit<'a>(&mut self, chunk: &'a [u8], pumped: &mut Pumped) -> Cow<'a, [u8]> {
        let stop = match self.sink {
            Sink::Ending => Stop::AtBoundary,
            _ => Stop::AfterClose,
        };
        let (forward, rest) = match &mut self.gate {
            None => {
                let end = self.scanner.scan(chunk, stop, &mut pumped.traffic);
                let (forward, rest) = chunk.split_at_checked(end).unwrap_or((chunk, &[]));
                (Cow::Borrowed(forward), rest)
            }
            Some(gate) => {
                let Pumped { traffic, found, .. } = pumped;
                let passed = gate.pass(&mut self.scanner, chunk, stop, traffic, found);
                if gate.is_idle() {
                    self.gate = None;
                }
                passed
            }
        };
        if self.scanner.is_closed() {
            self.sink = Sink::Closed;
        } else if self.scanner.is_broken() {
            self.sink = if self.scanner.at_boundary() {
                Sink::CloseDue
            } else {
                Sink::Finishing
            };
        } else if pumped.found.too_big || self.sink == Sink::Ending && self.scanner.at_boundary() {
            self.sink = Sink::CloseDue;
            self.discard(rest);
        }
        forward
    }

    /// Looks through what goes nowhere for the source's Close.
    fn discard(&mut self, chunk: &[u8]) {
        let held = self.gate.take().map(|gate| gate.into_held());
        for bytes in [held.as_deref().unwrap_or_default(), chunk] {
            self.scanner
                .scan(bytes, Stop::AfterClose, &mut Traffic::default());
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.pending = Some(Box::new(Pending {
                bytes: bytes.to_vec(),
                written: 0,
                blocked: false,
            }));
        }
    }

    fn fail(&mut self, pumped: &mut Pumped) {
        self.pending = None;
        self.unflushed = false;
        self.sink = Sink::Finished;
        self.sink_failed = true;
        pumped.progress = true;
    }
}
