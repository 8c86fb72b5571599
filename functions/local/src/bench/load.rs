//! `bench load`: trace requests over a few kept-alive connections into a server on this machine.
//!
//! Bodies are generated and compressed before the clock starts; a load too large for memory is sent in rounds, and
//! the clock stands still between them. Spans end shortly before now. A connection sends its next body when the one
//! before is acknowledged: 429 and 503 are asked again; so are broken connections, but only with `--keep-going`.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{SpanId, TraceId};
use serde_json::json;

use super::report::{Report, number, number_or_dash, row};
use super::{Error, Loopback, Result, proc, quantile};
use crate::traffic::client::{Answer, Client, NoAnswer, gzip};
use crate::traffic::{DEFAULT_TRACES_PER_SECOND, MEAN_SPANS_PER_TRACE, Traffic};

/// Compressed bodies that wait in memory at a time.
const MAX_ROUND_BYTES: usize = 512 << 20;
/// Spans whose requests are in memory before compression.
const MAX_RAW_SPANS: usize = 1 << 17;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const MAX_ANSWER_SHOWN: usize = 300;

/// Arguments of `bench load`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the server takes OTLP/HTTP; loopback only
    #[arg(long, default_value = "http://127.0.0.1:4318")]
    endpoint: Loopback,
    /// Spans in a request
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    spans_per_request: u32,
    /// Spans in all, rounded up to whole requests
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    total: u64,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Stop after so many seconds of sending
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Process of the server, to read its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Seconds to wait at the end before the server's CPU time is read again
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    settle: u64,
    /// Write a line of JSON for each acknowledged request: its number and the trace and span id of each span
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Send a body again when the connection is refused or breaks, until it is acknowledged or time runs out
    #[arg(long)]
    keep_going: bool,
    /// Seed of the traffic; the same seed has the same ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A request that waits to be sent.
struct Body {
    request_idx: usize,
    gzip: Bytes,
    /// Kept only to be recorded.
    ids: Vec<(TraceId, SpanId)>,
    n_spans: usize,
}

