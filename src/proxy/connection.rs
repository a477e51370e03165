//! A client connection, from the accepted socket to its end or to the tunnel it becomes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Proxy;
use super::clock::{ConnectionClock, Verdict};
use super::headers::{Hop, new_request_id};
use super::http2_stream::StreamTasks;
use super::request::Connection;
use super::stream::{ClientStream, ClientTransport};
use super::tunnel::spawn_tunnel;
use crate::admission::{self, Connected};
use crate::metrics::count;
use crate::routing::{Capacity, ListenerId, Protocol};
use crate::tls::server::{Offer, accept};

/// For last words: to a client that has said nothing for too long, and for those that HTTP/2 clients
/// may still have to say when they hear that the connection ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the rest of a request that has been answered early is read and thrown away.
const LINGER: Duration = Duration::from_secs(5);
/// Longest request head and header list, in bytes; more is answered 431.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Bytes that a client may send on one stream before they are read. The window of the connection
/// is that of all its streams: pods that do not read must not hold up the other streams.
const STREAM_WINDOW: u32 = 128 * 1024;
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
    /// The port of ours that it came in on.
    pub target_port: u16,
    /// Between requests.
    pub idle: Duration,
    /// What is counted at the listener.
    pub ledger: Arc<admission::Listener>,
    /// For HTTPS.
    pub tls: Option<Offer>,
    /// Set when the listener is to let its connections go.
    pub drain: Arc<Drain>,
}

/// Tells the connections of a listener to end after what they are doing.
///
/// Connections wait on the token but ask the flag: a token takes a lock for an answer, and a busy
/// connection asks several times per request.
#[derive(Debug, Default)]
pub struct Drain {
    begun: AtomicBool,
    token: CancellationToken,
}

impl Drain {
    /// Tells them.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether they have been told.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }
}

impl Accepted {
    /// Counts it. `None`: it is beyond a bound, with so many others that it is closed at once.
    #[must_use]
    pub fn connect(&self, capacity: &Capacity) -> Option<Connected> {
        let load_balancer = &self.ledger.load_balancer;
        let connected = load_balancer.connect(self.ledger.now(), capacity);
        if connected.as_ref().is_none_or(|it| it.refusal().is_some()) {
            count(&self.proxy.metrics.connections_refused);
        }
        connected
    }

    /// Serves a connection to its end. One that is not admitted has its first request answered so.
    pub async fn serve(mut self, tcp: TcpStream, client: SocketAddr, connected: Connected) {
        if connected.refusal().is_some() {
            self.drain = Arc::default();
            self.idle = FIRST_REQUEST;
        }
        let deadlines = self.proxy.deadlines;
        let (transport, is_http2) = match &self.tls {
            None => (ClientTransport::Plain(tcp), false),
            Some(offer) => match accept(offer, tcp, deadlines.tls_handshake).await {
                Ok(stream) => {
                    let http2 = stream.chose_http2();
                    (ClientTransport::Tls(Box::new(stream)), http2)
                }
                Err(error) => {
                    count(&self.proxy.metrics.tls_failures);
                    tracing::debug!(%client, listener = %self.listener, %error, "no TLS connection");
                    return;
                }
            },
        };
        let clock = Arc::new(ConnectionClock::new(is_http2, deadlines));
        let stream = ClientStream::new(transport, Arc::clone(&clock));
        let _open = self.proxy.metrics.connection_opened();
        let hop = Hop::new(client, self.protocol, self.port, self.target_port);
        let connection = Arc::new(Connection::new(&self, hop, clock, connected));
        if is_http2 {
            self.serve_http2(stream, connection).await;
        } else {
            self.serve_http1(stream, connection).await;
        }
    }

