//! The proxy's end of a connection to an [`Endpoint`], under every kind of luck: a few bytes at a
//! time, or none, or held until a flush, or after a while.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::endpoint::{Endpoint, Leave};

/// What the next read or write comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes at most; more than 0.
    Move(usize),
    /// Not ready, but soon.
    NotReady,
    /// Not ready for so long.
    Stall(Duration),
}

/// How often the steps are the same before they become twice as long: a long message of which a few
/// bytes move at a time says nothing new after a while, but takes thousands of turns.
const SAME_ROUNDS: usize = 8;
/// How often they do.
const FASTEST: usize = 12;

/// Steps, again and again. Without any, everything moves at once.
#[derive(Debug, Default)]
pub struct Schedule {
    steps: Vec<Step>,
    next: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Schedule {
    pub fn new(steps: &[Step]) -> Self {
        let mut steps = steps.to_vec();
        if !steps.is_empty() {
            // Something must move at some time.
            steps.push(Step::Move(7));
        }
        Self {
            steps,
            next: 0,
            sleep: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        if self.steps.is_empty() {
            return Poll::Ready(usize::MAX);
        }
        let round = self.next / self.steps.len();
        let step = self.steps[self.next % self.steps.len()];
        self.next += 1;
        match step {
            Step::Move(count) => Poll::Ready(count << (round / SAME_ROUNDS).min(FASTEST)),
            Step::NotReady => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Stall(time) => {
                let mut sleep = Box::pin(sleep(time));
                let pending = sleep.as_mut().poll(cx);
                self.sleep = Some(sleep);
                pending.map(|()| 1)
            }
        }
    }
}

/// Called once an endpoint has heard so many bytes.
pub type OnHeard = (usize, Box<dyn FnOnce()>);

/// See the module.
pub struct Socket {
    endpoint: Arc<Mutex<Endpoint>>,
    reads: Schedule,
    writes: Schedule,
    /// What is written is held until it is flushed.
    pub holds: bool,
    held: Vec<u8>,
    reader: Option<Waker>,
    pub on_heard: Option<OnHeard>,
}

impl Socket {
    pub fn new(endpoint: Arc<Mutex<Endpoint>>, reads: Schedule, writes: Schedule) -> Self {
        Self {
            endpoint,
            reads,
            writes,
            holds: false,
            held: Vec::new(),
            reader: None,
            on_heard: None,
        }
    }

    fn endpoint(&self) -> MutexGuard<'_, Endpoint> {
        self.endpoint.lock().unwrap()
    }

    fn deliver(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.endpoint().hear(&held);
        let heard = self.endpoint().heard.len();
        if self.on_heard.as_ref().is_some_and(|(at, _)| heard >= *at)
            && let Some((_, call)) = self.on_heard.take()
        {
            call();
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// What has become of the connection, if it is not open.
    fn poll_gone<T>(&self) -> Option<Poll<io::Result<T>>> {
        match self.endpoint().left()? {
            Leave::Resets => Some(Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))),
            Leave::Vanishes => Some(Poll::Pending),
            Leave::Stays | Leave::Finishes => None,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(gone) = self.poll_gone() {
            return gone;
        }
        if self.endpoint().has_finished() {
            return Poll::Ready(Ok(()));
        }
        if !self.endpoint().has_something_to_say() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = ready!(self.reads.poll(cx));
        let said = self.endpoint().say(count.min(into.remaining()));
        if said.is_empty() && !self.endpoint().has_finished() {
            if let Some(gone) = self.poll_gone() {
                return gone;
            }
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        into.put_slice(&said);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!bytes.is_empty() && !self.endpoint().end_heard);
        if let Some(gone) = self.poll_gone() {
            return gone;
        }
        let count = ready!(self.writes.poll(cx)).min(bytes.len());
        self.held.extend_from_slice(&bytes[..count]);
        self.endpoint().accepted += count;
        if !self.holds {
            self.deliver();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(gone) = self.poll_gone() {
            return gone;
        }
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.writes.poll(cx));
        self.deliver();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.endpoint().end_heard = true;
        self.wake();
        Poll::Ready(Ok(()))
    }
}
