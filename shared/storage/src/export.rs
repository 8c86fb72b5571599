//! Samples for other engines: what merged files have in packed chunks, as one row a sample.
//!
//! Day by day: the files with samples of it → one merge of all, in the order of metric and labels, each sample once →
//! files of [`samples`](crate::block::samples). Nothing is written to the store.
//!
//! Memory is bounded by a unit of each merged file that has something of the day, and a chunk or so for each series of
//! those that are not merged yet, of which there may be [`MAX_FRESH_BYTES`].

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::series::is_stale;
use model::{Signal, TenantId};

use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts, Projection};
use crate::block::samples::{SampleValue, SampleWriter};
use crate::block::series::merged::{Gather, Merge, MergedSeries, Run};
use crate::block::series::{self, LabelReader};
use crate::index::{Places, SeriesSummary};
use crate::read::index::{self, IndexedFile};
use crate::{Error, Result, Store};

/// Bytes of files of requests of one day, at most: merging makes them fewer.
pub const MAX_FRESH_BYTES: u64 = 256 << 20;
/// Files of requests that are decoded at once.
const FRESH_TOGETHER: usize = 64;
const CONCURRENT_READS: usize = 16;
/// An exported file is closed at about this length.
const TARGET_BYTES: usize = 64 << 20;
const DAY_MS: i64 = 24 * 3_600_000;

/// Takes an exported file: the day, counted from the epoch, its number in the day, and its bytes.
pub type Sink<'a> = dyn FnMut(i64, usize, Bytes) -> std::io::Result<()> + Send + 'a;

/// Gives `sink` files with all samples of a tenant from `first_ms` to `last_ms`, ms since the epoch, and returns how many
/// samples these are. Stale markers are left out: they say that there is no sample.
///
/// # Errors
/// As the stores; a day has too much that is not merged; `sink` fails.
pub async fn samples(
    store: &Store,
    tenant: &TenantId,
    (first_ms, last_ms): (i64, i64),
    sink: &mut Sink<'_>,
) -> Result<u64> {
    let known = index::known_windows(store, tenant, Signal::Metrics).await?;
    let mut files: Vec<(IndexedFile, (i64, i64))> = Vec::new();
    for file in index::files(store, tenant, Signal::Metrics, known).await? {
        let summary = SeriesSummary::parse(&file.item).map_err(|err| file.corrupt(err))?;
        let range_ms = (summary.min_time_ms.max(first_ms), summary.max_time_ms.min(last_ms));
        if range_ms.0 <= range_ms.1 {
            files.push((file, range_ms));
        }
    }
    files.sort_by_key(|(file, _)| (file.key.min_start_ns, file.key.content.0));
    let mut days: Vec<i64> = Vec::new();
    for (_, (first_ms, last_ms)) in &files {
        days.extend(first_ms.div_euclid(DAY_MS)..=last_ms.div_euclid(DAY_MS));
        days.sort_unstable();
        days.dedup();
    }
    let mut n_samples = 0;
    for day in days {
        let range_ms = (first_ms.max(day * DAY_MS), last_ms.min(day * DAY_MS + DAY_MS - 1));
        let is_in = |(_, (first_ms, last_ms)): &&(IndexedFile, (i64, i64))| {
            *first_ms <= range_ms.1 && *last_ms >= range_ms.0
        };
        let of_day: Vec<&IndexedFile> = files.iter().filter(is_in).map(|(file, _)| file).collect();
        n_samples += Part { store, tenant, day, range_ms }.export(&of_day, sink).await?;
    }
    Ok(n_samples)
}

/// A day of a tenant, of which this range is exported.
struct Part<'a> {
    store: &'a Store,
    tenant: &'a TenantId,
    day: i64,
    range_ms: (i64, i64),
}

