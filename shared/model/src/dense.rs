//! Attributes that most spans of a file have, in columns of their own.
//!
//! Which these are follows from the data: [`Choice`] counts keys, and [`Dense`] names the chosen ones. [`DenseRows`] holds
//! their values row by row; what has no column stays in [`AttributeColumns`]. Of each row it knows the order in which
//! both follow each other, so that [`DenseRows::split`] and [`DenseRows::join`] give back exactly what was there.

mod choice;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use choice::Choice;

use crate::columns::{AttributeColumns, N_KINDS, ValueKind, entries};
use crate::dictionary::{DictColumn, Dictionary};
use crate::hash::hash_value;
use crate::transfer::{Picks, Positions};

/// What stands for the columns of a file, one each.
const LETTERS: &[u8; MAX_DENSE] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Columns of a file, at most.
pub const MAX_DENSE: usize = 62;
/// Texts of a column that are known beyond the unit in which they came; of more, most do not come again.
const MAX_KEPT_TEXTS: usize = 1 << 10;
/// Where so many rows have a text, and most one of their own, texts are taken for such that do not come again.
const MIN_OWN_TEXTS: usize = 96;
/// Stands for an attribute that is in no column.
const OTHER: u8 = b'.';

/// An attribute with a column of its own: values of another kind under its key are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DenseKey {
    /// Key of the attribute.
    pub key: String,
    /// Kind of the values, not [`ValueKind::Empty`].
    pub kind: ValueKind,
}

impl DenseKey {
    /// What its column is called: the key behind `attribute_`, in lower case and with underscores for all that is not a
    /// letter or digit of ASCII, because catalogs of tables know no other names; then the kind where that is not text, so
    /// that a name has one type in all files.
    pub fn column_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let kind = match self.kind {
            ValueKind::String | ValueKind::Empty => "",
            ValueKind::Int => "_int",
            ValueKind::Double => "_double",
            ValueKind::Bool => "_bool",
            ValueKind::Json => "_json",
        };
        "attribute_".chars().chain(self.key.chars().map(plain)).chain(kind.chars()).collect()
    }
}

/// The attributes with columns of their own, in the order of the columns. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dense(Arc<[DenseKey]>);

impl Dense {
    /// These attributes; `None` if there are more than [`MAX_DENSE`], or two with one key.
    pub fn new(keys: Vec<DenseKey>) -> Option<Self> {
        let is_twice = |(at, one): (usize, &DenseKey)| keys[..at].iter().any(|other| other.key == one.key);
        let is_sound = keys.len() <= MAX_DENSE
            && !keys.iter().enumerate().any(is_twice)
            && keys.iter().all(|one| one.kind != ValueKind::Empty);
        is_sound.then(|| Self(keys.into()))
    }

    /// The attributes.
    pub fn keys(&self) -> &[DenseKey] {
        &self.0
    }

    /// By column where its key lies in a dictionary, to which those that are not in it are added.
    fn keys_in(&self, keys: &mut Dictionary) -> Vec<u32> {
        let known: HashMap<&str, u32> = keys.iter().zip(0..).collect();
        let known: Vec<Option<u32>> =
            self.keys().iter().map(|one| known.get(one.key.as_str()).copied()).collect();
        let add = |(one, known): (&DenseKey, Option<u32>)| {
            known.unwrap_or_else(|| {
                keys.push_unindexed(&one.key);
                keys.len() as u32 - 1
            })
        };
        self.keys().iter().zip(known).map(add).collect()
    }

    /// Whether `other` has all of these.
    pub fn are_in(&self, other: &Self) -> bool {
        self.places_in(other).is_some()
    }

    /// By column of these the column in `other`; `None` if that lacks one.
    fn places_in(&self, other: &Self) -> Option<Vec<usize>> {
        self.0.iter().map(|one| other.0.iter().position(|another| another == one)).collect()
    }
}

/// The columns that letters of an order stand for; `None` is an attribute without one, or no letter.
pub fn places(order: &str) -> impl Iterator<Item = Option<usize>> {
    order.bytes().map(|letter| {
        let place = match letter {
            b'a'..=b'z' => letter - b'a',
            b'A'..=b'Z' => letter - b'A' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            _ => return None,
        };
        Some(place.into())
    })
}