    async fn serve_http1(self, stream: ClientStream, connection: Arc<Connection>) {
        let service = service_fn(|request| {
            let connection = Arc::clone(&connection);
            async move {
                let mut response = Arc::clone(&connection).serve(request).await;
                if connection.proxy.leaving.load(Ordering::Relaxed)
                    && response.status() != StatusCode::SWITCHING_PROTOCOLS
                {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut served = http1::Builder::new()
            // A client that leaves before its answer takes its request to the pod with it. One
            // that only ends its sending half looks the same, and gets no answer.
            .half_close(false)
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            // No `max_headers`: hyper's own bound of 100 fields needs no allocation per head, any
            // other does. More are answered 431.
            .serve_connection(TokioIo::new(stream), service);
        let end = {
            let mut graceful = false;
            drive(&self, &connection, Duration::ZERO, |cx, drain| {
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
                    let (proxy, read) = (&connection.proxy, parts.read_buf);
                    match parts.io.into_inner().transport {
                        ClientTransport::Plain(client) => {
                            spawn_tunnel(proxy, handover, client, read);
                        }
                        ClientTransport::Tls(client) => spawn_tunnel(proxy, handover, client, read),
                    }
                } else if connection.clock.has_unread_body()
                    || result.as_ref().is_err_and(hyper::Error::is_parse)
                {
                    linger(served.into_parts().io.into_inner()).await;
                } else if result.as_ref().is_err_and(hyper::Error::is_user)
                    && connection.is_close_delimited()
                {
                    // The pod broke off, and only the end of the connection ends the answer: it
                    // must not look like a whole one.
                    served.into_parts().io.into_inner().reset_on_drop();
                } else if result.is_ok() && self.tls.is_some() {
                    // hyper has, but where the last request was a handshake that did not come to a
                    // WebSocket: TLS is then still to be closed (RFC 8446 §6.1).
                    let mut stream = served.into_parts().io.into_inner();
                    drop(tokio::time::timeout(GOODBYE, stream.shutdown()).await);
                }
                if let Err(error) = result {
                    self.failed(&connection, &error);
                }
            }
            // Best effort from here on: whoever is this slow may not be reading either.
            End::Late(Verdict::HeadTimeout) => {
                count(&self.proxy.metrics.head_timeouts);
                let stream = served.into_parts().io.into_inner();
                drop(tokio::time::timeout(GOODBYE, say_timeout(stream)).await);
            }
            End::Late(Verdict::Idle) => {
                let mut stream = served.into_parts().io.into_inner();
                drop(tokio::time::timeout(GOODBYE, stream.shutdown()).await);
            }
            // What has not been taken will never be: do not leave it to the kernel.
            End::Late(_) => served.into_parts().io.into_inner().reset_on_drop(),
        }
    }

    async fn serve_http2(self, stream: ClientStream, connection: Arc<Connection>) {
        let tasks = StreamTasks::new(self.proxy.tasks.clone());
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
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(MAX_STREAMS * STREAM_WINDOW)
            // RFC 8441 §3.
            .enable_connect_protocol()
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut graceful = false;
        let end = drive(&self, &connection, GOODBYE, |cx, drain| {
            let flooded = connection.clock.is_flooded();
            if (drain || flooded) && !graceful {
                graceful = true;
                Pin::new(&mut served).graceful_shutdown();
            }
            let poll = Pin::new(&mut served).poll(cx);
            // GOAWAY has gone out, if the client takes anything at all.
            if flooded && poll.is_pending() {
                count(&self.proxy.metrics.reset_floods);
                return Poll::Ready(Ok(()));
            }
            poll
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
    goodbye: Duration,
    mut poll: impl FnMut(&mut std::task::Context<'_>, bool) -> Poll<hyper::Result<()>>,
) -> End {
    let clock = &connection.clock;
    let mut told = pin!(accepted.drain.token.cancelled());
    let mut listens = false;
    let mut ending = false;
    let mut silent = false;
    let mut idle = accepted.idle;
    let mut timer = pin!(tokio::time::sleep(clock.look_every(idle)));
    poll_fn(|cx| {
        // Once is enough: the task stays the same, and is woken when the flag is set.
        if !listens {
            listens = true;
            let _ = told.as_mut().poll(cx);
        }
        loop {
            if !ending && accepted.drain.has_begun() {
                if clock.has_received() {
                    ending = true;
                } else if idle > FIRST_REQUEST {
                    idle = FIRST_REQUEST;
                    timer.as_mut().reset(tokio::time::Instant::now());
                }
            }
            if let Poll::Ready(result) = poll(cx, ending) {
                return Poll::Ready(End::Served(result));
            }
            // Its first bytes came just now.
            if !ending && accepted.drain.has_begun() && clock.has_received() {
                continue;
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match clock.verdict(idle) {
                Verdict::LookAgain(at) => timer.as_mut().reset(at),
                // Says so where the protocol can (GOAWAY, close_notify): a request that is on its
                // way just now is then known not to have been served.
                Verdict::Idle if !silent => {
                    silent = true;
                    ending = true;
                    timer.as_mut().reset(tokio::time::Instant::now() + goodbye);
                }
                late => return Poll::Ready(End::Late(late)),
            }
        }
    })
    .await
}

/// RFC 9110 §15.5.9.
async fn say_timeout(mut stream: ClientStream) -> io::Result<()> {
    let id = new_request_id();
    let id = id.to_str().unwrap_or("-");
    let text = format!("408 Request Timeout: head_timeout\nrequest id: {id}\n");
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\nserver: holdfast\r\n\
         cache-control: no-store\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Takes what a client still sends of a request that has been answered (RFC 9112 §9.6): a socket
/// that is closed over unread bytes is reset, and the client may never see the answer.
async fn linger(mut stream: ClientStream) {
    let rest = async {
        // On the heap: in the future it would be memory of every connection.
        let mut nowhere = vec![0; 8192];
        while stream.read(&mut nowhere).await.is_ok_and(|read| read > 0) {}
    };
    drop(tokio::time::timeout(LINGER, rest).await);
}
