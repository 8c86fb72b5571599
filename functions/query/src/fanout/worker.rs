//! The one who has a job: another copy of this function, or another task of this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge::guard::{RequestId, Served};
use edge::ledger::Ledger;
use futures::future::{BoxFuture, FutureExt as _};
use storage::read;
use storage::{Error, Store};
use tokio::task::JoinSet;

use super::Workers;
use super::message::{Answer, Job, Work};
use crate::{State, prometheus};

/// The path under which jobs are logged; no door leads to it.
const PATH: &str = "/job";

/// Answers jobs. It never gives a part of one away: where it is made, there are no workers. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    store: Store,
    ledger: Arc<Ledger>,
    timeout: Duration,
}

impl From<&State> for Worker {
    fn from(state: &State) -> Self {
        Self { store: state.store.clone(), ledger: Arc::clone(&state.ledger), timeout: state.timeout }
    }
}

impl Worker {
    /// A worker over `store`, whose calls it counts in `ledger`; a job takes `timeout` at most.
    pub fn new(store: Store, ledger: Arc<Ledger>, timeout: Duration) -> Self {
        Self { store, ledger, timeout }
    }

    /// The answer to a job, both as JSON; never fails and never panics. It is counted for the job's tenant, and logged as a
    /// request is. `limit` bounds its time beside what the job says.
    pub async fn answer(&self, job: &[u8], limit: Duration) -> Bytes {
        let started = Instant::now();
        let job = match Job::decode(job) {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(%error, "job refused");
                return Answer::Failed(error.to_string()).encode();
            }
        };
        let calls = self.ledger.calls(crate::FUNCTION, Some(&job.tenant));
        let store = self.store.metered(&calls);
        let limit = Duration::from_millis(job.timeout_ms).min(self.timeout).min(limit);
        let work = async {
            match &job.work {
                Work::Search(search) => read::run_job(&store, &job.tenant, search).await.map(Answer::Found),
                Work::Range(range) => {
                    let found = prometheus::run_job(&store, &job.tenant, range, started + limit).await?;
                    Ok(found.map_or(Answer::Untold, Answer::Evaluated))
                }
            }
        };
        let answer = match tokio::time::timeout(limit, edge::guard::caught(work)).await {
            Err(_) => Answer::Failed(format!("the job took longer than {limit:?}")),
            Ok(Err(message)) => {
                tracing::error!(message, "job panicked");
                Answer::Failed("internal fault".to_owned())
            }
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(Error::Missing { key }))) => Answer::Missing(key),
            Ok(Ok(Err(Error::OverLimit { .. }))) => Answer::OverLimit,
            Ok(Ok(Err(error))) => {
                tracing::warn!(tenant = %job.tenant, error = ?error, "job failed");
                Answer::Failed(error.to_string())
            }
        };
        let served = Served { function: crate::FUNCTION, tenant: Some(job.tenant), usage: calls.usage() };
        let id = RequestId(job.request_id.into());
        let is_fine = !matches!(answer, Answer::Failed(_));
        edge::guard::log_job(PATH, is_fine, &served, &id, started.elapsed());
        answer.encode()
    }
}

/// Workers in this process: a task each, on whatever threads the runtime has.
pub struct Tasks(pub Worker);

impl Workers for Tasks {
    fn run(&self, job: Bytes) -> BoxFuture<'_, storage::Result<Bytes>> {
        let worker = self.0.clone();
        async move {
            // A set, because its tasks end with whoever waits for them.
            let mut task = JoinSet::new();
            task.spawn(async move { worker.answer(&job, Duration::MAX).await });
            let gone = || Error::unavailable("worker", "running a job", "it ended without an answer");
            task.join_next().await.and_then(Result::ok).ok_or_else(gone)
        }
        .boxed()
    }
}
