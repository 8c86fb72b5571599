//! Which spans and log records have what is asked for.

use model::attribute::AnyValue;
use model::columns::{AttributeColumns, ScopeMeta};
use model::dictionary::DictColumn;
use model::search::Condition;
use model::{LogColumns, SpanColumns};

use super::retention::severity;
use crate::block::parquet::Invalid;
use crate::block::spans::search::any_value_matches;
use crate::block::spans::{ATTRIBUTES, Projection, column};
use crate::index::ErasureTarget;
use crate::read::matching_texts;

impl ErasureTarget {
    /// The columns of spans that tell whether a span matches.
    pub(super) fn span_columns(&self) -> Projection {
        match self {
            Self::Trace(_) => const { Projection::of(&[column::TRACE_ID]) },
            Self::Service(_) => const { Projection::of(&[column::SERVICE_NAME]) },
            Self::Attribute { .. } => {
                const {
                    ATTRIBUTES.and(Projection::of(&[
                        column::SCOPE_META,
                        column::EVENT_ATTRIBUTES,
                        column::LINK_TRACE_ID,
                        column::LINK_ATTRIBUTES,
                    ]))
                }
            }
        }
    }

    /// By row whether a span matches: an attribute counts on the span, its resource, its scope, its events and its links.
    ///
    /// # Errors
    /// Attributes are not their JSON.
    pub(super) fn spans(&self, columns: &SpanColumns) -> Result<Vec<bool>, Invalid> {
        let rows = 0..columns.len();
        let (key, value) = match self {
            Self::Trace(id) => return Ok(columns.trace_id.iter().map(|other| other == id).collect()),
            Self::Service(service) => return Ok(rows_with_text(&columns.origins.service, service)),
            Self::Attribute { key, value } => (key, value),
        };
        let of_events = matching_texts(&columns.events.attributes.dictionary, key, value)?;
        let of_links = matching_texts(&columns.links.attributes.dictionary, key, value)?;
        let is_in = |matching: &[bool], column: &DictColumn, entry: usize| {
            column.rows.get(entry).is_some_and(|&position| matching[position as usize])
        };
        let mut matches = rows_with_attribute(&columns.attributes, rows.len(), key, value);
        let resources = rows_with_json(&columns.origins.resource, key, value)?;
        let scopes = rows_with_scope(&columns.origins.scope_meta, key, value)?;
        for row in rows {
            matches[row] |= resources[row]
                || scopes[row]
                || columns
                    .events
                    .entries(row)
                    .any(|entry| is_in(&of_events, &columns.events.attributes, entry))
                || columns.links.entries(row).any(|entry| is_in(&of_links, &columns.links.attributes, entry));
        }
        Ok(matches)
    }

    /// By row whether a log record matches: an attribute counts on the record, its resource and its scope.
    ///
    /// # Errors
    /// Attributes are not their JSON.
    pub(super) fn logs(&self, columns: &LogColumns) -> Result<Vec<bool>, Invalid> {
        let (key, value) = match self {
            Self::Trace(id) => return Ok(columns.trace_id.iter().map(|other| other == id).collect()),
            Self::Service(service) => return Ok(rows_with_text(&columns.origins.service, service)),
            Self::Attribute { key, value } => (key, value),
        };
        let mut matches = rows_with_attribute(&columns.attributes, columns.len(), key, value);
        let resources = rows_with_json(&columns.origins.resource, key, value)?;
        let scopes = rows_with_scope(&columns.origins.scope_meta, key, value)?;
        for (row, matches) in matches.iter_mut().enumerate() {
            *matches |= resources[row] || scopes[row];
        }
        Ok(matches)
    }

    /// Whether a label says what is asked for. Names of attributes are those that metrics are translated to; a service is
    /// in `job`, behind its namespace if it has one, or in `service_name`.
    pub(super) fn label(&self, name: &str, value: &str) -> bool {
        match self {
            Self::Trace(_) => false,
            Self::Attribute { key, value: wanted } => {
                value == wanted && (name == key || name == label_of(key))
            }
            Self::Service(service) => match name {
                "job" => value
                    .strip_suffix(service.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('/')),
                "service_name" | "service.name" => value == service,
                _ => false,
            },
        }
    }

    /// Whether a label of an exemplar says what is asked for.
    pub(super) fn exemplar(&self, name: &str, value: &str) -> bool {
        match self {
            Self::Trace(id) => name == "trace_id" && value.parse() == Ok(*id),
            Self::Attribute { .. } | Self::Service(_) => self.label(name, value),
        }
    }
}

