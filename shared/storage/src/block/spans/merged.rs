//! Merged files of spans: sorted by trace, in units that are read by themselves.
//!
//! ```text
//! file      = "PAR1"  unit …  search section  directory  search directory  footer
//! unit      = head  chunk of column 0  chunk of column 1  …
//! head      = [u8 0  varint n  per attribute with a column of its own: section key  u8 kind]
//!             varint rows  per column varint(length << 1 | compressed)
//! directory = the heads of all units, once more
//! ```
//! The columns are those of files of one request, and behind them columns of the attributes that most spans have, chosen by
//! [`Choice`](model::dense::Choice) from what is merged: keys, kinds and levels are then said once a unit instead of once
//! an attribute. Rows are sorted by the
//! [`hash_id`] of their trace, then by trace, start and span: hashed, so that any scheme of ids spreads evenly and 32 bits
//! tell where a unit begins. A trace lies in one unit, or, if it is large, in a few that follow each other. Whoever looks
//! for a trace reads one unit in one range, its head included; whoever searches reads both directories, then blocks of the [`search`]
//! section, and then units that these name. All this lies between the chunks, where readers of Parquet do not look.
//!
//! The file's metadata has `spandrel.layout` = `spans/4`; in `spans/3` no attribute has a column of its own, and in
//! `spans/2` units end anywhere between two spans.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use model::dense::{Dense, DenseRows, DenseTransfer};
use model::transfer::{Pick, Picks, SpanTransfer};
use model::{SpanColumns, SpanId, TraceId};

use super::search::{self, Block, Collector};
use super::{ChunkTable, NODES, Parts, Projection, column, decode, dense, encode};
use crate::block::parquet::Invalid;
use crate::block::parquet::file::{self, RowGroup};
use crate::block::parquet::write::{Chunk, ChunkWriter};
use crate::block::parts;
use crate::index::fingerprint::{hash_id, mix};
use crate::index::{Descriptor, MergedSpans, Places, SpanUnit, Summary, trace_sieve};

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "spans/4";

/// Begins the head of a unit with attributes that have columns of their own: no unit has so few rows.
const HAS_DENSE: u8 = 0;
/// Rows of a unit: few, because a trace costs the decoding of one; many, because each repeats resources and names. The
/// trace with the last of them is not cut.
const UNIT_ROWS: usize = 4096;
/// Rows with which a unit is closed within a trace.
const MAX_UNIT_ROWS: usize = 2 * UNIT_ROWS;
/// A unit is closed when its columns take as much memory, however few rows those are.
const UNIT_MEMORY_BYTES: usize = 4 << 20;

/// Chunks of fewer bytes are not compressed: of many columns most are short, and a frame takes microseconds.
const MIN_COMPRESS_BYTES: usize = 512;

/// Rows that are moved at once at most: column by column, which is faster than row by row.
const MAX_PICKS: usize = 2048;
/// About as many bytes are moved at once at most, so that a unit is closed in time.
const MAX_PICKED_BYTES: usize = 1 << 20;

/// A merged file and what planning needs to know of it.
#[derive(Debug, Clone)]
pub struct WrittenSpans {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: Descriptor,
    /// The sieve of its traces, where they are too many for its item.
    pub many_traces: Vec<u8>,
}

/// Memory that one writer leaves to the next, without anything of what was in it.
#[derive(Default)]
pub struct SpanRoom {
    search: search::Room,
    file: Vec<u8>,
}

impl SpanRoom {
    /// Takes a file back that nobody needs any more: of two that are as large, the allocator may hold both for a while.
    pub fn take_back(&mut self, file: Bytes) {
        if file.is_unique() {
            self.file = file.into();
            self.file.clear();
        }
    }
}

