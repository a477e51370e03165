//! What a listener has at the moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::clients::{Client, Clients, Share, TooMany};
use super::comeback::Comeback;
use super::count::Count;
use super::ledger::Clock;
use super::load_balancer::{LoadBalancer, TURNOVER};
use super::rate::Rate;
use super::{Bound, Refusal};
use crate::routing::Admission;

/// What a listener has at the moment.
#[derive(Debug)]
pub struct Listener {
    /// The load balancer that it is of.
    pub load_balancer: Arc<LoadBalancer>,
    /// Handshakes that wait for their pods.
    pub waiting: Count,
    clock: Clock,
    connections: Count,
    handshakes: Rate,
    clients: Clients,
    comeback: Comeback,
}

/// Counts a WebSocket, from its handshake on, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    listener: Arc<Listener>,
    client: Option<Client>,
}

impl Listener {
    pub(super) fn new(clock: Clock, load_balancer: Arc<LoadBalancer>) -> Self {
        Self {
            load_balancer,
            waiting: Count::default(),
            clock,
            connections: Count::default(),
            handshakes: Rate::default(),
            clients: Clients::default(),
            comeback: Comeback::default(),
        }
    }

    /// Counts a WebSocket that `client` asks for.
    ///
    /// # Errors
    /// The client has its share, or all clients together have what the listener admits. The client
    /// is asked first, so that one that asks too often takes nothing from the others.
    pub fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        bounds: &Admission,
    ) -> Result<Admitted, Refusal> {
        let now = self.now();
        let client = Client::from(client);
        let share = Share {
            connections: bounds.connections_per_client,
            handshakes: bounds.handshakes_per_second_per_client,
        };
        let counted =
            self.clients
                .enter(client, now, share)
                .map_err(|too_many| match too_many {
                    TooMany::Connections => Refusal {
                        bound: Bound::ClientConnections,
                        retry_after: soon(Duration::ZERO),
                    },
                    TooMany::Handshakes(wait) => Refusal {
                        bound: Bound::ClientHandshakes,
                        retry_after: soon(wait),
                    },
                })?;
        if let Err(refusal) = self.count(now, bounds) {
            if counted {
                self.clients.leave(client, now);
            }
            return Err(refusal);
        }
        Ok(Admitted {
            listener: Arc::clone(self),
            client: counted.then_some(client),
        })
    }

    fn count(&self, now: u64, bounds: &Admission) -> Result<(), Refusal> {
        if let Some(rate) = bounds.handshakes_per_second
            && self.handshakes.take(now, rate).is_err()
        {
            let each = Duration::from_secs(1) / rate.get();
            return Err(self.refuse(Bound::ListenerHandshakes, each));
        }
        if !self.connections.add(bounds.connections) {
            return Err(self.refuse(Bound::ListenerConnections, TURNOVER));
        }
        Ok(())
    }

    /// A refusal for want of a place; one becomes free each `interval`.
    fn refuse(&self, bound: Bound, interval: Duration) -> Refusal {
        Refusal {
            bound,
            retry_after: self.comeback.book(self.now(), Duration::ZERO, interval),
        }
    }

    /// All pods that could take a WebSocket have as many as they may.
    #[must_use]
    pub fn pods_are_full(&self) -> Refusal {
        self.refuse(Bound::PodConnections, TURNOVER)
    }

    /// The process has no room for more.
    #[must_use]
    pub fn overloaded(&self) -> Refusal {
        self.refuse(Bound::Overloaded, TURNOVER)
    }

    /// Nanoseconds of the clock that everything here counts by.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// How many WebSockets are counted.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.now()
    }

    pub(super) fn sweep(&self) {
        self.clients.sweep(self.now());
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.listener.connections.sub();
        if let Some(client) = self.client {
            self.listener.clients.leave(client, self.listener.now());
        }
    }
}

/// For a client that has its own share: when its next token comes, and some at random.
fn soon(wait: Duration) -> u16 {
    let seconds = u16::try_from(wait.as_secs()).unwrap_or(u16::MAX - 4);
    seconds.saturating_add(1 + fastrand::u16(0..=2))
}
