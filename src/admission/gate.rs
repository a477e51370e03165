//! The queue in front of a pod: handshakes go in as fast as it answers them, first come, first
//! served.
//!
//! ```text
//! handshakes ─▶ [ waiting: bounded, FIFO, with a deadline ] ─▶ Turn (Concurrency::limit at a time) ─▶ pod
//!                    │ full, or too long to wait                 └─ answered, failed, given up ─▶ Concurrency
//!                    └─▶ a refusal that says when to come back
//! ```
//!
//! What a crowd of clients that reconnect does to a pod is not that they come, but that they come
//! at once: it drops what it has no room for, and those come again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::comeback::Comeback;
use super::concurrency::Concurrency;
use super::count::{Count, Counting};
use super::ledger::Clock;
use super::{Bound, Refusal};
use crate::routing::Queue;

/// How much faster than a pod answers those are let come back that were refused. In the first
/// second of a crowd, when most are refused, everything is slower than it will be.
const EAGERNESS: u32 = 2;
/// The slowest that they are let come back. Telling 500 a second again costs little; telling them
/// all to stay away, for one slow second, leaves a pod idle that has long caught up.
const LONGEST_INTERVAL: Duration = Duration::from_millis(2);

/// The queue in front of a pod.
#[derive(Debug)]
pub struct Gate {
    /// Fair: whoever came first is let in first, and a waiter that goes leaves no gap.
    turns: Semaphore,
    state: Mutex<State>,
    waiting: Count,
    comeback: Comeback,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    concurrency: Concurrency,
    /// Permits there are, those that are taken included.
    permits: usize,
}

/// A handshake with the pod under way.
#[derive(Debug)]
pub struct Turn<'a> {
    gate: &'a Gate,
    permit: Option<SemaphorePermit<'a>>,
    began: Instant,
}

impl Default for Gate {
    fn default() -> Self {
        let concurrency = Concurrency::default();
        let permits = concurrency.limit();
        Self {
            turns: Semaphore::new(permits),
            state: Mutex::new(State {
                concurrency,
                permits,
            }),
            waiting: Count::default(),
            comeback: Comeback::default(),
            clock: Clock::default(),
        }
    }
}

impl Gate {
    /// Whether nobody has to wait.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.turns.available_permits() > 0
    }

    /// Whether one more may wait.
    #[must_use]
    pub fn has_room(&self, queue: &Queue) -> bool {
        self.waiting.now() < queue.length_per_pod.get() && self.wait() <= queue.timeout
    }

    /// Handshakes that wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.now()
    }

    /// Waits for a turn. `everywhere` counts all that wait at the listener.
    ///
    /// # Errors
    /// There is no room to wait, or no turn in time.
    pub async fn turn(&self, queue: &Queue, everywhere: &Count) -> Result<Turn<'_>, Refusal> {
        if let Ok(permit) = self.turns.try_acquire() {
            return Ok(self.begin(permit));
        }
        let full = || self.refuse(Bound::QueueFull);
        if !self.has_room(queue) {
            return Err(full());
        }
        let _here = Counting::new(&self.waiting, Some(queue.length_per_pod)).ok_or_else(full)?;
        let _there = Counting::new(everywhere, Some(queue.length)).ok_or_else(full)?;
        match tokio::time::timeout(queue.timeout, self.turns.acquire()).await {
            Ok(Ok(permit)) => Ok(self.begin(permit)),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(self.refuse(Bound::QueueTimeout)),
        }
    }

    /// A refusal that books the place behind those that wait, sooner than they are likely to be
    /// through: who comes too early waits here or is told again, and who comes too late leaves the
    /// pod idle.
    #[must_use]
    pub fn refuse(&self, bound: Bound) -> Refusal {
        let interval = (self.lock().concurrency.interval() / EAGERNESS).min(LONGEST_INTERVAL);
        let ahead = interval * self.waiting.now();
        Refusal {
            bound,
            retry_after: self.comeback.book(self.clock.now(), ahead, interval),
        }
    }

    /// How long one that comes now is likely to wait.
    fn wait(&self) -> Duration {
        self.lock().concurrency.interval() * self.waiting.now()
    }

    fn begin<'a>(&'a self, permit: SemaphorePermit<'a>) -> Turn<'a> {
        Turn {
            gate: self,
            permit: Some(permit),
            began: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The pod has answered.
    pub fn answered(mut self) {
        let (took, now) = (self.began.elapsed(), self.gate.clock.now());
        let busy = !self.gate.is_open();
        self.end(|concurrency| concurrency.answered(took, now, busy));
    }

    /// It has not, or only that it cannot.
    pub fn failed(mut self) {
        self.end(Concurrency::failed);
    }

    /// Brings the permits to the limit: more at once, fewer as turns end.
    fn end(&mut self, tell: impl FnOnce(&mut Concurrency)) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut state = self.gate.lock();
        tell(&mut state.concurrency);
        let limit = state.concurrency.limit();
        if limit < state.permits {
            permit.forget();
            state.permits -= 1;
            let spare = state.permits.saturating_sub(limit);
            state.permits -= self.gate.turns.forget_permits(spare);
        } else {
            self.gate.turns.add_permits(limit - state.permits);
            state.permits = limit;
        }
    }
}

