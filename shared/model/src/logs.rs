//! A batch of log records, one vector per field.
//!
//! A decoder appends a record's attributes, then [`LogColumns::push_record`] closes the row. Nothing of OTLP is lost: a
//! row and its [`Origin`] hold every field of the record, its scope and its resource. Normal forms: an id of zeros is
//! "no trace" or "no span", and an empty text is "not set", except as a body.

use crate::columns::{AttributeColumns, Origin, OriginColumns, last, retain};
use crate::dictionary::{DictColumn, Dictionary};
use crate::ids::{SpanId, TraceId};

/// Log records by column. All vectors that are not lists have one entry per record.
#[derive(Debug, Clone, Default)]
pub struct LogColumns {
    /// When it happened, ns since the epoch, the bits of OTLP's unsigned number; 0 for unknown.
    pub time_ns: Vec<i64>,
    /// When it was collected, as [`LogColumns::time_ns`].
    pub observed_time_ns: Vec<i64>,
    /// Severity by OTLP's numbers: 1 to 4 trace, 5 debug, 9 info, 13 warn, 17 error, 21 to 24 fatal; 0 unset.
    /// Unknown numbers are kept.
    pub severity_number: Vec<i32>,
    /// Severity as the source calls it.
    pub severity_text: DictColumn,
    /// Names the kind of event.
    pub event_name: DictColumn,
    /// The message, or whatever the source sent instead of one.
    pub body: BodyColumn,
    /// The trace, [`TraceId::NONE`] for none.
    pub trace_id: Vec<TraceId>,
    /// The span, [`SpanId::NONE`] for none.
    pub span_id: Vec<SpanId>,
    /// W3C trace flags.
    pub flags: Vec<u32>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: Vec<u32>,
    /// Where the records come from.
    pub origins: OriginColumns,
    /// Attributes of the records.
    pub attributes: AttributeColumns,
}

/// A column of bodies: text, or the JSON of [`attribute`](crate::attribute) for anything else.
#[derive(Debug, Clone, Default)]
pub struct BodyColumn {
    /// What each row has.
    pub kind: Vec<BodyKind>,
    /// The distinct texts.
    pub texts: Dictionary,
    /// For each row with a text its position.
    pub text_rows: Vec<u32>,
    /// The distinct JSON texts.
    pub json: Dictionary,
    /// For each row with JSON its position.
    pub json_rows: Vec<u32>,
}

/// What a row of a [`BodyColumn`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// No body.
    None,
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// A borrowed body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Body<'a> {
    /// No body.
    #[default]
    None,
    /// Text.
    Text(&'a str),
    /// Any other value as the JSON of [`attribute`](crate::attribute).
    Json(&'a str),
}

impl BodyColumn {
    /// Appends a row.
    pub fn push(&mut self, body: Body<'_>) {
        self.kind.push(match body {
            Body::None => BodyKind::None,
            Body::Text(text) => {
                self.text_rows.push(self.texts.intern(text));
                BodyKind::Text
            }
            Body::Json(json) => {
                self.json_rows.push(self.json.intern(json));
                BodyKind::Json
            }
        });
    }

    /// The bodies in the order of the rows.
    pub fn iter(&self) -> impl Iterator<Item = Body<'_>> {
        let (mut texts, mut json) = (self.text_rows.iter(), self.json_rows.iter());
        self.kind.iter().map(move |kind| match kind {
            BodyKind::None => Body::None,
            BodyKind::Text => {
                texts.next().map_or(Body::None, |&position| Body::Text(self.texts.get(position)))
            }
            BodyKind::Json => json.next().map_or(Body::None, |&position| Body::Json(self.json.get(position))),
        })
    }

    fn retain(&mut self, is_kept: &[bool]) {
        let of_kind = |wanted: BodyKind| -> Vec<bool> {
            let rows = self.kind.iter().zip(is_kept).filter(|(kind, _)| **kind == wanted);
            rows.map(|(_, &is_kept)| is_kept).collect()
        };
        retain(&mut self.text_rows, &of_kind(BodyKind::Text));
        retain(&mut self.json_rows, &of_kind(BodyKind::Json));
        retain(&mut self.kind, is_kept);
    }

    fn truncate(&mut self, len: usize) {
        let dropped = &self.kind[len.min(self.kind.len())..];
        let n = |kind: BodyKind| dropped.iter().filter(|&&other| other == kind).count();
        self.text_rows.truncate(self.text_rows.len() - n(BodyKind::Text));
        self.json_rows.truncate(self.json_rows.len() - n(BodyKind::Json));
        self.kind.truncate(len);
    }
}

