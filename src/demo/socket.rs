//! A WebSocket from the server's end: masked frames in, pieces of messages out.
//!
//! ```text
//! bytes ─▶ Header ─▶ rules of RFC 6455 ─▶ Event::Piece … ─▶ echo, chat
//!                                       └▶ Event::Ping / Pong / Close
//! ```

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frame::{
    Header, MAX_CONTROL_PAYLOAD, Opcode, apply_mask, is_sendable_close_code, server_header,
};
use super::utf8::Utf8Check;

/// Frames up to this length are handed out whole, longer ones in pieces of at most this.
const MAX_PIECE: usize = 64 * 1024;
/// The buffer of a socket that waits for its next frame.
const IDLE_BUFFER: usize = 1024;
/// For one frame to be taken by the client's side.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the client to answer our Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A WebSocket.
pub(super) struct Socket {
    io: TokioIo<Upgraded>,
    input: BytesMut,
    frame: Option<OpenFrame>,
    message: Option<OpenMessage>,
    max_message: u64,
}

/// What arrives.
#[derive(Debug)]
pub(super) enum Event {
    /// A part of a message.
    Piece(Piece),
    /// To be answered with a Pong of the same payload.
    Ping(Bytes),
    /// Sign of life.
    Pong,
    /// The client ends the connection, with a code or without.
    Close(Option<u16>),
}

/// A part of a message, unmasked.
#[derive(Debug)]
pub(super) struct Piece {
    /// `Text` or `Binary` for the first piece, `Continuation` for the rest.
    pub(super) opcode: Opcode,
    /// Whether the message ends here.
    pub(super) fin: bool,
    pub(super) payload: Bytes,
}

/// Why a WebSocket cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The client broke a rule; it is to be told by this code.
    #[error("{code}: {reason}")]
    Broken {
        /// Close code.
        code: u16,
        /// For the Close frame.
        reason: &'static str,
    },
    /// The connection is gone, or stuck.
    #[error(transparent)]
    Gone(#[from] io::Error),
}

/// A data frame whose payload is being handed out.
struct OpenFrame {
    header: Header,
    taken: u64,
}

/// A message whose last frame has not been seen.
struct OpenMessage {
    size: u64,
    /// For text.
    utf8: Option<Utf8Check>,
    begun: bool,
}

