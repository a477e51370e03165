//! The server's side of a handshake.
//!
//! ```text
//! socket ─▶ incoming ─▶ rustls (unbuffered) ─▶ outgoing ─▶ socket
//!                          └─ over ─▶ keys ─▶ TlsStream
//! ```
//!
//! rustls' unbuffered interface is the only one that hands a connection over with its keys and
//! the means to change them; it leaves reading and writing to us.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::protection::MAX_RECORD;
use super::server::ALPN_HTTP2;
use super::session::Session;
use super::stream::{Rest, TlsStream, invalid};

/// Room for most first flights of clients.
pub(super) const INCOMING: usize = 4 * 1024;
/// The longest handshake message that rustls takes, and a record.
pub(super) const MAX_INCOMING: usize = 0xffff + MAX_RECORD;

/// A handshake on its way.
struct Handshake {
    connection: UnbufferedServerConnection,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// What the client said behind its Finished.
    data: Vec<u8>,
    closed: bool,
}

enum Step {
    Read,
    Done,
}

/// Does a handshake with a client, of which `heard` has been read already.
///
/// # Errors
/// Those of the transport; `UnexpectedEof` where the client leaves; `InvalidData` with a
/// [`rustls::Error`] where it breaks the protocol or there is nothing to agree on, after it has
/// been sent the alert.
pub(super) async fn serve<T>(
    config: Arc<ServerConfig>,
    mut transport: T,
    heard: Vec<u8>,
) -> io::Result<TlsStream<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = Handshake {
        connection: UnbufferedServerConnection::new(config).map_err(invalid)?,
        incoming: heard,
        outgoing: Vec::new(),
        data: Vec::new(),
        closed: false,
    };
    loop {
        let step = handshake.advance();
        if let Err(error) = step {
            handshake.encode_alert();
            // Best effort: the client may have gone.
            if transport.write_all(&handshake.outgoing).await.is_ok() {
                drop(transport.flush().await);
            }
            return Err(error);
        }
        // A ticket waits for the answer to a request that is here already, and goes along.
        let waits = matches!(step, Ok(Step::Done)) && !handshake.data.is_empty();
        if !handshake.outgoing.is_empty() && !waits {
            transport.write_all(&handshake.outgoing).await?;
            transport.flush().await?;
            handshake.outgoing = Vec::new();
        }
        if matches!(step, Ok(Step::Done)) {
            return handshake.finish(transport);
        }
        if handshake.incoming.len() >= MAX_INCOMING {
            return Err(io::ErrorKind::InvalidData.into());
        }
        handshake.incoming.reserve(INCOMING);
        if transport.read_buf(&mut handshake.incoming).await? == 0 {
            return Err(left());
        }
    }
}

impl Handshake {
    /// Goes on as far as what has come allows.
    fn advance(&mut self) -> io::Result<Step> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut blocked = false;
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.incoming.drain(..discard.min(self.incoming.len()));
                    return Err(invalid(error));
                }
            };
            match state {
                ConnectionState::EncodeTlsData(mut message) => {
                    encode(|into| message.encode(into), &mut self.outgoing)?;
                }
                // It is, before anything else happens.
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        self.data.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::PeerClosed => self.closed = true,
                // A server may write before the client's Finished.
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => {
                    blocked = true;
                }
                _ => return Err(left()),
            }
            self.incoming.drain(..discard.min(self.incoming.len()));
            if blocked {
                let over = !self.connection.is_handshaking();
                return match (over, self.closed) {
                    (true, _) => Ok(Step::Done),
                    (false, false) => Ok(Step::Read),
                    (false, true) => Err(left()),
                };
            }
        }
    }

    /// What rustls has to say about an error.
    fn encode_alert(&mut self) {
        while let Ok(ConnectionState::EncodeTlsData(mut message)) = self
            .connection
            .process_tls_records(&mut self.incoming)
            .state
        {
            if encode(|into| message.encode(into), &mut self.outgoing).is_err() {
                return;
            }
        }
    }

    fn finish<T>(self, transport: T) -> io::Result<TlsStream<T>> {
        let http2 = self.connection.alpn_protocol() == Some(ALPN_HTTP2);
        let (secrets, schedule) = self
            .connection
            .dangerous_into_kernel_connection()
            .map_err(invalid)?;
        let rest = Rest {
            plaintext: self.data,
            // At most a part of a record; not in the room of a whole handshake.
            ciphertext: self.incoming.as_slice().to_vec(),
            outgoing: self.outgoing,
            closed: self.closed,
            http2,
        };
        Ok(TlsStream::new(
            transport,
            Session::new(secrets, schedule),
            rest,
        ))
    }
}

/// Appends a message of rustls' to `out`.
fn encode(
    mut message: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let at = out.len();
    let mut size = 0;
    loop {
        out.resize(at + size, 0);
        match message(out.get_mut(at..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needs)) if needs.required_size > size => {
                size = needs.required_size;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn left() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof")
}
