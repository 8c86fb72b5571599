//! Writes one file anew, without some of what it has: as a merged file in the window of the old one.

use std::sync::Arc;

use bytes::Bytes;
use model::dense::{Choice, Dense};
use model::sampling::policy::Applied;
use model::{LogColumns, Signal, SpanColumns, TenantId};

use super::outputs::{Finished, Job, Merged, ZSTD_LEVEL};
use super::publish::Output;
use super::series::{self, Loss};
use super::units::Units;
use crate::block::logs;
use crate::block::logs::merged::{LogMerge, LogRun, LogWriter, WrittenLogs};
use crate::block::parquet::Invalid;
use crate::block::parts::Parts;
use crate::block::series::merged::MergedSeries;
use crate::block::spans::Projection;
use crate::block::spans::merged::{self, SpanMerge, SpanRun, SpanWriter, WrittenSpans};
use crate::index::{LogSummary, Places, Window};
use crate::read::index::IndexedFile;
use crate::{Error, Result, Store};

/// What is fetched at once.
const MAX_FETCHED_BYTES: u64 = 4 << 20;

/// What became of a file.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// The file that has its rows now, if it has any; nothing if it stays as it is.
    pub(super) outputs: Option<Vec<Output>>,
    /// Spans that went.
    pub(super) n_dropped: u64,
    pub(super) bytes_written: u64,
}

/// A file in its window, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) store: &'a Store,
    pub(super) tenant: &'a TenantId,
    pub(super) window: Window,
    pub(super) file: &'a IndexedFile,
    /// Attributes of spans that get columns of their own, however few spans have them.
    pub(super) dense_attributes: &'a [String],
}

/// Writes a file anew as `edit` leaves its units, and stores it, but for the index, as one that had these treatments.
/// A file of which nothing changes is not stored.
///
/// Its name follows from its bytes, because what is dropped may follow from other files too. Memory: one unit and the
/// finished bytes.
///
/// # Errors
/// As the object store; the file is corrupt.
pub(super) async fn spans(
    place: Place<'_>,
    treatments: &[u64],
    edit: &(dyn Fn(&mut SpanColumns) -> Result<Applied, Invalid> + Sync),
) -> Result<Rewritten> {
    let Place { store, tenant, window, file, .. } = place;
    let expected = file.summary()?.rows;
    let mut units = Units::of(store, tenant, file, MAX_FETCHED_BYTES)?;
    let mut merge = SpanMerge::new(1);
    let mut open: Option<(Dense, SpanWriter)> = None;
    let mut applied = Applied::default();
    let mut n_rows = 0;
    while let Some(mut columns) = units.next(Projection::ALL).await? {
        n_rows += columns.len() as u64;
        let (dense, writer) = open.get_or_insert_with(|| {
            // The first rows by hash are as good as any.
            let dense = Choice::of(&columns.attributes).choose(place.dense_attributes);
            (dense.clone(), SpanWriter::new(ZSTD_LEVEL, dense))
        });
        let of_unit = edit(&mut columns).map_err(|err| file.corrupt(err))?;
        applied.n_dropped += of_unit.n_dropped;
        applied.n_raised += of_unit.n_raised;
        merge.feed(0, Some(SpanRun::sorted(columns, dense)));
        merge.write(writer, usize::MAX);
    }
    if n_rows != expected {
        return Err(Error::corrupt(
            format!("file {}", file.key.sort()),
            "its item has another number of rows",
        ));
    }
    if applied == Applied::default() {
        return Ok(Rewritten::default());
    }
    let job = place.job(Signal::Traces, treatments);
    let mut merged = Merged::default();
    if let Some((WrittenSpans { bytes, descriptor, many_traces }, _)) =
        open.and_then(|(_, writer)| writer.finish())
    {
        merged::verify(&bytes, &descriptor).map_err(|err| Error::corrupt("rewritten file of spans", err))?;
        let range_ns = (descriptor.min_start_ns, descriptor.max_start_ns);
        let finished = Finished { item: descriptor.encode(), n_rows: descriptor.rows, range_ns, bytes };
        let layout = layout_of(merged::LAYOUT, &finished.bytes);
        job.store(&mut merged, &layout, window, finished).await?;
        if let Some(output) = merged.outputs.last() {
            super::spans::store_sieve(store, tenant, output, many_traces).await?;
        }
    }
    if merged.n_rows + merge.n_duplicates + applied.n_dropped != expected {
        let why = format!(
            "{} spans, {} duplicates and {} dropped of {expected}",
            merged.n_rows, merge.n_duplicates, applied.n_dropped
        );
        return Err(Error::corrupt("rewritten file of spans", why));
    }
    Ok(Rewritten::with(merged, applied.n_dropped))
}

