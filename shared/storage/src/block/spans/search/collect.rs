//! Spans of closed units → the rows of a segment, in numbers.

use hashbrown::HashMap;
use model::attribute::{self, AnyValue};
use model::columns::{Value, ValueKind};
use model::dense::{self, Dense, DenseRows};
use model::dictionary::{DictColumn, Dictionary};
use model::{SpanColumns, spans::STATUS_ERROR};

use super::write::BlockWriter;
use super::{BlockEntry, MAX_LISTED_BYTES, duration_code, start_us, write_directory};
use crate::index::fingerprint::hash_value;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Spans of a segment: as many as memory is worth, because blocks are the better the more spans they are cut from.
const SEGMENT_ROWS: usize = 80 << 10;
/// Units of a segment, at most: their numbers are codes of one byte.
const SEGMENT_UNITS: u32 = 256;
/// A segment is closed when its texts take as much.
const SEGMENT_TEXT_BYTES: usize = 8 << 20;

/// What spans of one operation have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Positions among the texts.
    pub(super) name: u32,
    pub(super) scope_name: u32,
    pub(super) scope_version: u32,
    /// OTLP's numbers.
    pub(super) kind: i32,
    pub(super) status: i32,
    /// 1: has a status message   2: has a trace state
    pub(super) flags: u8,
}

/// A span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) start_us: i64,
    /// Positions in the segment.
    pub(super) service: u32,
    pub(super) shape: u32,
    pub(super) resource: u32,
    pub(super) keys: u32,
    /// Its first value; it has as many as keys.
    first_value: u32,
    pub(super) unit: u8,
    pub(super) duration: u8,
}

/// An attribute's value: equal ones of a segment have equal ids, but for doubles and for texts of which only the hash is
/// kept. The lowest three bits are its form, the others say where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ValueId(u32);

/// What a [`ValueId`] stands for.
pub(super) enum Found<'a> {
    /// A value that may be listed.
    Value(Value<'a>),
    /// The hash of a text that is too long for that.
    LongString(u64),
    /// The same of JSON.
    LongJson(u64),
}

impl ValueId {
    const EMPTY: u32 = 0;
    const STRING: u32 = 1;
    const JSON: u32 = 2;
    const INT: u32 = 3;
    const DOUBLE: u32 = 4;
    const BOOL: u32 = 5;
    const LONG_STRING: u32 = 6;
    const LONG_JSON: u32 = 7;

    /// Segments are closed long before there are 2^29 of a form.
    fn new(form: u32, place: u32) -> Self {
        Self(place << 3 | form)
    }

    /// Where it is kept among the last of so many.
    #[inline]
    pub(super) fn recent(self, n: usize) -> usize {
        (self.0 >> 3) as usize % n
    }

    /// Whether it is a text that is too long to be listed.
    pub(super) fn is_long(self) -> bool {
        matches!(self.0 & 7, Self::LONG_STRING | Self::LONG_JSON)
    }
}

/// Distinct texts and numbers of a segment.
#[derive(Default)]
pub(super) struct Values {
    pub(super) texts: Dictionary,
    numbers: Vec<u64>,
    places: FastMap<u64, u32>,
    /// Places of numbers that came last, by eight bits of their hash.
    last: Vec<u32>,
}

impl Values {
    fn clear(&mut self) {
        self.texts.clear();
        self.numbers.clear();
        self.places.clear();
    }