/// Writes a merged file from rows that come in order. Memory: one unit and the finished bytes.
pub struct SpanWriter {
    writer: ChunkWriter,
    /// Attributes with columns of their own.
    dense: Dense,
    /// The open unit, but for these. Its dictionaries have strings of units before it.
    columns: SpanColumns,
    /// These, of the open unit.
    dense_rows: DenseRows,
    /// What `columns` took when the unit was opened.
    kept_bytes: usize,
    /// Whether the unit takes too much to grow.
    is_large: bool,
    groups: Vec<RowGroup>,
    units: Vec<SpanUnit>,
    directory: Vec<u8>,
    search: Collector,
    descriptor: Option<Descriptor>,
    services: BTreeSet<String>,
    operations: HashSet<u64, foldhash::fast::FixedState>,
    /// Hashes of the traces, ascending.
    trace_hashes: Vec<u64>,
}

impl SpanWriter {
    /// An empty file, compressed by `zstd_level`, in which these attributes have columns of their own.
    pub fn new(zstd_level: i32, dense: Dense) -> Self {
        let mut writer = ChunkWriter::with_level(zstd_level).compressing_from(MIN_COMPRESS_BYTES);
        writer.out.extend_from_slice(file::MAGIC);
        Self {
            writer,
            columns: SpanColumns::default(),
            dense_rows: DenseRows::new(&dense),
            dense,
            kept_bytes: 0,
            is_large: false,
            groups: Vec::new(),
            units: Vec::new(),
            directory: Vec::new(),
            search: Collector::new(zstd_level),
            descriptor: None,
            services: BTreeSet::new(),
            operations: HashSet::default(),
            trace_hashes: Vec::new(),
        }
    }

    /// Takes the memory that another writer left and makes room for a file of about so many bytes, in front of the first row:
    /// one that grows by doubling is in memory twice.
    #[must_use]
    pub fn with_room(mut self, room: SpanRoom, bytes: usize) -> Self {
        self.search.reuse(room.search);
        let mut out = room.file;
        if out.capacity() < bytes {
            // Gone before the larger one comes.
            drop(std::mem::take(&mut out));
            out.reserve_exact(bytes);
        }
        out.extend_from_slice(&self.writer.out);
        self.writer.out = out;
        self
    }

    /// About how long the file is so far, in bytes.
    pub fn len(&self) -> usize {
        self.writer.out.len() + self.search.len()
    }

