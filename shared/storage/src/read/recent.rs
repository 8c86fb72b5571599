//! Traces that were read of merged files, as they were decoded: whoever looks at one looks again, and a search that is
//! refreshed mostly finds the same.
//!
//! Files never change, so what was decoded is right for ever; what nothing names any more is not asked for, and goes.
//! Beside them lies which windows there were: see [`super::expected`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::{ContentHash, SpanColumns, TraceId};

use super::expected::SeenWindows;

/// Bytes that are kept, about.
const CAPACITY_BYTES: usize = 32 << 20;
/// What an entry takes beside its columns.
const ENTRY_BYTES: usize = 256;

/// A unit of a file and the traces that were looked for in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) file: ContentHash,
    /// Where the unit begins.
    pub(super) start: u64,
    pub(super) ids: Vec<TraceId>,
}

/// Columns, and the rows in them that belong to the traces.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) columns: Arc<SpanColumns>,
    pub(super) rows: Arc<[u32]>,
}

/// What was read last, in two generations: the younger one becomes the older one when it has half of what is kept, and
/// what was not asked for meanwhile goes with that. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RecentTraces(Arc<Recent>);

#[derive(Debug, Default)]
struct Recent {
    traces: Mutex<Generations>,
    windows: SeenWindows,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Place, Found>,
    young_bytes: usize,
    old: HashMap<Place, Found>,
}

impl RecentTraces {
    pub(super) fn get(&self, place: &Place) -> Option<Found> {
        let mut generations = self.0.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = generations.young.get(place) {
            return Some(found.clone());
        }
        let found = generations.old.remove(place)?;
        generations.insert(place.clone(), found.clone());
        Some(found)
    }

    pub(super) fn insert(&self, place: Place, found: Found) {
        self.0.traces.lock().unwrap_or_else(PoisonError::into_inner).insert(place, found);
    }

    /// The windows that were there.
    pub(super) fn windows(&self) -> &SeenWindows {
        &self.0.windows
    }
}

impl Generations {
    fn insert(&mut self, place: Place, found: Found) {
        let bytes = found.columns.memory_bytes() + found.rows.len() * 4 + ENTRY_BYTES;
        if bytes > CAPACITY_BYTES / 8 {
            return;
        }
        self.young_bytes += bytes;
        self.young.insert(place, found);
        if self.young_bytes > CAPACITY_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(start: u64) -> Place {
        Place { file: ContentHash([1; 16]), start, ids: vec![TraceId([2; 16])] }
    }

    fn found(n_rows: u32) -> Found {
        Found { columns: Arc::default(), rows: (0..n_rows).collect() }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let recent = RecentTraces::default();
        assert!(recent.get(&place(0)).is_none());
        let n_rows = (CAPACITY_BYTES / 64) as u32;
        for start in 0..100 {
            recent.insert(place(start), found(n_rows));
            assert_eq!(recent.get(&place(0)).expect("asked for all the time").rows.len(), n_rows as usize);
        }
        let n_kept = (0..100).filter(|&start| recent.get(&place(start)).is_some()).count();
        assert!((8..=17).contains(&n_kept), "{n_kept}");
        recent.insert(place(200), found((CAPACITY_BYTES / 4) as u32));
        assert!(recent.get(&place(200)).is_none(), "too large to be kept");
    }
}
