//! File → columns.

use std::ops::Range;

use model::dense::DenseRows;
use model::{SpanColumns, SpanId, TraceId};

use super::{ChunkTable, LEAVES, Parts, Projection, column, dense};
use crate::block::columns::{
    ReadColumn, narrow, read_attributes, read_ends, read_nullable, read_optional_ids,
};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{Pages, Repetition};

/// The columns in `projection` of a file with these chunks; all others stay empty.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(table: &ChunkTable, parts: &Parts, projection: Projection) -> Result<SpanColumns, Invalid> {
    joined(table, decode_some(table, parts, projection, None)?)
}

/// As [`decode`], of some rows only.
///
/// # Errors
/// As [`decode`]; there are fewer rows.
pub fn decode_rows(
    table: &ChunkTable,
    parts: &Parts,
    projection: Projection,
    rows: Range<usize>,
) -> Result<SpanColumns, Invalid> {
    joined(table, decode_some(table, parts, projection, Some(&rows))?)
}

/// The starts of all rows, ns since the epoch.
///
/// # Errors
/// As [`decode`].
pub fn starts(table: &ChunkTable, parts: &Parts) -> Result<Vec<i64>, Invalid> {
    table.open(parts, column::START_TIME)?.pages(0, 0, Repetition::Read)?.i64s()
}

/// The traces of some rows.
///
/// # Errors
/// As [`decode`]; there are fewer rows.
pub fn traces_of(table: &ChunkTable, parts: &Parts, rows: &[u32]) -> Result<Vec<TraceId>, Invalid> {
    let pages = table.open(parts, column::TRACE_ID)?.pages(0, 0, Repetition::Read)?;
    Ok(pages.ids_at(rows)?.into_iter().map(TraceId).collect())
}

/// As [`decode`] of all columns, but for attributes with columns of their own, which are given as such.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_apart(table: &ChunkTable, parts: &Parts) -> Result<(SpanColumns, DenseRows), Invalid> {
    let (columns, dense) = decode_some(table, parts, Projection::ALL, None)?;
    Ok((columns, dense.unwrap_or_default()))
}

fn joined(
    table: &ChunkTable,
    (mut columns, dense): (SpanColumns, Option<DenseRows>),
) -> Result<SpanColumns, Invalid> {
    if let Some(dense) = dense {
        let joined = dense.join(&table.dense, &mut columns.attributes);
        joined.ok_or(Invalid("attributes are not in their order"))?;
    }
    Ok(columns)
}

