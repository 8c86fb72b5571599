//! Tests of spans, over columns; pure.
//!
//! A text is looked up in a column's dictionary once, and rows are compared by position. What lies in JSON (resources,
//! events) is tested once per distinct text, and only parsed where the text has the key at all.

use model::attribute;
use model::columns::Value;
use model::dictionary::{DictColumn, Dictionary};
use model::search::Condition;
use model::{SpanColumns, TimeRange};

use crate::block::parquet::Invalid;
use crate::block::spans::search::json_has;
use crate::block::spans::{self, ATTRIBUTES, ChunkTable, Parts, Projection, column};

/// The columns that cheap conditions need, and the start.
pub(super) fn narrow_projection(conditions: &[Condition]) -> Projection {
    let mut projection = Projection::of(&[column::START_TIME]);
    for condition in conditions {
        projection = projection.and(match condition {
            Condition::Service(_) => Projection::of(&[column::SERVICE_NAME]),
            Condition::Name(_) => Projection::of(&[column::NAME]),
            Condition::Kind(_) => Projection::of(&[column::KIND]),
            Condition::Status(_) => Projection::of(&[column::STATUS_CODE]),
            Condition::StatusMessage(_) => Projection::of(&[column::STATUS_MESSAGE]),
            Condition::ScopeName(_) => Projection::of(&[column::SCOPE_NAME]),
            Condition::ScopeVersion(_) => Projection::of(&[column::SCOPE_VERSION]),
            Condition::TraceState(_) => Projection::of(&[column::TRACE_STATE]),
            Condition::DurationAtLeast(_) | Condition::DurationAtMost(_) => {
                Projection::of(&[column::DURATION_NS])
            }
            Condition::Attribute { .. } => Projection::of(&[]),
            Condition::Any(any) => narrow_projection(any),
        });
    }
    projection
}

/// The columns that conditions on attributes need, if there are such conditions.
pub(super) fn attribute_projection(conditions: &[Condition]) -> Option<Projection> {
    const COLUMNS: Projection = ATTRIBUTES.and(Projection::of(&[column::EVENT_ATTRIBUTES]));
    conditions.iter().any(asks_attributes).then_some(COLUMNS)
}

/// The conditions that few columns tell.
pub(super) fn cheap(conditions: &[Condition]) -> Vec<Condition> {
    conditions.iter().filter(|condition| !asks_attributes(condition)).cloned().collect()
}

fn asks_attributes(condition: &Condition) -> bool {
    match condition {
        Condition::Attribute { .. } => true,
        Condition::Any(any) => any.iter().any(asks_attributes),
        _ => false,
    }
}

/// The rows that start in `range`.
pub(super) fn rows_in(columns: &SpanColumns, range: TimeRange) -> Vec<u32> {
    (0..columns.len() as u32).filter(|&row| range.contains(columns.start_ns[row as usize])).collect()
}

/// Drops the rows that do not meet all conditions, cheap ones first.
pub(super) fn retain_all(
    file: &File<'_>,
    conditions: &[Condition],
    rows: &mut Vec<u32>,
) -> Result<(), Invalid> {
    let (wide, narrow): (Vec<_>, Vec<_>) =
        conditions.iter().partition(|condition| asks_attributes(condition));
    for condition in narrow.into_iter().chain(wide) {
        if rows.is_empty() {
            break;
        }
        retain(file, condition, rows)?;
    }
    Ok(())
}

/// A file that is looked at.
pub(super) struct File<'a> {
    /// The columns of [`narrow_projection`].
    pub(super) columns: &'a SpanColumns,
    /// Where its chunks are.
    pub(super) table: &'a ChunkTable,
    /// The columns of [`attribute_projection`] too.
    pub(super) parts: &'a Parts,
}

