//! Merged files of log records: sorted by service and time, in units that are read by themselves.
//!
//! ```text
//! file      = "PAR1"  unit …  directory  footer
//! unit      = head  chunk of column 0  chunk of column 1  …  chunk of requests  chunk of positions
//! head      = varint rows  per chunk varint(length << 1 | compressed)
//! directory = the heads of all units, once more
//! ```
//! The columns are those of files of one request, so that all that reads these reads a unit too. Rows are sorted by
//! service, by [event time](model::LogColumns::event_time_ns), and by [`RecordId`]. A question names a service and a span
//! of time and wants the newest lines: these are neighbours here, in few units, which the index item tells from others by
//! service, times and severities.
//!
//! Identities are written as columns are: `request`, 16 bytes, and `position`, int64. They, heads and directory lie between
//! the chunks that the footer names, where readers of Parquet do not look.
//!
//! The file's metadata has `spandrel.layout` = `logs/2`.

use bytes::Bytes;

use super::{ChunkTable, LEAVES, NODES, Parts, Projection, column, decode, encode};
use crate::block::columns::narrow;
use crate::block::parquet::Invalid;
use crate::block::parquet::read::Repetition;
use crate::block::parquet::write::{Chunk, ChunkWriter, Levels};
use crate::block::parts;
use crate::index::{LogDescriptor, LogUnit, MergedLogs, Places};

mod merge;
mod write;

pub use merge::{LogMerge, LogRun};
pub use write::{LogWriter, MAX_UNITS, WrittenLogs};

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "logs/2";

/// What the order and the description of a unit depend on.
const OF_ORDER: Projection =
    Projection::of(&[column::TIME, column::OBSERVED_TIME, column::SEVERITY_NUMBER, column::SERVICE_NAME]);

/// Which record it is: all that two equal ones may have to tell them apart.
///
/// A request that comes again has the name of the first, and what it brings is in the order of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The hash of its request, which names the request's file.
    pub request: [u8; 16],
    /// Its row in that file.
    pub position: u32,
}

const REQUEST: usize = column::COUNT;
const POSITION: usize = column::COUNT + 1;

fn write_ids(w: &mut ChunkWriter, ids: &[RecordId], chunks: &mut Vec<Chunk>) {
    let flat = Levels::flat(ids.len());
    let requests: Vec<[u8; 16]> = ids.iter().map(|id| id.request).collect();
    let positions: Vec<i64> = ids.iter().map(|id| id.position.into()).collect();
    chunks.push(w.repeated_ids(flat, &requests));
    chunks.push(w.changing_i64(flat, &positions));
}

/// The identities of a unit's rows.
///
/// # Errors
/// The bytes are none, or parts are missing.
pub fn read_ids(table: &ChunkTable, parts: &Parts) -> Result<Vec<RecordId>, Invalid> {
    let read = |column: usize| table.open(parts, column)?.pages(0, 0, Repetition::Read);
    let (requests, positions) = (read(REQUEST)?.ids::<16>()?, narrow(&read(POSITION)?)?);
    if requests.len() != positions.len() {
        return Err(Invalid("columns differ in length"));
    }
    let id = |(request, position)| RecordId { request, position };
    Ok(requests.into_iter().zip(positions).map(id).collect())
}

/// Takes a unit's head off the front of `bytes`: rows, and where the chunks are in a unit that begins at `start`.
///
/// # Errors
/// The bytes are no head.
pub fn read_head(bytes: &mut &[u8], start: u64) -> Result<(u64, ChunkTable), Invalid> {
    parts::read_head(bytes, start, POSITION + 1)
}

/// Where the columns of each unit are, by a file's directory.
///
/// # Errors
/// The bytes are no directory of these units.
pub fn tables(mut directory: &[u8], merged: &MergedLogs) -> Result<Vec<ChunkTable>, Invalid> {
    let mut tables = Vec::with_capacity(merged.units.len());
    for (place, unit) in merged.placed() {
        let (rows, table) = read_head(&mut directory, place.start)?;
        if rows != unit.rows || table.end() != place.end {
            return Err(Invalid("unit is not what its item says"));
        }
        tables.push(table);
    }
    if directory.is_empty() { Ok(tables) } else { Err(Invalid("directory has more units than its item")) }
}

/// Reads an output as its readers will, and checks that it is in order and what its item says.
///
/// # Errors
/// It is not.
pub fn verify(bytes: &Bytes, descriptor: &LogDescriptor) -> Result<(), Invalid> {
    let Places::Merged(merged) = &descriptor.places else {
        return Err(Invalid("merged file has no units"));
    };
    let slice = |range: &std::ops::Range<u64>| bytes.get(range.start as usize..range.end as usize);
    let directory = slice(&merged.directory).ok_or(Invalid("directory is outside of the file"))?;
    let tables = tables(directory, merged)?;
    let parts = Parts::whole(bytes.clone());
    let (mut n_rows, mut n_services) = (0, 0);
    let mut before: Option<(String, (i64, RecordId))> = None;
    for ((place, unit), table) in merged.placed().zip(&tables) {
        let mut head = slice(&place).ok_or(Invalid("unit is outside of the file"))?;
        if read_head(&mut head, place.start)?.1 != *table {
            return Err(Invalid("unit has another head than the directory"));
        }
        let columns = decode(table, &parts, OF_ORDER)?;
        let ids = read_ids(table, &parts)?;
        if ids.len() != columns.len() {
            return Err(Invalid("columns differ in length"));
        }
        let mut first = None;
        for (row, id) in ids.into_iter().enumerate() {
            let (service, key) = (columns.origins.service.get(row), (columns.event_time_ns(row), id));
            match &mut before {
                Some((last, last_key)) if last == service => {
                    if *last_key > key {
                        return Err(Invalid("rows are not in order"));
                    }
                    *last_key = key;
                }
                Some((last, _)) if last.as_str() > service => return Err(Invalid("rows are not in order")),
                _ => {
                    n_services += 1;
                    before = Some((service.to_owned(), key));
                }
            }
            first.get_or_insert(n_services - 1);
        }
        let services = (first.ok_or(Invalid("unit has no rows"))?, n_services - 1);
        if LogUnit::of(&columns, unit.len, services) != *unit {
            return Err(Invalid("unit is not what its item says"));
        }
        n_rows += unit.rows;
    }
    let has_services = descriptor.services.as_ref().is_none_or(|listed| listed.len() == n_services as usize);
    let is_sound = n_rows == descriptor.rows && bytes.len() as u64 == descriptor.size && has_services;
    if is_sound { Ok(()) } else { Err(Invalid("file is not what its item says")) }
}
