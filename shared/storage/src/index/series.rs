//! What the index says of a file of series.
//!
//! ```text
//! item     = u8 version  varint rows  varint samples  varint size  i64 LE least time, ms
//!            varint greatest time − least time  section places  section metrics
//! version  = 1: a file of one request   2: a merged file
//! places   = version 1: chunks   2: varint columns  unit …
//! unit     = varint rows  section first metric  chunks without their length
//! chunks   = per column varint(length << 1 | compressed)
//! metrics  = a set of fingerprints
//! section  = varint length  bytes
//! ```
//! Units lie end to end in the file and are sorted by metric: the first metric of each says which hold a given one.

use super::item::{read_chunks, read_section, write_chunks, write_section};
use super::{Places, fingerprint};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, write_varint};
use crate::block::parts::ChunkTable;

const OF_REQUEST: u8 = 1;
const MERGED: u8 = 2;
/// A stranger is taken for a metric of the file once in 4,096 times.
const METRIC_RATE_BITS: u32 = 12;

/// What planning needs to know of a file of series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesDescriptor {
    /// Series.
    pub rows: u64,
    /// Samples, histograms included.
    pub n_samples: u64,
    /// Length of the object in bytes.
    pub size: u64,
    /// Least time of a sample, ms since the epoch.
    pub min_time_ms: i64,
    /// Greatest time.
    pub max_time_ms: i64,
    /// Where the columns are.
    pub places: Places<ChunkTable, Vec<SeriesUnit>>,
    /// The set of metrics.
    pub metrics: Vec<u8>,
}

/// Rows of a merged file that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesUnit {
    /// Series.
    pub rows: u64,
    /// The metric of the first.
    pub first_metric: String,
    /// Where the columns are.
    pub chunks: ChunkTable,
}

/// The hash of a metric's name in the set of metrics.
pub(crate) fn hash_metric(metric: &str) -> u64 {
    fingerprint::hash_texts(metric, "")
}

fn metric_set<'a>(metrics: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let hashes: Vec<u64> = metrics.map(hash_metric).collect();
    let mut set = Vec::new();
    fingerprint::write(&mut set, hashes.into_iter(), METRIC_RATE_BITS);
    set
}

impl SeriesDescriptor {
    /// Describes a file of one request with these metrics.
    pub fn new(
        rows: u64,
        n_samples: u64,
        size: u64,
        (min_time_ms, max_time_ms): (i64, i64),
        chunks: ChunkTable,
        metrics: &[String],
    ) -> Self {
        let metrics = metric_set(metrics.iter().map(String::as_str));
        Self { rows, n_samples, size, min_time_ms, max_time_ms, places: Places::OfRequest(chunks), metrics }
    }

    /// Describes a merged file with these metrics.
    pub fn merged<'a>(
        rows: u64,
        n_samples: u64,
        size: u64,
        (min_time_ms, max_time_ms): (i64, i64),
        units: Vec<SeriesUnit>,
        metrics: impl Iterator<Item = &'a str>,
    ) -> Self {
        let metrics = metric_set(metrics);
        Self { rows, n_samples, size, min_time_ms, max_time_ms, places: Places::Merged(units), metrics }
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.push(match self.places {
            Places::OfRequest(_) => OF_REQUEST,
            Places::Merged(_) => MERGED,
        });
        for number in [self.rows, self.n_samples, self.size] {
            write_varint(&mut out, number);
        }
        out.extend_from_slice(&self.min_time_ms.to_le_bytes());
        write_varint(&mut out, self.max_time_ms.wrapping_sub(self.min_time_ms) as u64);
        match &self.places {
            Places::OfRequest(chunks) => write_chunks(&mut out, chunks),
            Places::Merged(units) => write_section(&mut out, &write_units(units)),
        }
        write_section(&mut out, &self.metrics);
        out
    }
}

fn write_units(units: &[SeriesUnit]) -> Vec<u8> {
    let mut out = Vec::new();
    write_varint(&mut out, units.first().map_or(0, |unit| unit.chunks.chunks.len() as u64));
    for unit in units {
        write_varint(&mut out, unit.rows);
        write_section(&mut out, unit.first_metric.as_bytes());
        for &(len, compressed) in &unit.chunks.chunks {
            write_varint(&mut out, len << 1 | u64::from(compressed));
        }
    }
    out
}

/// A unit, read as far as a plan needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of SeriesUnit")]
pub struct UnitSummary<'a> {
    pub rows: u64,
    pub first_metric: &'a str,
    pub chunks: ChunkTable,
}

fn read_units(mut bytes: &[u8]) -> Result<Vec<UnitSummary<'_>>, Invalid> {
    let n_columns = read_varint(&mut bytes)?;
    let mut units = Vec::new();
    let mut start = ChunkTable::default().start;
    while !bytes.is_empty() {
        let rows = read_varint(&mut bytes)?;
        let first_metric = std::str::from_utf8(read_section(&mut bytes)?);
        let first_metric = first_metric.map_err(|_| Invalid("text is not UTF-8"))?;
        let mut table = ChunkTable::at(start, Vec::new());
        for _ in 0..n_columns {
            let entry = read_varint(&mut bytes)?;
            table.chunks.push((entry >> 1, entry & 1 == 1));
        }
        start = table.end();
        units.push(UnitSummary { rows, first_metric, chunks: table });
    }
    Ok(units)
}

