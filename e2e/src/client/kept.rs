//! A connection that is kept for one request after the other.

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::visitor::{LIMIT, Visitor};
use crate::patience::within;

/// A connection that is kept for one request after the other. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    visitor: Visitor,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

/// What may become of a request on a kept connection in place of an answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The connection had ended before, and the request was not sent.
    Ended,
    /// The connection ended while the request was on its way, before a byte of an answer. Clients
    /// send such a request again (RFC 9112 §9.3.1), but a server should not bring them to that.
    Crossed,
    /// All else.
    Failed(anyhow::Error),
}

impl Kept {
    pub(super) async fn open(visitor: &Visitor) -> Result<Self> {
        let wire = visitor.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
        Ok(Self {
            visitor: visitor.clone(),
            sender,
            connection: tokio::spawn(async move {
                // How it ends is seen by the request that it ends with.
                let _ = connection.await;
            }),
        })
    }

    /// Asks for a path and reads the whole answer.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, Unanswered> {
        if self.sender.ready().await.is_err() {
            return Err(Unanswered::Ended);
        }
        let request = self
            .visitor
            .request(Method::GET, path, "")
            .map_err(Unanswered::Failed)?;
        let answer = tokio::time::timeout(LIMIT, self.sender.send_request(request)).await;
        let answer = answer.map_err(|late| Unanswered::Failed(late.into()))?;
        let (head, body) = answer.map_err(unanswered)?.into_parts();
        let body = within("the rest of an answer", LIMIT, async {
            Ok(body.collect().await?.to_bytes())
        });
        Ok(Answer {
            status: head.status.as_u16(),
            version: head.version,
            headers: head.headers,
            body: body.await.map_err(Unanswered::Failed)?,
        })
    }
}

fn unanswered(error: hyper::Error) -> Unanswered {
    let reset = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
            matches!(error.kind(), BrokenPipe | ConnectionReset)
        });
    if error.is_canceled() {
        Unanswered::Ended
    } else if error.is_incomplete_message() || error.is_closed() || reset {
        Unanswered::Crossed
    } else {
        Unanswered::Failed(error.into())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
