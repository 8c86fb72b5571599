//! What spans and log records have in common, by column: attributes, and where a row comes from.

use crate::attribute::{self, AnyValue, Attributes, ParseError};
use crate::dictionary::{DictColumn, Dictionary};

/// Where rows come from: resource and scope, one entry per row each.
#[derive(Debug, Clone, Default)]
pub struct OriginColumns {
    /// The resource's `service.name` where that is a string, else empty.
    pub service: DictColumn,
    /// The resource's attributes as the JSON of [`attribute`].
    pub resource: DictColumn,
    /// What else OTLP says of the resource: the JSON of [`ResourceMeta`], empty for nothing.
    pub resource_meta: DictColumn,
    /// Instrumentation scope.
    pub scope_name: DictColumn,
    /// Version of the scope.
    pub scope_version: DictColumn,
    /// What else OTLP says of the scope: the JSON of [`ScopeMeta`], empty for nothing.
    pub scope_meta: DictColumn,
}

/// Where a row comes from: positions in the dictionaries of one [`OriginColumns`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of OriginColumns")]
pub struct Origin {
    pub service: u32,
    pub resource: u32,
    pub resource_meta: u32,
    pub scope_name: u32,
    pub scope_version: u32,
    pub scope_meta: u32,
}

impl OriginColumns {
    /// Makes a resource known and returns its part of an [`Origin`]; the scope's part is empty text.
    /// `attributes_json` and `meta_json` as the columns of the same names.
    pub fn intern_resource(&mut self, service: &str, attributes_json: &str, meta_json: &str) -> Origin {
        Origin {
            service: self.service.dictionary.intern(service),
            resource: self.resource.dictionary.intern(attributes_json),
            resource_meta: self.resource_meta.dictionary.intern(meta_json),
            ..self.intern_scope(Origin::default(), "", "", "")
        }
    }

    /// Makes a scope known and returns `origin` with it.
    pub fn intern_scope(&mut self, origin: Origin, name: &str, version: &str, meta_json: &str) -> Origin {
        Origin {
            scope_name: self.scope_name.dictionary.intern(name),
            scope_version: self.scope_version.dictionary.intern(version),
            scope_meta: self.scope_meta.dictionary.intern(meta_json),
            ..origin
        }
    }

    /// Appends a row.
    pub fn push(&mut self, origin: Origin) {
        self.service.rows.push(origin.service);
        self.resource.rows.push(origin.resource);
        self.resource_meta.rows.push(origin.resource_meta);
        self.scope_name.rows.push(origin.scope_name);
        self.scope_version.rows.push(origin.scope_version);
        self.scope_meta.rows.push(origin.scope_meta);
    }

    /// Writes the resource's part of `origin` into the rows from `first_row` on.
    pub fn set_resource(&mut self, first_row: usize, origin: Origin) {
        self.service.rows[first_row..].fill(origin.service);
        self.resource.rows[first_row..].fill(origin.resource);
        self.resource_meta.rows[first_row..].fill(origin.resource_meta);
    }

    /// Writes the scope's part of `origin` into the rows from `first_row` on.
    pub fn set_scope(&mut self, first_row: usize, origin: Origin) {
        self.scope_name.rows[first_row..].fill(origin.scope_name);
        self.scope_version.rows[first_row..].fill(origin.scope_version);
        self.scope_meta.rows[first_row..].fill(origin.scope_meta);
    }

    /// Keeps the first `len` rows; dictionaries keep their strings.
    pub fn truncate(&mut self, len: usize) {
        let Self { service, resource, resource_meta, scope_name, scope_version, scope_meta } = self;
        for column in [service, resource, resource_meta, scope_name, scope_version, scope_meta] {
            column.rows.truncate(len);
        }
    }

    /// As [`DictColumn::forget_large`] of each column.
    pub(crate) fn forget_large(&mut self) {
        let Self { service, resource, resource_meta, scope_name, scope_version, scope_meta } = self;
        for column in [service, resource, resource_meta, scope_name, scope_version, scope_meta] {
            column.forget_large();
        }
    }

    /// Keeps the rows that are told to stay; dictionaries keep their strings.
    pub(crate) fn retain(&mut self, is_kept: &[bool]) {
        let Self { service, resource, resource_meta, scope_name, scope_version, scope_meta } = self;
        for column in [service, resource, resource_meta, scope_name, scope_version, scope_meta] {
            retain(&mut column.rows, is_kept);
        }
    }

