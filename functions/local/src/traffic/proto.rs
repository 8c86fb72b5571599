//! The little of protobuf that a trace request needs, written forward into one buffer.
//!
//! Lengths are computed before they are written, so nothing is moved afterwards.
//! Source of the field numbers: opentelemetry-proto `trace.proto`, `common.proto`.

/// Bytes that `value` takes as a varint.
pub(super) fn varint_len(value: u64) -> usize {
    ((63 - (value | 1).leading_zeros() as usize) / 7) + 1
}

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes, text or a finished message. `field` is below 16.
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    header(out, field, value.len());
    out.extend_from_slice(value);
}

/// Tag and length of a field whose `len` bytes the caller appends.
pub(super) fn header(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push(field << 3 | 2);
    varint(out, len as u64);
}

/// Bytes that [`bytes`] takes for a value of `len` bytes.
pub(super) fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

pub(super) fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

pub(super) fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Field 16 of a span: its flags, the one field here whose tag takes two bytes.
pub(super) fn span_flags(out: &mut Vec<u8>, flags: u32) {
    out.extend_from_slice(&[0x85, 0x01]);
    out.extend_from_slice(&flags.to_le_bytes());
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Texts(&'a [&'a str]),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}
impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// One `KeyValue` as `field` of the message around it.
pub(super) fn attribute(out: &mut Vec<u8>, field: u8, key: &str, value: Value<'_>) {
    let value_len = match value {
        Value::Text(text) => field_len(text.len()),
        Value::Bool(_) => 2,
        Value::Int(number) => 1 + varint_len(number as u64),
        Value::Double(_) => 9,
        Value::Texts(texts) => field_len(texts_len(texts)),
    };
    header(out, field, field_len(key.len()) + field_len(value_len));
    bytes(out, 1, key.as_bytes());
    header(out, 2, value_len);
    match value {
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => number(out, 2, u64::from(truth)),
        Value::Int(whole) => number(out, 3, whole as u64),
        Value::Double(double) => fixed64(out, 4, double.to_bits()),
        Value::Texts(texts) => {
            header(out, 5, texts_len(texts));
            for text in texts {
                header(out, 1, field_len(text.len()));
                bytes(out, 1, text.as_bytes());
            }
        }
    }
}

fn texts_len(texts: &[&str]) -> usize {
    texts.iter().map(|text| field_len(field_len(text.len()))).sum()
}
