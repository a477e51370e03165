//! A scenario: what is tested, on what, and how long it may take.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::trial::Trial;

type Work = Pin<Box<dyn Future<Output = Result<()>>>>;

/// What has to be there before a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The chart, installed once for all of these.
    Shared,
    /// No Holdfast at all, not even its CRD: the scenario installs what it needs.
    Bare,
}

/// A test.
pub(crate) struct Scenario {
    /// Says what is so when it passes, in the letters of a Rust function.
    pub(crate) name: &'static str,
    /// What it runs on.
    pub(crate) ground: Ground,
    /// Then it has failed.
    pub(crate) limit: Duration,
    run: Box<dyn Fn(Arc<Trial>) -> Work>,
}

impl Scenario {
    /// One on the shared installation.
    pub(crate) fn shared<F>(
        name: &'static str,
        seconds: u64,
        run: impl Fn(Arc<Trial>) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + 'static,
    {
        Self::new(name, Ground::Shared, seconds, run)
    }

    /// One that starts without Holdfast.
    pub(crate) fn bare<F>(
        name: &'static str,
        seconds: u64,
        run: impl Fn(Arc<Trial>) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + 'static,
    {
        Self::new(name, Ground::Bare, seconds, run)
    }

    fn new<F>(
        name: &'static str,
        ground: Ground,
        seconds: u64,
        run: impl Fn(Arc<Trial>) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + 'static,
    {
        Self {
            name,
            ground,
            limit: Duration::from_secs(seconds),
            run: Box::new(move |trial| Box::pin(run(trial))),
        }
    }

    /// The work itself.
    pub(crate) fn start(&self, trial: Arc<Trial>) -> Work {
        (self.run)(trial)
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .field("ground", &self.ground)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
