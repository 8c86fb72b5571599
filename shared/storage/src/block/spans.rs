//! The layout of spans in a file, version 1: how [`SpanColumns`] become Parquet, and back.
//!
//! One row is one span. Columns, in the order of the file; what a search reads comes first, so that one range covers it:
//!
//! | column | type | |
//! |---|---|---|
//! | `trace_id` | fixed 16 | |
//! | `start_time` | timestamp, ns, UTC | the bits of OTLP's unsigned number |
//! | `duration_ns` | int64 | end less start |
//! | `service_name` | text | the resource's `service.name` |
//! | `name` | text | |
//! | `kind`, `status_code` | int32 | OTLP's numbers |
//! | `status_message`, `scope_name`, `scope_version`, `trace_state` | text | null for empty |
//! | `resource_attributes` | JSON | the text of `model::attribute`; null for none |
//! | `attributes` | map of text to `{string, int, double, bool, json}` | one of the five is set, none for an empty value; bytes, arrays and maps are JSON |
//! | `events` | list of `{time, name, attributes, dropped_attributes_count}` | |
//! | `links` | list of `{trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags}` | |
//! | `span_id` | fixed 8 | |
//! | `parent_span_id` | fixed 8 | null for a root |
//! | `flags`, `dropped_attributes_count`, `dropped_events_count`, `dropped_links_count` | int64 | |
//! | `resource_meta`, `scope_meta` | JSON | what else OTLP says of them; null for nothing |
//!
//! The order of spans and of attributes is kept. The file's metadata has `spandrel.layout` = `spans/1`.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use model::dictionary::{DictColumn, Dictionary};
use model::spans::ValueKind;
use model::{SpanColumns, SpanId, TraceId};

use super::parquet::file::{self, Content, Leaf, Logical, Node, Occurs};
use super::parquet::page::{Chunk, ChunkWriter, Levels, Pages};
use super::parquet::{Invalid, Physical, hybrid};
use crate::index::Descriptor;

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "spans/1";

const fn leaf(name: &'static str, occurs: Occurs, logical: Logical, physical: Physical) -> Node {
    Node { name, occurs, logical, content: Content::Leaf(physical) }
}

const fn text(name: &'static str, occurs: Occurs) -> Node {
    leaf(name, occurs, Logical::String, Physical::ByteArray)
}

const fn json(name: &'static str) -> Node {
    leaf(name, Occurs::Optional, Logical::Json, Physical::ByteArray)
}

const fn number(name: &'static str) -> Node {
    leaf(name, Occurs::Required, Logical::None, Physical::Int64)
}

const fn id(name: &'static str, occurs: Occurs, len: u8) -> Node {
    leaf(name, occurs, Logical::None, Physical::Fixed(len))
}

const fn group(name: &'static str, occurs: Occurs, logical: Logical, children: usize) -> Node {
    Node { name, occurs, logical, content: Content::Group(children) }
}

use Occurs::{Optional, Repeated, Required};

const NODES: &[Node] = &[
    id("trace_id", Required, 16),
    leaf("start_time", Required, Logical::TimestampNs, Physical::Int64),
    number("duration_ns"),
    text("service_name", Required),
    text("name", Required),
    leaf("kind", Required, Logical::None, Physical::Int32),
    leaf("status_code", Required, Logical::None, Physical::Int32),
    text("status_message", Optional),
    text("scope_name", Optional),
    text("scope_version", Optional),
    text("trace_state", Optional),
    json("resource_attributes"),
    group("attributes", Required, Logical::Map, 1),
    group("key_value", Repeated, Logical::None, 2),
    text("key", Required),
    group("value", Required, Logical::None, 5),
    text("string", Optional),
    leaf("int", Optional, Logical::None, Physical::Int64),
    leaf("double", Optional, Logical::None, Physical::Double),
    leaf("bool", Optional, Logical::None, Physical::Boolean),
    json("json"),
    group("events", Required, Logical::List, 1),
    group("list", Repeated, Logical::None, 1),
    group("element", Required, Logical::None, 4),
    leaf("time", Required, Logical::TimestampNs, Physical::Int64),
    text("name", Required),
    json("attributes"),
    number("dropped_attributes_count"),
    group("links", Required, Logical::List, 1),
    group("list", Repeated, Logical::None, 1),
    group("element", Required, Logical::None, 6),
    id("trace_id", Required, 16),
    id("span_id", Required, 8),
    text("trace_state", Optional),
    json("attributes"),
    number("dropped_attributes_count"),
    number("flags"),
    id("span_id", Required, 8),
    id("parent_span_id", Optional, 8),
    number("flags"),
    number("dropped_attributes_count"),
    number("dropped_events_count"),
    number("dropped_links_count"),
    json("resource_meta"),
    json("scope_meta"),
];

