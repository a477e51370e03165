//! HTTP/1.1 at the level of bytes, for clients and for pods: nothing is corrected on the way.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::harness::PATIENCE;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection and what has been read from it.
pub struct Wire {
    pub stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Every byte that was ever read.
    pub seen: Arc<Mutex<Vec<u8>>>,
}

/// How a connection ended, and what came before it that was not a whole message.
#[derive(Debug)]
pub struct Ended {
    pub rest: Vec<u8>,
    pub reset: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Answer,
    AnswerToHead,
}

#[derive(Debug)]
pub struct Message {
    /// With its empty line.
    pub head: String,
    /// Without its framing.
    pub body: Vec<u8>,
    /// What follows the last chunk.
    pub trailers: String,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.get(9..12).unwrap().parse().unwrap()
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1);
        fields
            .filter_map(|field| field.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The value of a field that may occur once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} more than once: {}", self.head);
        values.first().copied()
    }

    /// All fields as they came, sorted.
    pub fn fields(&self) -> Vec<&str> {
        let mut fields: Vec<&str> = self
            .head
            .lines()
            .skip(1)
            .filter(|l| !l.is_empty())
            .collect();
        fields.sort_unstable();
        fields
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Wire {
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            seen: Arc::default(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next answer to a request other than HEAD.
    pub async fn answer(&mut self) -> Message {
        self.message(Kind::Answer).await.unwrap()
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }

    /// The next whole message.
    pub async fn message(&mut self, kind: Kind) -> Result<Message, Ended> {
        let whole = self.read_message(kind);
        tokio::time::timeout(PATIENCE, whole)
            .await
            .expect("a message in time")
    }

    /// Reads to the end of the connection.
    pub async fn end(&mut self) -> Ended {
        let rest = async {
            loop {
                if let Err(ended) = self.fill().await {
                    return ended;
                }
            }
        };
        tokio::time::timeout(PATIENCE, rest)
            .await
            .expect("an end in time")
    }

    async fn read_message(&mut self, kind: Kind) -> Result<Message, Ended> {
        let head = self.head().await?;
        let mut message = Message {
            head,
            body: Vec::new(),
            trailers: String::new(),
        };
        let chunked = message
            .field("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let length = message
            .field("content-length")
            .map(|length| length.parse().unwrap());
        let without_body = match kind {
            Kind::Request => false,
            Kind::AnswerToHead => true,
            Kind::Answer => matches!(message.status(), 100..200 | 204 | 304),
        };
        match length {
            _ if without_body => {}
            _ if chunked => {
                loop {
                    let size = self.line().await?;
                    let size = usize::from_str_radix(size.trim(), 16).unwrap();
                    if size == 0 {
                        break;
                    }
                    let chunk = self.exactly(size).await?;
                    message.body.extend(chunk);
                    assert_eq!(self.line().await?, "\r\n");
                }
                loop {
                    let line = self.line().await?;
                    if line == "\r\n" {
                        break;
                    }
                    message.trailers.push_str(&line);
                }
            }
            Some(length) => message.body = self.exactly(length).await?,
            None if kind == Kind::Request => {}
            None => message.body = self.end().await.rest,
        }
        Ok(message)
    }

    /// Everything up to an empty line.
    pub async fn head(&mut self) -> Result<String, Ended> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push_str(&self.line().await?);
        }
        Ok(head)
    }

    pub async fn line(&mut self) -> Result<String, Ended> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await?;
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Ended> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn fill(&mut self) -> Result<(), Ended> {
        let mut some = [0; 16 * 1024];
        match self.stream.read(&mut some).await {
            Ok(read) if read > 0 => {
                let some = &some[..read];
                self.seen.lock().unwrap().extend_from_slice(some);
                self.buffer.extend_from_slice(some);
                Ok(())
            }
            result => Err(Ended {
                rest: std::mem::take(&mut self.buffer),
                reset: result.is_err(),
            }),
        }
    }
}
