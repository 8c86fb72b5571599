//! Search in merged files of spans, whose rows are sorted by trace: a match may be in any unit.
//!
//! 1. The columns of cheap conditions are read of all units, and give candidates.
//! 2. Attributes are read of the newest candidates first, until what is found cannot be outdone; where many are looked at
//!    in vain, unit by unit. Units without a candidate are never read.

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
/// So many rows of a unit are decoded one by one rather than all.
const FEW_CANDIDATES: usize = 3;
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

    let test = Arc::new(Test { asker: asker.clone(), file: file.clone(), units, dear });
    let mut matches: Vec<Candidate> = Vec::new();
    // The newest alone, in the hope that they suffice.
    let n_first = search.limit.saturating_mul(CANDIDATES_PER_TRACE).min(candidates.len());
    let (now, rest) = candidates.split_at(n_first);
    matches.extend(test.meeting(by_unit(now)).await?);
    // Then unit by unit, so that none is read again.
    let mut units = by_unit(rest);
    let mut n_units = CONCURRENT_UNITS;
    while !units.is_empty() && !is_enough(&matches, &units[0], search.limit) {
        let later = units.split_off(n_units.min(units.len()));
        matches.extend(test.meeting(units).await?);
        units = later;
        n_units *= 2;
    }
    matches.sort_unstable_by_key(|found| std::cmp::Reverse(found.start_ns));
    Ok(newest(matches.into_iter(), search.limit))
}

/// Candidates of a file, by unit; the order among units and within each stays that of their newest.
fn by_unit(candidates: &[Candidate]) -> Vec<Vec<Candidate>> {
    let mut places: HashMap<u32, usize> = HashMap::new();
    let mut units: Vec<Vec<Candidate>> = Vec::new();
    for candidate in candidates {
        let place = *places.entry(candidate.unit).or_insert_with(|| {
            units.push(Vec::new());
            units.len() - 1
        });
        units[place].push(*candidate);
    }
    units
}

/// Whether what comes, newest first, cannot change the newest `limit` traces.
fn is_enough(matches: &[Candidate], coming: &[Candidate], limit: usize) -> bool {
    let Some(next) = coming.first() else { return true };
    let newer = matches.iter().filter(|found| found.start_ns > next.start_ns);
    newer.map(|found| found.trace_id).collect::<HashSet<_>>().len() >= limit
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

/// Tests candidates for conditions on attributes.
struct Test {
    asker: Asker,
    file: IndexedFile,
    units: Arc<Vec<ChunkTable>>,
    dear: Vec<Condition>,
}

impl Test {
    /// The candidates that meet the conditions, of these by unit.
    async fn meeting(self: &Arc<Self>, units: Vec<Vec<Candidate>>) -> Result<Vec<Candidate>> {
        let of_unit = |candidates: Vec<Candidate>| {
            let test = Arc::clone(self);
            fetch::spawned(async move { test.meeting_of_unit(candidates).await })
        };
        let tasks: Vec<_> = units.into_iter().map(of_unit).collect();
        let found: Vec<Vec<Candidate>> =
            stream::iter(tasks).buffer_unordered(CONCURRENT_UNITS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn meeting_of_unit(&self, mut candidates: Vec<Candidate>) -> Result<Vec<Candidate>> {
        let Some(first) = candidates.first() else { return Ok(candidates) };
        let corrupt = |err| self.file.corrupt(err);
        let table = &self.units[first.unit as usize];
        let narrow = evaluate::narrow_projection(&self.dear);
        let all = evaluate::attribute_projection(&self.dear).map_or(narrow, |wide| narrow.and(wide));
        let parts = self.asker.parts(&self.file, table, all).await?;
        if candidates.len() <= FEW_CANDIDATES {
            let mut kept = Vec::new();
            for candidate in candidates {
                let row = candidate.row as usize;
                let columns = spans::decode_rows(table, &parts, all, row..row + 1).map_err(corrupt)?;
                if evaluate::row_meets(&columns, 0, &self.dear).map_err(corrupt)? {
                    kept.push(candidate);
                }
            }
            return Ok(kept);
        }
        let columns = spans::decode(table, &parts, narrow).map_err(corrupt)?;
        candidates.sort_unstable_by_key(|candidate| candidate.row);
        let mut rows: Vec<u32> = candidates.iter().map(|candidate| candidate.row).collect();
        let opened = evaluate::File { columns: &columns, table, parts: &parts };
        evaluate::retain_all(&opened, &self.dear, &mut rows).map_err(corrupt)?;
        candidates.retain(|candidate| rows.binary_search(&candidate.row).is_ok());
        Ok(candidates)
    }
}