/// Positions of the columns among the leaves.
#[expect(missing_docs, reason = "the names are those of the columns")]
pub mod column {
    pub const TRACE_ID: usize = 0;
    pub const START_TIME: usize = 1;
    pub const DURATION_NS: usize = 2;
    pub const SERVICE_NAME: usize = 3;
    pub const NAME: usize = 4;
    pub const KIND: usize = 5;
    pub const STATUS_CODE: usize = 6;
    pub const STATUS_MESSAGE: usize = 7;
    pub const SCOPE_NAME: usize = 8;
    pub const SCOPE_VERSION: usize = 9;
    pub const TRACE_STATE: usize = 10;
    pub const RESOURCE_ATTRIBUTES: usize = 11;
    pub const ATTRIBUTE_KEY: usize = 12;
    pub const ATTRIBUTE_STRING: usize = 13;
    pub const ATTRIBUTE_INT: usize = 14;
    pub const ATTRIBUTE_DOUBLE: usize = 15;
    pub const ATTRIBUTE_BOOL: usize = 16;
    pub const ATTRIBUTE_JSON: usize = 17;
    pub const EVENT_TIME: usize = 18;
    pub const EVENT_NAME: usize = 19;
    pub const EVENT_ATTRIBUTES: usize = 20;
    pub const EVENT_DROPPED: usize = 21;
    pub const LINK_TRACE_ID: usize = 22;
    pub const LINK_SPAN_ID: usize = 23;
    pub const LINK_TRACE_STATE: usize = 24;
    pub const LINK_ATTRIBUTES: usize = 25;
    pub const LINK_DROPPED: usize = 26;
    pub const LINK_FLAGS: usize = 27;
    pub const SPAN_ID: usize = 28;
    pub const PARENT_SPAN_ID: usize = 29;
    pub const FLAGS: usize = 30;
    pub const DROPPED_ATTRIBUTES: usize = 31;
    pub const DROPPED_EVENTS: usize = 32;
    pub const DROPPED_LINKS: usize = 33;
    pub const RESOURCE_META: usize = 34;
    pub const SCOPE_META: usize = 35;
    /// How many columns there are.
    pub const COUNT: usize = 36;
}

static LEAVES: LazyLock<Vec<Leaf>> = LazyLock::new(|| file::leaves(NODES));

/// A set of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection(u64);

impl Projection {
    /// All columns.
    pub const ALL: Self = Self((1 << column::COUNT) - 1);

    /// These columns and `trace_id`.
    pub const fn of(columns: &[usize]) -> Self {
        let mut bits = 1 << column::TRACE_ID;
        let mut i = 0;
        while i < columns.len() {
            bits |= 1 << columns[i];
            i += 1;
        }
        Self(bits)
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a column is in the set.
    pub const fn has(self, column: usize) -> bool {
        self.0 >> column & 1 == 1
    }
}

/// Where the chunks of a file are: they lie end to end behind the magic number, in the order of the columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkTable {
    /// Per column the length of its chunk, and whether it is compressed.
    pub chunks: Vec<(u64, bool)>,
}

impl ChunkTable {
    /// The bytes of a column's chunk in the file.
    pub fn range(&self, column: usize) -> Range<u64> {
        let start = file::MAGIC.len() as u64 + self.chunks[..column].iter().map(|chunk| chunk.0).sum::<u64>();
        start..start + self.chunks[column].0
    }

