//! What the index says of a file of log records.
//!
//! ```text
//! item     = u8 version 1  u8 flags  varint rows  varint size  i64 LE least time
//!            varint greatest time − least time  zigzag least severity  zigzag greatest severity
//!            section traces  section chunks  section services
//! flags    = 1: services are not listed, there are too many
//! traces   = a set of fingerprints
//! ```
//! The other parts are drawn in `item`.

use hashbrown::HashSet;
use model::{LogColumns, TraceId};

use super::fingerprint;
use super::item::{
    has_text, listable, read_chunks, read_section, read_texts, write_chunks, write_section, write_texts,
};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};
use crate::block::parts::ChunkTable;

const VERSION: u8 = 1;
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
    /// The set of trace ids.
    pub traces: Vec<u8>,
    /// Where the columns are.
    pub chunks: ChunkTable,
}

impl LogDescriptor {
    /// Describes a file of `size` bytes with these columns, of which there must be at least one row.
    pub fn of(columns: &LogColumns, chunks: ChunkTable, size: u64) -> Self {
        let times = columns.time_ns.iter().zip(&columns.observed_time_ns);
        let times = times.map(|(&time, &observed)| if time == 0 { observed } else { time });
        let (min_time_ns, max_time_ns) = extremes(times);
        let (min_severity, max_severity) = extremes(columns.severity_number.iter().copied());
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
        Self {
            rows: columns.len() as u64,
            size,
            min_time_ns,
            max_time_ns,
            min_severity,
            max_severity,
            services: listable(positions.iter().map(|&position| service.dictionary.get(position))),
            traces: trace_set,
            chunks,
        }
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend([VERSION, u8::from(self.services.is_none()) * FLAG_MANY_SERVICES]);
        write_varint(&mut out, self.rows);
        write_varint(&mut out, self.size);
        out.extend_from_slice(&self.min_time_ns.to_le_bytes());
        write_varint(&mut out, self.max_time_ns.wrapping_sub(self.min_time_ns) as u64);
        write_varint(&mut out, zigzag(self.min_severity.into()));
        write_varint(&mut out, zigzag(self.max_severity.into()));
        write_section(&mut out, &self.traces);
        write_chunks(&mut out, &self.chunks);
        write_texts(&mut out, self.services.iter().flatten());
        out
    }
}

fn extremes<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> (T, T) {
    let least = values.clone().min().expect("invariant: a file has rows");
    (least, values.max().expect("invariant: a file has rows"))
}

/// An index item, read as far as a plan needs it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of LogDescriptor")]
pub struct LogSummary<'a> {
    pub rows: u64,
    pub size: u64,
    pub min_time_ns: i64,
    pub max_time_ns: i64,
    pub min_severity: i32,
    pub max_severity: i32,
    many_services: bool,
    traces: &'a [u8],
    chunks: &'a [u8],
    services: &'a [u8],
}

impl<'a> LogSummary<'a> {
    /// Reads an item's value.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, Invalid> {
        let severity =
            |number: u64| i32::try_from(unzigzag(number)).map_err(|_| Invalid("severity is out of range"));
        let head = take(&mut bytes, 2)?;
        if head[0] != VERSION {
            return Err(Invalid("index item has an unknown version"));
        }
        let (rows, size) = (read_varint(&mut bytes)?, read_varint(&mut bytes)?);
        let least = take(&mut bytes, 8)?.try_into().expect("invariant: as many taken");
        let min_time_ns = i64::from_le_bytes(least);
        Ok(Self {
            rows,
            size,
            min_time_ns,
            max_time_ns: min_time_ns.wrapping_add(read_varint(&mut bytes)? as i64),
            min_severity: severity(read_varint(&mut bytes)?)?,
            max_severity: severity(read_varint(&mut bytes)?)?,
            many_services: head[1] & FLAG_MANY_SERVICES != 0,
            traces: read_section(&mut bytes)?,
            chunks: read_section(&mut bytes)?,
            services: read_section(&mut bytes)?,
        })
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
    pub fn chunks(&self) -> Result<ChunkTable, Invalid> {
        read_chunks(self.chunks)
    }
}
