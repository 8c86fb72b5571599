//! Search in merged files of spans, whose rows are sorted by trace: a match may be in any unit.
//!
//! 1. The file's directories say which blocks of its search section may have matches.
//! 2. Blocks, those with the latest spans first, give candidates: spans that meet the conditions, or may.
//! 3. Units give the traces of candidates, the newest first, until what is found cannot be outdone. Where many are looked
//!    at in vain, unit by unit, so that none is read twice.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::TraceId;
use model::search::TraceSearch;

use super::evaluate;
use super::fetch::{self, Asker};
use super::index::IndexedFile;
use crate::Result;
use crate::block::parquet::Invalid;
use crate::block::spans::search::{Block, BlockEntry, Match, read_directory, start_us};
use crate::block::spans::{self, ChunkTable, Parts, Projection, column};
use crate::index::MergedSpans;

/// Blocks that are looked at first; later twice as many each time.
const FIRST_BLOCKS: usize = 64;
/// Blocks that lie end to end are read in one go, as long as they are no longer than this.
const MAX_READ_BYTES: u64 = 1 << 20;
/// Reads that are under way at once: a store that is far away answers many as fast as one.
const CONCURRENT_READS: usize = 64;
/// So many rows of a unit are decoded one by one rather than all.
const FEW_ROWS: usize = 3;

/// Traces with the start of their newest span that a search asks for, in whole microseconds; all of the file that the
/// newest traces of all files may need.
pub(super) async fn newest_matches(
    asker: &Asker,
    file: &IndexedFile,
    merged: &MergedSpans,
    search: &Arc<TraceSearch>,
) -> Result<Vec<(TraceId, i64)>> {
    let (units, mut blocks) = directories(asker, file, merged).await?;
    blocks.retain(|block| block.may_match(search));
    blocks.sort_unstable_by_key(|block| Reverse(block.max_start_us));
    let finder =
        Arc::new(Finder { asker: asker.clone(), file: file.clone(), units, search: Arc::clone(search) });
    let mut found = Found::default();
    let mut candidates: Vec<Match> = Vec::new();
    let mut n_blocks = FIRST_BLOCKS;
    while !blocks.is_empty() && found.n_newer_than(None) < search.limit {
        let later = blocks.split_off(n_blocks.min(blocks.len()));
        candidates.extend(finder.candidates(std::mem::replace(&mut blocks, later)).await?);
        n_blocks *= 2;
        candidates.sort_unstable_by_key(|candidate| Reverse(candidate.start_us));
        // Those that no block to come can outdo.
        let n_ready = blocks.first().map_or(candidates.len(), |next| {
            candidates.partition_point(|candidate| candidate.start_us > next.max_start_us)
        });
        let later = candidates.split_off(n_ready);
        finder.resolve(&candidates, &mut found).await?;
        candidates = later;
    }
    Ok(found.newest(search.limit))
}

/// Where the units' columns and the blocks of a file are.
async fn directories(
    asker: &Asker,
    file: &IndexedFile,
    merged: &MergedSpans,
) -> Result<(Vec<ChunkTable>, Vec<BlockEntry>)> {
    let bytes = asker.range(file, merged.directory.start..merged.search.end).await?;
    let len = (merged.directory.end - merged.directory.start) as usize;
    let (heads, search) = bytes.split_at_checked(len).unwrap_or((&[], &[]));
    let corrupt = |err| file.corrupt(err);
    let units = spans::merged::tables(heads, merged).map_err(corrupt)?;
    Ok((units, read_directory(search, merged.directory.start).map_err(corrupt)?))
}

/// The newest span of each trace that was found.
#[derive(Default)]
struct Found {
    start_us: HashMap<TraceId, i64>,
}

impl Found {
    fn add(&mut self, (trace_id, start_us): (TraceId, i64)) {
        let newest = self.start_us.entry(trace_id).or_insert(start_us);
        *newest = start_us.max(*newest);
    }

    /// Traces that are newer than a span that starts then.
    fn n_newer_than(&self, start_us: Option<i64>) -> usize {
        self.start_us
            .values()
            .filter(|&&found_us| start_us.is_none_or(|start_us| found_us > start_us))
            .count()
    }

    /// The newest `limit` traces with their starts, ns.
    fn newest(self, limit: usize) -> Vec<(TraceId, i64)> {
        let mut found: Vec<(TraceId, i64)> = self.start_us.into_iter().collect();
        found.sort_unstable_by_key(|&(trace_id, start_us)| (Reverse(start_us), trace_id));
        found.truncate(limit);
        found.into_iter().map(|(trace_id, start_us)| (trace_id, start_us.saturating_mul(1000))).collect()
    }
}

