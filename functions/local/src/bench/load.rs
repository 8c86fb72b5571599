//! `bench load`: requests over a few kept-alive connections into a server on this machine: traces or log records by OTLP,
//! or metrics by remote write.
//!
//! Bodies are generated and compressed before the clock starts; a load too large for memory is sent in rounds, and
//! the clock stands still between them. Spans end, and samples are scraped, shortly before now. A connection sends its next body when the one
//! before is acknowledged: 429 and 503 are asked again; so are broken connections, but only with `--keep-going`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{SpanId, TraceId};
use serde_json::json;

use super::report::{Report, number, number_or_dash, row};
use super::{Error, Loopback, Result, proc, quantile};
use crate::traffic::client::{Answer, Client, NoAnswer, gzip, snappy};
use crate::traffic::logs::{Lines, RECORDS_PER_SECOND};
use crate::traffic::scrapes::{Protocol, SCRAPE_MS, Scrapes};
use crate::traffic::{DEFAULT_TRACES_PER_SECOND, MEAN_SPANS_PER_TRACE, Traffic};

/// Compressed bodies that wait in memory at a time.
const MAX_ROUND_BYTES: usize = 512 << 20;
/// Bytes of requests that are in memory before compression.
const MAX_RAW_BYTES: usize = 64 << 20;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const MAX_ANSWER_SHOWN: usize = 300;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Signal {
    /// Spans by OTLP, gzip
    Traces,
    /// Samples by Prometheus remote write 1.0: 10,000 series every 15 s, 2,000 samples a request
    Metrics,
    /// The same series by OTLP, gzip, as a Collector batches them: histograms are one point each
    OtlpMetrics,
    /// Log records by OTLP, gzip
    Logs,
}

impl Signal {
    /// What is counted.
    fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics | Self::OtlpMetrics => "samples",
            Self::Logs => "records",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/api/v1/write",
            Self::OtlpMetrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }
}

/// Arguments of `bench load`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to send
    #[arg(long, value_enum, default_value_t = Signal::Traces)]
    signal: Signal,
    /// Where the server takes OTLP/HTTP and remote write; loopback only
    #[arg(long, default_value = "http://127.0.0.1:4318")]
    endpoint: Loopback,
    /// Spans or log records in a request
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    spans_per_request: u32,
    /// Spans, samples or log records in all, rounded up to whole requests
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
    compressed: Bytes,
    /// Kept only to be recorded.
    ids: Vec<(TraceId, SpanId)>,
    n_items: usize,
}

/// A request before compression.
struct Raw {
    request_idx: usize,
    body: Vec<u8>,
    ids: Vec<(TraceId, SpanId)>,
    n_items: usize,
}

/// Requests of one signal, as many as were asked for.
enum Source {
    Traces { traffic: Box<Traffic>, n_spans: usize },
    Metrics { scrapes: Box<Scrapes>, ready: VecDeque<(Vec<u8>, usize)> },
    Logs { lines: Box<Lines>, n_records: usize },
}

impl Source {
    /// A source whose last items are about now, and the time of its first in ns.
    fn new(args: &Args) -> (Self, i64) {
        let now_ns = edge::clock::now_ns();
        match args.signal {
            Signal::Traces => {
                let n_spans = args.spans_per_request as usize;
                let in_all = args.total.next_multiple_of(n_spans as u64) as f64;
                let traffic_s = in_all / (MEAN_SPANS_PER_TRACE * DEFAULT_TRACES_PER_SECOND);
                let start_ns = now_ns - ((traffic_s * 1.05 + 1.0) * 1e9) as i64;
                (Self::Traces { traffic: Box::new(Traffic::new(args.seed, start_ns)), n_spans }, start_ns)
            }
            Signal::Logs => {
                let n_records = args.spans_per_request as usize;
                let traffic_s = args.total.next_multiple_of(n_records as u64) as f64 / RECORDS_PER_SECOND;
                let start_ns = now_ns - ((traffic_s * 1.05 + 1.0) * 1e9) as i64;
                (Self::Logs { lines: Box::new(Lines::new(args.seed, start_ns)), n_records }, start_ns)
            }
            Signal::Metrics | Signal::OtlpMetrics => {
                let is_otlp = args.signal == Signal::OtlpMetrics;
                let protocol = if is_otlp { Protocol::Otlp } else { Protocol::RemoteWrite };
                let n_series = Scrapes::new(args.seed, 0, 0, protocol).n_series() as u64;
                let n_rounds = args.total.div_ceil(n_series);
                let start_ms = now_ns / 1_000_000 - (n_rounds as i64 + 1) * SCRAPE_MS;
                let scrapes = Box::new(Scrapes::new(args.seed, start_ms, n_rounds, protocol));
                (Self::Metrics { scrapes, ready: VecDeque::new() }, start_ms * 1_000_000)
            }
        }
    }

