//! Which traces a search finds: file by file, the newest first, until no other file can have a newer one.
//!
//! 1. The index items tell which files may have matches, and about how many bytes looking at each of them reads.
//! 2. What was found before is taken from what is kept, file by file, if anything is ([`KeptMatches`]).
//! 3. Other files are looked at here, as long as together they are no more than one function's share; else a part of a share
//!    is, and the rest in `jobs`, if there are workers ([`SearchWorkers`]).
//!
//! The answer is the same whoever looks: of each file the newest `limit` traces are known, or all that are newer than the
//! newest `limit` of all need, or that the file cannot have any of these; and a trace of the newest `limit` of all is one of
//! the newest `limit` of the file with its newest span.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::TryStreamExt as _;
use model::search::{Condition, TraceSearch};
use model::{ContentHash, TimeRange, TraceId};

use super::fetch::{self, Asker, JOIN_GAP};
use super::index::{self, IndexedFile};
use super::jobs::{self, Found, SearchJob, Share};
use super::{evaluate, merged};
use crate::Result;
use crate::block::spans::search::start_us;
use crate::block::spans::{self, ChunkTable, Projection};
use crate::index::{MergedSpans, Places, Summary};

/// How many files a search looks at before it asks for the first time whether it has enough.
const FIRST_BATCH: usize = 8;
/// How many files a search looks at between later such questions, at most.
const LARGEST_BATCH: usize = 128;
/// What a span takes in the search section of a merged file, rounded up. Measured: 6.6 bytes.
const BLOCK_BYTES_OF_SPAN: u64 = 7;

/// A trace and the start of its newest span that is asked for: ns since the epoch, a whole microsecond.
pub type Hit = (TraceId, i64);

/// The newest traces that a search finds in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches {
    /// The newest first, of one start the least id.
    pub hits: Arc<[Hit]>,
    /// As many were looked for; fewer are all that there are.
    pub limit: usize,
    /// But of those that start then or before nothing is known: others were newer. ns.
    pub above_ns: Option<i64>,
}

impl Matches {
    /// The newest `limit` of what was found, in any order and as often as it was.
    pub fn newest_of(found: impl IntoIterator<Item = Hit>, limit: usize) -> Self {
        let mut newest = Newest::new(limit);
        newest.add(found);
        Self::down_to(newest, None)
    }

    /// What was found, where spans that start at `next_ns` or before were not all looked at.
    pub(super) fn down_to(found: Newest, next_ns: Option<i64>) -> Self {
        let limit = found.limit;
        let mut hits = found.into_hits();
        hits.retain(|hit| next_ns.is_none_or(|next_ns| hit.1 > next_ns));
        let above_ns = next_ns.filter(|_| hits.len() < limit);
        Self { hits: hits.into(), limit, above_ns }
    }

    /// Whether these tell the newest `limit` traces, or all that are newer than some time.
    pub fn suffice(&self, limit: usize) -> bool {
        self.hits.len() < self.limit || limit <= self.limit
    }
}

/// A file, and what of it a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FilePart {
    /// The hash of what the file was made from.
    pub content: ContentHash,
    /// Its bytes.
    pub size: u64,
    /// The search's range as far as the file reaches: all searches that cover the file have the same.
    pub range: TimeRange,
}

/// What searches found in files, kept for later ones. Files never change: what is kept is right for ever.
pub trait KeptMatches: Send + Sync {
    /// What a search with the same conditions, of the same tenant, found there, if it is kept and suffices for `limit`.
    fn get(&self, part: &FilePart, limit: usize) -> Option<Matches>;

    /// Keeps what was found, or does not.
    fn put(&self, part: &FilePart, matches: &Matches);
}

/// Others that look at files for a search.
#[async_trait::async_trait]
pub trait SearchWorkers: Send + Sync {
    /// How much a search reads by itself, and how the rest is split.
    fn share(&self) -> Share;

    /// What each job finds, in their order.
    ///
    /// # Errors
    /// As [`super::run_job`]; a job failed.
    async fn run(&self, jobs: Vec<SearchJob>) -> Result<Vec<Found>>;
}