    /// Whether no row was written.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.units.is_empty()
    }

    fn held_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.dense_rows.memory_bytes()
    }

    fn close_unit(&mut self) {
        let mut columns = std::mem::take(&mut self.columns);
        let Some(first) = columns.trace_id.first() else { return };
        let first_hash = (hash_id(&first.0) >> 32) as u32;
        // The head is as long as the lengths in it are: the chunks are written behind and moved into place.
        let start = self.writer.out.len();
        self.writer.begin_group();
        let mut chunks = encode::write_chunks(&mut self.writer, &columns, &distances_to_parents(&columns));
        dense::write(&mut self.writer, &self.dense_rows, &self.dense, &mut chunks);
        let head = write_head(columns.len() as u64, &chunks, &self.dense);
        self.writer.out.splice(start..start, head.iter().copied());
        for chunk in &mut chunks {
            chunk.offset += head.len() as u64;
        }
        self.directory.extend_from_slice(&head);
        let len = (self.writer.out.len() - start) as u64;
        self.units.push(SpanUnit { rows: columns.len() as u64, first_hash, len });
        self.groups.push(RowGroup { n_rows: columns.len() as u64, chunks });
        self.search.push_unit(&columns, &self.dense_rows, &self.dense);
        for trace in columns.trace_id.chunk_by(|a, b| a == b).map(|trace| trace[0]) {
            // The last trace may go on in the next unit.
            let hash = hash_id(&trace.0);
            if self.trace_hashes.last() != Some(&hash) {
                self.trace_hashes.push(hash);
            }
        }
        self.describe(&columns);
        columns.clear();
        self.columns = columns;
        self.dense_rows.clear();
        self.kept_bytes = self.held_bytes();
        self.is_large = false;
    }

    /// Adds what a unit has to the file's description.
    fn describe(&mut self, columns: &SpanColumns) {
        let mut of_unit = Descriptor::of_unit(columns);
        of_unit.held_bytes += (self.dense_rows.memory_bytes_of_rows()) as u64;
        for (service, _, name) in &of_unit.names {
            self.operations.insert(crate::index::fingerprint::hash_texts(service, name));
            if !self.services.contains(service) {
                self.services.insert(service.clone());
            }
        }
        match &mut self.descriptor {
            Some(descriptor) => descriptor.reach(&of_unit),
            None => self.descriptor = Some(of_unit),
        }
    }

    /// The file, and memory for the next; `None` if no row was written.
    pub fn finish(mut self) -> Option<(WrittenSpans, SpanRoom)> {
        self.close_unit();
        let mut descriptor = self.descriptor?;
        let mut out = self.writer.out;
        let (blocks, search_directory, room) = self.search.finish();
        out.extend_from_slice(&blocks);
        let mut append = |bytes: &[u8]| {
            let start = out.len() as u64;
            out.extend_from_slice(bytes);
            start..out.len() as u64
        };
        let (directory, search) = (append(&self.directory), append(&search_directory));
        write_footer(&mut out, &self.groups, &self.dense);
        let last_hash = self.trace_hashes.last().map_or(u32::MAX, |hash| (hash >> 32) as u32);
        descriptor.merge(
            out.len() as u64,
            MergedSpans { units: self.units, directory, search, last_hash },
            &self.services,
            self.operations.into_iter().collect(),
            &self.trace_hashes,
        );
        let are_many = descriptor.traces.is_empty();
        let many_traces = if are_many { trace_sieve(&self.trace_hashes) } else { Vec::new() };
        Some((
            WrittenSpans { bytes: Bytes::from(out), descriptor, many_traces },
            SpanRoom { search: room, file: Vec::new() },
        ))
    }
}

/// The head of a unit: the attributes with columns of their own if there are any, rows, and where chunks are.
fn write_head(rows: u64, chunks: &[Chunk], dense: &Dense) -> Vec<u8> {
    let mut head = Vec::new();
    if !dense.keys().is_empty() {
        head.push(HAS_DENSE);
        dense::write_keys(&mut head, dense);
    }
    head.extend_from_slice(&parts::write_head(rows, chunks));
    head
}

fn write_footer(out: &mut Vec<u8>, groups: &[RowGroup], dense: &Dense) {
    let names = dense::names(dense);
    let mut nodes = NODES.to_vec();
    nodes.extend(dense::nodes(dense, &names));
    let keys = dense::metadata(dense);
    let metadata = [("spandrel.layout", LAYOUT), (dense::METADATA_KEY, keys.as_str())];
    file::write_footer(out, &nodes, &file::leaves(&nodes), groups, &metadata);
}

/// Spans of a trace that are looked through for a parent; of larger ones a map is made.
const SMALL_TRACE: usize = 24;

/// Per row of a unit how many rows before it its parent is, if it is in the unit.
fn distances_to_parents(columns: &SpanColumns) -> Vec<Option<i32>> {
    let mut distances = Vec::with_capacity(columns.len());
    let mut row_of: HashMap<SpanId, i32, foldhash::fast::FixedState> = HashMap::default();
    for trace in columns.trace_id.chunk_by(|a, b| a == b) {
        let rows = distances.len()..distances.len() + trace.len();
        if trace.len() <= SMALL_TRACE {
            let ids = &columns.span_id[rows.clone()];
            distances.extend(columns.parent_span_id[rows].iter().enumerate().map(|(row, &parent)| {
                // The last of equal ids, as below.
                let parent_row = ids.iter().rposition(|&id| id == parent).filter(|_| parent != SpanId::NONE);
                parent_row.map(|parent_row| row as i32 - parent_row as i32)
            }));
            continue;
        }
        row_of.clear();
        row_of.extend(columns.span_id[rows.clone()].iter().copied().zip(rows.start as i32..));
        distances.extend(rows.map(|row| {
            let parent = columns.parent_span_id[row];
            let parent_row = row_of.get(&parent).filter(|_| parent != SpanId::NONE);
            parent_row.map(|&parent_row| row as i32 - parent_row)
        }));
    }
    distances
}

