//! Rows of one batch of log records into another.

use super::{AttributeTransfer, OriginTransfer, Positions, each};
use crate::columns::ValueKind;
use crate::dictionary::DictColumn;
use crate::logs::{Body, BodyKind, LogColumns, LogFields};

/// Where the texts of one batch of log records lie in another.
#[derive(Debug, Clone)]
pub struct LogTransfer {
    /// Per row the entry of its body in the column of its kind.
    bodies: Vec<u32>,
    origin: OriginTransfer,
    severity_text: Positions,
    event_name: Positions,
    body_text: Positions,
    body_json: Positions,
    attributes: AttributeTransfer,
}

impl LogTransfer {
    /// Of the rows of this batch, none of which was moved yet.
    pub fn of(columns: &LogColumns) -> Self {
        let (mut n_texts, mut n_json) = (0, 0);
        let next = |kind: &BodyKind| {
            let n = match kind {
                BodyKind::None => return 0,
                BodyKind::Text => &mut n_texts,
                BodyKind::Json => &mut n_json,
            };
            *n += 1;
            *n - 1
        };
        Self {
            bodies: columns.body.kind.iter().map(next).collect(),
            origin: OriginTransfer::default(),
            severity_text: Positions::default(),
            event_name: Positions::default(),
            body_text: Positions::default(),
            body_json: Positions::default(),
            attributes: AttributeTransfer::default(),
        }
    }

    /// The fields of a row of the batch, which are found without a look at the rows before it.
    pub fn fields<'a>(&self, columns: &'a LogColumns, row: usize) -> LogFields<'a> {
        let body = &columns.body;
        let at = self.bodies[row] as usize;
        LogFields {
            time_ns: columns.time_ns[row],
            observed_time_ns: columns.observed_time_ns[row],
            severity_number: columns.severity_number[row],
            severity_text: columns.severity_text.get(row),
            event_name: columns.event_name.get(row),
            body: match body.kind[row] {
                BodyKind::None => Body::None,
                BodyKind::Text => Body::Text(body.texts.get(body.text_rows[at])),
                BodyKind::Json => Body::Json(body.json.get(body.json_rows[at])),
            },
            trace_id: columns.trace_id[row],
            span_id: columns.span_id[row],
            flags: columns.flags[row],
            dropped_attributes_count: columns.dropped_attributes_count[row],
        }
    }

    /// About how many bytes a row of the batch adds to the one that is filled.
    pub fn row_bytes(&self, from: &LogColumns, row: usize, into: &LogColumns) -> usize {
        let (body, at) = (&from.body, self.bodies[row] as usize);
        let body_bytes = match body.kind[row] {
            BodyKind::None => 0,
            BodyKind::Text => self.body_text.new_bytes(&body.texts, body.text_rows[at], &into.body.texts),
            BodyKind::Json => self.body_json.new_bytes(&body.json, body.json_rows[at], &into.body.json),
        };
        let of = |positions: &Positions, from: &DictColumn, entry: usize, into: &DictColumn| {
            positions.new_bytes(&from.dictionary, from.rows[entry], &into.dictionary)
        };
        let resource_bytes = of(&self.origin.resource, &from.origins.resource, row, &into.origins.resource);
        let (attributes, into) = (&from.attributes, &into.attributes);
        let attribute_bytes = attributes.entries(row).map(|entry| {
            let slot = attributes.slot[entry] as usize;
            ENTRY_BYTES
                + match attributes.kind[entry] {
                    ValueKind::String => of(&self.attributes.string, &attributes.string, slot, &into.string),
                    ValueKind::Json => of(&self.attributes.json, &attributes.json, slot, &into.json),
                    _ => 0,
                }
        });
        ROW_BYTES + body_bytes + resource_bytes + attribute_bytes.sum::<usize>()
    }
}

const ROW_BYTES: usize = 120;
const ENTRY_BYTES: usize = 24;

