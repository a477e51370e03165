//! Both ends of a WebSocket, byte by byte: clients and pods that do only what a test says.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use holdfast::tls::PodTls;
use rcgen::generate_simple_self_signed;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::PATIENCE;

/// What answers the key of [`handshake`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8A;

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A socket of either kind.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// One end of a connection.
pub struct Peer {
    pub stream: Box<dyn Socket>,
    /// The head that the other end sent.
    pub head: String,
    /// Read behind the head.
    ahead: Vec<u8>,
}

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, RSV and opcode.
    pub first: u8,
    pub masked: bool,
    /// Unmasked.
    pub payload: Vec<u8>,
}

/// A pod whose connections the test serves by hand.
pub struct RawPod {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    pub address: SocketAddr,
}

/// A handshake for `/ws` with further header lines, each ended by CRLF.
pub fn handshake(host: &str, lines: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

/// The 101 that completes it.
pub fn switching(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{lines}\r\n"
    )
}

/// A frame; clients mask, pods do not.
pub fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_head(first, masked, payload.len() as u64);
    let at = bytes.len();
    bytes.extend_from_slice(payload);
    if masked {
        apply_mask(&mut bytes[at..], 0);
    }
    bytes
}

/// The head of a frame, mask key included.
pub fn frame_head(first: u8, masked: bool, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match length {
        0..=125 => bytes.push(bit | length as u8),
        126..=0xFFFF => {
            bytes.push(bit | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    if masked {
        bytes.extend_from_slice(&MASK);
    }
    bytes
}

/// A Close frame.
pub fn close(masked: bool, code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    frame(CLOSE, masked, &payload)
}

pub fn apply_mask(bytes: &mut [u8], offset: usize) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte ^= MASK[(offset + at) % 4];
    }
}

/// Connects, in TLS (ALPN http/1.1) if asked.
pub async fn dial(address: SocketAddr, tls: bool) -> Peer {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let stream: Box<dyn Socket> = if tls {
        Box::new(connect_tls(tcp, "ws.example").await.0)
    } else {
        Box::new(tcp)
    };
    Peer::new(stream)
}

/// Opens a WebSocket; panics unless the answer is 101.
pub async fn open(address: SocketAddr, tls: bool, host: &str) -> Peer {
    let peer = request(address, tls, &handshake(host, "")).await;
    assert!(peer.head.starts_with("HTTP/1.1 101 "), "{}", peer.head);
    peer
}

/// Sends a request and reads the head of the answer.
pub async fn request(address: SocketAddr, tls: bool, request: &str) -> Peer {
    let mut peer = dial(address, tls).await;
    peer.send(request.as_bytes()).await;
    peer.read_head().await;
    peer
}

/// A client's TLS, whatever the certificate, and the certificate.
pub async fn connect_tls(
    tcp: TcpStream,
    name: &str,
) -> (
    tokio_rustls::client::TlsStream<TcpStream>,
    CertificateDer<'static>,
) {
    // As lenient as the proxy is with pods: these tests compare certificates themselves.
    let client = PodTls::new().unwrap();
    let stream = client.connect(Some(name), tcp).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned();
    (stream, certificate)
}

impl RawPod {
    pub async fn start() -> Self {
        Self::bind(None).await
    }

    pub async fn start_tls() -> Self {
        let certified = generate_simple_self_signed(["pod.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(holdfast::tls::server::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        Self::bind(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn bind(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            listener,
            tls,
            address,
        }
    }

    /// The next connection with the head of its request read.
    pub async fn accept(&self) -> Peer {
        let (tcp, _) = within("a connection to the pod", self.listener.accept())
            .await
            .unwrap();
        tcp.set_nodelay(true).unwrap();
        let stream: Box<dyn Socket> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.accept(tcp).await.unwrap()),
        };
        let mut peer = Peer::new(stream);
        peer.read_head().await;
        peer
    }

    /// The next connection, answered by 101.
    pub async fn upgrade(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.send(switching("").as_bytes()).await;
        peer
    }
}

