//! `bench query`: the Jaeger API over what `bench load` has sent.
//!
//! The ids are made again from the seed; the time range of the searches is taken from a trace that the server knows.
//! One connection, one request at a time, after a few to warm up; reading the answer is within the clock, parsing it
//! is not.

use std::fmt::Write as _;
use std::time::Instant;

use model::TraceId;
use serde_json::{Value, json};

use super::report::{Report, number, number_or_dash, row};
use super::{Error, Loopback, Result, proc, quantile};
use crate::traffic::client::Client;
use crate::traffic::{RARE, SEARCH, Search, Traffic};

const N_WARM_UP: usize = 3;
const SEARCH_LIMIT: usize = 20;
const MAX_ANSWER_SHOWN: usize = 300;

/// Arguments of `bench query`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the server answers the Jaeger API; loopback only
    #[arg(long, default_value = "http://127.0.0.1:16686")]
    endpoint: Loopback,
    /// What stands before `/api`, such as `/jaeger` on the one endpoint
    #[arg(long, default_value = "")]
    prefix: String,
    /// How often each question is asked
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: u32,
    /// Seed that the server was loaded with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Spans that the server was loaded with
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    total: u64,
    /// Process of the server, to read its CPU time
    #[arg(long)]
    pid: Option<u32>,
}

/// A question, asked with a path that may change from time to time.
struct Question {
    name: &'static str,
    paths: Vec<String>,
    status: u16,
}

/// Asks everything and reports.
pub(super) fn run(args: &Args) -> Result<Report> {
    let known = known_ids(args);
    let unknown = (0..known.len() as u64).map(|i| unknown_id(args.seed, i));
    super::runtime()?.block_on(async {
        let mut client = Client::new(args.endpoint.0);
        let api = format!("{}/api", args.prefix.trim_end_matches('/'));
        let first = known.first().ok_or(Error::Nothing("no trace was loaded"))?;
        let range = time_range(&mut client, &format!("{api}/traces/{first}")).await?;
        let trace = |id: TraceId| format!("{api}/traces/{id}");
        let questions = [
            Question { name: "trace by id", paths: known.iter().copied().map(trace).collect(), status: 200 },
            Question { name: "unknown id", paths: unknown.map(trace).collect(), status: 404 },
            Question {
                name: "search service+attribute+duration",
                paths: vec![search_path(&api, SEARCH, range)],
                status: 200,
            },
            Question {
                name: "search rare attribute",
                paths: vec![search_path(&api, RARE, range)],
                status: 200,
            },
            Question { name: "services", paths: vec![format!("{api}/services")], status: 200 },
            Question {
                name: "operations",
                paths: vec![format!("{api}/services/{}/operations", SEARCH.service)],
                status: 200,
            },
        ];
        let mut rows = vec![row(["query", "p50 ms", "p99 ms", "CPU ms", "bytes", "results"])];
        let mut results = Vec::new();
        for question in &questions {
            let asked = ask(&mut client, question, args).await?;
            rows.push(vec![
                question.name.to_owned(),
                number(asked.p50_ms, 2),
                number(asked.p99_ms, 2),
                number_or_dash(asked.cpu_ms, 1),
                number(asked.mean_bytes, 0),
                number(asked.n_results as f64, 0),
            ]);
            results.push(json!({
                "query": question.name,
                "p50_ms": asked.p50_ms,
                "p99_ms": asked.p99_ms,
                "cpu_ms": asked.cpu_ms,
                "mean_bytes": asked.mean_bytes,
                "results": asked.n_results,
            }));
        }
        let json = json!({ "bench": "query", "seed": args.seed, "repeat": args.repeat, "results": results });
        Ok(Report { rows, json })
    })
}

/// Ids of traces spread over the whole load, as many as are asked for.
fn known_ids(args: &Args) -> Vec<TraceId> {
    const SPANS_AT_A_TIME: usize = 64;
    let n_ids = (N_WARM_UP + args.repeat as usize) as u64;
    let n_requests = (args.total / SPANS_AT_A_TIME as u64).max(1);
    let mut traffic = Traffic::new(args.seed, 0);
    let mut ids = Vec::new();
    for i in 0..n_requests {
        let request = traffic.next_request(SPANS_AT_A_TIME);
        if (ids.len() as u64) * n_requests <= i * n_ids {
            ids.extend(request.ids.first().map(|(trace_id, _)| *trace_id));
        }
    }
    ids
}

