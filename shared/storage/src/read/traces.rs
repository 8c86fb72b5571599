//! Whole traces: by id, and the newest that a search finds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use futures::stream::TryStreamExt as _;
use model::search::TraceSearch;
use model::spans::SpanView;
use model::time::HOUR_NS;
use model::{Signal, SpanColumns, TenantId, TimeRange, TraceId};

use super::fetch::{self, Asker};
use super::find::{Means, find};
use super::index::{self, IndexedFile};
use super::recent::{Found, Place};
use super::{Limits, Trace, TraceSet};
use crate::block::parquet::Invalid;
use crate::block::spans::{self, ChunkTable, Parts, Projection};
use crate::index::{Places, fingerprint};
use crate::{Error, Result, Store};

/// How many portions of files are read at once for whole traces: one for each day of two months.
const PORTIONS_OF_A_ROUND: usize = 64;
/// Units that lie end to end are read in one go, as long as they are no longer than this.
const MAX_READ_BYTES: u64 = 2 << 20;
/// A trace that a search finds is complete within so many hours around it; a trace by id, at any age.
pub(super) const SEARCHED_TRACE_REACH_NS: i64 = 24 * HOUR_NS;

/// The traces with these ids that exist, at any age, whole, in the order of `ids`. `now_s`, seconds since the epoch, only
/// says which windows are looked for before the list of them is read: with it a table and an object store are asked one
/// round each.
///
/// # Errors
/// As the stores; over the limits.
pub async fn traces_by_id(
    store: &Store,
    tenant: &TenantId,
    ids: &[TraceId],
    now_s: u64,
    limits: &Limits,
) -> Result<TraceSet> {
    again_if_missing!(traces_by_id_once(store, tenant, ids, now_s, limits))
}

async fn traces_by_id_once(
    store: &Store,
    tenant: &TenantId,
    ids: &[TraceId],
    now_s: u64,
    limits: &Limits,
) -> Result<TraceSet> {
    let expected = store.recent.windows().expected(tenant, store.layout, now_s);
    let (files, known) = index::files_of_all_windows(store, tenant, &expected).await?;
    store.recent.windows().see(tenant, known, now_s);
    gather(&Asker::new(store, tenant, limits.max_bytes), &files, ids, limits).await
}

/// The newest traces with a span that meets all conditions, whole, newest first.
///
/// # Errors
/// As the stores; over the limits.
pub async fn search(
    store: &Store,
    tenant: &TenantId,
    search: &TraceSearch,
    limits: &Limits,
) -> Result<TraceSet> {
    search_with(store, tenant, search, limits, Means::default()).await
}

/// As [`search`], with the same answer; `means` make it cheaper or sooner.
///
/// # Errors
/// As [`search`], and as the workers.
pub async fn search_with(
    store: &Store,
    tenant: &TenantId,
    search: &TraceSearch,
    limits: &Limits,
    means: Means<'_>,
) -> Result<TraceSet> {
    again_if_missing!(search_once(store, tenant, search, limits, means))
}

async fn search_once(
    store: &Store,
    tenant: &TenantId,
    search: &TraceSearch,
    limits: &Limits,
    means: Means<'_>,
) -> Result<TraceSet> {
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let known = index::known_windows(store, tenant, Signal::Traces).await?;
    let searched = index::windows_in(&known, search.range);
    let mut items = index::items(store, tenant, Signal::Traces, searched.clone()).await?;
    let files = index::living(store, tenant, Signal::Traces, items.clone()).await?;
    let found = find(&asker, &files, search, means).await?;
    let (Some(newest), Some(oldest)) = (found.first(), found.last()) else { return Ok(TraceSet::default()) };

    // Files of neighbouring windows may hold other spans of the traces.
    let around = TimeRange {
        start_ns: oldest.1.saturating_sub(SEARCHED_TRACE_REACH_NS),
        end_ns_exclusive: newest.1.saturating_add(SEARCHED_TRACE_REACH_NS),
    };
    let more =
        index::windows_in(&known, around).into_iter().filter(|window| !searched.contains(window)).collect();
    items.extend(index::items(store, tenant, Signal::Traces, more).await?);
    let ids: Vec<TraceId> = found.iter().map(|&(id, _)| id).collect();
    let files = index::living(store, tenant, Signal::Traces, items).await?;
    gather(&asker, &files, &ids, limits).await
}