impl Part<'_> {
    async fn export(&self, files: &[&IndexedFile], sink: &mut Sink<'_>) -> Result<u64> {
        let (mut fresh, mut fresh_bytes) = (Vec::new(), 0);
        let mut cursors: Vec<(&IndexedFile, std::vec::IntoIter<ChunkTable>)> = Vec::new();
        for file in files {
            let summary = SeriesSummary::parse(&file.item).map_err(|err| file.corrupt(err))?;
            match summary.places().map_err(|err| file.corrupt(err))? {
                Places::OfRequest(table) => {
                    fresh_bytes += summary.size;
                    fresh.push((*file, table));
                }
                Places::Merged(units) => {
                    let tables: Vec<ChunkTable> = units.into_iter().map(|unit| unit.chunks).collect();
                    cursors.push((file, tables.into_iter()));
                }
            }
        }
        if fresh_bytes > MAX_FRESH_BYTES {
            return Err(Error::OverLimit {
                limit: MAX_FRESH_BYTES,
                unit: "bytes of a day that are not merged",
            });
        }
        let n_groups = fresh.len().div_ceil(FRESH_TOGETHER);
        let mut merge = Merge::new(cursors.len() + n_groups);
        for (group, files) in fresh.chunks(FRESH_TOGETHER).enumerate() {
            merge.feed(cursors.len() + group, Some(self.gather(files).await?));
        }
        let mut output = Output { day: self.day, n_files: 0, n_samples: 0, writer: SampleWriter::default() };
        loop {
            while let Some(starved) = merge.starved() {
                let next = cursors.get_mut(starved).and_then(|(file, units)| Some((file, units.next()?)));
                let run = match next {
                    Some((file, unit)) => Some(self.read(file, &unit).await?),
                    None => None,
                };
                merge.feed(starved, run);
            }
            let corrupt = |err| Error::corrupt("a series", err);
            let Some(series) = merge.next_series().map_err(corrupt)? else { break };
            output.push(&series, self.range_ms).map_err(corrupt)?;
            if output.writer.len() >= TARGET_BYTES {
                output.close(sink)?;
            }
        }
        output.close(sink)?;
        Ok(output.n_samples)
    }

    async fn read(&self, file: &IndexedFile, unit: &ChunkTable) -> Result<Run> {
        let key = file.key.object(self.tenant);
        let bytes = self.store.objects.get_range(&key, unit.start..unit.end()).await?;
        let mut parts = Parts::new();
        parts.add(unit.start, bytes.ok_or(Error::Missing { key })?);
        Run::read(unit, &parts).map_err(|err| file.corrupt(err))
    }

    async fn gather(&self, files: &[(&IndexedFile, ChunkTable)]) -> Result<Run> {
        let labels = LabelReader::default();
        let mut gathered = Gather::default();
        let reads: Vec<_> = files
            .iter()
            .map(|(file, _)| {
                let key = file.key.object(self.tenant);
                async move { self.store.objects.get(&key).await?.ok_or(Error::Missing { key }) }
            })
            .collect();
        let mut read = std::pin::pin!(stream::iter(reads).buffered(CONCURRENT_READS));
        for (file, table) in files {
            let Some(bytes) = read.try_next().await? else { break };
            let decoded = series::decode(table, &Parts::whole(bytes), Projection::ALL, &labels);
            gathered.add(&decoded.map_err(|err| file.corrupt(err))?);
        }
        Ok(gathered.finish())
    }
}

/// The open file of a day.
struct Output {
    day: i64,
    n_files: usize,
    n_samples: u64,
    writer: SampleWriter,
}

impl Output {
    fn push(&mut self, series: &MergedSeries, (first_ms, last_ms): (i64, i64)) -> Result<(), Invalid> {
        let (metric, labels, temporality) = series.identity();
        let is_in = |time_ms: i64| first_ms <= time_ms && time_ms <= last_ms;
        let samples = series.samples()?;
        for (at, (&time_ms, &value)) in samples.time_ms.iter().zip(&samples.value).enumerate() {
            if is_in(time_ms) && !is_stale(value) {
                let start_ms = samples.start_ms.get(at).copied().unwrap_or(0);
                let value = SampleValue::Float(value);
                self.writer.push((&metric, &labels), temporality, (time_ms, start_ms), value);
                self.n_samples += 1;
            }
        }
        for sample in series.histograms()? {
            if is_in(sample.time_ms) && !sample.histogram.is_stale() {
                let value =
                    SampleValue::Histogram { count: sample.histogram.count, sum: sample.histogram.sum };
                self.writer.push((&metric, &labels), temporality, (sample.time_ms, sample.start_ms), value);
                self.n_samples += 1;
            }
        }
        Ok(())
    }

    fn close(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let Some(bytes) = std::mem::take(&mut self.writer).finish() else { return Ok(()) };
        sink(self.day, self.n_files, bytes)
            .map_err(|err| Error::refused("export folder", "writing a file", err))?;
        self.n_files += 1;
        Ok(())
    }
}