/// The columns of an order.
fn columns_of(order: &str) -> Box<[u8]> {
    places(order).flatten().map(|place| place as u8).collect()
}

/// The values of attributes with columns of their own, row by row.
#[derive(Debug, Clone, Default)]
pub struct DenseRows {
    /// Per row a letter for each of its attributes, `a` for one in the first column and so on, a dot for others, which are
    /// left out at the end.
    order: DictColumn,
    /// The columns of distinct orders.
    columns: Vec<Box<[u8]>>,
    /// Per row the end of its values.
    ends: Vec<u32>,
    /// Values in the order of their letters: positions of texts, or the bits of numbers.
    values: Vec<u64>,
    /// Per column its texts, of which some may come twice; none for numbers.
    texts: Vec<Dictionary>,
    /// Whether most rows have a text of their own in a column, by bit: these are not looked for among others, which only
    /// costs memory where they come again.
    are_own: u64,
    /// As long as it is the same, positions are: see [`Dictionary::id`].
    id: u64,
}

/// The values of one column, for the rows that have one.
#[derive(Debug)]
pub enum Column {
    /// Texts, of strings or of JSON.
    Texts(DictColumn),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Floating-point numbers.
    Doubles(Vec<f64>),
    /// Truths.
    Bools(Vec<bool>),
}

impl DenseRows {
    /// No rows of a file with these columns.
    pub fn new(dense: &Dense) -> Self {
        let mut rows =
            Self { texts: dense.0.iter().map(|_| Dictionary::default()).collect(), ..Self::default() };
        rows.renew_id();
        rows
    }

    fn renew_id(&mut self) {
        let ids = self.texts.iter().map(Dictionary::id);
        self.id = ids.chain([self.order.dictionary.id()]).max().unwrap_or(0);
    }

    /// Takes what has a column out of `attributes`.
    pub fn split(attributes: &mut AttributeColumns, dense: &Dense) -> Self {
        let mut taken = Self::new(dense);
        let column_of = ColumnOf::new(dense, &attributes.key.dictionary);
        let mut old = attributes.take_entries();
        let mut strings = Known::of(&attributes.string.dictionary);
        let mut jsons = Known::of(&attributes.json.dictionary);
        let mut order = Vec::new();
        let ends = std::mem::take(&mut old.ends);
        taken.values.reserve(old.kind.len());
        taken.ends.reserve(ends.len());
        for row in 0..ends.len() {
            order.clear();
            let mut n_letters = 0;
            let mut seen: u64 = 0;
            for entry in entries(&ends, row) {
                let kind = old.kind[entry];
                let column = column_of.get(old.key.rows[entry], kind);
                if column == NO_COLUMN || seen >> column & 1 == 1 {
                    order.push(OTHER);
                    attributes.push_entry_of(&old, entry);
                    continue;
                }
                seen |= 1 << column;
                let column = usize::from(column);
                order.push(LETTERS[column]);
                n_letters = order.len();
                let slot = old.slot[entry] as usize;
                taken.values.push(match kind {
                    ValueKind::String => {
                        let texts = &mut taken.texts[column];
                        strings.of_text(column, old.string.rows[slot], &attributes.string.dictionary, texts)
                    }
                    ValueKind::Json => {
                        let texts = &mut taken.texts[column];
                        jsons.of_text(column, old.json.rows[slot], &attributes.json.dictionary, texts)
                    }
                    ValueKind::Int => old.int[slot] as u64,
                    ValueKind::Double => old.double[slot].to_bits(),
                    ValueKind::Bool => old.bool[slot].into(),
                    ValueKind::Empty => 0,
                });
            }
            taken.order.push_utf8(&order[..n_letters]).expect("invariant: letters are ASCII");
            taken.ends.push(taken.values.len() as u32);
            attributes.close_row();
        }
        attributes.number_slots();
        taken.read_orders();
        for (column, (n, texts)) in taken.n_of_columns().into_iter().zip(&taken.texts).enumerate() {
            taken.are_own |= u64::from(are_own(texts, n)) << column;
        }
        // What was taken is not to be in memory twice.
        attributes.string.forget_unused();
        attributes.json.forget_unused();
        taken
    }

