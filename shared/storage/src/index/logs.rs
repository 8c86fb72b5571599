//! What the index says of a file of log records.
//!
//! ```text
//! item     = u8 version  u8 flags  varint rows  varint size  varint held  i64 LE least time
//!            varint greatest time − least time  zigzag least severity  zigzag greatest severity
//!            section traces  section places  section services
//! version  = 1: a file of one request   2: a merged file, whose traces are an empty section
//! flags    = 1: services are not listed, there are too many
//! held     = bytes of memory for the part that a merge decodes at once
//! traces   = a set of fingerprints
//! places   = version 1: chunks   2: varint position of the directory  varint its length  unit …
//! unit     = varint rows  varint length  varint first service − last service of the unit before
//!            varint last service − first service  varint least time − that of the file
//!            varint greatest time − least time  zigzag least severity  zigzag greatest severity
//! ```
//! Services of units are numbers: the first of the file in the order of their names is 0. So they are positions in the
//! list of services where there is one. The other parts are drawn in `item`.

use std::ops::Range;

use hashbrown::HashSet;
use model::{LogColumns, TraceId};

use super::item::{
    has_text, listable, read_chunks, read_section, read_texts, write_chunks, write_section, write_texts,
};
use super::{Places, fingerprint};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};
use crate::block::parts::ChunkTable;

const OF_REQUEST: u8 = 1;
const MERGED: u8 = 2;
const FLAG_MANY_SERVICES: u8 = 1;
/// A stranger is taken for a trace of the file once in 131,072 times.
const TRACE_RATE_BITS: u32 = 17;

/// What planning needs to know of a file of log records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDescriptor {
    /// Records.
    pub rows: u64,
    /// Length of the object in bytes.
    pub size: u64,
    /// Bytes of memory for the part that a merge decodes at once: the file of a request, the largest unit of a merged one.
    pub held_bytes: u64,
    /// Least time, ns since the epoch: when it happened, or was collected where that is unknown.
    pub min_time_ns: i64,
    /// Greatest time.
    pub max_time_ns: i64,
    /// Least severity by OTLP's numbers.
    pub min_severity: i32,
    /// Greatest severity.
    pub max_severity: i32,
    /// The services, sorted; `None` if there are too many to list.
    pub services: Option<Vec<String>>,
    /// The set of trace ids; empty in a merged file, which does not tell.
    pub traces: Vec<u8>,
    /// Where the columns are.
    pub places: Places<ChunkTable, MergedLogs>,
}

/// The units of a merged file of log records, which lie end to end behind the magic number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergedLogs {
    /// In the order of the file.
    pub units: Vec<LogUnit>,
    /// The bytes of the file that say where the columns of units are.
    pub directory: Range<u64>,
}

/// Log records of a merged file that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogUnit {
    /// Records.
    pub rows: u64,
    /// Bytes, head included.
    pub len: u64,
    /// The first service and the last one, by their numbers among those of the file.
    pub services: (u32, u32),
    /// Least time, as that of the file.
    pub min_time_ns: i64,
    /// Greatest time.
    pub max_time_ns: i64,
    /// Least severity.
    pub min_severity: i32,
    /// Greatest severity.
    pub max_severity: i32,
}

impl LogUnit {
    /// A unit with these rows, of which there must be at least one.
    pub(crate) fn of(columns: &LogColumns, len: u64, services: (u32, u32)) -> Self {
        let (min_time_ns, max_time_ns) = extremes((0..columns.len()).map(|row| columns.event_time_ns(row)));
        let (min_severity, max_severity) = extremes(columns.severity_number.iter().copied());
        let rows = columns.len() as u64;
        Self { rows, len, services, min_time_ns, max_time_ns, min_severity, max_severity }
    }
}

impl MergedLogs {
    /// The units with their places in the file.
    pub fn placed(&self) -> impl Iterator<Item = (Range<u64>, &LogUnit)> {
        let mut end = ChunkTable::default().start;
        self.units.iter().map(move |unit| {
            let start = end;
            end += unit.len;
            (start..end, unit)
        })
    }
}

