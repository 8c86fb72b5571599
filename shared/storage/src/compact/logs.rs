//! Merges files of log records.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::TryStreamExt as _;
use model::{ContentHash, LogColumns};

use super::outputs::{Finished, Held, Job, Merged, Slices};
use crate::block::logs::merged::{self, LogMerge, LogRun, LogWriter, WrittenLogs};
use crate::block::logs::{self, ChunkTable, Parts, Projection};
use crate::index::{LogSummary, Places, Window};
use crate::read::index::IndexedFile;
use crate::{Error, Result};

/// Merges the job's inputs into files of its window, or of the long windows that they touch where that is `wide`, and
/// stores these.
///
/// # Errors
/// As the stores; an input is corrupt; an output is not what its inputs give.
pub(super) async fn merge(job: Job<'_>) -> Result<Merged> {
    let mut expected = 0;
    let (mut first_ns, mut last_ns) = (i64::MAX, i64::MIN);
    let mut fresh = Vec::new();
    let mut cursors = Vec::new();
    for input in job.inputs {
        let summary = LogSummary::parse(&input.item).map_err(|err| input.corrupt(err))?;
        expected += summary.rows;
        (first_ns, last_ns) = (first_ns.min(summary.min_time_ns), last_ns.max(summary.max_time_ns));
        match summary.places().map_err(|err| input.corrupt(err))? {
            Places::OfRequest(table) => fresh.push((input, table)),
            Places::Merged(merged) => {
                let units: Vec<Range<u64>> = merged.placed().map(|(place, _)| place).collect();
                cursors.push(Cursor { input, units: units.into_iter() });
            }
        }
    }
    let slices = Slices::of(job.signal, job.window, (first_ns, last_ns));
    let fresh = decode(job, &fresh).await?;
    let mut merged = Merged::default();
    match slices {
        // Merged files that are wide reach over too many long windows: they are not split.
        Slices::Long { .. } if cursors.is_empty() => {
            for slice in slices.number_of(first_ns)..=slices.number_of(last_ns) {
                let is_in = |time_ns: i64| slices.number_of(time_ns) == slice;
                let run = |(columns, content): &(Arc<LogColumns>, ContentHash)| {
                    LogRun::of_request(Arc::clone(columns), *content, is_in)
                };
                let runs = fresh.iter().map(run).collect();
                merge_into(job, slices.window_of(slice), runs, Vec::new(), &mut merged).await?;
            }
        }
        _ => {
            let run = |(columns, content)| LogRun::of_request(columns, content, |_| true);
            let runs = fresh.into_iter().map(run).collect();
            merge_into(job, job.window, runs, cursors, &mut merged).await?;
        }
    }
    if merged.n_rows + merged.n_duplicates != expected {
        let why =
            format!("{} log records and {} duplicates of {expected}", merged.n_rows, merged.n_duplicates);
        return Err(Error::corrupt("merge of log records", why));
    }
    Ok(merged)
}

/// Reads a merged input unit by unit.
struct Cursor<'a> {
    input: &'a IndexedFile,
    units: std::vec::IntoIter<Range<u64>>,
}

impl Cursor<'_> {
    async fn next(&mut self, job: Job<'_>) -> Result<Option<LogRun>> {
        let Some(unit) = self.units.next() else { return Ok(None) };
        let bytes = job.range(self.input, unit.clone()).await?;
        LogRun::read(bytes, unit.start).map(Some).map_err(|err| self.input.corrupt(err))
    }
}

/// All files of requests.
async fn decode(
    job: Job<'_>,
    fresh: &[(&IndexedFile, ChunkTable)],
) -> Result<Vec<(Arc<LogColumns>, ContentHash)>> {
    let mut decoded = Vec::with_capacity(fresh.len());
    let mut files = std::pin::pin!(job.whole(fresh.iter().map(|(input, _)| *input).collect()));
    for (input, table) in fresh {
        let Some(bytes) = files.try_next().await? else { break };
        let columns = logs::decode(table, &Parts::whole(bytes), Projection::ALL);
        decoded.push((Arc::new(columns.map_err(|err| input.corrupt(err))?), input.key.content));
    }
    Ok(decoded)
}

async fn merge_into(
    job: Job<'_>,
    window: Window,
    fresh: Vec<LogRun>,
    mut cursors: Vec<Cursor<'_>>,
    merged: &mut Merged,
) -> Result<()> {
    let n_fresh = fresh.len();
    let mut merge = LogMerge::new(n_fresh + cursors.len());
    let mut held = Held::new(n_fresh + cursors.len());
    for (input, run) in fresh.into_iter().enumerate() {
        held.note(input, run.memory_bytes());
        merge.feed(input, Some(run));
    }
    let mut writer = LogWriter::new(Job::zstd_level(window));
    loop {
        while let Some(starved) = merge.starved() {
            let run = match starved.checked_sub(n_fresh).and_then(|at| cursors.get_mut(at)) {
                Some(cursor) => cursor.next(job).await?,
                None => None,
            };
            held.note(starved, run.as_ref().map_or(0, LogRun::memory_bytes));
            merge.feed(starved, run);
        }
        let has_more = merge.write(&mut writer, job.target_bytes);
        if writer.is_full(job.target_bytes) {
            let full = std::mem::replace(&mut writer, LogWriter::new(Job::zstd_level(window)));
            close(job, window, full, merged).await?;
        }
        if !has_more {
            break;
        }
    }
    close(job, window, writer, merged).await?;
    merged.n_duplicates += merge.n_duplicates;
    merged.peak_held_bytes = merged.peak_held_bytes.max(held.peak());
    Ok(())
}

async fn close(job: Job<'_>, window: Window, writer: LogWriter, merged: &mut Merged) -> Result<()> {
    let Some(WrittenLogs { bytes, descriptor }) = writer.finish() else { return Ok(()) };
    merged::verify(&bytes, &descriptor).map_err(|err| Error::corrupt("merged file of log records", err))?;
    let file = Finished {
        bytes,
        item: descriptor.encode(),
        n_rows: descriptor.rows,
        range_ns: (descriptor.min_time_ns, descriptor.max_time_ns),
    };
    job.store(merged, merged::LAYOUT, window, file).await
}
