//! `bench promql`: range queries over what `bench load --signal metrics` has sent, on any server with Prometheus' API.
//!
//! Thirteen queries as dashboards have them, over the hours before the newest sample, a minute between steps. One
//! connection, one request at a time; reading the answer is within the clock, parsing it is not. The first answer of
//! each query is not counted.

use std::time::Instant;

use serde_json::{Value, json};

use super::query::{get, percent_encode};
use super::report::{Report, number, number_or_dash, row};
use super::{Error, Loopback, Result, proc, quantile};
use crate::traffic::client::Client;

/// Name and expression.
const QUERIES: [(&str, &str); 13] = [
    ("gauge of one service", r#"process_resident_memory_bytes{job="checkout"}"#),
    ("rate over all pods", "rate(http_server_requests_total[5m])"),
    ("sum by rate", "sum by (job) (rate(http_server_requests_total[5m]))"),
    (
        "error ratio",
        r#"sum(rate(http_server_requests_total{status=~"5.."}[5m])) / sum(rate(http_server_requests_total[5m]))"#,
    ),
    (
        "histogram_quantile by job",
        "histogram_quantile(0.95, sum by (job, le) (rate(http_server_request_duration_seconds_bucket[5m])))",
    ),
    (
        "histogram_quantile over all",
        "histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket[5m])))",
    ),
    ("topk of rates", "topk(10, rate(http_server_requests_total[5m]))"),
    ("regex match", r#"sum(rate(network_receive_bytes_total{pod=~"(cart|checkout|auth)-.*"}[5m])) by (job)"#),
    (
        "join with target_info",
        "sum by (service_version) (rate(process_cpu_seconds_total[5m]) * on (job, instance) group_left (service_version) target_info)",
    ),
    ("max_over_time of a subquery", "max_over_time(sum(rate(http_server_requests_total[5m]))[30m:1m])"),
    ("avg_over_time with offset", "avg_over_time(process_open_fds[10m] offset 1h)"),
    ("quantile over pods", "quantile by (job) (0.9, runtime_heap_bytes)"),
    ("count of all series", r#"count({__name__=~".+"})"#),
];
const STEP_S: f64 = 60.0;

/// Arguments of `bench promql`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A server with Prometheus' API; loopback only
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    endpoint: Loopback,
    /// What stands before `/api/v1`, such as `/prometheus` on the one endpoint
    #[arg(long, default_value = "")]
    prefix: String,
    /// Hours before the newest sample
    #[arg(long, default_value_t = 6.0)]
    hours: f64,
    /// How often each query is asked
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Process of the server, to read its CPU time
    #[arg(long)]
    pid: Option<u32>,
}

/// Asks everything and reports.
pub(super) fn run(args: &Args) -> Result<Report> {
    super::runtime()?.block_on(async {
        let mut client = Client::new(args.endpoint.0);
        let api = format!("{}/api/v1", args.prefix.trim_end_matches('/'));
        let end_s = newest_sample_s(&mut client, &api).await?;
        let start_s = end_s - args.hours * 3600.0;
        let mut rows = vec![row(["query", "p50 ms", "CPU ms", "series", "bytes"])];
        let mut results = Vec::new();
        let (mut cpu_in_all, mut p50_in_all) = (Some(0.0), 0.0);
        for (name, expression) in QUERIES {
            let query = percent_encode(expression);
            let path = format!("{api}/query_range?query={query}&start={start_s}&end={end_s}&step={STEP_S}");
            let (answer, _) = get(&mut client, &path, 200).await?;
            let n_series = answer["data"]["result"].as_array().map_or(0, Vec::len);
            let cpu_before_s = args.pid.and_then(proc::cpu_s);
            let mut latencies_ms = Vec::new();
            let mut n_bytes = 0;
            for _ in 0..args.repeat {
                let start = Instant::now();
                let answer = client.get(&path).await.map_err(Error::NoAnswer)?;
                latencies_ms.push(start.elapsed().as_secs_f64() * 1e3);
                n_bytes = answer.body.len();
            }
            let cpu_s = args
                .pid
                .and_then(proc::cpu_s)
                .zip(cpu_before_s)
                .map(|(after_s, before_s)| after_s - before_s);
            let cpu_ms = cpu_s.map(|cpu_s| cpu_s * 1e3 / f64::from(args.repeat));
            latencies_ms.sort_by(f64::total_cmp);
            let p50_ms = quantile(&latencies_ms, 0.5);
            p50_in_all += p50_ms;
            cpu_in_all = cpu_in_all.zip(cpu_ms).map(|(sum, cpu_ms)| sum + cpu_ms);
            rows.push(vec![
                name.to_owned(),
                number(p50_ms, 1),
                number_or_dash(cpu_ms, 0),
                number(n_series as f64, 0),
                number(n_bytes as f64, 0),
            ]);
            results.push(json!({
                "query": name, "p50_ms": p50_ms, "cpu_ms": cpu_ms, "series": n_series, "bytes": n_bytes,
            }));
        }
        rows.push(vec![
            "in all".to_owned(),
            number(p50_in_all, 1),
            number_or_dash(cpu_in_all, 0),
            String::new(),
            String::new(),
        ]);
        let peak_bytes = args.pid.and_then(|pid| proc::memory_bytes(pid, "VmHWM"));
        rows.push(vec![
            "server peak memory MB".to_owned(),
            number_or_dash(peak_bytes.map(|bytes| bytes as f64 / 1e6), 1),
            String::new(),
            String::new(),
            String::new(),
        ]);
        let json = json!({
            "bench": "promql", "hours": args.hours, "repeat": args.repeat, "cpu_ms_in_all": cpu_in_all,
            "p50_ms_in_all": p50_in_all, "peak_bytes": peak_bytes, "results": results,
        });
        Ok(Report { rows, json })
    })
}

/// When the newest sample of `up` within a day was scraped, in s since the epoch.
async fn newest_sample_s(client: &mut Client, api: &str) -> Result<f64> {
    let query = percent_encode("max(last_over_time(timestamp(up)[1d:15s]))");
    let (answer, _) = get(client, &format!("{api}/query?query={query}"), 200).await?;
    let value: &Value = &answer["data"]["result"][0]["value"][1];
    let seconds = value.as_str().and_then(|text| text.parse::<f64>().ok());
    Ok(seconds.ok_or(Error::Nothing("no sample of `up` within a day"))?.floor())
}
