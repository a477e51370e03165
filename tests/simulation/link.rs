//! A connection over a bad network: delays, losses that cost a retransmission, a bounded window,
//! resets, and a peer that vanishes without a word. Bytes arrive in order or not at all, as TCP
//! gives them.
//!
//! ```text
//! write ─▶ queue (each piece with its time of arrival) ─▶ carrier task ─▶ arrived ─▶ read
//!   ▲                                                                       │
//!   └───────────────── room in the window ◀─────────────────────────────────┘
//! ```

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a network is like.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay: Duration,
    /// On top of the delay, at most.
    pub jitter: Duration,
    /// Of a thousand pieces, so many are lost and sent again.
    pub losses: u32,
    pub retransmission: Duration,
    /// Bytes that are under way or not yet read, at most.
    pub window: usize,
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

#[derive(Default)]
struct Pipe {
    queue: VecDeque<(Instant, Piece)>,
    arrived: VecDeque<u8>,
    under_way: usize,
    ended: bool,
    reset: bool,
    /// Nobody reads any more.
    abandoned: bool,
    /// Nothing arrives any more, and nobody is told.
    silent: bool,
    /// Accepted from the writer, ever.
    accepted: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Direction {
    pipe: Mutex<Pipe>,
    more: Notify,
}

impl Direction {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pipe: Mutex::default(),
            more: Notify::new(),
        })
    }

    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap()
    }

    fn wake(&self) {
        let mut pipe = self.pipe();
        let wakers = [pipe.reader.take(), pipe.writer.take()];
        drop(pipe);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// One end of a connection.
pub struct Line {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
    weather: Weather,
    chance: fastrand::Rng,
}

/// Both ends of a connection.
pub fn link(weather: Weather, chance: &mut fastrand::Rng) -> (Line, Line) {
    let (there, back) = (Direction::new(), Direction::new());
    for (direction, opposite) in [(&there, &back), (&back, &there)] {
        tokio::spawn(carry(Arc::clone(direction), Arc::clone(opposite)));
    }
    let line = |incoming: &Arc<Direction>, outgoing: &Arc<Direction>, seed| Line {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        weather,
        chance: fastrand::Rng::with_seed(seed),
    };
    (
        line(&back, &there, chance.u64(..)),
        line(&there, &back, chance.u64(..)),
    )
}

/// Has each piece arrive in its time.
async fn carry(direction: Arc<Direction>, opposite: Arc<Direction>) {
    loop {
        let due = direction.pipe().queue.front().map(|(due, _)| *due);
        let Some(due) = due else {
            direction.more.notified().await;
            continue;
        };
        sleep_until(due).await;
        let mut pipe = direction.pipe();
        let Some((_, piece)) = pipe.queue.pop_front() else {
            continue;
        };
        let is_last = match piece {
            _ if pipe.silent => false,
            Piece::Bytes(bytes) => {
                pipe.under_way -= bytes.len();
                pipe.arrived.extend(bytes);
                false
            }
            Piece::End => {
                pipe.ended = true;
                true
            }
            Piece::Reset => {
                pipe.reset = true;
                drop(pipe);
                opposite.pipe().abandoned = true;
                opposite.wake();
                direction.wake();
                return;
            }
        };
        drop(pipe);
        direction.wake();
        if is_last {
            return;
        }
    }
}

impl Line {
    fn send(&mut self, piece: Piece) {
        let weather = self.weather;
        let mut delay = weather.delay + weather.jitter.mul_f64(self.chance.f64());
        while self.chance.u32(..1000) < weather.losses {
            delay += weather.retransmission;
        }
        let mut pipe = self.outgoing.pipe();
        let due = Instant::now() + delay;
        // In order: what was lost holds up what comes behind it.
        let due = pipe.queue.back().map_or(due, |(last, _)| due.max(*last));
        pipe.queue.push_back((due, piece));
        drop(pipe);
        self.outgoing.more.notify_one();
    }

    /// Both directions fail.
    pub fn reset(&mut self) {
        self.send(Piece::Reset);
        self.incoming.pipe().abandoned = true;
        self.incoming.wake();
    }

    /// Whatever is under way, or will be, is lost.
    pub fn vanish(&self) {
        self.incoming.pipe().silent = true;
        self.outgoing.pipe().silent = true;
    }

    /// Bytes that were accepted from this end, ever.
    pub fn accepted(&self) -> u64 {
        self.outgoing.pipe().accepted
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.incoming.pipe();
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.arrived.is_empty() && !pipe.ended {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = pipe.arrived.len().min(into.remaining());
        let bytes: Vec<u8> = pipe.arrived.drain(..count).collect();
        let writer = pipe.writer.take();
        drop(pipe);
        into.put_slice(&bytes);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing.pipe();
        if pipe.abandoned {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.weather.window - (pipe.under_way + pipe.arrived.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        pipe.under_way += count;
        pipe.accepted += count as u64;
        drop(pipe);
        for piece in bytes[..count].chunks(1460) {
            self.send(Piece::Bytes(piece.to_vec()));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send(Piece::End);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.send(Piece::End);
        self.incoming.pipe().abandoned = true;
        self.incoming.wake();
    }
}