/// Takes a unit's head off the front of `bytes`: rows, and where the chunks are in a unit that begins at `start`.
///
/// # Errors
/// The bytes are no head.
pub fn read_head(bytes: &mut &[u8], start: u64) -> Result<(u64, ChunkTable), Invalid> {
    let n_before = bytes.len();
    let mut dense = Dense::default();
    if bytes.first() == Some(&HAS_DENSE) {
        *bytes = &bytes[1..];
        dense = dense::read_keys(bytes)?;
    }
    let start = start + (n_before - bytes.len()) as u64;
    let (rows, table) = parts::read_head(bytes, start, dense::n_columns(&dense))?;
    Ok((rows, ChunkTable { dense, ..table }))
}

/// Where the columns of each unit are, by a file's directory.
///
/// # Errors
/// The bytes are no directory of as many units.
pub fn tables(mut directory: &[u8], merged: &MergedSpans) -> Result<Vec<ChunkTable>, Invalid> {
    merged.placed().map(|(place, _)| Ok(read_head(&mut directory, place.start)?.1)).collect()
}

/// Spans in the order of merged files, in memory.
#[derive(Debug)]
pub struct SpanRun {
    /// But for attributes with columns of their own.
    columns: SpanColumns,
    dense: DenseRows,
    hashes: Vec<u64>,
    /// Rows in order.
    order: Vec<u32>,
    next: usize,
    /// About how many bytes a row takes.
    row_bytes: usize,
}

/// Where a span has its place.
type SpanKey = (u64, TraceId, i64, SpanId);

impl SpanRun {
    /// These spans, in whatever order they are, for a file in which these attributes have columns of their own.
    pub fn sorted(mut columns: SpanColumns, dense: &Dense) -> Self {
        let apart = DenseRows::split(&mut columns.attributes, dense);
        Self::of_parts(columns, apart)
    }

    fn of_parts(columns: SpanColumns, dense: DenseRows) -> Self {
        let hashes: Vec<u64> = columns.trace_id.iter().map(|id| hash_id(&id.0)).collect();
        let key = |row: u32| {
            let row = row as usize;
            (columns.trace_id[row], columns.start_ns[row], columns.span_id[row])
        };
        let full_key = |row: u32| (hashes[row as usize], key(row));
        let mut order: Vec<u32> = (0..columns.len() as u32).collect();
        if !order.is_sorted_by_key(|&row| full_key(row)) {
            // By the upper half of hashes first, which lie side by side with their rows: spans of a trace are few.
            let mut keyed: Vec<u64> =
                hashes.iter().zip(&order).map(|(hash, &row)| hash >> 32 << 32 | u64::from(row)).collect();
            keyed.sort_unstable();
            order.clear();
            order.extend(keyed.iter().map(|keyed| *keyed as u32));
            let half = |row: u32| hashes[row as usize] >> 32;
            for alike in order.chunk_by_mut(|&a, &b| half(a) == half(b)) {
                let trace = |row: u32| columns.trace_id[row as usize];
                let first = trace(alike[0]);
                if alike.iter().all(|&row| trace(row) == first) {
                    alike.sort_by_key(|&row| (columns.start_ns[row as usize], columns.span_id[row as usize]));
                } else {
                    alike.sort_by_key(|&row| full_key(row));
                }
            }
        }
        let row_bytes = (columns.memory_bytes() + dense.memory_bytes()) / columns.len().max(1);
        Self { columns, dense, hashes, order, next: 0, row_bytes }
    }

