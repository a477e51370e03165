//! A WebSocket of the generator: handshake, echo round trip, close.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::message::Message;
use super::wire::{HOST, Target, Wire};

/// An open WebSocket. Dropped, it ends without a Close frame.
#[derive(Debug)]
pub(crate) struct Tunnel {
    wire: Wire,
}

/// The example of RFC 6455 1.3: key and the proof that belongs to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A masked Close frame with code 1000.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];

const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// The longest payload of a ping that is expected. It is kept by every tunnel that waits for one.
const SHORT: usize = 32;

impl Tunnel {
    /// Connects and does the handshake.
    ///
    /// # Errors
    ///
    /// Those of the socket and of TLS, and any answer but a right 101.
    pub(crate) async fn open(target: &Target) -> io::Result<Self> {
        let mut wire = target.connect().await?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        wire.write_all(request.as_bytes()).await?;
        wire.flush().await?;
        let mut head = [0; 2048];
        let mut length = 0;
        while !head[..length].ends_with(b"\r\n\r\n") {
            let read = wire.read(&mut head[length..]).await?;
            if read == 0 {
                let head = String::from_utf8_lossy(&head[..length]);
                return Err(unexpected(format!(
                    "the handshake was not answered: {head}"
                )));
            }
            length += read;
        }
        let head = String::from_utf8_lossy(&head[..length]);
        if head.starts_with("HTTP/1.1 101 ") && head.contains(PROOF) {
            Ok(Self { wire })
        } else {
            let status = head.lines().next().unwrap_or_default();
            Err(unexpected(format!("the handshake was refused: {status}")))
        }
    }

    /// Sends the message under its next sequence number and checks every byte of the echo.
    ///
    /// # Errors
    ///
    /// Those of the socket, an end of the tunnel, and an echo that is not the message.
    pub(crate) async fn echo(&mut self, message: &mut Message) -> io::Result<()> {
        message.advance();
        self.wire.write_all(message.frame()).await?;
        self.wire.flush().await?;
        let mut length = 0;
        while length < message.expected().len() {
            let read = self.wire.read(&mut message.reply[length..]).await?;
            length += read;
            if read == 0 || message.reply[0] == CLOSE[0] {
                return Err(ended(&message.reply[..length]));
            }
        }
        if message.reply == message.expected() {
            Ok(())
        } else {
            Err(unexpected("an echo differs from its message"))
        }
    }

    /// Answers pings for ever, and counts them.
    ///
    /// # Errors
    ///
    /// Those of the socket, an end of the tunnel, and any frame but a ping.
    pub(crate) async fn answer_pings(mut self, count: &AtomicU64) -> io::Result<()> {
        let mut frame = [0; 2 + SHORT];
        loop {
            let mut length = 0;
            // A control frame's payload has 125 bytes at most (RFC 6455 5.5).
            while length < 2 || length < 2 + usize::from(frame[1]) {
                let end = if length < 2 {
                    2
                } else {
                    2 + usize::from(frame[1])
                };
                let read = self
                    .wire
                    .read(&mut frame[length..end.min(2 + SHORT)])
                    .await?;
                length += read;
                if read == 0 || frame[0] == CLOSE[0] {
                    return Err(ended(&frame[..length]));
                }
                if frame[0] != PING || usize::from(frame[1]) > SHORT {
                    return Err(unexpected("a frame is not a ping"));
                }
            }
            // Masked with zeroes, the payload stays as it is.
            let mut pong = [0; 6 + SHORT];
            pong[0] = PONG;
            pong[1] = 0x80 | frame[1];
            let payload = &frame[2..length];
            pong[6..6 + payload.len()].copy_from_slice(payload);
            self.wire.write_all(&pong[..6 + payload.len()]).await?;
            self.wire.flush().await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The connection below, for what no well-behaved client would do.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Closes: a Close frame, its echo, and the end of the connection by the other side.
    ///
    /// # Errors
    ///
    /// Those of the socket, and an end without the Close frame.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.wire.write_all(&CLOSE).await?;
        self.wire.flush().await?;
        let mut answer = [0; 64];
        let mut length = 0;
        loop {
            match self.wire.read(&mut answer[length..]).await {
                Ok(0) => break,
                Ok(read) => length += read,
                // An end of TCP without the end of TLS; the Close frame has said it already.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        if answer[..length] == [0x88, 2, 0x03, 0xE8] {
            Ok(())
        } else {
            Err(unexpected(format!(
                "a Close frame was answered with {:02x?}",
                &answer[..length]
            )))
        }
    }
}

/// The error for a tunnel that ended when an echo was due; `last` is what came in its place.
fn ended(last: &[u8]) -> io::Error {
    match last {
        [0x88, _, high, low, ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            unexpected(format!("the tunnel was closed with code {code}"))
        }
        _ => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the tunnel ended without a Close frame",
        ),
    }
}

fn unexpected(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
