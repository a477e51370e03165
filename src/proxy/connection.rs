//! A client connection, from the accepted socket to its end or to the tunnel it becomes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Proxy;
use super::clock::{ConnectionClock, Verdict};
use super::request::Connection;
use super::stream::{ClientStream, ClientTransport};
use super::tunnel::spawn_tunnel;
use crate::metrics::count;
use crate::routing::{ListenerId, Protocol};
use crate::tls::server::{accept, chose_http2};

/// For the TLS handshake.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest request head and header list, in bytes; more is answered 431.
const MAX_HEAD: usize = 64 * 1024;
/// Most fields in a request's head; more are answered 431.
const MAX_FIELDS: usize = 128;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Streams that a client may reset before we have looked at them (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Resets that a client may provoke from us before the connection ends (CVE-2025-8671).
const MAX_LOCAL_RESETS: usize = 128;
/// For the first request of a connection that was opened just before its listener drained: it is
/// on its way, and closing over it would reset a client that has done nothing wrong.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// HTTP/2 pings find clients that have vanished.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// An accepted socket and what its listener says at that moment.
#[derive(Debug)]
pub struct Accepted {
    /// The data plane.
    pub proxy: Arc<Proxy>,
    /// The listener.
    pub listener: Arc<ListenerId>,
    /// Protocol of the listener.
    pub protocol: Protocol,
    /// Port of the listener.
    pub port: u16,
    /// Between requests.
    pub idle: Duration,
    /// For HTTPS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Cancelled when the listener is to let its connections go.
    pub drain: CancellationToken,
}

impl Accepted {
    /// Serves a connection to its end.
    pub async fn serve(self, tcp: TcpStream, client: std::net::SocketAddr) {
        let force = self.proxy.force.clone();
        let served = pin!(Box::pin(self.handshake(tcp, client)));
        // The process leaves: what could not be ended cleanly in time is dropped.
        tokio::select! {
            () = served => {}
            () = force.cancelled() => {}
        }
    }

    async fn handshake(self, tcp: TcpStream, client: std::net::SocketAddr) {
        let (transport, is_http2) = match &self.tls {
            None => (ClientTransport::Plain(tcp), false),
            Some(config) => match accept(Arc::clone(config), tcp, TLS_HANDSHAKE).await {
                Ok(stream) => {
                    let http2 = chose_http2(&stream);
                    (ClientTransport::Tls(Box::new(stream)), http2)
                }
                Err(error) => {
                    count(&self.proxy.metrics.tls_failures);
                    tracing::debug!(%client, listener = %self.listener, %error, "no TLS connection");
                    return;
                }
            },
        };
        let clock = Arc::new(ConnectionClock::new(is_http2));
        let stream = ClientStream::new(transport, Arc::clone(&clock));
        let _open = self.proxy.metrics.connection_opened();
        let connection = Arc::new(Connection::new(
            Arc::clone(&self.proxy),
            Arc::clone(&self.listener),
            client,
            self.protocol,
            self.port,
            clock,
        ));
        if is_http2 {
            self.serve_http2(stream, connection).await;
        } else {
            self.serve_http1(stream, connection).await;
        }
    }

    async fn serve_http1(self, stream: ClientStream, connection: Arc<Connection>) {
        let service = service_fn(|request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.serve(request).await) }
        });
        let mut served = http1::Builder::new()
            .half_close(true)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS)
            .serve_connection(TokioIo::new(stream), service);
        let end = {
            let mut graceful = false;
            drive(&self, &connection, |cx, drain| {
                if drain && !graceful {
                    graceful = true;
                    Pin::new(&mut served).graceful_shutdown();
                }
                Pin::new(&mut served).poll(cx)
            })
            .await
        };
        match end {
            End::Served(result) => {
                // Even where the 101 could not be written: the pod has a WebSocket, and is told
                // how it ends.
                if let Some(handover) = connection.take_handover() {
                    let parts = served.into_parts();
                    let client = parts.io.into_inner().transport;
                    spawn_tunnel(&connection, handover, client, parts.read_buf);
                }
                if let Err(error) = result {
                    self.failed(&connection, &error);
                }
            }
            End::Late(Verdict::HeadTimeout) => {
                count(&self.proxy.metrics.head_timeouts);
                let stream = served.into_parts().io.into_inner();
                // Best effort: whoever sends a head this slowly may not be reading either.
                drop(tokio::time::timeout(Duration::from_secs(1), say_timeout(stream)).await);
            }
            End::Late(Verdict::Idle) => {
                let mut stream = served.into_parts().io.into_inner();
                // Says in TLS that this is the end and no truncation (RFC 8446 §6.1).
                drop(tokio::time::timeout(Duration::from_secs(1), stream.shutdown()).await);
            }
            End::Late(_) => {}
        }
    }

    async fn serve_http2(self, stream: ClientStream, connection: Arc<Connection>) {
        let tasks = Tasks(self.proxy.tasks.clone());
        let service = {
            let connection = Arc::clone(&connection);
            service_fn(move |request| {
                let connection = Arc::clone(&connection);
                async move { Ok::<_, Infallible>(connection.serve(request).await) }
            })
        };
        let mut served = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buf_size(64 * 1024)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut graceful = false;
        let end = drive(&self, &connection, |cx, drain| {
            if drain && !graceful {
                graceful = true;
                Pin::new(&mut served).graceful_shutdown();
            }
            Pin::new(&mut served).poll(cx)
        })
        .await;
        if let End::Served(Err(error)) = end {
            self.failed(&connection, &error);
        }
    }

    fn failed(&self, connection: &Connection, error: &hyper::Error) {
        if error.is_parse() || error.is_parse_too_large() {
            count(&self.proxy.metrics.malformed_requests);
        }
        // Clients leave all the time; that is no news.
        tracing::debug!(client = %connection.hop.client, listener = %self.listener, %error, "connection ended");
    }
}

