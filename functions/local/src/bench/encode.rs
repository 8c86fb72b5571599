//! `bench encode`: what a request costs between socket and storage, on one core.
//!
//! The path of an ingest function without its I/O: gunzip → decode → encode → bytes in memory.
//! First the whole path, one request after another, as the function runs it; then each stage by itself over a batch
//! of requests, because the scheduler counts CPU time too coarsely to cut a single request into stages.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use wire::otlp::{DecodedTraces, Format};
use wire::{Encoding, Limits};

use super::report::{Report, number, row};
use super::{Error, Result, proc};
use crate::traffic::{Traffic, client::gzip};

/// Arguments of `bench encode`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Spans in a request; 512 and 2048 one after the other without it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    spans: Option<u32>,
    /// Different requests to go through; as many as hold 65,536 spans without it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    requests: Option<u32>,
    /// Seconds for each size, half of them for the whole path
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Measures each size.
pub(super) fn run(args: &Args) -> Result<Report> {
    let sizes = args.spans.map_or_else(|| vec![512, 2_048], |spans| vec![spans]);
    let head =
        ["spans/request", "spans/s (CPU)", "spans/s (wall)", "gunzip ns", "decode ns", "encode ns", "sum ns"];
    let mut rows = vec![row(head)];
    rows[0].extend(["OTLP B/span", "gzip B/span", "file B/span", "traces/request"].map(str::to_owned));
    let mut results = Vec::new();
    for n_spans in sizes {
        let result = measure(args, n_spans as usize)?;
        let stages_ns = result.stages_ns.map(|ns| number(ns, 0));
        let sum_ns = number(result.stages_ns.iter().sum(), 0);
        let [gunzip, decode, encode] = &stages_ns;
        let whole =
            [number(f64::from(n_spans), 0), number(result.spans_per_cpu_s, 0), number(result.spans_per_s, 0)];
        let mut cells = whole.to_vec();
        cells.extend([gunzip.clone(), decode.clone(), encode.clone(), sum_ns]);
        cells.extend([result.otlp_bytes, result.gzip_bytes, result.file_bytes].map(|bytes| number(bytes, 1)));
        cells.push(number(result.traces_per_request, 0));
        rows.push(cells);
        results.push(json!({
            "spans_per_request": n_spans,
            "spans_per_cpu_s": result.spans_per_cpu_s,
            "spans_per_s": result.spans_per_s,
            "gunzip_ns": result.stages_ns[0],
            "decode_ns": result.stages_ns[1],
            "encode_ns": result.stages_ns[2],
            "otlp_bytes": result.otlp_bytes,
            "gzip_bytes": result.gzip_bytes,
            "file_bytes": result.file_bytes,
            "traces_per_request": result.traces_per_request,
        }));
    }
    Ok(Report { rows, json: json!({ "bench": "encode", "seed": args.seed, "results": results }) })
}

/// Rates of the whole path; the rest is per span.
struct Measured {
    spans_per_cpu_s: f64,
    spans_per_s: f64,
    stages_ns: [f64; 3],
    otlp_bytes: f64,
    gzip_bytes: f64,
    file_bytes: f64,
    traces_per_request: f64,
}

fn measure(args: &Args, n_spans: usize) -> Result<Measured> {
    let n_requests = args.requests.map_or(65_536_usize.div_ceil(n_spans), |requests| requests as usize);
    let mut traffic = Traffic::new(args.seed, edge::clock::now_ns());
    let (mut otlp_bytes, mut n_traces) = (0, 0);
    let mut bodies = Vec::with_capacity(n_requests);
    for _ in 0..n_requests {
        let request = traffic.next_request(n_spans);
        otlp_bytes += request.body.len();
        n_traces += request.n_traces();
        bodies.push(gzip(&request.body, 6));
    }
    let all_spans = (n_spans * n_requests) as f64;
    let limits = Limits::default();
    let half = Duration::from_secs_f64(args.seconds.clamp(0.0, 3_600.0) / 2.0);

    let mut file_bytes = 0;
    let (rounds, wall_s, cpu_s) = repeat(half, || {
        file_bytes = 0;
        for body in &bodies {
            file_bytes += encode(&decode(&gunzip(body, &limits)?, &limits)?);
        }
        Ok(())
    })?;
    let spans = all_spans * rounds;

    let share = half / 3;
    let mut raw = Vec::new();
    let gunzip_ns = stage_ns(share, all_spans, || {
        raw.clear();
        for body in &bodies {
            raw.push(gunzip(body, &limits)?);
        }
        Ok(())
    })?;
    let mut decoded = Vec::new();
    let decode_ns = stage_ns(share, all_spans, || {
        decoded.clear();
        for body in &raw {
            decoded.push(decode(body, &limits)?);
        }
        Ok(())
    })?;
    let encode_ns = stage_ns(share, all_spans, || {
        for columns in &decoded {
            encode(columns);
        }
        Ok(())
    })?;
    Ok(Measured {
        spans_per_cpu_s: spans / cpu_s,
        spans_per_s: spans / wall_s,
        stages_ns: [gunzip_ns, decode_ns, encode_ns],
        otlp_bytes: otlp_bytes as f64 / all_spans,
        gzip_bytes: bodies.iter().map(Bytes::len).sum::<usize>() as f64 / all_spans,
        file_bytes: file_bytes as f64 / all_spans,
        traces_per_request: n_traces as f64 / n_requests as f64,
    })
}

fn gunzip(body: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    wire::decompress(body, Encoding::Gzip, limits).map(std::borrow::Cow::into_owned).map_err(Error::Decode)
}

fn decode(body: &[u8], limits: &Limits) -> Result<DecodedTraces> {
    wire::otlp::decode_traces(body, Format::Protobuf, limits).map_err(Error::Decode)
}

/// The file's size; the bytes are dropped.
fn encode(decoded: &DecodedTraces) -> usize {
    std::hint::black_box(storage::block::spans::encode(&decoded.columns)).bytes.len()
}

/// CPU nanoseconds a span of a stage that goes over `n_spans` spans a round.
fn stage_ns(at_least: Duration, n_spans: f64, work: impl FnMut() -> Result<()>) -> Result<f64> {
    let (rounds, _, cpu_s) = repeat(at_least, work)?;
    Ok(cpu_s * 1e9 / (n_spans * rounds))
}

/// Rounds, wall seconds and CPU seconds of `work`, repeated until `at_least` has passed, after one round to warm up.
/// CPU seconds are wall seconds where the system does not tell.
fn repeat(at_least: Duration, mut work: impl FnMut() -> Result<()>) -> Result<(f64, f64, f64)> {
    work()?;
    let cpu_before_s = proc::this_thread_cpu_s();
    let start = Instant::now();
    let mut rounds = 0.0;
    while rounds < 1.0 || start.elapsed() < at_least {
        work()?;
        rounds += 1.0;
    }
    let wall_s = start.elapsed().as_secs_f64();
    let cpu_s = proc::this_thread_cpu_s().zip(cpu_before_s).map(|(after_s, before_s)| after_s - before_s);
    Ok((rounds, wall_s, cpu_s.filter(|cpu_s| *cpu_s > 0.0).unwrap_or(wall_s)))
}