/// What happened so far, over all connections.
#[derive(Default)]
struct Tally {
    acknowledged_spans: Cell<u64>,
    acknowledged_requests: Cell<u64>,
    /// Acknowledged, but with something to say: spans were rejected.
    partial: Cell<u64>,
    retries: Cell<u64>,
    latencies_ms: RefCell<Vec<f64>>,
    refused: Cell<u64>,
    first_refusal: RefCell<Option<Error>>,
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

/// Sends everything and reports.
pub(super) fn run(args: &Args) -> Result<Report> {
    let record = match &args.record {
        Some(path) => {
            Some(RefCell::new(BufWriter::new(File::create(path).map_err(Error::io("record file"))?)))
        }
        None => None,
    };
    let n_requests = (args.total.div_ceil(u64::from(args.spans_per_request))) as usize;
    let traffic_s = (n_requests as f64 * f64::from(args.spans_per_request))
        / (MEAN_SPANS_PER_TRACE * DEFAULT_TRACES_PER_SECOND);
    let start_ns = edge::clock::now_ns() - ((traffic_s * 1.05 + 1.0) * 1e9) as i64;
    let mut traffic = Traffic::new(args.seed, start_ns);

    let runtime = super::runtime()?;
    let mut clients: Vec<Client> = (0..args.connections).map(|_| Client::new(args.endpoint.0)).collect();
    let tally = Tally::default();
    let cpu_before_s = args.pid.and_then(proc::cpu_s);
    let mut left = Duration::from_secs(args.seconds);
    let mut gzip_bytes = 0;
    let mut next_idx = 0;
    while next_idx < n_requests && !left.is_zero() {
        let bodies = prepare(&mut traffic, args, next_idx..n_requests);
        next_idx += bodies.len();
        gzip_bytes += bodies.iter().map(|body| body.gzip.len()).sum::<usize>();
        let start = Instant::now();
        let round = Round {
            bodies: RefCell::new(bodies.into_iter()),
            keep_going: args.keep_going,
            deadline: start + left,
            tally: &tally,
            record: record.as_ref(),
        };
        runtime.block_on(futures::future::try_join_all(
            clients.iter_mut().map(|client| round.send_all(client)),
        ))?;
        left = left.saturating_sub(start.elapsed());
    }
    let wall_s = Duration::from_secs(args.seconds).saturating_sub(left).as_secs_f64();
    let since =
        |after_s: Option<f64>| after_s.zip(cpu_before_s).map(|(after_s, before_s)| after_s - before_s);
    let cpu_s = since(args.pid.and_then(proc::cpu_s));
    let settled_cpu_s = if args.settle > 0 {
        runtime.block_on(async { tokio::time::sleep(Duration::from_secs(args.settle)).await });
        since(args.pid.and_then(proc::cpu_s))
    } else {
        None
    };
    if let Some(refusal) = tally.first_refusal.take()
        && tally.acknowledged_requests.get() == 0
    {
        return Err(refusal);
    }
    let outcome = Outcome { n_requests, gzip_bytes, start_ns, wall_s, cpu_s, settled_cpu_s };
    Ok(report(args, &tally, &outcome))
}

/// Generates and compresses the next bodies, on all cores, until memory or the load is full.
fn prepare(traffic: &mut Traffic, args: &Args, indexes: std::ops::Range<usize>) -> Vec<Body> {
    let n_spans = args.spans_per_request as usize;
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut bodies = Vec::new();
    let mut round_bytes = 0;
    let mut request_idx = indexes.start;
    while request_idx < indexes.end && round_bytes < MAX_ROUND_BYTES {
        let n_batch = MAX_RAW_SPANS.div_ceil(n_spans).min(indexes.end - request_idx);
        let batch: Vec<_> = (0..n_batch).map(|i| (request_idx + i, traffic.next_request(n_spans))).collect();
        let compress = |part: &[(usize, crate::traffic::Request)]| -> Vec<Body> {
            let body = |(request_idx, request): &(usize, crate::traffic::Request)| Body {
                request_idx: *request_idx,
                gzip: gzip(&request.body, 6),
                ids: if args.record.is_some() { request.ids.clone() } else { Vec::new() },
                n_spans: request.n_spans(),
            };
            part.iter().map(body).collect()
        };
        std::thread::scope(|scope| {
            let parts = batch.chunks(n_batch.div_ceil(n_threads));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || compress(part))).collect();
            for thread in threads {
                bodies.extend(thread.join().expect("invariant: compression does not panic"));
            }
        });
        round_bytes += bodies[bodies.len() - n_batch..].iter().map(|body| body.gzip.len()).sum::<usize>();
        request_idx += n_batch;
    }
    bodies
}

/// What the connections of a round share; they run on one thread.
struct Round<'a> {
    bodies: RefCell<std::vec::IntoIter<Body>>,
    keep_going: bool,
    deadline: Instant,
    tally: &'a Tally,
    record: Option<&'a RefCell<BufWriter<File>>>,
}