    /// The ranges of `projection`'s chunks, those less than `gap` bytes apart joined.
    pub fn ranges(&self, projection: Projection, gap: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut start = file::MAGIC.len() as u64;
        for (column, chunk) in self.chunks.iter().enumerate() {
            let range = start..start + chunk.0;
            start = range.end;
            if !projection.has(column) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if range.start - last.end <= gap => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }
}

/// A file of spans and what planning needs to know of it.
#[derive(Debug, Clone)]
pub struct EncodedSpans {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: Descriptor,
}

/// The file with these spans, of which there must be at least one.
pub fn encode(columns: &SpanColumns) -> EncodedSpans {
    let mut writer = ChunkWriter::fast();
    writer.out.reserve(columns.len() * 128 + 8192);
    writer.out.extend_from_slice(file::MAGIC);
    let chunks = write_chunks(&mut writer, columns);
    let mut out = writer.out;
    let chunk_table =
        ChunkTable { chunks: chunks.iter().map(|chunk| (chunk.len, chunk.compressed)).collect() };
    let metadata = [("spandrel.layout", LAYOUT)];
    file::write_footer(&mut out, NODES, &LEAVES, &chunks, columns.len() as u64, &metadata);
    let descriptor = Descriptor::of_spans(columns, chunk_table, out.len() as u64);
    EncodedSpans { bytes: Bytes::from(out), descriptor }
}

fn write_chunks(w: &mut ChunkWriter, columns: &SpanColumns) -> Vec<Chunk> {
    let flat = Levels::flat(columns.len());
    let mut chunks = Vec::with_capacity(column::COUNT);
    chunks.push(w.repeated_ids(flat, &ids(&columns.trace_id)));
    chunks.push(w.changing_i64(flat, &columns.start_ns));
    chunks.push(w.changing_i64(flat, &columns.duration_ns));
    for required in [&columns.service, &columns.name] {
        chunks.push(w.strings(flat, &required.dictionary, &required.rows, None));
    }
    for numbers in [&columns.kind, &columns.status_code] {
        chunks.push(w.repeated_i32(flat, numbers));
    }
    let texts = [
        &columns.status_message,
        &columns.scope_name,
        &columns.scope_version,
        &columns.trace_state,
        &columns.resource,
    ];
    for text in texts {
        chunks.push(nullable(w, text));
    }
    write_attributes(w, columns, &mut chunks);
    write_events(w, columns, &mut chunks);
    write_links(w, columns, &mut chunks);
    chunks.push(w.unique_ids(flat, &columns.span_id.iter().map(|id| id.0).collect::<Vec<_>>()));
    chunks.push(parents(w, &columns.parent_span_id));
    let counts = [
        &columns.flags,
        &columns.dropped_attributes_count,
        &columns.dropped_events_count,
        &columns.dropped_links_count,
    ];
    for count in counts {
        chunks.push(w.repeated_i64(flat, &wide(count)));
    }
    for meta in [&columns.resource_meta, &columns.scope_meta] {
        chunks.push(nullable(w, meta));
    }
    chunks
}

fn wide(numbers: &[u32]) -> Vec<i64> {
    numbers.iter().map(|&number| i64::from(number)).collect()
}

fn ids(ids: &[TraceId]) -> Vec<[u8; 16]> {
    ids.iter().map(|id| id.0).collect()
}

/// The position of the empty string: distinct strings have it at most once.
fn empty_position(dictionary: &Dictionary) -> Option<u32> {
    dictionary.find("")
}

/// A text column whose empty texts are nulls.
fn nullable(w: &mut ChunkWriter, text: &DictColumn) -> Chunk {
    nullable_in(w, text, &[], text.rows.len(), |_| true, 1)
}

/// A text column whose empty texts are nulls, in a list with these repetition levels.
/// `holds` tells of each level whether it is an entry of a list; `deepest` is the level of a text that is there.
fn nullable_in(
    w: &mut ChunkWriter,
    text: &DictColumn,
    repetition: &[u8],
    n_levels: usize,
    holds: impl Fn(usize) -> bool,
    deepest: u8,
) -> Chunk {
    let skip = empty_position(&text.dictionary);
    let mut rows = text.rows.iter();
    let definition: Vec<u8> = (0..n_levels)
        .map(|level| {
            if !holds(level) {
                return deepest - 2;
            }
            let position = *rows.next().expect("invariant: as many texts as entries");
            deepest - u8::from(Some(position) == skip)
        })
        .collect();
    let levels =
        Levels { repetition, definition: &definition, definition_width: bits(deepest), count: n_levels };
    match skip {
        None => w.strings(levels, &text.dictionary, &text.rows, None),
        Some(empty) => {
            let present: Vec<u32> = text.rows.iter().copied().filter(|&position| position != empty).collect();
            w.strings(levels, &text.dictionary, &present, skip)
        }
    }
}

fn bits(level: u8) -> u8 {
    (8 - level.leading_zeros()) as u8
}

fn parents(w: &mut ChunkWriter, parents: &[SpanId]) -> Chunk {
    let definition: Vec<u8> = parents.iter().map(|parent| u8::from(!parent.is_none())).collect();
    let present: Vec<[u8; 8]> =
        parents.iter().filter(|parent| !parent.is_none()).map(|parent| parent.0).collect();
    let levels =
        Levels { definition: &definition, definition_width: 1, count: parents.len(), ..Levels::default() };
    w.repeated_ids(levels, &present)
}

/// Levels of a list column: one per entry, and one for each empty list.
struct ListLevels {
    /// Encoded repetition levels.
    repetition: Vec<u8>,
    /// Per level whether it is an entry.
    holds: Vec<bool>,
}

impl ListLevels {
    fn new(ends: &[u32]) -> Self {
        let n_entries = ends.last().map_or(0, |&end| end as usize);
        let mut levels = Vec::with_capacity(n_entries + ends.len());
        let mut holds = Vec::with_capacity(n_entries + ends.len());
        let mut start = 0;
        for &end in ends {
            levels.push(0);
            holds.push(end > start);
            let more = (end - start).saturating_sub(1) as usize;
            levels.resize(levels.len() + more, 1);
            holds.resize(holds.len() + more, true);
            start = end;
        }
        let mut repetition = Vec::new();
        hybrid::write_levels(&mut repetition, &levels, 1);
        Self { repetition, holds }
    }

