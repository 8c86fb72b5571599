//! The shop's log records as OTLP's messages: what a collector in front of its pods sends.
//!
//! Source of the field numbers: opentelemetry-proto `logs.proto`, `common.proto`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::failures;
use super::pods::Pods;
use super::proto::{self, Value};
use super::random::Random;
use super::shop::SERVICES;

/// Records in a second.
pub const RECORDS_PER_SECOND: f64 = 2_000.0;

const ROUTES: [&str; 6] =
    ["/cart", "/cart/items", "/checkout", "/search", "/products/{id}", "/recommendations"];
const LOGGERS: [&str; 4] = ["http.server", "shop.domain", "shop.cache", "shop.worker"];

/// An endless stream of requests with log records in order of their time.
#[derive(Debug)]
pub struct Lines {
    random: Random,
    pods: Pods,
    time_ns: i64,
    text: String,
}

impl Lines {
    /// Log records from `start_ns` on. The same seed gives the same; another start moves them in time only.
    pub fn new(seed: u64, start_ns: i64) -> Self {
        let mut random = Random::new(seed);
        let pods = Pods::new(&mut random);
        Self { random, pods, time_ns: start_ns, text: String::new() }
    }

    /// An `ExportLogsServiceRequest` with the next `n_records`, not compressed.
    pub fn next_request(&mut self, n_records: usize) -> Vec<u8> {
        let mut by_pod: BTreeMap<(usize, usize), Vec<u8>> = BTreeMap::new();
        for _ in 0..n_records {
            self.time_ns += (1e9 / RECORDS_PER_SECOND * 2.0 * self.random.unit()) as i64;
            let pod = self.random.skewed(self.pods.all.len() as u64) as usize;
            let logger = self.random.skewed(LOGGERS.len() as u64) as usize;
            let record = self.record(pod);
            proto::bytes(by_pod.entry((pod, logger)).or_default(), 2, &record);
        }
        let mut body = Vec::new();
        for ((pod, logger), records) in by_pod {
            let mut scope = Vec::new();
            proto::bytes(&mut scope, 1, LOGGERS[logger].as_bytes());
            let mut of_scope = Vec::new();
            proto::bytes(&mut of_scope, 1, &scope);
            of_scope.extend_from_slice(&records);
            let mut of_resource = self.pods.all[pod].resource.clone();
            proto::bytes(&mut of_resource, 2, &of_scope);
            proto::bytes(&mut body, 1, &of_resource);
        }
        body
    }

    fn record(&mut self, pod: usize) -> Vec<u8> {
        let Self { random, pods, time_ns, text } = self;
        let service = &SERVICES[pods.all[pod].service];
        let mut out = Vec::with_capacity(400);
        proto::fixed64(&mut out, 1, *time_ns as u64);
        proto::fixed64(&mut out, 11, (*time_ns + 1_000_000 + random.below(40_000_000) as i64) as u64);
        let (number, name) = match random.below(100) {
            0..=1 => (17, "ERROR"),
            2..=6 => (13, "WARN"),
            7..=14 => (5, "DEBUG"),
            _ => (9, "INFO"),
        };
        proto::number(&mut out, 2, number);
        proto::bytes(&mut out, 3, name.as_bytes());
        let route = random.pick(&ROUTES);
        let (status, took_ms) = (if number == 17 { 500 } else { 200 }, random.log_normal(12.0, 0.9));
        text.clear();
        // A string takes any text.
        let _ = match (number, random.below(4)) {
            (17, _) => write!(text, "request failed: {route} after {took_ms:.1} ms"),
            (5, _) => write!(text, "cache miss for key cart:{:08x}", random.next() as u32),
            (_, 0) => write!(text, "GET {route} {status} {took_ms:.1}ms"),
            (_, 1) => {
                write!(text, "order {} accepted for customer {}", random.below(1 << 40), random.below(50_000))
            }
            (_, 2) => {
                write!(text, "{} items reserved in warehouse {}", random.below(9) + 1, random.below(12))
            }
            _ => write!(text, "connection to {} is back after {} tries", service.namespace, random.below(5)),
        };
        let mut body = Vec::new();
        proto::bytes(&mut body, 1, text.as_bytes());
        proto::bytes(&mut out, 5, &body);
        proto::attribute(&mut out, 6, "http.route", Value::Text(route));
        proto::attribute(&mut out, 6, "http.response.status_code", Value::Int(status));
        proto::attribute(&mut out, 6, "thread.id", Value::Int(random.below(64) as i64));
        proto::attribute(&mut out, 6, "duration_ms", Value::Double((took_ms * 1e3).round() / 1e3));
        if number == 17 {
            let exception = random.pick(failures::exceptions(service.language));
            proto::attribute(&mut out, 6, "exception.type", Value::Text(exception.kind));
            proto::attribute(&mut out, 6, "exception.stacktrace", Value::Text(exception.stack));
        }
        // Work in the background has no trace.
        if random.chance(7_000) {
            let ids = [random.next(), random.next(), random.next()].map(u64::to_be_bytes).concat();
            proto::bytes(&mut out, 9, &ids[..16]);
            proto::bytes(&mut out, 10, &ids[16..]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_log_records_of_the_shop() {
        let body = Lines::new(1, 1_000_000_000).next_request(300);
        assert_eq!(body, Lines::new(1, 1_000_000_000).next_request(300));
        let decoded = wire::otlp::decode_logs(&body, wire::otlp::Format::Protobuf, &wire::Limits::default());
        let decoded = decoded.expect("OTLP");
        assert_eq!((decoded.columns.len(), decoded.rejected_log_records), (300, 0));
        let has_trace = decoded.columns.trace_id.iter().filter(|id| !id.is_zero()).count();
        assert!((150..270).contains(&has_trace), "{has_trace}");
        let attributes: usize = (0..300).map(|row| decoded.columns.attributes.row(row).count()).sum();
        assert!(attributes >= 1200, "{attributes}");
    }
}