impl Round<'_> {
    async fn send_all(&self, client: &mut Client) -> Result<()> {
        while Instant::now() < self.deadline {
            let Some(body) = self.bodies.borrow_mut().next() else {
                return Ok(());
            };
            self.send(client, &body).await?;
        }
        Ok(())
    }

    /// Sends until acknowledged, refused or out of time.
    async fn send(&self, client: &mut Client, body: &Body) -> Result<()> {
        let tally = self.tally;
        loop {
            let start = Instant::now();
            match self.attempt(client, body).await {
                Some(Ok(answer)) if answer.status.is_success() => {
                    tally.latencies_ms.borrow_mut().push(start.elapsed().as_secs_f64() * 1e3);
                    add(&tally.acknowledged_requests, 1);
                    add(&tally.acknowledged_spans, body.n_spans as u64);
                    add(&tally.partial, u64::from(!answer.body.is_empty()));
                    return self.write_record(body);
                }
                Some(Ok(answer)) if !matches!(answer.status.as_u16(), 429 | 502..=504) => {
                    add(&tally.refused, 1);
                    tally.first_refusal.borrow_mut().get_or_insert_with(|| refusal(&answer));
                    return Ok(());
                }
                Some(Err(err)) if !self.keep_going => return Err(Error::NoAnswer(err)),
                Some(_) => {}
                None => return Ok(()),
            }
            if Instant::now() >= self.deadline {
                return Ok(());
            }
            add(&tally.retries, 1);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// One attempt; nothing when time ran out.
    async fn attempt(
        &self,
        client: &mut Client,
        body: &Body,
    ) -> Option<std::result::Result<Answer, NoAnswer>> {
        let deadline = tokio::time::Instant::from_std(self.deadline);
        tokio::time::timeout_at(deadline, client.post_traces("/v1/traces", body.gzip.clone())).await.ok()
    }

    /// `{"request":0,"spans":[["<trace id>","<span id>"],…]}`, on disk before the next request is sent.
    fn write_record(&self, body: &Body) -> Result<()> {
        let Some(record) = self.record else {
            return Ok(());
        };
        let spans: Vec<[String; 2]> =
            body.ids.iter().map(|(trace_id, span_id)| [trace_id.to_string(), span_id.to_string()]).collect();
        let mut record = record.borrow_mut();
        writeln!(record, "{}", json!({ "request": body.request_idx, "spans": spans }))
            .and_then(|()| record.flush())
            .map_err(Error::io("record file"))
    }
}

fn refusal(answer: &Answer) -> Error {
    let body = String::from_utf8_lossy(&answer.body).chars().take(MAX_ANSWER_SHOWN).collect();
    Error::Answer { what: "POST /v1/traces".to_owned(), status: answer.status.as_u16(), body }
}

struct Outcome {
    n_requests: usize,
    gzip_bytes: usize,
    start_ns: i64,
    wall_s: f64,
    cpu_s: Option<f64>,
    settled_cpu_s: Option<f64>,
}

fn report(args: &Args, tally: &Tally, outcome: &Outcome) -> Report {
    let mut latencies_ms = tally.latencies_ms.take();
    latencies_ms.sort_by(f64::total_cmp);
    let spans = tally.acknowledged_spans.get() as f64;
    let requests = tally.acknowledged_requests.get();
    let unsent = outcome.n_requests as u64 - requests - tally.refused.get();
    let [p50_ms, p99_ms] = [0.5, 0.99].map(|share| quantile(&latencies_ms, share));
    let per_million = |cpu_s: Option<f64>| cpu_s.filter(|_| spans > 0.0).map(|cpu_s| cpu_s * 1e6 / spans);
    let (cpu, settled) = (per_million(outcome.cpu_s), per_million(outcome.settled_cpu_s));
    let peak_bytes = args.pid.and_then(|pid| proc::memory_bytes(pid, "VmHWM"));
    let mut rows = vec![row(["load", ""])];
    for (name, value) in [
        ("spans acknowledged", number(spans, 0)),
        ("requests acknowledged", number(requests as f64, 0)),
        ("… with a partial success", number(tally.partial.get() as f64, 0)),
        ("requests refused", number(tally.refused.get() as f64, 0)),
        ("requests not acknowledged in time", number(unsent as f64, 0)),
        ("attempts sent again", number(tally.retries.get() as f64, 0)),
        ("seconds", number(outcome.wall_s, 2)),
        ("spans/s", number(spans / outcome.wall_s.max(1e-9), 0)),
        ("latency p50 ms", number(p50_ms, 2)),
        ("latency p99 ms", number(p99_ms, 2)),
        ("server CPU s per million spans", number_or_dash(cpu, 2)),
        ("server CPU s per million spans, settled", number_or_dash(settled, 2)),
        ("server peak memory MB", number_or_dash(peak_bytes.map(|bytes| bytes as f64 / 1e6), 1)),
    ] {
        rows.push(vec![name.to_owned(), value]);
    }
    let json = json!({
        "bench": "load",
        "seed": args.seed,
        "start_ns": outcome.start_ns,
        "spans_per_request": args.spans_per_request,
        "connections": args.connections,
        "spans": tally.acknowledged_spans.get(),
        "requests": requests,
        "partial": tally.partial.get(),
        "refused": tally.refused.get(),
        "unsent": unsent,
        "retries": tally.retries.get(),
        "seconds": outcome.wall_s,
        "spans_per_s": spans / outcome.wall_s.max(1e-9),
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "gzip_bytes": outcome.gzip_bytes,
        "cpu_s": outcome.cpu_s,
        "settled_cpu_s": outcome.settled_cpu_s,
        "cpu_s_per_million_spans": cpu,
        "peak_bytes": peak_bytes,
    });
    Report { rows, json }
}