    /// Where these bits may have been seen last.
    fn last(&mut self, bits: u64) -> &mut u32 {
        &mut self.last[(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize]
    }

    fn number(&mut self, bits: u64) -> u32 {
        // Numbers are few or their own: the few are found without the map.
        let last = *self.last(bits);
        if self.numbers.get(last as usize) == Some(&bits) {
            return last;
        }
        let next = self.numbers.len() as u32;
        let place = *self.places.entry(bits).or_insert(next);
        if place == next {
            self.numbers.push(bits);
        }
        *self.last(bits) = place;
        place
    }

    /// The place of a double: most are their own, and of those that are not, the last ones are known.
    fn double(&mut self, bits: u64) -> u32 {
        let last = *self.last(bits);
        if self.numbers.get(last as usize) == Some(&bits) {
            return last;
        }
        let place = self.numbers.len() as u32;
        self.numbers.push(bits);
        *self.last(bits) = place;
        place
    }

    /// The id of a text of which only the hash is kept. Equal ones may have several.
    fn hashed(&mut self, kind: ValueKind, text: &[u8]) -> ValueId {
        let form = if kind == ValueKind::Json { ValueId::LONG_JSON } else { ValueId::LONG_STRING };
        self.numbers.push(hash_value(text));
        ValueId::new(form, self.numbers.len() as u32 - 1)
    }

    fn id(&mut self, value: Value<'_>) -> ValueId {
        match value {
            Value::Empty => ValueId::new(ValueId::EMPTY, 0),
            Value::String(text) if text.len() > MAX_LISTED_BYTES => {
                ValueId::new(ValueId::LONG_STRING, self.number(hash_value(text.as_bytes())))
            }
            Value::Json(text) if text.len() > MAX_LISTED_BYTES => {
                ValueId::new(ValueId::LONG_JSON, self.number(hash_value(text.as_bytes())))
            }
            Value::String(text) => ValueId::new(ValueId::STRING, self.texts.intern(text)),
            Value::Json(text) => ValueId::new(ValueId::JSON, self.texts.intern(text)),
            Value::Int(number) => ValueId::new(ValueId::INT, self.number(number as u64)),
            Value::Double(number) => ValueId::new(ValueId::DOUBLE, self.double(number.to_bits())),
            Value::Bool(truth) => ValueId::new(ValueId::BOOL, u32::from(truth)),
        }
    }

    pub(super) fn get(&self, id: ValueId) -> Found<'_> {
        let place = id.0 >> 3;
        let number = || self.numbers[place as usize];
        Found::Value(match id.0 & 7 {
            ValueId::STRING => Value::String(self.texts.get(place)),
            ValueId::JSON => Value::Json(self.texts.get(place)),
            ValueId::INT => Value::Int(number() as i64),
            ValueId::DOUBLE => Value::Double(f64::from_bits(number())),
            ValueId::BOOL => Value::Bool(place == 1),
            ValueId::LONG_STRING => return Found::LongString(number()),
            ValueId::LONG_JSON => return Found::LongJson(number()),
            _ => Value::Empty,
        })
    }
}

/// What the texts of a unit's column are in the segment.
#[derive(Default)]
struct Known {
    /// The [`Dictionary::id`] of the column's dictionary.
    dictionary: u64,
    /// By position there; [`UNKNOWN`] where that was not asked for yet.
    numbers: Vec<u32>,
}

const UNKNOWN: u32 = u32::MAX;

impl Known {
    /// Has to come before a unit's entries are asked for.
    fn begin(&mut self, dictionary: &Dictionary) {
        if self.dictionary != dictionary.id() {
            self.dictionary = dictionary.id();
            self.numbers.clear();
        }
        self.numbers.resize(dictionary.len(), UNKNOWN);
    }

    /// The number of an entry's text, which `find` gives if it is not known yet.
    #[inline]
    fn get(&mut self, column: &DictColumn, entry: usize, find: impl FnOnce(&str) -> u32) -> u32 {
        self.at(&column.dictionary, column.rows[entry], find)
    }

    /// The same of a text by its position.
    #[inline]
    fn at(&mut self, dictionary: &Dictionary, position: u32, find: impl FnOnce(&str) -> u32) -> u32 {
        let number = &mut self.numbers[position as usize];
        if *number == UNKNOWN {
            *number = find(dictionary.get(position));
        }
        *number
    }

    /// The position of an entry's text among `texts`.
    #[inline]
    fn of(&mut self, column: &DictColumn, entry: usize, texts: &mut Dictionary) -> u32 {
        self.get(column, entry, |text| texts.intern(text))
    }
}

