//! What the index says of a file.
//!
//! ```text
//! item     = u8 version  u8 flags  varint rows  varint size  varint held  i64 LE least start
//!            varint greatest start − least start  zigzag least duration  zigzag greatest duration
//!            section traces  section places  section services  section operations
//! version  = 1: a file of one request   3: a merged file   2: one of before, whose traces are an empty section
//! flags    = 1: some span has the status error   2: services are not listed, there are too many
//! held     = bytes of memory for the part that a merge decodes at once
//! section  = varint length  bytes
//! traces, operations = a set of fingerprints; of a merged file with few traces, a sieve of them, else nothing
//! places   = version 1: chunks   3: varint position of the directory  varint its length
//!            varint length of the search directory behind it  u32 LE last hash  unit …   2: without the last hash
//! chunks   = per column varint(length << 1 | compressed)
//! unit     = varint rows  varint length  varint first hash − that of the unit before
//! services = per service varint length, UTF-8
//! ```
//! With 20 services, 90 operations and 140 traces that is 0.8 KB, so that with its key an item costs one write unit.

use std::collections::BTreeSet;
use std::ops::Range;

use hashbrown::HashSet;
use model::spans::STATUS_ERROR;
use model::{SpanColumns, TimeRange, TraceId};

use super::item::{
    has_text, listable, read_chunks, read_section, read_texts, write_chunks, write_section, write_texts,
};
use super::{Places, fingerprint};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};
use crate::block::spans::ChunkTable;

const OF_REQUEST: u8 = 1;
/// What merged files had before it was known where they end.
const MERGED_OPEN: u8 = 2;
const MERGED: u8 = 3;
const FLAG_ERRORS: u8 = 1;
const FLAG_MANY_SERVICES: u8 = 2;
/// A stranger is taken for a trace of the file once in 131,072 times.
const TRACE_RATE_BITS: u32 = 17;
/// A stranger is taken for a trace of a merged file once in 64 times, where that has a sieve: it then costs a read.
const MERGED_TRACE_RATE_BITS: u32 = 6;
/// The most traces that a merged file's item lists: those of a run of what came late, at some byte each.
const MAX_LISTED_TRACES: usize = 4096;
/// A stranger is taken for an operation of the file once in 1,024 times.
const OPERATION_RATE_BITS: u32 = 10;

/// What planning needs to know of a file of spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Spans.
    pub rows: u64,
    /// Length of the object in bytes.
    pub size: u64,
    /// Bytes of memory for the part that a merge decodes at once: the file of a request, the largest unit of a merged one.
    pub held_bytes: u64,
    /// Least start, ns since the epoch.
    pub min_start_ns: i64,
    /// Greatest start.
    pub max_start_ns: i64,
    /// Least duration.
    pub min_duration_ns: i64,
    /// Greatest duration.
    pub max_duration_ns: i64,
    /// Whether some span has the status error.
    pub has_errors: bool,
    /// The services, sorted; `None` if there are too many to list.
    pub services: Option<Vec<String>>,
    /// The set of `service, operation`.
    pub operations: Vec<u8>,
    /// The set of trace ids; of a merged file their sieve, empty where only units tell.
    pub traces: Vec<u8>,
    /// Where the columns are.
    pub places: Places<ChunkTable, MergedSpans>,
    /// Each combination of service, kind and operation once: for the table of names, not stored here.
    pub names: Vec<(String, i32, String)>,
}

/// The units of a merged file of spans, which lie end to end behind the magic number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergedSpans {
    /// In the order of the file.
    pub units: Vec<SpanUnit>,
    /// The bytes of the file that say where the columns of units are.
    pub directory: Range<u64>,
    /// The bytes behind it, which say where the blocks of the search section are.
    pub search: Range<u64>,
    /// The upper half of the [`fingerprint::hash_id`] of the last trace; the greatest there is where that is not known.
    pub last_hash: u32,
}

/// Spans of a merged file that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanUnit {
    /// Spans.
    pub rows: u64,
    /// The upper half of the [`fingerprint::hash_id`] of the first trace.
    pub first_hash: u32,
    /// Bytes, head included.
    pub len: u64,
}

impl MergedSpans {
    /// The units with their places in the file.
    pub fn placed(&self) -> impl Iterator<Item = (Range<u64>, &SpanUnit)> {
        let mut end = ChunkTable::default().start;
        self.units.iter().map(move |unit| {
            let start = end;
            end += unit.len;
            (start..end, unit)
        })
    }