/// What a search may use beside the stores; by default nothing.
#[derive(Clone, Copy, Default)]
pub struct Means<'a> {
    /// What was found before.
    pub kept: Option<&'a dyn KeptMatches>,
    /// Who else looks at files.
    pub workers: Option<&'a dyn SearchWorkers>,
}

/// A file that may have matches.
#[derive(Clone)]
pub(super) struct Candidate<'a> {
    pub(super) file: &'a IndexedFile,
    pub(super) summary: Summary<'a>,
    part: FilePart,
    pub(super) max_start_ns: i64,
    /// What looking at it reads, about.
    pub(super) bytes: u64,
}

/// The traces that a search asks for, newest first.
pub(super) async fn find(
    asker: &Asker,
    files: &[IndexedFile],
    search: &TraceSearch,
    means: Means<'_>,
) -> Result<Vec<Hit>> {
    let mut candidates = candidates(files, search)?;
    let mut newest = Newest::new(search.limit);
    let mut known_bytes = 0;
    if let Some(kept) = means.kept {
        let matches = candidates.iter().map(|candidate| kept.get(&candidate.part, search.limit));
        let matches: Vec<Option<Matches>> = matches.collect();
        newest.add(matches.iter().flatten().flat_map(|matches| matches.hits.iter().copied()));
        let mut matches = matches.into_iter();
        candidates.retain(|candidate| {
            let suffices = |matches: &Matches| matches.above_ns.is_none_or(|above| newest.is_enough(above));
            let is_known = matches.next().flatten().is_some_and(|matches| suffices(&matches));
            known_bytes += if is_known { candidate.bytes } else { 0 };
            !is_known
        });
    }
    let workers = means.workers.filter(|_| search.limit <= jobs::MAX_LIMIT);
    let n_here = workers.map_or(candidates.len(), |workers| jobs::n_here(&candidates, workers.share()));
    let (here, rest) = candidates.split_at(n_here);
    let found = look(asker, here, search, Aim::NewestOfAll, &mut newest).await?;
    keep(means.kept, here, &found);
    if let Some(workers) = workers {
        known_bytes += here.iter().map(|candidate| candidate.bytes).sum::<u64>();
        let mut rounds = jobs::Rounds::new(rest, workers.share(), known_bytes);
        while let Some(round) = rounds.next(&newest) {
            let of_files = |files: &&[Candidate<'_>]| SearchJob::of(search, files, asker.left());
            let found = workers.run(round.iter().map(of_files).collect()).await?;
            for (files, found) in round.into_iter().zip(found) {
                asker.spend(found.bytes_read)?;
                newest.add(found.newest);
                let of_file =
                    |hits: Vec<Hit>| Matches { hits: hits.into(), limit: search.limit, above_ns: None };
                let found: Vec<Matches> = found.by_file.into_iter().map(of_file).collect();
                newest.add(found.iter().flat_map(|matches| matches.hits.iter().copied()));
                keep(means.kept, files, &found);
            }
        }
    }
    Ok(newest.into_hits())
}

fn keep(kept: Option<&dyn KeptMatches>, files: &[Candidate<'_>], found: &[Matches]) {
    if let Some(kept) = kept {
        for (candidate, matches) in files.iter().zip(found) {
            kept.put(&candidate.part, matches);
        }
    }
}

/// The files that may have matches, those with the latest spans first.
fn candidates<'a>(files: &'a [IndexedFile], search: &TraceSearch) -> Result<Vec<Candidate<'a>>> {
    let mut candidates = Vec::new();
    for file in files {
        let summary = file.summary()?;
        if index::may_match(&summary, search).map_err(|err| file.corrupt(err))? {
            candidates.push(Candidate::of(file, summary, search)?);
        }
    }
    candidates.sort_unstable_by_key(|candidate| Reverse(candidate.max_start_ns));
    Ok(candidates)
}