/// [`Known`] texts, by column.
#[derive(Default)]
struct KnownTexts {
    service: Known,
    resource: Known,
    name: Known,
    scope_name: Known,
    scope_version: Known,
    key: Known,
    string: Known,
    json: Known,
    /// Places in `events`.
    event: Known,
    /// Attributes of distinct events.
    events: Vec<Vec<(u32, ValueId)>>,
    /// Places in `orders`.
    order: Known,
    /// Distinct orders of attributes.
    orders: Vec<Order>,
    /// By column of its own the values of an attribute.
    dense: Vec<Known>,
}

impl KnownTexts {
    /// The place of the order of a row's attributes.
    fn order_of(&mut self, dense: &DenseRows, row: usize) -> usize {
        let place = self.order.get(dense.order(), row, |letters| {
            self.orders.push(Order::read(letters));
            self.orders.len() as u32 - 1
        });
        place as usize
    }
}

/// An order in which rows have attributes.
struct Order {
    /// Per attribute its column; `None` for one without.
    columns: Vec<Option<usize>>,
    /// The columns alone.
    own: Vec<u8>,
    /// The place of their keys among those of all rows, for rows that have no other attributes; [`UNKNOWN`] as long as
    /// there was none.
    place_of_keys: u32,
}

impl Order {
    fn read(letters: &str) -> Self {
        let columns: Vec<Option<usize>> = dense::places(letters).collect();
        let own = columns.iter().flatten().map(|&column| column as u8).collect();
        Self { columns, own, place_of_keys: UNKNOWN }
    }
}

impl KnownTexts {
    fn begin(&mut self, columns: &SpanColumns, dense: &DenseRows) {
        let SpanColumns { origins, attributes, .. } = columns;
        self.service.begin(&origins.service.dictionary);
        self.resource.begin(&origins.resource.dictionary);
        self.name.begin(&columns.name.dictionary);
        self.scope_name.begin(&origins.scope_name.dictionary);
        self.scope_version.begin(&origins.scope_version.dictionary);
        self.key.begin(&attributes.key.dictionary);
        self.string.begin(&attributes.string.dictionary);
        self.json.begin(&attributes.json.dictionary);
        self.event.begin(&columns.events.attributes.dictionary);
        self.order.begin(&dense.order().dictionary);
        self.dense.resize_with(dense.texts().len(), Known::default);
        self.dense.iter_mut().zip(dense.texts()).for_each(|(known, texts)| known.begin(texts));
    }
}

/// How many shapes a segment finds without its map.
const N_LAST_SHAPES: usize = 1 << 10;

/// A segment that is being filled.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) first_unit: u32,
    n_units: u32,
    pub(super) services: Dictionary,
    pub(super) resources: Dictionary,
    /// Names, scopes and values.
    pub(super) values: Values,
    pub(super) shapes: Vec<Shape>,
    places: FastMap<Shape, u32>,
    /// Places of shapes that came last, by the lowest bits of their names: spans of one name are mostly alike.
    last_shapes: Vec<u32>,
    /// By shape the place of the keys that came last.
    last_keys: Vec<u32>,
    pub(super) rows: Vec<Row>,
    /// Distinct keys of attributes.
    pub(super) key_names: Dictionary,
    /// The keys of attributes that rows have, in order, as positions among their names. Few rows have others than those
    /// before.
    pub(super) keys: Vec<Box<[u32]>>,
    places_of_keys: FastMap<Box<[u32]>, u32>,
    /// Keys in `keys` together.
    n_listed_keys: usize,
    /// The values of each row in turn.
    attributes: Vec<ValueId>,
    known: KnownTexts,
    /// Keys of the row that is being taken.
    own_keys: Vec<u32>,
}

impl Segment {
    /// Makes it an empty one whose first unit has this number. What is large keeps its room.
    fn clear(&mut self, first_unit: u32) {
        let Self { mut values, mut rows, mut attributes, .. } = std::mem::take(self);
        values.clear();
        rows.clear();
        attributes.clear();
        *self = Self { first_unit, values, rows, attributes, ..Self::default() };
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= SEGMENT_ROWS
            || self.n_units >= SEGMENT_UNITS
            || (self.attributes.len() + 2 * self.n_listed_keys) * size_of::<u32>() >= 2 * SEGMENT_TEXT_BYTES
            || self.held_bytes() >= SEGMENT_TEXT_BYTES
    }