    /// The spans of a unit that was read whole, head included, for a file with these columns.
    ///
    /// # Errors
    /// The bytes are not a unit, or its rows are not in order.
    pub fn read(bytes: Bytes, start: u64, dense: &Dense) -> Result<Self, Invalid> {
        let (_, table) = read_head(&mut &*bytes, start)?;
        let mut parts = Parts::new();
        parts.add(start, bytes);
        let (mut columns, apart) = decode::decode_apart(&table, &parts)?;
        let of_unit = &table.dense;
        let run = if !of_unit.keys().is_empty() && of_unit.are_in(dense) {
            let apart =
                apart.for_columns(of_unit, dense).ok_or(Invalid("columns are not those of the file"))?;
            Self::of_parts(columns, apart)
        } else {
            let joined = apart.join(of_unit, &mut columns.attributes);
            joined.ok_or(Invalid("attributes are not in their order"))?;
            Self::sorted(columns, dense)
        };
        if run.order.is_sorted() { Ok(run) } else { Err(Invalid("rows are not in order")) }
    }

    /// About how many bytes the spans take.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.dense.memory_bytes()
    }

    fn key(&self) -> Option<SpanKey> {
        let row = *self.order.get(self.next)? as usize;
        let columns = &self.columns;
        Some((self.hashes[row], columns.trace_id[row], columns.start_ns[row], columns.span_id[row]))
    }
}

/// Merges inputs, all for one file's columns, each of which is fed run by run in the order of its rows. Equal spans are
/// written once.
///
/// Memory is bounded by one run of each input and one unit.
#[derive(Debug)]
pub struct SpanMerge {
    inputs: Vec<Input>,
    /// What is known of the inputs' texts.
    transfers: (Vec<SpanTransfer>, Vec<DenseTransfer>),
    heads: BinaryHeap<Reverse<(SpanKey, usize)>>,
    /// Rows of the inputs that are the next ones of the open unit, but are not moved yet.
    picks: Vec<Pick>,
    /// About how many bytes these take.
    picked_bytes: usize,
    /// The key of the last row of the open unit, and the rows that have it.
    alike: (Option<SpanKey>, Vec<usize>),
    /// Spans that were left out, because they are equal to others.
    pub n_duplicates: u64,
}

#[derive(Debug)]
enum Input {
    Starved,
    Fed(Box<SpanRun>),
    Ended,
}

impl SpanMerge {
    /// Of so many inputs.
    pub fn new(n_inputs: usize) -> Self {
        Self {
            inputs: (0..n_inputs).map(|_| Input::Starved).collect(),
            transfers: (vec![SpanTransfer::default(); n_inputs], vec![DenseTransfer::default(); n_inputs]),
            heads: BinaryHeap::new(),
            picks: Vec::with_capacity(MAX_PICKS),
            picked_bytes: 0,
            alike: (None, Vec::new()),
            n_duplicates: 0,
        }
    }

    /// An input whose next run is needed.
    pub fn starved(&self) -> Option<usize> {
        self.inputs.iter().position(|input| matches!(input, Input::Starved))
    }

    /// Gives an input's next run; `None` if it has no more.
    pub fn feed(&mut self, input: usize, run: Option<SpanRun>) {
        (self.transfers.0[input], self.transfers.1[input]) = Default::default();
        self.inputs[input] = match run.map(|run| (run.key(), run)) {
            None => Input::Ended,
            Some((None, _)) => Input::Starved,
            Some((Some(key), run)) => {
                self.heads.push(Reverse((key, input)));
                Input::Fed(Box::new(run))
            }
        };
    }

    /// The key of the next span, if there is one; no input may be starved.
    fn peek(&self) -> Option<SpanKey> {
        self.heads.peek().map(|Reverse((key, _))| *key)
    }

