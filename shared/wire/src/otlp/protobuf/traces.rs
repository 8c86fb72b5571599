//! Spans in protobuf.

use model::SpanColumns;

use super::Row;
use super::value::{attribute, key_value, write_entry};
use crate::otlp::batch::{Batch, LinkIn, SpanIn};
use crate::protobuf::{Broken, END, Reader, fixed32, fixed64, length, varint};

impl Row for SpanColumns {
    fn read(batch: &mut Batch<'_, Self>, message: Reader<'_>) -> Result<(), Broken> {
        span(batch, message)
    }
}

fn span(batch: &mut Batch<'_, SpanColumns>, mut message: Reader<'_>) -> Result<(), Broken> {
    const TRACE_ID: u32 = length(1);
    const SPAN_ID: u32 = length(2);
    const TRACE_STATE: u32 = length(3);
    const PARENT_SPAN_ID: u32 = length(4);
    const NAME: u32 = length(5);
    const KIND: u32 = varint(6);
    const START_TIME: u32 = fixed64(7);
    const END_TIME: u32 = fixed64(8);
    const ATTRIBUTES: u32 = length(9);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(10);
    const EVENTS: u32 = length(11);
    const DROPPED_EVENTS_COUNT: u32 = varint(12);
    const LINKS: u32 = length(13);
    const DROPPED_LINKS_COUNT: u32 = varint(14);
    const STATUS: u32 = length(15);
    const FLAGS: u32 = fixed32(16);
    let mut span = SpanIn::default();
    loop {
        match message.tag()? {
            END => break,
            ATTRIBUTES => attribute(batch, message.message()?)?,
            TRACE_ID => span.trace_id = message.bytes()?,
            SPAN_ID => span.span_id = message.bytes()?,
            TRACE_STATE => span.trace_state = message.bytes()?,
            PARENT_SPAN_ID => span.parent_span_id = message.bytes()?,
            NAME => span.name = message.bytes()?,
            KIND => span.kind = message.varint()? as i32,
            START_TIME => span.start_ns = message.fixed64()?,
            END_TIME => span.end_ns = message.fixed64()?,
            DROPPED_ATTRIBUTES_COUNT => span.dropped_attributes_count = message.varint()? as u32,
            EVENTS => event(batch, message.message()?)?,
            DROPPED_EVENTS_COUNT => span.dropped_events_count = message.varint()? as u32,
            LINKS => link(batch, message.message()?)?,
            DROPPED_LINKS_COUNT => span.dropped_links_count = message.varint()? as u32,
            STATUS => status(message.message()?, &mut span)?,
            FLAGS => span.flags = message.fixed32()?,
            tag => message.skip(tag)?,
        }
    }
    batch.close_span(&span);
    Ok(())
}

fn status<'a>(mut message: Reader<'a>, span: &mut SpanIn<'a>) -> Result<(), Broken> {
    const MESSAGE: u32 = length(2);
    const CODE: u32 = varint(3);
    loop {
        match message.tag()? {
            END => return Ok(()),
            MESSAGE => span.status_message = message.bytes()?,
            CODE => span.status_code = message.varint()? as i32,
            tag => message.skip(tag)?,
        }
    }
}

fn event(batch: &mut Batch<'_, SpanColumns>, mut message: Reader<'_>) -> Result<(), Broken> {
    const TIME: u32 = fixed64(1);
    const NAME: u32 = length(2);
    const ATTRIBUTES: u32 = length(3);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(4);
    let (mut time_ns, mut name, mut dropped_attributes_count) = (0, &[][..], 0);
    let mut attributes = std::mem::take(&mut batch.scratch);
    attributes.clear();
    loop {
        match message.tag()? {
            END => break,
            TIME => time_ns = message.fixed64()?,
            NAME => name = message.bytes()?,
            ATTRIBUTES => {
                let (key, value) = key_value(message.message()?)?;
                write_entry(batch, &mut attributes, key, value)?;
            }
            DROPPED_ATTRIBUTES_COUNT => dropped_attributes_count = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
    batch.event(time_ns, name, attributes.close(), dropped_attributes_count);
    batch.scratch = attributes;
    Ok(())
}

fn link(batch: &mut Batch<'_, SpanColumns>, mut message: Reader<'_>) -> Result<(), Broken> {
    const TRACE_ID: u32 = length(1);
    const SPAN_ID: u32 = length(2);
    const TRACE_STATE: u32 = length(3);
    const ATTRIBUTES: u32 = length(4);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(5);
    const FLAGS: u32 = fixed32(6);
    let mut link = LinkIn::default();
    let mut attributes = std::mem::take(&mut batch.scratch);
    attributes.clear();
    loop {
        match message.tag()? {
            END => break,
            TRACE_ID => link.trace_id = message.bytes()?,
            SPAN_ID => link.span_id = message.bytes()?,
            TRACE_STATE => link.trace_state = message.bytes()?,
            ATTRIBUTES => {
                let (key, value) = key_value(message.message()?)?;
                write_entry(batch, &mut attributes, key, value)?;
            }
            DROPPED_ATTRIBUTES_COUNT => link.dropped_attributes_count = message.varint()? as u32,
            FLAGS => link.flags = message.fixed32()?,
            tag => message.skip(tag)?,
        }
    }
    batch.link(&link, attributes.close());
    batch.scratch = attributes;
    Ok(())
}