    /// About how many bytes texts and numbers take.
    fn held_bytes(&self) -> usize {
        let texts = [&self.values.texts, &self.resources, &self.key_names];
        texts.into_iter().map(Dictionary::text_bytes).sum::<usize>()
            + self.values.numbers.len() * size_of::<u64>()
    }

    /// The value of a row's nth key.
    #[inline]
    pub(super) fn nth_value(&self, row: &Row, nth: usize) -> ValueId {
        self.attributes[row.first_value as usize + nth]
    }

    /// The place of the row's keys among those of all rows.
    fn place_of_keys(&mut self, shape: u32) -> u32 {
        let last = &mut self.last_keys[shape as usize];
        if let Some(keys) = self.keys.get(*last as usize)
            && **keys == *self.own_keys
        {
            return *last;
        }
        let place = self.find_keys();
        self.last_keys[shape as usize] = place;
        place
    }

    fn find_keys(&mut self) -> u32 {
        if let Some(&place) = self.places_of_keys.get(self.own_keys.as_slice()) {
            return place;
        }
        let place = self.keys.len() as u32;
        self.n_listed_keys += self.own_keys.len();
        self.keys.push(self.own_keys.as_slice().into());
        self.places_of_keys.insert(self.own_keys.as_slice().into(), place);
        place
    }

    fn shape(&mut self, shape: Shape) -> u32 {
        let last = &mut self.last_shapes[shape.name as usize % N_LAST_SHAPES];
        if self.shapes.get(*last as usize) == Some(&shape) {
            return *last;
        }
        let next = self.shapes.len() as u32;
        let place = *self.places.entry(shape).or_insert(next);
        if place == next {
            self.shapes.push(shape);
            self.last_keys.push(UNKNOWN);
        }
        *last = place;
        place
    }

    fn push_unit(&mut self, columns: &SpanColumns, dense: &DenseRows, of_file: &Dense) {
        let unit = self.n_units as u8;
        self.n_units += 1;
        let SpanColumns { origins, events, .. } = columns;
        self.known.begin(columns, dense);
        self.last_shapes.resize(N_LAST_SHAPES, UNKNOWN);
        self.values.last.resize(1 << 8, UNKNOWN);
        let dense_keys: Vec<u32> = of_file.keys().iter().map(|one| self.key_names.intern(&one.key)).collect();
        self.rows.reserve(columns.len());
        self.attributes.reserve(dense.n_values() + columns.attributes.kind.len());
        for row in 0..columns.len() {
            let is_there = |column: &DictColumn| !column.is_empty_at(row);
            let shape = Shape {
                name: self.known.name.of(&columns.name, row, &mut self.values.texts),
                scope_name: self.known.scope_name.of(&origins.scope_name, row, &mut self.values.texts),
                scope_version: self.known.scope_version.of(
                    &origins.scope_version,
                    row,
                    &mut self.values.texts,
                ),
                kind: columns.kind[row],
                status: columns.status_code[row],
                flags: u8::from(is_there(&columns.status_message))
                    | u8::from(is_there(&columns.trace_state)) << 1,
            };
            let shape = self.shape(shape);
            let first_value = self.attributes.len() as u32;
            let order = self.known.order_of(dense, row);
            let has_others = !columns.attributes.entries(row).is_empty() || !events.entries(row).is_empty();
            let keys = if has_others {
                self.own_keys.clear();
                self.push_attributes(columns, (dense, of_file), row, (order, &dense_keys));
                self.push_events(columns, row);
                self.place_of_keys(shape)
            } else {
                self.push_dense((dense, of_file), row, order);
                self.place_of_dense_keys(shape, order, &dense_keys)
            };
            let row = Row {
                start_us: start_us(columns.start_ns[row]),
                service: self.known.service.of(&origins.service, row, &mut self.services),
                shape,
                resource: self.known.resource.of(&origins.resource, row, &mut self.resources),
                keys,
                first_value,
                unit,
                duration: duration_code(columns.duration_ns[row]),
            };
            self.rows.push(row);
        }
    }