    fn definition(&self) -> Vec<u8> {
        self.holds.iter().map(|&holds| u8::from(holds)).collect()
    }

    /// Levels of a required column in the list.
    fn levels<'a>(&'a self, definition: &'a [u8]) -> Levels<'a> {
        Levels { repetition: &self.repetition, definition, definition_width: 1, count: definition.len() }
    }

    fn nullable(&self, w: &mut ChunkWriter, text: &DictColumn) -> Chunk {
        nullable_in(w, text, &self.repetition, self.holds.len(), |level| self.holds[level], 2)
    }
}

fn write_attributes(w: &mut ChunkWriter, columns: &SpanColumns, chunks: &mut Vec<Chunk>) {
    let attributes = &columns.attributes;
    let list = ListLevels::new(&attributes.ends);
    let definition = list.definition();
    chunks.push(w.strings(list.levels(&definition), &attributes.key.dictionary, &attributes.key.rows, None));
    // Per level its kind; an empty list has none and stays at definition level 0.
    let mut kinds = attributes.kind.iter();
    let kind_of_level: Vec<Option<ValueKind>> =
        list.holds.iter().map(|&holds| if holds { kinds.next().copied() } else { None }).collect();
    let mut typed = Vec::with_capacity(kind_of_level.len());
    let mut levels_of = |kind: ValueKind, write: &mut dyn FnMut(Levels<'_>) -> Chunk| {
        typed.clear();
        typed.extend(kind_of_level.iter().map(|other| match other {
            None => 0,
            Some(other) => 1 + u8::from(*other == kind),
        }));
        let levels = Levels {
            repetition: &list.repetition,
            definition: &typed,
            definition_width: 2,
            count: typed.len(),
        };
        chunks.push(write(levels));
    };
    let (string, json) = (&attributes.string, &attributes.json);
    levels_of(ValueKind::String, &mut |levels| w.strings(levels, &string.dictionary, &string.rows, None));
    levels_of(ValueKind::Int, &mut |levels| w.repeated_i64(levels, &attributes.int));
    levels_of(ValueKind::Double, &mut |levels| w.doubles(levels, &attributes.double));
    levels_of(ValueKind::Bool, &mut |levels| w.bools(levels, &attributes.bool));
    levels_of(ValueKind::Json, &mut |levels| w.strings(levels, &json.dictionary, &json.rows, None));
}

fn write_events(w: &mut ChunkWriter, columns: &SpanColumns, chunks: &mut Vec<Chunk>) {
    let events = &columns.events;
    let list = ListLevels::new(&events.ends);
    let definition = list.definition();
    let levels = list.levels(&definition);
    chunks.push(w.changing_i64(levels, &events.time_ns));
    chunks.push(w.strings(levels, &events.name.dictionary, &events.name.rows, None));
    chunks.push(list.nullable(w, &events.attributes));
    chunks.push(w.repeated_i64(levels, &wide(&events.dropped_attributes_count)));
}

fn write_links(w: &mut ChunkWriter, columns: &SpanColumns, chunks: &mut Vec<Chunk>) {
    let links = &columns.links;
    let list = ListLevels::new(&links.ends);
    let definition = list.definition();
    let levels = list.levels(&definition);
    chunks.push(w.repeated_ids(levels, &ids(&links.trace_id)));
    chunks.push(w.unique_ids(levels, &links.span_id.iter().map(|id| id.0).collect::<Vec<_>>()));
    chunks.push(list.nullable(w, &links.trace_state));
    chunks.push(list.nullable(w, &links.attributes));
    chunks.push(w.repeated_i64(levels, &wide(&links.dropped_attributes_count)));
    chunks.push(w.repeated_i64(levels, &wide(&links.flags)));
}

/// Parts of a file that were fetched.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    parts: Vec<(u64, Bytes)>,
}

