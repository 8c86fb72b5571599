//! File → columns.

use model::logs::BodyKind;
use model::{LogColumns, SpanId, TraceId};

use super::{ChunkTable, LEAVES, Parts, column};
use crate::block::columns::{narrow, read_attributes, read_nullable, read_optional_ids};
use crate::block::parquet::Invalid;
use crate::block::parquet::read::{Pages, Repetition};

/// The records of a whole file with these chunks.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(table: &ChunkTable, parts: &Parts) -> Result<LogColumns, Invalid> {
    if table.chunks.len() != column::COUNT {
        return Err(Invalid("file has another number of columns"));
    }
    let read = |column: usize| -> Result<Pages, Invalid> {
        let leaf = &LEAVES[column];
        let chunk = table.open(parts, column)?;
        // Typed values of attributes repeat as their keys do.
        let repetition =
            if column::ATTRIBUTE_VALUES.contains(&column) { Repetition::Skip } else { Repetition::Read };
        chunk.pages(leaf.max_repetition, leaf.max_definition, repetition)
    };
    let mut columns = LogColumns {
        time_ns: known_times(&read(column::TIME)?)?,
        observed_time_ns: known_times(&read(column::OBSERVED_TIME)?)?,
        severity_number: read(column::SEVERITY_NUMBER)?.i32s()?,
        severity_text: read_nullable(&read(column::SEVERITY_TEXT)?, 1)?,
        event_name: read_nullable(&read(column::EVENT_NAME)?, 1)?,
        trace_id: read_optional_ids(&read(column::TRACE_ID)?)?.into_iter().map(TraceId).collect(),
        span_id: read_optional_ids(&read(column::SPAN_ID)?)?.into_iter().map(SpanId).collect(),
        flags: narrow(&read(column::FLAGS)?)?,
        dropped_attributes_count: narrow(&read(column::DROPPED_ATTRIBUTES)?)?,
        ..LogColumns::default()
    };
    read_bodies(&mut columns, &read(column::BODY)?, &read(column::BODY_JSON)?)?;
    let origins = &mut columns.origins;
    (origins.service.dictionary, origins.service.rows) = read(column::SERVICE_NAME)?.strings()?;
    let texts = [
        (column::SCOPE_NAME, &mut origins.scope_name),
        (column::SCOPE_VERSION, &mut origins.scope_version),
        (column::RESOURCE_ATTRIBUTES, &mut origins.resource),
        (column::RESOURCE_META, &mut origins.resource_meta),
        (column::SCOPE_META, &mut origins.scope_meta),
    ];
    for (column, text) in texts {
        *text = read_nullable(&read(column)?, 1)?;
    }
    let n_rows = columns.time_ns.len();
    read_attributes(
        &mut columns.attributes,
        &|column| read(column).map(Some),
        column::ATTRIBUTE_KEY,
        n_rows,
    )?;
    let origins = &columns.origins;
    let lengths = [
        columns.observed_time_ns.len(),
        columns.severity_number.len(),
        columns.severity_text.len(),
        columns.event_name.len(),
        columns.body.kind.len(),
        columns.trace_id.len(),
        columns.span_id.len(),
        columns.flags.len(),
        columns.dropped_attributes_count.len(),
        origins.service.len(),
        origins.scope_name.len(),
        origins.scope_version.len(),
        origins.resource.len(),
        origins.resource_meta.len(),
        origins.scope_meta.len(),
    ];
    if lengths.iter().all(|&len| len == n_rows) {
        Ok(columns)
    } else {
        Err(Invalid("columns differ in length"))
    }
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