impl LogDescriptor {
    /// Describes a file of `size` bytes with these columns, of which there must be at least one row.
    pub fn of(columns: &LogColumns, chunks: ChunkTable, size: u64) -> Self {
        let traces: HashSet<TraceId, foldhash::fast::FixedState> =
            columns.trace_id.iter().copied().filter(|id| !id.is_zero()).collect();
        let mut trace_set = Vec::new();
        fingerprint::write(
            &mut trace_set,
            traces.iter().map(|id| fingerprint::hash_id(&id.0)),
            TRACE_RATE_BITS,
        );
        let service = &columns.origins.service;
        let mut positions = service.rows.clone();
        positions.sort_unstable();
        positions.dedup();
        let whole = LogUnit::of(columns, size, (0, 0));
        Self {
            rows: whole.rows,
            size,
            held_bytes: columns.memory_bytes() as u64,
            min_time_ns: whole.min_time_ns,
            max_time_ns: whole.max_time_ns,
            min_severity: whole.min_severity,
            max_severity: whole.max_severity,
            services: listable(positions.iter().map(|&position| service.dictionary.get(position))),
            traces: trace_set,
            places: Places::OfRequest(chunks),
        }
    }

    /// Describes a merged file of `size` bytes with these services in order; there must be at least one unit.
    pub(crate) fn of_merged(merged: MergedLogs, services: &[String], size: u64, held_bytes: u64) -> Self {
        let units = &merged.units;
        let (min_time_ns, _) = extremes(units.iter().map(|unit| unit.min_time_ns));
        let (_, max_time_ns) = extremes(units.iter().map(|unit| unit.max_time_ns));
        let (min_severity, _) = extremes(units.iter().map(|unit| unit.min_severity));
        let (_, max_severity) = extremes(units.iter().map(|unit| unit.max_severity));
        Self {
            rows: units.iter().map(|unit| unit.rows).sum(),
            size,
            held_bytes,
            min_time_ns,
            max_time_ns,
            min_severity,
            max_severity,
            services: listable(services.iter().map(String::as_str)),
            traces: Vec::new(),
            places: Places::Merged(merged),
        }
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let version = match self.places {
            Places::OfRequest(_) => OF_REQUEST,
            Places::Merged(_) => MERGED,
        };
        out.extend([version, u8::from(self.services.is_none()) * FLAG_MANY_SERVICES]);
        for number in [self.rows, self.size, self.held_bytes] {
            write_varint(&mut out, number);
        }
        out.extend_from_slice(&self.min_time_ns.to_le_bytes());
        write_varint(&mut out, self.max_time_ns.wrapping_sub(self.min_time_ns) as u64);
        write_varint(&mut out, zigzag(self.min_severity.into()));
        write_varint(&mut out, zigzag(self.max_severity.into()));
        write_section(&mut out, &self.traces);
        match &self.places {
            Places::OfRequest(chunks) => write_chunks(&mut out, chunks),
            Places::Merged(merged) => write_section(&mut out, &write_units(merged, self.min_time_ns)),
        }
        write_texts(&mut out, self.services.iter().flatten());
        out
    }
}

fn extremes<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    let least = values.clone().min().expect("invariant: a file has rows");
    (least, values.max().expect("invariant: a file has rows"))
}

fn write_units(merged: &MergedLogs, first_ns: i64) -> Vec<u8> {
    let mut out = Vec::new();
    write_varint(&mut out, merged.directory.start);
    write_varint(&mut out, merged.directory.end - merged.directory.start);
    let mut before = 0;
    for unit in &merged.units {
        let numbers = [
            unit.rows,
            unit.len,
            u64::from(unit.services.0.wrapping_sub(before)),
            u64::from(unit.services.1.wrapping_sub(unit.services.0)),
            unit.min_time_ns.wrapping_sub(first_ns) as u64,
            unit.max_time_ns.wrapping_sub(unit.min_time_ns) as u64,
            zigzag(unit.min_severity.into()),
            zigzag(unit.max_severity.into()),
        ];
        before = unit.services.1;
        for number in numbers {
            write_varint(&mut out, number);
        }
    }
    out
}

