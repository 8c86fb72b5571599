//! Searches page by page, newest first: each page begins exactly behind the one before.
//!
//! A trace's place is the start of its newest span that the search asks for, in whole microseconds, and its id. A page looks only at spans that
//! start at the place before it or earlier, so that late pages cost as much as early ones. What it finds may have a newer
//! such span and so was on an earlier page: that is seen once the whole trace is read, and it is left out.

use model::TraceId;
use model::search::TraceSearch;
use model::{Signal, TenantId, TimeRange};

use super::fetch::Asker;
use super::find::{Means, find, place_ns};
use super::traces::{SEARCHED_TRACE_REACH_NS, gather};
use super::{Limits, Trace, TraceSet, evaluate, index};
use crate::{Error, Result, Store};

/// So many more traces than a page has are looked for: of those that start at the time of the last one, some may be
/// missing.
const SPARE: usize = 16;
/// Most traces that are looked for at once, where all start at one time.
const MAX_LOOKED_FOR: usize = 1 << 20;

/// Where a page ends: the place of its last trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// When the trace's newest span that is asked for starts: ns since the epoch, a whole microsecond.
    pub start_ns: i64,
    /// The trace; of one start the least comes first.
    pub trace_id: TraceId,
}

/// Some traces of a search.
#[derive(Debug, Clone, Default)]
pub struct SearchPage {
    /// Whole traces, by their places, at most as many as the search's limit.
    pub set: TraceSet,
    /// Where the next page begins; `None` if there is nothing more.
    pub next: Option<Position>,
}

/// The first traces of a search, or those behind `after`.
///
/// With the same search and range, pages together have each trace once, whatever arrives or is merged meanwhile. Spans that
/// arrive late and start before `after` move their trace to a page that was already read.
///
/// # Errors
/// As the stores; over the limits.
pub async fn search_page(
    store: &Store,
    tenant: &TenantId,
    search: &TraceSearch,
    after: Option<Position>,
    limits: &Limits,
) -> Result<SearchPage> {
    search_page_with(store, tenant, search, after, limits, Means::default()).await
}

/// As [`search_page`], with the same answer; `means` make it cheaper or sooner.
///
/// # Errors
/// As [`search_page`], and as the workers.
pub async fn search_page_with(
    store: &Store,
    tenant: &TenantId,
    search: &TraceSearch,
    after: Option<Position>,
    limits: &Limits,
    means: Means<'_>,
) -> Result<SearchPage> {
    again_if_missing!(search_page_once(store, tenant, search, after, limits, means))
}

async fn search_page_once(
    store: &Store,
    tenant: &TenantId,
    search: &TraceSearch,
    mut after: Option<Position>,
    limits: &Limits,
    means: Means<'_>,
) -> Result<SearchPage> {
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let known = index::known_windows(store, tenant, Signal::Traces).await?;
    let around = TimeRange {
        start_ns: search.range.start_ns.saturating_sub(SEARCHED_TRACE_REACH_NS),
        end_ns_exclusive: search.range.end_ns_exclusive.saturating_add(SEARCHED_TRACE_REACH_NS),
    };
    let windows = index::windows_in(&known, around);
    let files = index::files(store, tenant, Signal::Traces, windows).await?;

    let mut page = SearchPage::default();
    let mut n_looked_for = search.limit.saturating_add(SPARE);
    while page.set.traces.len() < search.limit {
        let mut behind = search.clone();
        behind.limit = n_looked_for;
        if let Some(after) = after {
            let end_ns_exclusive = after.start_ns.saturating_add(1000);
            behind.range.end_ns_exclusive = end_ns_exclusive.min(search.range.end_ns_exclusive);
        }
        let mut found = find(&asker, &files, &behind, means).await?;
        let mut is_all = found.len() < n_looked_for;
        if let (false, Some(&(_, last_ns))) = (is_all, found.last()) {
            found.retain(|&(_, start_ns)| start_ns > last_ns);
        }
        found.retain(|&(trace_id, start_ns)| {
            after.is_none_or(|after| start_ns < after.start_ns || trace_id > after.trace_id)
        });
        if !is_all && found.is_empty() {
            if n_looked_for >= MAX_LOOKED_FOR {
                let limit = MAX_LOOKED_FOR as u64;
                return Err(Error::OverLimit { limit, unit: "traces that start at one time" });
            }
            n_looked_for *= 2;
            continue;
        }
        let n_missing = search.limit - page.set.traces.len();
        is_all &= found.len() <= n_missing;
        found.truncate(n_missing);
        let ids: Vec<TraceId> = found.iter().map(|&(trace_id, _)| trace_id).collect();
        let whole = gather(&asker, &files, &ids, limits).await?;
        add(&mut page.set, whole, &found, search)?;
        if let Some(&(trace_id, start_ns)) = found.last() {
            after = Some(Position { start_ns, trace_id });
        }
        if is_all {
            return Ok(page);
        }
    }
    page.next = after;
    Ok(page)
}

/// Adds those of the traces to a page whose place is where they were found.
fn add(page: &mut TraceSet, whole: TraceSet, found: &[(TraceId, i64)], search: &TraceSearch) -> Result<()> {
    let n_blocks = page.blocks.len() as u32;
    for trace in &whole.traces {
        let is_newer = |&(block, row): &(u32, u32)| {
            let (columns, row) = (&whole.blocks[block as usize], row as usize);
            let start_ns = columns.start_ns[row];
            let is_candidate = search.range.contains(start_ns)
                && found.iter().any(|&(id, found_ns)| id == trace.trace_id && place_ns(start_ns) > found_ns);
            Ok::<_, Error>(
                is_candidate
                    && evaluate::row_meets(columns, row, &search.conditions)
                        .map_err(|err| Error::corrupt(format!("trace {}", trace.trace_id), err))?,
            )
        };
        let mut was_before = false;
        for span in &trace.spans {
            was_before |= is_newer(span)?;
        }
        if !was_before {
            let spans = trace.spans.iter().map(|&(block, row)| (block + n_blocks, row)).collect();
            page.traces.push(Trace { trace_id: trace.trace_id, spans });
        }
    }
    page.blocks.extend(whole.blocks);
    Ok(())
}
