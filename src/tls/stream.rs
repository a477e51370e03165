//! A TLS connection with a client, as a stream of bytes.
//!
//! ```text
//! socket ─▶ the thread's buffer ─▶ open ─▶ the reader's buffer    a part of a record stays here
//! socket ◀─ the thread's buffer ◀─ seal ◀─ the writer's bytes     what the socket refuses does too
//! ```
//!
//! A connection owns no buffer while nothing is on its way. Records are put together, opened and
//! sealed in buffers that all connections of a thread share.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::protection::{Fault, HEADER, MAX_RECORD};
use super::session::{Content, Session};

/// Records of one write: as much as a socket's buffer commonly takes.
const RECORDS: usize = 4;
/// Holds what [`RECORDS`] records are, or one of the longest.
const BUFFER: usize = 64 * 1024;

/// A backlog that is not worth a write of its own, and the records that go along with it.
const BACKLOG: usize = 32 * 1024;
const ALONG: usize = 2;

const _: () = assert!(BUFFER >= MAX_RECORD);

thread_local! {
    static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TLS 1.2 or 1.3 connection after its handshake, the server's side.
///
/// It costs about a kilobyte while it is silent. The end of the stream is the client's
/// close_notify; a connection that ends without is an error (`UnexpectedEof`), as it may have been
/// cut. An error of the protocol is `InvalidData` with a [`rustls::Error`]; the client is sent the
/// alert, and nothing can be written any more. Writes that have been accepted are on their way
/// when a flush is through; [`poll_shutdown`](AsyncWrite::poll_shutdown) says close_notify, once.
pub struct TlsStream<T = TcpStream> {
    transport: T,
    session: Session,
    rest: Rest,
    /// How much of `rest.outgoing` the transport has taken.
    sent: usize,
    /// Nothing more is said: behind close_notify, a fatal alert or records that are lost.
    silent: bool,
    /// What the client did wrong: nothing more is heard.
    fault: Option<Error>,
}

/// What is on its way between the transport and the application, and what a handshake leaves.
pub(super) struct Rest {
    /// Opened, and not yet read.
    pub(super) plaintext: Vec<u8>,
    /// Received, and not yet opened: part of a record, or what follows `plaintext`.
    pub(super) ciphertext: Vec<u8>,
    /// Accepted and sealed, and not yet taken by the transport.
    pub(super) outgoing: Vec<u8>,
    /// The client has said close_notify. What follows is ignored (RFC 8446 §6.1).
    pub(super) closed: bool,
    /// HTTP/2 was agreed on (RFC 7301).
    pub(super) http2: bool,
}

impl<T> fmt::Debug for TlsStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("silent", &self.silent)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl<T> TlsStream<T> {
    pub(super) fn new(transport: T, session: Session, rest: Rest) -> Self {
        Self {
            transport,
            session,
            rest,
            sent: 0,
            silent: false,
            fault: None,
        }
    }

    /// What it runs over. Bytes must not be read or written there.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Whether the client has chosen HTTP/2 by ALPN.
    pub fn chose_http2(&self) -> bool {
        self.rest.http2
    }

    /// Ends the session; the client is told why if it does not know.
    fn fail(&mut self, fault: Fault) {
        if let Some(alert) = fault.alert
            && !self.silent
        {
            // Without keys that work there is nothing to tell it by.
            drop(self.session.seal_fatal(alert, &mut self.rest.outgoing));
        }
        self.silent = true;
        self.rest.ciphertext = Vec::new();
        self.fault.get_or_insert(fault.error);
    }

    /// Opens the records of `window` into `buf` until either ends; returns how much of it is
    /// done with, and how long it must become for the next record.
    fn open_records(&mut self, window: &mut [u8], buf: &mut ReadBuf<'_>) -> (usize, usize) {
        let mut done = 0;
        let mut window = window;
        loop {
            let over = self.rest.closed || self.fault.is_some();
            if over || buf.remaining() == 0 {
                return (done, 0);
            }
            let header = match self.session.header(window) {
                Ok(Some(header)) => header,
                Ok(None) => return (done, HEADER),
                Err(fault) => {
                    self.fail(fault);
                    return (done, 0);
                }
            };
            let length = HEADER + header.length;
            let Some((record, behind)) = window.split_at_mut_checked(length) else {
                return (done, length);
            };
            let body = record.get_mut(HEADER..).unwrap_or_default();
            match self.session.open(header, body) {
                Ok(Content::Data(data)) => {
                    let (now, later) = data.split_at(data.len().min(buf.remaining()));
                    buf.put_slice(now);
                    self.rest.plaintext.extend_from_slice(later);
                }
                Ok(Content::Nothing) => {}
                Ok(Content::Closed) => self.rest.closed = true,
                Err(fault) => self.fail(fault),
            }
            done += length;
            window = behind;
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> TlsStream<T> {
    /// Reads until there is something to say. `scratch` is as long as [`BUFFER`].
    fn read_records(
        &mut self,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut filled = self.rest.ciphertext.len();
        if let Some(head) = scratch.get_mut(..filled) {
            head.copy_from_slice(&self.rest.ciphertext);
        }
        self.rest.ciphertext = Vec::new();
        loop {
            let window = scratch.get_mut(..filled).unwrap_or_default();
            let (done, wanted) = self.open_records(window, buf);
            scratch.copy_within(done.min(filled)..filled, 0);
            filled -= done.min(filled);
            let poll = if let Some(fault) = self.fault.clone() {
                drop(self.poll_drain(cx));
                let read = buf.filled().len() > before;
                return Poll::Ready(if read { Ok(()) } else { Err(invalid(fault)) });
            } else if self.rest.closed {
                return Poll::Ready(Ok(()));
            } else if buf.filled().len() > before {
                Poll::Ready(Ok(()))
            } else {
                // What is read fits into `buf` when it is opened, where the first record does.
                let until = buf.remaining().max(wanted).min(scratch.len());
                let mut into = ReadBuf::new(scratch.get_mut(filled..until).unwrap_or_default());
                match Pin::new(&mut self.transport).poll_read(cx, &mut into) {
                    Poll::Ready(Ok(())) => match into.filled().len() {
                        0 => Poll::Ready(Err(cut())),
                        more => {
                            filled += more;
                            continue;
                        }
                    },
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.session.rest();
                        Poll::Pending
                    }
                }
            };
            self.rest.ciphertext = scratch.get(..filled).unwrap_or_default().to_vec();
            return poll;
        }
    }

    /// Seals as much of `data` as goes at once, and writes what the transport takes of it.
    fn write_records(
        &mut self,
        scratch: &mut Vec<u8>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let taken = match self.session.seal(data, RECORDS, scratch) {
            Ok(taken) => taken,
            Err(fault) => {
                self.rest.outgoing.extend_from_slice(scratch);
                return Err(self.fail_to_seal(fault));
            }
        };
        let mut sent = 0;
        while let Some(rest @ [_, ..]) = scratch.get(sent..) {
            match Pin::new(&mut self.transport).poll_write(cx, rest) {
                Poll::Ready(written) => sent += self.written(written)?,
                Poll::Pending => {
                    self.rest.outgoing = rest.to_vec();
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// Seals some of `data` behind what has been accepted before, and writes what the transport
    /// takes of both.
    fn add_records(&mut self, cx: &mut Context<'_>, data: &[IoSlice<'_>]) -> io::Result<usize> {
        self.rest.outgoing.drain(..self.sent);
        self.sent = 0;
        let taken = match self.session.seal(data, ALONG, &mut self.rest.outgoing) {
            Ok(taken) => taken,
            Err(fault) => return Err(self.fail_to_seal(fault)),
        };
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(taken),
        }
    }

    fn fail_to_seal(&mut self, fault: Fault) -> io::Error {
        let error = fault.error.clone();
        self.fail(fault);
        invalid(error)
    }

    /// Writes what has been accepted before.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.rest.outgoing.get(self.sent..) {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, rest));
            self.sent += self.written(written)?;
        }
        self.rest.outgoing = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Counts what the transport has taken. What the client has said can still be read where it
    /// takes nothing any more.
    fn written(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        let result = match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            result => result,
        };
        if result.is_err() {
            self.rest.outgoing = Vec::new();
            self.sent = 0;
            self.silent = true;
        }
        result
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !this.rest.plaintext.is_empty() {
            let now = this.rest.plaintext.len().min(buf.remaining());
            buf.put_slice(this.rest.plaintext.get(..now).unwrap_or_default());
            this.rest.plaintext.drain(..now);
            if this.rest.plaintext.is_empty() {
                this.rest.plaintext = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let mut scratch = INCOMING.take();
        scratch.resize(BUFFER, 0);
        let poll = this.read_records(&mut scratch, cx, buf);
        INCOMING.set(scratch);
        poll
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.silent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // What was accepted goes first. Little of it takes company, and so does a session ticket;
        // for much of it we wait.
        let backlog = this.rest.outgoing.len() - this.sent;
        if backlog > BACKLOG {
            ready!(this.poll_drain(cx))?;
        } else if backlog > 0 {
            return Poll::Ready(this.add_records(cx, data));
        }
        let mut scratch = OUTGOING.take();
        scratch.clear();
        let result = this.write_records(&mut scratch, cx, data);
        OUTGOING.set(scratch);
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.silent {
            this.silent = true;
            if let Err(fault) = this.session.seal_close(&mut this.rest.outgoing) {
                return Poll::Ready(Err(invalid(fault.error)));
            }
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }
}

/// An error of the protocol as one of the stream.
pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the client closed the connection without a TLS close_notify",
    )
}
