//! What the API server answers, read with deadlines.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

use super::failure::Failure;

/// Bytes of one event or page. An object has 1.5 MiB at most (etcd's default).
const LIMIT: usize = 64 << 20;
/// Bytes of an error that are read.
const ERROR_LIMIT: usize = 64 << 10;
/// A buffer that has grown beyond this is given back once it is empty.
const KEPT: usize = 64 << 10;

/// An answer whose head has come and says that all is well.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no end of a line.
    searched: usize,
    /// For which the server may be silent.
    pub(super) silence: Duration,
}

impl Answer {
    /// Asks, and waits for the head. `silence` is the deadline for it and each next part.
    pub(super) async fn to(
        client: &Client,
        request: Request<Vec<u8>>,
        silence: Duration,
    ) -> Result<Self, Failure> {
        let answer = tokio::time::timeout(silence, client.send(request.map(Body::from)));
        let answer: Response<Body> = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Failure::Unreachable(root(&error))),
            Err(_) => return Err(Failure::NoAnswer(silence)),
        };
        let (head, body) = answer.into_parts();
        let answer = Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            silence,
        };
        if head.status.is_success() {
            Ok(answer)
        } else {
            Err(answer.refusal(head.status, &head.headers).await)
        }
    }

    /// The next line, without its end. `None` when the server has ended the answer in good order;
    /// a last line without an end is cut off, and counts for nothing.
    pub(super) async fn line(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = unsearched.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                self.buffer = BytesMut::new();
            }
            if !self.read(LIMIT).await? {
                return Ok(None);
            }
        }
    }

    /// All of it.
    pub(super) async fn whole(mut self) -> Result<Bytes, Failure> {
        while self.read(LIMIT).await? {}
        Ok(self.buffer.freeze())
    }

    /// Reads on; `false` at the end.
    async fn read(&mut self, limit: usize) -> Result<bool, Failure> {
        match tokio::time::timeout(self.silence, self.body.frame()).await {
            Err(_) => Err(Failure::Silent(self.silence)),
            Ok(None) => Ok(false),
            Ok(Some(Err(error))) => Err(Failure::Broken(root(&error))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    if self.buffer.len() + data.len() > limit {
                        return Err(Failure::TooLong(limit));
                    }
                    self.buffer.extend_from_slice(&data);
                }
                Ok(true)
            }
        }
    }

    /// Why the server refuses.
    async fn refusal(mut self, status: StatusCode, headers: &HeaderMap) -> Failure {
        while let Ok(true) = self.read(ERROR_LIMIT).await {}
        // Proxies before the server answer in other words.
        let told: Status = serde_json::from_slice(&self.buffer).unwrap_or_default();
        let after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        told.failure(status.as_u16(), after)
    }
}

/// An error as the API server tells it (`meta/v1`, `Status`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    code: u16,
    message: String,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: u64,
}

impl Status {
    /// As a failure. The code is that of the answer; 0 = the status itself has one.
    pub(super) fn failure(self, code: u16, retry_after: Option<u64>) -> Failure {
        let code = if code == 0 { self.code } else { code };
        if code == StatusCode::GONE {
            return Failure::Gone;
        }
        let seconds = retry_after
            .or_else(|| Some(self.details?.retry_after_seconds))
            .unwrap_or_default();
        Failure::Refused {
            code,
            message: self.message,
            retry_after: Duration::from_secs(seconds),
        }
    }
}

/// What is at the bottom of an error: the layers above say only who passed it on.
fn root(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
