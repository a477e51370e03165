//! Sets and maps that most often have one entry.
//!
//! A `BTreeSet` or `BTreeMap` reserves eleven places for the first entry. At 10,000 Ingresses, each
//! with one host and a few references, that is 15 MB of nothing.

/// A set in order, in a vector without spare room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SortedSet<T>(Vec<T>);

/// A map in order, in a vector without spare room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SortedMap<K, V>(Vec<(K, V)>);

/// Up to here room is made for one entry at a time.
const SMALL: usize = 8;

impl<T> Default for SortedSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> SortedSet<T> {
    pub(super) fn insert(&mut self, value: T) {
        if let Err(place) = self.0.binary_search(&value) {
            insert_at(&mut self.0, place, value);
        }
    }

    pub(super) fn remove(&mut self, value: &T) {
        if let Ok(place) = self.0.binary_search(value) {
            self.0.remove(place);
        }
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.0.binary_search(value).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a, T> IntoIterator for &'a SortedSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V: Default> SortedMap<K, V> {
    /// The value of a key, which is made if there is none.
    pub(super) fn or_default(&mut self, key: K) -> &mut V {
        let place = match self.place(&key) {
            Ok(place) => place,
            Err(place) => {
                insert_at(&mut self.0, place, (key, V::default()));
                place
            }
        };
        // The place was found or made just now.
        &mut self.0[place].1
    }

    pub(super) fn find(&self, key: &K) -> Option<&V> {
        let place = self.place(key).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.cmp(key))
    }
}

fn insert_at<T>(entries: &mut Vec<T>, place: usize, entry: T) {
    if entries.len() < SMALL {
        entries.reserve_exact(1);
    }
    entries.insert(place, entry);
}
