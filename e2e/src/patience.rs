//! Waiting for what comes in its own time: looked for again and again, and given up with the last
//! thing that was seen.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::time::{Instant, sleep, timeout};

/// For what takes a moment: a write and its consequence.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// For pods that have to start, or to end.
pub(crate) const PODS: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(50);
/// One look; a request that hangs must not eat up the time of the others.
const LOOK: Duration = Duration::from_secs(10);

/// Looks until it succeeds. `what` is what is waited for, as a sentence: "the status is filled".
///
/// # Errors
///
/// That of the last look, when `limit` is over.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let last = match timeout(LOOK, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("no answer for {} s", LOOK.as_secs()),
        };
        if Instant::now() >= end {
            return Err(last).with_context(|| format!("not after {limit:?}: {what}"));
        }
        sleep(PAUSE).await;
    }
}

/// As [`eventually`], with the patience for what takes a moment.
///
/// # Errors
///
/// Those of [`eventually`].
pub(crate) async fn soon<T>(what: &str, look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    eventually(what, SOON, look).await
}

/// Looks for as long as `time`, and fails when a look does: for what must not happen.
///
/// # Errors
///
/// That of the first look that fails.
pub(crate) async fn steadily(
    what: &str,
    time: Duration,
    mut look: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        timeout(LOOK, look())
            .await
            .map_err(|_| anyhow!("no answer for {} s", LOOK.as_secs()))
            .flatten()
            .with_context(|| format!("after {:?} no longer: {what}", start.elapsed()))?;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Gives something a time limit.
///
/// # Errors
///
/// Its own, and that the time is over.
pub(crate) async fn within<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(limit, work)
        .await
        .map_err(|_| anyhow!("not within {limit:?}: {what}"))?
        .with_context(|| what.to_owned())
}

/// Waits until what is made next is younger than what has been: the API server keeps times of creation
/// in whole seconds, and nothing can be asked for that would tell.
pub(crate) async fn next_second() {
    sleep(Duration::from_millis(1100)).await;
}
