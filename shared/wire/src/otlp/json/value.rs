//! Attributes and their values in OTLP/JSON.
//!
//! A value that is not nested stays a [`Leaf`]; bytes, arrays and maps are written at once as the JSON of
//! [`model::attribute`], into a text that the caller lends. The key of an entry may follow its value, so the key is
//! inserted in front when the entry is complete.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::attribute::{write_bytes, write_double, write_int, write_key, write_string};
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess};

use super::scalar::{Fields, Items, List, Object, Scalar, Text, ignore, text};
use crate::otlp::batch::{Batch, Fault, JsonMap, Rows};

const BASE64_CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, BASE64_CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, BASE64_CONFIG);

/// The attributes of a row.
pub(super) struct RowAttributes<'b, 'l, C> {
    pub(super) batch: &'b mut Batch<'l, C>,
}

impl<'de, C: Rows> Items<'de> for RowAttributes<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut scratch = std::mem::take(&mut self.batch.scratch);
        scratch.clear();
        let mut item = KeyValue::new(self.batch, &mut scratch.text, 1);
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let KeyValue { key, value, .. } = item;
        let key = key.as_bytes();
        match value {
            Leaf::Empty => self.batch.empty_attribute(key),
            Leaf::String(text) => self.batch.string_attribute(key, text.as_bytes()),
            Leaf::Bool(truth) => self.batch.bool_attribute(key, truth),
            Leaf::Int(number) => self.batch.int_attribute(key, number),
            Leaf::Double(number) => self.batch.double_attribute(key, number),
            Leaf::Written => self.batch.json_attribute(key, &scratch.text),
        }
        self.batch.scratch = scratch;
        Ok(true)
    }
}

/// The attributes of anything but a row, as JSON.
pub(super) struct MapEntries<'b, 'l, C> {
    pub(super) batch: &'b mut Batch<'l, C>,
    pub(super) map: &'b mut JsonMap,
    /// Where the first `service.name` that is a string goes.
    pub(super) service: Option<&'b mut Option<String>>,
}

impl<'de, C: Rows> Items<'de> for MapEntries<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        if !self.batch.may_grow(&self.map.text) {
            return Ok(list.next_element::<IgnoredAny>()?.is_some());
        }
        let start = self.map.text.len();
        let mut item = KeyValue::new(self.batch, &mut self.map.text, 1);
        if list.next_element_seed(Object(&mut item))?.is_none() {
            return Ok(false);
        }
        let KeyValue { key, value, .. } = item;
        if let (Some(service @ None), "service.name", Leaf::String(text)) = (&mut self.service, &*key, &value)
        {
            **service = Some(self.batch.text(text.as_bytes(), "service name").to_owned());
        }
        if self.map.admit(self.batch) {
            let separator = if start == 0 { "{" } else { "," };
            write_entry(self.batch, &mut self.map.text, start, separator, &key, &value);
        } else {
            self.map.text.truncate(start);
        }
        Ok(true)
    }
}

/// Writes an entry of a map at `start`, where the value already is if it is nested.
fn write_entry<C: Rows>(
    batch: &mut Batch<'_, C>,
    json: &mut String,
    start: usize,
    separator: &str,
    key: &str,
    value: &Leaf<'_>,
) {
    let mut front = separator.to_owned();
    write_key(&mut front, batch.text(key.as_bytes(), "attribute key"));
    json.insert_str(start, &front);
    write_leaf(batch, json, start + front.len(), value);
}

/// Writes a value at `start`, where it already is if it is nested.
pub(super) fn write_leaf<C: Rows>(
    batch: &mut Batch<'_, C>,
    json: &mut String,
    start: usize,
    value: &Leaf<'_>,
) {
    if !matches!(value, Leaf::Written) {
        json.truncate(start);
    }
    match value {
        Leaf::Empty => json.push_str("null"),
        Leaf::String(text) => write_string(json, batch.text(text.as_bytes(), "attribute value")),
        Leaf::Bool(truth) => json.push_str(if *truth { "true" } else { "false" }),
        Leaf::Int(number) => write_int(json, *number),
        Leaf::Double(number) => write_double(json, *number),
        Leaf::Written => {}
    }
}

/// A value that is not nested, or the note that its JSON is written already.
pub(super) enum Leaf<'de> {
    Empty,
    String(Cow<'de, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// Bytes, an array or a map.
    Written,
}

pub(super) struct KeyValue<'b, 'l, 'de, C> {
    batch: &'b mut Batch<'l, C>,
    json: &'b mut String,
    /// Where the JSON of a nested value starts.
    start: usize,
    depth: usize,
    pub(super) key: Cow<'de, str>,
    pub(super) value: Leaf<'de>,
}

impl<'b, 'l, C: Rows> KeyValue<'b, 'l, '_, C> {
    pub(super) fn new(batch: &'b mut Batch<'l, C>, json: &'b mut String, depth: usize) -> Self {
        let start = json.len();
        Self { batch, json, start, depth, key: Cow::default(), value: Leaf::Empty }
    }
}

impl<'de, C: Rows> Fields<'de> for KeyValue<'_, '_, 'de, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "key" => self.key = text(map)?,
            "value" => {
                self.json.truncate(self.start);
                let mut value = Value {
                    batch: self.batch,
                    json: self.json,
                    start: self.start,
                    depth: self.depth,
                    leaf: Leaf::Empty,
                };
                map.next_value_seed(Object(&mut value))?;
                self.value = value.leaf;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

/// An `AnyValue`.
pub(super) struct Value<'b, 'l, 'de, C> {
    batch: &'b mut Batch<'l, C>,
    json: &'b mut String,
    /// Where the JSON of a nested value starts.
    start: usize,
    depth: usize,
    pub(super) leaf: Leaf<'de>,
}