impl Socket {
    /// Over an upgraded connection. Messages above `max_message` bytes end it with 1009.
    pub(super) fn new(io: TokioIo<Upgraded>, max_message: u64) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            frame: None,
            message: None,
            max_message,
        }
    }

    /// Whether the last piece ended its message, so that a new one may be sent in between by a
    /// server that echoes.
    pub(super) fn is_between_messages(&self) -> bool {
        self.message.is_none()
    }

    /// The next event. Cancel-safe: what has been read stays read.
    pub(super) async fn read(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.parse()? {
                return Ok(event);
            }
            let expected = self.frame.as_ref().map_or(0, |frame| {
                let rest = frame.header.length - frame.taken;
                usize::try_from(rest).map_or(MAX_PIECE, |rest| rest.min(MAX_PIECE))
            });
            if expected == 0 && self.input.is_empty() {
                self.input = BytesMut::new();
            }
            self.input.reserve(expected.max(IDLE_BUFFER));
            if self.io.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Sends a frame.
    pub(super) async fn send(
        &mut self,
        opcode: Opcode,
        fin: bool,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let header = server_header(opcode, fin, payload.len());
        let write = async {
            let mut frame = Buf::chain(header.as_slice(), payload);
            self.io.write_all_buf(&mut frame).await?;
            self.io.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// Sends a whole text message.
    pub(super) async fn send_text(&mut self, text: &str) -> Result<(), Failure> {
        self.send(Opcode::Text, true, text.as_bytes()).await
    }

    /// Ends the connection from our side: Close, wait for the client's, then the TCP connection
    /// (RFC 6455 §7.1.1: the server closes first).
    pub(super) async fn close(mut self, code: u16, reason: &str) {
        if self.send_close(Some(code), reason).await.is_ok() {
            // What still comes in is thrown away; after a broken rule it makes no sense anyway.
            let drained = async {
                loop {
                    match self.read().await {
                        Ok(Event::Close(_)) | Err(Failure::Gone(_)) => break,
                        Ok(_) => {}
                        Err(Failure::Broken { .. }) => {
                            self.drain_bytes().await;
                            break;
                        }
                    }
                }
            };
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, drained).await;
        }
        self.shut().await;
    }

    /// Answers the client's Close with the same code, and ends.
    pub(super) async fn answer_close(mut self, code: Option<u16>) {
        if self.send_close(code, "").await.is_ok() {
            self.shut().await;
        }
    }

    /// Ends as a failure demands: a broken rule is answered with a Close, a lost connection is lost.
    pub(super) async fn fail(self, failure: Failure) {
        match failure {
            Failure::Broken { code, reason } => self.close(code, reason).await,
            Failure::Gone(error) => tracing::debug!(%error, "WebSocket lost"),
        }
    }

    async fn send_close(&mut self, code: Option<u16>, reason: &str) -> Result<(), Failure> {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            let room = MAX_CONTROL_PAYLOAD - payload.len();
            payload.extend_from_slice(
                reason
                    .get(..reason.floor_char_boundary(room))
                    .unwrap_or_default()
                    .as_bytes(),
            );
        }
        self.send(Opcode::Close, true, &payload).await
    }

    async fn drain_bytes(&mut self) {
        loop {
            self.input.clear();
            self.input.reserve(IDLE_BUFFER);
            if !matches!(self.io.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }

    async fn shut(&mut self) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.io.shutdown()).await;
    }

    /// An event out of what has been read, if there is enough of it.
    fn parse(&mut self) -> Result<Option<Event>, Failure> {
        let mut frame = match self.frame.take() {
            Some(frame) => frame,
            None => match Header::parse(&self.input).map_err(protocol_error)? {
                Some((header, used)) => {
                    self.input.advance(used);
                    self.begin(header)?;
                    OpenFrame { header, taken: 0 }
                }
                None => return Ok(None),
            },
        };
        let rest = usize::try_from(frame.header.length - frame.taken).unwrap_or(usize::MAX);
        let is_long = frame.header.length > MAX_PIECE as u64;
        if self.input.len() < rest && (!is_long || self.input.is_empty()) {
            self.frame = Some(frame);
            return Ok(None);
        }
        let mut payload = self
            .input
            .split_to(rest.min(self.input.len()).min(MAX_PIECE));
        apply_mask(&mut payload, frame.header.mask, frame.taken);
        frame.taken += payload.len() as u64;
        let payload = payload.freeze();
        match frame.header.opcode {
            Opcode::Ping => Ok(Some(Event::Ping(payload))),
            Opcode::Pong => Ok(Some(Event::Pong)),
            Opcode::Close => parse_close(&payload).map(|code| Some(Event::Close(code))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let is_frame_over = frame.taken == frame.header.length;
                let fin = frame.header.fin && is_frame_over;
                let opcode = self.continue_message(frame.header.opcode, &payload, fin)?;
                if !is_frame_over {
                    self.frame = Some(frame);
                }
                Ok(Some(Event::Piece(Piece {
                    opcode,
                    fin,
                    payload,
                })))
            }
        }
    }

    /// Holds a data frame to its place in a message, and the message to its size.
    fn begin(&mut self, header: Header) -> Result<(), Failure> {
        match (header.opcode, &self.message) {
            (Opcode::Continuation, None) => {
                return Err(protocol_error("a continuation of nothing"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(protocol_error("a message inside another"));
            }
            (Opcode::Text | Opcode::Binary, None) => {
                self.message = Some(OpenMessage {
                    size: 0,
                    utf8: (header.opcode == Opcode::Text).then(Utf8Check::default),
                    begun: false,
                });
            }
            _ => {}
        }
        if let Some(message) = &mut self.message
            && !header.opcode.is_control()
        {
            message.size = message.size.saturating_add(header.length);
            if message.size > self.max_message {
                return Err(Failure::Broken {
                    code: 1009,
                    reason: "the message is too big",
                });
            }
        }
        Ok(())
    }

    /// Checks a piece as text, and answers what it is to be called.
    fn continue_message(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        fin: bool,
    ) -> Result<Opcode, Failure> {
        let Some(message) = &mut self.message else {
            return Err(protocol_error("a continuation of nothing"));
        };
        if let Some(utf8) = &mut message.utf8 {
            utf8.feed(payload)
                .and_then(|()| if fin { utf8.finish() } else { Ok(()) })
                .map_err(|_| Failure::Broken {
                    code: 1007,
                    reason: "the text is not UTF-8",
                })?;
        }
        let opcode = if message.begun {
            Opcode::Continuation
        } else {
            opcode
        };
        message.begun = true;
        if fin {
            self.message = None;
        }
        Ok(opcode)
    }
}

fn parse_close(payload: &[u8]) -> Result<Option<u16>, Failure> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(protocol_error("half a close code"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable_close_code(code) {
        return Err(protocol_error("not a close code"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Failure::Broken {
            code: 1007,
            reason: "the close reason is not UTF-8",
        });
    }
    Ok(Some(code))
}

fn protocol_error(reason: &'static str) -> Failure {
    Failure::Broken { code: 1002, reason }
}
