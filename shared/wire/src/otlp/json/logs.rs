//! Log records in OTLP/JSON.

use std::borrow::Cow;

use model::LogColumns;
use serde::de::{MapAccess, SeqAccess};

use super::Row;
use super::scalar::{Fields, Id, List, Object, enum_number, ignore, number, text};
use super::value::{Leaf, RowAttributes, Value, write_leaf};
use crate::otlp::SEVERITY_NAMES;
use crate::otlp::batch::{Batch, BodyIn, JsonMap, LogIn};

impl Row for LogColumns {
    const RESOURCES: &'static str = "resourceLogs";
    const SCOPES: &'static str = "scopeLogs";
    const ROWS: &'static str = "logRecords";

    fn read<'de, A: SeqAccess<'de>>(batch: &mut Batch<'_, Self>, list: &mut A) -> Result<bool, A::Error> {
        let mut item = Record {
            batch,
            json: JsonMap::default(),
            body: None,
            severity_text: Cow::default(),
            event_name: Cow::default(),
            trace_id: Id::default(),
            span_id: Id::default(),
            others: LogIn::default(),
        };
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let Record { batch, mut json, body, severity_text, event_name, trace_id, span_id, others } = item;
        let body = match &body {
            None => BodyIn::None,
            Some(Leaf::String(text)) => BodyIn::Text(text.as_bytes()),
            Some(leaf) => {
                write_leaf(batch, &mut json.text, 0, leaf);
                BodyIn::Json(&json.text)
            }
        };
        batch.close_record(&LogIn {
            body,
            severity_text: severity_text.as_bytes(),
            event_name: event_name.as_bytes(),
            trace_id: trace_id.as_bytes(),
            span_id: span_id.as_bytes(),
            ..others
        });
        Ok(true)
    }
}

struct Record<'b, 'l, 'de> {
    batch: &'b mut Batch<'l, LogColumns>,
    /// The JSON of a body that is not text.
    json: JsonMap,
    body: Option<Leaf<'de>>,
    severity_text: Cow<'de, str>,
    event_name: Cow<'de, str>,
    trace_id: Id,
    span_id: Id,
    /// What needs no room of its own.
    others: LogIn<'static>,
}

impl<'de> Fields<'de> for Record<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Self { batch, others, .. } = self;
        match name {
            "timeUnixNano" => others.time_ns = number(batch, map, "time")?,
            "observedTimeUnixNano" => others.observed_time_ns = number(batch, map, "observed time")?,
            "severityNumber" => {
                others.severity_number = enum_number(batch, map, &SEVERITY_NAMES, "severity number")?;
            }
            "severityText" => self.severity_text = text(map)?,
            "eventName" => self.event_name = text(map)?,
            "body" => {
                self.json.clear();
                let mut value = Value::new(batch, &mut self.json.text);
                if map.next_value_seed(Object(&mut value))? {
                    self.body = Some(value.leaf);
                }
            }
            "attributes" => map.next_value_seed(List(&mut RowAttributes { batch }))?,
            "droppedAttributesCount" => {
                others.dropped_attributes_count = number(batch, map, "dropped attributes count")?;
            }
            "flags" => others.flags = number(batch, map, "flags")?,
            "traceId" => self.trace_id = Id::or_none::<_, 16>(map)?,
            "spanId" => self.span_id = Id::or_none::<_, 8>(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}
