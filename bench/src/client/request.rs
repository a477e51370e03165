//! A keep-alive connection of the generator that sends GET requests.

use std::io;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::{Target, Wire};

/// A connection for one request after the other.
#[derive(Debug)]
pub(crate) struct Requests {
    wire: Wire,
    buffer: Vec<u8>,
}

/// What a request was answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Length of the body, in bytes.
    pub(crate) body: usize,
    /// The `x-backend` field: which backend answered.
    pub(crate) backend: Option<String>,
    /// The connection takes no further request: the answer says so, or is of unknown length. Its
    /// body may then not have been read.
    pub(crate) last: bool,
}

const LARGEST_ANSWER: usize = 16 * 1024;

/// The request head for `GET /` of `host`.
pub(crate) fn get(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n").into_bytes()
}

impl Requests {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Those of the socket and of TLS.
    pub(crate) async fn open(target: &Target) -> io::Result<Self> {
        Ok(Self {
            wire: target.connect().await?,
            buffer: vec![0; LARGEST_ANSWER],
        })
    }

    /// Sends a request (see [`get`]) and reads the whole answer.
    ///
    /// # Errors
    ///
    /// Those of the socket, an end before the answer's, and an answer larger than 16 KiB.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.wire.write_all(request).await?;
        self.wire.flush().await?;
        let mut length = 0;
        loop {
            let read = self.wire.read(&mut self.buffer[length..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            length += read;
            let Some((head, answer)) = parse(&self.buffer[..length])? else {
                continue;
            };
            let whole = head + answer.body;
            if answer.last {
                return Ok(answer);
            }
            if whole > self.buffer.len() || length > whole {
                return Err(invalid("an answer is longer than announced or allowed"));
            }
            if length < whole {
                self.wire
                    .read_exact(&mut self.buffer[length..whole])
                    .await?;
            }
            return Ok(answer);
        }
    }

    /// The certificate that the server presented.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.wire {
            Wire::Plain(_) => None,
            Wire::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }
}

/// The length of the head and what it says; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Answer)>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let field = |name: &str| {
        response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .and_then(|field| str::from_utf8(field.value).ok())
    };
    let body = field("content-length").and_then(|length| length.parse().ok());
    let answer = Answer {
        status: response.code.unwrap_or_default(),
        body: body.unwrap_or_default(),
        backend: field("x-backend").map(str::to_owned),
        last: body.is_none()
            || field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    };
    Ok(Some((head, answer)))
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
