//! Ranges of objects, each with a value, within a number of bytes; pure.
//!
//! What must go is what saves least for its size: Greedy-Dual-Size with Frequency. A range is worth `age + uses × cost /
//! size`, where a read costs one request and its bytes, and `age` is the worth of what went last. So directories and
//! footers outlive long columns, and what was asked once does not push out what is asked again and again.
//! Source: L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs
//! HPL-98-69.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// A request costs as much as reading so many bytes.
const REQUEST_BYTES: u64 = 128 << 10;
/// What an entry is taken to need beside its bytes.
const ENTRY_BYTES: u64 = 256;
/// A range is kept if it takes at most this part of all bytes.
const LARGEST_PART: u64 = 8;
/// More uses count as so many.
const MAX_USES: u64 = 64;
/// Worth is counted in parts of one.
const WORTH_SCALE: u64 = 1 << 10;

/// An object, as a hash of its key.
pub(super) type ObjectId = u128;

/// Ranges of objects, each with a value. No range of an object lies within another one of it.
pub(super) struct Ranges<V> {
    capacity: u64,
    bytes: u64,
    /// The worth of what went last.
    age: u64,
    /// Number of the next entry: of equal worth the oldest goes first.
    next: u64,
    n_evicted: u64,
    objects: HashMap<ObjectId, BTreeMap<u64, Entry<V>>>,
    /// Worth and number to object and start.
    order: BTreeMap<(u64, u64), (ObjectId, u64)>,
}

struct Entry<V> {
    end: u64,
    uses: u64,
    /// Where it is in the order.
    place: (u64, u64),
    value: V,
}

impl<V: Clone> Ranges<V> {
    /// Nothing yet; `capacity` is in bytes.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            bytes: 0,
            age: 0,
            next: 0,
            n_evicted: 0,
            objects: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// Bytes that all entries take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries had to go so far.
    pub(super) fn n_evicted(&self) -> u64 {
        self.n_evicted
    }

    /// The entry that `wanted` lies in, as its range and value; it counts as used.
    pub(super) fn find(&mut self, object: ObjectId, wanted: &Range<u64>) -> Option<(Range<u64>, V)> {
        // Starts and ends ascend alike, so that no other entry reaches as far.
        let (&start, entry) = self.objects.get_mut(&object)?.range_mut(..=wanted.start).next_back()?;
        if entry.end < wanted.end {
            return None;
        }
        entry.uses = (entry.uses + 1).min(MAX_USES);
        let number = entry.place.1;
        self.order.remove(&entry.place);
        entry.place = (worth(self.age, entry.uses, entry.end - start), number);
        self.order.insert(entry.place, (object, start));
        Some((start..entry.end, entry.value.clone()))
    }

    /// Whether an entry of this range would be kept.
    pub(super) fn takes(&self, range: &Range<u64>) -> bool {
        !range.is_empty() && size_of(range) <= self.capacity / LARGEST_PART
    }

    /// Adds an entry, unless it lies within another one or is too large. Returns the ranges that had to go.
    pub(super) fn insert(
        &mut self,
        object: ObjectId,
        range: Range<u64>,
        value: V,
    ) -> Vec<(ObjectId, Range<u64>)> {
        let mut gone = Vec::new();
        if !self.takes(&range) {
            return gone;
        }
        let of_object = self.objects.entry(object).or_default();
        if of_object.range(..=range.start).next_back().is_some_and(|(_, entry)| entry.end >= range.end) {
            return gone;
        }
        let within: Vec<Range<u64>> = of_object
            .range(range.start..)
            .take_while(|(_, entry)| entry.end <= range.end)
            .map(|(&start, entry)| start..entry.end)
            .collect();
        for range in within {
            self.remove(object, range.start);
            gone.push((object, range));
        }
        while self.bytes + size_of(&range) > self.capacity {
            let Some((&(worth, _), &(other, start))) = self.order.first_key_value() else { break };
            self.age = worth;
            self.n_evicted += 1;
            let end = self.remove(other, start);
            gone.push((other, start..end));
        }
        let place = (worth(self.age, 1, range.end - range.start), self.next);
        self.next += 1;
        self.bytes += size_of(&range);
        self.order.insert(place, (object, range.start));
        let entry = Entry { end: range.end, uses: 1, place, value };
        self.objects.entry(object).or_default().insert(range.start, entry);
        gone
    }

    /// Removes what is known of an object and returns the ranges.
    pub(super) fn forget(&mut self, object: ObjectId) -> Vec<(ObjectId, Range<u64>)> {
        let of_object = self.objects.get(&object).into_iter().flatten();
        let ranges: Vec<Range<u64>> = of_object.map(|(&start, entry)| start..entry.end).collect();
        for range in &ranges {
            self.remove(object, range.start);
        }
        ranges.into_iter().map(|range| (object, range)).collect()
    }

    /// Removes the entry that starts there and returns its end.
    fn remove(&mut self, object: ObjectId, start: u64) -> u64 {
        let of_object = self.objects.get_mut(&object);
        let Some(entry) = of_object.and_then(|of_object| of_object.remove(&start)) else { return start };
        if self.objects.get(&object).is_some_and(BTreeMap::is_empty) {
            self.objects.remove(&object);
        }
        self.order.remove(&entry.place);
        self.bytes -= size_of(&(start..entry.end));
        entry.end
    }
}