/// All spans of these traces in `files`, each once.
pub(super) async fn gather(
    asker: &Asker,
    files: &[IndexedFile],
    ids: &[TraceId],
    limits: &Limits,
) -> Result<TraceSet> {
    let wanted: Arc<HashSet<TraceId>> = Arc::new(ids.iter().copied().collect());
    let hashes: Vec<(u64, TraceId)> = wanted.iter().map(|&id| (fingerprint::hash_id(&id.0), id)).collect();
    let mut candidates = Vec::new();
    for file in files {
        portions_of(file, &hashes, &mut candidates)?;
    }
    let rows = |portion| {
        let (asker, wanted) = (asker.clone(), Arc::clone(&wanted));
        async move { rows_of(&asker, &portion, &wanted).await }
    };
    let mut places: HashMap<TraceId, Vec<(u32, u32)>> = HashMap::new();
    let mut decoded = std::pin::pin!(fetch::each(candidates, PORTIONS_OF_A_ROUND, rows));
    let mut set = TraceSet::default();
    let mut n_spans = 0;
    while let Some(found) = decoded.try_next().await? {
        for Found { columns, rows } in found {
            n_spans += rows.len() as u64;
            if n_spans > limits.max_spans {
                return Err(Error::OverLimit { limit: limits.max_spans, unit: "spans" });
            }
            if rows.is_empty() {
                continue;
            }
            let block = set.blocks.len() as u32;
            for &row in &*rows {
                places.entry(columns.trace_id[row as usize]).or_default().push((block, row));
            }
            set.blocks.push(columns);
        }
    }
    for id in ids {
        if let Some(spans) = places.remove(id) {
            set.traces.push(Trace { trace_id: *id, spans: in_order(&set.blocks, spans) });
        }
    }
    Ok(set)
}

/// What is read of a file in one go, to find whole traces.
struct Portion {
    file: IndexedFile,
    rows: Rows,
}

enum Rows {
    /// All of a file of one request.
    All(ChunkTable),
    /// Units of a merged file that lie end to end, and which of the traces each may have.
    Units(Vec<(Range<u64>, Vec<TraceId>)>),
}

impl fetch::Portion for Portion {
    fn is_small(&self) -> bool {
        matches!(self.rows, Rows::All(_))
    }
}

