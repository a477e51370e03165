//! Steady requests, on new connections and on kept ones, each of which has to be answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::client::{Answer, Unanswered, Visitor};

/// For the last answers after the end.
const FINISH: Duration = Duration::from_secs(15);
/// Requests that wait for an answer at a time; with more the server does not keep up.
const UNDER_WAY: usize = 2_000;
/// Failures that are written down.
const NAMED: usize = 10;

/// What an answer must be.
pub(crate) type Expectation = fn(&Answer) -> Result<()>;

/// Requests that go on until [`Requests::stop`].
#[derive(Debug)]
pub(crate) struct Requests {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Those that were answered as expected.
    pub(crate) answered: u64,
    /// Those that were not.
    pub(crate) failed: u64,
    /// Those that had to be sent again, because a kept connection ended over them.
    pub(crate) crossed: u64,
    /// Kept connections that the server has ended.
    pub(crate) ended: u64,
    /// The longest that an answer took.
    pub(crate) slowest: Duration,
    /// The first failures: after which time, and what.
    pub(crate) failures: Vec<String>,
}

impl Requests {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            tally: Arc::default(),
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
        }
    }

    /// So many a second, each on a connection of its own.
    pub(crate) fn fresh(mut self, client: Visitor, per_second: u32, expect: Expectation) -> Self {
        let book = self.book();
        let mut stopped = self.stop.subscribe();
        self.tasks.spawn(async move {
            let mut under_way = JoinSet::new();
            let mut ticks = interval(Duration::from_secs(1) / per_second);
            // A machine that is busy must not make up for it by a burst.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = ticks.tick() => {}
                }
                while under_way.try_join_next().is_some() {}
                if under_way.len() == UNDER_WAY {
                    book.note(Instant::now(), Err(anyhow::anyhow!("too many wait")));
                    continue;
                }
                let (client, book) = (client.clone(), book.clone());
                under_way.spawn(async move {
                    let began = Instant::now();
                    let answer = client.get("/").await;
                    book.note(began, answer.and_then(|answer| expect(&answer)));
                });
            }
            under_way.join_all().await;
        });
        self
    }

    /// So many connections with so many requests a second on each.
    pub(crate) fn kept(
        mut self,
        client: &Visitor,
        connections: usize,
        per_second: u32,
        expect: Expectation,
    ) -> Self {
        for _ in 0..connections {
            let (client, book) = (client.clone(), self.book());
            let mut stopped = self.stop.subscribe();
            self.tasks.spawn(async move {
                let mut connection = None;
                let mut ticks = interval(Duration::from_secs(1) / per_second);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        _ = stopped.changed() => return,
                        _ = ticks.tick() => {}
                    }
                    let began = Instant::now();
                    let answer = book.ask(&client, &mut connection).await;
                    book.note(began, answer.and_then(|answer| expect(&answer)));
                }
            });
        }
        self
    }

    /// What became of them so far.
    pub(crate) fn so_far(&self) -> Tally {
        self.book().tally().clone()
    }

    /// Ends, waits for the last answers and says what became of all.
    ///
    /// # Errors
    ///
    /// When the last answers do not come.
    pub(crate) async fn stop(mut self) -> Result<Tally> {
        self.stop.send_replace(true);
        let finished = async {
            while let Some(task) = self.tasks.join_next().await {
                task?;
            }
            anyhow::Ok(())
        };
        timeout(FINISH, finished)
            .await
            .context("requests do not end")??;
        Ok(self.so_far())
    }

    fn book(&self) -> Book {
        Book {
            tally: Arc::clone(&self.tally),
            opened: Instant::now(),
        }
    }
}

impl Tally {
    /// Fails unless all were answered, and there were some.
    ///
    /// # Errors
    ///
    /// The failures.
    pub(crate) fn expect_no_failure(&self) -> Result<()> {
        ensure!(
            self.failed == 0,
            "{} of {} requests failed: {}",
            self.failed,
            self.failed + self.answered,
            self.failures.join("; ")
        );
        ensure!(self.answered > 0, "there was no request");
        Ok(())
    }
}

/// Where requests are written down.
#[derive(Clone)]
struct Book {
    tally: Arc<Mutex<Tally>>,
    opened: Instant,
}

impl Book {
    /// Asks on the kept connection, or on a new one where that has ended.
    async fn ask(
        &self,
        client: &Visitor,
        kept: &mut Option<crate::client::Kept>,
    ) -> Result<Answer> {
        // An ended connection, one that ends over the request, and a new one.
        for _ in 0..3 {
            let connection = match kept {
                Some(connection) => connection,
                None => kept.insert(client.keep().await?),
            };
            match connection.get("/").await {
                Ok(answer) => {
                    if answer.field("connection").eq_ignore_ascii_case("close") {
                        *kept = None;
                        self.tally().ended += 1;
                    }
                    return Ok(answer);
                }
                Err(Unanswered::Ended) => self.tally().ended += 1,
                Err(Unanswered::Crossed) => {
                    let mut tally = self.tally();
                    tally.ended += 1;
                    tally.crossed += 1;
                }
                Err(Unanswered::Failed(error)) => {
                    *kept = None;
                    return Err(error);
                }
            }
            *kept = None;
        }
        anyhow::bail!("three connections ended before they were of use")
    }

    fn note(&self, began: Instant, outcome: Result<()>) {
        let took = began.elapsed();
        let mut tally = self.tally();
        tally.slowest = tally.slowest.max(took);
        match outcome {
            Ok(()) => tally.answered += 1,
            Err(error) => {
                tally.failed += 1;
                if tally.failures.len() < NAMED {
                    let at = (began - self.opened).as_secs_f64();
                    tally.failures.push(format!("at {at:.1} s: {error:#}"));
                }
            }
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
