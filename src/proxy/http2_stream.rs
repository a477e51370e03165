//! Streams of HTTP/2 connections: the tasks that serve them, and those that become WebSockets.
//!
//! ```text
//! connection's task ─▶ stream's task: request ─▶ pod ─▶ 200 ─▶ ends
//!                        │ PendingStream                  └─ starts hyper's writer: DATA ─▶ client
//!                        ▼                                             ▲       ▲
//!                      Http2Stream, the socket of a relay ─ bytes ─────┘       │
//!                        └─ dropped before its end: stops the writer ──────────┘ RST_STREAM(CANCEL)
//! ```
//!
//! What a tunnel is to be told goes through a task of hyper's, which waits for the client's window
//! for as long as there is something to send. A tunnel that is given up takes it along: else a
//! client that opens no window would keep it, and what it holds, for ever.

use std::cell::OnceCell;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// Most bytes taken at once: a DATA frame of the size that every client must take (RFC 9113 §4.2).
/// hyper holds a few such pieces between the relay and the client's window.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// In the task of a stream: who writes what the stream becomes. Empty for ordinary requests.
    static WRITER: OnceCell<Writer>;
}

/// Runs the streams of HTTP/2 connections under the proxy's tracker.
#[derive(Clone, Debug)]
pub struct StreamTasks(TaskTracker);

/// A stream that becomes a socket when its request is answered with 200.
#[derive(Debug)]
pub struct PendingStream {
    upgrade: OnUpgrade,
    writer: Writer,
}

/// A stream as a socket. END_STREAM is the end of either half; dropped before it has ended, it is
/// reset with CANCEL (RFC 8441 §5), and what the client has not taken is dropped with it.
#[derive(Debug)]
pub struct Http2Stream {
    /// `None` where the client has reset it before it could be one.
    socket: Option<TokioIo<Upgraded>>,
    writer: Writer,
}

/// hyper's task that writes to a stream.
#[derive(Clone, Debug, Default)]
struct Writer(Arc<Mutex<WriterState>>);

#[derive(Debug, Default)]
enum WriterState {
    #[default]
    NotStarted,
    Started(AbortHandle),
    Stopped,
}

impl StreamTasks {
    /// Tasks under this tracker.
    #[must_use]
    pub fn new(tracker: TaskTracker) -> Self {
        Self(tracker)
    }
}

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        match WRITER.try_with(|writer| writer.get().cloned()) {
            // From the connection's task: a new stream.
            Err(_) => drop(self.0.spawn(WRITER.scope(OnceCell::new(), future))),
            // From a stream's own task: the writer of what it has become.
            Ok(writer) => {
                let task = self.0.spawn(future);
                if let Some(writer) = writer {
                    writer.started(task.abort_handle());
                }
            }
        }
    }
}

impl PendingStream {
    /// Of a CONNECT, in the task that serves it.
    #[must_use]
    pub fn of(request: &mut Request<Incoming>) -> Self {
        let writer = Writer::default();
        // There is one request a task, so that nobody has been here before.
        let _ = WRITER.try_with(|slot| slot.set(writer.clone()));
        Self {
            upgrade: hyper::upgrade::on(request),
            writer,
        }
    }

    /// The socket, once the 200 has been sent. hyper decides as soon as it has the answer, or
    /// drops it with the stream: there is nothing to wait for, and so no deadline.
    pub async fn open(self) -> Http2Stream {
        Http2Stream {
            socket: self.upgrade.await.ok().map(TokioIo::new),
            writer: self.writer,
        }
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Some(socket) => Pin::new(socket).poll_read(cx, into),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        match &mut self.get_mut().socket {
            Some(socket) => Pin::new(socket).poll_write(cx, piece),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Some(socket) => Pin::new(socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Done when everything, END_STREAM included, has found room in the client's windows or in the
    /// bounded buffer before them.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        // Before the socket goes: its writer would take that for an orderly end.
        self.writer.stop();
    }
}

impl Writer {
    fn started(&self, task: AbortHandle) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            WriterState::Stopped => task.abort(),
            _ => *state = WriterState::Started(task),
        }
    }

    /// Does nothing to a writer that has finished.
    fn stop(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let WriterState::Started(task) = std::mem::replace(&mut *state, WriterState::Stopped) {
            task.abort();
        }
    }
}
