//! Merges files of series.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Signal, TenantId};

use super::plan::{self, Rules};
use super::publish::{self, Output};
use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts, Projection};
use crate::block::series::merged::{self, Gather, Merge, Run, SeriesWriter, WrittenSeries};
use crate::block::series::{self, LabelReader};
use crate::index::{FileKey, MAX_HEIRS, Places, SeriesSummary, UnitSummary, Window};
use crate::read::index::IndexedFile;
use crate::{Error, Result, Store};

/// How many objects are read at once.
const CONCURRENT_READS: usize = 16;
/// zstd's level for files that live long.
const ZSTD_LEVEL: i32 = 3;
const MS_NS: i64 = 1_000_000;

/// What a merge did.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) outputs: Vec<Output>,
    pub(super) n_rows: u64,
    pub(super) n_duplicates: u64,
    pub(super) bytes_written: u64,
}

/// Merges `inputs` into files of `window`, or of the long windows that they touch where that is `wide`, and stores these.
///
/// # Errors
/// As the stores; an input is corrupt; an output is not what its inputs give.
pub(super) async fn merge(
    store: &Store,
    tenant: &TenantId,
    inputs: &[IndexedFile],
    window: Window,
    level: u8,
    rules: &Rules,
) -> Result<Merged> {
    let mut expected = 0;
    let mut range_ms: Option<(i64, i64)> = None;
    let mut fresh = Vec::new();
    let mut cursors = Vec::new();
    for input in inputs {
        let summary = SeriesSummary::parse(&input.item).map_err(|err| input.corrupt(err))?;
        expected += summary.n_samples;
        let (first, last) = range_ms.unwrap_or((summary.min_time_ms, summary.max_time_ms));
        range_ms = Some((first.min(summary.min_time_ms), last.max(summary.max_time_ms)));
        match summary.places().map_err(|err| input.corrupt(err))? {
            Places::OfRequest(table) => fresh.push((input, table)),
            Places::Merged(units) => cursors.push(Cursor::new(input, units)),
        }
    }
    let slices = Slices::of(window, range_ms.unwrap_or((0, 0)));
    let mut merge = Merge::new(cursors.len() + 1);
    let gathered = gather(store, tenant, &fresh).await?;
    merge.feed(cursors.len(), Some(gathered));
    let mut sink = Sink {
        store,
        tenant,
        inputs,
        level,
        rules,
        slices,
        open: BTreeMap::new(),
        merged: Merged::default(),
    };
    loop {
        while let Some(starved) = merge.starved() {
            let run = match cursors.get_mut(starved) {
                Some(cursor) => cursor.next(store, tenant).await?,
                None => None,
            };
            merge.feed(starved, run);
        }
        let next = merge.next_series().map_err(|err| Error::corrupt("a series of the inputs", err))?;
        let Some(series) = next else { break };
        match slices {
            Slices::One(window) => sink.write(window, &series).await?,
            Slices::Long { width_ms } => {
                let parts =
                    series.split(width_ms).map_err(|err| Error::corrupt("a series of the inputs", err))?;
                for (slice, part) in parts {
                    sink.write(Slices::window_of(slice), &part).await?;
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

/// In which windows outputs lie.
#[derive(Debug, Clone, Copy)]
enum Slices {
    One(Window),
    /// By long window.
    Long {
        width_ms: i64,
    },
}

impl Slices {
    /// What reaches over too many long windows stays `wide`.
    fn of(window: Window, (first_ms, last_ms): (i64, i64)) -> Self {
        let width_ms = plan::long_width_ns(Signal::Metrics) / MS_NS;
        let n_slices = last_ms.div_euclid(width_ms).saturating_sub(first_ms.div_euclid(width_ms));
        match window {
            Window::Wide if n_slices < MAX_HEIRS as i64 / 2 => Self::Long { width_ms },
            window => Self::One(window),
        }
    }

    fn window_of(slice: i64) -> Window {
        let n = plan::hours_of_long_window(Signal::Metrics);
        Window::Hours { first: slice.saturating_mul(i64::from(n)), n }
    }
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

    async fn next(&mut self, store: &Store, tenant: &TenantId) -> Result<Option<Run>> {
        let Some(unit) = self.units.next() else { return Ok(None) };
        let key = self.input.key.object(tenant);
        let bytes = store.objects.get_range(&key, unit.start..unit.end()).await?;
        let bytes = bytes.ok_or(Error::Missing { key })?;
        let mut parts = Parts::new();
        parts.add(unit.start, bytes);
        Run::read(&unit, &parts).map(Some).map_err(|err| self.input.corrupt(err))
    }
}

/// All files of requests, in order.
async fn gather(store: &Store, tenant: &TenantId, fresh: &[(&IndexedFile, ChunkTable)]) -> Result<Run> {
    let labels = LabelReader::default();
    let read = |(input, table): &(&IndexedFile, ChunkTable)| {
        let (key, table) = (input.key.object(tenant), table.clone());
        async move {
            let bytes = store.objects.get(&key).await?.ok_or(Error::Missing { key })?;
            Ok::<(Bytes, ChunkTable), Error>((bytes, table))
        }
    };
    let reads: Vec<_> = fresh.iter().map(read).collect();
    let mut files = stream::iter(reads).buffered(CONCURRENT_READS);
    let mut gathered = Gather::default();
    let mut at = 0;
    while let Some((bytes, table)) = files.try_next().await? {
        let decoded = series::decode(&table, &Parts::whole(bytes), Projection::ALL, &labels);
        gathered.add(&decoded.map_err(|err| fresh[at].0.corrupt(err))?);
        at += 1;
    }
    Ok(gathered.finish())
}

/// Takes series in order and stores files of them.
struct Sink<'a> {
    store: &'a Store,
    tenant: &'a TenantId,
    inputs: &'a [IndexedFile],
    level: u8,
    rules: &'a Rules,
    slices: Slices,
    open: BTreeMap<Window, SeriesWriter>,
    merged: Merged,
}

impl Sink<'_> {
    async fn write(&mut self, window: Window, series: &merged::MergedSeries) -> Result<()> {
        let writer = self.open.entry(window).or_insert_with(|| SeriesWriter::new(ZSTD_LEVEL));
        series.write(writer);
        if writer.len() as u64 >= self.rules.target_bytes
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
        verify(&bytes, &descriptor.encode()).map_err(|err| Error::corrupt("merged file of series", err))?;
        let part = self.merged.outputs.len();
        let key = FileKey {
            signal: Signal::Metrics,
            level: self.level,
            min_start_ns: descriptor.min_time_ms.saturating_mul(MS_NS),
            content: publish::content_of(self.tenant, Signal::Metrics, merged::LAYOUT, self.inputs, part),
        };
        let window = match self.slices {
            // What stays wide may not be so any more.
            Slices::One(Window::Wide) => {
                Window::of(key.min_start_ns, descriptor.max_time_ms.saturating_mul(MS_NS))
            }
            Slices::One(_) | Slices::Long { .. } => window,
        };
        self.merged.n_rows += descriptor.n_samples;
        self.merged.bytes_written += bytes.len() as u64;
        publish::store_object(self.store, self.tenant, &key, bytes).await?;
        self.merged.outputs.push(Output { key, window, item: descriptor.encode() });
        Ok(())
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