    /// By column how many rows have a value.
    fn n_of_columns(&self) -> Vec<usize> {
        let mut n_of_orders = vec![0; self.columns.len()];
        self.order.rows.iter().for_each(|&order| n_of_orders[order as usize] += 1);
        let mut n_of = vec![0; self.texts.len()];
        for (n, places) in n_of_orders.into_iter().zip(&self.columns) {
            places.iter().for_each(|&place| n_of[usize::from(place)] += n);
        }
        n_of
    }

    /// Reads the orders that are new.
    fn read_orders(&mut self) {
        let known = self.columns.len() as u32;
        let new = known..self.order.dictionary.len() as u32;
        self.columns.extend(new.map(|position| columns_of(self.order.dictionary.get(position))));
    }

    /// The columns in which a row has values, and these.
    fn row(&self, row: usize) -> impl Iterator<Item = (usize, u64)> {
        let columns = self.columns[self.order.rows[row] as usize].iter();
        columns.map(|&column| column.into()).zip(self.values(row).iter().copied())
    }

    /// Puts all values back among `rest`, which has what is in no column. `None` if the two do not belong together.
    pub fn join(&self, dense: &Dense, rest: &mut AttributeColumns) -> Option<()> {
        if dense.keys().is_empty() {
            return Some(());
        }
        let mut old = rest.take_entries();
        let old_ends = std::mem::take(&mut old.ends);
        let keys = dense.keys_in(&mut rest.key.dictionary);
        // Texts of all columns go behind those that are there.
        let mut first_of = Vec::with_capacity(self.texts.len());
        for (texts, one) in self.texts.iter().zip(dense.keys()) {
            let dictionary = match one.kind {
                ValueKind::Json => &mut rest.json.dictionary,
                _ => &mut rest.string.dictionary,
            };
            first_of.push(dictionary.append_unindexed(texts));
        }
        if old_ends.len() != self.len() {
            return None;
        }
        for row in 0..self.len() {
            let mut others = entries(&old_ends, row);
            let mut values = self.values(row).iter();
            for place in places(self.order.get(row)) {
                let Some(column) = place else {
                    rest.push_entry_of(&old, others.next()?);
                    continue;
                };
                let (value, kind) = (*values.next()?, dense.keys().get(column)?.kind);
                rest.key.rows.push(keys[column]);
                rest.kind.push(kind);
                match kind {
                    ValueKind::String => rest.string.rows.push(first_of[column] + value as u32),
                    ValueKind::Json => rest.json.rows.push(first_of[column] + value as u32),
                    ValueKind::Int => rest.int.push(value as i64),
                    ValueKind::Double => rest.double.push(f64::from_bits(value)),
                    ValueKind::Bool => rest.bool.push(value != 0),
                    ValueKind::Empty => return None,
                }
            }
            others.for_each(|entry| rest.push_entry_of(&old, entry));
            rest.close_row();
        }
        rest.number_slots();
        Some(())
    }

    /// Of rows with these orders, and for each column the values of the rows that have it. `None` if they do not belong
    /// together.
    pub fn of_columns(order: DictColumn, columns: Vec<Column>) -> Option<Self> {
        let mut rows = Self { ends: Vec::with_capacity(order.len()), order, ..Self::default() };
        rows.read_orders();
        // A letter that comes twice would let values of other rows slip in.
        let is_sound = |places: &[u8]| {
            let mut seen: u64 = 0;
            places.iter().all(|&place| {
                let is_new = usize::from(place) < columns.len() && seen >> place & 1 == 0;
                seen |= 1 << place;
                is_new
            })
        };
        if columns.len() > MAX_DENSE || !rows.columns.iter().all(|places| is_sound(places)) {
            return None;
        }
        let bits: Vec<Vec<u64>> = columns
            .into_iter()
            .map(|column| {
                let (texts, bits) = match column {
                    Column::Texts(texts) => {
                        (texts.dictionary, texts.rows.into_iter().map(u64::from).collect())
                    }
                    Column::Ints(ints) => {
                        (Dictionary::default(), ints.into_iter().map(|int| int as u64).collect())
                    }
                    Column::Doubles(doubles) => {
                        (Dictionary::default(), doubles.into_iter().map(f64::to_bits).collect())
                    }
                    Column::Bools(truths) => {
                        (Dictionary::default(), truths.into_iter().map(u64::from).collect())
                    }
                };
                rows.are_own |= u64::from(are_own(&texts, Vec::len(&bits))) << rows.texts.len();
                rows.texts.push(texts);
                bits
            })
            .collect();
        rows.values.reserve(bits.iter().map(Vec::len).sum());
        let mut left: Vec<std::slice::Iter<'_, u64>> = bits.iter().map(|bits| bits.iter()).collect();
        for &position in &rows.order.rows {
            for &place in &rows.columns[position as usize] {
                rows.values.push(*left[usize::from(place)].next()?);
            }
            rows.ends.push(rows.values.len() as u32);
        }
        rows.renew_id();
        left.iter().all(|left| left.len() == 0).then_some(rows)
    }