/// Writes a file of series anew without what `lose` names, as [`spans`] does one of spans.
///
/// # Errors
/// As [`spans`].
pub(super) async fn series(
    place: Place<'_>,
    treatments: &[u64],
    lose: &(dyn Fn(&mut MergedSeries) -> Result<Loss, Invalid> + Sync),
) -> Result<Rewritten> {
    let rewritten = series::rewrite(place.job(Signal::Metrics, treatments), place.file, lose).await?;
    Ok(rewritten.map_or_else(Rewritten::default, |(merged, n_dropped)| Rewritten::with(merged, n_dropped)))
}

/// Writes a file of log records anew without the rows that `rows` names, as [`spans`] does one of spans.
///
/// # Errors
/// As [`spans`].
pub(super) async fn logs(
    place: Place<'_>,
    treatments: &[u64],
    rows: &(dyn Fn(&LogColumns) -> Result<Vec<bool>, Invalid> + Sync),
) -> Result<Rewritten> {
    let file = place.file;
    let corrupt = |err| file.corrupt(err);
    let job = place.job(Signal::Logs, treatments);
    let summary = LogSummary::parse(&file.item).map_err(corrupt)?;
    let mut merge = LogMerge::new(1);
    let mut writer = LogWriter::new(ZSTD_LEVEL);
    let mut n_dropped = 0;
    let mut write = |mut run: LogRun| {
        let is_dropped = rows(run.columns())?;
        n_dropped += is_dropped.iter().filter(|&&is_dropped| is_dropped).count() as u64;
        run.leave_out(&is_dropped);
        merge.feed(0, Some(run));
        while merge.starved().is_none() && merge.write(&mut writer, u64::MAX) {}
        Ok(())
    };
    match summary.places().map_err(corrupt)? {
        Places::OfRequest(table) => {
            let key = file.key.object(place.tenant);
            let bytes = place.store.objects.get(&key).await?.ok_or(Error::Missing { key })?;
            let columns = logs::decode(&table, &Parts::whole(bytes), Projection::ALL).map_err(corrupt)?;
            let all = LogRun::of_request(Arc::new(columns), file.key.content, |_| true);
            write(all).map_err(corrupt)?;
        }
        Places::Merged(merged) => {
            for (unit, _) in merged.placed() {
                let start = unit.start;
                let bytes = job.range(file, unit).await?;
                LogRun::read(bytes, start).and_then(&mut write).map_err(corrupt)?;
            }
        }
    }
    if n_dropped == 0 {
        return Ok(Rewritten::default());
    }
    let mut merged = Merged::default();
    if let Some(WrittenLogs { bytes, descriptor }) = writer.finish() {
        let wrong = |err| Error::corrupt("rewritten file of log records", err);
        logs::merged::verify(&bytes, &descriptor).map_err(wrong)?;
        let range_ns = (descriptor.min_time_ns, descriptor.max_time_ns);
        let finished = Finished { item: descriptor.encode(), n_rows: descriptor.rows, range_ns, bytes };
        let layout = layout_of(logs::merged::LAYOUT, &finished.bytes);
        job.store(&mut merged, &layout, place.window, finished).await?;
    }
    if merged.n_rows + merge.n_duplicates + n_dropped != summary.rows {
        let why = format!("{} log records and {n_dropped} dropped of {}", merged.n_rows, summary.rows);
        return Err(Error::corrupt("rewritten file of log records", why));
    }
    Ok(Rewritten::with(merged, n_dropped))
}

impl<'a> Place<'a> {
    fn job<'j>(&self, signal: Signal, treatments: &'j [u64]) -> Job<'j>
    where
        'a: 'j,
    {
        Job {
            store: self.store,
            tenant: self.tenant,
            signal,
            inputs: std::slice::from_ref(self.file),
            window: self.window,
            level: self.file.key.level.max(1),
            target_bytes: u64::MAX,
            dense_attributes: self.dense_attributes,
            treatments,
        }
    }
}

impl Rewritten {
    fn with(merged: Merged, n_dropped: u64) -> Self {
        Self { outputs: Some(merged.outputs), n_dropped, bytes_written: merged.bytes_written }
    }
}

/// What the name of a rewritten file is made from: its layout and its bytes.
pub(super) fn layout_of(layout: &str, bytes: &Bytes) -> String {
    format!("{layout} {}", blake3::hash(bytes).to_hex())
}
