//! A connection for requests that is opened anew where the proxy has closed it.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::request::{Answer, Requests};
use super::wire::Target;

/// Asks on a kept connection, and on a new one when that has ended.
#[derive(Debug)]
pub(crate) struct Reconnecting {
    target: Target,
    connection: Option<Requests>,
}

/// The longest that one answer is waited for.
const LIMIT: Duration = Duration::from_secs(5);

impl Reconnecting {
    /// Connects at the first request.
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            connection: None,
        }
    }

    /// Sends a request (see [`get`](super::request::get)) and reads the answer.
    ///
    /// # Errors
    ///
    /// Those of [`Requests`] on a new connection, and silence for 5 s.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        timeout(LIMIT, async {
            if let Some(kept) = self.connection.take() {
                // A server may end a kept connection at the moment that a request comes.
                if let Ok(answer) = self.ask(kept, request).await {
                    return Ok(answer);
                }
            }
            let new = Requests::open(&self.target).await?;
            self.ask(new, request).await
        })
        .await?
    }

    async fn ask(&mut self, mut connection: Requests, request: &[u8]) -> io::Result<Answer> {
        let answer = connection.send(request).await?;
        if !answer.last {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}
