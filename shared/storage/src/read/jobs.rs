//! Searches that are more than one function's share: which files others look at, and what they make of it.
//!
//! 1. Files are split by the bytes that looking at them reads into a bounded number of jobs, the newest first ([`Rounds`]).
//! 2. Jobs start in rounds, as many as it will probably take by what was found so far; none whose spans are all older than
//!    the traces that are known.
//! 3. Whoever has a job looks at its files in their order ([`run_job`]) and never splits it further.
//!
//! Jobs find traces; their spans are read afterwards by the one who asks: of many times as many found traces only the newest
//! are answered with, and a trace may have spans in files of several jobs.

use std::ops::Range;

use bytes::Bytes;
use model::search::TraceSearch;
use model::{Signal, TenantId};

use super::fetch::Asker;
use super::find::{Aim, Candidate, Hit, Newest, look};
use super::index::IndexedFile;
use crate::index::FileKey;
use crate::{Error, Result, Store};

/// Searches for more traces than these are not split: the answers of jobs would not fit into one of an invocation.
pub(super) const MAX_LIMIT: usize = 50_000;
/// What is known of the files of a job is at most so long, of the 6 MB that an invocation takes.
const MAX_JOB_BYTES: usize = 3 << 20;
/// Hits of a job that are told file by file, at most.
const MAX_HITS_BY_FILE: usize = 100_000;
/// Before others are asked, a share divided by this is looked at here: most searches have enough then.
const LOOKED_AT_FIRST: u64 = 4;

/// How much one function reads for a search, and how the rest is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Bytes that one function reads by itself, each request counted as 128 KiB; jobs are as large, or larger.
    pub bytes: u64,
    /// Most jobs of a search: where more would be needed, they are larger.
    pub max_jobs: usize,
}

impl Share {
    /// What a function of 1 to 2 GB reads and decodes in about a second: some 75 MB/s come in, and 500 requests are answered.
    pub const DEFAULT_BYTES: u64 = 64 << 20;
    /// As many functions start at once without being noticed among the thousand that an account may run.
    pub const DEFAULT_JOBS: usize = 16;
}

impl Default for Share {
    fn default() -> Self {
        Self { bytes: Self::DEFAULT_BYTES, max_jobs: Self::DEFAULT_JOBS }
    }
}

/// Files that another looks at for a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchJob {
    /// What is asked.
    pub search: TraceSearch,
    /// Where, those with the latest spans first.
    pub files: Vec<JobFile>,
    /// Bytes of objects that may be read.
    pub max_bytes: u64,
}

/// A file of a job, as its index item says, so that the index is not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFile {
    /// The sort key of its item.
    pub key: String,
    /// The item, without what tells whether to look at the file.
    pub item: Bytes,
}

/// What a job found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The newest traces of the first files, in their order; other files cannot have any of the newest. Empty where that would
    /// be too long.
    pub by_file: Vec<Vec<Hit>>,
    /// There the newest traces of all files.
    pub newest: Vec<Hit>,
    /// Bytes of objects that were read.
    pub bytes_read: u64,
}

impl SearchJob {
    pub(super) fn of(search: &TraceSearch, files: &[Candidate<'_>], max_bytes: u64) -> Self {
        let file = |candidate: &Candidate<'_>| JobFile {
            key: candidate.file.key.sort(),
            item: candidate.summary.without_filters().into(),
        };
        Self { search: search.clone(), files: files.iter().map(file).collect(), max_bytes }
    }
}