/// By row whether a span meets all conditions; an attribute counts on the span and its resource.
///
/// # Errors
/// Attributes are not their JSON.
pub(super) fn spans_that_meet(columns: &SpanColumns, conditions: &[Condition]) -> Result<Vec<bool>, Invalid> {
    let n_rows = columns.len();
    let mut meets = vec![true; n_rows];
    for condition in conditions {
        let rows = match condition {
            Condition::Service(service) => rows_with_text(&columns.origins.service, service),
            Condition::Name(name) => rows_with_text(&columns.name, name),
            Condition::Status(status) => columns.status_code.iter().map(|code| code == status).collect(),
            Condition::Attribute { key, value } => {
                rows_of_own_or_resource(&columns.attributes, &columns.origins.resource, key, value)?
            }
            _ => vec![false; n_rows],
        };
        meets.iter_mut().zip(rows).for_each(|(meets, row)| *meets &= row);
    }
    Ok(meets)
}

/// By row whether a log record has all of these: its `service`, its `severity`, an attribute of itself or its resource.
///
/// # Errors
/// Attributes are not their JSON.
pub(super) fn logs_that_have(columns: &LogColumns, has: &[(String, String)]) -> Result<Vec<bool>, Invalid> {
    let n_rows = columns.len();
    let mut have = vec![true; n_rows];
    for (key, value) in has {
        let rows = match key.as_str() {
            "service" => rows_with_text(&columns.origins.service, value),
            "severity" => {
                let is_it = |number: &i32| severity(value).is_some_and(|numbers| numbers.contains(number));
                columns.severity_number.iter().map(is_it).collect()
            }
            _ => rows_of_own_or_resource(&columns.attributes, &columns.origins.resource, key, value)?,
        };
        have.iter_mut().zip(rows).for_each(|(have, row)| *have &= row);
    }
    Ok(have)
}

/// The label that an attribute becomes: what no name of Prometheus has is an underscore.
fn label_of(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// By row whether a column has a text. Positions are not compared: a text may have several.
fn rows_with_text(column: &DictColumn, text: &str) -> Vec<bool> {
    let is_it: Vec<bool> = column.dictionary.iter().map(|other| other == text).collect();
    column.rows.iter().map(|&position| is_it[position as usize]).collect()
}

/// By row whether an attribute of the row or of its resource says this.
fn rows_of_own_or_resource(
    attributes: &AttributeColumns,
    resource: &DictColumn,
    key: &str,
    value: &str,
) -> Result<Vec<bool>, Invalid> {
    let mut rows = rows_with_attribute(attributes, resource.len(), key, value);
    let resources = rows_with_json(resource, key, value)?;
    rows.iter_mut().zip(resources).for_each(|(row, resource)| *row |= resource);
    Ok(rows)
}

fn rows_with_json(column: &DictColumn, key: &str, value: &str) -> Result<Vec<bool>, Invalid> {
    let matching = matching_texts(&column.dictionary, key, value)?;
    Ok(column.rows.iter().map(|&position| matching[position as usize]).collect())
}

fn rows_with_scope(column: &DictColumn, key: &str, value: &str) -> Result<Vec<bool>, Invalid> {
    let is_it = |(other, found): &(String, AnyValue)| other == key && any_value_matches(found, value);
    let matches = |text: &str| -> Result<bool, Invalid> {
        if text.is_empty() {
            return Ok(false);
        }
        let meta = ScopeMeta::parse(text).map_err(|_| Invalid("scope is not its JSON"))?;
        Ok(meta.attributes.iter().any(is_it))
    };
    let matching: Vec<bool> = column.dictionary.iter().map(matches).collect::<Result<_, _>>()?;
    Ok(column.rows.iter().map(|&position| matching[position as usize]).collect())
}

fn rows_with_attribute(attributes: &AttributeColumns, n_rows: usize, key: &str, value: &str) -> Vec<bool> {
    let is_key: Vec<bool> = attributes.key.dictionary.iter().map(|other| other == key).collect();
    if !is_key.contains(&true) {
        return vec![false; n_rows];
    }
    let is_it = |entry: usize| {
        is_key[attributes.key.rows[entry] as usize] && Condition::text_matches(attributes.value(entry), value)
    };
    (0..n_rows).map(|row| attributes.entries(row).any(is_it)).collect()
}