fn decode_some(
    table: &ChunkTable,
    parts: &Parts,
    projection: Projection,
    rows: Option<&Range<usize>>,
) -> Result<(SpanColumns, Option<DenseRows>), Invalid> {
    if table.chunks.len() != dense::n_columns(&table.dense) {
        return Err(Invalid("file has another number of columns"));
    }
    let mut columns = SpanColumns::default();
    let read = |column: usize| -> Result<Option<Pages>, Invalid> {
        if !projection.has(column) {
            return Ok(None);
        }
        let leaf = &LEAVES[column];
        let chunk = table.open(parts, column)?;
        if let Some(rows) = rows {
            return chunk.pages_of_rows(leaf.max_repetition, leaf.max_definition, rows.clone()).map(Some);
        }
        let repetition = match column {
            column::ATTRIBUTE_KEY | column::EVENT_TIME | column::LINK_TRACE_ID => Repetition::Ends,
            // Typed values of attributes repeat as their keys do.
            _ if column::ATTRIBUTE_VALUES.contains(&column) => Repetition::Skip,
            _ => Repetition::Read,
        };
        chunk.pages(leaf.max_repetition, leaf.max_definition, repetition).map(Some)
    };
    if let Some(pages) = read(column::TRACE_ID)? {
        columns.trace_id = pages.ids()?.into_iter().map(TraceId).collect();
    }
    let n_rows = columns.len();
    let fits = |len: usize| if len == n_rows { Ok(()) } else { Err(Invalid("columns differ in length")) };
    for (column, numbers) in
        [(column::START_TIME, &mut columns.start_ns), (column::DURATION_NS, &mut columns.duration_ns)]
    {
        if let Some(pages) = read(column)? {
            *numbers = pages.i64s()?;
            fits(numbers.len())?;
        }
    }
    for (column, text) in
        [(column::SERVICE_NAME, &mut columns.origins.service), (column::NAME, &mut columns.name)]
    {
        if let Some(pages) = read(column)? {
            (text.dictionary, text.rows) = pages.strings()?;
            fits(text.rows.len())?;
        }
    }
    for (column, numbers) in
        [(column::KIND, &mut columns.kind), (column::STATUS_CODE, &mut columns.status_code)]
    {
        if let Some(pages) = read(column)? {
            *numbers = pages.i32s()?;
            fits(numbers.len())?;
        }
    }
    let texts = [
        (column::STATUS_MESSAGE, &mut columns.status_message),
        (column::SCOPE_NAME, &mut columns.origins.scope_name),
        (column::SCOPE_VERSION, &mut columns.origins.scope_version),
        (column::TRACE_STATE, &mut columns.trace_state),
        (column::RESOURCE_ATTRIBUTES, &mut columns.origins.resource),
        (column::RESOURCE_META, &mut columns.origins.resource_meta),
        (column::SCOPE_META, &mut columns.origins.scope_meta),
    ];
    for (column, text) in texts {
        if let Some(pages) = read(column)? {
            *text = read_nullable(&pages, 1)?;
            fits(text.rows.len())?;
        }
    }
    if let Some(pages) = read(column::SPAN_ID)? {
        columns.span_id = pages.ids()?.into_iter().map(SpanId).collect();
        fits(columns.span_id.len())?;
    }
    if let Some(pages) = read(column::PARENT_SPAN_ID)? {
        columns.parent_span_id = read_optional_ids(&pages)?.into_iter().map(SpanId).collect();
        fits(columns.parent_span_id.len())?;
    }
    if let Some(pages) = read(column::PARENT_DISTANCE)? {
        place_parents(&pages, &mut columns)?;
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
            fits(numbers.len())?;
        }
    }
    read_attributes(&mut columns.attributes, &read, column::ATTRIBUTE_KEY, n_rows)?;
    read_events(&mut columns, &read, n_rows)?;
    read_links(&mut columns, &read, n_rows)?;
    let has_dense = !table.dense.keys().is_empty() && projection.has(dense::ORDER);
    let dense = has_dense.then(|| read_dense(table, parts, rows)).transpose()?;
    fits(dense.as_ref().map_or(n_rows, DenseRows::len))?;
    Ok((columns, dense))
}

fn read_dense(table: &ChunkTable, parts: &Parts, rows: Option<&Range<usize>>) -> Result<DenseRows, Invalid> {
    dense::read(&table.dense, &|column| {
        let chunk = table.open(parts, column)?;
        match rows {
            Some(rows) => chunk.pages_of_rows(0, 1, rows.clone()),
            None if column == dense::ORDER => chunk.pages(0, 1, Repetition::Read),
            // Which rows have a value, their order says.
            None => chunk.pages(0, 1, Repetition::Slots),
        }
    })
}

/// Sets the parents that are told by their distance.
fn place_parents(pages: &Pages, columns: &mut SpanColumns) -> Result<(), Invalid> {
    let mut distances = pages.i32s()?.into_iter();
    for (row, &is_there) in pages.definition.iter().enumerate() {
        if is_there == 0 {
            continue;
        }
        let distance = distances.next().ok_or(Invalid("column has too few values"))?;
        let parent = i64::try_from(row).ok().and_then(|row| usize::try_from(row - i64::from(distance)).ok());
        let parent = parent.and_then(|parent| columns.span_id.get(parent)).copied();
        let place = columns.parent_span_id.get_mut(row).ok_or(Invalid("columns differ in length"))?;
        *place = parent.ok_or(Invalid("parent is outside of the rows"))?;
    }
    Ok(())
}

fn read_events(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let events = &mut columns.events;
    if let Some(mut pages) = read(column::EVENT_TIME)? {
        events.ends = read_ends(&mut pages, n_rows)?;
        events.time_ns = pages.i64s()?;
        if events.time_ns.is_empty() && events.ends.last().is_none_or(|&end| end == 0) {
            return Ok(());
        }
    }
    if let Some(pages) = read(column::EVENT_NAME)? {
        (events.name.dictionary, events.name.rows) = pages.strings()?;
    }
    if let Some(mut pages) = read(column::EVENT_ATTRIBUTES)? {
        // A reader that wants only the attributes still needs to know whose they are.
        events.ends = read_ends(&mut pages, n_rows)?;
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
    if let Some(mut pages) = read(column::LINK_TRACE_ID)? {
        links.ends = read_ends(&mut pages, n_rows)?;
        links.trace_id = pages.ids()?.into_iter().map(TraceId).collect();
        if links.trace_id.is_empty() && links.ends.last().is_none_or(|&end| end == 0) {
            return Ok(());
        }
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