/// Looks at the files of a job.
///
/// # Errors
/// As the object store; over the job's limit; an object is missing; the job names no files of spans.
pub async fn run_job(store: &Store, tenant: &TenantId, job: &SearchJob) -> Result<Found> {
    let file = |file: &JobFile| {
        let key = FileKey::parse(Signal::Traces, &file.key)
            .ok_or_else(|| Error::corrupt(format!("job's file {}", file.key), "key is not a file's"))?;
        Ok::<_, Error>(IndexedFile::of_item(key, file.item.clone()))
    };
    let files: Vec<IndexedFile> = job.files.iter().map(file).collect::<Result<_>>()?;
    let candidate = |file| Candidate::of(file, file.summary()?, &job.search);
    let candidates: Vec<Candidate<'_>> = files.iter().map(candidate).collect::<Result<_>>()?;

    let asker = Asker::new(store, tenant, job.max_bytes);
    let mut newest = Newest::new(job.search.limit);
    // Of each file, so that it can be kept; few of the files of a job are looked at in vain.
    let found = look(&asker, &candidates, &job.search, Aim::NewestOfEach, &mut newest).await?;
    let n_hits: usize = found.iter().map(|matches| matches.hits.len()).sum();
    let bytes_read = asker.spent();
    Ok(if n_hits > MAX_HITS_BY_FILE {
        Found { by_file: Vec::new(), newest: newest.into_hits(), bytes_read }
    } else {
        let by_file = found.into_iter().map(|matches| matches.hits.to_vec()).collect();
        Found { by_file, newest: Vec::new(), bytes_read }
    })
}

/// How many of these files are looked at before others are asked: all of about a share, else those of a part of one.
pub(super) fn n_here(files: &[Candidate<'_>], share: Share) -> usize {
    if bytes_of(files) <= share.bytes {
        return files.len();
    }
    let mut left = share.bytes / LOOKED_AT_FIRST;
    let fits = |file: &&Candidate<'_>| {
        let rest = left.checked_sub(file.bytes);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let n_first = files.iter().take_while(fits).count();
    // What is left would be one job, as soon done here.
    if bytes_of(&files[n_first..]) <= share.bytes { files.len() } else { n_first }
}

fn bytes_of(files: &[Candidate<'_>]) -> u64 {
    files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
}

/// Jobs that are not started yet.
pub(super) struct Rounds<'a> {
    files: &'a [Candidate<'a>],
    jobs: Vec<Range<usize>>,
    n_started: usize,
    n_of_round: usize,
    /// Bytes of files of which it is known what they have.
    known_bytes: u64,
}

impl<'a> Rounds<'a> {
    /// Splits files, which come newest first; files of `known_bytes` were looked at before.
    pub(super) fn new(files: &'a [Candidate<'a>], share: Share, known_bytes: u64) -> Self {
        let sizes: Vec<(u64, usize)> =
            files.iter().map(|file| (file.bytes, file.summary.len_without_filters())).collect();
        let jobs = split(&sizes, share);
        Self { files, jobs, n_started: 0, n_of_round: 0, known_bytes }
    }

    /// The files of the jobs to start now; `None` when all are done, or what was found is enough.
    pub(super) fn next(&mut self, newest: &Newest) -> Option<Vec<&'a [Candidate<'a>]>> {
        let files = self.files;
        let rest = &self.jobs[self.n_started..];
        let first = files.get(rest.first()?.start)?;
        if newest.is_enough(first.max_start_ns) {
            return None;
        }
        let rest_bytes = bytes_of(&files[rest[0].start..]);
        let n_of_rest = n_of_round(newest.part_found(), self.known_bytes, rest_bytes, rest.len());
        self.n_of_round = n_of_rest.max(self.n_of_round * 2).min(rest.len());
        let mut round = Vec::new();
        for job in &rest[..self.n_of_round] {
            let job = &files[job.clone()];
            self.known_bytes = self.known_bytes.saturating_add(bytes_of(job));
            // What is older than what was found need not be looked at.
            let n_needed = job.partition_point(|file| !newest.is_enough(file.max_start_ns));
            if n_needed > 0 {
                round.push(&job[..n_needed]);
            }
        }
        self.n_started += self.n_of_round;
        Some(round)
    }
}

