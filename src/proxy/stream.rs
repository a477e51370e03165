//! Sockets as the proxy holds them: plain or TLS, one type a side, so that hyper is compiled once
//! for each.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client;

use super::clock::ConnectionClock;
use crate::tls::TlsStream;

/// A connection to a pod.
#[derive(Debug)]
pub enum PodStream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<client::TlsStream<TcpStream>>),
}

/// A connection of a client. Tells its clock of every byte, so that slow and silent clients end
/// at a deadline without a timer per request.
#[derive(Debug)]
pub struct ClientStream {
    /// The socket.
    pub transport: ClientTransport,
    clock: Arc<ConnectionClock>,
}

/// What a client connection runs over.
#[derive(Debug)]
pub enum ClientTransport {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream>),
}

macro_rules! delegate {
    ($self:expr, $kind:ident, $stream:ident => $call:expr) => {
        match $self {
            $kind::Plain($stream) => $call,
            $kind::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for PodStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), Self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), Self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), Self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), Self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), Self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        delegate!(self, Self, stream => stream.is_write_vectored())
    }
}

impl ClientStream {
    /// Watches over `transport` by `clock`.
    #[must_use]
    pub fn new(transport: ClientTransport, clock: Arc<ConnectionClock>) -> Self {
        Self { transport, clock }
    }

    /// Ends the connection, when it is dropped, in a way that cannot be taken for an orderly end.
    pub fn reset_on_drop(&self) {
        let tcp = match &self.transport {
            ClientTransport::Plain(tcp) => tcp,
            ClientTransport::Tls(stream) => stream.transport(),
        };
        // Best effort: an error means that there is no connection any more.
        drop(SockRef::from(tcp).set_linger(Some(Duration::ZERO)));
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        self.clock.write_blocked(result.is_pending());
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = delegate!(&mut this.transport, ClientTransport, stream => Pin::new(stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            this.clock.received();
        }
        result
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = delegate!(&mut this.transport, ClientTransport, stream => Pin::new(stream).poll_write(cx, buf));
        this.wrote(&result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(&mut self.get_mut().transport, ClientTransport, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(&mut self.get_mut().transport, ClientTransport, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = delegate!(&mut this.transport, ClientTransport, stream => Pin::new(stream).poll_write_vectored(cx, bufs));
        this.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        delegate!(&self.transport, ClientTransport, stream => stream.is_write_vectored())
    }
}
