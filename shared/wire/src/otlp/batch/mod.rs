//! Spans and log records on their way into columns: what protobuf and JSON have in common.
//!
//! A decoder hands over a row's attributes and other lists, then closes the row (`spans`, `logs`); after the rows of a
//! scope it closes the scope, after the scopes the resource. Only then are the positions of scope and resource written into the
//! rows, because either may follow its rows. What makes a row, a scope or a resource invalid is remembered as the
//! [`Fault`] and decoding goes on, so that all else in the request is kept.
//!
//! Most of a request repeats itself, so nothing is hashed that can be guessed: the key that followed the previous key
//! in the last row, and the text that the key had last, are compared first; equal bytes need no UTF-8 check either.

mod logs;
mod spans;

use std::fmt::{self, Write as _};

use model::attribute;
use model::columns::{AttributeColumns, Origin, OriginColumns, ResourceMeta, ScopeMeta, ValueKind};

use crate::limits::Limits;

pub(super) use logs::{BodyIn, LogIn};
pub(super) use spans::{LinkIn, SpanIn};

/// No position yet.
const NONE: u32 = u32::MAX;
/// Reasons that are told to the sender.
const MAX_REASONS: usize = 3;
/// A row with its attributes takes about this many bytes on the wire, an attribute about this many.
const TYPICAL_ROW_BYTES: usize = 512;
const TYPICAL_ATTRIBUTE_BYTES: usize = 48;