fn read_units(mut bytes: &[u8], first_ns: i64) -> Result<MergedLogs, Invalid> {
    let start = read_varint(&mut bytes)?;
    let end = start.saturating_add(read_varint(&mut bytes)?);
    let mut units = Vec::new();
    let mut before: u32 = 0;
    while !bytes.is_empty() {
        let (rows, len) = (read_varint(&mut bytes)?, read_varint(&mut bytes)?);
        let first = before.wrapping_add(read_varint(&mut bytes)? as u32);
        before = first.wrapping_add(read_varint(&mut bytes)? as u32);
        let min_time_ns = first_ns.wrapping_add(read_varint(&mut bytes)? as i64);
        units.push(LogUnit {
            rows,
            len,
            services: (first, before),
            min_time_ns,
            max_time_ns: min_time_ns.wrapping_add(read_varint(&mut bytes)? as i64),
            min_severity: read_severity(&mut bytes)?,
            max_severity: read_severity(&mut bytes)?,
        });
    }
    Ok(MergedLogs { units, directory: start..end })
}

fn read_severity(bytes: &mut &[u8]) -> Result<i32, Invalid> {
    i32::try_from(unzigzag(read_varint(bytes)?)).map_err(|_| Invalid("severity is out of range"))
}

/// An index item, read as far as a plan needs it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of LogDescriptor")]
pub struct LogSummary<'a> {
    pub rows: u64,
    pub size: u64,
    pub held_bytes: u64,
    pub min_time_ns: i64,
    pub max_time_ns: i64,
    pub min_severity: i32,
    pub max_severity: i32,
    many_services: bool,
    is_merged: bool,
    traces: &'a [u8],
    places: &'a [u8],
    services: &'a [u8],
}

impl<'a> LogSummary<'a> {
    /// Reads an item's value.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, Invalid> {
        let head = take(&mut bytes, 2)?;
        let is_merged = match head[0] {
            OF_REQUEST => false,
            MERGED => true,
            _ => return Err(Invalid("index item has an unknown version")),
        };
        let (rows, size) = (read_varint(&mut bytes)?, read_varint(&mut bytes)?);
        let held_bytes = read_varint(&mut bytes)?;
        let least = take(&mut bytes, 8)?.try_into().expect("invariant: as many taken");
        let min_time_ns = i64::from_le_bytes(least);
        Ok(Self {
            rows,
            size,
            held_bytes,
            min_time_ns,
            max_time_ns: min_time_ns.wrapping_add(read_varint(&mut bytes)? as i64),
            min_severity: read_severity(&mut bytes)?,
            max_severity: read_severity(&mut bytes)?,
            many_services: head[1] & FLAG_MANY_SERVICES != 0,
            is_merged,
            traces: read_section(&mut bytes)?,
            places: read_section(&mut bytes)?,
            services: read_section(&mut bytes)?,
        })
    }

    /// Whether the trace whose id has this [`fingerprint::hash_id`] may be in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn may_have_trace(&self, hash: u64) -> Result<bool, Invalid> {
        if self.is_merged { Ok(true) } else { fingerprint::may_contain(self.traces, hash) }
    }

    /// Whether the service may be in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn may_have_service(&self, service: &str) -> Result<bool, Invalid> {
        if self.many_services { Ok(true) } else { has_text(self.services, service) }
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
    pub fn places(&self) -> Result<Places<ChunkTable, MergedLogs>, Invalid> {
        Ok(if self.is_merged {
            Places::Merged(read_units(self.places, self.min_time_ns)?)
        } else {
            Places::OfRequest(read_chunks(self.places)?)
        })
    }
}
