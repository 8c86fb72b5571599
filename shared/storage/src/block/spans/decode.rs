//! File → columns.

use model::dictionary::DictColumn;
use model::spans::ValueKind;
use model::{SpanColumns, SpanId, TraceId};

use super::{ChunkTable, LEAVES, Parts, Projection, column};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{ChunkReader, Pages, Repetition};

/// The columns in `projection` of a file with these chunks; all others stay empty.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(table: &ChunkTable, parts: &Parts, projection: Projection) -> Result<SpanColumns, Invalid> {
    if table.chunks.len() != column::COUNT {
        return Err(Invalid("file has another number of columns"));
    }
    let mut columns = SpanColumns::default();
    let read = |column: usize| -> Result<Option<Pages>, Invalid> {
        if !projection.has(column) {
            return Ok(None);
        }
        let leaf = &LEAVES[column];
        let chunk = ChunkReader::open(parts.get(&table.range(column))?, table.chunks[column].1)?;
        // Typed values of attributes repeat as their keys do.
        let repetition =
            if column::ATTRIBUTE_VALUES.contains(&column) { Repetition::Skip } else { Repetition::Read };
        chunk.pages(leaf.max_repetition, leaf.max_definition, repetition).map(Some)
    };
    if let Some(pages) = read(column::TRACE_ID)? {
        columns.trace_id = pages.ids()?.into_iter().map(TraceId).collect();
    }
    let n_rows = columns.len();
    let rows = |len: usize| if len == n_rows { Ok(()) } else { Err(Invalid("columns differ in length")) };
    for (column, numbers) in
        [(column::START_TIME, &mut columns.start_ns), (column::DURATION_NS, &mut columns.duration_ns)]
    {
        if let Some(pages) = read(column)? {
            *numbers = pages.i64s()?;
            rows(numbers.len())?;
        }
    }
    for (column, text) in [(column::SERVICE_NAME, &mut columns.service), (column::NAME, &mut columns.name)] {
        if let Some(pages) = read(column)? {
            (text.dictionary, text.rows) = pages.strings()?;
            rows(text.rows.len())?;
        }
    }
    for (column, numbers) in
        [(column::KIND, &mut columns.kind), (column::STATUS_CODE, &mut columns.status_code)]
    {
        if let Some(pages) = read(column)? {
            *numbers = pages.i32s()?;
            rows(numbers.len())?;
        }
    }
    let texts = [
        (column::STATUS_MESSAGE, &mut columns.status_message),
        (column::SCOPE_NAME, &mut columns.scope_name),
        (column::SCOPE_VERSION, &mut columns.scope_version),
        (column::TRACE_STATE, &mut columns.trace_state),
        (column::RESOURCE_ATTRIBUTES, &mut columns.resource),
        (column::RESOURCE_META, &mut columns.resource_meta),
        (column::SCOPE_META, &mut columns.scope_meta),
    ];
    for (column, text) in texts {
        if let Some(pages) = read(column)? {
            *text = read_nullable(&pages, 1)?;
            rows(text.rows.len())?;
        }
    }
    if let Some(pages) = read(column::SPAN_ID)? {
        columns.span_id = pages.ids()?.into_iter().map(SpanId).collect();
        rows(columns.span_id.len())?;
    }
    if let Some(pages) = read(column::PARENT_SPAN_ID)? {
        let mut present = pages.ids()?.into_iter().map(SpanId);
        let parent =
            |&level: &u8| if level == 1 { present.next().unwrap_or(SpanId::NONE) } else { SpanId::NONE };
        columns.parent_span_id = pages.definition.iter().map(parent).collect();
        rows(columns.parent_span_id.len())?;
    }
    let counts = [
        (column::FLAGS, &mut columns.flags),
        (column::DROPPED_ATTRIBUTES, &mut columns.dropped_attributes_count),
        (column::DROPPED_EVENTS, &mut columns.dropped_events_count),
        (column::DROPPED_LINKS, &mut columns.dropped_links_count),
    ];
    for (column, numbers) in counts {
        if let Some(pages) = read(column)? {
            *numbers = narrow(&pages)?;
            rows(numbers.len())?;
        }
    }
    read_attributes(&mut columns, &read, n_rows)?;
    read_events(&mut columns, &read, n_rows)?;
    read_links(&mut columns, &read, n_rows)?;
    Ok(columns)
}

fn narrow(pages: &Pages) -> Result<Vec<u32>, Invalid> {
    let number = |number| u32::try_from(number).map_err(|_| Invalid("count is out of range"));
    pages.i64s()?.into_iter().map(number).collect()
}

