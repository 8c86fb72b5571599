//! Columns that files of spans and files of log records have in common: lists, attributes, what may be null.

use model::columns::{AttributeColumns, ValueKind};
use model::dictionary::DictColumn;

use super::parquet::read::{Pages, ends_of_levels};
use super::parquet::write::{Chunk, ChunkWriter, Levels};
use super::parquet::{Invalid, hybrid};

pub(super) fn wide(numbers: &[u32]) -> Vec<i64> {
    numbers.iter().map(|&number| i64::from(number)).collect()
}

/// A text column whose empty texts are nulls.
pub(super) fn nullable(w: &mut ChunkWriter, text: &DictColumn) -> Chunk {
    let Some(empty) = text.dictionary.empty() else {
        return w.strings(optional(&vec![1; text.len()]), &text.dictionary, &text.rows);
    };
    let definition: Vec<u8> = text.rows.iter().map(|&position| u8::from(position != empty)).collect();
    let present: Vec<u32> = text.rows.iter().copied().filter(|&position| position != empty).collect();
    w.strings(optional(&definition), &text.dictionary, &present)
}

/// Ids of which zeros are nulls.
pub(super) fn optional_ids<const N: usize>(
    w: &mut ChunkWriter,
    ids: impl ExactSizeIterator<Item = [u8; N]> + Clone,
) -> Chunk {
    let definition: Vec<u8> = ids.clone().map(|id| u8::from(id != [0; N])).collect();
    let present: Vec<[u8; N]> = ids.filter(|id| *id != [0; N]).collect();
    w.repeated_ids(optional(&definition), &present)
}

/// Bytes of which empty ones are nulls.
pub(super) fn optional_blobs<'b>(
    w: &mut ChunkWriter,
    blobs: impl Iterator<Item = &'b [u8]> + Clone,
) -> Chunk {
    let definition: Vec<u8> = blobs.clone().map(|blob| u8::from(!blob.is_empty())).collect();
    w.blobs(optional(&definition), blobs.filter(|blob| !blob.is_empty()))
}

/// Levels of a column that is not in a list, whose values may be null.
pub(super) fn optional(definition: &[u8]) -> Levels<'_> {
    Levels { definition, definition_width: 1, count: definition.len(), ..Levels::default() }
}

/// Levels of a list column: one per entry, and one for each empty list.
pub(super) struct ListLevels {
    /// Encoded repetition levels.
    repetition: Vec<u8>,
    /// Per level whether it is an entry.
    holds: Vec<bool>,
}

impl ListLevels {
    pub(super) fn new(ends: &[u32]) -> Self {
        let n_entries = ends.last().map_or(0, |&end| end as usize);
        let mut levels = Vec::with_capacity(n_entries + ends.len());
        let mut holds = Vec::with_capacity(n_entries + ends.len());
        let mut start = 0;
        for &end in ends {
            levels.push(0);
            holds.push(end > start);
            let more = (end - start).saturating_sub(1) as usize;
            levels.resize(levels.len() + more, 1);
            holds.resize(holds.len() + more, true);
            start = end;
        }
        let mut repetition = Vec::new();
        hybrid::write_levels(&mut repetition, &levels, 1);
        Self { repetition, holds }
    }

    pub(super) fn definition(&self) -> Vec<u8> {
        self.holds.iter().map(|&holds| u8::from(holds)).collect()
    }

    /// Levels of a required column in the list.
    pub(super) fn levels<'a>(&'a self, definition: &'a [u8]) -> Levels<'a> {
        Levels { repetition: &self.repetition, definition, definition_width: 1, count: definition.len() }
    }