    fn next(&mut self, request_idx: usize) -> Raw {
        match self {
            Self::Traces { traffic, n_spans } => {
                let request = traffic.next_request(*n_spans);
                let n_items = request.n_spans();
                Raw { request_idx, body: request.body, ids: request.ids, n_items }
            }
            Self::Logs { lines, n_records } => {
                let body = lines.next_request(*n_records);
                Raw { request_idx, body, ids: Vec::new(), n_items: *n_records }
            }
            Self::Metrics { scrapes, ready } => loop {
                if let Some((body, n_items)) = ready.pop_front() {
                    return Raw { request_idx, body, ids: Vec::new(), n_items };
                }
                ready.extend(scrapes.next_round());
            },
        }
    }
}

/// What happened so far, over all connections.
#[derive(Default)]
struct Tally {
    acknowledged_items: Cell<u64>,
    acknowledged_requests: Cell<u64>,
    /// Acknowledged, but with something to say: some were rejected.
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
    let (mut source, start_ns) = Source::new(args);

    let runtime = super::runtime()?;
    let mut clients: Vec<Client> = (0..args.connections).map(|_| Client::new(args.endpoint.0)).collect();
    let tally = Tally::default();
    let cpu_before_s = args.pid.and_then(proc::cpu_s);
    let mut left = Duration::from_secs(args.seconds);
    let mut compressed_bytes = 0;
    let mut n_requests = 0;
    let mut prepared_items = 0;
    while prepared_items < args.total && !left.is_zero() {
        let bodies = prepare(&mut source, args, n_requests, args.total - prepared_items);
        n_requests += bodies.len();
        prepared_items += bodies.iter().map(|body| body.n_items as u64).sum::<u64>();
        compressed_bytes += bodies.iter().map(|body| body.compressed.len()).sum::<usize>();
        let start = Instant::now();
        let round = Round {
            signal: args.signal,
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
    let outcome = Outcome { n_requests, compressed_bytes, start_ns, wall_s, cpu_s, settled_cpu_s };
    Ok(report(args, &tally, &outcome))
}

/// Generates and compresses the next bodies, on all cores, until memory or the load is full.
fn prepare(source: &mut Source, args: &Args, first_idx: usize, n_items_left: u64) -> Vec<Body> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut bodies: Vec<Body> = Vec::new();
    let (mut round_bytes, mut n_items) = (0, 0);
    while n_items < n_items_left && round_bytes < MAX_ROUND_BYTES {
        let mut batch: Vec<Raw> = Vec::new();
        let mut raw_bytes = 0;
        while n_items < n_items_left && raw_bytes < MAX_RAW_BYTES {
            let raw = source.next(first_idx + bodies.len() + batch.len());
            raw_bytes += raw.body.len();
            n_items += raw.n_items as u64;
            batch.push(raw);
        }
        let compress = |part: &[Raw]| -> Vec<Body> {
            let body = |raw: &Raw| Body {
                request_idx: raw.request_idx,
                compressed: match args.signal {
                    Signal::Traces | Signal::OtlpMetrics | Signal::Logs => gzip(&raw.body, 6),
                    Signal::Metrics => snappy(&raw.body),
                },
                ids: if args.record.is_some() { raw.ids.clone() } else { Vec::new() },
                n_items: raw.n_items,
            };
            part.iter().map(body).collect()
        };
        let n_before = bodies.len();
        std::thread::scope(|scope| {
            let parts = batch.chunks(batch.len().div_ceil(n_threads));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || compress(part))).collect();
            for thread in threads {
                bodies.extend(thread.join().expect("invariant: compression does not panic"));
            }
        });
        round_bytes += bodies[n_before..].iter().map(|body| body.compressed.len()).sum::<usize>();
    }
    bodies
}

