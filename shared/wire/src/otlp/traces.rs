//! Traces in protobuf, from the wire into columns.
//!
//! No message is built: each function walks one message and hands what it finds to the [`Batch`]; strings stay borrowed
//! from the body until a column takes them. A field that is set twice follows protobuf: the last scalar wins, repeated
//! and nested messages go on where they were, except that a second array or map as the value of one attribute
//! replaces the first.

use model::attribute::{write_bytes, write_double, write_int, write_key, write_string};
use model::spans::EntityRef;

use super::DecodedTraces;
use super::batch::{Batch, Fault, JsonMap, LinkIn, ResourceIn, ScopeIn, SpanIn};
use crate::error::Error;
use crate::limits::Limits;
use crate::protobuf::{Broken, END, Reader, fixed32, fixed64, length, varint};

/// Reads a request; what is invalid in a span, a scope or a resource rejects its spans.
///
/// # Errors
/// The body is not protobuf.
pub(super) fn decode(body: &[u8], limits: &Limits) -> Result<DecodedTraces, Error> {
    let mut batch = Batch::new(limits, body.len());
    request(&mut batch, Reader::new(body)).map_err(|broken| broken.in_body(body))?;
    Ok(batch.finish())
}

fn request(batch: &mut Batch<'_>, mut message: Reader<'_>) -> Result<(), Broken> {
    const RESOURCE_SPANS: u32 = length(1);
    loop {
        match message.tag()? {
            END => return Ok(()),
            RESOURCE_SPANS => resource_spans(batch, message.message()?)?,
            tag => message.skip(tag)?,
        }
    }
}

fn resource_spans(batch: &mut Batch<'_>, mut message: Reader<'_>) -> Result<(), Broken> {
    const RESOURCE: u32 = length(1);
    const SCOPE_SPANS: u32 = length(2);
    const SCHEMA_URL: u32 = length(3);
    let first_row = batch.n_rows();
    let mut resource = ResourceIn::default();
    loop {
        match message.tag()? {
            END => break,
            RESOURCE => read_resource(batch, message.message()?, &mut resource)?,
            SCOPE_SPANS => scope_spans(batch, message.message()?)?,
            SCHEMA_URL => resource.meta.schema_url = owned_text(batch, message.bytes()?, "schema url"),
            tag => message.skip(tag)?,
        }
        // A span takes its fault with it, so one that is left is the resource's.
        resource.fault = resource.fault.or(batch.fault.take());
    }
    batch.close_resource(first_row, resource);
    Ok(())
}

fn read_resource(
    batch: &mut Batch<'_>,
    mut message: Reader<'_>,
    resource: &mut ResourceIn,
) -> Result<(), Broken> {
    const ATTRIBUTES: u32 = length(1);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(2);
    const ENTITY_REFS: u32 = length(3);
    loop {
        match message.tag()? {
            END => return Ok(()),
            ATTRIBUTES => {
                let (key, value) = key_value(message.message()?)?;
                if let (b"service.name", Raw::String(text), None) = (key, value, &resource.service) {
                    resource.service = Some(owned_text(batch, text, "service name"));
                }
                write_entry(batch, &mut resource.attributes, key, value)?;
            }
            DROPPED_ATTRIBUTES_COUNT => resource.meta.dropped_attributes_count = message.varint()? as u32,
            ENTITY_REFS => entity_ref(batch, message.message()?, resource)?,
            tag => message.skip(tag)?,
        }
    }
}

fn entity_ref(
    batch: &mut Batch<'_>,
    mut message: Reader<'_>,
    resource: &mut ResourceIn,
) -> Result<(), Broken> {
    const SCHEMA_URL: u32 = length(1);
    const TYPE: u32 = length(2);
    const ID_KEYS: u32 = length(3);
    const DESCRIPTION_KEYS: u32 = length(4);
    if !batch.count_entity(resource) {
        return Ok(());
    }
    let mut entity = EntityRef::default();
    loop {
        match message.tag()? {
            END => break,
            SCHEMA_URL => entity.schema_url = owned_text(batch, message.bytes()?, "schema url of entity"),
            TYPE => entity.kind = owned_text(batch, message.bytes()?, "type of entity"),
            tag @ (ID_KEYS | DESCRIPTION_KEYS) => {
                let key = owned_text(batch, message.bytes()?, "key of entity");
                if !batch.count_entity(resource) {
                    return Ok(());
                }
                let keys = if tag == ID_KEYS { &mut entity.id_keys } else { &mut entity.description_keys };
                keys.push(key);
            }
            tag => message.skip(tag)?,
        }
    }
    resource.meta.entity_refs.push(entity);
    Ok(())
}

