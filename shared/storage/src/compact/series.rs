//! Merges files of series.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::TryStreamExt as _;

use super::outputs::{Finished, Job, Merged, Slices, ZSTD_LEVEL};
use super::rewrite::layout_of;
use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts, Projection};
use crate::block::series::merged::{self, Gather, Merge, Run, SeriesWriter, WrittenSeries};
use crate::block::series::{self, LabelReader};
use crate::index::{Places, SeriesDescriptor, SeriesSummary, UnitSummary, Window};
use crate::read::index::IndexedFile;
use crate::{Error, Result};

const MS_NS: i64 = 1_000_000;

/// Merges the job's inputs into files of its window, or of the long windows that they touch where that is `wide`, and
/// stores these.
///
/// # Errors
/// As the stores; an input is corrupt; an output is not what its inputs give.
pub(super) async fn merge(job: Job<'_>) -> Result<Merged> {
    let mut expected = 0;
    let (mut first_ms, mut last_ms) = (i64::MAX, i64::MIN);
    let mut fresh = Vec::new();
    let mut cursors = Vec::new();
    for input in job.inputs {
        let summary = SeriesSummary::parse(&input.item).map_err(|err| input.corrupt(err))?;
        expected += summary.n_samples;
        (first_ms, last_ms) = (first_ms.min(summary.min_time_ms), last_ms.max(summary.max_time_ms));
        match summary.places().map_err(|err| input.corrupt(err))? {
            Places::OfRequest(table) => fresh.push((input, table)),
            Places::Merged(units) => cursors.push(Cursor::new(input, units)),
        }
    }
    let range_ns = (first_ms.saturating_mul(MS_NS), last_ms.saturating_mul(MS_NS));
    let slices = Slices::of(job.signal, job.window, range_ns);
    let mut merge = Merge::new(cursors.len() + 1);
    merge.feed(cursors.len(), Some(gather(job, &fresh).await?));
    let mut sink = Sink { job, open: BTreeMap::new(), merged: Merged::default() };
    loop {
        while let Some(starved) = merge.starved() {
            let run = match cursors.get_mut(starved) {
                Some(cursor) => cursor.next(job).await?,
                None => None,
            };
            merge.feed(starved, run);
        }
        let next = merge.next_series().map_err(|err| Error::corrupt("a series of the inputs", err))?;
        let Some(series) = next else { break };
        match slices {
            Slices::One(window) => sink.write(window, &series).await?,
            Slices::Long { .. } => {
                let parts = series.split(slices.width_ns() / MS_NS);
                let parts = parts.map_err(|err| Error::corrupt("a series of the inputs", err))?;
                for (slice, part) in parts {
                    sink.write(slices.window_of(slice), &part).await?;
                }
            }
        }
    }
    let mut merged = sink.finish().await?;
    merged.n_duplicates = merge.n_duplicates;
    if merged.n_rows + merged.n_duplicates != expected {
        let why = format!("{} samples and {} duplicates of {expected}", merged.n_rows, merged.n_duplicates);
        return Err(Error::corrupt("merge of series", why));
    }
    Ok(merged)
}

/// What a series loses: all of it, or so many exemplars.
pub(super) enum Loss {
    All,
    Exemplars(u64),
}

/// Writes the file of series `input` anew without what `lose` names, and stores it; `None` if that is nothing. Returns how
/// many samples and exemplars went.
///
/// # Errors
/// As [`merge`].
pub(super) async fn rewrite(
    job: Job<'_>,
    input: &IndexedFile,
    lose: &(dyn Fn(&mut merged::MergedSeries) -> Result<Loss, Invalid> + Sync),
) -> Result<Option<(Merged, u64)>> {
    let summary = SeriesSummary::parse(&input.item).map_err(|err| input.corrupt(err))?;
    let mut merge = Merge::new(1);
    let mut cursor = match summary.places().map_err(|err| input.corrupt(err))? {
        Places::OfRequest(table) => {
            merge.feed(0, Some(gather(job, &[(input, table)]).await?));
            None
        }
        Places::Merged(units) => Some(Cursor::new(input, units)),
    };
    let mut writer = SeriesWriter::new(ZSTD_LEVEL);
    let (mut n_dropped, mut n_exemplars) = (0, 0);
    loop {
        while merge.starved().is_some() {
            let run = match &mut cursor {
                Some(cursor) => cursor.next(job).await?,
                None => None,
            };
            merge.feed(0, run);
        }
        let Some(mut series) = merge.next_series().map_err(|err| input.corrupt(err))? else { break };
        match lose(&mut series).map_err(|err| input.corrupt(err))? {
            Loss::All => n_dropped += series.n_samples(),
            Loss::Exemplars(n) => {
                n_exemplars += n;
                series.write(&mut writer);
            }
        }
    }
    if n_dropped + n_exemplars == 0 {
        return Ok(None);
    }
    let mut merged = Merged::default();
    if let Some(WrittenSeries { bytes, descriptor }) = writer.finish() {
        let file = finished(bytes, &descriptor)?;
        let layout = layout_of(merged::LAYOUT, &file.bytes);
        job.store(&mut merged, &layout, job.window, file).await?;
    }
    if merged.n_rows + merge.n_duplicates + n_dropped != summary.n_samples {
        let why = format!(
            "{} samples, {} duplicates and {n_dropped} dropped of {}",
            merged.n_rows, merge.n_duplicates, summary.n_samples
        );
        return Err(Error::corrupt("rewritten file of series", why));
    }
    Ok(Some((merged, n_dropped + n_exemplars)))
}

