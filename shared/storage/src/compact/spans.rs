//! Merges files of spans.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::TryStreamExt as _;
use model::dense::{Choice, Dense};
use model::time::SECOND_NS;
use model::{SpanColumns, TenantId};

use super::outputs::{Finished, Held, Job, Merged, Slices};
use super::plan;
use super::publish::Output;
use crate::block::spans::merged::{self, SpanMerge, SpanRoom, SpanRun, SpanWriter, WrittenSpans};
use crate::block::spans::{self, ChunkTable, Parts, Projection};
use crate::index::{Places, Window};
use crate::kv::{Condition, Key, MAX_VALUE_BYTES, NewItem};
use crate::read::index::IndexedFile;
use crate::{Error, Result, Store};

/// How long after the end of its hour a sieve may be of use, seconds: by then the day is merged.
const SIEVE_S: u64 = 3 * 86_400;

/// Files of requests with larger rows than these, on average, are merged one by one.
const LARGE_ROW_BYTES: usize = 2 << 10;
/// Files of requests are brought together up to about so many bytes of memory.
const RUN_BYTES: usize = 16 << 20;

/// zstd's level for the first merge, whose files are merged again within the hour: without tables for literals,
/// which for short columns take longer to make than to use.
const FIRST_ZSTD_LEVEL: i32 = -3;

/// More than the directories and the footer of a file have.
const FOOTER_BYTES: u64 = 4 << 20;

/// Merges the job's inputs into files of its window, or of the long windows that they touch where that is `wide`, and
/// stores these. `room` is left from the merge before, and left to the next.
///
/// # Errors
/// As the stores; an input is corrupt; an output is not what its inputs give.
pub(super) async fn merge(job: Job<'_>, room: &mut SpanRoom) -> Result<Merged> {
    if is_one_run(job)? {
        return copy(job).await;
    }
    let mut expected = 0;
    let mut range_ns: Option<(i64, i64)> = None;
    let mut fresh = Vec::new();
    let mut in_order = Vec::new();
    for input in job.inputs {
        let summary = input.summary()?;
        expected += summary.rows;
        let (first, last) = range_ns.unwrap_or((summary.min_start_ns, summary.max_start_ns));
        range_ns = Some((first.min(summary.min_start_ns), last.max(summary.max_start_ns)));
        match summary.places().map_err(|err| input.corrupt(err))? {
            Places::OfRequest(table) => fresh.push((input, table)),
            Places::Merged(merged) => {
                let hashes = summary.trace_hashes().map_err(|err| input.corrupt(err))?;
                let units: Vec<_> = merged.placed().map(|(place, _)| (input, place)).collect();
                in_order.push((hashes, units));
            }
        }
    }
    let hashes: Vec<_> = in_order.iter().map(|(hashes, _)| *hashes).collect();
    let cursor = |run: Vec<usize>| {
        let units: Vec<_> = run.into_iter().flat_map(|at| in_order[at].1.clone()).collect();
        Cursor { units: units.into_iter(), read: None }
    };
    let cursors: Vec<Cursor<'_>> = plan::runs(&hashes).into_iter().map(cursor).collect();
    let slices = Slices::of(job.signal, job.window, range_ns.unwrap_or((0, 0)));
    let fresh = decode(job, &fresh).await?;
    let mut merged = Merged::default();
    match slices {
        // Merged files that are wide reach over too many long windows: they are not split.
        Slices::Long { .. } if cursors.is_empty() => {
            let first = slices.number_of(range_ns.map_or(0, |range| range.0));
            let last = slices.number_of(range_ns.map_or(0, |range| range.1));
            for slice in first..=last {
                let part = |columns: &SpanColumns| {
                    let mut part = columns.clone();
                    let is_in = |start_ns: &i64| slices.number_of(*start_ns) == slice;
                    part.retain(&columns.start_ns.iter().map(is_in).collect::<Vec<_>>());
                    part
                };
                let parts = fresh.iter().map(part).collect();
                merge_into(job, slices.window_of(slice), (parts, Vec::new()), &mut merged, room).await?;
            }
        }
        _ => merge_into(job, job.window, (fresh, cursors), &mut merged, room).await?,
    }
    if merged.n_rows + merged.n_duplicates != expected {
        let why = format!("{} spans and {} duplicates of {expected}", merged.n_rows, merged.n_duplicates);
        return Err(Error::corrupt("merge of spans", why));
    }
    Ok(merged)
}

