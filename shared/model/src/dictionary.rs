//! Strings stored once, and rows that point at them.

use std::hash::{BuildHasher as _, Hasher as _};
use std::str::Utf8Error;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A dictionary with more strings is not kept without rows: most of them will not come again.
const MAX_KEPT_STRINGS: usize = 16 << 10;
/// Nor one with more text.
const MAX_KEPT_TEXT_BYTES: usize = 1 << 20;

/// Distinct strings, each with a position; the strings lie end to end in one text.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    text: String,
    ends: Vec<u32>,
    /// Hash and position of each string, for [`Dictionary::intern`]; empty in a dictionary that was only read.
    places: HashTable<(u32, u32)>,
    /// Seeded at random, because senders choose the strings; positions do not depend on it.
    hasher: RandomState,
    id: Id,
}

/// Tells dictionaries apart that are in the same place one after the other; a clone is another dictionary.
#[derive(Debug)]
struct Id(u64);

impl Default for Id {
    fn default() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Clone for Id {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Where the table looks for a string with the hash `short`: growth needs no look at the strings.
fn spread(short: u32) -> u64 {
    u64::from(short).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Dictionary {
    /// The strings that lie end to end in `text`, each up to the next of `ends`, as those of
    /// [`Dictionary::push_unindexed`]; `None` if one is not UTF-8. `ends` ascend to the text's length.
    pub fn of_utf8(text: Vec<u8>, ends: Vec<u32>) -> Option<Self> {
        // Together, because short ones take as long as long ones: cut between two characters, they are UTF-8 if the whole is.
        let text = String::from_utf8(text).ok()?;
        let are_cut_well = ends.iter().all(|&end| text.is_char_boundary(end as usize));
        are_cut_well.then(|| Self { text, ends, ..Self::default() })
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A number that no other dictionary of the process has, never 0. As long as it is the same, positions are.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id.0
    }

    /// The bytes of all strings together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The string at `position`.
    pub fn get(&self, position: u32) -> &str {
        &self.text[self.range(position)]
    }

    /// The bytes of the string at `position`: cheaper than [`Dictionary::get`], which makes sure of its ends.
    #[inline]
    pub fn bytes_of(&self, position: u32) -> &[u8] {
        &self.text.as_bytes()[self.range(position)]
    }

    /// The bytes of the string at `position`, which is not looked at.
    #[inline]
    pub fn len_of(&self, position: u32) -> usize {
        self.range(position).len()
    }

    /// The strings in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|position| self.get(position))
    }

    /// By position whether it is one of these.
    pub fn used_by(&self, positions: &[u32]) -> Vec<bool> {
        let mut is_used = vec![false; self.len()];
        for &position in positions {
            is_used[position as usize] = true;
        }
        is_used
    }

    /// The position of `value`, by looking at each string of its length.
    pub fn find(&self, value: &str) -> Option<u32> {
        (0..self.len() as u32).find(|&position| self.is(position, value.as_bytes()))
    }

    /// The position of the first empty string.
    pub fn empty(&self) -> Option<u32> {
        let starts = [0].iter().chain(&self.ends);
        starts.zip(&self.ends).position(|(start, end)| start == end).map(|position| position as u32)
    }

    /// Whether the string at `position` is `value`.
    #[inline]
    pub fn is(&self, position: u32, value: &[u8]) -> bool {
        same_bytes(&self.text.as_bytes()[self.range(position)], value)
    }

    #[inline]
    fn range(&self, position: u32) -> std::ops::Range<usize> {
        let position = position as usize;
        let start = if position == 0 { 0 } else { self.ends[position - 1] as usize };
        start..self.ends[position] as usize
    }

    /// The position of `value`, which is added if it is not there yet.
    ///
    /// All strings together must stay below 4 GiB; decoders bound their input far below.
    pub fn intern(&mut self, value: &str) -> u32 {
        let short = self.short_hash(value.as_bytes());
        self.known(short, value.as_bytes()).unwrap_or_else(|| self.insert(short, value))
    }

    /// As [`Dictionary::intern`] for a string of another dictionary.
    pub fn intern_of(&mut self, other: &Self, position: u32) -> u32 {
        let value = other.bytes_of(position);
        let short = self.short_hash(value);
        self.known(short, value).unwrap_or_else(|| self.insert(short, other.get(position)))
    }

    /// As [`Dictionary::push_unindexed`] for a string of another dictionary; returns its position.
    pub fn push_of(&mut self, other: &Self, position: u32) -> u32 {
        self.push_unindexed(other.get(position));
        self.ends.len() as u32 - 1
    }

    /// As [`Dictionary::intern`] for bytes, which are checked only if they are not there yet.
    ///
    /// # Errors
    /// The bytes are not UTF-8; nothing is added then.
    pub fn intern_utf8(&mut self, value: &[u8]) -> Result<u32, Utf8Error> {
        let short = self.short_hash(value);
        match self.known(short, value) {
            Some(position) => Ok(position),
            None => Ok(self.insert(short, std::str::from_utf8(value)?)),
        }
    }

    #[inline]
    fn short_hash(&self, value: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(value);
        (hasher.finish() >> 32) as u32
    }

    #[inline]
    fn known(&self, short: u32, value: &[u8]) -> Option<u32> {
        let is_value = |&(other, position): &(u32, u32)| other == short && self.is(position, value);
        self.places.find(spread(short), is_value).map(|&(_, position)| position)
    }

    fn insert(&mut self, short: u32, value: &str) -> u32 {
        let position = self.ends.len() as u32;
        self.places.insert_unique(spread(short), (short, position), |&(short, _)| spread(short));
        self.push_unindexed(value);
        position
    }

    /// Appends the strings of another, as [`Dictionary::push_unindexed`] does, and returns the position of the first.
    pub fn append_unindexed(&mut self, other: &Self) -> u32 {
        let first = self.ends.len() as u32;
        let start = self.text.len() as u32;
        self.text.push_str(&other.text);
        assert!(u32::try_from(self.text.len()).is_ok(), "invariant: decoders bound a batch below 4 GiB");
        self.ends.extend(other.ends.iter().map(|end| start + end));
        first
    }

    /// Makes room for so many strings with so many bytes together, which [`Dictionary::intern`] will not find.
    pub(crate) fn reserve(&mut self, n_strings: usize, n_bytes: usize) {
        self.ends.reserve(n_strings);
        self.text.reserve(n_bytes);
    }

    /// Becomes a new one, which has room for what was in it.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.places.clear();
        self.id = Id::default();
    }

    /// Becomes a new one if it has become large.
    pub(crate) fn forget_large(&mut self) {
        if self.len() > MAX_KEPT_STRINGS || self.text_bytes() > MAX_KEPT_TEXT_BYTES {
            *self = Self::default();
        }
    }

    /// Appends a string that [`Dictionary::intern`] will not find: for readers, whose strings are distinct already.
    pub fn push_unindexed(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends
            .push(u32::try_from(self.text.len()).expect("invariant: decoders bound a batch below 4 GiB"));
    }
}

/// Equality of short byte strings without a call to `memcmp`, which costs more than the comparison.
#[inline]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, a_tail) = a.as_chunks::<8>();
    let (b_words, b_tail) = b.as_chunks::<8>();
    if a_words.iter().zip(b_words).any(|(a, b)| u64::from_ne_bytes(*a) != u64::from_ne_bytes(*b)) {
        return false;
    }
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        // The last word overlaps the one before it.
        (Some(a), Some(b)) => u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b),
        _ => a_tail.iter().zip(b_tail).all(|(a, b)| a == b),
    }
}