    /// Where `row` comes from.
    pub fn get(&self, row: usize) -> Origin {
        Origin {
            service: self.service.rows[row],
            resource: self.resource.rows[row],
            resource_meta: self.resource_meta.rows[row],
            scope_name: self.scope_name.rows[row],
            scope_version: self.scope_version.rows[row],
            scope_meta: self.scope_meta.rows[row],
        }
    }

    /// Name, version and the JSON of [`ScopeMeta`] of the scope of `row`.
    pub fn scope(&self, row: usize) -> (&str, &str, &str) {
        (self.scope_name.get(row), self.scope_version.get(row), self.scope_meta.get(row))
    }

    /// Whether rows come from equal resources and scopes.
    pub fn is_same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        self.resource.get(row) == other.resource.get(other_row)
            && self.resource_meta.get(row) == other.resource_meta.get(other_row)
            && self.scope(row) == other.scope(other_row)
    }
}

pub(crate) fn last(ends: &[u32]) -> usize {
    ends.last().map_or(0, |&end| end as usize)
}

/// The entries of `row` in a list column with these `ends`.
pub(crate) fn entries(ends: &[u32], row: usize) -> std::ops::Range<usize> {
    let start = if row == 0 { 0 } else { ends[row - 1] as usize };
    start..ends[row] as usize
}

/// Keeps the entries of a column that are told to stay, in place and in order.
pub(crate) fn retain<T>(column: &mut Vec<T>, is_kept: &[bool]) {
    assert_eq!(column.len(), is_kept.len(), "invariant: one truth per entry");
    let mut is_kept = is_kept.iter();
    column.retain(|_| is_kept.next().is_some_and(|&is_kept| is_kept));
}

/// Keeps the lists of the rows that are told to stay, and says which of the `n_entries` entries stay with them.
pub(crate) fn retain_lists(ends: &mut Vec<u32>, n_entries: usize, is_kept: &[bool]) -> Vec<bool> {
    let mut is_entry_kept = Vec::with_capacity(n_entries);
    let mut end_kept = 0;
    for (end, &is_kept) in ends.iter_mut().zip(is_kept) {
        let n = *end - is_entry_kept.len() as u32;
        is_entry_kept.resize(*end as usize, is_kept);
        end_kept += if is_kept { n } else { 0 };
        *end = end_kept;
    }
    // The open row is lost.
    is_entry_kept.resize(n_entries, false);
    retain(ends, is_kept);
    is_entry_kept
}

/// Which of the typed columns holds an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// No value.
    Empty,
    /// In [`AttributeColumns::string`].
    String,
    /// In [`AttributeColumns::int`].
    Int,
    /// In [`AttributeColumns::double`].
    Double,
    /// In [`AttributeColumns::bool`].
    Bool,
    /// Bytes, an array or a map, in [`AttributeColumns::json`].
    Json,
}

/// How many [`ValueKind`]s there are.
pub(crate) const N_KINDS: usize = ValueKind::Json as usize + 1;

/// A borrowed value; bytes, arrays and maps are the JSON text of [`attribute`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of ValueKind")]
pub enum Value<'a> {
    Empty,
    String(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
    Json(&'a str),
}

impl Value<'_> {
    /// The value as an owned tree.
    ///
    /// # Errors
    /// The JSON text is not of the form that [`attribute`] writes.
    pub fn to_any_value(self) -> Result<AnyValue, ParseError> {
        Ok(match self {
            Self::Empty => AnyValue::Empty,
            Self::String(text) => AnyValue::String(text.to_owned()),
            Self::Int(number) => AnyValue::Int(number),
            Self::Double(number) => AnyValue::Double(number),
            Self::Bool(truth) => AnyValue::Bool(truth),
            Self::Json(text) => attribute::parse(text)?,
        })
    }
}

/// Lists of attributes, one list per row. `key`, `kind` and `slot` have one entry per attribute; each typed column
/// has one entry per attribute of its kind, in the same order.
#[derive(Debug, Clone, Default)]
pub struct AttributeColumns {
    /// Per row the end of its list.
    pub ends: Vec<u32>,
    /// Keys.
    pub key: DictColumn,
    /// Kinds of the values.
    pub kind: Vec<ValueKind>,
    /// The entry of the value in the column of its kind.
    pub slot: Vec<u32>,
    /// Texts.
    pub string: DictColumn,
    /// Whole numbers.
    pub int: Vec<i64>,
    /// Floating-point numbers.
    pub double: Vec<f64>,
    /// Truths.
    pub bool: Vec<bool>,
    /// Bytes, arrays and maps as JSON.
    pub json: DictColumn,
}

