//! Doing a thing until it is done, for who waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::rate::Backoff;
use super::server::Failure;

/// After a failure.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(250),
    limit: Duration::from_secs(5),
};

/// Tries again, and remembers why.
#[derive(Clone, Debug, Default)]
pub(super) struct Retries(Arc<Mutex<Option<String>>>);

impl Retries {
    /// Why something was tried again last.
    pub(super) fn last(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn note(&self, failure: &Failure) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(failure.to_string());
    }

    /// Waits where trying again makes sense; the deadline of everything ends it.
    pub(super) async fn pause(&self, failure: Failure, failures: &mut u32) -> Result<(), Failure> {
        self.note(&failure);
        let asked = match failure {
            Failure::Conflict(_) => None,
            Failure::Unavailable { retry_after, .. } => retry_after,
            failure => return Err(failure),
        };
        let pause = BACKOFF.after(*failures);
        *failures = failures.saturating_add(1);
        tokio::time::sleep(asked.map_or(pause, |asked| asked.max(pause))).await;
        Ok(())
    }

    /// Does something until it is done or will not be done. What is gone is done.
    pub(super) async fn insist<F>(&self, act: impl Fn() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let mut failures = 0;
        loop {
            match act().await {
                Ok(()) | Err(Failure::NotFound(_)) => return Ok(()),
                Err(failure) => self.pause(failure, &mut failures).await?,
            }
        }
    }
}