impl<'b, 'l, C: Rows> Value<'b, 'l, '_, C> {
    /// A value that is not part of another; `json` is empty.
    pub(super) fn new(batch: &'b mut Batch<'l, C>, json: &'b mut String) -> Self {
        Self { batch, json, start: 0, depth: 1, leaf: Leaf::Empty }
    }
}

impl<'de, C: Rows> Fields<'de> for Value<'_, '_, 'de, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let leaf = match name {
            "stringValue" => map.next_value_seed(Text)?.map(Leaf::String),
            "boolValue" => match Scalar::of(map)? {
                Scalar::Bool(truth) => Some(Leaf::Bool(truth)),
                Scalar::Null => None,
                _ => return Err(A::Error::custom("expected true or false")),
            },
            "intValue" => match Scalar::of(map)? {
                Scalar::Null => None,
                scalar => {
                    let number = scalar.integer().and_then(|number| i64::try_from(number).ok());
                    Some(Leaf::Int(number.unwrap_or_else(|| self.not_a_number())))
                }
            },
            "doubleValue" => match Scalar::of(map)? {
                Scalar::Null => None,
                scalar => Some(Leaf::Double(scalar.double().unwrap_or_else(|| self.not_a_number()))),
            },
            "bytesValue" => match map.next_value_seed(Text)? {
                None => None,
                Some(text) => {
                    self.write_base64(&text);
                    Some(Leaf::Written)
                }
            },
            "arrayValue" => self.nested(map, Nesting::Array)?,
            "kvlistValue" => self.nested(map, Nesting::Map)?,
            _ => return ignore(map),
        };
        // A kind that is null is not set.
        if let Some(leaf) = leaf {
            self.leaf = leaf;
        }
        Ok(())
    }
}

impl<'de, C: Rows> Value<'_, '_, 'de, C> {
    fn not_a_number<N: Default>(&mut self) -> N {
        self.batch.fail(Fault::NotNumber("attribute value"));
        N::default()
    }

    fn write_base64(&mut self, text: &str) {
        self.json.truncate(self.start);
        let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
        let max_bytes = self.batch.limits.max_string_bytes;
        match engine.decode(text) {
            Ok(bytes) if bytes.len() <= max_bytes => write_bytes(self.json, &bytes),
            Ok(_) => self.batch.fail(Fault::TooLong { what: "attribute value", max_bytes }),
            Err(_) => self.batch.fail(Fault::NotBase64("attribute value")),
        }
    }

    fn nested<A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        nesting: Nesting,
    ) -> Result<Option<Leaf<'de>>, A::Error> {
        let (open, close) = match nesting {
            Nesting::Array => ('[', ']'),
            Nesting::Map => ('{', '}'),
        };
        let length = self.json.len();
        self.json.push(open);
        let start = self.json.len();
        let mut values =
            NestedValues { batch: self.batch, json: self.json, start, depth: self.depth + 1, nesting };
        if !map.next_value_seed(Object(&mut values))? {
            self.json.truncate(length);
            return Ok(None);
        }
        self.json.push(close);
        // Another nested value of the same attribute, which this one replaces.
        self.json.replace_range(self.start..length, "");
        Ok(Some(Leaf::Written))
    }
}

#[derive(Clone, Copy)]
enum Nesting {
    Array,
    Map,
}

/// An `ArrayValue` or a `KeyValueList`.
struct NestedValues<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
    json: &'b mut String,
    /// Behind the bracket.
    start: usize,
    /// Of the values in it.
    depth: usize,
    nesting: Nesting,
}

impl<'de, C: Rows> Fields<'de> for NestedValues<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "values" => map.next_value_seed(List(self)),
            _ => ignore(map),
        }
    }
}

impl<'de, C: Rows> Items<'de> for NestedValues<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let is_too_deep = self.depth > self.batch.limits.max_depth;
        if is_too_deep || !self.batch.may_grow(self.json) {
            let found = list.next_element::<IgnoredAny>()?.is_some();
            if found && is_too_deep {
                self.batch.fail(Fault::TooDeep { max: self.batch.limits.max_depth });
            }
            return Ok(found);
        }
        let start = self.json.len();
        let is_first = start == self.start;
        match self.nesting {
            Nesting::Array => {
                if !is_first {
                    self.json.push(',');
                }
                let value_start = self.json.len();
                let mut item = Value {
                    batch: self.batch,
                    json: self.json,
                    start: value_start,
                    depth: self.depth,
                    leaf: Leaf::Empty,
                };
                if list.next_element_seed(Object(&mut item))?.is_none() {
                    self.json.truncate(start);
                    return Ok(false);
                }
                let leaf = item.leaf;
                write_leaf(self.batch, self.json, value_start, &leaf);
            }
            Nesting::Map => {
                let mut item = KeyValue::new(self.batch, self.json, self.depth);
                if list.next_element_seed(Object(&mut item))?.is_none() {
                    return Ok(false);
                }
                let KeyValue { key, value, .. } = item;
                let separator = if is_first { "" } else { "," };
                write_entry(self.batch, self.json, start, separator, &key, &value);
            }
        }
        Ok(true)
    }
}