fn retain(file: &File<'_>, condition: &Condition, rows: &mut Vec<u32>) -> Result<(), Invalid> {
    let text = |column: &DictColumn, text: &str, rows: &mut Vec<u32>| match column.dictionary.find(text) {
        Some(position) => rows.retain(|&row| column.rows[row as usize] == position),
        None => rows.clear(),
    };
    let columns = file.columns;
    match condition {
        Condition::Service(service) => text(&columns.origins.service, service, rows),
        Condition::Name(name) => text(&columns.name, name, rows),
        Condition::StatusMessage(message) => text(&columns.status_message, message, rows),
        Condition::ScopeName(name) => text(&columns.origins.scope_name, name, rows),
        Condition::ScopeVersion(version) => text(&columns.origins.scope_version, version, rows),
        Condition::TraceState(state) => text(&columns.trace_state, state, rows),
        Condition::Kind(kind) => rows.retain(|&row| columns.kind[row as usize] == *kind),
        Condition::Status(code) => rows.retain(|&row| columns.status_code[row as usize] == *code),
        Condition::DurationAtLeast(least) => rows.retain(|&row| columns.duration_ns[row as usize] >= *least),
        Condition::DurationAtMost(most) => rows.retain(|&row| columns.duration_ns[row as usize] <= *most),
        Condition::Attribute { key, value } => {
            let meeting = rows_with_attribute(file, key, value)?;
            rows.retain(|row| meeting.binary_search(row).is_ok());
        }
        Condition::Any(any) => {
            let mut kept: Vec<u32> = Vec::new();
            for condition in any {
                let mut meeting = rows.clone();
                retain(file, condition, &mut meeting)?;
                kept.append(&mut meeting);
            }
            kept.sort_unstable();
            kept.dedup();
            *rows = kept;
        }
    }
    Ok(())
}

/// Whether a row of columns that have all that the conditions need meets them all.
pub(super) fn row_meets(
    columns: &SpanColumns,
    row: usize,
    conditions: &[Condition],
) -> Result<bool, Invalid> {
    for condition in conditions {
        if !row_meets_one(columns, row, condition)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn row_meets_one(columns: &SpanColumns, row: usize, condition: &Condition) -> Result<bool, Invalid> {
    Ok(match condition {
        Condition::Service(service) => columns.origins.service.get(row) == service,
        Condition::Name(name) => columns.name.get(row) == name,
        Condition::StatusMessage(message) => columns.status_message.get(row) == message,
        Condition::ScopeName(name) => columns.origins.scope_name.get(row) == name,
        Condition::ScopeVersion(version) => columns.origins.scope_version.get(row) == version,
        Condition::TraceState(state) => columns.trace_state.get(row) == state,
        Condition::Kind(kind) => columns.kind[row] == *kind,
        Condition::Status(code) => columns.status_code[row] == *code,
        Condition::DurationAtLeast(least) => columns.duration_ns[row] >= *least,
        Condition::DurationAtMost(most) => columns.duration_ns[row] <= *most,
        Condition::Attribute { key, value } => {
            let is_it =
                |(other, found): (&str, Value<'_>)| other == key && Condition::text_matches(found, value);
            let mut wanted = String::new();
            attribute::write_key(&mut wanted, key);
            let in_json = |text: &str| Ok(text.contains(&wanted) && json_has(text, key, value)?);
            if columns.attributes.row(row).any(is_it) || in_json(columns.origins.resource.get(row))? {
                return Ok(true);
            }
            for entry in columns.events.entries(row) {
                if in_json(columns.events.attributes.get(entry))? {
                    return Ok(true);
                }
            }
            false
        }
        Condition::Any(any) => {
            for condition in any {
                if row_meets_one(columns, row, condition)? {
                    return Ok(true);
                }
            }
            false
        }
    })
}

/// The rows where the span, its resource or one of its events has the attribute, ascending.
fn rows_with_attribute(file: &File<'_>, key: &str, value: &str) -> Result<Vec<u32>, Invalid> {
    let File { table, parts, .. } = *file;
    let mut rows = spans::rows_with_attribute(table, parts, key, value)?;
    if spans::may_have_key(table, parts, column::RESOURCE_ATTRIBUTES, key)? {
        let columns = spans::decode(table, parts, const { Projection::of(&[column::RESOURCE_ATTRIBUTES]) })?;
        let is_match = matching_texts(&columns.origins.resource.dictionary, key, value)?;
        rows.extend(
            (0..columns.len() as u32)
                .filter(|&row| is_match[columns.origins.resource.rows[row as usize] as usize]),
        );
    }
    if spans::may_have_key(table, parts, column::EVENT_ATTRIBUTES, key)? {
        let columns = spans::decode(table, parts, const { Projection::of(&[column::EVENT_ATTRIBUTES]) })?;
        let events = &columns.events;
        let is_match = matching_texts(&events.attributes.dictionary, key, value)?;
        let of_row = |row: u32| events.entries(row as usize);
        let has_match =
            |row: &u32| of_row(*row).any(|entry| is_match[events.attributes.rows[entry] as usize]);
        rows.extend((0..columns.len() as u32).filter(has_match));
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

/// Per distinct JSON text, whether it has the key with this value.
pub(crate) fn matching_texts(texts: &Dictionary, key: &str, value: &str) -> Result<Vec<bool>, Invalid> {
    let mut wanted = String::new();
    attribute::write_key(&mut wanted, key);
    texts.iter().map(|text| Ok(text.contains(&wanted) && json_has(text, key, value)?)).collect()
}