impl Parts {
    /// No parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole file.
    pub fn whole(file: Bytes) -> Self {
        Self { parts: vec![(0, file)] }
    }

    /// Adds the bytes of the file from `offset` on.
    pub fn add(&mut self, offset: u64, bytes: Bytes) {
        self.parts.push((offset, bytes));
    }

    fn get(&self, range: &Range<u64>) -> Result<&[u8], Invalid> {
        let part = |(offset, bytes): &'_ (u64, Bytes)| {
            let start = range.start.checked_sub(*offset)? as usize;
            let end = (range.end - offset) as usize;
            (end <= bytes.len()).then_some(start..end)
        };
        let found = self.parts.iter().find_map(|entry| part(entry).map(|range| &entry.1[range]));
        found.ok_or(Invalid("file is shorter than its index says"))
    }
}

/// The columns in `projection` of a file with these chunks; all others stay empty.
///
/// # Errors
/// The bytes are not a file of this layout, or parts are missing.
pub fn decode(table: &ChunkTable, parts: &Parts, projection: Projection) -> Result<SpanColumns, Invalid> {
    let mut columns = SpanColumns::default();
    decode_into(&mut columns, table, parts, projection)?;
    Ok(columns)
}

/// As [`decode`], into `columns` that other columns of the same file may already be in.
///
/// # Errors
/// As [`decode`].
pub fn decode_into(
    columns: &mut SpanColumns,
    table: &ChunkTable,
    parts: &Parts,
    projection: Projection,
) -> Result<(), Invalid> {
    if table.chunks.len() != column::COUNT {
        return Err(Invalid("file has another number of columns"));
    }
    let read = |column: usize| -> Result<Option<Pages>, Invalid> {
        if !projection.has(column) {
            return Ok(None);
        }
        let leaf = &LEAVES[column];
        let bytes = parts.get(&table.range(column))?;
        Pages::read(bytes, table.chunks[column].1, leaf.max_repetition, leaf.max_definition).map(Some)
    };
    if let Some(pages) = read(column::TRACE_ID)? {
        columns.trace_id = pages.ids()?.into_iter().map(TraceId).collect();
    }
    let n_rows = columns.len();
    let rows = |len: usize| if len == n_rows { Ok(()) } else { Err(Invalid("columns differ in length")) };
    for (column, numbers) in
        [(column::START_TIME, &mut columns.start_ns), (column::DURATION_NS, &mut columns.duration_ns)]
    {
        if let Some(pages) = read(column)? {
            *numbers = pages.i64s()?;
            rows(numbers.len())?;
        }
    }
    for (column, text) in [(column::SERVICE_NAME, &mut columns.service), (column::NAME, &mut columns.name)] {
        if let Some(pages) = read(column)? {
            (text.dictionary, text.rows) = pages.strings()?;
            rows(text.rows.len())?;
        }
    }
    for (column, numbers) in
        [(column::KIND, &mut columns.kind), (column::STATUS_CODE, &mut columns.status_code)]
    {
        if let Some(pages) = read(column)? {
            *numbers = pages.i32s()?;
            rows(numbers.len())?;
        }
    }
    let texts = [
        (column::STATUS_MESSAGE, &mut columns.status_message),
        (column::SCOPE_NAME, &mut columns.scope_name),
        (column::SCOPE_VERSION, &mut columns.scope_version),
        (column::TRACE_STATE, &mut columns.trace_state),
        (column::RESOURCE_ATTRIBUTES, &mut columns.resource),
        (column::RESOURCE_META, &mut columns.resource_meta),
        (column::SCOPE_META, &mut columns.scope_meta),
    ];
    for (column, text) in texts {
        if let Some(pages) = read(column)? {
            *text = read_nullable(&pages, 1)?;
            rows(text.rows.len())?;
        }
    }
    if let Some(pages) = read(column::SPAN_ID)? {
        columns.span_id = pages.ids()?.into_iter().map(SpanId).collect();
        rows(columns.span_id.len())?;
    }
    if let Some(pages) = read(column::PARENT_SPAN_ID)? {
        let mut present = pages.ids()?.into_iter().map(SpanId);
        let parent =
            |&level: &u32| if level == 1 { present.next().unwrap_or(SpanId::NONE) } else { SpanId::NONE };
        columns.parent_span_id = pages.definition.iter().map(parent).collect();
        rows(columns.parent_span_id.len())?;
    }
    let counts = [
        (column::FLAGS, &mut columns.flags),
        (column::DROPPED_ATTRIBUTES, &mut columns.dropped_attributes_count),
        (column::DROPPED_EVENTS, &mut columns.dropped_events_count),
        (column::DROPPED_LINKS, &mut columns.dropped_links_count),
    ];
    for (column, numbers) in counts {
        if let Some(pages) = read(column)? {
            *numbers = narrow(&pages)?;
            rows(numbers.len())?;
        }
    }
    read_attributes(columns, &read, n_rows)?;
    read_events(columns, &read, n_rows)?;
    read_links(columns, &read, n_rows)
}

