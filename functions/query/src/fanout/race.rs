//! Jobs that run at once, the slowest of them twice.
//!
//! A job that takes much longer than most is started a second time, and whichever answers first counts. A job that failed is
//! started once more. Both are bounded: of n jobs at most [`most_hedges`] are hedged, and each is repeated once.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use storage::Error;
use tokio::time::{Instant, sleep_until};

/// No job is slow before this.
const FLOOR: Duration = Duration::from_millis(500);
/// A job is slow that takes so many times as long as half of those that are done.
const TIMES_MEDIAN: u32 = 2;
/// While less than half are done, a job is slow that takes this long.
const SLOW_ALONE: Duration = Duration::from_secs(5);
/// Of so many jobs one is hedged.
const JOBS_PER_HEDGE: usize = 8;

/// Why a job has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another time it may have one.
    Once(Error),
    /// It will not have one: this is the error of the whole.
    Always(Error),
}

/// Why a job is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    First,
    /// It is slow.
    Hedge,
    /// It failed.
    Retry,
}

#[derive(Clone, Copy)]
struct Job {
    started: Instant,
    n_running: u32,
    is_hedged: bool,
    is_retried: bool,
}

/// The answers of `n` jobs, in their order. `took` has how long the jobs took that were done before, and gets those of these.
///
/// # Errors
/// [`Failure::Always`]; a job failed and failed again. Jobs that still run are dropped.
pub(super) async fn answers<'a, T>(
    n: usize,
    took: &mut Vec<Duration>,
    start: impl Fn(usize, Start) -> BoxFuture<'a, Result<T, Failure>>,
) -> Result<Vec<T>, Error> {
    let begin = |job: usize, why: Start| {
        let (started, work) = (Instant::now(), start(job, why));
        async move { (job, started, work.await) }
    };
    let fresh = Job { started: Instant::now(), n_running: 1, is_hedged: false, is_retried: false };
    let mut jobs = vec![fresh; n];
    let mut answers: Vec<Option<T>> = (0..n).map(|_| None).collect();
    let mut n_missing = n;
    let mut hedges_left = most_hedges(n);
    let mut running: FuturesUnordered<_> = (0..n).map(|job| begin(job, Start::First)).collect();
    while n_missing > 0 {
        let slow_after = slow_after(took, n_missing);
        let is_candidate = |job: &usize| {
            hedges_left > 0 && answers[*job].is_none() && jobs[*job].n_running == 1 && !jobs[*job].is_hedged
        };
        let slowest = (0..n).filter(is_candidate).min_by_key(|&job| jobs[job].started);
        let hedge_at = slowest.map_or_else(Instant::now, |job| jobs[job].started + slow_after);
        tokio::select! {
            biased;
            Some((job, started, outcome)) = running.next() => {
                jobs[job].n_running -= 1;
                match outcome {
                    _ if answers[job].is_some() => {}
                    Ok(answer) => {
                        answers[job] = Some(answer);
                        n_missing -= 1;
                        took.push(started.elapsed());
                    }
                    Err(Failure::Always(err)) => return Err(err),
                    // The other attempt may still answer.
                    Err(Failure::Once(_)) if jobs[job].n_running > 0 => {}
                    Err(Failure::Once(err)) if jobs[job].is_retried => {
                        return Err(Error::Job { source: std::sync::Arc::new(err) });
                    }
                    Err(Failure::Once(err)) => {
                        tracing::warn!(job, error = ?err, "job failed, and is started again");
                        jobs[job] = Job { started: Instant::now(), is_retried: true, n_running: 1, ..jobs[job] };
                        running.push(begin(job, Start::Retry));
                    }
                }
            }
            () = sleep_until(hedge_at), if slowest.is_some() => {
                if let Some(job) = slowest {
                    hedges_left -= 1;
                    jobs[job].is_hedged = true;
                    jobs[job].n_running += 1;
                    running.push(begin(job, Start::Hedge));
                }
            }
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// How many of `n` jobs are started a second time because they are slow.
fn most_hedges(n: usize) -> usize {
    n.div_ceil(JOBS_PER_HEDGE)
}

/// How long a job may take before it is slow.
fn slow_after(took: &mut [Duration], n_missing: usize) -> Duration {
    if took.len() < n_missing {
        return SLOW_ALONE;
    }
    let middle = took.len() / 2;
    let median = *took.select_nth_unstable(middle).1;
    (median * TIMES_MEDIAN).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;

    use super::*;

    /// What the n-th start of a job does.
    #[derive(Clone, Copy)]
    enum Does {
        Answers(u64),
        Fails(u64),
        FailsAlways,
        Hangs,
    }

    struct Ran {
        answers: Result<Vec<usize>, Error>,
        starts: Vec<(usize, Start)>,
        took_ms: u128,
    }

    async fn race(n: usize, does: impl Fn(usize, usize) -> Does) -> Ran {
        let starts: Mutex<Vec<(usize, Start)>> = Mutex::default();
        let started = Instant::now();
        let start = |job: usize, why: Start| {
            let mut starts = starts.lock().expect("a lock");
            let n_before = starts.iter().filter(|(other, _)| *other == job).count();
            starts.push((job, why));
            let does = does(job, n_before);
            let unavailable = || Error::unavailable("worker", "running a job", "gone");
            async move {
                match does {
                    Does::Answers(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Ok(job)
                    }
                    Does::Fails(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Err(Failure::Once(unavailable()))
                    }
                    Does::FailsAlways => Err(Failure::Always(unavailable())),
                    Does::Hangs => std::future::pending().await,
                }
            }
            .boxed()
        };
        let answers = answers(n, &mut Vec::new(), start).await;
        let took_ms = started.elapsed().as_millis();
        Ran { answers, starts: starts.into_inner().expect("a lock"), took_ms }
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_run_at_once_and_each_once() {
        let ran = race(16, |job, _| Does::Answers(100 + job as u64)).await;
        assert_eq!(ran.answers.expect("all answer"), (0..16).collect::<Vec<_>>());
        assert!(ran.starts.len() == 16 && ran.took_ms < 130, "{} ms", ran.took_ms);
        assert!(race(0, |_, _| Does::Hangs).await.answers.expect("nothing to do").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_hangs_is_hedged() {
        let does = |job, n_before| if job == 3 && n_before == 0 { Does::Hangs } else { Does::Answers(400) };
        let ran = race(8, does).await;
        assert_eq!(ran.answers.expect("all answer"), (0..8).collect::<Vec<_>>());
        assert_eq!(ran.starts[8..], [(3, Start::Hedge)]);
        assert!((1200..1250).contains(&ran.took_ms), "twice the median, then its time: {} ms", ran.took_ms);

        let does = |_, n_before| if n_before == 0 { Does::Hangs } else { Does::Answers(100) };
        let ran = race(1, does).await;
        assert_eq!((ran.answers.expect("answers").len(), ran.starts.len()), (1, 2), "also one alone");
    }

    #[tokio::test(start_paused = true)]
    async fn hedges_are_bounded() {
        let ran = tokio::time::timeout(
            Duration::from_mins(1),
            race(16, |job, _| if job < 4 { Does::Hangs } else { Does::Answers(100) }),
        );
        assert!(ran.await.is_err(), "four hang, two of them twice");
        let slow =
            |job, n_before| if job < 4 && n_before == 0 { Does::Answers(3000) } else { Does::Answers(100) };
        let ran = race(16, slow).await;
        assert_eq!(ran.answers.expect("all answer").len(), 16);
        assert_eq!(ran.starts.len(), 16 + most_hedges(16));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_of_a_hedged_job_counts() {
        let does = |job, n_before| match (job, n_before) {
            (0, 0) => Does::Answers(1100),
            (0, _) => Does::Hangs,
            _ => Does::Answers(400),
        };
        let ran = race(8, does).await;
        assert_eq!(ran.answers.expect("all answer").len(), 8);
        assert_eq!((ran.starts.len(), ran.took_ms / 100), (9, 11));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_fails_is_started_once_more() {
        let ran = race(
            4,
            |job, n_before| if job == 1 && n_before == 0 { Does::Fails(5) } else { Does::Answers(10) },
        );
        let ran = ran.await;
        assert_eq!(ran.answers.expect("all answer"), [0, 1, 2, 3]);
        assert_eq!(ran.starts[4..], [(1, Start::Retry)]);

        let ran = race(4, |job, _| if job == 1 { Does::Fails(5) } else { Does::Answers(10) }).await;
        assert!(matches!(ran.answers, Err(Error::Job { .. })), "{:?}", ran.answers);
        assert_eq!(ran.starts.len(), 5);

        let ran = race(4, |job, _| if job == 1 { Does::FailsAlways } else { Does::Answers(10) }).await;
        assert!(matches!(ran.answers, Err(Error::Unavailable { .. })), "{:?}", ran.answers);
        assert_eq!(ran.starts.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedged_job_may_fail_once() {
        let does = |job, n_before| match (job, n_before) {
            (0, 0) => Does::Fails(1200),
            (0, 1) => Does::Answers(1000),
            _ => Does::Answers(100),
        };
        let ran = race(8, does).await;
        assert_eq!(ran.answers.expect("all answer").len(), 8);
        assert_eq!(ran.starts[8..], [(0, Start::Hedge)]);
    }

    #[test]
    fn slow_is_what_takes_much_longer_than_half() {
        let ms = Duration::from_millis;
        assert_eq!(slow_after(&mut [], 3), SLOW_ALONE);
        assert_eq!(slow_after(&mut [ms(900)], 2), SLOW_ALONE);
        assert_eq!(slow_after(&mut [ms(900)], 1), ms(1800));
        assert_eq!(slow_after(&mut [ms(9), ms(1), ms(5)], 1), FLOOR);
        assert_eq!(slow_after(&mut [ms(900), ms(100), ms(500)], 1), ms(1000));
    }
}
