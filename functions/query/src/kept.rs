//! What is kept of answers, in memory, up to a number of bytes: what was used least lately goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value takes at most this part of all bytes.
const LARGEST_PART: u64 = 8;

/// Values by query and by part of it.
pub(crate) struct Kept<Q, P, V>(Mutex<Inner<Q, P, V>>);

/// What is kept, and what was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeptCounts {
    /// Bytes that are kept, about.
    pub(crate) bytes: u64,
    /// Values for which there was no room any more.
    pub(crate) evictions: u64,
}

struct Inner<Q, P, V> {
    capacity: u64,
    counts: KeptCounts,
    now: u64,
    of_query: HashMap<Arc<Q>, HashMap<P, Entry<V>>>,
    /// By when it was used.
    order: BTreeMap<u64, (Arc<Q>, P)>,
}

struct Entry<V> {
    value: V,
    bytes: u64,
    used: u64,
}

impl<Q: Eq + Hash, P: Eq + Hash + Clone, V: Clone> Kept<Q, P, V> {
    /// Keeps up to about `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        let (of_query, order) = (HashMap::new(), BTreeMap::new());
        Self(Mutex::new(Inner { capacity, counts: KeptCounts::default(), now: 0, of_query, order }))
    }

    pub(crate) fn counts(&self) -> KeptCounts {
        self.lock().counts
    }

    /// The value of a part, if it still is right; one that is not goes.
    pub(crate) fn get(&self, query: &Arc<Q>, part: &P, is_right: impl FnOnce(&V) -> bool) -> Option<V> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let entry = inner.of_query.get_mut(query)?.get_mut(part)?;
        if !is_right(&entry.value) {
            inner.remove(query, part);
            return None;
        }
        let value = entry.value.clone();
        let place = inner.order.remove(&entry.used);
        entry.used = inner.now;
        inner.order.insert(inner.now, place?);
        inner.now += 1;
        Some(value)
    }

    /// Keeps a value of about so many bytes, unless it is too large.
    pub(crate) fn put(&self, query: &Arc<Q>, part: P, value: V, bytes: u64) {
        let mut inner = self.lock();
        if bytes > inner.capacity / LARGEST_PART {
            return;
        }
        inner.remove(query, &part);
        while inner.counts.bytes + bytes > inner.capacity {
            let Some((query, part)) = inner.order.first_key_value().map(|(_, place)| place.clone()) else {
                break;
            };
            inner.remove(&query, &part);
            inner.counts.evictions += 1;
        }
        let used = inner.now;
        inner.now += 1;
        inner.counts.bytes += bytes;
        inner.order.insert(used, (Arc::clone(query), part.clone()));
        inner.of_query.entry(Arc::clone(query)).or_default().insert(part, Entry { value, bytes, used });
    }

    fn lock(&self) -> MutexGuard<'_, Inner<Q, P, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Eq + Hash, P: Eq + Hash, V> Inner<Q, P, V> {
    fn remove(&mut self, query: &Arc<Q>, part: &P) {
        let Some(of_query) = self.of_query.get_mut(query) else { return };
        if let Some(entry) = of_query.remove(part) {
            self.order.remove(&entry.used);
            self.counts.bytes -= entry.bytes;
        }
        if of_query.is_empty() {
            self.of_query.remove(query);
        }
    }
}