/// A column of strings: each row points into a dictionary.
#[derive(Debug, Clone, Default)]
pub struct DictColumn {
    /// The distinct strings.
    pub dictionary: Dictionary,
    /// Per row the position of its string.
    pub rows: Vec<u32>,
}

impl DictColumn {
    /// Appends a row.
    pub fn push(&mut self, value: &str) {
        // Neighbours are often alike, and comparing is cheaper than hashing.
        let position = match self.rows.last() {
            Some(&last) if self.dictionary.is(last, value.as_bytes()) => last,
            _ => self.dictionary.intern(value),
        };
        self.rows.push(position);
    }

    /// As [`DictColumn::push`] for bytes, which are checked only if they are not there yet.
    ///
    /// # Errors
    /// The bytes are not UTF-8; no row is added then.
    pub fn push_utf8(&mut self, value: &[u8]) -> Result<(), Utf8Error> {
        let position = match self.rows.last() {
            Some(&last) if self.dictionary.is(last, value) => last,
            _ => self.dictionary.intern_utf8(value)?,
        };
        self.rows.push(position);
        Ok(())
    }

    /// The string of `row`.
    pub fn get(&self, row: usize) -> &str {
        self.dictionary.get(self.rows[row])
    }

    /// Whether the string of `row` is empty.
    pub fn is_empty_at(&self, row: usize) -> bool {
        self.dictionary.len_of(self.rows[row]) == 0
    }

