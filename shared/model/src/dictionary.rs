//! Strings stored once, and rows that point at them.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// Distinct strings, each with a position; the strings lie end to end in one text.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    text: String,
    ends: Vec<u32>,
    /// Hash and position of each string, for [`Dictionary::intern`]; empty in a dictionary that was only read.
    places: HashTable<(u32, u32)>,
}

impl Dictionary {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all strings together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The string at `position`.
    pub fn get(&self, position: u32) -> &str {
        let position = position as usize;
        let start = if position == 0 { 0 } else { self.ends[position - 1] as usize };
        &self.text[start..self.ends[position] as usize]
    }

    /// The strings in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|position| self.get(position))
    }

    /// The position of `value`, by looking at each string.
    pub fn find(&self, value: &str) -> Option<u32> {
        self.iter().position(|candidate| candidate == value).map(|position| position as u32)
    }

    /// The position of `value`, which is added if it is not there yet.
    ///
    /// All strings together must stay below 4 GiB; decoders bound their input far below.
    pub fn intern(&mut self, value: &str) -> u32 {
        let hash = FixedState::default().hash_one(value);
        let short = (hash >> 32) as u32;
        let Self { text, ends, places } = self;
        let string = |position: u32| {
            let start = if position == 0 { 0 } else { ends[position as usize - 1] as usize };
            &text[start..ends[position as usize] as usize]
        };
        let found = places.find(hash, |&(other, position)| other == short && string(position) == value);
        if let Some(&(_, position)) = found {
            return position;
        }
        let position = ends.len() as u32;
        places.insert_unique(hash, (short, position), |&(_, position)| {
            FixedState::default().hash_one(string(position))
        });
        self.push_unindexed(value);
        position
    }

    /// Appends a string that [`Dictionary::intern`] will not find: for readers, whose strings are distinct already.
    pub fn push_unindexed(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(u32::try_from(self.text.len()).expect("invariant: decoders bound a batch below 4 GiB"));
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
            Some(&last) if self.dictionary.get(last) == value => last,
            _ => self.dictionary.intern(value),
        };
        self.rows.push(position);
    }

    /// The string of `row`.
    pub fn get(&self, row: usize) -> &str {
        self.dictionary.get(self.rows[row])
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
