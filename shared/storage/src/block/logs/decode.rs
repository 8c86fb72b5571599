//! File → columns.

use model::logs::BodyKind;
use model::{LogColumns, SpanId, TraceId};

use super::{ChunkTable, LEAVES, Parts, Projection, column};
use crate::block::columns::{narrow, read_attributes, read_nullable, read_optional_ids};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{Pages, Repetition};

/// The columns in `projection` of a file or a unit with these chunks; all others stay empty. The two columns of bodies
/// are read together, and so are the six of attributes.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(table: &ChunkTable, parts: &Parts, projection: Projection) -> Result<LogColumns, Invalid> {
    // A unit of a merged file has the identities of its rows behind these.
    if table.chunks.len() < column::COUNT {
        return Err(Invalid("file has another number of columns"));
    }
    let read = |column: usize| -> Result<Option<Pages>, Invalid> {
        if !projection.has(column) {
            return Ok(None);
        }
        let leaf = &LEAVES[column];
        let chunk = table.open(parts, column)?;
        // Typed values of attributes repeat as their keys do.
        let repetition =
            if column::ATTRIBUTE_VALUES.contains(&column) { Repetition::Skip } else { Repetition::Read };
        chunk.pages(leaf.max_repetition, leaf.max_definition, repetition).map(Some)
    };
    let mut columns = LogColumns::default();
    if let Some(pages) = read(column::TIME)? {
        columns.time_ns = known_times(&pages)?;
    }
    let n_rows = columns.time_ns.len();
    let fits = |len: usize| if len == n_rows { Ok(()) } else { Err(Invalid("columns differ in length")) };
    if let Some(pages) = read(column::OBSERVED_TIME)? {
        columns.observed_time_ns = known_times(&pages)?;
        fits(columns.observed_time_ns.len())?;
    }
    if let Some(pages) = read(column::SEVERITY_NUMBER)? {
        columns.severity_number = pages.i32s()?;
        fits(columns.severity_number.len())?;
    }
    if let Some(pages) = read(column::TRACE_ID)? {
        columns.trace_id = read_optional_ids(&pages)?.into_iter().map(TraceId).collect();
        fits(columns.trace_id.len())?;
    }
    if let Some(pages) = read(column::SPAN_ID)? {
        columns.span_id = read_optional_ids(&pages)?.into_iter().map(SpanId).collect();
        fits(columns.span_id.len())?;
    }
    let counts = [
        (column::FLAGS, &mut columns.flags),
        (column::DROPPED_ATTRIBUTES, &mut columns.dropped_attributes_count),
    ];
    for (column, numbers) in counts {
        if let Some(pages) = read(column)? {
            *numbers = narrow(&pages)?;
            fits(numbers.len())?;
        }
    }
    if let (Some(text), Some(json)) = (read(column::BODY)?, read(column::BODY_JSON)?) {
        read_bodies(&mut columns, &text, &json)?;
        fits(columns.body.kind.len())?;
    }
    let origins = &mut columns.origins;
    if let Some(pages) = read(column::SERVICE_NAME)? {
        (origins.service.dictionary, origins.service.rows) = pages.strings()?;
        fits(origins.service.len())?;
    }
    let texts = [
        (column::SEVERITY_TEXT, &mut columns.severity_text),
        (column::EVENT_NAME, &mut columns.event_name),
        (column::SCOPE_NAME, &mut origins.scope_name),
        (column::SCOPE_VERSION, &mut origins.scope_version),
        (column::RESOURCE_ATTRIBUTES, &mut origins.resource),
        (column::RESOURCE_META, &mut origins.resource_meta),
        (column::SCOPE_META, &mut origins.scope_meta),
    ];
    for (column, text) in texts {
        if let Some(pages) = read(column)? {
            *text = read_nullable(&pages, 1)?;
            fits(text.rows.len())?;
        }
    }
    read_attributes(&mut columns.attributes, &read, column::ATTRIBUTE_KEY, n_rows)?;
    Ok(columns)
}

/// Times whose nulls are 0.
fn known_times(pages: &Pages) -> Result<Vec<i64>, Invalid> {
    let mut known = pages.i64s()?.into_iter();
    let time = |&level: &u8| if level == 1 { known.next().unwrap_or(0) } else { 0 };
    Ok(pages.definition.iter().map(time).collect())
}

fn read_bodies(columns: &mut LogColumns, text: &Pages, json: &Pages) -> Result<(), Invalid> {
    let body = &mut columns.body;
    (body.texts, body.text_rows) = text.strings()?;
    (body.json, body.json_rows) = json.strings()?;
    if text.definition.len() != json.definition.len() {
        return Err(Invalid("columns differ in length"));
    }
    for levels in text.definition.iter().zip(&json.definition) {
        body.kind.push(match levels {
            (0, 0) => BodyKind::None,
            (1, 0) => BodyKind::Text,
            (0, 1) => BodyKind::Json,
            _ => return Err(Invalid("record has two bodies")),
        });
    }
    let n = |kind: BodyKind| body.kind.iter().filter(|&&other| other == kind).count();
    let is_whole = n(BodyKind::Text) == body.text_rows.len() && n(BodyKind::Json) == body.json_rows.len();
    if is_whole { Ok(()) } else { Err(Invalid("column has another number of values")) }
}