    /// Writes spans until an input is starved or there is none left; `false` in the second case. A full file is left to
    /// the caller, between two traces at best: this returns when `writer` has `target_bytes`.
    pub fn write(&mut self, writer: &mut SpanWriter, target_bytes: usize) -> bool {
        while let Some(key) = self.peek() {
            let is_new = self.alike.0 != Some(key);
            if is_new && self.is_unit_full(writer, key.1) {
                self.move_picks(writer);
                writer.close_unit();
                self.alike = (None, Vec::new());
                if writer.len() >= target_bytes {
                    return true;
                }
            }
            let starved =
                if is_new { self.pick_some(writer.columns.len()) } else { self.write_alike(writer) };
            if starved.is_some() || self.picks.len() >= MAX_PICKS || self.picked_bytes >= MAX_PICKED_BYTES {
                self.move_picks(writer);
            }
            if let Some(input) = starved {
                self.inputs[input] = Input::Starved;
                return true;
            }
        }
        self.move_picks(writer);
        false
    }

    /// Whether the unit is closed before a span of this trace.
    fn is_unit_full(&self, writer: &SpanWriter, next: TraceId) -> bool {
        let n_rows = writer.columns.len() + self.picks.len();
        let is_new_trace = || self.alike.0.is_none_or(|last| last.1 != next);
        n_rows >= MAX_UNIT_ROWS || n_rows >= UNIT_ROWS && is_new_trace() || writer.is_large
    }

    /// Moves rows into the open unit.
    fn move_picks(&mut self, writer: &mut SpanWriter) {
        if self.picks.is_empty() {
            return;
        }
        let none = (SpanColumns::default(), DenseRows::default());
        let (columns, dense): (Vec<&SpanColumns>, Vec<&DenseRows>) = self
            .inputs
            .iter()
            .map(|input| match input {
                Input::Fed(run) => (&run.columns, &run.dense),
                Input::Starved | Input::Ended => (&none.0, &none.1),
            })
            .unzip();
        let picks = Picks::of(&self.picks, columns.len());
        writer.columns.extend_from(&columns, &picks, &mut self.transfers.0);
        writer.dense_rows.extend_from(&dense, &picks, &mut self.transfers.1);
        writer.is_large = writer.held_bytes() - writer.kept_bytes >= UNIT_MEMORY_BYTES;
        self.picks.clear();
        self.picked_bytes = 0;
    }

    /// Takes the next spans, each with a new key, that are before all other inputs' and fit into the unit, which has so
    /// many rows; gives their input if it has no more.
    fn pick_some(&mut self, n_rows: usize) -> Option<usize> {
        let Reverse((first, at)) = self.heads.pop()?;
        let other = self.heads.peek().map(|Reverse(head)| *head);
        let Input::Fed(run) = &mut self.inputs[at] else { return None };
        let n_before = self.picks.len();
        let room = UNIT_ROWS.saturating_sub(n_rows + n_before).min(MAX_PICKED_BYTES / run.row_bytes.max(1));
        let mut next = Some(first);
        while let Some(key) = next.filter(|&key| {
            let n_picked = self.picks.len() - n_before;
            let is_first = other.is_none_or(|other| (key, at) < other);
            n_picked == 0 || n_picked < room && is_first && self.alike.0 != Some(key)
        }) {
            self.alike.0 = Some(key);
            self.picks.push(Pick { batch: at as u32, row: run.order[run.next] });
            run.next += 1;
            next = run.key();
        }
        self.picked_bytes += (self.picks.len() - n_before) * run.row_bytes;
        self.alike.1.clear();
        self.alike.1.push(n_rows + self.picks.len() - 1);
        let Some(key) = next else { return Some(at) };
        self.heads.push(Reverse((key, at)));
        None
    }