/// Whoever waited has gone, or waits no longer.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        self.end(|concurrency| concurrency.given_up(waited));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::*;

    fn queue(length: u32, seconds: u64) -> Queue {
        Queue {
            length: NonZeroU32::new(10_000).unwrap(),
            length_per_pod: NonZeroU32::new(length).unwrap(),
            timeout: Duration::from_secs(seconds),
        }
    }

    /// A gate that lets one in at a time, as after many failures.
    async fn narrow() -> Gate {
        let gate = Gate::default();
        for _ in 0..2000 {
            let turn = gate.turn(&queue(1, 1), &Count::default()).await;
            turn.unwrap().failed();
        }
        assert_eq!(gate.lock().permits, 1);
        gate
    }

    #[tokio::test(start_paused = true)]
    async fn an_ordinary_crowd_is_not_held() {
        let gate = Gate::default();
        let everywhere = Count::default();
        let mut turns = Vec::new();
        for _ in 0..100 {
            assert!(gate.is_open());
            turns.push(gate.turn(&queue(1, 1), &everywhere).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_first_is_let_in_first_and_who_goes_leaves_no_gap() {
        let gate = Arc::new(narrow().await);
        let everywhere = Arc::new(Count::default());
        let first = gate.turn(&queue(10, 5), &everywhere).await.unwrap();
        let (sender, mut order) = tokio::sync::mpsc::channel(6);
        let mut waiters = Vec::new();
        for number in 0..6 {
            let (waiting, everywhere) = (Arc::clone(&gate), Arc::clone(&everywhere));
            let sender = sender.clone();
            waiters.push(tokio::spawn(async move {
                let turn = waiting.turn(&queue(10, 5), &everywhere).await.unwrap();
                sender.send(number).await.unwrap();
                // Late, so that the limit stays at one.
                tokio::time::sleep(Duration::from_millis(300)).await;
                turn.failed();
            }));
            // In this order.
            while gate.waiting() != number + 1 {
                tokio::task::yield_now().await;
            }
        }
        waiters[0].abort();
        waiters[3].abort();
        drop((first, sender));
        let mut seen = Vec::new();
        while let Some(number) = order.recv().await {
            seen.push(number);
        }
        assert_eq!(seen, [1, 2, 4, 5]);
        assert_eq!((gate.waiting(), everywhere.now()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_has_a_length_and_a_deadline() {
        let gate = Arc::new(narrow().await);
        let everywhere = Arc::new(Count::default());
        let held = gate.turn(&queue(2, 3), &everywhere).await.unwrap();
        let began = Instant::now();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let (gate, everywhere) = (Arc::clone(&gate), Arc::clone(&everywhere));
                tokio::spawn(async move {
                    gate.turn(&queue(2, 3), &everywhere)
                        .await
                        .map(drop)
                        .map_err(|refusal| (refusal.bound, began.elapsed()))
                })
            })
            .collect();
        while gate.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        let full = gate.turn(&queue(2, 3), &everywhere).await.unwrap_err();
        assert_eq!(full.bound, Bound::QueueFull);
        let elsewhere = Count::default();
        let short = Queue {
            length: NonZeroU32::MIN,
            ..queue(10, 3)
        };
        let _other = Counting::new(&elsewhere, None);
        let full = gate.turn(&short, &elsewhere).await.unwrap_err();
        assert_eq!(full.bound, Bound::QueueFull, "the listener's is");
        for waiter in waiting {
            let late = (Bound::QueueTimeout, Duration::from_secs(3));
            assert_eq!(waiter.await.unwrap(), Err(late));
        }
        assert_eq!((gate.waiting(), everywhere.now()), (0, 0));
        drop(held);
        assert!(gate.turn(&queue(2, 3), &everywhere).await.is_ok());
    }

    /// A pod that answers 500 a second and has room for 100 is not overrun, and is kept busy.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_let_in_as_fast_as_it_is_answered() {
        let gate = Arc::new(Gate::default());
        let everywhere = Arc::new(Count::default());
        let pod = Arc::new(tokio::sync::Mutex::new(()));
        let began = Instant::now();
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..2000 {
            let (gate, everywhere) = (Arc::clone(&gate), Arc::clone(&everywhere));
            let pod = Arc::clone(&pod);
            crowd.spawn(async move {
                let turn = gate.turn(&queue(2000, 60), &everywhere).await.unwrap();
                let busy = pod.lock().await;
                // On the paused clock: what a handshake takes of the pod.
                tokio::time::sleep(Duration::from_millis(2)).await;
                drop(busy);
                turn.answered();
            });
        }
        crowd.join_all().await;
        let took = began.elapsed();
        assert!(took < Duration::from_millis(4200), "{took:?}");
        let limit = gate.lock().permits;
        assert!((20..=128).contains(&limit), "{limit}");
    }
}