/// Candidates of a file, by unit; the order among units and within each stays that of their newest.
fn by_unit(candidates: &[Match]) -> Vec<Vec<Match>> {
    let mut places: HashMap<u32, usize> = HashMap::new();
    let mut units: Vec<Vec<Match>> = Vec::new();
    for candidate in candidates {
        let place = *places.entry(candidate.unit).or_insert_with(|| {
            units.push(Vec::new());
            units.len() - 1
        });
        units[place].push(*candidate);
    }
    units
}

/// When the candidates of a unit start, and how many spans start then.
struct Starting {
    /// Ascending by start: microseconds, certain candidates, spans.
    counted: Vec<(i64, usize, usize)>,
}

impl Starting {
    fn of(candidates: &[Match]) -> Self {
        let mut starts: Vec<(i64, usize, usize)> =
            candidates.iter().map(|at| (at.start_us, usize::from(at.is_certain), 0)).collect();
        starts.sort_unstable();
        starts.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            kept.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        Self { counted: starts }
    }

    /// The rows that start with some candidate; they are counted.
    fn rows(&mut self, starts_ns: &[i64]) -> Vec<u32> {
        let (Some(first), Some(last)) = (self.counted.first(), self.counted.last()) else {
            return Vec::new();
        };
        // Candidates are among the newest spans of the unit: most others are told apart without a division.
        let range_ns = first.0.saturating_mul(1000)..=last.0.saturating_mul(1000).saturating_add(999);
        let mut rows = Vec::new();
        for (row, start_ns) in (0..).zip(starts_ns).filter(|(_, start_ns)| range_ns.contains(start_ns)) {
            let start_us = start_us(*start_ns);
            if let Ok(place) = self.counted.binary_search_by_key(&start_us, |counted| counted.0) {
                self.counted[place].2 += 1;
                rows.push(row);
            }
        }
        rows
    }

    /// Whether all spans that start then are certain candidates: fewer of these than spans are, if some is not.
    fn is_certain(&self, start_us: i64) -> bool {
        let place = self.counted.binary_search_by_key(&start_us, |counted| counted.0);
        place.is_ok_and(|place| self.counted[place].1 == self.counted[place].2)
    }
}

/// Looks for traces in one file.
struct Finder {
    asker: Asker,
    file: IndexedFile,
    units: Vec<ChunkTable>,
    search: Arc<TraceSearch>,
}