/// A file that is read back and what its item says.
fn finished(bytes: Bytes, descriptor: &SeriesDescriptor) -> Result<Finished> {
    let item = descriptor.encode();
    verify(&bytes, &item).map_err(|err| Error::corrupt("merged file of series", err))?;
    let ns = |ms: i64| ms.saturating_mul(MS_NS);
    let range_ns = (ns(descriptor.min_time_ms), ns(descriptor.max_time_ms));
    Ok(Finished { bytes, item, n_rows: descriptor.n_samples, range_ns })
}

/// Reads a merged input unit by unit.
struct Cursor<'a> {
    input: &'a IndexedFile,
    units: std::vec::IntoIter<ChunkTable>,
}

impl<'a> Cursor<'a> {
    fn new(input: &'a IndexedFile, units: Vec<UnitSummary<'_>>) -> Self {
        let units: Vec<ChunkTable> = units.into_iter().map(|unit| unit.chunks).collect();
        Self { input, units: units.into_iter() }
    }

    async fn next(&mut self, job: Job<'_>) -> Result<Option<Run>> {
        let Some(unit) = self.units.next() else { return Ok(None) };
        let mut parts = Parts::new();
        parts.add(unit.start, job.range(self.input, unit.start..unit.end()).await?);
        Run::read(&unit, &parts).map(Some).map_err(|err| self.input.corrupt(err))
    }
}

/// All files of requests, in order.
async fn gather(job: Job<'_>, fresh: &[(&IndexedFile, ChunkTable)]) -> Result<Run> {
    let labels = LabelReader::default();
    let mut gathered = Gather::default();
    let mut files = std::pin::pin!(job.whole(fresh.iter().map(|(input, _)| *input).collect()));
    for (input, table) in fresh {
        let Some(bytes) = files.try_next().await? else { break };
        let decoded = series::decode(table, &Parts::whole(bytes), Projection::ALL, &labels);
        gathered.add(&decoded.map_err(|err| input.corrupt(err))?);
    }
    Ok(gathered.finish())
}

/// Takes series in order and stores files of them.
struct Sink<'a> {
    job: Job<'a>,
    open: BTreeMap<Window, SeriesWriter>,
    merged: Merged,
}

impl Sink<'_> {
    async fn write(&mut self, window: Window, series: &merged::MergedSeries) -> Result<()> {
        let writer = self.open.entry(window).or_insert_with(|| SeriesWriter::new(ZSTD_LEVEL));
        series.write(writer);
        if writer.len() as u64 >= self.job.target_bytes
            && let Some(full) = self.open.remove(&window)
        {
            self.close(window, full).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Merged> {
        for (window, writer) in std::mem::take(&mut self.open) {
            self.close(window, writer).await?;
        }
        Ok(self.merged)
    }

    async fn close(&mut self, window: Window, writer: SeriesWriter) -> Result<()> {
        let Some(WrittenSeries { bytes, descriptor }) = writer.finish() else { return Ok(()) };
        let file = finished(bytes, &descriptor)?;
        self.job.store(&mut self.merged, merged::LAYOUT, window, file).await
    }
}

/// Reads an output as its readers will, and checks that it is what its item says.
fn verify(bytes: &Bytes, item: &[u8]) -> Result<(), Invalid> {
    let summary = SeriesSummary::parse(item)?;
    let Places::Merged(units) = summary.places()? else { return Err(Invalid("merged file has no units")) };
    let parts = Parts::whole(bytes.clone());
    let mut n_rows = 0;
    for unit in units {
        let run = Run::read(&unit.chunks, &parts)?;
        if run.len() as u64 != unit.rows {
            return Err(Invalid("unit has another number of rows"));
        }
        n_rows += unit.rows;
    }
    if n_rows == summary.rows && bytes.len() as u64 == summary.size {
        Ok(())
    } else {
        Err(Invalid("file is not what its item says"))
    }
}