impl AttributeColumns {
    /// Appends an attribute to the open row.
    pub fn push(&mut self, key: &str, value: Value<'_>) {
        self.key.push(key);
        let (kind, slot) = match value {
            Value::Empty => (ValueKind::Empty, 0),
            Value::String(text) => {
                self.string.push(text);
                (ValueKind::String, self.string.len() - 1)
            }
            Value::Int(number) => {
                self.int.push(number);
                (ValueKind::Int, self.int.len() - 1)
            }
            Value::Double(number) => {
                self.double.push(number);
                (ValueKind::Double, self.double.len() - 1)
            }
            Value::Bool(truth) => {
                self.bool.push(truth);
                (ValueKind::Bool, self.bool.len() - 1)
            }
            Value::Json(text) => {
                self.json.push(text);
                (ValueKind::Json, self.json.len() - 1)
            }
        };
        self.kind.push(kind);
        self.slot.push(slot as u32);
    }

    /// Keys and values of `row` in order.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries(row).map(|entry| (self.key.get(entry), self.value(entry)))
    }

    /// Whether rows have equal attributes in the same order, doubles by their bits.
    pub fn is_same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        let is_same_value = |(a, b): ((&str, Value<'_>), (&str, Value<'_>))| {
            let values = match (a.1, b.1) {
                (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
                (a, b) => a == b,
            };
            a.0 == b.0 && values
        };
        self.entries(row).len() == other.entries(other_row).len()
            && self.row(row).zip(other.row(other_row)).all(is_same_value)
    }

    /// The entries of `row`.
    pub fn entries(&self, row: usize) -> std::ops::Range<usize> {
        entries(&self.ends, row)
    }

    /// The value of an entry.
    pub fn value(&self, entry: usize) -> Value<'_> {
        let slot = self.slot[entry] as usize;
        match self.kind[entry] {
            ValueKind::Empty => Value::Empty,
            ValueKind::String => Value::String(self.string.get(slot)),
            ValueKind::Int => Value::Int(self.int[slot]),
            ValueKind::Double => Value::Double(self.double[slot]),
            ValueKind::Bool => Value::Bool(self.bool[slot]),
            ValueKind::Json => Value::Json(self.json.get(slot)),
        }
    }

    /// Keeps the lists of the rows that are told to stay; dictionaries keep their strings.
    pub(crate) fn retain(&mut self, is_kept: &[bool]) {
        let is_kept = retain_lists(&mut self.ends, self.kind.len(), is_kept);
        let of_kind = |wanted: ValueKind| -> Vec<bool> {
            let entries = self.kind.iter().zip(&is_kept).filter(|(kind, _)| **kind == wanted);
            entries.map(|(_, &is_kept)| is_kept).collect()
        };
        retain(&mut self.string.rows, &of_kind(ValueKind::String));
        retain(&mut self.int, &of_kind(ValueKind::Int));
        retain(&mut self.double, &of_kind(ValueKind::Double));
        retain(&mut self.bool, &of_kind(ValueKind::Bool));
        retain(&mut self.json.rows, &of_kind(ValueKind::Json));
        retain(&mut self.key.rows, &is_kept);
        retain(&mut self.kind, &is_kept);
        self.number_slots();
    }

    /// By kind how many values there are; 0 for those without any.
    pub(crate) fn n_of_kinds(&self) -> [u32; N_KINDS] {
        let mut n = [0; N_KINDS];
        n[ValueKind::String as usize] = self.string.len() as u32;
        n[ValueKind::Int as usize] = self.int.len() as u32;
        n[ValueKind::Double as usize] = self.double.len() as u32;
        n[ValueKind::Bool as usize] = self.bool.len() as u32;
        n[ValueKind::Json as usize] = self.json.len() as u32;
        n
    }

    /// Makes each attribute point at the entry of its value: the next one in the column of its kind.
    pub fn number_slots(&mut self) {
        let mut next = [0; N_KINDS];
        self.slot.clear();
        self.slot.extend(self.kind.iter().map(|&kind| {
            let slot = next[kind as usize];
            next[kind as usize] += u32::from(kind != ValueKind::Empty);
            slot
        }));
    }

    /// Gives rows a text under `key`, in the place of the value that a row has there or else behind its last
    /// attribute. `texts` has one entry per row, `None` for a row that stays as it is.
    pub(crate) fn put_texts(&mut self, key: &str, texts: &[Option<String>]) {
        let old = self.take_entries();
        let key = self.key.dictionary.intern(key);
        for (row, text) in texts.iter().enumerate() {
            let mut text = text.as_deref().map(|text| self.string.dictionary.intern(text));
            for entry in old.entries(row) {
                let is_replaced = old.key.rows[entry] == key && text.is_some();
                match text.filter(|_| is_replaced) {
                    Some(position) => {
                        self.push_text_at(key, position);
                        text = None;
                    }
                    None => self.push_entry_of(&old, entry),
                }
            }
            if let Some(position) = text {
                self.push_text_at(key, position);
            }
            self.close_row();
        }
        self.number_slots();
    }

    /// Takes all entries out; dictionaries stay.
    pub(crate) fn take_entries(&mut self) -> Self {
        let mut old = std::mem::take(self);
        std::mem::swap(&mut self.key.dictionary, &mut old.key.dictionary);
        std::mem::swap(&mut self.string.dictionary, &mut old.string.dictionary);
        std::mem::swap(&mut self.json.dictionary, &mut old.json.dictionary);
        old
    }

    /// Closes a row: the attributes since the last one become its own.
    pub(crate) fn close_row(&mut self) {
        self.ends.push(self.key.len() as u32);
    }

    /// Appends a text by its position in the dictionary, without its slot.
    fn push_text_at(&mut self, key: u32, position: u32) {
        self.key.rows.push(key);
        self.kind.push(ValueKind::String);
        self.string.rows.push(position);
    }

    /// Appends an entry of columns that had the same dictionaries, without its slot.
    pub(crate) fn push_entry_of(&mut self, other: &Self, entry: usize) {
        let slot = other.slot[entry] as usize;
        self.key.rows.push(other.key.rows[entry]);
        self.kind.push(other.kind[entry]);
        match other.kind[entry] {
            ValueKind::Empty => {}
            ValueKind::String => self.string.rows.push(other.string.rows[slot]),
            ValueKind::Int => self.int.push(other.int[slot]),
            ValueKind::Double => self.double.push(other.double[slot]),
            ValueKind::Bool => self.bool.push(other.bool[slot]),
            ValueKind::Json => self.json.rows.push(other.json.rows[slot]),
        }
    }

    /// Keeps the first `len` entries; dictionaries keep their strings.
    pub(crate) fn truncate(&mut self, len: usize) {
        // Only the dropped tail is looked at: many dropped rows must not cost a walk over all entries each.
        let mut left = [0; N_KINDS];
        if len > 0 {
            left = self.n_of_kinds();
            for &kind in &self.kind[len..] {
                left[kind as usize] -= u32::from(kind != ValueKind::Empty);
            }
        }
        let n = |kind: ValueKind| left[kind as usize] as usize;
        self.key.rows.truncate(len);
        self.kind.truncate(len);
        self.slot.truncate(len);
        self.string.rows.truncate(n(ValueKind::String));
        self.int.truncate(n(ValueKind::Int));
        self.double.truncate(n(ValueKind::Double));
        self.bool.truncate(n(ValueKind::Bool));
        self.json.rows.truncate(n(ValueKind::Json));
    }
}