/// The fields of one record that are not lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of LogColumns")]
pub struct LogFields<'a> {
    pub time_ns: i64,
    pub observed_time_ns: i64,
    pub severity_number: i32,
    pub severity_text: &'a str,
    pub event_name: &'a str,
    pub body: Body<'a>,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub flags: u32,
    pub dropped_attributes_count: u32,
}

impl LogColumns {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.time_ns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.time_ns.is_empty()
    }

    /// Closes a row: the attributes since the last row become its own.
    pub fn push_record(&mut self, record: &LogFields<'_>, origin: Origin) {
        self.time_ns.push(record.time_ns);
        self.observed_time_ns.push(record.observed_time_ns);
        self.severity_number.push(record.severity_number);
        self.severity_text.push(record.severity_text);
        self.event_name.push(record.event_name);
        self.body.push(record.body);
        self.trace_id.push(record.trace_id);
        self.span_id.push(record.span_id);
        self.flags.push(record.flags);
        self.dropped_attributes_count.push(record.dropped_attributes_count);
        self.origins.push(origin);
        self.attributes.close_row();
    }

    /// Keeps the first `len` rows and forgets the others and the open row; dictionaries keep their strings.
    pub fn truncate(&mut self, len: usize) {
        self.time_ns.truncate(len);
        self.observed_time_ns.truncate(len);
        self.severity_number.truncate(len);
        self.severity_text.rows.truncate(len);
        self.event_name.rows.truncate(len);
        self.body.truncate(len);
        self.trace_id.truncate(len);
        self.span_id.truncate(len);
        self.flags.truncate(len);
        self.dropped_attributes_count.truncate(len);
        self.origins.truncate(len);
        self.attributes.ends.truncate(len);
        self.drop_open_row();
    }

    /// Keeps the rows that are told to stay, in order, and forgets the others and the open row; dictionaries keep their
    /// strings. One pass over each column, in place.
    pub fn retain(&mut self, is_kept: &[bool]) {
        retain(&mut self.time_ns, is_kept);
        retain(&mut self.observed_time_ns, is_kept);
        retain(&mut self.severity_number, is_kept);
        retain(&mut self.severity_text.rows, is_kept);
        retain(&mut self.event_name.rows, is_kept);
        self.body.retain(is_kept);
        retain(&mut self.trace_id, is_kept);
        retain(&mut self.span_id, is_kept);
        retain(&mut self.flags, is_kept);
        retain(&mut self.dropped_attributes_count, is_kept);
        self.origins.retain(is_kept);
        self.attributes.retain(is_kept);
    }

    /// Forgets the attributes that were appended since the last row.
    pub fn drop_open_row(&mut self) {
        self.attributes.truncate(last(&self.attributes.ends));
    }

    /// The fields of all records in order.
    pub fn iter(&self) -> impl Iterator<Item = LogFields<'_>> {
        self.body.iter().enumerate().map(|(row, body)| LogFields {
            time_ns: self.time_ns[row],
            observed_time_ns: self.observed_time_ns[row],
            severity_number: self.severity_number[row],
            severity_text: self.severity_text.get(row),
            event_name: self.event_name.get(row),
            body,
            trace_id: self.trace_id[row],
            span_id: self.span_id[row],
            flags: self.flags[row],
            dropped_attributes_count: self.dropped_attributes_count[row],
        })
    }

    /// The first row in which both batches differ, in any field of record, scope or resource; their shorter length if
    /// one goes on behind the other.
    pub fn first_difference(&self, other: &Self) -> Option<usize> {
        let is_same = |row: usize| {
            self.origins.is_same(row, &other.origins, row)
                && self.attributes.is_same(row, &other.attributes, row)
        };
        let differs =
            self.iter().zip(other.iter()).enumerate().find(|(row, (a, b))| a != b || !is_same(*row));
        let shorter = self.len().min(other.len());
        differs.map(|(row, _)| row).or((self.len() != other.len()).then_some(shorter))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::columns::Value;

    #[test]
    fn rows_can_be_truncated_with_their_lists_and_bodies() {
        let mut columns = LogColumns::default();
        let origin = columns.origins.intern_resource("shop", "", "");
        for body in [Body::Text("a"), Body::Json("1"), Body::None, Body::Text("a"), Body::Json("2")] {
            columns.attributes.push("k", Value::Int(1));
            columns.push_record(&LogFields { body, ..LogFields::default() }, origin);
        }
        columns.attributes.push("lost", Value::Int(2));
        columns.truncate(2);
        columns.push_record(&LogFields { body: Body::Text("b"), ..LogFields::default() }, origin);
        let bodies: Vec<_> = columns.iter().map(|record| record.body).collect();
        assert_eq!(bodies, [Body::Text("a"), Body::Json("1"), Body::Text("b")]);
        assert_eq!(columns.attributes.row(1).collect::<Vec<_>>(), [("k", Value::Int(1))]);
        assert_eq!(columns.attributes.row(2).count(), 0);
    }

    #[test]
    fn differences_are_found() {
        let with = |texts: &[&str]| {
            let mut columns = LogColumns::default();
            let origin = columns.origins.intern_resource("shop", "", "");
            for text in texts {
                columns.push_record(&LogFields { body: Body::Text(text), ..LogFields::default() }, origin);
            }
            columns
        };
        assert_eq!(with(&["a", "b"]).first_difference(&with(&["a", "b"])), None);
        assert_eq!(with(&["a", "b"]).first_difference(&with(&["a", "c"])), Some(1));
        assert_eq!(with(&["a", "b"]).first_difference(&with(&["a"])), Some(1));
    }

    /// A record with attributes, as many as `n` says, all told apart by it.
    fn push_numbered(columns: &mut LogColumns, n: u8, extra: Option<&str>) {
        let text = n.to_string();
        let values = [Value::String(&text), Value::Int(n.into()), Value::Json("[1]"), Value::Empty];
        for at in 0..n % 5 {
            columns.attributes.push(&text, values[usize::from((at + n % 4) % 4)]);
        }
        if let Some(extra) = extra {
            columns.attributes.push("extra", Value::String(extra));
        }
        let origin = columns.origins.intern_resource(&text, &text, "");
        let fields = LogFields {
            time_ns: n.into(),
            observed_time_ns: n.into(),
            severity_number: n.into(),
            severity_text: &text,
            event_name: &text,
            body: [Body::None, Body::Text(&text), Body::Json(&text)][usize::from(n % 3)],
            trace_id: TraceId([n; 16]),
            span_id: SpanId([n; 8]),
            flags: n.into(),
            dropped_attributes_count: n.into(),
        };
        columns.push_record(&fields, origin);
    }

    proptest! {
        #[test]
        fn retained_rows_are_intact(is_kept in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..40)) {
            let (mut columns, mut expected) = (LogColumns::default(), LogColumns::default());
            for &(n, is_kept) in &is_kept {
                push_numbered(&mut columns, n, None);
                if is_kept {
                    push_numbered(&mut expected, n, None);
                }
            }
            let is_kept: Vec<bool> = is_kept.into_iter().map(|(_, is_kept)| is_kept).collect();
            columns.retain(&is_kept);
            push_numbered(&mut columns, 41, None);
            push_numbered(&mut expected, 41, None);
            prop_assert_eq!(columns.first_difference(&expected), None);
        }

        #[test]
        fn texts_are_put_where_they_are_told(rows in proptest::collection::vec((any::<u8>(), any::<bool>(), any::<bool>()), 0..20)) {
            let (mut columns, mut expected) = (LogColumns::default(), LogColumns::default());
            let mut texts = Vec::new();
            for &(n, has_one, is_put) in &rows {
                push_numbered(&mut columns, n, has_one.then_some("old"));
                let text = if is_put { Some("new") } else { has_one.then_some("old") };
                push_numbered(&mut expected, n, text);
                texts.push(is_put.then(|| "new".to_owned()));
            }
            columns.attributes.put_texts("extra", &texts);
            prop_assert_eq!(columns.first_difference(&expected), None);
        }
    }
}