fn narrow(pages: &Pages) -> Result<Vec<u32>, Invalid> {
    let number = |number| u32::try_from(number).map_err(|_| Invalid("count is out of range"));
    pages.i64s()?.into_iter().map(number).collect()
}

/// A text column whose nulls are empty texts; levels below `deepest - 1` are empty lists and no entries.
fn read_nullable(pages: &Pages, deepest: u32) -> Result<DictColumn, Invalid> {
    let (mut dictionary, positions) = pages.strings()?;
    let mut empty = None;
    let mut positions = positions.into_iter();
    let mut rows = Vec::with_capacity(pages.definition.len());
    for &level in &pages.definition {
        if level == deepest {
            rows.push(positions.next().ok_or(Invalid("column has too few values"))?);
        } else if level + 1 == deepest {
            let position = *empty.get_or_insert_with(|| {
                dictionary.push_unindexed("");
                dictionary.len() as u32 - 1
            });
            rows.push(position);
        }
    }
    Ok(DictColumn { dictionary, rows })
}

/// The ends of the lists that these levels describe.
fn read_ends(pages: &Pages, n_rows: usize) -> Result<Vec<u32>, Invalid> {
    let mut ends: Vec<u32> = Vec::with_capacity(n_rows);
    let mut n_entries = 0;
    for (&repetition, &definition) in pages.repetition.iter().zip(&pages.definition) {
        if repetition == 0 {
            ends.push(n_entries);
        }
        let end = ends.last_mut().ok_or(Invalid("first level continues a list"))?;
        n_entries += u32::from(definition > 0);
        *end = n_entries;
    }
    if ends.len() == n_rows { Ok(ends) } else { Err(Invalid("lists differ in number from rows")) }
}

type ReadColumn<'a> = dyn Fn(usize) -> Result<Option<Pages>, Invalid> + 'a;