    pub(super) fn nullable(&self, w: &mut ChunkWriter, text: &DictColumn) -> Chunk {
        // No position is as large.
        let empty = text.dictionary.empty().unwrap_or(u32::MAX);
        let mut rows = text.rows.iter();
        let level = |&holds: &bool| {
            if !holds {
                return 0;
            }
            let position = *rows.next().expect("invariant: as many texts as entries");
            1 + u8::from(position != empty)
        };
        let definition: Vec<u8> = self.holds.iter().map(level).collect();
        let present: Vec<u32> = text.rows.iter().copied().filter(|&position| position != empty).collect();
        let levels = Levels {
            repetition: &self.repetition,
            definition: &definition,
            definition_width: 2,
            count: definition.len(),
        };
        w.strings(levels, &text.dictionary, &present)
    }
}

/// No [`ValueKind`].
const NO_KIND: u8 = u8::MAX;

/// Writes the six columns of attributes: keys, then values by type.
pub(super) fn write_attributes(w: &mut ChunkWriter, attributes: &AttributeColumns, chunks: &mut Vec<Chunk>) {
    let list = ListLevels::new(&attributes.ends);
    let definition = list.definition();
    chunks.push(w.strings(list.levels(&definition), &attributes.key.dictionary, &attributes.key.rows));
    // Per level its kind; an empty list has none and stays at definition level 0.
    let mut kinds = attributes.kind.iter().map(|&kind| kind as u8);
    let kind_of_level: Vec<u8> = list
        .holds
        .iter()
        .map(|&holds| if holds { kinds.next().unwrap_or(NO_KIND) } else { NO_KIND })
        .collect();
    let mut typed = Vec::with_capacity(kind_of_level.len());
    let mut levels_of = |kind: ValueKind, write: &mut dyn FnMut(Levels<'_>) -> Chunk| {
        typed.clear();
        let level = |&other: &u8| u8::from(other != NO_KIND) + u8::from(other == kind as u8);
        typed.extend(kind_of_level.iter().map(level));
        let levels = Levels {
            repetition: &list.repetition,
            definition: &typed,
            definition_width: 2,
            count: typed.len(),
        };
        chunks.push(write(levels));
    };
    let (string, json) = (&attributes.string, &attributes.json);
    levels_of(ValueKind::String, &mut |levels| w.strings(levels, &string.dictionary, &string.rows));
    levels_of(ValueKind::Int, &mut |levels| w.repeated_i64(levels, &attributes.int));
    levels_of(ValueKind::Double, &mut |levels| w.doubles(levels, &attributes.double));
    levels_of(ValueKind::Bool, &mut |levels| w.bools(levels, &attributes.bool));
    levels_of(ValueKind::Json, &mut |levels| w.strings(levels, &json.dictionary, &json.rows));
}

pub(super) fn narrow(pages: &Pages) -> Result<Vec<u32>, Invalid> {
    let numbers = pages.i64s()?;
    // All bits that some number has.
    let bits = numbers.iter().fold(0, |bits, &number| bits | number);
    u32::try_from(bits).map_err(|_| Invalid("count is out of range"))?;
    Ok(numbers.into_iter().map(|number| number as u32).collect())
}

/// A text column whose nulls are empty texts; levels below `deepest - 1` are empty lists and no entries.
pub(super) fn read_nullable(pages: &Pages, deepest: u8) -> Result<DictColumn, Invalid> {
    let (mut dictionary, positions) = pages.strings()?;
    let mut empty = None;
    let mut positions = positions.into_iter();
    let mut rows = Vec::with_capacity(pages.definition.len());
    for &level in &pages.definition {
        if level == deepest {
            rows.push(positions.next().ok_or(Invalid("column has too few values"))?);
        } else if level + 1 == deepest {
            let position = *empty.get_or_insert_with(|| {
                dictionary.push_unindexed("");
                dictionary.len() as u32 - 1
            });
            rows.push(position);
        }
    }
    Ok(DictColumn { dictionary, rows })
}

/// The ends of the lists of a column, one a row.
pub(super) fn read_ends(pages: &mut Pages, n_rows: usize) -> Result<Vec<u32>, Invalid> {
    let mut ends = std::mem::take(&mut pages.ends);
    if ends.is_empty() {
        ends = ends_of_levels(&pages.repetition, Some(&pages.definition))?;
    }
    if ends.len() == n_rows { Ok(ends) } else { Err(Invalid("lists differ in number from rows")) }
}

