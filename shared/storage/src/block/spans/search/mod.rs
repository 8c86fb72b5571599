//! The second order of a merged file: what searches ask of spans, by service, operation and start.
//!
//! A merged file is sorted by trace, so that a match may be in any unit. Beside its units it therefore has *blocks*: few
//! bytes a span, sorted by what searches ask first. A block says of each of its spans whether it meets a condition, does
//! not, or may; and in which unit and when it starts, which finds it there. What is said is never wrong: only "may" costs
//! a look at the unit.
//!
//! ```text
//! section   = block …  directory
//! directory = texts: services  entry …
//! entry     = varint service  varint first unit  varint rows  varint length  zigzag first start − that of the entry before
//!             varint last start − first start  u8 least duration  u8 greatest duration  u8 1: some span is an error
//! block     = starts  units  durations  shapes  resources  other keys  varint keys  key …
//! starts    = frame of ints, ascending among spans of one shape
//! units     = codes: unit − first unit
//! durations = codes: see `duration_code`
//! shapes    = frame of shape …  codes
//! shape     = section name  section scope name  section scope version  zigzag kind  zigzag status
//!             u8 1: has a status message   2: has a trace state
//! resources = frame of sections of JSON  codes
//! key       = section key  u8 0: its values are listed  frame of value …  codes
//!           | section key  u8 2: they are not  u8 kinds of value there are  section fingerprints of texts  codes
//!           | section key  u8 1: as 2, with fingerprints by [`hash_texts`]; before `spans/4`
//! value     = u8 kind  zigzag | 8 bytes LE | u8 | section | nothing
//! codes     = frame of one code a row, u8 where there are at most 256 and u16 LE else; of one code if all are equal
//! frame     = varint length << 1 | compressed  [varint length by zstd]  bytes
//! ```
//! Starts are microseconds since the epoch. The code of a key is 0 where a span has it not, 1 where it has but its value
//! is not said or it has several, and listed values count from 2. Attributes of events count as those of their span. Keys
//! beyond the 64 most frequent ones of a block are only in a set of fingerprints, the *other keys*.
//!
//! Blocks are cut from *segments* of some units, so that a writer holds no more than that, and an operation has a block of
//! its own if it has many spans in the segment.

mod collect;
mod read;
mod write;

pub(super) use collect::{Collector, Room};
pub use read::{Block, Match};
pub(crate) use read::{any_value_matches, json_has};

use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};
use crate::index::{read_section, write_section};

/// Spans of a block, at most.
const BLOCK_ROWS: usize = 8192;
/// An operation with so many spans in a segment has blocks of its own.
const OWN_BLOCK_ROWS: usize = 2048;
/// Keys of a block, at most.
const MAX_KEYS: usize = 64;
/// A key with more values than these in a block has them as fingerprints.
const MAX_LISTED_VALUES: usize = 128;
/// Longer texts are not listed.
const MAX_LISTED_BYTES: usize = 128;
/// A stranger is taken for a value of a block once in 256 times.
const VALUE_RATE_BITS: u32 = 8;
/// A stranger is taken for a key of a block once in 1,024 times.
const KEY_RATE_BITS: u32 = 10;

/// Kinds of values, by number and as bits of a set.
mod kind {
    pub(super) const EMPTY: u8 = 0;
    pub(super) const STRING: u8 = 1;
    pub(super) const INT: u8 = 2;
    pub(super) const DOUBLE: u8 = 3;
    pub(super) const BOOL: u8 = 4;
    pub(super) const JSON: u8 = 5;

    pub(super) fn bit(kind: u8) -> u8 {
        1 << kind
    }
}

/// A start in the unit of blocks: whole microseconds, rounded down.
pub fn start_us(start_ns: i64) -> i64 {
    start_ns.div_euclid(1000)
}

/// A duration in eight bits, ascending: 0 up to zero, else 1 + four times the power of two below and the quarter above it.
fn duration_code(duration_ns: i64) -> u8 {
    match u64::try_from(duration_ns) {
        Err(_) | Ok(0) => 0,
        Ok(duration_ns) => {
            let power = duration_ns.ilog2();
            let quarter = (u128::from(duration_ns) << 2 >> power) as u8 & 3;
            1 + power as u8 * 4 + quarter
        }
    }
}

