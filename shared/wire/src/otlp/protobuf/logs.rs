//! Log records in protobuf.

use model::LogColumns;

use super::Row;
use super::value::{Raw, any_value, attribute, write_value};
use crate::otlp::batch::{Batch, BodyIn, LogIn};
use crate::protobuf::{Broken, END, Reader, fixed32, fixed64, length, varint};

impl Row for LogColumns {
    fn read(batch: &mut Batch<'_, Self>, message: Reader<'_>) -> Result<(), Broken> {
        record(batch, message)
    }
}

fn record(batch: &mut Batch<'_, LogColumns>, mut message: Reader<'_>) -> Result<(), Broken> {
    const TIME: u32 = fixed64(1);
    const SEVERITY_NUMBER: u32 = varint(2);
    const SEVERITY_TEXT: u32 = length(3);
    const BODY: u32 = length(5);
    const ATTRIBUTES: u32 = length(6);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(7);
    const FLAGS: u32 = fixed32(8);
    const TRACE_ID: u32 = length(9);
    const SPAN_ID: u32 = length(10);
    const OBSERVED_TIME: u32 = fixed64(11);
    const EVENT_NAME: u32 = length(12);
    let mut record = LogIn::default();
    let mut body = None;
    loop {
        match message.tag()? {
            END => break,
            ATTRIBUTES => attribute(batch, message.message()?)?,
            TIME => record.time_ns = message.fixed64()?,
            OBSERVED_TIME => record.observed_time_ns = message.fixed64()?,
            SEVERITY_NUMBER => record.severity_number = message.varint()? as i32,
            SEVERITY_TEXT => record.severity_text = message.bytes()?,
            BODY => any_value(message.message()?, body.get_or_insert(Raw::Empty))?,
            TRACE_ID => record.trace_id = message.bytes()?,
            SPAN_ID => record.span_id = message.bytes()?,
            FLAGS => record.flags = message.fixed32()?,
            DROPPED_ATTRIBUTES_COUNT => record.dropped_attributes_count = message.varint()? as u32,
            EVENT_NAME => record.event_name = message.bytes()?,
            tag => message.skip(tag)?,
        }
    }
    match body {
        None => batch.close_record(&record),
        Some(Raw::String(text)) => batch.close_record(&LogIn { body: BodyIn::Text(text), ..record }),
        Some(value) => {
            let mut scratch = std::mem::take(&mut batch.scratch);
            scratch.clear();
            write_value(batch, &mut scratch.text, value, 1)?;
            batch.close_record(&LogIn { body: BodyIn::Json(&scratch.text), ..record });
            batch.scratch = scratch;
        }
    }
    Ok(())
}