/// Gives the pages of a column, if it is wanted.
pub(super) type ReadColumn<'a> = dyn Fn(usize) -> Result<Option<Pages>, Invalid> + 'a;

/// Ids whose nulls are zeros.
pub(super) fn read_optional_ids<const N: usize>(pages: &Pages) -> Result<Vec<[u8; N]>, Invalid> {
    let mut present = pages.ids()?.into_iter();
    let id = |&level: &u8| if level == 1 { present.next().unwrap_or([0; N]) } else { [0; N] };
    Ok(pages.definition.iter().map(id).collect())
}

/// Reads the six columns of attributes, of which the keys are `first_column`.
pub(super) fn read_attributes(
    attributes: &mut AttributeColumns,
    read: &ReadColumn<'_>,
    first_column: usize,
    n_rows: usize,
) -> Result<(), Invalid> {
    if let Some(mut pages) = read(first_column)? {
        attributes.ends = read_ends(&mut pages, n_rows)?;
        (attributes.key.dictionary, attributes.key.rows) = pages.strings()?;
        attributes.kind = vec![ValueKind::Empty; attributes.key.len()];
    }
    let typed = [
        (first_column + 1, ValueKind::String),
        (first_column + 2, ValueKind::Int),
        (first_column + 3, ValueKind::Double),
        (first_column + 4, ValueKind::Bool),
        (first_column + 5, ValueKind::Json),
    ];
    let mut n_of_kinds = Vec::with_capacity(typed.len());
    for (column, kind) in typed {
        let Some(pages) = read(column)? else { continue };
        let n_values = match kind {
            ValueKind::String | ValueKind::Json => {
                let text =
                    if kind == ValueKind::String { &mut attributes.string } else { &mut attributes.json };
                (text.dictionary, text.rows) = pages.strings()?;
                text.rows.len()
            }
            ValueKind::Int => {
                attributes.int = pages.i64s()?;
                attributes.int.len()
            }
            ValueKind::Double => {
                attributes.double = pages.doubles()?;
                attributes.double.len()
            }
            ValueKind::Bool => {
                attributes.bool = pages.bools()?;
                attributes.bool.len()
            }
            ValueKind::Empty => 0,
        };
        if n_values != pages.n_values() {
            return Err(Invalid("column has another number of values"));
        }
        place_kind(&pages, kind, &mut attributes.kind)?;
        n_of_kinds.push((kind, n_values));
    }
    let mut n_of = [0; ValueKind::Json as usize + 1];
    attributes.kind.iter().for_each(|&kind| n_of[kind as usize] += 1);
    if n_of_kinds.into_iter().any(|(kind, n)| n_of[kind as usize] != n) {
        return Err(Invalid("attribute has two values"));
    }
    attributes.number_slots();
    Ok(())
}

/// Notes which entries have a value in this column.
fn place_kind(pages: &Pages, kind: ValueKind, kinds: &mut [ValueKind]) -> Result<(), Invalid> {
    let levels = &pages.definition;
    if levels.len() - hybrid::n_of(levels, 0) != kinds.len() {
        return Err(Invalid("column has another number of entries than there are keys"));
    }
    if pages.n_values() == 0 {
        return Ok(());
    }
    let note = |place: &mut ValueKind, level: u8| *place = if level == 2 { kind } else { *place };
    if levels.len() == kinds.len() {
        // Lists are rarely empty, and then this is a few instructions for many entries.
        kinds.iter_mut().zip(levels).for_each(|(place, &level)| note(place, level));
    } else {
        let entries = levels.iter().filter(|&&level| level > 0);
        kinds.iter_mut().zip(entries).for_each(|(place, &level)| note(place, level));
    }
    Ok(())
}
