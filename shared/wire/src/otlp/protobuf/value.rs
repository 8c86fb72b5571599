//! Attributes and their values in protobuf.
//!
//! A second array or map as the value of one attribute replaces the first.

use model::attribute::{write_bytes, write_double, write_int, write_key, write_string};

use crate::otlp::batch::{Batch, Fault, JsonMap, Rows};
use crate::protobuf::{Broken, END, Reader, fixed64, length, varint};

/// An `AnyValue` that lies in the body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
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

/// An attribute of the open row.
#[inline]
pub(super) fn attribute<C: Rows>(batch: &mut Batch<'_, C>, message: Reader<'_>) -> Result<(), Broken> {
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
fn any_attribute<C: Rows>(batch: &mut Batch<'_, C>, message: Reader<'_>) -> Result<(), Broken> {
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

fn nested_attribute<C: Rows>(batch: &mut Batch<'_, C>, key: &[u8], value: Raw<'_>) -> Result<(), Broken> {
    let mut scratch = std::mem::take(&mut batch.scratch);
    scratch.clear();
    write_value(batch, &mut scratch.text, value, 1)?;
    batch.json_attribute(key, &scratch.text);
    batch.scratch = scratch;
    Ok(())
}

/// An attribute's key and value.
pub(super) fn key_value(mut message: Reader<'_>) -> Result<(&[u8], Raw<'_>), Broken> {
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

pub(super) fn any_value<'a>(mut message: Reader<'a>, value: &mut Raw<'a>) -> Result<(), Broken> {
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
pub(super) fn write_entry<C: Rows>(
    batch: &mut Batch<'_, C>,
    map: &mut JsonMap,
    key: &[u8],
    value: Raw<'_>,
) -> Result<(), Broken> {
    if !batch.may_grow(&map.text) || !map.admit(batch) {
        return Ok(());
    }
    map.text.push(if map.text.is_empty() { '{' } else { ',' });
    write_key(&mut map.text, batch.text(key, "attribute key"));
    write_value(batch, &mut map.text, value, 1)
}

/// Appends the JSON of a value; after a fault the text is of no use, only well formed.
pub(super) fn write_value<C: Rows>(
    batch: &mut Batch<'_, C>,
    json: &mut String,
    value: Raw<'_>,
    depth: usize,
) -> Result<(), Broken> {
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
