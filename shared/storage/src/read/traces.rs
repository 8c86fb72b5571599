//! Whole traces: by id, and the newest that a search finds.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::search::TraceSearch;
use model::time::HOUR_NS;
use model::{SpanColumns, TenantId, TimeRange, TraceId};

use super::fetch::{self, Budget};
use super::index::{self, IndexedFile};
use super::{Limits, Trace, TraceSet, evaluate};
use crate::block::spans::{self, Projection};
use crate::index::fingerprint;
use crate::{Error, Result, Store};

/// How many files are read at once.
const CONCURRENT_FILES: usize = 16;
/// How many files a search looks at before it asks for the first time whether it has enough.
const FIRST_BATCH: usize = 4;
/// A trace that a search finds is complete within so many hours around it; a trace by id, at any age.
const SEARCHED_TRACE_REACH_NS: i64 = 24 * HOUR_NS;

/// The traces with these ids that exist, at any age, whole, in the order of `ids`.
///
/// # Errors
/// As the stores; over the limits.
pub async fn traces_by_id(
    store: &Store,
    tenant: &TenantId,
    ids: &[TraceId],
    limits: &Limits,
) -> Result<TraceSet> {
    let windows = index::known_windows(store, tenant).await?;
    let files = index::files(store, tenant, windows).await?;
    gather(store, tenant, &files, ids, limits, &Budget::new(limits.max_bytes)).await
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
    let budget = Budget::new(limits.max_bytes);
    let known = index::known_windows(store, tenant).await?;
    let mut files = index::files(store, tenant, index::windows_in(&known, search.range)).await?;
    let found = find(store, tenant, &files, search, &budget).await?;
    let (Some(newest), Some(oldest)) = (found.first(), found.last()) else { return Ok(TraceSet::default()) };

    // Files of neighbouring windows may hold other spans of the traces.
    let around = TimeRange {
        start_ns: oldest.1.saturating_sub(SEARCHED_TRACE_REACH_NS),
        end_ns_exclusive: newest.1.saturating_add(SEARCHED_TRACE_REACH_NS),
    };
    let searched = index::windows_in(&known, search.range);
    let more =
        index::windows_in(&known, around).into_iter().filter(|window| !searched.contains(window)).collect();
    files.extend(index::files(store, tenant, more).await?);
    let ids: Vec<TraceId> = found.iter().map(|&(id, _)| id).collect();
    gather(store, tenant, &files, &ids, limits, &budget).await
}

/// The traces that a search asks for, with the start of their newest matching span, newest first.
async fn find(
    store: &Store,
    tenant: &TenantId,
    files: &[IndexedFile],
    search: &TraceSearch,
    budget: &Budget,
) -> Result<Vec<(TraceId, i64)>> {
    let mut candidates = Vec::new();
    for file in files {
        let summary = file.summary()?;
        if index::may_match(&summary, search).map_err(|err| file.corrupt(err))? {
            candidates.push((summary.max_start_ns, file));
        }
    }
    candidates.sort_unstable_by_key(|&(max_start_ns, _)| std::cmp::Reverse(max_start_ns));

    let mut newest: HashMap<TraceId, i64> = HashMap::new();
    let mut batch = FIRST_BATCH;
    let mut rest = candidates.as_slice();
    while let Some(&(max_start_ns, _)) = rest.first() {
        if is_enough(&newest, search.limit, max_start_ns) {
            break;
        }
        let (now, later) = rest.split_at(batch.min(rest.len()));
        rest = later;
        batch = (batch * 2).min(4 * CONCURRENT_FILES);
        let matches: Vec<_> =
            now.iter().map(|(_, file)| matches_in(store, tenant, file, search, budget)).collect();
        let matches: Vec<_> = stream::iter(matches).buffer_unordered(CONCURRENT_FILES).try_collect().await?;
        for (id, start_ns) in matches.into_iter().flatten() {
            newest.entry(id).and_modify(|old| *old = start_ns.max(*old)).or_insert(start_ns);
        }
    }
    let mut found: Vec<(TraceId, i64)> = newest.into_iter().collect();
    found.sort_unstable_by_key(|&(id, start_ns)| (std::cmp::Reverse(start_ns), id));
    found.truncate(search.limit);
    Ok(found)
}

/// Whether spans that start at `max_start_ns` or before cannot change the newest `limit` traces.
fn is_enough(newest: &HashMap<TraceId, i64>, limit: usize, max_start_ns: i64) -> bool {
    if limit == 0 {
        return true;
    }
    newest.values().filter(|&&start_ns| start_ns > max_start_ns).count() >= limit
}

