//! Search in merged files of spans, whose rows are sorted by trace: a match may be in any unit.
//!
//! 1. The columns of cheap conditions are read of all units, and give candidates.
//! 2. Attributes are read of the units with the newest candidates first, until those found cannot be outdone: each round
//!    looks at some times as many. Units without a candidate are never read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::TraceId;
use model::search::{Condition, TraceSearch};

use super::evaluate;
use super::fetch::{self, Asker};
use super::index::IndexedFile;
use crate::Result;
use crate::block::spans::{self, ChunkTable};

/// How many units one task looks through in the first step.
const UNITS_OF_A_TASK: usize = 16;
/// How many such tasks of one file are under way.
const CONCURRENT_TASKS: usize = 16;
/// How many units are read at once in the second step: a store that is far away answers many as fast as one.
const CONCURRENT_UNITS: usize = 64;
/// How many times as many candidates each round looks at as the one before.
const GROWTH: usize = 4;
/// How many candidates the first round looks at, per trace that is wanted.
const CANDIDATES_PER_TRACE: usize = 4;

/// A span that meets the cheap conditions.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    start_ns: i64,
    unit: u32,
    row: u32,
    trace_id: TraceId,
}

/// Traces and starts of spans that a search asks for: all of the file that the newest traces of all files may need.
pub(super) async fn newest_matches(
    asker: &Asker,
    file: &IndexedFile,
    units: Vec<ChunkTable>,
    search: &Arc<TraceSearch>,
) -> Result<Vec<(TraceId, i64)>> {
    let (cheap, dear) = evaluate::narrow_and_wide(&search.conditions);
    let (units, cheap) = (Arc::new(units), Arc::new(cheap));
    let ranges = (0..units.len()).step_by(UNITS_OF_A_TASK);
    let candidates_of = |first: usize| {
        let (asker, file, search) = (asker.clone(), file.clone(), Arc::clone(search));
        let (units, cheap) = (Arc::clone(&units), Arc::clone(&cheap));
        fetch::spawned(async move { candidates(&asker, &file, &units, first, &cheap, &search).await })
    };
    let tasks: Vec<_> = ranges.map(candidates_of).collect();
    let found: Vec<Vec<Candidate>> = stream::iter(tasks).buffered(CONCURRENT_TASKS).try_collect().await?;
    let mut candidates: Vec<Candidate> = found.into_iter().flatten().collect();
    candidates.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.start_ns));
    if dear.is_empty() {
        return Ok(newest(candidates.into_iter(), search.limit));
    }

    let dear = Arc::new(dear);
    let mut of_unit: HashMap<u32, Vec<Candidate>> = HashMap::new();
    for candidate in &candidates {
        of_unit.entry(candidate.unit).or_default().push(*candidate);
    }
    let mut matches: Vec<Candidate> = Vec::new();
    let mut rest = candidates.as_slice();
    let mut n_looked_at = search.limit.saturating_mul(CANDIDATES_PER_TRACE).max(1);
    loop {
        let is_open = |candidate: &Candidate| of_unit.contains_key(&candidate.unit);
        let n_done = rest.iter().take_while(|candidate| !is_open(candidate)).count();
        rest = &rest[n_done..];
        let Some(next) = rest.first() else { break };
        let is_newer = |found: &&Candidate| found.start_ns > next.start_ns;
        let newer: HashSet<TraceId> = matches.iter().filter(is_newer).map(|found| found.trace_id).collect();
        if newer.len() >= search.limit {
            break;
        }
        let wanted: HashSet<u32> = rest.iter().take(n_looked_at).map(|candidate| candidate.unit).collect();
        n_looked_at = n_looked_at.saturating_mul(GROWTH);
        let test = |(unit, candidates): (u32, Vec<Candidate>)| {
            let (asker, file, dear) = (asker.clone(), file.clone(), Arc::clone(&dear));
            let table = units[unit as usize].clone();
            fetch::spawned(async move { meeting(&asker, &file, &table, candidates, &dear).await })
        };
        let mut tests = Vec::new();
        for unit in wanted {
            if let Some(candidates) = of_unit.remove(&unit) {
                tests.push(test((unit, candidates)));
            }
        }
        let found: Vec<Vec<Candidate>> =
            stream::iter(tests).buffer_unordered(CONCURRENT_UNITS).try_collect().await?;
        matches.extend(found.into_iter().flatten());
    }
    matches.sort_unstable_by_key(|found| std::cmp::Reverse(found.start_ns));
    Ok(newest(matches.into_iter(), search.limit))
}

/// The newest `limit` traces, with the start of the newest span of each.
fn newest(matches: impl Iterator<Item = Candidate>, limit: usize) -> Vec<(TraceId, i64)> {
    let mut seen: HashSet<TraceId> = HashSet::new();
    let mut found = Vec::new();
    for Candidate { trace_id, start_ns, .. } in matches {
        if found.len() >= limit {
            break;
        }
        if seen.insert(trace_id) {
            found.push((trace_id, start_ns));
        }
    }
    found
}

/// The spans of some units, from `first` on, that meet the cheap conditions.
async fn candidates(
    asker: &Asker,
    file: &IndexedFile,
    units: &[ChunkTable],
    first: usize,
    cheap: &[Condition],
    search: &TraceSearch,
) -> Result<Vec<Candidate>> {
    let corrupt = |err| file.corrupt(err);
    let tables = &units[first..units.len().min(first + UNITS_OF_A_TASK)];
    let projection = evaluate::narrow_projection(cheap);
    let parts = asker.parts_of(file, tables, projection).await?;
    let mut found = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let columns = spans::decode(table, &parts, projection).map_err(corrupt)?;
        let mut rows = evaluate::rows_in(&columns, search.range);
        let opened = evaluate::File { columns: &columns, table, parts: &parts };
        evaluate::retain_all(&opened, cheap, &mut rows).map_err(corrupt)?;
        found.extend(rows.into_iter().map(|row| Candidate {
            start_ns: columns.start_ns[row as usize],
            unit: (first + at) as u32,
            row,
            trace_id: columns.trace_id[row as usize],
        }));
    }
    Ok(found)
}

/// Those of a unit's candidates that meet the conditions on attributes.
async fn meeting(
    asker: &Asker,
    file: &IndexedFile,
    table: &ChunkTable,
    mut candidates: Vec<Candidate>,
    dear: &[Condition],
) -> Result<Vec<Candidate>> {
    let corrupt = |err| file.corrupt(err);
    let narrow = evaluate::narrow_projection(dear);
    let all = evaluate::attribute_projection(dear).map_or(narrow, |wide| narrow.and(wide));
    let parts = asker.parts(file, table, all).await?;
    let columns = spans::decode(table, &parts, narrow).map_err(corrupt)?;
    candidates.sort_unstable_by_key(|candidate| candidate.row);
    let mut rows: Vec<u32> = candidates.iter().map(|candidate| candidate.row).collect();
    let opened = evaluate::File { columns: &columns, table, parts: &parts };
    evaluate::retain_all(&opened, dear, &mut rows).map_err(corrupt)?;
    candidates.retain(|candidate| rows.binary_search(&candidate.row).is_ok());
    Ok(candidates)
}