fn size_of(range: &Range<u64>) -> u64 {
    (range.end - range.start).saturating_add(ENTRY_BYTES)
}

fn worth(age: u64, uses: u64, bytes: u64) -> u64 {
    age.saturating_add(uses * WORTH_SCALE * (REQUEST_BYTES + bytes) / bytes.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1 << 10;

    fn ranges(capacity: u64) -> Ranges<&'static str> {
        Ranges::new(capacity)
    }

    #[test]
    fn a_range_is_found_within_a_larger_one() {
        let mut ranges = ranges(1 << 20);
        ranges.insert(1, 100..200, "middle");
        assert_eq!(ranges.find(1, &(100..200)), Some((100..200, "middle")));
        assert_eq!(ranges.find(1, &(150..160)), Some((100..200, "middle")));
        for missing in [99..150, 150..201, 0..10, 300..310] {
            assert_eq!(ranges.find(1, &missing), None, "{missing:?}");
        }
        assert_eq!(ranges.find(2, &(100..200)), None, "of another object");
    }

    #[test]
    fn a_larger_range_takes_the_place_of_those_within() {
        let mut ranges = ranges(1 << 20);
        ranges.insert(1, 10..20, "a");
        ranges.insert(1, 30..40, "b");
        assert_eq!(ranges.insert(1, 10..35, "c"), [(1, 10..20)]);
        assert_eq!(ranges.find(1, &(12..18)), Some((10..35, "c")));
        assert_eq!(ranges.find(1, &(36..40)), Some((30..40, "b")));
        assert_eq!(ranges.insert(1, 11..12, "within"), []);
        assert_eq!(ranges.insert(1, 0..100, "all"), [(1, 10..35), (1, 30..40)]);
        assert_eq!(ranges.bytes(), 100 + ENTRY_BYTES);
        assert_eq!(ranges.forget(1), [(1, 0..100)]);
        assert_eq!(ranges.bytes(), 0);
    }

    #[test]
    fn small_ranges_outlive_large_ones() {
        let mut ranges = ranges(1 << 20);
        ranges.insert(1, 0..4 * KIB, "a directory");
        for object in 2..100 {
            ranges.insert(object, 0..100 * KIB, "columns");
        }
        assert_eq!(ranges.find(1, &(0..4 * KIB)), Some((0..4 * KIB, "a directory")));
        assert_eq!(ranges.n_evicted(), 98 - 10, "ten of them fit beside it");
    }

    #[test]
    fn what_is_used_outlives_what_is_not_but_not_for_ever() {
        let mut ranges = ranges(1 << 20);
        ranges.insert(1, 0..100 * KIB, "often");
        for _ in 0..10 {
            ranges.find(1, &(0..1));
        }
        let is_there_after = |ranges: &mut Ranges<&'static str>, n: u128| {
            for object in 0..n {
                let next = u128::from(ranges.next) << 64 | object;
                ranges.insert(next, 0..100 * KIB, "once");
            }
            ranges.objects.contains_key(&1)
        };
        assert!(is_there_after(&mut ranges, 50));
        assert!(!is_there_after(&mut ranges, 1000), "its fame grows old");
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut ranges = ranges(1 << 20);
        ranges.insert(1, 0..1 << 20, "all of it");
        ranges.insert(1, 5..5, "nothing");
        assert_eq!((ranges.bytes(), ranges.find(1, &(0..1))), (0, None));
    }

    proptest! {
        /// Against a plain list: what is found covers what is wanted, and bytes are within bounds and add up.
        #[test]
        fn bytes_are_bounded_and_add_up(steps in proptest::collection::vec(
            (0_u128..4, 0_u64..5000, 1_u64..3000, any::<bool>()), 1..200,
        )) {
            let mut ranges: Ranges<(u128, u64, u64)> = Ranges::new(32 * KIB);
            let mut known: Vec<(u128, Range<u64>)> = Vec::new();
            for (object, start, length, is_insert) in steps {
                let wanted = start..start + length;
                let covers = |known: &[(u128, Range<u64>)]| known.iter().any(|(of, range)| {
                    *of == object && range.start <= wanted.start && wanted.end <= range.end
                });
                if is_insert && !covers(&known) {
                    let gone = ranges.insert(object, wanted.clone(), (object, wanted.start, wanted.end));
                    known.push((object, wanted.clone()));
                    known.retain(|entry| !gone.contains(entry));
                }
                if let Some((range, value)) = ranges.find(object, &wanted) {
                    prop_assert!(range.start <= wanted.start && wanted.end <= range.end);
                    prop_assert_eq!(value, (object, range.start, range.end));
                }
                prop_assert_eq!(ranges.find(object, &wanted).is_some(), covers(&known));
                let in_all: u64 = ranges.objects.values().flatten()
                    .map(|(start, entry)| entry.end - start + ENTRY_BYTES).sum();
                prop_assert_eq!(in_all, ranges.bytes());
                prop_assert!(in_all <= 32 * KIB);
                let n_entries: usize = ranges.objects.values().map(BTreeMap::len).sum();
                prop_assert_eq!(ranges.order.len(), n_entries);
            }
        }
    }
}
