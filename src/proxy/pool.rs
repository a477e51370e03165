//! Connections to pods, and the idle ones kept for the next request.
//!
//! A pod connection has no task of its own: whoever uses it drives it (the request until the
//! answer's head, the answer's body until its end), in the task of the client's connection. That
//! saves a wake-up to another task, often on another thread, for each direction of each request.
//! An idle connection is not driven at all; whether the pod has closed it is seen when it is
//! taken out, and every few seconds by [`Pool::sweep`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::body::RequestBody;
use super::error::{ProxyError, Reason, Retry};
use super::stream::PodStream;
use crate::routing::PodProtocol;
use crate::tls::PodTls;

/// Idle connections kept per endpoint.
const MAX_IDLE: usize = 256;
/// How long a connection may be idle: below the 75 s after which common servers close.
const MAX_IDLE_AGE: Duration = Duration::from_secs(60);
/// How long a connection is used at all, so that traffic follows changes in the network.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Longest head of an answer, in bytes, and most fields in it: as many as a request may have.
const MAX_HEAD: usize = 64 * 1024;

/// Boxed: a connection is several hundred bytes and is handed around with every request.
type Idle = Vec<Box<PodConnection>>;

/// Idle connections of one endpoint, the most recently used on top.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Idle>,
}

/// An HTTP/1.1 connection to a pod.
pub struct PodConnection {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<TokioIo<PodStream>, RequestBody>,
    /// The connection's future has ended: closed, or switched protocols.
    ended: bool,
    /// It has served a request before.
    reused: bool,
    opened: Instant,
    idle_since: Instant,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.len()).finish()
    }
}

impl fmt::Debug for PodConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodConnection")
            .field("ended", &self.ended)
            .field("reused", &self.reused)
            .finish_non_exhaustive()
    }
}

// === impl Pool ===

impl Pool {
    /// The most recently used connection that is still open.
    #[must_use]
    pub fn take(&self) -> Option<Box<PodConnection>> {
        let now = Instant::now();
        loop {
            let mut connection = self.lock().pop()?;
            connection.reused = true;
            if connection.is_usable(now) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request, unless there are enough.
    pub fn put(&self, mut connection: Box<PodConnection>) {
        connection.idle_since = Instant::now();
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// Closes the connections that are too old or that the pod has closed.
    pub fn sweep(&self, now: Instant) {
        let mut idle = self.lock();
        if !idle.is_empty() {
            idle.retain_mut(|connection| connection.is_usable(now));
            if idle.is_empty() {
                idle.shrink_to_fit();
            }
        }
    }

    /// Closes all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is idle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PodConnection ===

impl PodConnection {
    /// Connects, with TLS where the upstream asks for it. The caller sets the deadline.
    ///
    /// # Errors
    /// As the connection or the handshake fails; nothing of a request has been sent then.
    pub async fn open(
        address: SocketAddr,
        protocol: PodProtocol,
        tls: &PodTls,
        host: Option<&str>,
    ) -> io::Result<Box<Self>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        // A pod whose node has vanished sends nothing: found after 60 + 9 × 10 s (nine tries are
        // the kernel's default, and each option is a system call for every connection).
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10));
        SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
        let stream = match protocol {
            PodProtocol::Plain => PodStream::Plain(tcp),
            PodProtocol::Tls => PodStream::Tls(Box::new(tls.connect(host, tcp).await?)),
        };
        // No `max_headers`: hyper's own bound of 100 needs no allocation per head, any other does.
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let now = Instant::now();
        Ok(Box::new(Self {
            sender,
            connection,
            ended: false,
            reused: false,
            opened: now,
            idle_since: now,
        }))
    }

    /// Whether it has served a request before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// Says whether another try is safe, and gives the request back if nothing of it was sent.
    pub async fn exchange(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (ProxyError, Option<Request<RequestBody>>)> {
        let response = self.sender.try_send_request(request);
        let mut response = std::pin::pin!(response);
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = response.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if self.ended {
                return Poll::Pending;
            }
            // Errors of the connection come out of `response`.
            self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
            response.as_mut().poll(cx)
        })
        .await;
        result.map_err(|mut failed| {
            let request = failed.take_message();
            let error = failed.into_error();
            let reason = if error.is_parse() {
                Reason::PodProtocol
            } else if error.is_user() {
                Reason::ClientBody
            } else {
                Reason::PodClosed
            };
            let retry = if request.is_some() {
                Retry::BeforeSend
            } else if self.reused && reason == Reason::PodClosed {
                Retry::Reused
            } else {
                Retry::No
            };
            (ProxyError::with_retry(reason, retry), request)
        })
    }

    /// Drives the connection while the answer's body is read.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
    }

    /// Whether hyper is done with the connection.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the exchange is over on both sides, so that the next request may be sent.
    pub fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// The stream and what has been read from it behind the head, after a 101.
    #[must_use]
    pub fn into_stream(self: Box<Self>) -> (PodStream, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }

    fn is_usable(&mut self, now: Instant) -> bool {
        let young = now.duration_since(self.idle_since) < MAX_IDLE_AGE
            && now.duration_since(self.opened) < MAX_AGE;
        // Nobody waits for an idle connection, so there is nobody to wake.
        young && self.is_idle(&mut Context::from_waker(Waker::noop()))
    }
}