impl Finder {
    /// The spans of these blocks that meet the conditions, or may.
    async fn candidates(self: &Arc<Self>, mut blocks: Vec<BlockEntry>) -> Result<Vec<Match>> {
        blocks.sort_unstable_by_key(|block| block.place.start);
        let joins = |a: &BlockEntry, b: &BlockEntry| {
            a.place.end == b.place.start && a.place.start / MAX_READ_BYTES == b.place.start / MAX_READ_BYTES
        };
        let of_run = |run: &[BlockEntry]| {
            let (finder, run) = (Arc::clone(self), run.to_vec());
            fetch::spawned(async move { finder.candidates_of_run(&run).await })
        };
        let tasks: Vec<_> = blocks.chunk_by(joins).map(of_run).collect();
        let found: Vec<Vec<Match>> =
            stream::iter(tasks).buffer_unordered(CONCURRENT_READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// As [`Finder::candidates`], of blocks that lie end to end.
    async fn candidates_of_run(&self, run: &[BlockEntry]) -> Result<Vec<Match>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Vec::new()) };
        let mut bytes = self.asker.range(&self.file, first.place.start..last.place.end).await?;
        let mut matches = Vec::new();
        for entry in run {
            let len = (entry.place.end - entry.place.start) as usize;
            let block = bytes.split_to(len.min(bytes.len()));
            let found = Block::open(entry, &block).and_then(|block| block.matches(&self.search));
            matches.extend(found.map_err(|err| self.file.corrupt(err))?);
        }
        Ok(matches)
    }

    /// Adds the traces of candidates, which are given newest first, as far as the newest may need them.
    async fn resolve(self: &Arc<Self>, candidates: &[Match], found: &mut Found) -> Result<()> {
        // The newest alone, in the hope that each is a trace of its own.
        let (now, mut rest) = candidates.split_at(self.search.limit.min(candidates.len()));
        self.resolve_units(by_unit(now), found).await?;
        // As many more, while most suffice.
        while let Some(next) = rest.first()
            && found.n_newer_than(Some(next.start_us)) * 2 > self.search.limit
        {
            if found.n_newer_than(Some(next.start_us)) >= self.search.limit {
                return Ok(());
            }
            let (now, later) = rest.split_at(self.search.limit.min(rest.len()));
            self.resolve_units(by_unit(now), found).await?;
            rest = later;
        }
        // Then unit by unit.
        let mut units = by_unit(rest);
        let mut n_units = CONCURRENT_READS;
        while let Some(next) = units.first().and_then(|unit| unit.first())
            && found.n_newer_than(Some(next.start_us)) < self.search.limit
        {
            let later = units.split_off(n_units.min(units.len()));
            self.resolve_units(units, found).await?;
            units = later;
            n_units *= 2;
        }
        Ok(())
    }

    async fn resolve_units(self: &Arc<Self>, units: Vec<Vec<Match>>, found: &mut Found) -> Result<()> {
        let of_unit = |candidates: Vec<Match>| {
            let finder = Arc::clone(self);
            fetch::spawned(async move { finder.traces_of_unit(&candidates).await })
        };
        let tasks: Vec<_> = units.into_iter().map(of_unit).collect();
        let mut traces = stream::iter(tasks).buffer_unordered(CONCURRENT_READS);
        while let Some(of_unit) = traces.try_next().await? {
            for trace in of_unit {
                found.add(trace);
            }
        }
        Ok(())
    }

    /// Traces and starts of the candidates of one unit that meet the conditions.
    async fn traces_of_unit(&self, candidates: &[Match]) -> Result<Vec<(TraceId, i64)>> {
        let Some(table) = candidates.first().and_then(|first| self.units.get(first.unit as usize)) else {
            return Err(self.file.corrupt(Invalid("block names a unit that is not there")));
        };
        let mut starting = Starting::of(candidates);
        let narrow = const { Projection::of(&[column::TRACE_ID, column::START_TIME]) };
        // Where doubts are foreseen, all is read at once: a store that is far away is asked once.
        let is_clear = candidates.iter().all(|candidate| candidate.is_certain);
        let read = if is_clear { narrow } else { narrow.and(self.of_conditions()) };
        let parts = self.asker.parts(&self.file, table, read).await?;
        let corrupt = |err| self.file.corrupt(err);
        let starts_ns = spans::starts(table, &parts).map_err(corrupt)?;
        let rows = starting.rows(&starts_ns);
        let start_of = |row: u32| start_us(starts_ns[row as usize]);
        let (mut rows, mut doubtful): (Vec<u32>, Vec<u32>) =
            rows.into_iter().partition(|&row| starting.is_certain(start_of(row)));
        if !doubtful.is_empty() {
            let more = if is_clear {
                &self.asker.parts(&self.file, table, self.of_conditions()).await?
            } else {
                &parts
            };
            self.retain_matching(table, more, &starts_ns, &mut doubtful).map_err(corrupt)?;
            rows.append(&mut doubtful);
        }
        let traces = spans::traces_of(table, &parts, &rows).map_err(corrupt)?;
        Ok(traces.into_iter().zip(rows.into_iter().map(start_of)).collect())
    }

    /// The columns that the conditions need.
    fn of_conditions(&self) -> Projection {
        let conditions = &self.search.conditions;
        let narrow = evaluate::narrow_projection(conditions);
        evaluate::attribute_projection(conditions).map_or(narrow, |wide| narrow.and(wide))
    }

    /// Drops rows of a unit that do not meet the conditions.
    fn retain_matching(
        &self,
        table: &ChunkTable,
        parts: &Parts,
        starts_ns: &[i64],
        rows: &mut Vec<u32>,
    ) -> std::result::Result<(), Invalid> {
        let conditions = &self.search.conditions;
        rows.retain(|&row| self.search.range.contains(starts_ns[row as usize]));
        let columns = spans::decode(table, parts, evaluate::narrow_projection(conditions))?;
        // Most doubts are about durations: these leave few rows whose attributes are to be decoded.
        let cheap = evaluate::cheap(conditions);
        let opened = evaluate::File { columns: &columns, table, parts };
        evaluate::retain_all(&opened, &cheap, rows)?;
        if cheap.len() == conditions.len() {
            return Ok(());
        }
        if rows.len() <= FEW_ROWS {
            let mut kept = Vec::new();
            for &row in rows.iter() {
                let place = row as usize;
                let columns = spans::decode_rows(table, parts, self.of_conditions(), place..place + 1)?;
                if evaluate::row_meets(&columns, 0, conditions)? {
                    kept.push(row);
                }
            }
            *rows = kept;
            return Ok(());
        }
        evaluate::retain_all(&opened, conditions, rows)
    }
}
