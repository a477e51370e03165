//! A map from host names that is cheap to copy and to compare after a small change.

use std::collections::HashMap;
use std::sync::Arc;

/// Shards per map. At 10,000 names a change copies about 40 entries, and a copy or comparison of
/// the whole map touches 256 pointers.
const SHARDS: usize = 256;

/// Names to values, in copy-on-write shards: a clone shares everything, a change copies one shard.
///
/// This is what lets a snapshot be immutable and complete while a change at 10,000 Ingresses
/// costs about the same as at 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMap<V> {
    shards: Arc<[Shard<V>]>,
    len: usize,
}

type Shard<V> = Arc<HashMap<Arc<str>, V>>;

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Self {
            shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(),
            len: 0,
        }
    }
}

impl<V> NameMap<V> {
    /// The value of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        self.shards.get(shard_of(name))?.get(name)
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All names and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

impl<V: Clone> NameMap<V> {
    /// Sets or, with `None`, removes a name.
    pub fn set(&mut self, name: &Arc<str>, value: Option<V>) {
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(shard_of(name)) else {
            return;
        };
        if value.is_none() && !shard.contains_key(name) {
            return;
        }
        let shard = Arc::make_mut(shard);
        let before = shard.len();
        match value {
            Some(value) => {
                shard.insert(Arc::clone(name), value);
            }
            None => {
                shard.remove(name);
            }
        }
        self.len = self.len + shard.len() - before;
    }
}

/// FNV-1a: short names, and a poor spread only costs evenness, as each shard hashes again with
/// the keyed hash of the standard library.
fn shard_of(name: &str) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash as usize ^ (hash as usize >> 16)) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_clones_alone_and_keeps_count() {
        let names: Vec<Arc<str>> = (0..1000).map(|n| format!("h{n}.example").into()).collect();
        let mut map = NameMap::default();
        for name in &names {
            map.set(name, Some(1));
        }
        let before = map.clone();
        let first: Arc<str> = "h0.example".into();
        map.set(&first, Some(2));
        map.set(&"h1.example".into(), None);
        map.set(&"absent.example".into(), None);
        assert_eq!((before.len(), map.len()), (1000, 999));
        assert_eq!(before.find("h0.example"), Some(&1));
        assert_eq!(map.find("h0.example"), Some(&2));
        assert_eq!(map.find("h1.example"), None);
        assert_ne!(before, map);
        map.set(&first, Some(1));
        map.set(&"h1.example".into(), Some(1));
        assert_eq!(before, map);
    }
}
