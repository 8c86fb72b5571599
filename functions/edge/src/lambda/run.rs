//! The loop of a Lambda function.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use lambda_runtime::{LambdaEvent, Runtime, service_fn};
use serde_json::value::RawValue;

use super::answer;
use super::job::job_of;
use crate::config::RawPath;
use crate::guard::{Door, RequestId};

/// What stays of an invocation's time for answering that there was not enough.
const RESERVE: Duration = Duration::from_millis(500);

/// Answers events through `door` until the platform ends the process.
///
/// # Errors
/// The Runtime API is not reachable, or this is no Lambda environment.
pub async fn run(door: Door, raw_path: RawPath) -> Result<(), lambda_runtime::Error> {
    assert_lambda()?;
    let handler = service_fn(|event: LambdaEvent<Box<RawValue>>| {
        let door = door.clone();
        async move {
            let id = RequestId(event.context.request_id.as_str().into());
            let limit = time_left(event.context.deadline, crate::clock::now_ns());
            let answer = answer(&door, event.payload.get(), raw_path, id, limit).await;
            Ok::<_, Infallible>(RawValue::from_string(answer).unwrap_or_default())
        }
    });
    // Not `lambda_runtime::run`: its span a request says what the access log says.
    Runtime::new(handler).run().await
}

/// As [`run`], but that events which bring a job are answered with what `work` makes of it, in the time that it is given.
///
/// # Errors
/// As [`run`].
pub async fn run_with_jobs<W, F>(door: Door, raw_path: RawPath, work: W) -> Result<(), lambda_runtime::Error>
where
    W: Fn(String, Duration) -> F,
    F: Future<Output = String>,
{
    assert_lambda()?;
    let handler = service_fn(|event: LambdaEvent<Box<RawValue>>| {
        let id = RequestId(event.context.request_id.as_str().into());
        let limit = time_left(event.context.deadline, crate::clock::now_ns());
        let job = job_of(event.payload.get()).map(|job| work(job.to_owned(), limit.unwrap_or(Duration::MAX)));
        let door = door.clone();
        async move {
            let answer = match job {
                Some(job) => job.await,
                None => answer(&door, event.payload.get(), raw_path, id, limit).await,
            };
            Ok::<_, Infallible>(RawValue::from_string(answer).unwrap_or_default())
        }
    });
    Runtime::new(handler).run().await
}

/// Does `work` for each event, whatever is in it, and answers with what it gives: for a function that a schedule calls.
/// `work` gets the invocation's id.
///
/// # Errors
/// The Runtime API is not reachable, or this is no Lambda environment.
pub async fn run_scheduled<W, F>(work: W) -> Result<(), lambda_runtime::Error>
where
    W: Fn(&str) -> F,
    F: Future<Output = Result<serde_json::Value, lambda_runtime::Error>>,
{
    assert_lambda()?;
    let handler = service_fn(|event: LambdaEvent<Box<RawValue>>| work(&event.context.request_id));
    Runtime::new(handler).run().await
}

/// Says what to do where there is no Runtime API.
fn assert_lambda() -> Result<(), lambda_runtime::Error> {
    match crate::config::variable("AWS_LAMBDA_RUNTIME_API") {
        Some(_) => Ok(()),
        None => Err("not in Lambda: AWS_LAMBDA_RUNTIME_API is not set; run `spandrel serve` instead".into()),
    }
}

/// How long an invocation that came at `now_ns` may be worked on, for a deadline in ms since 1970.
///
/// None where the deadline was over before: Lambda starts nothing after its deadline, but `cargo lambda watch` sends the
/// same few minutes after 1970 with each invocation.
fn time_left(deadline_ms: u64, now_ns: i64) -> Option<Duration> {
    let now = Duration::from_nanos(now_ns.unsigned_abs());
    let left = Duration::from_millis(deadline_ms).checked_sub(now)?;
    Some(left.saturating_sub(RESERVE).max(Duration::from_millis(100)))
}

/// Runs a Lambda function's `work`, and logs why it ended.
///
/// On one thread: a function answers one event at a time, and a second thread costs 0.4 ms and 0.4 MB at each cold
/// start.
pub fn main(work: impl Future<Output = Result<(), lambda_runtime::Error>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(work));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "function ended");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_left_until_shortly_before_the_deadline() {
        let now_ns = 1_700_000_000_000_000_000;
        let left = |ms: u64| time_left(1_700_000_000_000 + ms, now_ns);
        assert_eq!(left(30_000), Some(Duration::from_millis(29_500)));
        assert_eq!(left(550), Some(Duration::from_millis(100)));
        assert_eq!(left(0), Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_deadline_before_the_invocation_is_none() {
        assert_eq!(time_left(600_000, 1_700_000_000_000_000_000), None);
    }
}
