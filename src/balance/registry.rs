//! All upstreams in use.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use super::endpoint::Endpoint;
use super::upstream::Upstream;
use crate::routing::{EndpointSet, UpstreamId};

/// A power of two; readers of different upstreams seldom meet on one lock.
const SHARDS: usize = 64;

/// Upstreams by id. The control loop writes, requests read.
#[derive(Debug)]
pub struct Registry<P> {
    shards: Box<[Shard<P>]>,
    hasher: RandomState,
}

type Shard<P> = RwLock<HashMap<Arc<UpstreamId>, Arc<Upstream<P>>>>;

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl<P: Default> Registry<P> {
    /// Adds an upstream, or gives a known one its endpoints. Answers the endpoints that have left.
    pub fn set(&self, id: &Arc<UpstreamId>, endpoints: EndpointSet) -> Vec<Arc<Endpoint<P>>> {
        let Some(shard) = self.shard(id) else {
            return Vec::new();
        };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let gone = if let Some(upstream) = shard.get(id) {
            upstream.update(endpoints)
        } else {
            let upstream = Upstream::new(Arc::clone(id), endpoints);
            shard.insert(Arc::clone(id), Arc::new(upstream));
            Vec::new()
        };
        for endpoint in &gone {
            endpoint.retire();
        }
        gone
    }

    /// Removes an upstream that no route names any more. Requests that hold it finish. Answers
    /// its endpoints.
    pub fn remove(&self, id: &UpstreamId) -> Vec<Arc<Endpoint<P>>> {
        let upstream = self.shard(id).and_then(|shard| {
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(id)
        });
        let gone = upstream.map_or_else(Vec::new, |upstream| upstream.endpoints());
        for endpoint in &gone {
            endpoint.retire();
        }
        gone
    }
}

impl<P> Registry<P> {
    /// The upstream of this id.
    #[must_use]
    pub fn find(&self, id: &UpstreamId) -> Option<Arc<Upstream<P>>> {
        self.shard(id)?
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// All upstreams at this moment, in no particular order.
    #[must_use]
    pub fn upstreams(&self) -> Vec<Arc<Upstream<P>>> {
        let read = |shard: &Shard<P>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.values().cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(read).collect()
    }

    fn shard(&self, id: &UpstreamId) -> Option<&Shard<P>> {
        let hash = self.hasher.hash_one(id);
        usize::try_from(hash % SHARDS as u64)
            .ok()
            .and_then(|index| self.shards.get(index))
    }
}