impl LogColumns {
    /// Appends a row of another batch, whose texts `transfer` knows.
    pub fn push_row_of(&mut self, from: &Self, row: usize, transfer: &mut LogTransfer) {
        let rows = &[row as u32];
        self.time_ns.push(from.time_ns[row]);
        self.observed_time_ns.push(from.observed_time_ns[row]);
        self.severity_number.push(from.severity_number[row]);
        transfer.severity_text.extend(&from.severity_text, each(rows), &mut self.severity_text);
        transfer.event_name.extend(&from.event_name, each(rows), &mut self.event_name);
        let (body, to) = (&from.body, &mut self.body);
        let at = transfer.bodies[row] as usize;
        to.kind.push(body.kind[row]);
        match body.kind[row] {
            BodyKind::None => {}
            BodyKind::Text => {
                transfer.body_text.begin(&body.texts, &to.texts);
                let position = transfer.body_text.of(&body.texts, body.text_rows[at], &mut to.texts);
                to.text_rows.push(position);
            }
            BodyKind::Json => {
                transfer.body_json.begin(&body.json, &to.json);
                let position = transfer.body_json.of(&body.json, body.json_rows[at], &mut to.json);
                to.json_rows.push(position);
            }
        }
        self.trace_id.push(from.trace_id[row]);
        self.span_id.push(from.span_id[row]);
        self.flags.push(from.flags[row]);
        self.dropped_attributes_count.push(from.dropped_attributes_count[row]);
        transfer.origin.extend(&from.origins, rows, &mut self.origins);
        transfer.attributes.begin(&from.attributes, &self.attributes);
        let mut next = self.attributes.n_of_kinds();
        transfer.attributes.push_row(&from.attributes, row, &mut self.attributes, &mut next);
    }

    /// When a record happened, or was collected where that is unknown, ns since the epoch.
    pub fn event_time_ns(&self, row: usize) -> i64 {
        if self.time_ns[row] == 0 { self.observed_time_ns[row] } else { self.time_ns[row] }
    }

    /// About how many bytes the batch takes.
    pub fn memory_bytes(&self) -> usize {
        let texts = [
            &self.severity_text.dictionary,
            &self.event_name.dictionary,
            &self.body.texts,
            &self.body.json,
            &self.origins.resource.dictionary,
            &self.origins.resource_meta.dictionary,
            &self.origins.scope_meta.dictionary,
            &self.attributes.string.dictionary,
            &self.attributes.json.dictionary,
        ];
        texts.iter().map(|dictionary| dictionary.text_bytes()).sum::<usize>()
            + self.len() * ROW_BYTES
            + self.attributes.kind.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Value;
    use crate::ids::{SpanId, TraceId};

    fn batch(first: u8) -> LogColumns {
        let mut columns = LogColumns::default();
        for n in first..first + 7 {
            let text = format!("text {}", n % 3);
            let values = [Value::String(&text), Value::Int(n.into()), Value::Json("[1]"), Value::Empty];
            for value in &values[..usize::from(n % 5).min(4)] {
                columns.attributes.push("key", *value);
            }
            let origin = columns.origins.intern_resource(&text, &text, "");
            let origin = columns.origins.intern_scope(origin, "scope", &text, &text);
            let fields = LogFields {
                time_ns: i64::from(n % 2),
                observed_time_ns: 7,
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
        columns
    }

    #[test]
    fn rows_arrive_as_they_were_in_every_batch_that_is_filled() {
        let sources = [batch(0), batch(7)];
        let mut transfers = [LogTransfer::of(&sources[0]), LogTransfer::of(&sources[1])];
        for _ in 0..3 {
            let (mut filled, mut expected) = (LogColumns::default(), LogColumns::default());
            for row in 0..7 {
                for (source, transfer) in sources.iter().zip(&mut transfers) {
                    let n_bytes = filled.memory_bytes() + transfer.row_bytes(source, row, &filled);
                    filled.push_row_of(source, row, transfer);
                    assert!(filled.memory_bytes() <= n_bytes + 30, "row {row}");
                    for (key, value) in source.attributes.row(row) {
                        expected.attributes.push(key, value);
                    }
                    let origins = &source.origins;
                    let origin = expected.origins.intern_resource(
                        origins.service.get(row),
                        origins.resource.get(row),
                        "",
                    );
                    let (name, version, meta) = origins.scope(row);
                    let origin = expected.origins.intern_scope(origin, name, version, meta);
                    expected.push_record(&transfer.fields(source, row), origin);
                }
            }
            assert_eq!(filled.first_difference(&expected), None);
            assert_eq!(filled.severity_text.dictionary.len(), 3);
        }
        assert_eq!((sources[0].event_time_ns(0), sources[0].event_time_ns(1)), (7, 1));
    }
}