fn read_attributes(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let attributes = &mut columns.attributes;
    if let Some(pages) = read(column::ATTRIBUTE_KEY)? {
        attributes.ends = read_ends(&pages, n_rows)?;
        (attributes.key.dictionary, attributes.key.rows) = pages.strings()?;
        attributes.kind = vec![ValueKind::Empty; attributes.key.len()];
        attributes.slot = vec![0; attributes.key.len()];
    }
    let typed = [
        (column::ATTRIBUTE_STRING, ValueKind::String),
        (column::ATTRIBUTE_INT, ValueKind::Int),
        (column::ATTRIBUTE_DOUBLE, ValueKind::Double),
        (column::ATTRIBUTE_BOOL, ValueKind::Bool),
        (column::ATTRIBUTE_JSON, ValueKind::Json),
    ];
    for (column, kind) in typed {
        let Some(pages) = read(column)? else { continue };
        let n_values = match kind {
            ValueKind::String | ValueKind::Json => {
                let text =
                    if kind == ValueKind::String { &mut attributes.string } else { &mut attributes.json };
                (text.dictionary, text.rows) = pages.strings()?;
                text.rows.len()
            }
            ValueKind::Int => {
                attributes.int = pages.i64s()?;
                attributes.int.len()
            }
            ValueKind::Double => {
                attributes.double = pages.doubles()?;
                attributes.double.len()
            }
            ValueKind::Bool => {
                attributes.bool = pages.bools()?;
                attributes.bool.len()
            }
            ValueKind::Empty => 0,
        };
        if n_values != pages.n_values() {
            return Err(Invalid("column has another number of values"));
        }
        place_values(&pages, kind, &mut attributes.kind, &mut attributes.slot)?;
    }
    Ok(())
}

/// Notes for each entry that has a value in this column where the value is.
fn place_values(
    pages: &Pages,
    kind: ValueKind,
    kinds: &mut [ValueKind],
    slots: &mut [u32],
) -> Result<(), Invalid> {
    let (mut entry, mut slot) = (0, 0);
    for &level in &pages.definition {
        if level == 0 {
            continue;
        }
        if level == 2 {
            *kinds.get_mut(entry).ok_or(Invalid("column has more entries than keys"))? = kind;
            slots[entry] = slot;
            slot += 1;
        }
        entry += 1;
    }
    if entry == kinds.len() { Ok(()) } else { Err(Invalid("column has fewer entries than keys")) }
}

fn read_events(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let events = &mut columns.events;
    if let Some(pages) = read(column::EVENT_TIME)? {
        events.ends = read_ends(&pages, n_rows)?;
        events.time_ns = pages.i64s()?;
    }
    if let Some(pages) = read(column::EVENT_NAME)? {
        (events.name.dictionary, events.name.rows) = pages.strings()?;
    }
    if let Some(pages) = read(column::EVENT_ATTRIBUTES)? {
        // A reader that wants only the attributes still needs to know whose they are.
        events.ends = read_ends(&pages, n_rows)?;
        events.attributes = read_nullable(&pages, 2)?;
    }
    if let Some(pages) = read(column::EVENT_DROPPED)? {
        events.dropped_attributes_count = narrow(&pages)?;
    }
    let n_entries = events.ends.last().map_or(0, |&end| end as usize);
    let lengths = [
        events.time_ns.len(),
        events.name.len(),
        events.attributes.len(),
        events.dropped_attributes_count.len(),
    ];
    if lengths.iter().all(|&len| len == 0 || len == n_entries) {
        Ok(())
    } else {
        Err(Invalid("events differ in number"))
    }
}

fn read_links(columns: &mut SpanColumns, read: &ReadColumn<'_>, n_rows: usize) -> Result<(), Invalid> {
    let links = &mut columns.links;
    if let Some(pages) = read(column::LINK_TRACE_ID)? {
        links.ends = read_ends(&pages, n_rows)?;
        links.trace_id = pages.ids()?.into_iter().map(TraceId).collect();
    }
    if let Some(pages) = read(column::LINK_SPAN_ID)? {
        links.span_id = pages.ids()?.into_iter().map(SpanId).collect();
    }
    if let Some(pages) = read(column::LINK_TRACE_STATE)? {
        links.trace_state = read_nullable(&pages, 2)?;
    }
    if let Some(pages) = read(column::LINK_ATTRIBUTES)? {
        links.attributes = read_nullable(&pages, 2)?;
    }
    if let Some(pages) = read(column::LINK_DROPPED)? {
        links.dropped_attributes_count = narrow(&pages)?;
    }
    if let Some(pages) = read(column::LINK_FLAGS)? {
        links.flags = narrow(&pages)?;
    }
    let n_entries = links.ends.last().map_or(0, |&end| end as usize);
    let lengths = [
        links.trace_id.len(),
        links.span_id.len(),
        links.trace_state.len(),
        links.attributes.len(),
        links.dropped_attributes_count.len(),
        links.flags.len(),
    ];
    if lengths.iter().all(|&len| len == 0 || len == n_entries) {
        Ok(())
    } else {
        Err(Invalid("links differ in number"))
    }
}