/// An index item, read as far as a plan needs it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of SeriesDescriptor")]
pub struct SeriesSummary<'a> {
    pub rows: u64,
    pub n_samples: u64,
    pub size: u64,
    pub min_time_ms: i64,
    pub max_time_ms: i64,
    is_merged: bool,
    places: &'a [u8],
    metrics: &'a [u8],
}

impl<'a> SeriesSummary<'a> {
    /// Reads an item's value.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, Invalid> {
        let is_merged = match take(&mut bytes, 1)?[0] {
            OF_REQUEST => false,
            MERGED => true,
            _ => return Err(Invalid("index item has an unknown version")),
        };
        let (rows, n_samples, size) =
            (read_varint(&mut bytes)?, read_varint(&mut bytes)?, read_varint(&mut bytes)?);
        let least = take(&mut bytes, 8)?.try_into().expect("invariant: as many taken");
        let min_time_ms = i64::from_le_bytes(least);
        let max_time_ms = min_time_ms.wrapping_add(read_varint(&mut bytes)? as i64);
        Ok(Self {
            rows,
            n_samples,
            size,
            min_time_ms,
            max_time_ms,
            is_merged,
            places: read_section(&mut bytes)?,
            metrics: read_section(&mut bytes)?,
        })
    }

    /// Whether the metric may be in the file.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn may_have_metric(&self, hash: u64) -> Result<bool, Invalid> {
        fingerprint::may_contain(self.metrics, hash)
    }

    /// Where the columns are.
    ///
    /// # Errors
    /// The item is corrupt.
    pub fn places(&self) -> Result<Places<ChunkTable, Vec<UnitSummary<'a>>>, Invalid> {
        Ok(if self.is_merged {
            Places::Merged(read_units(self.places)?)
        } else {
            Places::OfRequest(read_chunks(self.places)?)
        })
    }
}

impl<'a> UnitSummary<'a> {
    /// Of units in the order of a file, those that may hold one of `metrics`.
    pub fn that_may_have(units: Vec<Self>, metrics: &[&str]) -> Vec<Self> {
        let ends: Vec<Option<&'a str>> =
            units.iter().skip(1).map(|next| Some(next.first_metric)).chain([None]).collect();
        let may_have = |unit: &Self, end: Option<&str>| {
            metrics.iter().any(|&metric| unit.first_metric <= metric && end.is_none_or(|end| metric <= end))
        };
        units.into_iter().zip(ends).filter(|(unit, end)| may_have(unit, *end)).map(|(unit, _)| unit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(descriptor: &SeriesDescriptor) {
        let item = descriptor.encode();
        let summary = SeriesSummary::parse(&item).expect("own bytes");
        assert_eq!((summary.rows, summary.n_samples, summary.size), (3, 9, 1234));
        assert_eq!((summary.min_time_ms, summary.max_time_ms), (-5, i64::MAX));
        assert!(summary.may_have_metric(hash_metric("up")).expect("own bytes"));
        assert!(!summary.may_have_metric(hash_metric("down")).expect("own bytes"));
        match (&descriptor.places, summary.places().expect("own bytes")) {
            (Places::OfRequest(table), Places::OfRequest(read)) => assert_eq!(*table, read),
            (Places::Merged(units), Places::Merged(read)) => {
                let read = read.into_iter().map(|unit| SeriesUnit {
                    rows: unit.rows,
                    first_metric: unit.first_metric.to_owned(),
                    chunks: unit.chunks,
                });
                assert_eq!(*units, read.collect::<Vec<_>>());
            }
            _ => panic!("places of another kind"),
        }
        for end in 0..item.len() {
            assert!(SeriesSummary::parse(&item[..end]).is_err());
        }
    }

    fn units() -> Vec<SeriesUnit> {
        let first = ChunkTable::first(vec![(10, true), (300, false)]);
        let second = ChunkTable::at(first.end(), vec![(7, false), (0, true)]);
        let unit = |rows, metric: &str, chunks| SeriesUnit { rows, first_metric: metric.to_owned(), chunks };
        vec![unit(2, "http_requests_total", first), unit(1, "up", second)]
    }

    #[test]
    fn an_item_comes_back() {
        let range_ms = (-5, i64::MAX);
        let chunks = ChunkTable::first(vec![(10, true), (300, false)]);
        let metrics = ["up".to_owned(), "http_requests_total".to_owned()];
        check(&SeriesDescriptor::new(3, 9, 1234, range_ms, chunks, &metrics));
        check(&SeriesDescriptor::merged(3, 9, 1234, range_ms, units(), metrics.iter().map(String::as_str)));
    }

    #[test]
    fn units_are_found_by_metric() {
        let descriptor = SeriesDescriptor::merged(3, 9, 1, (0, 0), units(), ["up"].into_iter());
        let item = descriptor.encode();
        let n_with = |metrics: &[&str]| {
            let Places::Merged(units) =
                SeriesSummary::parse(&item).expect("own bytes").places().expect("own bytes")
            else {
                panic!("not merged")
            };
            UnitSummary::that_may_have(units, metrics).len()
        };
        assert_eq!(n_with(&["a"]), 0);
        assert_eq!(n_with(&["node"]), 1);
        assert_eq!(n_with(&["up"]), 2, "the unit before may end with it");
        assert_eq!(n_with(&["zz"]), 1);
        assert_eq!(n_with(&["node", "zz"]), 2);
    }
}