fn scope_spans(batch: &mut Batch<'_>, mut message: Reader<'_>) -> Result<(), Broken> {
    const SCOPE: u32 = length(1);
    const SPANS: u32 = length(2);
    const SCHEMA_URL: u32 = length(3);
    let first_row = batch.n_rows();
    let mut scope = ScopeIn::default();
    loop {
        match message.tag()? {
            END => break,
            SPANS => span(batch, message.message()?)?,
            SCOPE => read_scope(batch, message.message()?, &mut scope)?,
            SCHEMA_URL => scope.schema_url = owned_text(batch, message.bytes()?, "schema url"),
            tag => message.skip(tag)?,
        }
        // A span takes its fault with it, so one that is left is the scope's.
        scope.fault = scope.fault.or(batch.fault.take());
    }
    batch.close_scope(first_row, scope);
    Ok(())
}

fn read_scope(batch: &mut Batch<'_>, mut message: Reader<'_>, scope: &mut ScopeIn) -> Result<(), Broken> {
    const NAME: u32 = length(1);
    const VERSION: u32 = length(2);
    const ATTRIBUTES: u32 = length(3);
    const DROPPED_ATTRIBUTES_COUNT: u32 = varint(4);
    loop {
        match message.tag()? {
            END => return Ok(()),
            NAME => scope.name = owned_text(batch, message.bytes()?, "scope name"),
            VERSION => scope.version = owned_text(batch, message.bytes()?, "scope version"),
            ATTRIBUTES => {
                let (key, value) = key_value(message.message()?)?;
                write_entry(batch, &mut scope.attributes, key, value)?;
            }
            DROPPED_ATTRIBUTES_COUNT => scope.dropped_attributes_count = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
}

fn span(batch: &mut Batch<'_>, mut message: Reader<'_>) -> Result<(), Broken> {
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

fn event(batch: &mut Batch<'_>, mut message: Reader<'_>) -> Result<(), Broken> {
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

fn link(batch: &mut Batch<'_>, mut message: Reader<'_>) -> Result<(), Broken> {
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

/// An `AnyValue` that lies in the body.
#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    Empty,
    String(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    Array(Reader<'a>),
    Map(Reader<'a>),
}

const KEY: u32 = length(1);
const VALUE: u32 = length(2);
const STRING_VALUE: u32 = length(1);
const BOOL_VALUE: u32 = varint(2);
const INT_VALUE: u32 = varint(3);
const DOUBLE_VALUE: u32 = fixed64(4);
const ARRAY_VALUE: u32 = length(5);
const KVLIST_VALUE: u32 = length(6);
const BYTES_VALUE: u32 = length(7);

/// An attribute of the open span.
#[inline]
fn attribute(batch: &mut Batch<'_>, message: Reader<'_>) -> Result<(), Broken> {
    const STRING: u8 = STRING_VALUE as u8;
    const BOOL: u8 = BOOL_VALUE as u8;
    const INT: u8 = INT_VALUE as u8;
    const DOUBLE: u8 = DOUBLE_VALUE as u8;
    // The arms push at once: a value that is returned first goes through memory, which cost a fifth of the time.
    if let Some((key, value)) = short_key_value(message.rest()) {
        match *value {
            [STRING, length, ref text @ ..] if text.len() == usize::from(length) => {
                batch.string_attribute(key, text);
                return Ok(());
            }
            [INT, number @ ..0x80] => {
                batch.int_attribute(key, i64::from(number));
                return Ok(());
            }
            [INT, low @ 0x80..=0xff, high @ ..0x80] => {
                batch.int_attribute(key, i64::from(low & 0x7f) | i64::from(high) << 7);
                return Ok(());
            }
            [BOOL, truth @ ..=1] => {
                batch.bool_attribute(key, truth == 1);
                return Ok(());
            }
            [DOUBLE, ref bits @ ..] if bits.len() == 8 => {
                let bits = bits.try_into().expect("invariant: eight bytes");
                batch.double_attribute(key, f64::from_le_bytes(bits));
                return Ok(());
            }
            _ => {}
        }
    }
    any_attribute(batch, message)
}

/// The key and the bytes of the value of an attribute as nearly all are: first the key, then the value, nothing else,
/// each shorter than 128 bytes. `None` for any other, and for broken ones.
#[inline]
fn short_key_value(message: &[u8]) -> Option<(&[u8], &[u8])> {
    const KEY_TAG: u8 = KEY as u8;
    const VALUE_TAG: u8 = VALUE as u8;
    let [KEY_TAG, key_length @ ..0x80, rest @ ..] = message else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(*key_length))?;
    let [VALUE_TAG, value_length @ ..0x80, value @ ..] = rest else { return None };
    (value.len() == usize::from(*value_length)).then_some((key, value))
}

#[inline(never)]
fn any_attribute(batch: &mut Batch<'_>, message: Reader<'_>) -> Result<(), Broken> {
    let (key, value) = key_value(message)?;
    match value {
        Raw::Empty => batch.empty_attribute(key),
        Raw::String(text) => batch.string_attribute(key, text),
        Raw::Int(number) => batch.int_attribute(key, number),
        Raw::Double(number) => batch.double_attribute(key, number),
        Raw::Bool(truth) => batch.bool_attribute(key, truth),
        Raw::Bytes(_) | Raw::Array(_) | Raw::Map(_) => nested_attribute(batch, key, value)?,
    }
    Ok(())
}

fn nested_attribute(batch: &mut Batch<'_>, key: &[u8], value: Raw<'_>) -> Result<(), Broken> {
    let mut scratch = std::mem::take(&mut batch.scratch);
    scratch.clear();
    write_value(batch, &mut scratch.text, value, 1)?;
    batch.json_attribute(key, &scratch.text);
    batch.scratch = scratch;
    Ok(())
}

/// An attribute's key and value.
fn key_value(mut message: Reader<'_>) -> Result<(&[u8], Raw<'_>), Broken> {
    let mut key = &[][..];
    let mut value = Raw::Empty;
    loop {
        match message.tag()? {
            END => return Ok((key, value)),
            KEY => key = message.bytes()?,
            VALUE => any_value(message.message()?, &mut value)?,
            tag => message.skip(tag)?,
        }
    }
}

fn any_value<'a>(mut message: Reader<'a>, value: &mut Raw<'a>) -> Result<(), Broken> {
    loop {
        match message.tag()? {
            END => return Ok(()),
            STRING_VALUE => *value = Raw::String(message.bytes()?),
            BOOL_VALUE => *value = Raw::Bool(message.varint()? != 0),
            INT_VALUE => *value = Raw::Int(message.varint()? as i64),
            DOUBLE_VALUE => *value = Raw::Double(f64::from_bits(message.fixed64()?)),
            ARRAY_VALUE => *value = Raw::Array(message.message()?),
            KVLIST_VALUE => *value = Raw::Map(message.message()?),
            BYTES_VALUE => *value = Raw::Bytes(message.bytes()?),
            // Also `string_value_strindex`, which counts only in profiles.
            tag => message.skip(tag)?,
        }
    }
}

/// Appends an attribute to a map.
fn write_entry(batch: &mut Batch<'_>, map: &mut JsonMap, key: &[u8], value: Raw<'_>) -> Result<(), Broken> {
    if !batch.may_grow(&map.text) || !map.admit(batch) {
        return Ok(());
    }
    map.text.push(if map.text.is_empty() { '{' } else { ',' });
    write_key(&mut map.text, batch.text(key, "attribute key"));
    write_value(batch, &mut map.text, value, 1)
}

/// Appends the JSON of a value; after a fault the text is of no use, only well formed.
fn write_value(batch: &mut Batch<'_>, json: &mut String, value: Raw<'_>, depth: usize) -> Result<(), Broken> {
    const VALUES: u32 = length(1);
    if depth > batch.limits.max_depth {
        batch.fail(Fault::TooDeep { max: batch.limits.max_depth });
        json.push_str("null");
        return Ok(());
    }
    match value {
        Raw::Empty => json.push_str("null"),
        Raw::String(text) => write_string(json, batch.text(text, "attribute value")),
        Raw::Bool(truth) => json.push_str(if truth { "true" } else { "false" }),
        Raw::Int(number) => write_int(json, number),
        Raw::Double(number) => write_double(json, number),
        Raw::Bytes(bytes) if bytes.len() <= batch.limits.max_string_bytes => write_bytes(json, bytes),
        Raw::Bytes(_) => {
            let max_bytes = batch.limits.max_string_bytes;
            batch.fail(Fault::TooLong { what: "attribute value", max_bytes });
            json.push_str("null");
        }
        Raw::Array(mut values) => {
            json.push('[');
            let mut is_first = true;
            loop {
                match values.tag()? {
                    END => break,
                    VALUES if batch.may_grow(json) => {
                        let mut value = Raw::Empty;
                        any_value(values.message()?, &mut value)?;
                        separate(json, &mut is_first);
                        write_value(batch, json, value, depth + 1)?;
                    }
                    tag => values.skip(tag)?,
                }
            }
            json.push(']');
        }
        Raw::Map(mut entries) => {
            json.push('{');
            let mut is_first = true;
            loop {
                match entries.tag()? {
                    END => break,
                    VALUES if batch.may_grow(json) => {
                        let (key, value) = key_value(entries.message()?)?;
                        separate(json, &mut is_first);
                        write_key(json, batch.text(key, "attribute key"));
                        write_value(batch, json, value, depth + 1)?;
                    }
                    tag => entries.skip(tag)?,
                }
            }
            json.push('}');
        }
    }
    Ok(())
}

fn separate(json: &mut String, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        json.push(',');
    }
}

fn owned_text(batch: &mut Batch<'_>, bytes: &[u8], what: &'static str) -> String {
    batch.text(bytes, what).to_owned()
}