/// Traces and starts of the spans of a file that a search asks for.
async fn matches_in(
    store: &Store,
    tenant: &TenantId,
    file: &IndexedFile,
    search: &TraceSearch,
    budget: &Budget,
) -> Result<Vec<(TraceId, i64)>> {
    let corrupt = |err| file.corrupt(err);
    let table = file.summary()?.chunks().map_err(corrupt)?;
    let narrow = evaluate::narrow_projection(&search.conditions);
    let all = evaluate::attribute_projection(&search.conditions).map_or(narrow, |wide| narrow.and(wide));
    let parts = fetch::parts(store, tenant, file, &table, all, budget).await?;
    let columns = spans::decode(&table, &parts, narrow).map_err(corrupt)?;
    let mut rows = evaluate::rows_in(&columns, search.range);
    let opened = evaluate::File { columns: &columns, table: &table, parts: &parts };
    evaluate::retain_all(&opened, &search.conditions, &mut rows).map_err(corrupt)?;
    Ok(rows.into_iter().map(|row| (columns.trace_id[row as usize], columns.start_ns[row as usize])).collect())
}

/// All spans of these traces in `files`, each once.
async fn gather(
    store: &Store,
    tenant: &TenantId,
    files: &[IndexedFile],
    ids: &[TraceId],
    limits: &Limits,
    budget: &Budget,
) -> Result<TraceSet> {
    let hashes: Vec<u64> = ids.iter().map(|id| fingerprint::hash_id(&id.0)).collect();
    let mut candidates = Vec::new();
    for file in files {
        let summary = file.summary()?;
        for &hash in &hashes {
            if summary.may_have_trace(hash).map_err(|err| file.corrupt(err))? {
                candidates.push(file);
                break;
            }
        }
    }
    let mut places: HashMap<TraceId, Vec<(u32, u32)>> = ids.iter().map(|&id| (id, Vec::new())).collect();
    let decoded: Vec<_> =
        candidates.into_iter().map(|file| rows_of(store, tenant, file, ids, budget)).collect();
    let mut decoded = stream::iter(decoded).buffered(CONCURRENT_FILES);
    let mut set = TraceSet::default();
    let mut n_spans = 0;
    while let Some((columns, rows)) = decoded.try_next().await? {
        n_spans += rows.len() as u64;
        if n_spans > limits.max_spans {
            return Err(Error::OverLimit { limit: limits.max_spans, unit: "spans" });
        }
        if rows.is_empty() {
            continue;
        }
        let block = set.blocks.len() as u32;
        for row in rows {
            let place = places.get_mut(&columns.trace_id[row as usize]);
            place.expect("invariant: only rows of wanted traces").push((block, row));
        }
        set.blocks.push(Arc::new(columns));
    }
    for id in ids {
        let Some(spans) = places.remove(id) else { continue };
        let spans = in_order(&set.blocks, spans);
        if !spans.is_empty() {
            set.traces.push(Trace { trace_id: *id, spans });
        }
    }
    Ok(set)
}

/// A file's columns, and which rows belong to one of the traces; without rows the columns are not read.
async fn rows_of(
    store: &Store,
    tenant: &TenantId,
    file: &IndexedFile,
    ids: &[TraceId],
    budget: &Budget,
) -> Result<(SpanColumns, Vec<u32>)> {
    let corrupt = |err| file.corrupt(err);
    let table = file.summary()?.chunks().map_err(corrupt)?;
    let parts = fetch::parts(store, tenant, file, &table, Projection::ALL, budget).await?;
    let columns = spans::decode(&table, &parts, Projection::of(&[])).map_err(corrupt)?;
    let rows: Vec<u32> =
        (0..columns.len() as u32).filter(|&row| ids.contains(&columns.trace_id[row as usize])).collect();
    if rows.is_empty() {
        return Ok((columns, rows));
    }
    Ok((spans::decode(&table, &parts, Projection::ALL).map_err(corrupt)?, rows))
}

/// The spans by start, equal ones once. Which of two equal spans stays does not matter.
fn in_order(blocks: &[Arc<SpanColumns>], mut spans: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let view = |&(block, row): &(u32, u32)| blocks[block as usize].span(row as usize);
    spans.sort_by_cached_key(|place| {
        let span = view(place).fields();
        (span.start_ns, span.span_id, span.duration_ns)
    });
    let mut kept: Vec<(u32, u32)> = Vec::with_capacity(spans.len());
    for place in spans {
        let span = view(&place);
        let key = |span: model::spans::SpanView<'_>| (span.fields().start_ns, span.fields().span_id);
        let alike = kept.iter().rev().map(view).take_while(|other| key(*other) == key(span));
        if !alike.into_iter().any(|other| other.same_as(span)) {
            kept.push(place);
        }
    }
    kept
}
