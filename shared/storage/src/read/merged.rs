//! Search in merged files of spans, whose rows are sorted by trace: a match may be in any unit.
//!
//! 1. A file's directories say which blocks of its search section may have matches.
//! 2. Blocks of all files, those with the latest spans first, give candidates: spans that meet the conditions, or may.
//! 3. Units give the traces of candidates, the newest first, until what is found cannot be outdone. Where many are looked
//!    at in vain, unit by unit, so that none is read twice.
//!
//! What many files have costs little more than what one has: the newest traces of all are as many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::TraceId;
use model::search::TraceSearch;

use super::evaluate;
use super::fetch::{self, Asker};
use super::find::{Matches, Newest, place_of_us};
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

/// A merged file whose directories were read.
pub(super) struct Opened {
    file: IndexedFile,
    units: Vec<ChunkTable>,
    /// Those that may have matches.
    blocks: Vec<BlockEntry>,
}

/// Reads the directories of a file.
///
/// # Errors
/// As the object store; they are corrupt.
pub(super) async fn open(
    asker: &Asker,
    file: &IndexedFile,
    merged: &MergedSpans,
    search: &TraceSearch,
) -> Result<Opened> {
    let (units, mut blocks) = directories(asker, file, merged).await?;
    blocks.retain(|block| block.may_match(search));
    Ok(Opened { file: file.clone(), units, blocks })
}

/// The traces of each file that a search asks for, as far as they may be among the newest of all; they are added to
/// `newest`.
///
/// # Errors
/// As the object store; a file is corrupt.
pub(super) async fn newest_matches(
    asker: &Asker,
    opened: Vec<Opened>,
    search: &Arc<TraceSearch>,
    newest: &mut Newest,
) -> Result<Vec<Matches>> {
    let mut blocks: Vec<(usize, BlockEntry)> = Vec::new();
    let mut files = Vec::with_capacity(opened.len());
    for (at, opened) in opened.into_iter().enumerate() {
        blocks.extend(opened.blocks.into_iter().map(|block| (at, block)));
        files.push((opened.file, opened.units));
    }
    blocks.sort_unstable_by_key(|(_, block)| Reverse(block.max_start_us));
    let by_file = files.iter().map(|_| Newest::new(search.limit)).collect();
    let mut found = Found { newest, by_file };
    let finder = Arc::new(Finder { asker: asker.clone(), files, search: Arc::clone(search) });
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut n_blocks = FIRST_BLOCKS;
    while let Some((_, next)) = blocks.first()
        && !found.newest.is_enough(place_of_us(next.max_start_us))
    {
        let later = blocks.split_off(n_blocks.min(blocks.len()));
        candidates.extend(finder.candidates(std::mem::replace(&mut blocks, later)).await?);
        n_blocks *= 2;
        candidates.sort_unstable_by_key(Candidate::newest_first);
        // Those that no block to come can outdo.
        let n_ready = blocks.first().map_or(candidates.len(), |(_, next)| {
            candidates.partition_point(|candidate| candidate.span.start_us > next.max_start_us)
        });
        let later = candidates.split_off(n_ready);
        candidates = finder.resolve(candidates, &mut found).await?;
        candidates.extend(later);
    }
    // What was not looked at, because it cannot be among the newest.
    let mut next_ns: Vec<Option<i64>> = vec![None; finder.files.len()];
    let left = candidates.iter().map(|candidate| (candidate.file, candidate.span.start_us));
    for (file, start_us) in left.chain(blocks.iter().map(|(file, block)| (*file, block.max_start_us))) {
        next_ns[file] = next_ns[file].max(Some(place_of_us(start_us)));
    }
    Ok(found
        .by_file
        .into_iter()
        .zip(next_ns)
        .map(|(found, next_ns)| Matches::down_to(found, next_ns))
        .collect())
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

/// The traces that were found.
struct Found<'a> {
    /// Of all files, those too that were looked at before.
    newest: &'a mut Newest,
    by_file: Vec<Newest>,
}