    /// The places of the units that may hold the trace whose id has this [`fingerprint::hash_id`].
    pub fn that_may_have(&self, hash: u64) -> Vec<Range<u64>> {
        let wanted = (hash >> 32) as u32;
        let nexts = self.units.iter().skip(1).map(|next| next.first_hash).chain([self.last_hash]);
        let units = self.placed().zip(nexts);
        let may_have =
            |((_, unit), next): &((Range<u64>, &SpanUnit), u32)| unit.first_hash <= wanted && wanted <= *next;
        units.filter(may_have).map(|((place, _), _)| place).collect()
    }
}

impl Descriptor {
    /// Describes a unit of a file; what only a whole file has is left open.
    pub(crate) fn of_unit(columns: &SpanColumns) -> Self {
        let extremes = |values: &[i64]| {
            let least = values.iter().copied().min().expect("invariant: a unit has rows");
            let greatest = values.iter().copied().max().expect("invariant: a unit has rows");
            (least, greatest)
        };
        let (min_start_ns, max_start_ns) = extremes(&columns.start_ns);
        let (min_duration_ns, max_duration_ns) = extremes(&columns.duration_ns);
        Self {
            rows: columns.len() as u64,
            size: 0,
            held_bytes: columns.memory_bytes_of_rows() as u64,
            min_start_ns,
            max_start_ns,
            min_duration_ns,
            max_duration_ns,
            has_errors: columns.status_code.contains(&STATUS_ERROR),
            services: None,
            operations: Vec::new(),
            traces: Vec::new(),
            places: Places::Merged(MergedSpans::default()),
            names: names_of(columns),
        }
    }

    /// Extends the description to another unit.
    pub(crate) fn reach(&mut self, unit: &Self) {
        self.rows += unit.rows;
        self.held_bytes = self.held_bytes.max(unit.held_bytes);
        self.min_start_ns = self.min_start_ns.min(unit.min_start_ns);
        self.max_start_ns = self.max_start_ns.max(unit.max_start_ns);
        self.min_duration_ns = self.min_duration_ns.min(unit.min_duration_ns);
        self.max_duration_ns = self.max_duration_ns.max(unit.max_duration_ns);
        self.has_errors |= unit.has_errors;
    }

    /// Completes the description of a merged file. The hashes of its traces ascend.
    pub(crate) fn merge(
        &mut self,
        size: u64,
        merged: MergedSpans,
        services: &BTreeSet<String>,
        operations: Vec<u64>,
        trace_hashes: &[u64],
    ) {
        self.size = size;
        if trace_hashes.len() <= MAX_LISTED_TRACES {
            self.traces = trace_sieve(trace_hashes);
        }
        self.places = Places::Merged(merged);
        self.services = listable(services.iter().map(String::as_str));
        fingerprint::write(&mut self.operations, operations.into_iter(), OPERATION_RATE_BITS);
        self.names.clear();
    }

    /// Describes a file of `size` bytes with these columns, of which there must be at least one row.
    pub fn of_spans(columns: &SpanColumns, chunks: ChunkTable, size: u64) -> Self {
        let unit = Self::of_unit(columns);
        let traces: HashSet<TraceId, foldhash::fast::FixedState> = columns.trace_id.iter().copied().collect();
        let mut trace_set = Vec::new();
        fingerprint::write(
            &mut trace_set,
            traces.iter().map(|id| fingerprint::hash_id(&id.0)),
            TRACE_RATE_BITS,
        );
        let operations: HashSet<u64, foldhash::fast::FixedState> =
            unit.names.iter().map(|(service, _, name)| fingerprint::hash_texts(service, name)).collect();
        let mut operation_set = Vec::new();
        fingerprint::write(&mut operation_set, operations.iter().copied(), OPERATION_RATE_BITS);
        Self {
            size,
            services: listable(unit.names.iter().map(|name| name.0.as_str())),
            operations: operation_set,
            traces: trace_set,
            places: Places::OfRequest(chunks),
            ..unit
        }
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let head = Head {
            version: match self.places {
                Places::OfRequest(_) => OF_REQUEST,
                Places::Merged(_) => MERGED,
            },
            has_errors: self.has_errors,
            many_services: self.services.is_none(),
            sizes: [self.rows, self.size, self.held_bytes],
            start_ns: (self.min_start_ns, self.max_start_ns),
            duration_ns: (self.min_duration_ns, self.max_duration_ns),
        };
        head.write(&mut out);
        write_section(&mut out, &self.traces);
        match &self.places {
            Places::OfRequest(chunks) => write_chunks(&mut out, chunks),
            Places::Merged(merged) => write_section(&mut out, &write_units(merged)),
        }
        write_texts(&mut out, self.services.iter().flatten());
        write_section(&mut out, &self.operations);
        out
    }
}

/// What stands before the sections of an item.
struct Head {
    version: u8,
    has_errors: bool,
    many_services: bool,
    /// Rows, bytes, bytes that are held in memory.
    sizes: [u64; 3],
    /// The least and the greatest.
    start_ns: (i64, i64),
    duration_ns: (i64, i64),
}

