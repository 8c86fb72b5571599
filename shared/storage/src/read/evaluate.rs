//! Tests of spans, over columns; pure.
//!
//! A text is looked up in a column's dictionary once, and rows are compared by position. What lies in JSON (resources,
//! events) is tested once per distinct text, and only parsed where the text has the key at all.

use model::attribute::{self, AnyValue};
use model::dictionary::Dictionary;
use model::search::Condition;
use model::spans::{Value, ValueKind};
use model::{SpanColumns, TimeRange};

use crate::block::parquet::Invalid;
use crate::block::spans::{Projection, column};

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
    conditions.iter().any(asks_attributes).then_some(
        const {
            Projection::of(&[
                column::RESOURCE_ATTRIBUTES,
                column::ATTRIBUTE_KEY,
                column::ATTRIBUTE_STRING,
                column::ATTRIBUTE_INT,
                column::ATTRIBUTE_DOUBLE,
                column::ATTRIBUTE_BOOL,
                column::ATTRIBUTE_JSON,
                column::EVENT_ATTRIBUTES,
            ])
        },
    )
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

/// Drops the rows that do not meet a condition that needs no attributes; conditions that do are passed over.
pub(super) fn retain_narrow(
    columns: &SpanColumns,
    conditions: &[Condition],
    rows: &mut Vec<u32>,
) -> Result<(), Invalid> {
    for condition in conditions.iter().filter(|condition| !asks_attributes(condition)) {
        retain(columns, condition, rows)?;
    }
    Ok(())
}

/// Drops the rows that do not meet a condition that needs attributes; all others are passed over.
pub(super) fn retain_wide(
    columns: &SpanColumns,
    conditions: &[Condition],
    rows: &mut Vec<u32>,
) -> Result<(), Invalid> {
    for condition in conditions.iter().filter(|condition| asks_attributes(condition)) {
        retain(columns, condition, rows)?;
    }
    Ok(())
}

fn retain(columns: &SpanColumns, condition: &Condition, rows: &mut Vec<u32>) -> Result<(), Invalid> {
    let text = |column: &model::dictionary::DictColumn, text: &str, rows: &mut Vec<u32>| match column
        .dictionary
        .find(text)
    {
        Some(position) => rows.retain(|&row| column.rows[row as usize] == position),
        None => rows.clear(),
    };
    match condition {
        Condition::Service(service) => text(&columns.service, service, rows),
        Condition::Name(name) => text(&columns.name, name, rows),
        Condition::StatusMessage(message) => text(&columns.status_message, message, rows),
        Condition::ScopeName(name) => text(&columns.scope_name, name, rows),
        Condition::ScopeVersion(version) => text(&columns.scope_version, version, rows),
        Condition::TraceState(state) => text(&columns.trace_state, state, rows),
        Condition::Kind(kind) => rows.retain(|&row| columns.kind[row as usize] == *kind),
        Condition::Status(code) => rows.retain(|&row| columns.status_code[row as usize] == *code),
        Condition::DurationAtLeast(least) => rows.retain(|&row| columns.duration_ns[row as usize] >= *least),
        Condition::DurationAtMost(most) => rows.retain(|&row| columns.duration_ns[row as usize] <= *most),
        Condition::Attribute { key, value } => retain_attribute(columns, key, value, rows)?,
        Condition::Any(any) => {
            let mut kept: Vec<u32> = Vec::new();
            for condition in any {
                let mut meeting = rows.clone();
                retain(columns, condition, &mut meeting)?;
                kept.append(&mut meeting);
            }
            kept.sort_unstable();
            kept.dedup();
            *rows = kept;
        }
    }
    Ok(())
}

fn retain_attribute(
    columns: &SpanColumns,
    key: &str,
    value: &str,
    rows: &mut Vec<u32>,
) -> Result<(), Invalid> {
    if rows.is_empty() {
        return Ok(());
    }
    let of_span = SpanAttribute::new(columns, key, value);
    let of_resource = matching_texts(&columns.resource.dictionary, key, value)?;
    let of_event = matching_texts(&columns.events.attributes.dictionary, key, value)?;
    let any_event = of_event.contains(&true);
    rows.retain(|&row| {
        let row = row as usize;
        of_resource[columns.resource.rows[row] as usize]
            || of_span.as_ref().is_some_and(|test| test.holds(columns, row))
            || any_event
                && columns
                    .events
                    .entries(row)
                    .any(|entry| of_event[columns.events.attributes.rows[entry] as usize])
    });
    Ok(())
}

/// A key and a value, as positions in the columns of attributes.
struct SpanAttribute<'a> {
    key: u32,
    string: Option<u32>,
    text: &'a str,
}

impl<'a> SpanAttribute<'a> {
    /// `None` if no attribute has the key.
    fn new(columns: &SpanColumns, key: &str, text: &'a str) -> Option<Self> {
        let key = columns.attributes.key.dictionary.find(key)?;
        Some(Self { key, string: columns.attributes.string.dictionary.find(text), text })
    }

    fn holds(&self, columns: &SpanColumns, row: usize) -> bool {
        let attributes = &columns.attributes;
        attributes.entries(row).any(|entry| {
            attributes.key.rows[entry] == self.key
                && match attributes.kind[entry] {
                    ValueKind::String => {
                        Some(attributes.string.rows[attributes.slot[entry] as usize]) == self.string
                    }
                    _ => Condition::text_matches(attributes.value(entry), self.text),
                }
        })
    }
}

/// Per distinct JSON text, whether it has the key with this value.
fn matching_texts(texts: &Dictionary, key: &str, value: &str) -> Result<Vec<bool>, Invalid> {
    let mut wanted = String::new();
    attribute::write_key(&mut wanted, key);
    texts.iter().map(|text| Ok(text.contains(&wanted) && json_has(text, key, value)?)).collect()
}

fn json_has(text: &str, key: &str, value: &str) -> Result<bool, Invalid> {
    let entries = attribute::parse_map(text).map_err(|_| Invalid("attributes are not their JSON"))?;
    Ok(entries.iter().any(|(other, found)| other == key && any_value_matches(found, value)))
}

fn any_value_matches(found: &AnyValue, value: &str) -> bool {
    let borrowed = match found {
        AnyValue::Empty => Value::Empty,
        AnyValue::String(text) => Value::String(text),
        AnyValue::Bool(truth) => Value::Bool(*truth),
        AnyValue::Int(number) => Value::Int(*number),
        AnyValue::Double(number) => Value::Double(*number),
        nested => {
            let mut json = String::new();
            attribute::write_value(&mut json, nested);
            return Condition::text_matches(Value::Json(&json), value);
        }
    };
    Condition::text_matches(borrowed, value)
}
