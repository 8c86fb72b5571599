//! Looks for an attribute's value in a file without building columns.
//!
//! Most files do not have the key or the value at all: the distinct strings of a column say so, and the rest of it
//! stays compressed. Only the columns whose type the value can have are looked at.

use model::attribute;
use model::columns::{Value, ValueKind};
use model::search::Condition;

use super::{ChunkTable, LEAVES, Parts, column, dense};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{ChunkReader, Pages, Positions, Repetition, find_plain_string};

/// The rows whose span has an attribute `key` with a value that [`Condition::text_matches`] `text`, ascending.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn rows_with_attribute(
    table: &ChunkTable,
    parts: &Parts,
    key: &str,
    text: &str,
) -> Result<Vec<u32>, Invalid> {
    let mut rows = rows_in_map(table, parts, key, text)?;
    if let Some(place) = table.dense.keys().iter().position(|one| one.key == key) {
        rows.extend(rows_in_column(table, parts, place, text)?);
        rows.sort_unstable();
        rows.dedup();
    }
    Ok(rows)
}

/// The rows with such a value in an attribute's own column.
fn rows_in_column(table: &ChunkTable, parts: &Parts, place: usize, text: &str) -> Result<Vec<u32>, Invalid> {
    let chunk = table.open(parts, dense::FIRST + place)?;
    let kind = table.dense.keys()[place].kind;
    let is_text = matches!(kind, ValueKind::String | ValueKind::Json);
    if is_text && !may_have_string(&chunk.strings_page()?, text) {
        return Ok(Vec::new());
    }
    let pages = chunk.pages(0, 1, Repetition::Read)?;
    let with_value = (0..).zip(&pages.definition).filter(|(_, level)| **level == 1).map(|(row, _)| row);
    if is_text {
        // Other than those of the map, texts of merged inputs may come twice: see `DenseRows`.
        let (dictionary, positions) = pages.strings()?;
        let is_wanted: Vec<bool> = dictionary.iter().map(|other| other == text).collect();
        let matching = with_value.zip(positions).filter(|(_, position)| is_wanted[*position as usize]);
        return Ok(matching.map(|(row, _)| row).collect());
    }
    let test = ValueTest::new(&pages, kind, text)?;
    Ok(with_value.enumerate().filter(|(slot, _)| test.matches(*slot)).map(|(_, row)| row).collect())
}