impl Head {
    fn write(&self, out: &mut Vec<u8>) {
        let many = u8::from(self.many_services) * FLAG_MANY_SERVICES;
        out.extend([self.version, (u8::from(self.has_errors) * FLAG_ERRORS) | many]);
        for size in self.sizes {
            write_varint(out, size);
        }
        out.extend_from_slice(&self.start_ns.0.to_le_bytes());
        write_varint(out, self.start_ns.1.wrapping_sub(self.start_ns.0) as u64);
        write_varint(out, zigzag(self.duration_ns.0));
        write_varint(out, zigzag(self.duration_ns.1));
    }
}

/// The sieve of traces whose hashes are these, ascending.
pub(crate) fn trace_sieve(hashes: &[u64]) -> Vec<u8> {
    let mut sieve = Vec::new();
    fingerprint::write_sieve(&mut sieve, hashes, MERGED_TRACE_RATE_BITS);
    sieve
}

fn write_units(merged: &MergedSpans) -> Vec<u8> {
    let mut out = Vec::new();
    write_varint(&mut out, merged.directory.start);
    write_varint(&mut out, merged.directory.end - merged.directory.start);
    write_varint(&mut out, merged.search.end - merged.search.start);
    out.extend_from_slice(&merged.last_hash.to_le_bytes());
    let mut before = 0;
    for unit in &merged.units {
        write_varint(&mut out, unit.rows);
        write_varint(&mut out, unit.len);
        write_varint(&mut out, u64::from(unit.first_hash.wrapping_sub(before)));
        before = unit.first_hash;
    }
    out
}

fn read_units(bytes: &[u8], version: u8) -> Result<MergedSpans, Invalid> {
    let mut reader = UnitReader::new(bytes, version)?;
    let mut units = Vec::new();
    while let Some(unit) = reader.next()? {
        units.push(unit);
    }
    let UnitReader { directory, search, last_hash, .. } = reader;
    Ok(MergedSpans { units, directory, search, last_hash })
}

/// Reads the places of a merged file.
struct UnitReader<'a> {
    directory: Range<u64>,
    search: Range<u64>,
    last_hash: u32,
    bytes: &'a [u8],
    before: u32,
}

impl<'a> UnitReader<'a> {
    fn new(mut bytes: &'a [u8], version: u8) -> Result<Self, Invalid> {
        let start = read_varint(&mut bytes)?;
        let end = start.saturating_add(read_varint(&mut bytes)?);
        let search = end..end.saturating_add(read_varint(&mut bytes)?);
        let last_hash = match version {
            MERGED => u32::from_le_bytes(take(&mut bytes, 4)?.try_into().expect("invariant: as many taken")),
            _ => u32::MAX,
        };
        Ok(Self { directory: start..end, search, last_hash, bytes, before: 0 })
    }

    fn next(&mut self) -> Result<Option<SpanUnit>, Invalid> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let (rows, len) = (read_varint(&mut self.bytes)?, read_varint(&mut self.bytes)?);
        self.before = self.before.wrapping_add(read_varint(&mut self.bytes)? as u32);
        Ok(Some(SpanUnit { rows, first_hash: self.before, len }))
    }
}

/// Each combination of service, kind and operation once, in no order.
fn names_of(columns: &SpanColumns) -> Vec<(String, i32, String)> {
    let mut seen: HashSet<(u32, i32, u32), foldhash::fast::FixedState> = HashSet::default();
    let mut previous = None;
    let mut names = Vec::new();
    for row in 0..columns.len() {
        let name = (columns.origins.service.rows[row], columns.kind[row], columns.name.rows[row]);
        if previous.replace(name) != Some(name) && seen.insert(name) {
            names.push((
                columns.origins.service.get(row).to_owned(),
                name.1,
                columns.name.get(row).to_owned(),
            ));
        }
    }
    names
}

/// An index item, read as far as a plan needs it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of Descriptor")]
pub struct Summary<'a> {
    pub rows: u64,
    pub size: u64,
    pub held_bytes: u64,
    pub min_start_ns: i64,
    pub max_start_ns: i64,
    pub min_duration_ns: i64,
    pub max_duration_ns: i64,
    pub has_errors: bool,
    many_services: bool,
    version: u8,
    traces: &'a [u8],
    places: &'a [u8],
    services: &'a [u8],
    operations: &'a [u8],
}