/// What the directory says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    /// Service of all its spans.
    pub service: String,
    /// Its place in the file.
    pub place: std::ops::Range<u64>,
    /// From which unit its spans are counted.
    pub first_unit: u32,
    /// Spans.
    pub rows: usize,
    /// First start, microseconds since the epoch.
    pub min_start_us: i64,
    /// Last start.
    pub max_start_us: i64,
    /// Codes of the least and of the greatest duration.
    durations: (u8, u8),
    /// Whether some span has the status error.
    pub has_errors: bool,
}

/// Writes the directory of blocks with these services.
fn write_directory(services: &[String], blocks: &[(u32, BlockEntry)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_varint(&mut out, services.len() as u64);
    for service in services {
        write_section(&mut out, service.as_bytes());
    }
    let mut before_us = 0;
    for (service, block) in blocks {
        write_varint(&mut out, u64::from(*service));
        write_varint(&mut out, u64::from(block.first_unit));
        write_varint(&mut out, block.rows as u64);
        write_varint(&mut out, block.place.end - block.place.start);
        write_varint(&mut out, zigzag(block.min_start_us.wrapping_sub(before_us)));
        write_varint(&mut out, block.max_start_us.wrapping_sub(block.min_start_us) as u64);
        out.extend([block.durations.0, block.durations.1, u8::from(block.has_errors)]);
        before_us = block.min_start_us;
    }
    out
}

/// Reads a directory, in front of which blocks end at `end`.
///
/// # Errors
/// The bytes are not one.
pub fn read_directory(mut bytes: &[u8], end: u64) -> Result<Vec<BlockEntry>, Invalid> {
    let n_services = read_varint(&mut bytes)? as usize;
    if n_services > bytes.len() {
        return Err(Invalid("data is cut off"));
    }
    let mut services = Vec::with_capacity(n_services);
    for _ in 0..n_services {
        services.push(read_text(&mut bytes)?);
    }
    let mut blocks = Vec::new();
    let (mut before_us, mut len_of_all) = (0_i64, 0_u64);
    while !bytes.is_empty() {
        let service =
            *services.get(read_varint(&mut bytes)? as usize).ok_or(Invalid("service is unknown"))?;
        let first_unit =
            u32::try_from(read_varint(&mut bytes)?).map_err(|_| Invalid("unit is out of range"))?;
        let rows = read_varint(&mut bytes)? as usize;
        if rows == 0 || rows > BLOCK_ROWS {
            return Err(Invalid("block has an impossible number of rows"));
        }
        let start = len_of_all;
        len_of_all = len_of_all
            .checked_add(read_varint(&mut bytes)?)
            .filter(|&len| len <= end)
            .ok_or(Invalid("blocks are longer than the file"))?;
        let min_start_us = before_us.wrapping_add(unzigzag(read_varint(&mut bytes)?));
        let max_start_us = min_start_us.wrapping_add(read_varint(&mut bytes)? as i64);
        before_us = min_start_us;
        let tail = take(&mut bytes, 3)?;
        blocks.push(BlockEntry {
            service: service.to_owned(),
            place: start..len_of_all,
            first_unit,
            rows,
            min_start_us,
            max_start_us,
            durations: (tail[0], tail[1]),
            has_errors: tail[2] & 1 == 1,
        });
    }
    for block in &mut blocks {
        block.place.start += end - len_of_all;
        block.place.end += end - len_of_all;
    }
    Ok(blocks)
}

fn read_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Invalid> {
    std::str::from_utf8(read_section(bytes)?).map_err(|_| Invalid("text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_durations_ascend() {
        let mut durations: Vec<i64> =
            (0..63).flat_map(|power| [1_i64 << power, (1 << power) - 1, (1 << power) / 3 * 4]).collect();
        durations.extend([i64::MIN, -1, 0, i64::MAX, 100_000_000]);
        durations.sort_unstable();
        assert!(durations.iter().map(|&duration| duration_code(duration)).is_sorted());
        assert_eq!((duration_code(i64::MIN), duration_code(0), duration_code(1)), (0, 0, 1));
        assert_eq!(duration_code(i64::MAX), 1 + 62 * 4 + 3);
    }
}