    /// The values of each column, and per row whether it has one.
    pub fn by_column(&self) -> Vec<(Vec<u8>, Vec<u64>)> {
        let column = |n| (vec![0; self.len()], Vec::with_capacity(n));
        let mut columns: Vec<(Vec<u8>, Vec<u64>)> = self.n_of_columns().into_iter().map(column).collect();
        for row in 0..self.len() {
            for (place, value) in self.row(row) {
                let column = &mut columns[place];
                column.0[row] = 1;
                column.1.push(value);
            }
        }
        columns
    }

    /// The same rows of a file with other columns; `None` if that lacks one of those of this.
    pub fn for_columns(mut self, from: &Dense, into: &Dense) -> Option<Self> {
        if from == into {
            return Some(self);
        }
        let places_there = from.places_in(into)?;
        let mut moved = Self::new(into);
        for (from, &place) in places_there.iter().enumerate() {
            moved.texts[place] = std::mem::take(&mut self.texts[from]);
            moved.are_own |= (self.are_own >> from & 1) << place;
        }
        let mut letters = String::new();
        let mut orders = Dictionary::default();
        for order in self.order.dictionary.iter() {
            letters.clear();
            letters.extend(places(order).map(|place| match place {
                Some(place) => char::from(LETTERS[places_there[place]]),
                None => char::from(OTHER),
            }));
            orders.push_unindexed(&letters);
        }
        moved.order = DictColumn { dictionary: orders, rows: self.order.rows };
        (moved.ends, moved.values) = (self.ends, self.values);
        moved.read_orders();
        moved.renew_id();
        Some(moved)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Per row the order of its attributes, for [`places`].
    pub fn order(&self) -> &DictColumn {
        &self.order
    }

    /// Per column its texts, of which some may come twice; none for numbers.
    pub fn texts(&self) -> &[Dictionary] {
        &self.texts
    }

    /// The values of a row, in the order of its letters: positions among the texts of its column, or bits of numbers.
    pub fn values(&self, row: usize) -> &[u64] {
        &self.values[entries(&self.ends, row)]
    }

    /// Whether most rows that have a text in a column have one of their own there.
    pub fn are_own(&self, column: usize) -> bool {
        self.are_own >> column & 1 == 1
    }

    /// How many values all rows have.
    pub fn n_values(&self) -> usize {
        self.values.len()
    }

    /// Appends rows of other batches with the same columns, each of which has a transfer that knows its texts.
    pub fn extend_from(&mut self, batches: &[&Self], picks: &Picks<'_>, transfers: &mut [DenseTransfer]) {
        let is_one_batch = picks.batches().count() == 1;
        // Batch by batch first, as `Picks` says.
        let mut moved = MovedRows::default();
        if is_one_batch {
            // These are in their order then.
            moved.orders = std::mem::take(&mut self.order.rows);
            moved.ends = std::mem::take(&mut self.ends);
            moved.values = std::mem::take(&mut self.values);
        }
        for (batch, rows) in picks.batches() {
            self.move_rows(batches[batch], rows, &mut transfers[batch], &mut moved);
        }
        if is_one_batch {
            (self.order.rows, self.ends, self.values) = (moved.orders, moved.ends, moved.values);
        } else {
            self.values.reserve(moved.values.len());
            for place in picks.places() {
                self.order.rows.push(moved.orders[place]);
                self.values.extend_from_slice(&moved.values[entries(&moved.ends, place)]);
                self.ends.push(self.values.len() as u32);
            }
        }
        self.read_orders();
    }

    /// Brings rows of one batch behind others, with the orders and texts of this one.
    fn move_rows(&mut self, from: &Self, rows: &[u32], transfer: &mut DenseTransfer, into: &mut MovedRows) {
        if transfer.into != self.id {
            transfer.begin(from, self);
        }
        self.are_own |= from.are_own;
        for &row in rows {
            let order = from.order.rows[row as usize];
            into.orders.push(transfer.order.of(&from.order.dictionary, order, &mut self.order.dictionary));
            let places = &from.columns[order as usize];
            for (&place, &value) in places.iter().zip(from.values(row as usize)) {
                let place = usize::from(place);
                let first = transfer.first[place];
                if first == NO_TEXTS {
                    into.values.push(value);
                    continue;
                }
                let moved = &mut transfer.moved[first as usize + value as usize];
                if *moved == NOT_MOVED {
                    *moved = self.move_text(from, place, value as u32);
                }
                into.values.push((*moved).into());
            }
            into.ends.push(into.values.len() as u32);
        }
    }

    /// Where a text of a column lies here, to which it is brought.
    fn move_text(&mut self, from: &Self, place: usize, position: u32) -> u32 {
        let (from_texts, texts) = (&from.texts[place], &mut self.texts[place]);
        if from.are_own(place) {
            texts.push_of(from_texts, position)
        } else {
            texts.intern_of(from_texts, position)
        }
    }

    /// Whether rows have equal values in the same order, doubles by their bits; of batches with the same columns.
    pub fn is_same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        let is_same_value = |((place, a), (_, b)): ((usize, u64), (usize, u64))| {
            let (texts, other_texts) = (&self.texts[place], &other.texts[place]);
            if texts.is_empty() || other_texts.is_empty() {
                return texts.is_empty() == other_texts.is_empty() && a == b;
            }
            texts.get(a as u32) == other_texts.get(b as u32)
        };
        self.order.get(row) == other.order.get(other_row)
            && self.row(row).zip(other.row(other_row)).all(is_same_value)
    }

