//! What the index says of a file of series.
//!
//! ```text
//! item     = u8 version 1  varint rows  varint samples  varint size  i64 LE least time, ms
//!            varint greatest time − least time  section chunks  section metrics
//! chunks   = per column varint(length << 1 | compressed)
//! metrics  = a set of fingerprints
//! section  = varint length  bytes
//! ```

use super::fingerprint;
use super::item::{read_chunks, read_section, write_chunks, write_section};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, write_varint};
use crate::block::parts::ChunkTable;

const VERSION: u8 = 1;
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
    pub chunks: ChunkTable,
    /// The set of metrics.
    pub metrics: Vec<u8>,
}

/// The hash of a metric's name in the set of metrics.
pub(crate) fn hash_metric(metric: &str) -> u64 {
    fingerprint::hash_texts(metric, "")
}

impl SeriesDescriptor {
    /// Describes a file with these metrics.
    pub fn new(
        rows: u64,
        n_samples: u64,
        size: u64,
        (min_time_ms, max_time_ms): (i64, i64),
        chunks: ChunkTable,
        metrics: &[String],
    ) -> Self {
        let mut set = Vec::new();
        fingerprint::write(&mut set, metrics.iter().map(|metric| hash_metric(metric)), METRIC_RATE_BITS);
        Self { rows, n_samples, size, min_time_ms, max_time_ms, chunks, metrics: set }
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.push(VERSION);
        for number in [self.rows, self.n_samples, self.size] {
            write_varint(&mut out, number);
        }
        out.extend_from_slice(&self.min_time_ms.to_le_bytes());
        write_varint(&mut out, self.max_time_ms.wrapping_sub(self.min_time_ms) as u64);
        write_chunks(&mut out, &self.chunks);
        write_section(&mut out, &self.metrics);
        out
    }
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
    chunks: &'a [u8],
    metrics: &'a [u8],
}

impl<'a> SeriesSummary<'a> {
    /// Reads an item's value.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, Invalid> {
        if take(&mut bytes, 1)?[0] != VERSION {
            return Err(Invalid("index item has an unknown version"));
        }
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
            chunks: read_section(&mut bytes)?,
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
    pub fn chunks(&self) -> Result<ChunkTable, Invalid> {
        read_chunks(self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_comes_back() {
        let chunks = ChunkTable { chunks: vec![(10, true), (300, false)] };
        let metrics = ["up".to_owned(), "http_requests_total".to_owned()];
        let descriptor = SeriesDescriptor::new(3, 9, 1234, (-5, i64::MAX), chunks.clone(), &metrics);
        let item = descriptor.encode();
        let summary = SeriesSummary::parse(&item).expect("own bytes");
        assert_eq!((summary.rows, summary.n_samples, summary.size), (3, 9, 1234));
        assert_eq!((summary.min_time_ms, summary.max_time_ms), (-5, i64::MAX));
        assert_eq!(summary.chunks().expect("own bytes"), chunks);
        assert!(summary.may_have_metric(hash_metric("up")).expect("own bytes"));
        assert!(!summary.may_have_metric(hash_metric("down")).expect("own bytes"));
        for end in 0..item.len() {
            assert!(SeriesSummary::parse(&item[..end]).is_err());
        }
    }
}