    /// Writes the next span, whose key is that of the one before, if it is not equal to one of those that have it; gives
    /// its input if that has no more.
    fn write_alike(&mut self, writer: &mut SpanWriter) -> Option<usize> {
        // Equal keys are few: those before are looked at where they are.
        self.move_picks(writer);
        let Reverse((_, at)) = self.heads.pop()?;
        let Input::Fed(run) = &mut self.inputs[at] else { return None };
        let row = run.order[run.next];
        let span = run.columns.span(row as usize);
        let is_same = |&other: &usize| {
            writer.columns.span(other).same_as(span)
                && writer.dense_rows.is_same(other, &run.dense, row as usize)
        };
        if self.alike.1.iter().any(is_same) {
            self.n_duplicates += 1;
        } else {
            self.alike.1.push(writer.columns.len());
            self.picks.push(Pick { batch: at as u32, row });
            self.picked_bytes += run.row_bytes;
        }
        run.next += 1;
        let Some(next) = run.key() else { return Some(at) };
        self.heads.push(Reverse((next, at)));
        None
    }
}

/// Reads an output as its readers will, and checks that it is what its item says.
///
/// # Errors
/// It is not.
pub fn verify(bytes: &Bytes, descriptor: &Descriptor) -> Result<(), Invalid> {
    verify_item(bytes, &Summary::parse(&descriptor.encode())?)
}

/// As [`verify`], by the item itself.
///
/// # Errors
/// As there.
pub fn verify_item(bytes: &Bytes, item: &Summary<'_>) -> Result<(), Invalid> {
    let Places::Merged(merged) = item.places()? else {
        return Err(Invalid("merged file has no units"));
    };
    let mut directory = bytes
        .get(merged.directory.start as usize..merged.directory.end as usize)
        .ok_or(Invalid("directory is outside of the file"))?;
    let mut start = file::MAGIC.len() as u64;
    let mut n_rows = 0;
    let mut hashes: Vec<u64> = Vec::new();
    // Units and blocks have the same spans, in different orders.
    let mut checksum: u64 = 0;
    for (number, unit) in (0..).zip(&merged.units) {
        let (rows, table) = read_head(&mut directory, start)?;
        let columns =
            super::decode(&table, &Parts::whole(bytes.clone()), Projection::of(&[column::START_TIME]))?;
        let first = columns.trace_id.first().map(|id| (hash_id(&id.0) >> 32) as u32);
        if rows != unit.rows || columns.len() as u64 != rows || first != Some(unit.first_hash) {
            return Err(Invalid("unit is not what its item says"));
        }
        for id in &columns.trace_id {
            let hash = hash_id(&id.0);
            match hashes.last() {
                Some(&before) if hash < before => return Err(Invalid("rows are not in order")),
                Some(&before) if hash == before => {}
                _ => hashes.push(hash),
            }
        }
        for &start_ns in &columns.start_ns {
            checksum = checksum.wrapping_add(hash_of(number, search::start_us(start_ns)));
        }
        n_rows += rows;
        start += unit.len;
        if table.end() != start {
            return Err(Invalid("unit has another length"));
        }
    }
    let search_directory = bytes
        .get(merged.search.start as usize..merged.search.end as usize)
        .ok_or(Invalid("directory is outside of the file"))?;
    for entry in search::read_directory(search_directory, merged.directory.start)? {
        let block = &bytes[entry.place.start as usize..entry.place.end as usize];
        for (start_us, unit) in Block::open(&entry, block)?.spans()? {
            checksum = checksum.wrapping_sub(hash_of(unit, start_us));
        }
    }
    if checksum != 0 {
        return Err(Invalid("blocks have other spans than units"));
    }
    if !item.may_have_traces(&hashes)? {
        return Err(Invalid("item lacks a trace"));
    }
    let is_sound = n_rows == item.rows && bytes.len() as u64 == item.size && directory.is_empty();
    if is_sound { Ok(()) } else { Err(Invalid("file is not what its item says")) }
}

fn hash_of(unit: u32, start_us: i64) -> u64 {
    mix(start_us as u64 ^ mix(unit.into()))
}