/// A client and its pod with a tunnel between them.
pub async fn pair(address: SocketAddr, tls: bool, host: &str, pod: &RawPod) -> (Peer, Peer) {
    tokio::join!(open(address, tls, host), pod.upgrade())
}

impl Peer {
    pub fn new(stream: Box<dyn Socket>) -> Self {
        Self {
            stream,
            head: String::new(),
            ahead: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        let stream = &mut self.stream;
        within("writing", async {
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
        })
        .await;
    }

    pub async fn read_head(&mut self) {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4096];
            let read = within("a head", self.stream.read(&mut chunk))
                .await
                .unwrap();
            assert!(read > 0, "ended in the head: {:?}", bytes.escape_ascii());
            bytes.extend_from_slice(&chunk[..read]);
        };
        self.ahead = bytes.split_off(end);
        self.head = String::from_utf8(bytes).unwrap();
    }

    /// Some bytes; empty at the end of the stream. Fails at a reset.
    pub async fn read_some(&mut self, most: usize) -> Vec<u8> {
        if !self.ahead.is_empty() {
            let at = most.min(self.ahead.len());
            let rest = self.ahead.split_off(at);
            return std::mem::replace(&mut self.ahead, rest);
        }
        let mut bytes = vec![0; most];
        let read = within("bytes", self.stream.read(&mut bytes))
            .await
            .expect("an end and no reset");
        bytes.truncate(read);
        bytes
    }

    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let more = self.read_some(length - bytes.len()).await;
            assert!(!more.is_empty(), "ended after {:?}", bytes.escape_ascii());
            bytes.extend_from_slice(&more);
        }
        bytes
    }

    pub async fn frame(&mut self) -> Frame {
        let head = self.read(2).await;
        let masked = head[1] & 0x80 != 0;
        let length = match head[1] & 0x7F {
            126 => {
                let bytes = self.read(2).await;
                u64::from(u16::from_be_bytes(bytes.try_into().unwrap()))
            }
            127 => u64::from_be_bytes(self.read(8).await.try_into().unwrap()),
            length => u64::from(length),
        };
        let mask = if masked {
            self.read(4).await
        } else {
            vec![0; 4]
        };
        let mut payload = self.read(length as usize).await;
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        Frame {
            first: head[0],
            masked,
            payload,
        }
    }

    /// The next frame, which is a Close: its code and reason.
    pub async fn close_frame(&mut self) -> (u16, String) {
        let frame = self.frame().await;
        assert_eq!(frame.first, CLOSE, "{frame:?}");
        let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
        let reason = String::from_utf8(frame.payload[2..].to_vec()).unwrap();
        (code, reason)
    }

    /// The stream ends here, without a further byte and without a reset.
    pub async fn ended(&mut self) {
        let more = self.read_some(4096).await;
        assert!(more.is_empty(), "more bytes: {:?}", more.escape_ascii());
    }

    /// All up to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let more = self.read_some(64 * 1024).await;
            if more.is_empty() {
                return all;
            }
            all.extend_from_slice(&more);
        }
    }

    /// Ends the sending half.
    pub async fn finish(&mut self) {
        within("ending", self.stream.shutdown()).await.unwrap();
    }

    /// As a client of an echo pod: a message goes and comes back.
    pub async fn echo(&mut self, text: &str) {
        self.send(&frame(TEXT, true, text.as_bytes())).await;
        let back = self.frame().await;
        assert_eq!(
            (back.first, &*back.payload, back.masked),
            (TEXT, text.as_bytes(), false)
        );
    }

    /// Waits for a byte for as long as it takes; the caller has a limit.
    pub async fn wait(&mut self) {
        if self.ahead.is_empty() {
            let mut byte = [0];
            let read = self.stream.read(&mut byte).await.unwrap();
            self.ahead.extend_from_slice(&byte[..read]);
        }
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        assert!(self.ahead.is_empty());
        let mut byte = [0];
        let read = std::pin::pin!(self.stream.read(&mut byte));
        let wait = std::pin::pin!(tokio::time::sleep(time));
        matches!(
            futures_util::future::select(read, wait).await,
            Either::Right(_)
        )
    }
}

/// Nothing takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("too long: {what}"))
}
