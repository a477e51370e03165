//! What each client address has at the moment.
//!
//! ```text
//! address ─▶ Client (IPv4, or the /64 of IPv6) ─▶ shard ─▶ WebSockets open, tokens spent
//! ```
//!
//! An entry lives while its client has a WebSocket or has not all its tokens; there are at most
//! [`MAX_CLIENTS`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::rate;

/// Addresses that are counted at a listener; those of further ones are not bounded one by one, and
/// what all have together still is.
pub const MAX_CLIENTS: usize = 1 << 18;
/// A power of two.
const SHARDS: usize = 16;

/// Who counts as one client: an IPv4 address, or the /64 that a subscriber of IPv6 has at least
/// (RFC 6177 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client([u64; 2]);

/// The clients of a listener.
#[derive(Debug)]
pub struct Clients {
    shards: [Mutex<HashMap<Client, Entry>>; SHARDS],
    hasher: RandomState,
    most: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    connections: u32,
    /// When all its tokens are back.
    due: u64,
}

/// Why a client gets no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    /// It has as many as it may.
    Connections,
    /// It asks too often; the next token comes after that long.
    Handshakes(Duration),
}

/// What a client may have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// WebSockets at a time.
    pub connections: Option<NonZeroU32>,
    /// Handshakes a second.
    pub handshakes: Option<NonZeroU32>,
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)
            }
        };
        let bits = address.to_bits();
        Self([(bits >> 64) as u64, bits as u64])
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self::with_most(MAX_CLIENTS)
    }
}

impl Clients {
    fn with_most(most: usize) -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            most: most / SHARDS,
        }
    }

    /// Counts a WebSocket that `client` asks for at `now`. Answers whether it is to be
    /// [counted off](Self::leave) again.
    ///
    /// # Errors
    /// The client has its share.
    pub fn enter(&self, client: Client, now: u64, share: Share) -> Result<bool, TooMany> {
        let mut shard = self.shard(client);
        let known = shard.get(&client).copied();
        if known.is_none() && shard.len() >= self.most {
            return Ok(false);
        }
        let mut entry = known.unwrap_or_default();
        if let Some(rate) = share.handshakes {
            entry.due = rate::take(entry.due, now, rate).map_err(TooMany::Handshakes)?;
        }
        let most = share.connections.map_or(u32::MAX, NonZeroU32::get);
        let full = entry.connections >= most;
        if !full {
            entry.connections += 1;
        }
        shard.insert(client, entry);
        if full {
            return Err(TooMany::Connections);
        }
        Ok(true)
    }

    /// Counts a WebSocket off.
    pub fn leave(&self, client: Client, now: u64) {
        let mut shard = self.shard(client);
        if let Some(entry) = shard.get_mut(&client) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.is_over(now) {
                shard.remove(&client);
            }
        }
    }

    /// Forgets the clients that have nothing open and all their tokens, and gives the room of a
    /// crowd back.
    pub fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.retain(|_, entry| !entry.is_over(now));
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                let room = shard.len() * 2;
                shard.shrink_to(room);
            }
        }
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, client: Client) -> MutexGuard<'_, HashMap<Client, Entry>> {
        // Below SHARDS, which is a usize.
        lock(&self.shards[(self.hasher.hash_one(client) % SHARDS as u64) as usize])
    }
}

impl Entry {
    fn is_over(&self, now: u64) -> bool {
        self.connections == 0 && self.due <= now
    }
}

fn lock(shard: &Mutex<HashMap<Client, Entry>>) -> MutexGuard<'_, HashMap<Client, Entry>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_subscriber_is_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.2"), client("192.0.2.1"));
    }

    #[test]
    fn entries_leave_when_nothing_is_open_and_all_tokens_are_back() {
        let clients = Clients::default();
        let share = Share {
            connections: NonZeroU32::new(2),
            handshakes: NonZeroU32::new(10),
        };
        let one = client("192.0.2.1");
        assert_eq!(clients.enter(one, 0, share), Ok(true));
        assert_eq!(clients.enter(one, 0, share), Ok(true));
        assert_eq!(clients.enter(one, 0, share), Err(TooMany::Connections));
        assert_eq!(clients.enter(client("192.0.2.2"), 0, share), Ok(true));
        clients.leave(one, 1);
        clients.leave(one, 1);
        clients.sweep(1);
        assert_eq!(clients.len(), 2, "its three tokens are not back");
        clients.sweep(300_000_000);
        assert_eq!(clients.len(), 1);
        clients.leave(client("192.0.2.2"), 300_000_000);
        assert!(clients.is_empty());
    }

    #[test]
    fn further_clients_than_are_counted_are_not_refused() {
        let clients = Clients::with_most(SHARDS);
        let share = Share {
            connections: NonZeroU32::new(1),
            handshakes: None,
        };
        let entered: Vec<_> = (0..1000_u32)
            .map(|number| clients.enter(IpAddr::from(number.to_be_bytes()).into(), 0, share))
            .collect();
        assert!(entered.iter().all(Result::is_ok));
        let counted = entered.iter().filter(|entered| **entered == Ok(true));
        assert_eq!(counted.count(), clients.len());
        assert_eq!(clients.len(), SHARDS);
    }
}
