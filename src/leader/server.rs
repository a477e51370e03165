//! One request to the API server, under a deadline, and what its answer means.
//!
//! ```text
//! request ─▶ Server::send ─▶ the object
//!                        └─▶ Failure: gone, conflict, refused, unavailable
//! ```
//!
//! Not by `kube::Api`: its errors lose the `Retry-After` header of an answer.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use kube::core::request::Error as BuildError;
use serde::de::DeserializeOwned;

/// Longer answers are refused. A page of a list is the longest.
const MAX_ANSWER: usize = 64 << 20;
/// A server that asks for a longer pause is asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
/// How much of an answer that is no Status is quoted.
const MAX_QUOTED: usize = 300;
/// The cause of a 403 to a creation in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// The API server.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    /// For one request, its answer included.
    deadline: Duration,
}

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// 404: no such object, kind or namespace. Also 403 where the namespace is on its way out.
    #[error("{0}")]
    NotFound(String),
    /// 409: somebody else was faster, or the object is there already.
    #[error("{0}")]
    Conflict(String),
    /// 403: the right is missing.
    #[error("{0}")]
    Forbidden(String),
    /// The API server does not want the request as it is, and will not tomorrow.
    #[error("{0}")]
    Refused(String),
    /// 429, 5xx, 401, no answer in time, no connection: later perhaps.
    #[error("{message}")]
    Unavailable {
        /// What happened.
        message: String,
        /// The pause that the API server asks for.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable {
            message: message.into(),
            retry_after: None,
        }
    }
}

impl Server {
    pub(super) fn new(client: Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }

    /// The same with another deadline.
    pub(super) fn within(&self, deadline: Duration) -> Self {
        Self::new(self.client.clone(), deadline)
    }

    /// Sends a request and reads its answer as `T`.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, BuildError>,
    ) -> Result<T, Failure> {
        // Names and bodies come from objects that the API server has accepted.
        let request = request.map_err(|error| Failure::Refused(in_words(&error)))?;
        tokio::time::timeout(self.deadline, self.exchange(request))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::unavailable(format!(
                    "no answer within {:?}",
                    self.deadline
                )))
            })
    }

    async fn exchange<T: DeserializeOwned>(&self, request: Request<Vec<u8>>) -> Result<T, Failure> {
        let answer = self
            .client
            .send(request.map(Body::from))
            .await
            .map_err(|error| Failure::unavailable(in_words(&error)))?;
        let status = answer.status();
        let retry_after = retry_after(&answer);
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| Failure::unavailable(format!("the answer broke off: {error}")))?
            .to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                Failure::unavailable(format!("the answer is not understood: {error}"))
            });
        }
        Err(failure(status, retry_after, &body))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

fn failure(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Failure {
    let (message, details) = match serde_json::from_slice::<Status>(body) {
        Ok(answer) if !answer.message.is_empty() => (answer.message, answer.details),
        _ => (quote(status, body), None),
    };
    // No right would help there.
    let is_leaving = details
        .iter()
        .flat_map(|details| &details.causes)
        .any(|cause| cause.reason == NAMESPACE_TERMINATING);
    let asked = details
        .map(|details| details.retry_after_seconds)
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.into()));
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound(message),
        StatusCode::FORBIDDEN if is_leaving => Failure::NotFound(message),
        StatusCode::CONFLICT => Failure::Conflict(message),
        StatusCode::FORBIDDEN => Failure::Forbidden(message),
        // A token that has just expired is read anew within a minute.
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Failure::Unavailable {
                message,
                retry_after: retry_after.or(asked),
            }
        }
        status if status.is_client_error() => Failure::Refused(message),
        _ => Failure::Unavailable {
            message,
            retry_after: retry_after.or(asked),
        },
    }
}

/// The header in its form of seconds; the API server does not use the other.
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?;
    let seconds: u64 = value.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn quote(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.trim().chars().take(MAX_QUOTED).collect();
    if text.is_empty() {
        format!("the API server answers {status}")
    } else {
        format!("the API server answers {status}: {text}")
    }
}

/// An error with all its causes, each once.
fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}
