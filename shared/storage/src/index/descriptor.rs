//! What the index says of a file.
//!
//! ```text
//! item     = u8 version 1  u8 flags  varint rows  varint size  i64 LE least start
//!            varint greatest start − least start  zigzag least duration  zigzag greatest duration
//!            section traces  section chunks  section services  section operations
//! flags    = 1: some span has the status error   2: services are not listed, there are too many
//! section  = varint length  bytes
//! traces, operations = a set of fingerprints
//! chunks   = per column varint(length << 1 | compressed)
//! services = per service varint length, UTF-8
//! ```
//! With 20 services, 90 operations and 140 traces that is 0.8 KB, so that with its key an item costs one write unit.

use hashbrown::HashSet;
use model::spans::STATUS_ERROR;
use model::{SpanColumns, TimeRange, TraceId};

use super::fingerprint;
use super::item::{
    has_text, listable, read_chunks, read_section, read_texts, unzigzag, write_chunks, write_section,
    write_texts, zigzag,
};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, write_varint};
use crate::block::spans::ChunkTable;

const VERSION: u8 = 1;
const FLAG_ERRORS: u8 = 1;
const FLAG_MANY_SERVICES: u8 = 2;
/// A stranger is taken for a trace of the file once in 131,072 times.
const TRACE_RATE_BITS: u32 = 17;
/// A stranger is taken for an operation of the file once in 1,024 times.
const OPERATION_RATE_BITS: u32 = 10;

/// What planning needs to know of a file of spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Spans.
    pub rows: u64,
    /// Length of the object in bytes.
    pub size: u64,
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
    /// The set of trace ids.
    pub traces: Vec<u8>,
    /// Where the columns are.
    pub chunks: ChunkTable,
    /// Each combination of service, kind and operation once: for the table of names, not stored here.
    pub names: Vec<(String, i32, String)>,
}

impl Descriptor {
    /// Describes a file of `size` bytes with these columns, of which there must be at least one row.
    pub fn of_spans(columns: &SpanColumns, chunks: ChunkTable, size: u64) -> Self {
        let extremes = |values: &[i64]| {
            let least = values.iter().copied().min().expect("invariant: a file has rows");
            let greatest = values.iter().copied().max().expect("invariant: a file has rows");
            (least, greatest)
        };
        let (min_start_ns, max_start_ns) = extremes(&columns.start_ns);
        let (min_duration_ns, max_duration_ns) = extremes(&columns.duration_ns);
        let traces: HashSet<TraceId, foldhash::fast::FixedState> = columns.trace_id.iter().copied().collect();
        let names = names_of(columns);
        let mut trace_set = Vec::new();
        fingerprint::write(
            &mut trace_set,
            traces.iter().map(|id| fingerprint::hash_id(&id.0)),
            TRACE_RATE_BITS,
        );
        let operations: HashSet<u64, foldhash::fast::FixedState> =
            names.iter().map(|(service, _, name)| fingerprint::hash_texts(service, name)).collect();
        let mut operation_set = Vec::new();
        fingerprint::write(&mut operation_set, operations.iter().copied(), OPERATION_RATE_BITS);
        Self {
            rows: columns.len() as u64,
            size,
            min_start_ns,
            max_start_ns,
            min_duration_ns,
            max_duration_ns,
            has_errors: columns.status_code.contains(&STATUS_ERROR),
            services: listable(names.iter().map(|name| name.0.as_str())),
            operations: operation_set,
            traces: trace_set,
            chunks,
            names,
        }
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let many = self.services.is_none();
        let flags = (u8::from(self.has_errors) * FLAG_ERRORS) | (u8::from(many) * FLAG_MANY_SERVICES);
        out.extend([VERSION, flags]);
        write_varint(&mut out, self.rows);
        write_varint(&mut out, self.size);
        out.extend_from_slice(&self.min_start_ns.to_le_bytes());
        write_varint(&mut out, self.max_start_ns.wrapping_sub(self.min_start_ns) as u64);
        write_varint(&mut out, zigzag(self.min_duration_ns));
        write_varint(&mut out, zigzag(self.max_duration_ns));
        write_section(&mut out, &self.traces);
        write_chunks(&mut out, &self.chunks);
        write_texts(&mut out, self.services.iter().flatten());
        write_section(&mut out, &self.operations);
        out
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
    pub min_start_ns: i64,
    pub max_start_ns: i64,
    pub min_duration_ns: i64,
    pub max_duration_ns: i64,
    pub has_errors: bool,
    many_services: bool,
    traces: &'a [u8],
    chunks: &'a [u8],
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
        if head[0] != VERSION {
            return Err(Invalid("index item has an unknown version"));
        }
        let rows = read_varint(&mut bytes)?;
        let size = read_varint(&mut bytes)?;
        let start = take(&mut bytes, 8)?.try_into().expect("invariant: as many taken");
        let min_start_ns = i64::from_le_bytes(start);
        Ok(Self {
            rows,
            size,
            min_start_ns,
            max_start_ns: min_start_ns.wrapping_add(read_varint(&mut bytes)? as i64),
            min_duration_ns: unzigzag(read_varint(&mut bytes)?),
            max_duration_ns: unzigzag(read_varint(&mut bytes)?),
            has_errors: head[1] & FLAG_ERRORS != 0,
            many_services: head[1] & FLAG_MANY_SERVICES != 0,
            traces: read_section(&mut bytes)?,
            chunks: read_section(&mut bytes)?,
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
        fingerprint::may_contain(self.traces, hash)
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

    /// Where the columns are.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn chunks(&self) -> Result<ChunkTable, Invalid> {
        read_chunks(self.chunks)
    }
}