    /// Appends the values of a row all of whose attributes have columns of their own.
    fn push_dense(&mut self, (dense, of_file): (&DenseRows, &Dense), row: usize, order: usize) {
        let KnownTexts { orders, dense: known, .. } = &mut self.known;
        let values = orders[order].own.iter().zip(dense.values(row));
        self.attributes.extend(values.map(|(&column, &bits)| {
            let column = usize::from(column);
            // Columns of numbers and of own texts know none.
            if let Some(&id) = known[column].numbers.get(bits as usize)
                && id != UNKNOWN
            {
                return ValueId(id);
            }
            dense_value((dense, of_file), column, bits, &mut known[column], &mut self.values)
        }));
    }

    /// Appends keys and values of a row's attributes.
    fn push_attributes(
        &mut self,
        columns: &SpanColumns,
        (dense, of_file): (&DenseRows, &Dense),
        row: usize,
        (order, dense_keys): (usize, &[u32]),
    ) {
        let attributes = &columns.attributes;
        let KnownTexts { orders, dense: known_dense, key, string, json, .. } = &mut self.known;
        let (values, names) = (&mut self.values, &mut self.key_names);
        let mut others = attributes.entries(row);
        let mut bits = dense.values(row).iter();
        let mut push_other = |entry: usize, values: &mut Values, keys: &mut Vec<u32>| {
            keys.push(key.of(&attributes.key, entry, names));
            let slot = attributes.slot[entry] as usize;
            match attributes.kind[entry] {
                ValueKind::String => {
                    let id = |text: &str| values.id(Value::String(text)).0;
                    ValueId(string.get(&attributes.string, slot, id))
                }
                ValueKind::Json => {
                    let id = |text: &str| values.id(Value::Json(text)).0;
                    ValueId(json.get(&attributes.json, slot, id))
                }
                _ => values.id(attributes.value(entry)),
            }
        };
        for &place in &orders[order].columns {
            let id = if let Some(column) = place {
                let Some(&bits) = bits.next() else { continue };
                self.own_keys.push(dense_keys[column]);
                dense_value((dense, of_file), column, bits, &mut known_dense[column], values)
            } else {
                let Some(entry) = others.next() else { continue };
                push_other(entry, values, &mut self.own_keys)
            };
            self.attributes.push(id);
        }
        for entry in others {
            let id = push_other(entry, values, &mut self.own_keys);
            self.attributes.push(id);
        }
    }

    /// Appends keys and values of the attributes of a row's events.
    fn push_events(&mut self, columns: &SpanColumns, row: usize) {
        let events = &columns.events;
        for entry in events.entries(row) {
            let (known, values, names) = (&mut self.known, &mut self.values, &mut self.key_names);
            let of_event = known.event.get(&events.attributes, entry, |json| {
                known.events.push(event_attributes(json, values, names));
                known.events.len() as u32 - 1
            });
            for &(key, value) in &known.events[of_event as usize] {
                self.own_keys.push(key);
                self.attributes.push(value);
            }
        }
    }

    /// The place of the keys of rows that have only attributes with columns of their own, in this order.
    fn place_of_dense_keys(&mut self, shape: u32, order: usize, dense_keys: &[u32]) -> u32 {
        let known = &self.known.orders[order];
        if known.place_of_keys != UNKNOWN {
            return known.place_of_keys;
        }
        self.own_keys.clear();
        self.own_keys.extend(known.own.iter().map(|&column| dense_keys[usize::from(column)]));
        let place = self.place_of_keys(shape);
        self.known.orders[order].place_of_keys = place;
        place
    }

    /// Whether some of these rows is an error.
    pub(super) fn has_errors(&self, rows: &[Row]) -> bool {
        rows.iter().any(|row| self.shapes[row.shape as usize].status == STATUS_ERROR)
    }
}