/// The rows with such a value in the map.
fn rows_in_map(table: &ChunkTable, parts: &Parts, key: &str, text: &str) -> Result<Vec<u32>, Invalid> {
    let chunk = |column: usize| table.open(parts, column);
    let keys = chunk(column::ATTRIBUTE_KEY)?;
    if !may_have_string(&keys.strings_page()?, key) {
        return Ok(Vec::new());
    }
    let strings = chunk(column::ATTRIBUTE_STRING)?;
    let strings_page = strings.strings_page()?;
    let kinds = [
        (column::ATTRIBUTE_STRING, may_have_string(&strings_page, text)),
        (column::ATTRIBUTE_INT, text.parse::<i64>().is_ok()),
        (column::ATTRIBUTE_DOUBLE, text.parse::<f64>().is_ok()),
        (column::ATTRIBUTE_BOOL, text == "true" || text == "false"),
        (column::ATTRIBUTE_JSON, text.starts_with(['[', '{'])),
    ];
    // An empty text also stands for "no value", which no column has.
    let wanted = kinds.iter().filter(|kind| kind.1 || text.is_empty());
    if wanted.clone().next().is_none() {
        return Ok(Vec::new());
    }
    let key_pages = pages(&keys, column::ATTRIBUTE_KEY, Repetition::Ends)?;
    if key_pages.n_levels() == key_pages.n_values() {
        // No list is empty: entries are numbered as levels are.
        let wanted: Vec<usize> = wanted.map(|kind| kind.0).collect();
        return rows_without_gaps(&key_pages, key, text, &wanted, &|column| {
            let chunk = chunk(column)?;
            if column == column::ATTRIBUTE_STRING && strings.has_positions() {
                let leaf = &LEAVES[column];
                let (repetition, definition) = (leaf.max_repetition, leaf.max_definition);
                let pages = chunk.pages_without_strings(repetition, definition, Repetition::Slots)?;
                return Ok((pages, Some(find_plain_string(&strings_page, text))));
            }
            Ok((pages(&chunk, column, Repetition::Slots)?, None))
        });
    }
    let mut hits = entries_with_key(&pages(&keys, column::ATTRIBUTE_KEY, Repetition::Read)?, key)?;
    let mut has_value: Vec<bool> = vec![false; hits.len()];
    let mut rows = Vec::new();
    for &(column, _) in wanted {
        if hits.is_empty() {
            break;
        }
        let pages = pages(&chunk(column)?, column, Repetition::Skip)?;
        let test = ValueTest::new(&pages, kind_of(column), text)?;
        let mut hit = 0;
        let (mut entry, mut slot) = (0, 0);
        for &level in &pages.definition {
            if level == 0 {
                continue;
            }
            if hits.get(hit).is_some_and(|&(wanted, _)| wanted == entry) {
                if level == 2 {
                    has_value[hit] = true;
                    if test.matches(slot) {
                        rows.push(hits[hit].1);
                    }
                }
                hit += 1;
            }
            entry += 1;
            slot += usize::from(level == 2);
        }
        if hit != hits.len() {
            return Err(Invalid("column has fewer entries than keys"));
        }
    }
    if text.is_empty() {
        let mut has_value = has_value.into_iter();
        hits.retain(|_| has_value.next() == Some(false));
        rows.extend(hits.into_iter().map(|(_, row)| row));
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

/// Gives the values of a column; of strings that were looked through already only their positions, and which of these is
/// wanted.
type ReadValues<'a> = dyn Fn(usize) -> Result<(Pages, Option<Option<u32>>), Invalid> + 'a;

/// As [`rows_with_attribute`], where every row has attributes: only the entries with the key are looked at.
fn rows_without_gaps(
    key_pages: &Pages,
    key: &str,
    text: &str,
    columns: &[usize],
    pages: &ReadValues<'_>,
) -> Result<Vec<u32>, Invalid> {
    let (dictionary, positions) = key_pages.strings_lazily()?;
    let Some(wanted) = dictionary.find(key) else { return Ok(Vec::new()) };
    let entries = positions.places_of(wanted, key_pages.n_values());
    let mut has_value = vec![false; if text.is_empty() { entries.len() } else { 0 }];
    let mut found: Vec<u32> = Vec::new();
    for &column in columns {
        let (pages, position) = pages(column)?;
        if pages.n_levels() != key_pages.n_levels() {
            return Err(Invalid("column has another number of entries than keys"));
        }
        let test = match position {
            Some(position) => ValueTest::Position(pages.positions_lazily()?, position),
            None => ValueTest::new(&pages, kind_of(column), text)?,
        };
        let mut slots = pages.slots()?;
        for (at, &entry) in entries.iter().enumerate() {
            let Some(slot) = slots.of(entry as usize) else { continue };
            if let Some(has_value) = has_value.get_mut(at) {
                *has_value = true;
            }
            if test.matches(slot) {
                found.push(entry);
            }
        }
    }
    if text.is_empty() {
        found.extend(
            entries.iter().zip(has_value).filter(|(_, has_value)| !has_value).map(|(entry, _)| *entry),
        );
    }
    found.sort_unstable();
    let mut row = 0;
    let mut rows: Vec<u32> = Vec::with_capacity(found.len());
    for entry in found {
        while key_pages.ends.get(row).is_some_and(|&end| end <= entry) {
            row += 1;
        }
        rows.push(row as u32);
    }
    rows.dedup();
    Ok(rows)
}

fn pages(chunk: &ChunkReader<'_>, column: usize, repetition: Repetition) -> Result<Pages, Invalid> {
    let leaf = &LEAVES[column];
    chunk.pages(leaf.max_repetition, leaf.max_definition, repetition)
}

/// Whether a string may be among a column's values.
fn may_have_string(page: &[u8], string: &str) -> bool {
    let mut plain = (string.len() as u32).to_le_bytes().to_vec();
    plain.extend_from_slice(string.as_bytes());
    memchr::memmem::find(page, &plain).is_some()
}

/// Entries with this key and their rows, ascending.
fn entries_with_key(keys: &Pages, key: &str) -> Result<Vec<(u32, u32)>, Invalid> {
    let (dictionary, positions) = keys.strings()?;
    let Some(wanted) = dictionary.find(key) else { return Ok(Vec::new()) };
    let mut hits = Vec::new();
    let (mut row, mut entry) = (u32::MAX, 0u32);
    for (&repetition, &definition) in keys.repetition.iter().zip(&keys.definition) {
        row = row.wrapping_add(u32::from(repetition == 0));
        if definition == 0 {
            continue;
        }
        if positions.get(entry as usize) == Some(&wanted) {
            hits.push((entry, row));
        }
        entry += 1;
    }
    Ok(hits)
}

/// The kind of the values in a column of the map.
fn kind_of(column: usize) -> ValueKind {
    match column {
        column::ATTRIBUTE_INT => ValueKind::Int,
        column::ATTRIBUTE_DOUBLE => ValueKind::Double,
        column::ATTRIBUTE_BOOL => ValueKind::Bool,
        column::ATTRIBUTE_JSON => ValueKind::Json,
        _ => ValueKind::String,
    }
}

/// Tests the values of one typed column.
enum ValueTest<'a> {
    Position(Positions<'a>, Option<u32>),
    Int(Vec<i64>, &'a str),
    Double(Vec<f64>, &'a str),
    Bool(Vec<bool>, &'a str),
}

impl<'a> ValueTest<'a> {
    fn new(pages: &'a Pages, kind: ValueKind, text: &'a str) -> Result<Self, Invalid> {
        Ok(match kind {
            ValueKind::Int => Self::Int(pages.i64s()?, text),
            ValueKind::Double => Self::Double(pages.doubles()?, text),
            ValueKind::Bool => Self::Bool(pages.bools()?, text),
            _ => {
                let (dictionary, positions) = pages.strings_lazily()?;
                let wanted = dictionary.find(text);
                Self::Position(positions, wanted)
            }
        })
    }

    fn matches(&self, slot: usize) -> bool {
        match self {
            Self::Position(positions, wanted) => wanted.is_some() && positions.get(slot).ok() == *wanted,
            Self::Int(ints, text) => {
                ints.get(slot).is_some_and(|&number| Condition::text_matches(Value::Int(number), text))
            }
            Self::Double(doubles, text) => {
                doubles.get(slot).is_some_and(|&number| Condition::text_matches(Value::Double(number), text))
            }
            Self::Bool(bools, text) => {
                bools.get(slot).is_some_and(|&truth| Condition::text_matches(Value::Bool(truth), text))
            }
        }
    }
}

/// Whether some JSON text of a column may have `key`: if not, no row of it needs to be looked at.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn may_have_key(table: &ChunkTable, parts: &Parts, column: usize, key: &str) -> Result<bool, Invalid> {
    let chunk = table.open(parts, column)?;
    let mut wanted = String::new();
    attribute::write_key(&mut wanted, key);
    Ok(memchr::memmem::find(&chunk.strings_page()?, wanted.as_bytes()).is_some())
}