/// What the connections of a round share; they run on one thread.
struct Round<'a> {
    signal: Signal,
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
                    add(&tally.acknowledged_items, body.n_items as u64);
                    add(&tally.partial, u64::from(!answer.body.is_empty()));
                    return self.write_record(body);
                }
                Some(Ok(answer)) if !matches!(answer.status.as_u16(), 429 | 502..=504) => {
                    add(&tally.refused, 1);
                    tally.first_refusal.borrow_mut().get_or_insert_with(|| refusal(self.signal, &answer));
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
        let path = self.signal.path();
        let answer = async {
            match self.signal {
                Signal::Traces | Signal::OtlpMetrics | Signal::Logs => {
                    client.post_traces(path, body.compressed.clone()).await
                }
                Signal::Metrics => client.post_samples(path, body.compressed.clone()).await,
            }
        };
        tokio::time::timeout_at(deadline, answer).await.ok()
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

fn refusal(signal: Signal, answer: &Answer) -> Error {
    let body = String::from_utf8_lossy(&answer.body).chars().take(MAX_ANSWER_SHOWN).collect();
    Error::Answer { what: format!("POST {}", signal.path()), status: answer.status.as_u16(), body }
}

struct Outcome {
    n_requests: usize,
    compressed_bytes: usize,
    start_ns: i64,
    wall_s: f64,
    cpu_s: Option<f64>,
    settled_cpu_s: Option<f64>,
}

fn report(args: &Args, tally: &Tally, outcome: &Outcome) -> Report {
    let mut latencies_ms = tally.latencies_ms.take();
    latencies_ms.sort_by(f64::total_cmp);
    let name = args.signal.items();
    let n_items = tally.acknowledged_items.get() as f64;
    let requests = tally.acknowledged_requests.get();
    let unsent = outcome.n_requests as u64 - requests - tally.refused.get();
    let [p50_ms, p99_ms] = [0.5, 0.99].map(|share| quantile(&latencies_ms, share));
    let per_million = |cpu_s: Option<f64>| cpu_s.filter(|_| n_items > 0.0).map(|cpu_s| cpu_s * 1e6 / n_items);
    let (cpu, settled) = (per_million(outcome.cpu_s), per_million(outcome.settled_cpu_s));
    let peak_bytes = args.pid.and_then(|pid| proc::memory_bytes(pid, "VmHWM"));
    let mut rows = vec![row(["load", ""])];
    for (name, value) in [
        (format!("{name} acknowledged"), number(n_items, 0)),
        ("requests acknowledged".to_owned(), number(requests as f64, 0)),
        ("… with a partial success".to_owned(), number(tally.partial.get() as f64, 0)),
        ("requests refused".to_owned(), number(tally.refused.get() as f64, 0)),
        ("requests not acknowledged in time".to_owned(), number(unsent as f64, 0)),
        ("attempts sent again".to_owned(), number(tally.retries.get() as f64, 0)),
        ("seconds".to_owned(), number(outcome.wall_s, 2)),
        (format!("{name}/s"), number(n_items / outcome.wall_s.max(1e-9), 0)),
        ("latency p50 ms".to_owned(), number(p50_ms, 2)),
        ("latency p99 ms".to_owned(), number(p99_ms, 2)),
        (format!("server CPU s per million {name}"), number_or_dash(cpu, 2)),
        (format!("server CPU s per million {name}, settled"), number_or_dash(settled, 2)),
        ("server peak memory MB".to_owned(), number_or_dash(peak_bytes.map(|bytes| bytes as f64 / 1e6), 1)),
    ] {
        rows.push(vec![name, value]);
    }
    let json = json!({
        "bench": "load",
        "seed": args.seed,
        "start_ns": outcome.start_ns,
        "spans_per_request": args.spans_per_request,
        "connections": args.connections,
        "signal": name,
        (name): tally.acknowledged_items.get(),
        "requests": requests,
        "partial": tally.partial.get(),
        "refused": tally.refused.get(),
        "unsent": unsent,
        "retries": tally.retries.get(),
        "seconds": outcome.wall_s,
        (format!("{name}_per_s")): n_items / outcome.wall_s.max(1e-9),
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "compressed_bytes": outcome.compressed_bytes,
        "cpu_s": outcome.cpu_s,
        "settled_cpu_s": outcome.settled_cpu_s,
        (format!("cpu_s_per_million_{name}")): cpu,
        "peak_bytes": peak_bytes,
    });
    Report { rows, json }
}