impl<'a> Candidate<'a> {
    pub(super) fn of(file: &'a IndexedFile, summary: Summary<'a>, search: &TraceSearch) -> Result<Self> {
        let range = TimeRange {
            start_ns: search.range.start_ns.max(summary.min_start_ns),
            end_ns_exclusive: search.range.end_ns_exclusive.min(summary.max_start_ns.saturating_add(1)),
        };
        let part = FilePart { content: file.key.content, size: summary.size, range };
        let places = summary.places().map_err(|err| file.corrupt(err))?;
        let bytes = match places {
            Places::OfRequest(table) => bytes_of_request(&table, search),
            Places::Merged(merged) => {
                let services = summary.services().map_err(|err| file.corrupt(err))?;
                bytes_of_merged(
                    &summary,
                    &merged,
                    services.map_or(1, |services| services.len()),
                    search,
                    range,
                )
            }
        };
        Ok(Self { file, summary, part, max_start_ns: summary.max_start_ns, bytes })
    }
}

/// What looking at a file of one request reads; a request counts as what it could have read meanwhile.
fn bytes_of_request(table: &ChunkTable, search: &TraceSearch) -> u64 {
    let ranges = table.ranges(needed(&search.conditions), JOIN_GAP);
    ranges.into_iter().map(|range| range.end - range.start + JOIN_GAP).sum()
}

/// What looking at a merged file reads at most, but for the units of candidates: its directories, and the blocks of one of its
/// services, or of all, as far as the range reaches.
fn bytes_of_merged(
    summary: &Summary<'_>,
    merged: &MergedSpans,
    n_services: usize,
    search: &TraceSearch,
    range: TimeRange,
) -> u64 {
    let directories = merged.search.end.saturating_sub(merged.directory.start);
    let asks_service = search.conditions.iter().any(|condition| matches!(condition, Condition::Service(_)));
    let n_services = if asks_service { n_services.max(1) as u64 } else { 1 };
    let reach = |first_ns: i64, end_ns: i64| i128::from(end_ns) - i128::from(first_ns);
    let asked = reach(range.start_ns, range.end_ns_exclusive).max(0) as f64;
    let whole = reach(summary.min_start_ns, summary.max_start_ns).max(1) as f64;
    let blocks = summary.rows.saturating_mul(BLOCK_BYTES_OF_SPAN) / n_services;
    directories + 2 * JOIN_GAP + (blocks as f64 * (asked / whole).min(1.0)) as u64
}

/// The columns that the conditions need.
fn needed(conditions: &[Condition]) -> Projection {
    let narrow = evaluate::narrow_projection(conditions);
    evaluate::attribute_projection(conditions).map_or(narrow, |wide| narrow.and(wide))
}

/// What is to be known of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// The newest traces of each.
    NewestOfEach,
    /// What the newest traces of all need.
    NewestOfAll,
}

/// A file that was looked at.
enum InFile {
    Told(Matches),
    /// One that is looked at together with others.
    Opened(Box<merged::Opened>),
}