/// Whether the inputs are what a merge of them would give: merged files whose traces follow each other, all but one of full
/// length. Those of the first merge would become smaller.
fn is_one_run(job: Job<'_>) -> Result<bool> {
    let mut hashes = Vec::with_capacity(job.inputs.len());
    let mut n_short = 0;
    for input in job.inputs {
        let summary = input.summary()?;
        n_short += usize::from(summary.size < job.target_bytes);
        let is_large = summary.size > job.target_bytes.saturating_add(FOOTER_BYTES);
        if input.key.level <= 1 || is_large || n_short > 1 {
            return Ok(false);
        }
        let of_input = summary.trace_hashes().map_err(|err| input.corrupt(err))?;
        if of_input.is_none() {
            return Ok(false);
        }
        hashes.push(of_input);
    }
    Ok(plan::runs(&hashes).len() == 1)
}

/// Brings a run of merged files that has nothing to be merged with into the window as it is, file by file: a better
/// compression of what hours have would save less than a hundredth.
async fn copy(job: Job<'_>) -> Result<Merged> {
    let mut merged = Merged::default();
    for input in job.inputs {
        let summary = input.summary()?;
        let bytes = job.range(input, 0..summary.size).await?;
        merged::verify_item(&bytes, &summary).map_err(|err| input.corrupt(err))?;
        let file = Finished {
            bytes,
            item: input.item.to_vec(),
            n_rows: summary.rows,
            range_ns: (summary.min_start_ns, summary.max_start_ns),
        };
        job.store(&mut merged, merged::LAYOUT, job.window, file).await?;
        merged.peak_held_bytes = merged.peak_held_bytes.max(summary.size);
    }
    Ok(merged)
}

/// Reads merged inputs that follow each other unit by unit.
struct Cursor<'a> {
    units: std::vec::IntoIter<(&'a IndexedFile, Range<u64>)>,
    /// The next unit, if it was read already.
    read: Option<(&'a IndexedFile, u64, Bytes)>,
}

impl<'a> Cursor<'a> {
    /// Reads the next unit and tells which attributes have columns in it, and how many rows it has.
    async fn look_ahead(&mut self, job: Job<'_>) -> Result<Option<(u64, Dense)>> {
        self.read = self.read_unit(job).await?;
        let Some((input, start, bytes)) = &self.read else { return Ok(None) };
        let (rows, table) = merged::read_head(&mut &**bytes, *start).map_err(|err| input.corrupt(err))?;
        Ok(Some((rows, table.dense)))
    }

    async fn read_unit(&mut self, job: Job<'_>) -> Result<Option<(&'a IndexedFile, u64, Bytes)>> {
        if let Some(read) = self.read.take() {
            return Ok(Some(read));
        }
        let Some((input, unit)) = self.units.next() else { return Ok(None) };
        Ok(Some((input, unit.start, job.range(input, unit).await?)))
    }

    async fn next(&mut self, job: Job<'_>, dense: &Dense) -> Result<Option<SpanRun>> {
        let Some((input, start, bytes)) = self.read_unit(job).await? else { return Ok(None) };
        SpanRun::read(bytes, start, dense).map(Some).map_err(|err| input.corrupt(err))
    }
}

/// Which attributes are to have columns of their own in what these inputs are merged into.
async fn choose(job: Job<'_>, fresh: &[SpanColumns], cursors: &mut [Cursor<'_>]) -> Result<Dense> {
    let mut choice = Choice::default();
    for columns in fresh {
        choice.count(&columns.attributes);
    }
    for cursor in cursors {
        // The first rows by hash are as good as any.
        if let Some((rows, dense)) = cursor.look_ahead(job).await? {
            choice.count_as(&dense, rows);
        }
    }
    Ok(choice.choose(job.dense_attributes))
}

/// All files of requests.
async fn decode(job: Job<'_>, fresh: &[(&IndexedFile, ChunkTable)]) -> Result<Vec<SpanColumns>> {
    let mut decoded = Vec::with_capacity(fresh.len());
    let mut files = std::pin::pin!(job.whole(fresh.iter().map(|(input, _)| *input).collect()));
    for (input, table) in fresh {
        let Some(bytes) = files.try_next().await? else { break };
        let columns = spans::decode(table, &Parts::whole(bytes), Projection::ALL);
        decoded.push(columns.map_err(|err| input.corrupt(err))?);
    }
    Ok(decoded)
}

/// Brings batches together, which are then sorted at once, but for those with large rows, of which few are to be moved at
/// once.
fn together(batches: Vec<SpanColumns>) -> Vec<SpanColumns> {
    let (mut runs, mut open, mut open_bytes) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        let n_bytes = batch.memory_bytes();
        if n_bytes > batch.len() * LARGE_ROW_BYTES {
            runs.push(batch);
            continue;
        }
        if open_bytes + n_bytes > RUN_BYTES {
            runs.push(SpanColumns::concat(std::mem::take(&mut open)));
            open_bytes = 0;
        }
        open_bytes += n_bytes;
        open.push(batch);
    }
    runs.push(SpanColumns::concat(open));
    runs.retain(|run| !run.is_empty());
    runs
}