/// An id that no traffic has: the traffic of another seed would, with luck.
fn unknown_id(seed: u64, i: u64) -> TraceId {
    let mut id = [0xab; 16];
    id[..8].copy_from_slice(&(seed ^ (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    TraceId(id)
}

/// Microseconds of an hour before and after the trace at `path`.
async fn time_range(client: &mut Client, path: &str) -> Result<(u64, u64)> {
    const HOUR_US: u64 = 3_600_000_000;
    let (body, _) = get(client, path, 200).await?;
    let spans = body["data"][0]["spans"].as_array().ok_or(Error::Nothing("the first trace has no spans"))?;
    let start_us = spans.iter().filter_map(|span| span["startTime"].as_u64()).min();
    let start_us = start_us.ok_or(Error::Nothing("the first trace has no start"))?;
    Ok((start_us.saturating_sub(HOUR_US), start_us + HOUR_US))
}

fn search_path(api: &str, search: Search, (start_us, end_us): (u64, u64)) -> String {
    let tags = percent_encode(&json!({ search.key: search.value }).to_string());
    let mut path = format!("{api}/traces?service={}&tags={tags}&limit={SEARCH_LIMIT}", search.service);
    write!(path, "&start={start_us}&end={end_us}").expect("invariant: writing to a string succeeds");
    if search.min_duration_ms > 0 {
        write!(path, "&minDuration={}ms", search.min_duration_ms)
            .expect("invariant: writing to a string succeeds");
    }
    path
}

/// `text` as a value in a query string.
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            write!(encoded, "%{byte:02X}").expect("invariant: writing to a string succeeds");
        }
    }
    encoded
}

struct Asked {
    p50_ms: f64,
    p99_ms: f64,
    cpu_ms: Option<f64>,
    mean_bytes: f64,
    /// Of the last answer.
    n_results: usize,
}

async fn ask(client: &mut Client, question: &Question, args: &Args) -> Result<Asked> {
    let mut paths = question.paths.iter().cycle();
    for path in paths.by_ref().take(N_WARM_UP) {
        get(client, path, question.status).await?;
    }
    let mut latencies_ms = Vec::new();
    let (mut n_bytes, mut n_results) = (0, 0);
    let cpu_before_s = args.pid.and_then(proc::cpu_s);
    for path in paths.take(args.repeat as usize) {
        let start = Instant::now();
        let answer = client.get(path).await.map_err(Error::NoAnswer)?;
        latencies_ms.push(start.elapsed().as_secs_f64() * 1e3);
        n_bytes += answer.body.len();
        n_results = check(path, question.status, &answer)?["data"].as_array().map_or(0, Vec::len);
    }
    let cpu_s =
        args.pid.and_then(proc::cpu_s).zip(cpu_before_s).map(|(after_s, before_s)| after_s - before_s);
    latencies_ms.sort_by(f64::total_cmp);
    Ok(Asked {
        p50_ms: quantile(&latencies_ms, 0.5),
        p99_ms: quantile(&latencies_ms, 0.99),
        cpu_ms: cpu_s.map(|cpu_s| cpu_s * 1e3 / f64::from(args.repeat)),
        mean_bytes: n_bytes as f64 / f64::from(args.repeat),
        n_results,
    })
}

/// JSON and size of an answer, if its status is the one that was expected.
pub(super) async fn get(client: &mut Client, path: &str, status: u16) -> Result<(Value, usize)> {
    let answer = client.get(path).await.map_err(Error::NoAnswer)?;
    Ok((check(path, status, &answer)?, answer.body.len()))
}

/// The answer's JSON, if its status is the one that was expected.
fn check(path: &str, status: u16, answer: &crate::traffic::client::Answer) -> Result<Value> {
    let body = serde_json::from_slice(&answer.body);
    match body {
        Ok(body) if answer.status.as_u16() == status => Ok(body),
        _ => {
            let body = String::from_utf8_lossy(&answer.body).chars().take(MAX_ANSWER_SHOWN).collect();
            Err(Error::Answer { what: format!("GET {path}"), status: answer.status.as_u16(), body })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_a_query_that_jaeger_understands() {
        assert_eq!(
            search_path("/api", SEARCH, (1, 2)),
            "/api/traces?service=checkout&tags=%7B%22payment.provider%22%3A%22adyen%22%7D&limit=20&start=1&end=2\
             &minDuration=100ms"
        );
    }
}