impl<'a> Summary<'a> {
    /// Reads an item's value.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, Invalid> {
        let head = take(&mut bytes, 2)?;
        let version = head[0];
        if !matches!(version, OF_REQUEST | MERGED_OPEN | MERGED) {
            return Err(Invalid("index item has an unknown version"));
        }
        let rows = read_varint(&mut bytes)?;
        let size = read_varint(&mut bytes)?;
        let held_bytes = read_varint(&mut bytes)?;
        let start = take(&mut bytes, 8)?.try_into().expect("invariant: as many taken");
        let min_start_ns = i64::from_le_bytes(start);
        Ok(Self {
            rows,
            size,
            held_bytes,
            min_start_ns,
            max_start_ns: min_start_ns.wrapping_add(read_varint(&mut bytes)? as i64),
            min_duration_ns: unzigzag(read_varint(&mut bytes)?),
            max_duration_ns: unzigzag(read_varint(&mut bytes)?),
            has_errors: head[1] & FLAG_ERRORS != 0,
            many_services: head[1] & FLAG_MANY_SERVICES != 0,
            version,
            traces: read_section(&mut bytes)?,
            places: read_section(&mut bytes)?,
            services: read_section(&mut bytes)?,
            operations: read_section(&mut bytes)?,
        })
    }

    /// Whether some span starts in `range`, as far as the extremes tell.
    pub fn meets(&self, range: TimeRange) -> bool {
        range.meets(self.min_start_ns, self.max_start_ns)
    }

    /// Whether the trace whose id has this [`fingerprint::hash_id`] may be in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn may_have_trace(&self, hash: u64) -> Result<bool, Invalid> {
        let Some((first, last)) = self.trace_hashes()? else {
            return fingerprint::may_contain(self.traces, hash);
        };
        let is_between = (first..=last).contains(&((hash >> 32) as u32));
        Ok(is_between && (self.traces.is_empty() || fingerprint::may_pass(self.traces, hash)?))
    }

    /// Whether all traces whose ids have these [`fingerprint::hash_id`], ascending, may be in the merged file.
    ///
    /// # Errors
    /// The item is corrupt, or that of a file of a request.
    pub fn may_have_traces(&self, hashes: &[u64]) -> Result<bool, Invalid> {
        let (first, last) = self.trace_hashes()?.ok_or(Invalid("file has no order"))?;
        let is_between =
            |hash: Option<&u64>| hash.is_none_or(|hash| (first..=last).contains(&((hash >> 32) as u32)));
        let are_between = is_between(hashes.first()) && is_between(hashes.last());
        Ok(are_between && (self.traces.is_empty() || fingerprint::may_all_pass(self.traces, hashes)?))
    }

    /// Upper halves of the [`fingerprint::hash_id`] of the first and the last trace of a merged file; `None` for that of a
    /// request, which has no order.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn trace_hashes(&self) -> Result<Option<(u32, u32)>, Invalid> {
        if self.version == OF_REQUEST {
            return Ok(None);
        }
        let mut units = UnitReader::new(self.places, self.version)?;
        let first_hash = units.next()?.map_or(u32::MAX, |unit| unit.first_hash);
        Ok(Some((first_hash, units.last_hash)))
    }

    /// Whether the service may be in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn may_have_service(&self, service: &str) -> Result<bool, Invalid> {
        if self.many_services {
            return Ok(true);
        }
        has_text(self.services, service)
    }

    /// Whether the service may have a span with this name in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn may_have_operation(&self, service: &str, name: &str) -> Result<bool, Invalid> {
        fingerprint::may_contain(self.operations, fingerprint::hash_texts(service, name))
    }

    /// The services, `None` if there are too many to list.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn services(&self) -> Result<Option<Vec<&'a str>>, Invalid> {
        let services = read_texts(self.services)?;
        Ok((!self.many_services).then_some(services))
    }

    /// The length of [`Summary::without_filters`], or a little more.
    pub(crate) fn len_without_filters(&self) -> usize {
        96 + self.places.len()
    }

    /// An item that says of the file what looking at it takes, and nothing that tells whether to: a tenth of the bytes.
    pub(crate) fn without_filters(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len_without_filters());
        let head = Head {
            version: self.version,
            has_errors: self.has_errors,
            many_services: true,
            sizes: [self.rows, self.size, self.held_bytes],
            start_ns: (self.min_start_ns, self.max_start_ns),
            duration_ns: (self.min_duration_ns, self.max_duration_ns),
        };
        head.write(&mut out);
        for section in [&[], self.places, &[], &[]] {
            write_section(&mut out, section);
        }
        out
    }

    /// Where the columns are.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn places(&self) -> Result<Places<ChunkTable, MergedSpans>, Invalid> {
        Ok(if self.version == OF_REQUEST {
            Places::OfRequest(read_chunks(self.places)?)
        } else {
            Places::Merged(read_units(self.places, self.version)?)
        })
    }
}
