//! A transport in memory, and connections over it that are polled by hand.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use holdfast::tls::TlsStream;
use holdfast::tls::server::{accept, provider};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

pub const NAME: &str = "records.example";

/// What is on its way between the two ends.
#[derive(Default)]
pub struct Pipe {
    pub to_server: VecDeque<u8>,
    /// The client sends no more.
    pub ended: bool,
    pub to_client: Vec<u8>,
    /// How much more the server's side takes; `None` = all.
    pub room: Option<usize>,
    /// Writes fail.
    pub broken: bool,
    /// The server sends no more.
    pub shut: bool,
}

/// The server's end of a [`Pipe`].
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Pipe>>);

impl Wire {
    pub fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.0.lock().unwrap()
    }

    pub fn feed(&self, bytes: &[u8]) {
        self.pipe().to_server.extend(bytes);
    }

    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.pipe().to_client)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe();
        if pipe.to_server.is_empty() && !pipe.ended {
            return Poll::Pending;
        }
        // What lies in the ring in two parts is read as one.
        for _ in 0..2 {
            let now = pipe.to_server.read(into.initialize_unfilled())?;
            into.advance(now);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe();
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let now = pipe.room.unwrap_or(usize::MAX).min(bytes.len());
        if now == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        pipe.room = pipe.room.map(|room| room - now);
        pipe.to_client.extend_from_slice(&bytes[..now]);
        Poll::Ready(Ok(now))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// Configurations of two ends that trust each other.
#[derive(Clone)]
pub struct Ends {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

impl Ends {
    /// With any suite.
    pub fn new(version: &'static SupportedProtocolVersion) -> Self {
        Self::with(version, provider(), provider())
    }

    /// With one suite, of whichever version it is.
    pub fn of(suite: SupportedCipherSuite) -> Self {
        let only = Arc::new(CryptoProvider {
            cipher_suites: vec![suite],
            ..(*provider()).clone()
        });
        Self::with(suite.version(), provider(), only)
    }

    /// With the key exchange that costs least: for those who need a connection and no handshake.
    pub fn quick() -> Self {
        let quick = Arc::new(CryptoProvider {
            kx_groups: vec![kx_group::X25519],
            ..(*provider()).clone()
        });
        Self::with(&rustls::version::TLS13, quick, provider())
    }

    pub fn with(
        version: &'static SupportedProtocolVersion,
        of_client: Arc<CryptoProvider>,
        of_server: Arc<CryptoProvider>,
    ) -> Self {
        let own = rcgen::generate_simple_self_signed(vec![NAME.into()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(of_client)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let mut server = ServerConfig::builder_with_provider(of_server)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        server.send_tls13_tickets = 1;
        server.enable_secret_extraction = true;
        Self {
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }
}

/// All suites of both versions.
pub fn suites() -> Vec<SupportedCipherSuite> {
    let ecdsa = |suite: &SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("_RSA_");
    let suites = provider().cipher_suites.clone();
    suites.into_iter().filter(ecdsa).collect()
}

/// An end of ours that is polled by hand.
pub struct Server {
    pub stream: TlsStream<Wire>,
    pub wire: Wire,
}

/// Polls the server's side of a handshake; `turn` is the client's turn, until it is over.
pub fn handshake(config: &Arc<ServerConfig>, mut turn: impl FnMut(&Wire)) -> io::Result<Server> {
    static CLOCK: OnceLock<Runtime> = OnceLock::new();
    let clock = CLOCK.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    });
    let _inside = clock.enter();
    let wire = Wire::default();
    let deadline = Duration::from_secs(30);
    let offer = Arc::clone(config).into();
    let mut accepted = pin!(accept(&offer, wire.clone(), deadline));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(stream) = accepted.as_mut().poll(&mut cx) {
            let stream = stream.map_err(io::Error::other)?;
            return Ok(Server { stream, wire });
        }
        turn(&wire);
    }
    panic!("a handshake without an end");
}

/// A connection with rustls at the other end, after its handshake.
pub fn connect(ends: &Ends) -> (Server, ClientConnection) {
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(Arc::clone(&ends.client), name).unwrap();
    let server = handshake(&ends.server, |wire| {
        hear(&mut client, &wire.take());
        wire.feed(&said(&mut client));
    });
    let server = server.unwrap();
    hear(&mut client, &server.wire.take());
    assert!(!client.is_handshaking());
    (server, client)
}

/// What a client has to send.
pub fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What a client makes of what it is sent: the data in it.
pub fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
        drop(client.reader().read_to_end(&mut data));
    }
    data
}

/// Has a client say something.
pub fn say(client: &mut ClientConnection, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in data.chunks(16 << 10) {
        client.writer().write_all(piece).unwrap();
        bytes.extend(said(client));
    }
    bytes
}

/// What reading came to.
#[derive(Debug)]
pub enum End {
    /// There is no more for now.
    Pending,
    /// The client's close_notify.
    Closed,
    Error(io::Error),
}

impl End {
    /// The error of the protocol that it is.
    pub fn fault(&self) -> &rustls::Error {
        match self {
            Self::Error(error) if error.kind() == io::ErrorKind::InvalidData => {
                error.get_ref().unwrap().downcast_ref().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Server {
    /// Reads once, at most `room` bytes.
    pub fn read_once(&mut self, room: usize) -> Result<Vec<u8>, End> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut buffer = vec![0; room];
        let mut into = ReadBuf::new(&mut buffer);
        match Pin::new(&mut self.stream).poll_read(&mut cx, &mut into) {
            Poll::Pending => Err(End::Pending),
            Poll::Ready(Err(error)) => Err(End::Error(error)),
            Poll::Ready(Ok(())) if into.filled().is_empty() => Err(End::Closed),
            Poll::Ready(Ok(())) => Ok(into.filled().to_vec()),
        }
    }

    /// Reads all that there is.
    pub fn read(&mut self) -> (Vec<u8>, End) {
        let mut data = Vec::new();
        loop {
            match self.read_once(32 << 10) {
                Ok(more) => data.extend(more),
                Err(end) => return (data, end),
            }
        }
    }

    pub fn poll_write(&mut self, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_write(&mut cx, data)
    }

    pub fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_flush(&mut cx)
    }

    pub fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_shutdown(&mut cx)
    }

    /// Writes all of it to a wire with room for it, and returns what went over it.
    pub fn write(&mut self, mut data: &[u8]) -> Vec<u8> {
        while !data.is_empty() {
            match self.poll_write(data) {
                Poll::Ready(Ok(taken)) => data = &data[taken..],
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(self.poll_flush(), Poll::Ready(Ok(()))));
        self.wire.take()
    }
}