/// A text column whose nulls are empty texts; levels below `deepest - 1` are empty lists and no entries.
fn read_nullable(pages: &Pages, deepest: u8) -> Result<DictColumn, Invalid> {
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

/// The ends of the lists that these levels describe.
fn read_ends(pages: &Pages, n_rows: usize) -> Result<Vec<u32>, Invalid> {
    let mut ends: Vec<u32> = Vec::with_capacity(n_rows);
    let mut n_entries = 0;
    for (&repetition, &definition) in pages.repetition.iter().zip(&pages.definition) {
        if repetition == 0 {
            ends.push(n_entries);
        }
        let end = ends.last_mut().ok_or(Invalid("first level continues a list"))?;
        n_entries += u32::from(definition > 0);
        *end = n_entries;
    }
    if ends.len() == n_rows { Ok(ends) } else { Err(Invalid("lists differ in number from rows")) }
}

type ReadColumn<'a> = dyn Fn(usize) -> Result<Option<Pages>, Invalid> + 'a;

fn read_attributes(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let attributes = &mut columns.attributes;
    if let Some(pages) = read(column::ATTRIBUTE_KEY)? {
        attributes.ends = read_ends(&pages, n_rows)?;
        (attributes.key.dictionary, attributes.key.rows) = pages.strings()?;
        attributes.kind = vec![ValueKind::Empty; attributes.key.len()];
        attributes.slot = vec![0; attributes.key.len()];
    }
    let typed = [
        (column::ATTRIBUTE_STRING, ValueKind::String),
        (column::ATTRIBUTE_INT, ValueKind::Int),
        (column::ATTRIBUTE_DOUBLE, ValueKind::Double),
        (column::ATTRIBUTE_BOOL, ValueKind::Bool),
        (column::ATTRIBUTE_JSON, ValueKind::Json),
    ];
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
        place_values(&pages, kind, &mut attributes.kind, &mut attributes.slot)?;
    }
    Ok(())
}

/// Notes for each entry that has a value in this column where the value is.
fn place_values(
    pages: &Pages,
    kind: ValueKind,
    kinds: &mut [ValueKind],
    slots: &mut [u32],
) -> Result<(), Invalid> {
    let (mut entry, mut slot) = (0, 0);
    for &level in &pages.definition {
        if level == 0 {
            continue;
        }
        if level == 2 {
            *kinds.get_mut(entry).ok_or(Invalid("column has more entries than keys"))? = kind;
            slots[entry] = slot;
            slot += 1;
        }
        entry += 1;
    }
    if entry == kinds.len() { Ok(()) } else { Err(Invalid("column has fewer entries than keys")) }
}

fn read_events(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let events = &mut columns.events;
    if let Some(pages) = read(column::EVENT_TIME)? {
        events.ends = read_ends(&pages, n_rows)?;
        events.time_ns = pages.i64s()?;
    }
    if let Some(pages) = read(column::EVENT_NAME)? {
        (events.name.dictionary, events.name.rows) = pages.strings()?;
    }
    if let Some(pages) = read(column::EVENT_ATTRIBUTES)? {
        // A reader that wants only the attributes still needs to know whose they are.
        events.ends = read_ends(&pages, n_rows)?;
        events.attributes = read_nullable(&pages, 2)?;
    }
    if let Some(pages) = read(column::EVENT_DROPPED)? {
        events.dropped_attributes_count = narrow(&pages)?;
    }
    let n_entries = events.ends.last().map_or(0, |&end| end as usize);
    let lengths = [
        events.time_ns.len(),
        events.name.len(),
        events.attributes.len(),
        events.dropped_attributes_count.len(),
    ];
    if lengths.iter().all(|&len| len == 0 || len == n_entries) {
        Ok(())
    } else {
        Err(Invalid("events differ in number"))
    }
}

fn read_links(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let links = &mut columns.links;
    if let Some(pages) = read(column::LINK_TRACE_ID)? {
        links.ends = read_ends(&pages, n_rows)?;
        links.trace_id = pages.ids()?.into_iter().map(TraceId).collect();
    }
    if let Some(pages) = read(column::LINK_SPAN_ID)? {
        links.span_id = pages.ids()?.into_iter().map(SpanId).collect();
    }
    if let Some(pages) = read(column::LINK_TRACE_STATE)? {
        links.trace_state = read_nullable(&pages, 2)?;
    }
    if let Some(pages) = read(column::LINK_ATTRIBUTES)? {
        links.attributes = read_nullable(&pages, 2)?;
    }
    if let Some(pages) = read(column::LINK_DROPPED)? {
        links.dropped_attributes_count = narrow(&pages)?;
    }
    if let Some(pages) = read(column::LINK_FLAGS)? {
        links.flags = narrow(&pages)?;
    }
    let n_entries = links.ends.last().map_or(0, |&end| end as usize);
    let lengths = [
        links.trace_id.len(),
        links.span_id.len(),
        links.trace_state.len(),
        links.attributes.len(),
        links.dropped_attributes_count.len(),
        links.flags.len(),
    ];
    if lengths.iter().all(|&len| len == 0 || len == n_entries) {
        Ok(())
    } else {
        Err(Invalid("links differ in number"))
    }
}