impl Found<'_> {
    fn add(&mut self, file: usize, (trace_id, start_us): (TraceId, i64)) {
        let hit = (trace_id, place_of_us(start_us));
        self.newest.add([hit]);
        self.by_file[file].add([hit]);
    }
}

/// A span that meets the conditions of a search, or may.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Its file among those that are looked at together.
    file: usize,
    span: Match,
}

impl Candidate {
    fn newest_first(&self) -> Reverse<i64> {
        Reverse(self.span.start_us)
    }

    fn start_ns(&self) -> i64 {
        place_of_us(self.span.start_us)
    }
}

/// Candidates by unit; the order among units and within each stays that of their newest.
fn by_unit(candidates: Vec<Candidate>) -> Vec<Vec<Candidate>> {
    let mut places: HashMap<(usize, u32), usize> = HashMap::new();
    let mut units: Vec<Vec<Candidate>> = Vec::new();
    for candidate in candidates {
        let place = *places.entry((candidate.file, candidate.span.unit)).or_insert_with(|| {
            units.push(Vec::new());
            units.len() - 1
        });
        units[place].push(candidate);
    }
    units
}

/// When the candidates of a unit start, and how many spans start then.
struct Starting {
    /// Ascending by start: microseconds, certain candidates, spans.
    counted: Vec<(i64, usize, usize)>,
}

