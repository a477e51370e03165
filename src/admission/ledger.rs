//! All that is counted, by listener and load balancer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::time::Instant;

use super::listener::Listener;
use super::load_balancer::LoadBalancer;
use crate::routing::ListenerId;

/// A monotonic clock in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

/// All that is counted. Owns nothing: an entry lives for as long as somebody counts on it.
#[derive(Debug, Default)]
pub struct Ledger {
    clock: Clock,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    listeners: HashMap<ListenerId, Weak<Listener>>,
    /// By namespace and name.
    load_balancers: HashMap<(Arc<str>, Arc<str>), Weak<LoadBalancer>>,
}

impl Clock {
    /// Nanoseconds since it was made.
    #[must_use]
    pub fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Ledger {
    /// What is counted of a listener.
    #[must_use]
    pub fn listener(&self, id: &ListenerId) -> Arc<Listener> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = entries.listeners.get(id).and_then(Weak::upgrade) {
            return listener;
        }
        let name = (Arc::clone(&id.namespace), Arc::clone(&id.load_balancer));
        let known = entries.load_balancers.get(&name).and_then(Weak::upgrade);
        let load_balancer = known.unwrap_or_else(|| {
            let made = Arc::new(LoadBalancer::default());
            entries.load_balancers.insert(name, Arc::downgrade(&made));
            made
        });
        let listener = Arc::new(Listener::new(self.clock, load_balancer));
        entries
            .listeners
            .insert(id.clone(), Arc::downgrade(&listener));
        listener
    }

    /// Handshakes that wait for their pods, at all listeners.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.live()
            .iter()
            .map(|listener| u64::from(listener.waiting.now()))
            .sum()
    }

    fn live(&self) -> Vec<Arc<Listener>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let live = entries.listeners.values();
        live.filter_map(Weak::upgrade).collect()
    }

    /// Forgets what nobody counts on any more.
    pub fn sweep(&self) {
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries
                .load_balancers
                .retain(|_, load_balancer| load_balancer.strong_count() > 0);
            entries
                .listeners
                .retain(|_, listener| listener.strong_count() > 0);
        }
        for listener in self.live() {
            listener.sweep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Bound;
    use crate::routing::Admission;
    use std::net::IpAddr;
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn id(name: &str) -> ListenerId {
        ListenerId {
            namespace: "edge".into(),
            load_balancer: "edge".into(),
            name: name.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_lives_as_long_as_somebody_counts_on_it() {
        let ledger = Ledger::default();
        let bounds = Admission {
            connections: NonZeroU32::new(1),
            ..Admission::default()
        };
        let client = IpAddr::from([192, 0, 2, 1]);
        let held = ledger.listener(&id("a")).admit(client, &bounds).unwrap();
        ledger.sweep();
        let again = ledger.listener(&id("a"));
        let refusal = again.admit(client, &bounds).unwrap_err();
        assert_eq!(refusal.bound, Bound::ListenerConnections);
        assert!(Arc::ptr_eq(
            &again.load_balancer,
            &ledger.listener(&id("b")).load_balancer
        ));
        drop(held);
        assert!(again.admit(client, &bounds).is_ok());
        drop(again);
        ledger.sweep();
        assert!(ledger.entries.lock().unwrap().listeners.is_empty());
        assert!(ledger.entries.lock().unwrap().load_balancers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_too_often_takes_nothing_from_the_others() {
        let ledger = Ledger::default();
        let listener = ledger.listener(&id("a"));
        let bounds = Admission {
            handshakes_per_second: NonZeroU32::new(4),
            handshakes_per_second_per_client: NonZeroU32::new(2),
            ..Admission::default()
        };
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let admitted = |client| listener.admit(address(client), &bounds).map(drop);
        let bound = |client| admitted(client).map_err(|refusal| refusal.bound);
        for _ in 0..2 {
            assert_eq!(bound(1), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(bound(1), Err(Bound::ClientHandshakes));
        }
        assert_eq!(bound(2), Ok(()));
        assert_eq!(bound(3), Ok(()));
        assert_eq!(bound(3), Err(Bound::ListenerHandshakes));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(bound(1), Ok(()));
        assert_eq!(bound(1), Err(Bound::ClientHandshakes));
    }
}