/// What OTLP says of a resource beside its attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceMeta {
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Schema of the resource.
    pub schema_url: String,
    /// Entities that the attributes describe.
    pub entity_refs: Vec<EntityRef>,
}

/// One entity of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of OTLP's EntityRef")]
pub struct EntityRef {
    pub schema_url: String,
    pub kind: String,
    pub id_keys: Vec<String>,
    pub description_keys: Vec<String>,
}

/// What OTLP says of a scope beside its name and version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScopeMeta {
    /// Attributes of the scope.
    pub attributes: Attributes,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Schema of the scope's data.
    pub schema_url: String,
}

fn text_entry(entries: &mut Attributes, key: &str, text: &str) {
    if !text.is_empty() {
        entries.push((key.to_owned(), AnyValue::String(text.to_owned())));
    }
}

fn count_entry(entries: &mut Attributes, key: &str, count: u32) {
    if count != 0 {
        entries.push((key.to_owned(), AnyValue::Int(i64::from(count))));
    }
}

fn keys_entry(entries: &mut Attributes, key: &str, keys: &[String]) {
    if !keys.is_empty() {
        entries.push((key.to_owned(), AnyValue::Array(keys.iter().cloned().map(AnyValue::String).collect())));
    }
}

fn map_text(entries: &Attributes) -> String {
    let mut text = String::new();
    if !entries.is_empty() {
        attribute::write_map(&mut text, entries);
    }
    text
}

fn to_text(value: AnyValue) -> String {
    if let AnyValue::String(text) = value { text } else { String::new() }
}

fn to_count(value: &AnyValue) -> u32 {
    if let AnyValue::Int(count) = value { u32::try_from(*count).unwrap_or(0) } else { 0 }
}