/// Splits files of so many bytes, with so much to say of each, into jobs: as many as there are shares, at most `max_jobs`, and
/// more only where a job's text would be too long.
fn split(sizes: &[(u64, usize)], share: Share) -> Vec<Range<usize>> {
    let total: u128 = sizes.iter().map(|&(bytes, _)| u128::from(bytes)).sum();
    let n_shares = total.div_ceil(u128::from(share.bytes.max(1)));
    let n_jobs = n_shares.clamp(1, share.max_jobs.max(1) as u128);
    let mut jobs: Vec<Range<usize>> = Vec::new();
    let (mut bytes_before, mut job_before, mut text_bytes) = (0, 0, 0);
    for (at, &(bytes, text)) in sizes.iter().enumerate() {
        // Files of no bytes behind all others belong to the last job.
        let job = (bytes_before * n_jobs / total.max(1)).min(n_jobs - 1);
        bytes_before += u128::from(bytes);
        text_bytes += text;
        match jobs.last_mut() {
            Some(last) if job == job_before && text_bytes <= MAX_JOB_BYTES => last.end = at + 1,
            _ => {
                jobs.push(at..at + 1);
                (job_before, text_bytes) = (job, text);
            }
        }
    }
    jobs
}

/// How many of the jobs that are left it probably takes, with room for error: all where nothing was found yet.
fn n_of_round(part_found: f64, known_bytes: u64, rest_bytes: u64, n_rest: usize) -> usize {
    if part_found <= 0.0 || known_bytes == 0 {
        return n_rest;
    }
    let needed_bytes = (2.0 / part_found - 1.0).max(0.0) * known_bytes as f64;
    let part_of_rest = needed_bytes / rest_bytes.max(1) as f64;
    ((part_of_rest * n_rest as f64).ceil() as usize).clamp(1, n_rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn jobs_are_bounded_and_have_each_file_once(
            sizes in proptest::collection::vec(0u64..5_000, 0..200),
            bytes in 0u64..20_000,
            max_jobs in 0usize..20,
        ) {
            let sizes: Vec<(u64, usize)> = sizes.into_iter().map(|bytes| (bytes, 100)).collect();
            let share = Share { bytes, max_jobs };
            let jobs = split(&sizes, share);
            prop_assert!(jobs.len() <= max_jobs.max(1));
            let files: Vec<usize> = jobs.iter().cloned().flatten().collect();
            prop_assert_eq!(files, (0..sizes.len()).collect::<Vec<_>>());
            prop_assert!(jobs.iter().all(|job| !job.is_empty()));

            let total: u64 = sizes.iter().map(|size| size.0).sum();
            let largest = sizes.iter().map(|size| size.0).max().unwrap_or_default();
            let n_shares = total.div_ceil(bytes.max(1)).clamp(1, max_jobs.max(1) as u64);
            for job in &jobs {
                let of_job: u64 = sizes[job.clone()].iter().map(|size| size.0).sum();
                prop_assert!(of_job <= total.div_ceil(n_shares) + largest, "{of_job} of {total} in {n_shares}");
            }
        }
    }

    #[test]
    fn files_of_no_bytes_are_no_jobs_of_their_own() {
        assert_eq!(split(&[(5, 1), (5, 1), (0, 1), (0, 1)], Share { bytes: 5, max_jobs: 2 }), [0..1, 1..4]);
    }

    #[test]
    fn a_job_is_no_longer_than_an_invocation_takes() {
        let sizes = vec![(1, MAX_JOB_BYTES / 2); 5];
        assert_eq!(split(&sizes, Share { bytes: 100, max_jobs: 16 }), [0..2, 2..4, 4..5]);
        assert_eq!(split(&[(1, 2 * MAX_JOB_BYTES)], Share::default()).len(), 1);
    }

    #[test]
    fn as_many_jobs_start_as_it_probably_takes() {
        let mb = 1 << 20;
        assert_eq!(n_of_round(0.0, 16 * mb, 1024 * mb, 16), 16, "nothing found: all");
        assert_eq!(n_of_round(0.5, 0, 1024 * mb, 16), 16, "nothing known");
        assert_eq!(n_of_round(0.5, 16 * mb, 1024 * mb, 16), 1);
        assert_eq!(n_of_round(0.1, 16 * mb, 1024 * mb, 16), 5);
        assert_eq!(n_of_round(0.001, 16 * mb, 1024 * mb, 16), 16);
        assert_eq!(n_of_round(3.0, 16 * mb, 1024 * mb, 16), 1, "many found, but old ones");
    }
}
