//! Queries that are more than one function's share: jobs for other copies of this function.
//!
//! `storage::read` says which files of a search a job has and joins what jobs find, `prometheus::blocks` does so with steps of
//! a range query; here they become messages (`message`), are run by
//! [`Workers`], the slowest twice and the failed again (`race`), and answered (`worker`).
//! A worker is this function, invoked with a job in place of a request ([`Invocations`]), or a task of this process
//! ([`Tasks`]).

#[cfg(feature = "lambda")]
mod invocations;
mod message;
mod race;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use edge::guard::Spread;
use futures::future::{BoxFuture, FutureExt as _};
use model::TenantId;
use model::search::TraceSearch;
use storage::Error;
use storage::read::{FilePart, Found, KeptMatches, Matches, Means, SearchJob, SearchWorkers, Share};
use tokio::time::Instant;

#[cfg(feature = "lambda")]
pub use invocations::Invocations;
pub use worker::{Tasks, Worker};

use self::message::{Answer, Job, Work};
pub(crate) use self::message::{RangeFound, RangeJob};
use self::race::{Failure, Start};
use crate::searches::{SearchKey, Searches};

/// Whoever runs jobs.
pub trait Workers: Send + Sync {
    /// The answer of a worker to a job; both are opaque here. May be called many times at once, and twice with one job. What
    /// nobody waits for any more need not go on.
    ///
    /// # Errors
    /// There was no worker, or it did not answer.
    fn run(&self, job: Bytes) -> BoxFuture<'_, storage::Result<Bytes>>;
}

/// How queries are split among workers, shared by all requests of a process.
pub struct Fanout {
    workers: Arc<dyn Workers>,
    share: Share,
    n_first: AtomicU64,
    n_hedges: AtomicU64,
    n_retries: AtomicU64,
}

/// What was started so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs, each once.
    pub jobs: u64,
    /// Jobs that were started a second time because they were slow.
    pub hedges: u64,
    /// Jobs that were started again because they failed.
    pub retries: u64,
}

impl Fanout {
    /// Gives what is more than a share to `workers`; `None` if there may be no job.
    pub fn of(workers: Arc<dyn Workers>, share: Share) -> Option<Arc<Self>> {
        let none = || AtomicU64::new(0);
        let (n_first, n_hedges, n_retries) = (none(), none(), none());
        (share.max_jobs > 0).then(|| Arc::new(Self { workers, share, n_first, n_hedges, n_retries }))
    }

    /// What was started so far.
    pub fn counts(&self) -> Counts {
        Counts {
            jobs: self.n_first.load(Relaxed),
            hedges: self.n_hedges.load(Relaxed),
            retries: self.n_retries.load(Relaxed),
        }
    }
}

/// What one request did with others, and what it knew before; for its line in the log.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    jobs: AtomicU64,
    hedges: AtomicU64,
    retries: AtomicU64,
    kept_files: AtomicU64,
}

impl Tally {
    pub(crate) fn spread(&self) -> Spread {
        Spread {
            jobs: self.jobs.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            retries: self.retries.load(Relaxed),
            kept_files: self.kept_files.load(Relaxed),
        }
    }
}

/// The request for which something is asked of storage.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) fanout: Option<Arc<Fanout>>,
    pub(crate) searches: Option<Arc<Searches>>,
    pub(crate) tenant: TenantId,
    pub(crate) request_id: String,
    /// When nobody waits for an answer any more.
    pub(crate) deadline: Instant,
    pub(crate) tally: Arc<Tally>,
}

impl Asker {
    /// What a search may use beside the stores.
    pub(crate) fn aid(&self, search: &TraceSearch) -> SearchAid {
        let key = Arc::new(SearchKey::of(&self.tenant, search));
        SearchAid { asker: self.clone(), key, took: Mutex::default() }
    }
}

/// What is kept for a search, and its workers.
pub(crate) struct SearchAid {
    asker: Asker,
    key: Arc<SearchKey>,
    /// How long its jobs took.
    took: Mutex<Vec<Duration>>,
}

impl SearchAid {
    pub(crate) fn means(&self) -> Means<'_> {
        Means {
            kept: self.asker.searches.as_ref().map(|_| self as &dyn KeptMatches),
            workers: self.asker.fanout.as_ref().map(|_| self as &dyn SearchWorkers),
        }
    }
}