/// Why a row cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{what} has {bytes} bytes instead of {expected}")]
    IdLength { what: &'static str, bytes: usize, expected: usize },
    #[error("{what} has {digits} hex digits instead of {expected}")]
    HexLength { what: &'static str, digits: usize, expected: usize },
    #[error("{0} is all zero")]
    IdZero(&'static str),
    #[error("{0} is not hexadecimal")]
    NotHex(&'static str),
    #[error("{0} is not base64")]
    NotBase64(&'static str),
    #[error("{0} is not a number in its range")]
    NotNumber(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("{what} is longer than {max_bytes} bytes")]
    TooLong { what: &'static str, max_bytes: usize },
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("value nested deeper than {max}")]
    TooDeep { max: usize },
}

/// What a fault was found in.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    Resource,
    Scope,
    /// By its id, however long that is.
    Span(&'a [u8]),
    LogRecord,
}

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource => f.write_str("resource"),
            Self::Scope => f.write_str("scope"),
            Self::LogRecord => f.write_str("log record"),
            Self::Span([]) => f.write_str("span without id"),
            Self::Span(id) => {
                f.write_str("span ")?;
                id.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A map of attributes that is written as JSON, entry by entry.
#[derive(Debug, Default)]
pub(super) struct JsonMap {
    /// Without the closing brace until [`JsonMap::close`]; empty for no entries.
    pub(super) text: String,
    n_entries: usize,
}

impl JsonMap {
    /// Counts an entry; false with a fault if there are too many.
    pub(super) fn admit<C: Rows>(&mut self, batch: &mut Batch<'_, C>) -> bool {
        let max = batch.limits.max_attributes_per_span;
        if self.n_entries == max {
            batch.fail(Fault::TooMany { what: "attributes", max });
            return false;
        }
        self.n_entries += 1;
        true
    }

    /// Ends the map and gives its text.
    pub(super) fn close(&mut self) -> &str {
        if !self.text.is_empty() {
            self.text.push('}');
        }
        &self.text
    }

    /// Forgets the entries, keeps the room.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.n_entries = 0;
    }
}

/// A resource while it is read.
#[derive(Debug, Default)]
pub(super) struct ResourceIn {
    pub(super) attributes: JsonMap,
    /// The first `service.name` that is a string.
    pub(super) service: Option<String>,
    pub(super) meta: ResourceMeta,
    /// Entities and their keys.
    pub(super) n_entities: usize,
    pub(super) fault: Option<Fault>,
}

/// A scope while it is read.
#[derive(Debug, Default)]
pub(super) struct ScopeIn {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) attributes: JsonMap,
    pub(super) dropped_attributes_count: u32,
    pub(super) schema_url: String,
    pub(super) fault: Option<Fault>,
}

/// Rows of which a batch is made.
pub(super) trait Rows: Default {
    fn len(&self) -> usize;
    /// Makes room for so many rows.
    fn reserve(&mut self, n_rows: usize);
    /// Keeps the first `len` rows and forgets the others and the open row.
    fn truncate(&mut self, len: usize);
    fn attributes(&mut self) -> &mut AttributeColumns;
    fn origins(&mut self) -> &mut OriginColumns;
}

/// The rows so far.
pub(super) struct Batch<'l, C> {
    pub(super) limits: &'l Limits,
    /// The first fault of what is being read.
    pub(super) fault: Option<Fault>,
    /// Room for the JSON of a map or a value, kept for reuse.
    pub(super) scratch: JsonMap,
    columns: C,
    /// Attributes, events and links of the open row, kept or not.
    n_attributes: usize,
    n_events: usize,
    n_links: usize,
    /// The place in `followers` that knows the next key.
    previous_key: usize,
    /// By position of a key plus one, 0 for the start of a row: the position of the key that came next last time.
    followers: Vec<u32>,
    /// By position of a key: the position of the text that it had last.
    latest: Vec<u32>,
    n_rejected: u64,
    n_reasons: usize,
    error_message: String,
}

impl<'l, C: Rows> Batch<'l, C> {
    /// Nothing yet, with room for what a body of that length typically holds.
    pub(super) fn new(limits: &'l Limits, body_bytes: usize) -> Self {
        let mut columns = C::default();
        columns.reserve(body_bytes / TYPICAL_ROW_BYTES);
        let n_attributes = body_bytes / TYPICAL_ATTRIBUTE_BYTES;
        let attributes = columns.attributes();
        attributes.key.rows.reserve(n_attributes);
        attributes.kind.reserve(n_attributes);
        attributes.slot.reserve(n_attributes);
        Self {
            limits,
            fault: None,
            scratch: JsonMap::default(),
            columns,
            n_attributes: 0,
            n_events: 0,
            n_links: 0,
            previous_key: 0,
            followers: vec![NONE],
            latest: Vec::new(),
            n_rejected: 0,
            n_reasons: 0,
            error_message: String::new(),
        }
    }

    /// How many rows are kept so far.
    pub(super) fn n_rows(&self) -> usize {
        self.columns.len()
    }

    /// Remembers a fault, unless there is one already.
    #[cold]
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The text in `bytes`, empty with a fault if it is too long or not UTF-8.
    pub(super) fn text<'a>(&mut self, bytes: &'a [u8], what: &'static str) -> &'a str {
        if bytes.len() > self.limits.max_string_bytes {
            self.fail(Fault::TooLong { what, max_bytes: self.limits.max_string_bytes });
            return "";
        }
        std::str::from_utf8(bytes).unwrap_or_else(|_| {
            self.fail(Fault::NotUtf8(what));
            ""
        })
    }

    /// Whether JSON text may grow on; if not, that is a fault.
    pub(super) fn may_grow(&mut self, json: &str) -> bool {
        let max_bytes = self.limits.max_json_bytes();
        if json.len() > max_bytes {
            self.fail(Fault::TooLong { what: "json of attributes", max_bytes });
        }
        json.len() <= max_bytes
    }

    /// Appends an attribute without a value to the open row.
    pub(super) fn empty_attribute(&mut self, key: &[u8]) {
        if let Some(key) = self.key(key) {
            self.push_attribute(key, ValueKind::Empty, 0);
        }
    }

    /// Appends a text attribute to the open row.
    #[inline]
    pub(super) fn string_attribute(&mut self, key: &[u8], text: &[u8]) {
        let Some(key) = self.key(key) else { return };
        let Some(position) = self.attribute_text(key, text) else { return };
        let rows = &mut self.columns.attributes().string.rows;
        rows.push(position);
        let slot = rows.len() - 1;
        self.push_attribute(key, ValueKind::String, slot);
    }

    /// Appends a whole number to the open row.
    #[inline]
    pub(super) fn int_attribute(&mut self, key: &[u8], number: i64) {
        let Some(key) = self.key(key) else { return };
        let values = &mut self.columns.attributes().int;
        values.push(number);
        let slot = values.len() - 1;
        self.push_attribute(key, ValueKind::Int, slot);
    }

    /// Appends a floating-point number to the open row.
    pub(super) fn double_attribute(&mut self, key: &[u8], number: f64) {
        let Some(key) = self.key(key) else { return };
        let values = &mut self.columns.attributes().double;
        values.push(number);
        let slot = values.len() - 1;
        self.push_attribute(key, ValueKind::Double, slot);
    }

    /// Appends a truth to the open row.
    pub(super) fn bool_attribute(&mut self, key: &[u8], truth: bool) {
        let Some(key) = self.key(key) else { return };
        let values = &mut self.columns.attributes().bool;
        values.push(truth);
        let slot = values.len() - 1;
        self.push_attribute(key, ValueKind::Bool, slot);
    }

    /// Appends bytes, an array or a map as JSON to the open row.
    pub(super) fn json_attribute(&mut self, key: &[u8], json: &str) {
        let Some(key) = self.key(key) else { return };
        let values = &mut self.columns.attributes().json;
        values.push(json);
        let slot = values.len() - 1;
        self.push_attribute(key, ValueKind::Json, slot);
    }

    #[inline]
    fn push_attribute(&mut self, key: u32, kind: ValueKind, slot: usize) {
        let attributes = self.columns.attributes();
        attributes.key.rows.push(key);
        attributes.kind.push(kind);
        attributes.slot.push(slot as u32);
    }

    /// Counts an attribute of the open row and gives the position of its key; none with a fault if it cannot be kept.
    #[inline]
    fn key(&mut self, key: &[u8]) -> Option<u32> {
        self.n_attributes += 1;
        if self.n_attributes > self.limits.max_attributes_per_span {
            self.fail(Fault::TooMany { what: "attributes", max: self.limits.max_attributes_per_span });
            return None;
        }
        let guess = self.followers[self.previous_key];
        if guess != NONE && self.columns.attributes().key.dictionary.is(guess, key) {
            self.previous_key = guess as usize + 1;
            return Some(guess);
        }
        self.unexpected_key(key)
    }

    fn unexpected_key(&mut self, key: &[u8]) -> Option<u32> {
        let position = self.intern_key(key)?;
        self.followers[self.previous_key] = position;
        self.previous_key = position as usize + 1;
        Some(position)
    }

    fn intern_key(&mut self, key: &[u8]) -> Option<u32> {
        if key.len() > self.limits.max_string_bytes {
            self.fail(Fault::TooLong { what: "attribute key", max_bytes: self.limits.max_string_bytes });
            return None;
        }
        let Ok(position) = self.columns.attributes().key.dictionary.intern_utf8(key) else {
            self.fail(Fault::NotUtf8("attribute key"));
            return None;
        };
        if self.latest.len() <= position as usize {
            self.latest.resize(position as usize + 1, NONE);
            self.followers.resize(position as usize + 2, NONE);
        }
        Some(position)
    }

    /// The position of the text of an attribute with that key.
    #[inline]
    fn attribute_text(&mut self, key: u32, text: &[u8]) -> Option<u32> {
        let guess = self.latest[key as usize];
        if guess != NONE && self.columns.attributes().string.dictionary.is(guess, text) {
            return Some(guess);
        }
        self.unexpected_text(key, text)
    }

    fn unexpected_text(&mut self, key: u32, text: &[u8]) -> Option<u32> {
        if text.len() > self.limits.max_string_bytes {
            self.fail(Fault::TooLong { what: "attribute value", max_bytes: self.limits.max_string_bytes });
            return None;
        }
        let Ok(position) = self.columns.attributes().string.dictionary.intern_utf8(text) else {
            self.fail(Fault::NotUtf8("attribute value"));
            return None;
        };
        self.latest[key as usize] = position;
        Some(position)
    }

    fn optional_id<const N: usize>(&mut self, bytes: &[u8], what: &'static str) -> [u8; N] {
        if bytes.is_empty() {
            return [0; N];
        }
        bytes.try_into().unwrap_or_else(|_| {
            self.fail(Fault::IdLength { what, bytes: bytes.len(), expected: N });
            [0; N]
        })
    }

    fn required_id<const N: usize>(&mut self, bytes: &[u8], what: &'static str) -> [u8; N] {
        let Ok(id) = bytes.try_into() else {
            self.fail(Fault::IdLength { what, bytes: bytes.len(), expected: N });
            return [0; N];
        };
        if id == [0; N] {
            self.fail(Fault::IdZero(what));
        }
        id
    }

    fn reject(&mut self, n_rows: usize, whose: Whose<'_>, fault: Fault) {
        if n_rows == 0 {
            return;
        }
        self.n_rejected += n_rows as u64;
        self.n_reasons += 1;
        if self.n_reasons <= MAX_REASONS {
            let separator = if self.n_reasons == 1 { "" } else { "; " };
            write!(self.error_message, "{separator}{whose}: {fault}")
                .expect("invariant: writing to a string succeeds");
        }
    }

    /// Closes the scope of the rows from `first_row` on: names it in them, or rejects them.
    pub(super) fn close_scope(&mut self, first_row: usize, mut scope: ScopeIn) {
        if let Some(fault) = scope.fault {
            return self.reject_rows(first_row, Whose::Scope, fault);
        }
        if first_row == self.columns.len() {
            return;
        }
        let meta = ScopeMeta {
            attributes: attribute::parse_map(scope.attributes.close())
                .expect("invariant: the writer's text can be read"),
            dropped_attributes_count: scope.dropped_attributes_count,
            schema_url: scope.schema_url,
        };
        let origins = self.columns.origins();
        let origin = origins.intern_scope(Origin::default(), &scope.name, &scope.version, &meta.to_json());
        origins.set_scope(first_row, origin);
    }

    /// Closes the resource of the rows from `first_row` on: names it in them, or rejects them.
    pub(super) fn close_resource(&mut self, first_row: usize, mut resource: ResourceIn) {
        if let Some(fault) = resource.fault {
            return self.reject_rows(first_row, Whose::Resource, fault);
        }
        if first_row == self.columns.len() {
            return;
        }
        let service = resource.service.as_deref().unwrap_or_default();
        let origins = self.columns.origins();
        let origin = origins.intern_resource(service, resource.attributes.close(), &resource.meta.to_json());
        origins.set_resource(first_row, origin);
    }

    fn reject_rows(&mut self, first_row: usize, whose: Whose<'_>, fault: Fault) {
        let n_rows = self.columns.len() - first_row;
        self.columns.truncate(first_row);
        self.reject(n_rows, whose, fault);
    }

    /// Closes the open row: appends it with `push`, or rejects it if anything of it is invalid.
    fn close_row(&mut self, whose: Whose<'_>, push: impl FnOnce(&mut C)) {
        self.check_total(
            "attributes in a request",
            |columns| columns.attributes().kind.len(),
            self.limits.max_attributes(),
        );
        (self.n_attributes, self.n_events, self.n_links, self.previous_key) = (0, 0, 0, 0);
        match self.fault.take() {
            None => push(&mut self.columns),
            Some(fault) => {
                let len = self.columns.len();
                self.columns.truncate(len);
                self.reject(1, whose, fault);
            }
        }
    }

    /// Fails the open row if the request holds more than its length excuses.
    fn check_total(&mut self, what: &'static str, n: impl FnOnce(&mut C) -> usize, max: usize) {
        if n(&mut self.columns) > max {
            self.fail(Fault::TooMany { what, max });
        }
    }

    /// The rows, how many were rejected, and why the first of them were.
    pub(super) fn finish(mut self) -> (C, u64, String) {
        if self.n_reasons > MAX_REASONS {
            self.error_message.push_str("; and more");
        }
        (self.columns, self.n_rejected, self.error_message)
    }

    /// Counts an entity, or a key of one; false with a fault if there are too many.
    pub(super) fn count_entity(&mut self, resource: &mut ResourceIn) -> bool {
        resource.n_entities += 1;
        let max = self.limits.max_attributes_per_span;
        if resource.n_entities > max {
            self.fail(Fault::TooMany { what: "entities and their keys", max });
        }
        resource.n_entities <= max
    }
}