/// Looks at files, which come newest first, until the others cannot have any of the newest traces: what the first of them
/// have, in their order.
pub(super) async fn look(
    asker: &Asker,
    files: &[Candidate<'_>],
    search: &TraceSearch,
    aim: Aim,
    newest: &mut Newest,
) -> Result<Vec<Matches>> {
    let search = Arc::new(search.clone());
    let look_into = |file| {
        let (asker, search) = (asker.clone(), Arc::clone(&search));
        async move { look_into(&asker, &file, &search, aim).await }
    };
    let mut looked_at = Vec::new();
    let mut batch = FIRST_BATCH;
    let mut rest = files;
    while let Some(next) = rest.first()
        && !newest.is_enough(next.max_start_ns)
    {
        let (now, later) = rest.split_at(batch.min(rest.len()));
        rest = later;
        batch = (batch * 2).min(LARGEST_BATCH);
        let now = now.iter().map(|candidate| candidate.file.clone()).collect();
        let found: Vec<InFile> = fetch::each(now, fetch::CONCURRENT_TASKS, &look_into).try_collect().await?;
        let mut told = Vec::with_capacity(found.len());
        let mut opened = Vec::new();
        for in_file in found {
            told.push(match in_file {
                InFile::Told(matches) => {
                    newest.add(matches.hits.iter().copied());
                    Some(matches)
                }
                InFile::Opened(file) => {
                    opened.push(*file);
                    None
                }
            });
        }
        let mut of_opened = merged::newest_matches(asker, opened, &search, newest).await?.into_iter();
        looked_at.extend(told.into_iter().filter_map(|matches| matches.or_else(|| of_opened.next())));
    }
    Ok(looked_at)
}

/// Looks into one file, as far as it is looked at by itself.
async fn look_into(asker: &Asker, file: &IndexedFile, search: &Arc<TraceSearch>, aim: Aim) -> Result<InFile> {
    let merged = match file.summary()?.places().map_err(|err| file.corrupt(err))? {
        Places::OfRequest(table) => {
            let hits = matches_in_request(asker, file, &table, search).await?;
            return Ok(InFile::Told(Matches::newest_of(hits, search.limit)));
        }
        Places::Merged(merged) => merged,
    };
    let opened = merged::open(asker, file, &merged, search).await?;
    if aim == Aim::NewestOfAll {
        return Ok(InFile::Opened(Box::new(opened)));
    }
    let mut newest = Newest::new(search.limit);
    let matches = merged::newest_matches(asker, vec![opened], search, &mut newest).await?;
    Ok(InFile::Told(matches.into_iter().next().unwrap_or_else(|| Matches::newest_of([], search.limit))))
}

/// The newest traces of what was found so far.
pub(super) struct Newest {
    limit: usize,
    start_ns: HashMap<TraceId, i64>,
}

impl Newest {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, start_ns: HashMap::new() }
    }

    pub(super) fn add(&mut self, found: impl IntoIterator<Item = Hit>) {
        for (id, start_ns) in found {
            self.start_ns.entry(id).and_modify(|old| *old = start_ns.max(*old)).or_insert(start_ns);
        }
    }

    /// How many of the traces that are asked for were found, be they the newest or not.
    pub(super) fn part_found(&self) -> f64 {
        self.start_ns.len() as f64 / self.limit.max(1) as f64
    }

    /// Whether spans that start at `max_start_ns` or before cannot change the newest traces.
    pub(super) fn is_enough(&self, max_start_ns: i64) -> bool {
        if self.limit == 0 {
            return true;
        }
        self.start_ns.len() >= self.limit && self.n_newer_than(max_start_ns) >= self.limit
    }

    /// How many traces were found that are newer than a span that starts then.
    pub(super) fn n_newer_than(&self, other_ns: i64) -> usize {
        self.start_ns.values().filter(|&&start_ns| start_ns > other_ns).count()
    }

    /// The newest first, of one start the least id.
    pub(super) fn into_hits(self) -> Vec<Hit> {
        let mut hits: Vec<Hit> = self.start_ns.into_iter().collect();
        hits.sort_unstable_by_key(|&(id, start_ns)| (Reverse(start_ns), id));
        hits.truncate(self.limit);
        hits
    }
}

/// Where a span that starts then has its place among others, ns: searches order spans by microsecond, because merged files
/// tell no more.
pub(super) fn place_ns(start_ns: i64) -> i64 {
    place_of_us(start_us(start_ns))
}

/// The same for a start in microseconds.
pub(super) fn place_of_us(start_us: i64) -> i64 {
    start_us.saturating_mul(1000)
}

/// Traces and starts of the spans of a file of one request that a search asks for: all that is needed is read at once.
async fn matches_in_request(
    asker: &Asker,
    file: &IndexedFile,
    table: &ChunkTable,
    search: &TraceSearch,
) -> Result<Vec<Hit>> {
    let corrupt = |err| file.corrupt(err);
    let parts = asker.parts(file, table, needed(&search.conditions)).await?;
    let columns =
        spans::decode(table, &parts, evaluate::narrow_projection(&search.conditions)).map_err(corrupt)?;
    let mut rows = evaluate::rows_in(&columns, search.range);
    let opened = evaluate::File { columns: &columns, table, parts: &parts };
    evaluate::retain_all(&opened, &search.conditions, &mut rows).map_err(corrupt)?;
    let start_ns = |row: u32| place_ns(columns.start_ns[row as usize]);
    Ok(rows.into_iter().map(|row| (columns.trace_id[row as usize], start_ns(row))).collect())
}