/// Adds the portions of a file that may have spans of a trace whose id has one of these hashes.
fn portions_of(file: &IndexedFile, hashes: &[(u64, TraceId)], portions: &mut Vec<Portion>) -> Result<()> {
    let summary = file.summary()?;
    let mut wanted = Vec::new();
    for &(hash, id) in hashes {
        if file.may_have_trace(&summary, hash)? {
            wanted.push((hash, id));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut add = |rows| portions.push(Portion { file: file.clone(), rows });
    match summary.places().map_err(|err| file.corrupt(err))? {
        Places::OfRequest(table) => add(Rows::All(table)),
        Places::Merged(merged) => {
            let mut units: BTreeMap<u64, (Range<u64>, Vec<TraceId>)> = BTreeMap::new();
            for (hash, id) in wanted {
                for unit in merged.that_may_have(hash) {
                    units.entry(unit.start).or_insert_with(|| (unit, Vec::new())).1.push(id);
                }
            }
            for (_, ids) in units.values_mut() {
                ids.sort_unstable();
            }
            for units in end_to_end(units.into_values()) {
                add(Rows::Units(units));
            }
        }
    }
    Ok(())
}

/// The units, by what is read in one go.
fn end_to_end(
    units: impl Iterator<Item = (Range<u64>, Vec<TraceId>)>,
) -> Vec<Vec<(Range<u64>, Vec<TraceId>)>> {
    let mut reads: Vec<Vec<(Range<u64>, Vec<TraceId>)>> = Vec::new();
    for unit in units {
        match reads.last_mut() {
            Some(read)
                if read[read.len() - 1].0.end == unit.0.start
                    && unit.0.end - read[0].0.start <= MAX_READ_BYTES =>
            {
                read.push(unit);
            }
            _ => reads.push(vec![unit]),
        }
    }
    reads
}

/// The columns of a portion, and which rows belong to one of the traces; without rows the columns are not decoded.
async fn rows_of(asker: &Asker, portion: &Portion, wanted: &HashSet<TraceId>) -> Result<Vec<Found>> {
    let file = &portion.file;
    match &portion.rows {
        Rows::All(table) => {
            let parts = asker.parts(file, table, Projection::ALL).await?;
            Ok(vec![rows_in(table, &parts, wanted).map_err(|err| file.corrupt(err))?])
        }
        Rows::Units(units) => {
            let place = |(unit, ids): &(Range<u64>, Vec<TraceId>)| Place {
                file: file.key.content,
                start: unit.start,
                ids: ids.clone(),
            };
            let kept: Vec<Option<Found>> =
                units.iter().map(|unit| asker.recent().get(&place(unit))).collect();
            if let Some(kept) = kept.into_iter().collect() {
                return Ok(kept);
            }
            let (first, last) = (&units[0].0, &units[units.len() - 1].0);
            let mut parts = Parts::new();
            let bytes = asker.range(file, first.start..last.end).await?;
            parts.add(first.start, bytes.clone());
            let mut all = Vec::with_capacity(units.len());
            for unit in units {
                let start = unit.0.start;
                let mut head = bytes.get((start - first.start) as usize..).unwrap_or(&[]);
                let found = spans::merged::read_head(&mut head, start)
                    .and_then(|(_, table)| rows_in(&table, &parts, wanted))
                    .map_err(|err| file.corrupt(err))?;
                asker.recent().insert(place(unit), found.clone());
                all.push(found);
            }
            Ok(all)
        }
    }
}

fn rows_in(
    table: &ChunkTable,
    parts: &Parts,
    wanted: &HashSet<TraceId>,
) -> std::result::Result<Found, Invalid> {
    let found =
        |columns: SpanColumns, rows: Vec<u32>| Found { columns: Arc::new(columns), rows: rows.into() };
    let columns = spans::decode(table, parts, Projection::of(&[]))?;
    let rows: Vec<u32> =
        (0..columns.len() as u32).filter(|&row| wanted.contains(&columns.trace_id[row as usize])).collect();
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
        return Ok(found(SpanColumns::default(), rows));
    };
    // The rows of a trace lie together in a unit: what lies around them need not be decoded.
    let wanted = first as usize..last as usize + 1;
    if wanted.len() * 2 < columns.len() {
        let columns = spans::decode_rows(table, parts, Projection::ALL, wanted)?;
        return Ok(found(columns, rows.into_iter().map(|row| row - first).collect()));
    }
    Ok(found(spans::decode(table, parts, Projection::ALL)?, rows))
}

/// The spans by start, equal ones once. Which of two equal spans stays does not matter.
fn in_order(blocks: &[Arc<SpanColumns>], mut spans: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let view = |&(block, row): &(u32, u32)| blocks[block as usize].span(row as usize);
    let key = |span: SpanView<'_>| (span.fields().start_ns, span.fields().span_id);
    spans.sort_by_cached_key(|place| key(view(place)));
    let mut kept: Vec<(u32, u32)> = Vec::with_capacity(spans.len());
    for place in spans {
        let span = view(&place);
        let mut alike = kept.iter().rev().map(view).take_while(|other| key(*other) == key(span));
        if !alike.any(|other| other.same_as(span)) {
            kept.push(place);
        }
    }
    kept
}