async fn merge_into(
    job: Job<'_>,
    window: Window,
    (fresh, mut cursors): (Vec<SpanColumns>, Vec<Cursor<'_>>),
    merged: &mut Merged,
    room: &mut SpanRoom,
) -> Result<()> {
    let dense = choose(job, &fresh, &mut cursors).await?;
    let fresh = together(fresh);
    let n_fresh = fresh.len();
    let sizes = job.inputs.iter().map(|input| input.summary().map(|summary| summary.size));
    let bytes_in: u64 = sizes.sum::<Result<u64>>()?;
    // A file is closed when it has its target; what is written after that is its footer.
    let file_bytes = bytes_in.min(job.target_bytes.saturating_add(FOOTER_BYTES)) as usize;
    let mut merge = SpanMerge::new(n_fresh + cursors.len());
    let mut held = Held::new(n_fresh + cursors.len());
    for (input, columns) in fresh.into_iter().enumerate() {
        let run = SpanRun::sorted(columns, &dense);
        held.note(input, run.memory_bytes());
        merge.feed(input, Some(run));
    }
    let zstd_level = match window {
        Window::Hour(_) if job.level == 1 => FIRST_ZSTD_LEVEL,
        window => Job::zstd_level(window),
    };
    let new_writer = || SpanWriter::new(zstd_level, dense.clone());
    let mut writer = new_writer().with_room(std::mem::take(room), file_bytes);
    loop {
        while let Some(starved) = merge.starved() {
            let run = match starved.checked_sub(n_fresh).and_then(|at| cursors.get_mut(at)) {
                Some(cursor) => cursor.next(job, &dense).await?,
                None => None,
            };
            held.note(starved, run.as_ref().map_or(0, SpanRun::memory_bytes));
            merge.feed(starved, run);
        }
        let has_more = merge.write(&mut writer, job.target_bytes as usize);
        if writer.len() as u64 >= job.target_bytes {
            // The room of the next file is taken when that of this one is free again.
            let full = std::mem::replace(&mut writer, new_writer());
            close(job, window, full, merged, room).await?;
            writer = writer.with_room(std::mem::take(room), file_bytes);
        }
        if !has_more && merge.starved().is_none() {
            break;
        }
    }
    close(job, window, writer, merged, room).await?;
    merged.n_duplicates += merge.n_duplicates;
    merged.peak_held_bytes = merged.peak_held_bytes.max(held.peak());
    Ok(())
}

async fn close(
    job: Job<'_>,
    window: Window,
    writer: SpanWriter,
    merged: &mut Merged,
    room: &mut SpanRoom,
) -> Result<()> {
    let Some((written, left)) = writer.finish() else { return Ok(()) };
    *room = left;
    let WrittenSpans { bytes, descriptor, many_traces } = written;
    merged::verify(&bytes, &descriptor).map_err(|err| Error::corrupt("merged file of spans", err))?;
    let file = Finished {
        bytes: bytes.clone(),
        item: descriptor.encode(),
        n_rows: descriptor.rows,
        range_ns: (descriptor.min_start_ns, descriptor.max_start_ns),
    };
    job.store(merged, merged::LAYOUT, window, file).await?;
    room.take_back(bytes);
    match merged.outputs.last() {
        Some(output) => store_sieve(job.store, job.tenant, output, many_traces).await,
        None => Ok(()),
    }
}

/// Puts the sieve of an output's traces beside the place of its item, if it lies in an hour: of a day, one run is read
/// without looking further. It only saves reads, so that no transaction has to have room for it; what a merge that died
/// left vanishes by itself.
///
/// # Errors
/// As the table.
pub(super) async fn store_sieve(
    store: &Store,
    tenant: &TenantId,
    output: &Output,
    sieve: Vec<u8>,
) -> Result<()> {
    let (Window::Hour(_), Some(end_ns)) = (output.window, output.window.end_ns()) else { return Ok(()) };
    if sieve.is_empty() || sieve.len() > MAX_VALUE_BYTES {
        return Ok(());
    }
    let Key { partition, .. } = output.key.index(tenant, output.window, store.layout);
    let end_s = u64::try_from(end_ns / SECOND_NS).unwrap_or(0);
    let item = NewItem { value: sieve.into(), expires_at_s: Some(end_s + SIEVE_S) };
    store.table.put(Key::new(partition, output.key.sieve_sort()), item, Condition::None).await?;
    Ok(())
}