impl KeptMatches for SearchAid {
    fn get(&self, part: &FilePart, limit: usize) -> Option<Matches> {
        let found = self.asker.searches.as_ref()?.get(&self.key, part, limit)?;
        self.asker.tally.kept_files.fetch_add(1, Relaxed);
        Some(found)
    }

    fn put(&self, part: &FilePart, matches: &Matches) {
        if let Some(searches) = &self.asker.searches {
            searches.put(&self.key, part, matches);
        }
    }
}

#[async_trait::async_trait]
impl SearchWorkers for SearchAid {
    fn share(&self) -> Share {
        self.asker.fanout.as_ref().map_or_else(Share::default, |fanout| fanout.share)
    }

    async fn run(&self, jobs: Vec<SearchJob>) -> storage::Result<Vec<Found>> {
        let max_bytes = jobs.first().map_or(0, |job| job.max_bytes);
        let mut took = std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner));
        let work = jobs.into_iter().map(Work::Search).collect();
        let found = self.asker.run(work, &mut took, |answered| found(answered, max_bytes)).await;
        *self.took.lock().unwrap_or_else(PoisonError::into_inner) = took;
        found
    }
}

impl Asker {
    /// How much is done here, and how the rest is split; `None` if nothing may be.
    pub(crate) fn share(&self) -> Option<Share> {
        self.fanout.as_ref().map(|fanout| fanout.share)
    }

    /// What each of these parts of a range query gives, in their order; `None` where that cannot be told by others.
    ///
    /// # Errors
    /// A job failed twice.
    pub(crate) async fn evaluate(&self, jobs: Vec<RangeJob>) -> storage::Result<Vec<Option<RangeFound>>> {
        self.run(jobs.into_iter().map(Work::Range).collect(), &mut Vec::new(), evaluated).await
    }

    async fn run<T: Send + 'static>(
        &self,
        jobs: Vec<Work>,
        took: &mut Vec<Duration>,
        read: impl Fn(Answer) -> Result<T, Failure> + Send + Sync,
    ) -> storage::Result<Vec<T>> {
        let Some(fanout) = &self.fanout else {
            return Err(Error::unavailable("worker", "running a job", "there are none"));
        };
        let message = |work: Work| {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let job = Job {
                tenant: self.tenant.clone(),
                request_id: self.request_id.clone(),
                timeout_ms: left.as_millis() as u64,
                work,
            };
            job.encode()
        };
        let messages: Vec<Bytes> = jobs.into_iter().map(message).collect();
        let read = &read;
        let start = |job: usize, why: Start| {
            let (total, of_request) = match why {
                Start::First => (&fanout.n_first, &self.tally.jobs),
                Start::Hedge => (&fanout.n_hedges, &self.tally.hedges),
                Start::Retry => (&fanout.n_retries, &self.tally.retries),
            };
            total.fetch_add(1, Relaxed);
            of_request.fetch_add(1, Relaxed);
            let answered = fanout.workers.run(messages[job].clone());
            async move {
                let answer = Answer::decode(&answered.await.map_err(Failure::Once)?);
                read(answer.map_err(|error| failed("reading its answer", error.to_string()))?)
            }
            .boxed()
        };
        race::answers(messages.len(), took, start).await
    }
}

fn failed(doing: &str, why: String) -> Failure {
    Failure::Once(Error::unavailable("worker", doing, why))
}

/// What a worker found for a search.
fn found(answer: Answer, max_bytes: u64) -> Result<Found, Failure> {
    match answer {
        Answer::Found(found) => Ok(found),
        Answer::Missing(key) => Err(Failure::Always(Error::Missing { key })),
        Answer::OverLimit => Err(Failure::Always(Error::OverLimit { limit: max_bytes, unit: "bytes" })),
        Answer::Failed(why) => Err(failed("running a job", why)),
        Answer::Evaluated(_) | Answer::Untold => {
            Err(failed("reading its answer", "of another job".to_owned()))
        }
    }
}

/// What a worker made of steps of a range query; where it misses or may not do something, this is done here, and tells.
fn evaluated(answer: Answer) -> Result<Option<RangeFound>, Failure> {
    match answer {
        Answer::Evaluated(found) => Ok(Some(found)),
        Answer::Untold | Answer::Missing(_) | Answer::OverLimit => Ok(None),
        Answer::Failed(why) => Err(failed("running a job", why)),
        Answer::Found(_) => Err(failed("reading its answer", "of another job".to_owned())),
    }
}