enum End {
    Served(hyper::Result<()>),
    Late(Verdict),
}

/// Polls a connection to its end, under its clock and its listener's drain. `poll` is told whether
/// the connection is to end after what it is doing.
async fn drive(
    accepted: &Accepted,
    connection: &Connection,
    mut poll: impl FnMut(&mut std::task::Context<'_>, bool) -> Poll<hyper::Result<()>>,
) -> End {
    let mut drained = pin!(accepted.drain.cancelled());
    let mut draining = false;
    let mut idle = accepted.idle;
    let mut timer = pin!(tokio::time::sleep(idle));
    poll_fn(|cx| {
        if !draining && drained.as_mut().poll(cx).is_ready() {
            draining = true;
            if !connection.clock.has_received() {
                idle = idle.min(FIRST_REQUEST);
                timer.as_mut().reset(tokio::time::Instant::now());
            }
        }
        let is_fresh = !connection.clock.has_received();
        if let Poll::Ready(result) = poll(cx, draining && !is_fresh) {
            return Poll::Ready(End::Served(result));
        }
        if draining
            && is_fresh
            && connection.clock.has_received()
            && let Poll::Ready(result) = poll(cx, true)
        {
            return Poll::Ready(End::Served(result));
        }
        while timer.as_mut().poll(cx).is_ready() {
            match connection.clock.verdict(idle) {
                Verdict::LookAgain(at) => timer.as_mut().reset(at),
                late => return Poll::Ready(End::Late(late)),
            }
        }
        Poll::Pending
    })
    .await
}

/// RFC 9110 §15.5.9.
async fn say_timeout(mut stream: ClientStream) -> io::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\n\
              content-length: 33\r\n\r\n408 Request Timeout: head_timeout\n",
        )
        .await?;
    stream.shutdown().await
}

/// Runs the streams of HTTP/2 connections under the proxy's tracker.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