impl Starting {
    fn of(candidates: &[Candidate]) -> Self {
        let count = |Candidate { span, .. }: &Candidate| (span.start_us, usize::from(span.is_certain), 0);
        let mut starts: Vec<(i64, usize, usize)> = candidates.iter().map(count).collect();
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

/// Looks for traces in files.
struct Finder {
    asker: Asker,
    /// With the places of their units' columns.
    files: Vec<(IndexedFile, Vec<ChunkTable>)>,
    search: Arc<TraceSearch>,
}

impl Finder {
    /// The spans of these blocks that meet the conditions, or may.
    async fn candidates(self: &Arc<Self>, mut blocks: Vec<(usize, BlockEntry)>) -> Result<Vec<Candidate>> {
        blocks.sort_unstable_by_key(|(file, block)| (*file, block.place.start));
        let joins = |(a_file, a): &(usize, BlockEntry), (b_file, b): &(usize, BlockEntry)| {
            a_file == b_file
                && a.place.end == b.place.start
                && a.place.start / MAX_READ_BYTES == b.place.start / MAX_READ_BYTES
        };
        let of_run = |run: &[(usize, BlockEntry)]| {
            let (finder, run) = (Arc::clone(self), run.to_vec());
            fetch::spawned(async move { finder.candidates_of_run(&run).await })
        };
        let tasks: Vec<_> = blocks.chunk_by(joins).map(of_run).collect();
        let found: Vec<Vec<Candidate>> =
            stream::iter(tasks).buffer_unordered(CONCURRENT_READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// As [`Finder::candidates`], of blocks that lie end to end in one file.
    async fn candidates_of_run(&self, run: &[(usize, BlockEntry)]) -> Result<Vec<Candidate>> {
        let (Some((at, first)), Some((_, last))) = (run.first(), run.last()) else { return Ok(Vec::new()) };
        let file = &self.files[*at].0;
        let mut bytes = self.asker.range(file, first.place.start..last.place.end).await?;
        let mut candidates = Vec::new();
        for (_, entry) in run {
            let len = (entry.place.end - entry.place.start) as usize;
            let block = bytes.split_to(len.min(bytes.len()));
            let found = Block::open(entry, &block).and_then(|block| block.matches(&self.search));
            let found = found.map_err(|err| file.corrupt(err))?;
            candidates.extend(found.into_iter().map(|span| Candidate { file: *at, span }));
        }
        Ok(candidates)
    }

    /// Adds the traces of candidates, which are given newest first, as far as the newest may need them, and gives back the
    /// others.
    async fn resolve(
        self: &Arc<Self>,
        mut candidates: Vec<Candidate>,
        found: &mut Found<'_>,
    ) -> Result<Vec<Candidate>> {
        // The newest alone, in the hope that each is a trace of its own; as many more, while most suffice.
        let mut is_first = true;
        while let Some(next) = candidates.first()
            && (is_first || found.newest.n_newer_than(next.start_ns()) * 2 > self.search.limit)
        {
            if found.newest.is_enough(next.start_ns()) {
                return Ok(candidates);
            }
            let later = candidates.split_off(self.search.limit.min(candidates.len()));
            self.resolve_units(by_unit(candidates), found).await?;
            candidates = later;
            is_first = false;
        }
        // Then unit by unit.
        let mut units = by_unit(candidates);
        let mut n_units = CONCURRENT_READS;
        while let Some(next) = units.first().and_then(|unit| unit.first())
            && !found.newest.is_enough(next.start_ns())
        {
            let later = units.split_off(n_units.min(units.len()));
            self.resolve_units(units, found).await?;
            units = later;
            n_units *= 2;
        }
        let mut left: Vec<Candidate> = units.into_iter().flatten().collect();
        left.sort_unstable_by_key(Candidate::newest_first);
        Ok(left)
    }

    async fn resolve_units(
        self: &Arc<Self>,
        units: Vec<Vec<Candidate>>,
        found: &mut Found<'_>,
    ) -> Result<()> {
        let of_unit = |candidates: Vec<Candidate>| {
            let finder = Arc::clone(self);
            fetch::spawned(async move { finder.traces_of_unit(&candidates).await })
        };
        let tasks: Vec<_> = units.into_iter().map(of_unit).collect();
        let mut traces = stream::iter(tasks).buffer_unordered(CONCURRENT_READS);
        while let Some((file, of_unit)) = traces.try_next().await? {
            for trace in of_unit {
                found.add(file, trace);
            }
        }
        Ok(())
    }

    /// Traces and starts, in microseconds, of the candidates of one unit that meet the conditions; of which file they are.
    async fn traces_of_unit(&self, candidates: &[Candidate]) -> Result<(usize, Vec<(TraceId, i64)>)> {
        let Some(first) = candidates.first() else { return Ok((0, Vec::new())) };
        let (file, units) = &self.files[first.file];
        let corrupt = |err| file.corrupt(err);
        let table = units.get(first.span.unit as usize);
        let table = table.ok_or_else(|| corrupt(Invalid("block names a unit that is not there")))?;
        let mut starting = Starting::of(candidates);
        let narrow = const { Projection::of(&[column::TRACE_ID, column::START_TIME]) };
        // Where doubts are foreseen, all is read at once: a store that is far away is asked once.
        let is_clear = candidates.iter().all(|candidate| candidate.span.is_certain);
        let read = if is_clear { narrow } else { narrow.and(self.of_conditions()) };
        let parts = self.asker.parts(file, table, read).await?;
        let starts_ns = spans::starts(table, &parts).map_err(corrupt)?;
        let rows = starting.rows(&starts_ns);
        let start_of = |row: u32| start_us(starts_ns[row as usize]);
        let (mut rows, mut doubtful): (Vec<u32>, Vec<u32>) =
            rows.into_iter().partition(|&row| starting.is_certain(start_of(row)));
        if !doubtful.is_empty() {
            let more =
                if is_clear { &self.asker.parts(file, table, self.of_conditions()).await? } else { &parts };
            self.retain_matching(table, more, &starts_ns, &mut doubtful).map_err(corrupt)?;
            rows.append(&mut doubtful);
        }
        let traces = spans::traces_of(table, &parts, &rows).map_err(corrupt)?;
        Ok((first.file, traces.into_iter().zip(rows.into_iter().map(start_of)).collect()))
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