    /// The bytes of the strings that rows have, each counted once.
    pub fn used_text_bytes(&self) -> usize {
        let is_used = self.dictionary.used_by(&self.rows);
        let used = (0..).zip(is_used).filter(|&(_, is_used)| is_used);
        used.map(|(position, _)| self.dictionary.len_of(position)).sum()
    }

    /// Forgets the strings that no row has.
    pub(crate) fn forget_unused(&mut self) {
        let mut places = vec![u32::MAX; self.dictionary.len()];
        let mut used = Dictionary::default();
        for row in &mut self.rows {
            let place = &mut places[*row as usize];
            if *place == u32::MAX {
                *place = used.push_of(&self.dictionary, *row);
            }
            *row = *place;
        }
        self.dictionary = used;
    }

    /// Forgets the dictionary of a column without rows if it has become large.
    pub(crate) fn forget_large(&mut self) {
        self.dictionary.forget_large();
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_stored_once() {
        let mut column = DictColumn::default();
        for value in ["a", "b", "a", "", "b", ""] {
            column.push(value);
        }
        assert_eq!(column.rows, [0, 1, 0, 2, 1, 2]);
        assert_eq!(column.dictionary.iter().collect::<Vec<_>>(), ["a", "b", ""]);
        assert_eq!((column.get(3), column.dictionary.text_bytes()), ("", 2));
    }

    #[test]
    fn bytes_are_interned_like_text_if_they_are_utf8() {
        let mut dictionary = Dictionary::default();
        let position = dictionary.intern("é");
        assert_eq!(dictionary.intern_utf8("é".as_bytes()), Ok(position));
        assert!(dictionary.intern_utf8(b"\xff").is_err());
        assert_eq!(dictionary.intern_utf8(b"new"), Ok(1));
        assert_eq!(dictionary.intern("new"), 1);
    }

    #[test]
    fn strings_that_lie_end_to_end_are_each_utf8() {
        let text = "aé€".as_bytes().to_vec();
        let dictionary = Dictionary::of_utf8(text.clone(), vec![1, 1, 3, 6]).expect("UTF-8");
        assert_eq!(dictionary.iter().collect::<Vec<_>>(), ["a", "", "é", "€"]);
        assert_eq!(
            (dictionary.find(""), dictionary.find("é"), dictionary.find("b")),
            (Some(1), Some(2), None)
        );
        assert_eq!((dictionary.empty(), Dictionary::default().empty()), (Some(1), None));
        assert_eq!((0..4).map(|position| dictionary.len_of(position)).collect::<Vec<_>>(), [1, 0, 2, 3]);
        assert!(Dictionary::of_utf8(text, vec![1, 2, 6]).is_none(), "cut within a character");
        assert!(Dictionary::of_utf8(b"a\xff".to_vec(), vec![1, 2]).is_none());
    }

    #[test]
    fn a_string_is_only_itself() {
        let text = "0123456789abcdefghijklmnopqrstuvwxyz";
        let mut dictionary = Dictionary::default();
        for length in 0..=text.len() {
            let position = dictionary.intern(&text[..length]);
            assert!(dictionary.is(position, &text.as_bytes()[..length]));
            assert!(!dictionary.is(position, &[text.as_bytes(), b"x"].concat()[..=length]));
            for at in 0..length {
                let mut other = text.as_bytes()[..length].to_vec();
                other[at] ^= 1;
                assert!(!dictionary.is(position, &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn many_strings_keep_their_positions() {
        let mut dictionary = Dictionary::default();
        for i in 0..10_000u32 {
            assert_eq!(dictionary.intern(&format!("value {i}")), i);
        }
        for i in (0..10_000u32).rev() {
            assert_eq!(dictionary.intern(&format!("value {i}")), i);
        }
    }
}