/// The id of a value in an attribute's own column. Of texts that most rows have their own, only the hash is kept.
#[inline]
fn dense_value(
    (dense, of_file): (&DenseRows, &Dense),
    column: usize,
    bits: u64,
    known: &mut Known,
    values: &mut Values,
) -> ValueId {
    let (kind, texts) = (of_file.keys()[column].kind, &dense.texts()[column]);
    if dense.are_own(column) {
        return values.hashed(kind, texts.bytes_of(bits as u32));
    }
    match kind {
        ValueKind::String => ValueId(known.at(texts, bits as u32, |text| values.id(Value::String(text)).0)),
        ValueKind::Json => ValueId(known.at(texts, bits as u32, |text| values.id(Value::Json(text)).0)),
        ValueKind::Int => values.id(Value::Int(bits as i64)),
        ValueKind::Double => values.id(Value::Double(f64::from_bits(bits))),
        ValueKind::Bool => values.id(Value::Bool(bits != 0)),
        ValueKind::Empty => values.id(Value::Empty),
    }
}

/// The attributes of an event; none where the text is not what the product writes.
fn event_attributes(json: &str, values: &mut Values, names: &mut Dictionary) -> Vec<(u32, ValueId)> {
    let entries = attribute::parse_map(json).unwrap_or_default();
    let mut nested = String::new();
    let mut id = |(key, found): &(String, AnyValue)| {
        let value = match found {
            AnyValue::Empty => Value::Empty,
            AnyValue::String(text) => Value::String(text),
            AnyValue::Bool(truth) => Value::Bool(*truth),
            AnyValue::Int(number) => Value::Int(*number),
            AnyValue::Double(number) => Value::Double(*number),
            other => {
                nested.clear();
                attribute::write_value(&mut nested, other);
                Value::Json(&nested)
            }
        };
        (names.intern(key), values.id(value))
    };
    entries.iter().map(&mut id).collect()
}

/// What a collector leaves to the next one: memory only, no data.
#[derive(Default)]
pub(in crate::block::spans) struct Room(Box<Segment>);

/// Takes units as they are closed, and gives the section when the file ends.
pub(in crate::block::spans) struct Collector {
    segment: Box<Segment>,
    writer: BlockWriter,
    n_units: u32,
    services: Vec<String>,
    service_places: FastMap<String, u32>,
    blocks: Vec<(u32, BlockEntry)>,
}

impl Collector {
    pub(in crate::block::spans) fn new(zstd_level: i32) -> Self {
        Self {
            segment: Box::default(),
            writer: BlockWriter::new(zstd_level),
            n_units: 0,
            services: Vec::new(),
            service_places: FastMap::default(),
            blocks: Vec::new(),
        }
    }

    /// Bytes of the blocks so far.
    pub(in crate::block::spans) fn len(&self) -> usize {
        self.writer.out.len()
    }

    /// Takes the next unit of the file.
    pub(in crate::block::spans) fn push_unit(
        &mut self,
        columns: &SpanColumns,
        dense: &DenseRows,
        of_file: &Dense,
    ) {
        self.segment.push_unit(columns, dense, of_file);
        self.n_units += 1;
        if self.segment.is_full() {
            self.close_segment();
        }
    }

    fn close_segment(&mut self) {
        for block in self.writer.write(&self.segment) {
            let next = self.services.len() as u32;
            let service = *self.service_places.entry_ref(block.service.as_str()).or_insert(next);
            if service == next {
                self.services.push(block.service.clone());
            }
            self.blocks.push((service, block));
        }
        self.segment.clear(self.n_units);
    }

    /// As if it had been made with this room; nothing may have come before.
    pub(in crate::block::spans) fn reuse(&mut self, Room(segment): Room) {
        self.segment = segment;
    }

    /// All blocks, their directory, and the room that is free then.
    pub(in crate::block::spans) fn finish(mut self) -> (Vec<u8>, Vec<u8>, Room) {
        self.close_segment();
        self.segment.clear(0);
        (self.writer.out, write_directory(&self.services, &self.blocks), Room(self.segment))
    }
}