fn to_keys(value: AnyValue) -> Vec<String> {
    if let AnyValue::Array(values) = value { values.into_iter().map(to_text).collect() } else { Vec::new() }
}

impl ResourceMeta {
    /// JSON with what is set; empty text if nothing is.
    pub fn to_json(&self) -> String {
        let mut entries = Attributes::new();
        count_entry(&mut entries, "dropped_attributes_count", self.dropped_attributes_count);
        text_entry(&mut entries, "schema_url", &self.schema_url);
        if !self.entity_refs.is_empty() {
            let refs = self.entity_refs.iter().map(EntityRef::to_value).collect();
            entries.push(("entity_refs".to_owned(), AnyValue::Array(refs)));
        }
        map_text(&entries)
    }

    /// Reads what [`ResourceMeta::to_json`] wrote; unknown keys are ignored.
    ///
    /// # Errors
    /// The text is not the JSON of a map.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut meta = Self::default();
        for (key, value) in attribute::parse_map(text)? {
            match (key.as_str(), value) {
                ("dropped_attributes_count", value) => meta.dropped_attributes_count = to_count(&value),
                ("schema_url", value) => meta.schema_url = to_text(value),
                ("entity_refs", AnyValue::Array(refs)) => {
                    meta.entity_refs = refs.into_iter().map(EntityRef::from_value).collect();
                }
                _ => {}
            }
        }
        Ok(meta)
    }
}

impl EntityRef {
    fn to_value(&self) -> AnyValue {
        let mut entries = Attributes::new();
        text_entry(&mut entries, "schema_url", &self.schema_url);
        text_entry(&mut entries, "type", &self.kind);
        keys_entry(&mut entries, "id_keys", &self.id_keys);
        keys_entry(&mut entries, "description_keys", &self.description_keys);
        AnyValue::Map(entries)
    }

    fn from_value(value: AnyValue) -> Self {
        let mut entity = Self::default();
        let AnyValue::Map(entries) = value else { return entity };
        for (key, value) in entries {
            match key.as_str() {
                "schema_url" => entity.schema_url = to_text(value),
                "type" => entity.kind = to_text(value),
                "id_keys" => entity.id_keys = to_keys(value),
                "description_keys" => entity.description_keys = to_keys(value),
                _ => {}
            }
        }
        entity
    }
}

impl ScopeMeta {
    /// JSON with what is set; empty text if nothing is.
    pub fn to_json(&self) -> String {
        let mut entries = Attributes::new();
        if !self.attributes.is_empty() {
            entries.push(("attributes".to_owned(), AnyValue::Map(self.attributes.clone())));
        }
        count_entry(&mut entries, "dropped_attributes_count", self.dropped_attributes_count);
        text_entry(&mut entries, "schema_url", &self.schema_url);
        map_text(&entries)
    }

    /// Reads what [`ScopeMeta::to_json`] wrote; unknown keys are ignored.
    ///
    /// # Errors
    /// The text is not the JSON of a map.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut meta = Self::default();
        for (key, value) in attribute::parse_map(text)? {
            match (key.as_str(), value) {
                ("attributes", AnyValue::Map(attributes)) => meta.attributes = attributes,
                ("dropped_attributes_count", value) => meta.dropped_attributes_count = to_count(&value),
                ("schema_url", value) => meta.schema_url = to_text(value),
                _ => {}
            }
        }
        Ok(meta)
    }
}

impl Dictionary {
    /// The attributes that the JSON at `position` holds.
    ///
    /// # Errors
    /// The text is not the JSON of a map.
    pub fn attributes(&self, position: u32) -> Result<Attributes, ParseError> {
        attribute::parse_map(self.get(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_and_scope_meta_come_back_from_their_json() {
        let resource = ResourceMeta {
            dropped_attributes_count: 3,
            schema_url: "https://example.test/schema".to_owned(),
            entity_refs: vec![EntityRef {
                kind: "host".to_owned(),
                id_keys: vec!["host.id".to_owned()],
                ..EntityRef::default()
            }],
        };
        assert_eq!(ResourceMeta::parse(&resource.to_json()), Ok(resource));
        let scope = ScopeMeta {
            attributes: vec![("k".to_owned(), AnyValue::Double(1.5))],
            dropped_attributes_count: 0,
            schema_url: "s".to_owned(),
        };
        assert_eq!(ScopeMeta::parse(&scope.to_json()), Ok(scope));
        assert_eq!(ScopeMeta::default().to_json(), "");
        assert_eq!(ScopeMeta::parse(""), Ok(ScopeMeta::default()));
    }
}