    /// Forgets all rows, to be filled with others like them, as [`SpanColumns::clear`](crate::SpanColumns::clear) does.
    pub fn clear(&mut self) {
        self.order.rows.clear();
        self.order.forget_large();
        self.columns.truncate(self.order.dictionary.len());
        self.ends.clear();
        self.values.clear();
        self.are_own = 0;
        for texts in &mut self.texts {
            if texts.len() > MAX_KEPT_TEXTS {
                *texts = Dictionary::default();
            }
        }
        self.renew_id();
    }

    /// About how many bytes the values take.
    pub fn memory_bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(Dictionary::text_bytes).sum();
        self.bytes(texts, self.order.dictionary.text_bytes())
    }

    fn bytes(&self, texts: usize, orders: usize) -> usize {
        // Orders are there as letters and as columns.
        texts + 2 * orders + self.values.len() * size_of::<u64>() + self.len() * 8
    }

    /// About how many bytes a batch of these rows takes that has no other texts.
    pub fn memory_bytes_of_rows(&self) -> usize {
        let mut is_used: Vec<Vec<bool>> = self.texts.iter().map(|texts| vec![false; texts.len()]).collect();
        for row in 0..self.len() {
            for (place, value) in self.row(row) {
                if let Some(is_used) = is_used[place].get_mut(value as usize) {
                    *is_used = true;
                }
            }
        }
        let used = |(texts, is_used): (&Dictionary, Vec<bool>)| -> usize {
            let used = (0..).zip(is_used).filter(|&(_, is_used)| is_used);
            used.map(|(position, _)| texts.len_of(position)).sum()
        };
        let texts: usize = self.texts.iter().zip(is_used).map(used).sum();
        self.bytes(texts, self.order.used_text_bytes())
    }
}

/// Whether the texts that so many rows have are taken for such that do not come again.
fn are_own(texts: &Dictionary, n_rows: usize) -> bool {
    let are_most = |n_texts: usize| n_texts * 4 > n_rows * 3;
    n_rows >= MIN_OWN_TEXTS && are_most(texts.len()) && are_most(n_distinct(texts))
}

