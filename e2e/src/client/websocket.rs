//! A client's end of a WebSocket.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, handshake::client::Response};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::wire::Wire;
use crate::patience::within;

/// For one message to go or to come.
const LIMIT: Duration = Duration::from_secs(10);

/// A client's end of a WebSocket. Dropped, it ends without a Close frame.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Wire>,
    response: Response,
}

/// What comes from the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Bytes),
    /// An answer to a ping.
    Pong(Bytes),
    /// A Close frame: code (1005 = without one) and reason.
    Close(u16, String),
}

impl Socket {
    pub(super) async fn open(
        wire: Wire,
        url: &str,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self> {
        let mut request = url.into_client_request()?;
        request.headers_mut().extend(fields);
        let config = WebSocketConfig::default();
        let (stream, response) = client_async_with_config(request, wire, Some(config))
            .await
            .map_err(|error| match error {
                Error::Http(answer) => anyhow!(
                    "the handshake was answered {}: {}",
                    answer.status(),
                    String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default())
                ),
                error => error.into(),
            })?;
        Ok(Self { stream, response })
    }

    /// The subprotocol that was agreed on; empty where there is none.
    pub(crate) fn subprotocol(&self) -> &str {
        let value = self.response.headers().get("sec-websocket-protocol");
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send(Message::text(text)).await
    }

    /// Sends a binary message in one frame.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn send_binary(&mut self, bytes: Bytes) -> Result<()> {
        self.send(Message::Binary(bytes)).await
    }

    /// Sends a text message in several frames, with a ping between each two.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn send_fragments(&mut self, parts: &[&str]) -> Result<()> {
        for (index, part) in parts.iter().enumerate() {
            let opcode = match index {
                0 => Data::Text,
                _ => Data::Continue,
            };
            let is_last = index + 1 == parts.len();
            let payload = Bytes::copy_from_slice(part.as_bytes());
            let frame = Frame::message(payload, OpCode::Data(opcode), is_last);
            self.send(Message::Frame(frame)).await?;
            if !is_last {
                self.ping(&index.to_string()).await?;
            }
        }
        Ok(())
    }

    /// Sends a ping.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn ping(&mut self, payload: &str) -> Result<()> {
        self.send(Message::Ping(Bytes::copy_from_slice(payload.as_bytes())))
            .await
    }

    /// What comes next. Pings are answered on the way.
    ///
    /// # Errors
    ///
    /// Those of the connection: that it ended without a Close frame, was reset, broke the protocol,
    /// or that nothing came in time.
    pub(crate) async fn receive(&mut self) -> Result<Received> {
        within("a frame of a WebSocket", LIMIT, self.next()).await
    }

    /// As [`Socket::receive`], however long it takes.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::receive`].
    pub(crate) async fn next(&mut self) -> Result<Received> {
        loop {
            let message = self.stream.next().await;
            let message = message.context("the connection ended without a Close frame")?;
            return Ok(match message? {
                Message::Text(text) => Received::Text(text.to_string()),
                Message::Binary(bytes) => Received::Binary(bytes),
                Message::Pong(bytes) => Received::Pong(bytes),
                Message::Ping(_) | Message::Frame(_) => continue,
                Message::Close(None) => Received::Close(1005, String::new()),
                Message::Close(Some(frame)) => {
                    Received::Close(frame.code.into(), frame.reason.to_string())
                }
            });
        }
    }

    /// Sends a text and waits until it comes back.
    ///
    /// # Errors
    ///
    /// Those of the connection, and anything else that comes back.
    pub(crate) async fn echo(&mut self, text: &str) -> Result<()> {
        self.send_text(text).await?;
        let back = self.receive().await?;
        ensure!(
            matches!(&back, Received::Text(back) if back == text),
            "{text:?} came back as {back:?}"
        );
        Ok(())
    }

    /// Sends a Close frame, and reads on to the one of the other end; gives its code and reason.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) -> Result<(u16, String)> {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.to_owned().into(),
        };
        self.send(Message::Close(Some(frame))).await?;
        self.closed().await
    }

    /// Reads on to the Close frame of the other end, and to the end of the connection after it;
    /// gives code and reason.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn closed(&mut self) -> Result<(u16, String)> {
        let (code, reason) = loop {
            if let Received::Close(code, reason) = self.receive().await? {
                break (code, reason);
            }
        };
        self.end().await?;
        Ok((code, reason))
    }

    /// After a Close frame of the other end: answers it, and reads on to the end of the connection.
    ///
    /// # Errors
    ///
    /// Those of the connection: a reset, say.
    pub(crate) async fn end(&mut self) -> Result<()> {
        let end = within("the end after a Close frame", LIMIT, async {
            Ok(self.stream.next().await)
        });
        match end.await? {
            None | Some(Err(Error::ConnectionClosed)) => Ok(()),
            Some(Err(error)) => Err(error).context("after a Close frame"),
            Some(Ok(message)) => bail!("after a Close frame came {message}"),
        }
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        let stream = &mut self.stream;
        within("sending over a WebSocket", LIMIT, async {
            Ok(stream.send(message).await?)
        })
        .await
    }
}
