//! An HTTP/2 client that opens WebSockets as streams (RFC 8441), frame by frame where it matters.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::harness::{Holdfast, soon};
use crate::peers::{Peer, RawPod, within};
use crate::tls_client::TlsClient;

/// A connection.
pub struct Client {
    pub sender: SendRequest<Bytes>,
    /// Ends with the connection; `Err` where that was not a GOAWAY without an error.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// An open stream as a socket.
pub struct Stream {
    pub send: SendStream<Bytes>,
    pub recv: RecvStream,
    ahead: Bytes,
}

impl Client {
    /// Connects with windows of the protocol's default size: 65,535 bytes a stream.
    pub async fn connect(holdfast: &Holdfast, host: &str) -> Self {
        Self::connect_to(holdfast.address("https"), host).await
    }

    /// The same to any address.
    pub async fn connect_to(address: SocketAddr, host: &str) -> Self {
        let tls = TlsClient::new(&["h2"]);
        let stream = tls.connect(address, host).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut builder = h2::client::Builder::new();
        // One stream that is not read must not hold up the others of this client either.
        builder.initial_connection_window_size(16 << 20);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        soon("extended CONNECT is offered", async || {
            sender.is_extended_connect_protocol_enabled().then_some(())
        })
        .await;
        Self { sender, connection }
    }

    /// Sends a request whose stream stays open, and waits for the head of the answer.
    pub async fn ask(
        &self,
        request: Request<()>,
    ) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, send) = sender.send_request(request, false)?;
        Ok((within("an answer", response).await?, send))
    }

    /// Opens a WebSocket; panics unless the answer is 200.
    pub async fn open(&self, host: &str) -> (Peer, HeaderMap) {
        let (stream, fields) = self.stream(connect(host)).await;
        (Peer::new(Box::new(stream)), fields)
    }

    /// The same as a stream.
    pub async fn stream(&self, request: Request<()>) -> (Stream, HeaderMap) {
        let (response, send) = self.ask(request).await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        let (head, recv) = response.into_parts();
        let ahead = Bytes::new();
        (Stream { send, recv, ahead }, head.headers)
    }

    /// The connection ends with a GOAWAY. To some of its own last words the client may then get no
    /// further than a socket that is closed.
    pub async fn went_away(self) {
        let result = within("a GOAWAY", self.connection).await.unwrap();
        let kind = |error: h2::Error| error.into_io().map(|error| error.kind());
        let late = result.err().map(kind);
        assert!(
            matches!(late, None | Some(Some(io::ErrorKind::BrokenPipe))),
            "{late:?}"
        );
    }

    /// Both ends of a WebSocket.
    pub async fn pair(&self, host: &str, pod: &RawPod) -> (Peer, Peer) {
        let ((client, _), server) = tokio::join!(self.open(host), accept(pod, ""));
        (client, server)
    }

    /// The same with the client's end as a stream.
    pub async fn stream_pair(&self, host: &str, pod: &RawPod) -> (Stream, Peer) {
        let ((client, _), server) = tokio::join!(self.stream(connect(host)), accept(pod, ""));
        (client, server)
    }
}

/// A handshake for `/ws`.
pub fn connect(host: &str) -> Request<()> {
    let uri = format!("https://{host}/ws");
    let mut request = Request::connect(uri).body(()).unwrap();
    let extensions = request.extensions_mut();
    extensions.insert(Protocol::from_static("websocket"));
    let version = http::HeaderValue::from_static("13");
    request
        .headers_mut()
        .insert("sec-websocket-version", version);
    request
}

/// The pod's end of the next handshake, completed with the key that came, and further lines.
pub async fn accept(pod: &RawPod, lines: &str) -> Peer {
    let mut peer = pod.accept().await;
    let answer = switching_for(&peer.head, lines);
    peer.send(answer.as_bytes()).await;
    peer
}

/// The 101 that completes the handshake with this head.
pub fn switching_for(head: &str, lines: &str) -> String {
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .unwrap_or_else(|| panic!("no key: {head}"));
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    )
}

impl Stream {
    /// How the stream ends when nothing more is sent on it: with which reset, or END_STREAM.
    pub async fn reset(&mut self) -> Option<Reason> {
        within("an end", async {
            while let Some(data) = self.recv.data().await {
                match data {
                    Ok(data) => self
                        .recv
                        .flow_control()
                        .release_capacity(data.len())
                        .unwrap(),
                    Err(error) => return error.reason(),
                }
            }
            None
        })
        .await
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ahead.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(data) => this.ahead = data.map_err(io::Error::other)?,
            }
        }
        let length = this.ahead.len().min(into.remaining());
        into.put_slice(&this.ahead[..length]);
        this.ahead.advance(length);
        this.recv.flow_control().release_capacity(length).unwrap();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.get_mut().send;
        send.reserve_capacity(bytes.len());
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(capacity) => drop(capacity.map_err(io::Error::other)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = send.capacity().min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..length]);
        send.send_data(piece, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(end.map_err(io::Error::other))
    }
}