/// How many of the texts are distinct, or a sixteenth fewer: some may be there more than once. Source: Whang,
/// Vander-Zanden and Taylor, "A linear-time probabilistic counting algorithm", 1990, without its correction. Whoever merges
/// the same files has to come to the same end, so the hash is one that never changes.
fn n_distinct(texts: &Dictionary) -> usize {
    let n_words = (texts.len() / 8).next_power_of_two();
    let mut bits = vec![0u64; n_words];
    for position in 0..texts.len() as u32 {
        let hash = hash_value(texts.bytes_of(position));
        bits[(hash >> 6) as usize & (n_words - 1)] |= 1 << (hash & 63);
    }
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

/// Rows with the orders and texts of a batch that they are not in yet.
#[derive(Debug, Default)]
struct MovedRows {
    orders: Vec<u32>,
    ends: Vec<u32>,
    values: Vec<u64>,
}

/// Where the texts of one batch lie in another.
#[derive(Debug, Clone, Default)]
pub struct DenseTransfer {
    into: u64,
    order: Positions,
    /// The dictionaries that texts were moved to, by column.
    dictionaries: Vec<u64>,
    /// Where the texts of a column begin in `moved`; [`NO_TEXTS`] for numbers.
    first: Vec<u32>,
    /// Where texts were moved to, of all columns one behind the other: rows look at most columns at once.
    moved: Vec<u32>,
}

const NOT_MOVED: u32 = u32::MAX;
const NO_TEXTS: u32 = u32::MAX;

impl DenseTransfer {
    /// Forgets what was moved to dictionaries that are not there any more.
    fn begin(&mut self, from: &DenseRows, into: &DenseRows) {
        self.into = into.id;
        self.order.begin(&from.order.dictionary, &into.order.dictionary);
        if self.first.len() != from.texts.len() {
            let mut n_texts = 0;
            self.first.extend(from.texts.iter().map(|texts| {
                let first = n_texts;
                n_texts += texts.len() as u32;
                if texts.is_empty() { NO_TEXTS } else { first }
            }));
            self.moved = vec![NOT_MOVED; n_texts as usize];
            self.dictionaries = into.texts.iter().map(Dictionary::id).collect();
        }
        for ((known, first), (from, into)) in
            self.dictionaries.iter_mut().zip(&self.first).zip(from.texts.iter().zip(&into.texts))
        {
            if *first != NO_TEXTS && *known != into.id() {
                *known = into.id();
                self.moved[*first as usize..][..from.len()].fill(NOT_MOVED);
            }
        }
    }
}

/// The columns of the keys of a dictionary.
struct ColumnOf(Vec<[u8; N_KINDS]>);

/// Stands for an attribute that is in no column.
const NO_COLUMN: u8 = u8::MAX;

impl ColumnOf {
    fn new(dense: &Dense, keys: &Dictionary) -> Self {
        let of_key: HashMap<&str, usize> = dense.0.iter().map(|one| one.key.as_str()).zip(0..).collect();
        let of_kinds = |key| {
            let mut of_kinds = [NO_COLUMN; N_KINDS];
            if let Some(&column) = of_key.get(key) {
                of_kinds[dense.0[column].kind as usize] = column as u8;
            }
            of_kinds
        };
        Self(keys.iter().map(of_kinds).collect())
    }

    /// The column of values of this kind under a key, or [`NO_COLUMN`].
    #[inline]
    fn get(&self, key: u32, kind: ValueKind) -> u8 {
        self.0[key as usize][kind as usize]
    }
}

/// Where the texts of all columns are in that of each.
struct Known {
    /// By text the column that it was put into first, or [`NOT_PUT`], and its position there.
    first: Vec<(u32, u32)>,
    /// The same of further columns: few texts are in more than one.
    further: HashMap<(u32, u32), u32>,
}

/// Stands for no column.
const NOT_PUT: u32 = u32::MAX;

impl Known {
    fn of(texts: &Dictionary) -> Self {
        Self { first: vec![(NOT_PUT, 0); texts.len()], further: HashMap::new() }
    }

    /// The position of a text in a column's dictionary, to which it is added if it is not there yet.
    #[inline]
    fn of_text(&mut self, column: usize, position: u32, texts: &Dictionary, into: &mut Dictionary) -> u64 {
        let column = column as u32;
        let first = &mut self.first[position as usize];
        if first.0 == column {
            return first.1.into();
        }
        if first.0 == NOT_PUT {
            *first = (column, into.push_of(texts, position));
            return first.1.into();
        }
        (*self.further.entry((column, position)).or_insert_with(|| into.push_of(texts, position))).into()
    }
}
