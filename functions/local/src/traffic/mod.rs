//! Telemetry of a small shop, made up: what the benchmarks send and the demo shows.
//!
//! [`Traffic`] makes OTLP trace requests as a collector in front of the shop would send them.
//! Shoppers arrive at random; each arrival is walked through the shop (`shop`, `trace`) and its spans wait until
//! they have ended. A request takes the next spans in order of their end, so a trace that takes a while spreads over
//! several requests, and groups them by pod and instrumentation scope. The bytes are protobuf, written directly
//! (`proto`) at more than a million spans a second; nothing here reads a clock, and a seed always gives the same bytes.
//!
//! At the default rate, over a million spans (FIGURES.md asks for the numbers in brackets):
//!
//! | spans a request | 512 | 2,048 |
//! |---|---|---|
//! | bytes of OTLP a span | 563 (565) | 488 (495) |
//! | gzip -6, bytes a span | 93 (87) | 72 (87) |
//! | traces in a request | 46 | 141 (140) |
//! | pods in a request | 64 | 83 |
//!
//! 17.9 spans a trace, 10.7 attributes a span (8 to 18), 20 a resource; 1.2 % of the spans failed, 2.6 % have an event,
//! 1.4 % a link.

mod attributes;
pub(crate) mod client;
mod failures;
pub mod logs;
mod pods;
mod proto;
mod random;
pub mod scrapes;
mod shop;
mod statements;
mod trace;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use model::{SpanId, TraceId};

use attributes::Shopper;
use pods::Pods;
use random::Random;
use trace::{Sent, Span, Walk};

/// Traces that start in a second, unless told otherwise.
pub const DEFAULT_TRACES_PER_SECOND: f64 = 1_000.0;

/// Spans of a trace, on average.
pub const MEAN_SPANS_PER_TRACE: f64 = 17.9;

/// An endless stream of trace requests.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    pods: Pods,
    mean_gap_ns: f64,
    next_arrival_ns: i64,
    /// Spans that have not been handed out, in no order; a freed place is used again.
    waiting: Vec<Option<Span>>,
    free: Vec<usize>,
    /// End and place in `waiting`, earliest first.
    by_end: BinaryHeap<Reverse<(i64, usize)>>,
    spare: Vec<Vec<u8>>,
    sent: Vec<Sent>,
    walked: Vec<Span>,
    text: String,
}

/// One `ExportTraceServiceRequest`.
#[derive(Debug, Clone)]
pub struct Request {
    /// Protobuf, not compressed.
    pub body: Vec<u8>,
    /// Trace and span of each span, in order of their end.
    pub ids: Vec<(TraceId, SpanId)>,
    /// Earliest start; 0 without spans.
    pub first_start_ns: i64,
    /// Latest end; 0 without spans.
    pub last_end_ns: i64,
}

impl Request {
    /// Spans in the request.
    pub fn n_spans(&self) -> usize {
        self.ids.len()
    }

    /// Different traces in the request.
    pub fn n_traces(&self) -> usize {
        self.ids.iter().map(|(trace_id, _)| trace_id).collect::<HashSet<_>>().len()
    }
}

/// A search that finds something: spans of a service with an attribute, and no shorter than a duration.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The resource's `service.name`.
    pub service: &'static str,
    /// Key of a span attribute.
    pub key: &'static str,
    /// Its value.
    pub value: &'static str,
    /// Shortest span that matches.
    pub min_duration_ms: u32,
}

/// Matches several hundred of a million spans: a search for 20 traces has to choose.
pub const SEARCH: Search =
    Search { service: "checkout", key: "payment.provider", value: "adyen", min_duration_ms: 100 };

/// Matches a few dozen of a million spans, whatever they took.
pub const RARE: Search =
    Search { service: "checkout", key: "customer.tier", value: "founder", min_duration_ms: 0 };

impl Traffic {
    /// Traffic from `start_ns` on. The same seed gives the same spans; another start moves them in time only.
    pub fn new(seed: u64, start_ns: i64) -> Self {
        let mut random = Random::new(seed);
        let pods = Pods::new(&mut random);
        Self {
            random,
            pods,
            mean_gap_ns: 1e9 / DEFAULT_TRACES_PER_SECOND,
            next_arrival_ns: start_ns,
            waiting: Vec::new(),
            free: Vec::new(),
            by_end: BinaryHeap::new(),
            spare: Vec::new(),
            sent: Vec::new(),
            walked: Vec::new(),
            text: String::new(),
        }
    }

    /// The same traffic with another number of shoppers.
    #[must_use]
    pub fn with_rate(mut self, traces_per_second: f64) -> Self {
        self.mean_gap_ns = 1e9 / traces_per_second;
        self
    }

    /// The next `n_spans` spans in order of their end.
    pub fn next_request(&mut self, n_spans: usize) -> Request {
        let mut spans = Vec::with_capacity(n_spans);
        while spans.len() < n_spans {
            spans.extend(self.pop_before(i64::MAX));
        }
        self.assemble(spans)
    }

    /// All spans that end before `end_ns` and were not handed out.
    pub fn request_until(&mut self, end_ns: i64) -> Request {
        let mut spans = Vec::new();
        while let Some(span) = self.pop_before(end_ns) {
            spans.push(span);
        }
        self.assemble(spans)
    }

    /// The span that ends next, if it ends before `end_ns`.
    fn pop_before(&mut self, end_ns: i64) -> Option<Span> {
        // Who arrives later ends later: nobody has to be walked before the next end is reached.
        while self.next_arrival_ns < end_ns
            && self.by_end.peek().is_none_or(|Reverse((end_ns, _))| *end_ns >= self.next_arrival_ns)
        {
            self.arrive();
        }
        let Reverse((span_end_ns, place)) = *self.by_end.peek()?;
        if span_end_ns >= end_ns {
            return None;
        }
        self.by_end.pop();
        self.free.push(place);
        self.waiting[place].take()
    }

    fn arrive(&mut self) {
        let start_ns = self.next_arrival_ns;
        self.next_arrival_ns += (-self.random.unit().ln() * self.mean_gap_ns) as i64 + 1;
        let mut lot = self.random.below(1_000);
        let entry = shop::ENTRIES.iter().find(|(weight, _)| {
            let found = lot < u64::from(*weight);
            lot = lot.saturating_sub(u64::from(*weight));
            found
        });
        let (_, entry) = entry.expect("invariant: the weights add up to 1,000");
        let shopper = Shopper::new(&mut self.random);
        Walk {
            pods: &self.pods,
            random: &mut self.random,
            shopper,
            spans: &mut self.walked,
            spare: &mut self.spare,
            sent: &mut self.sent,
            text: &mut self.text,
        }
        .run(entry, start_ns);
        for span in self.walked.drain(..) {
            let end_ns = span.end_ns;
            let place = self.free.pop().unwrap_or_else(|| {
                self.waiting.push(None);
                self.waiting.len() - 1
            });
            self.waiting[place] = Some(span);
            self.by_end.push(Reverse((end_ns, place)));
        }
    }

    /// Groups `spans` by pod and scope and writes the request.
    fn assemble(&mut self, mut spans: Vec<Span>) -> Request {
        let ids = spans.iter().map(|span| (span.trace_id, span.id)).collect();
        let first_start_ns = spans.iter().map(|span| span.start_ns).min().unwrap_or(0);
        let last_end_ns = spans.last().map_or(0, |span| span.end_ns);
        spans.sort_by_key(|span| (span.pod_idx, span.layer));

        let span_len = |span: &Span| proto::field_len(span.body.len());
        let mut body = Vec::with_capacity(spans.iter().map(span_len).sum::<usize>() * 3 / 2);
        for of_pod in spans.chunk_by(|a, b| a.pod_idx == b.pod_idx) {
            let pod_idx = of_pod[0].pod_idx;
            let resource = &self.pods.all[pod_idx].resource;
            let scope_len = |of_scope: &[Span]| {
                self.pods.scope(pod_idx, of_scope[0].layer).len()
                    + of_scope.iter().map(span_len).sum::<usize>()
            };
            let by_scope = || of_pod.chunk_by(|a, b| a.layer == b.layer);
            let scopes_len: usize = by_scope().map(|of_scope| proto::field_len(scope_len(of_scope))).sum();
            proto::header(&mut body, 1, resource.len() + scopes_len);
            body.extend_from_slice(resource);
            for of_scope in by_scope() {
                proto::header(&mut body, 2, scope_len(of_scope));
                body.extend_from_slice(self.pods.scope(pod_idx, of_scope[0].layer));
                for span in of_scope {
                    proto::bytes(&mut body, 2, &span.body);
                }
            }
        }
        self.spare.extend(spans.into_iter().map(|mut span| {
            span.body.clear();
            span.body
        }));
        Request { body, ids, first_start_ns, last_end_ns }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write as _;

    use super::*;

    fn gzip_len(body: &[u8]) -> usize {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(body).expect("a vector takes all");
        encoder.finish().expect("a vector takes all").len()
    }

    /// Bytes, gzip bytes and traces a request, over requests of `n_spans` spans.
    fn measure(n_spans: usize, n_requests: usize) -> (f64, f64, f64) {
        let mut traffic = Traffic::new(3, 0);
        traffic.next_request(20_000);
        let (mut raw, mut gzip, mut traces) = (0, 0, 0);
        for _ in 0..n_requests {
            let request = traffic.next_request(n_spans);
            raw += request.body.len();
            gzip += gzip_len(&request.body);
            traces += request.n_traces();
        }
        let spans = (n_spans * n_requests) as f64;
        (raw as f64 / spans, gzip as f64 / spans, traces as f64 / n_requests as f64)
    }

    #[test]
    fn requests_are_as_large_as_those_of_the_benchmark() {
        let check = |n_spans, n_requests, expect: [f64; 3]| {
            let (raw, gzip, traces) = measure(n_spans, n_requests);
            for (name, found, expect) in
                [("bytes", raw, expect[0]), ("gzip", gzip, expect[1]), ("traces", traces, expect[2])]
            {
                assert!(
                    (found / expect - 1.0).abs() < 0.1,
                    "{name} of {n_spans} spans: {found}, expected {expect}"
                );
            }
        };
        check(512, 16, [565.0, 93.0, 46.0]);
        check(2_048, 4, [495.0, 72.0, 140.0]);
    }

    #[test]
    fn a_seed_always_gives_the_same_bytes_and_another_start_moves_them_in_time() {
        let make = |seed, start_ns| {
            let mut traffic = Traffic::new(seed, start_ns);
            (0..5).map(|_| traffic.next_request(300)).collect::<Vec<_>>()
        };
        let (first, again, moved, other) = (make(7, 0), make(7, 0), make(7, 1_000), make(8, 0));
        for ((a, b), (c, d)) in first.iter().zip(&again).zip(moved.iter().zip(&other)) {
            assert_eq!(a.body, b.body);
            assert_eq!(
                (&a.ids, a.first_start_ns + 1_000, a.last_end_ns + 1_000),
                (&c.ids, c.first_start_ns, c.last_end_ns)
            );
            assert!(a.body != c.body && a.body != d.body && a.ids != d.ids);
        }
    }

    #[test]
    fn every_span_is_valid_otlp() {
        let mut traffic = Traffic::new(5, 1_000_000_000);
        let mut services = HashSet::new();
        for _ in 0..8 {
            let request = traffic.next_request(512);
            let limits = wire::Limits::default();
            let decoded = wire::otlp::decode_traces(&request.body, wire::otlp::Format::Protobuf, &limits);
            let decoded = decoded.expect("a request of ours");
            assert_eq!(
                (decoded.columns.len(), decoded.rejected_spans),
                (512, 0),
                "{}",
                decoded.error_message
            );
            services.extend((0..512).map(|row| decoded.columns.origins.service.get(row).to_owned()));
        }
        for service in &shop::SERVICES {
            assert!(services.contains(service.name), "{} is idle", service.name);
        }
    }

    #[test]
    fn each_span_comes_once_in_order_of_its_end() {
        let mut traffic = Traffic::new(9, 0);
        let mut seen = HashSet::new();
        let mut last_end_ns = 0;
        for _ in 0..20 {
            let request = traffic.next_request(500);
            assert!(request.last_end_ns >= last_end_ns);
            last_end_ns = request.last_end_ns;
            assert!(request.ids.iter().all(|id| seen.insert(*id)));
        }
        let rest = traffic.request_until(last_end_ns + 1_000_000_000);
        assert!(rest.ids.len() > 5_000, "{}", rest.ids.len());
        assert!(rest.ids.iter().all(|id| seen.insert(*id)));
        let mut n_spans = HashMap::new();
        for (trace_id, _) in seen {
            *n_spans.entry(trace_id).or_insert(0) += 1;
        }
        let mean = f64::from(n_spans.values().sum::<i32>()) / n_spans.len() as f64;
        assert!((16.5..19.5).contains(&mean), "{mean} spans a trace");
    }

    #[test]
    fn the_searches_find_something_but_not_much() {
        let mut traffic = Traffic::new(11, 0);
        let count = |spans: &[Span], traffic: &Traffic, search: Search| {
            let mut attribute = Vec::new();
            proto::attribute(&mut attribute, 9, search.key, search.value.into());
            let matches = |span: &&Span| {
                shop::SERVICES[traffic.pods.all[span.pod_idx].service].name == search.service
                    && span.end_ns - span.start_ns >= i64::from(search.min_duration_ms) * 1_000_000
                    && span.body.windows(attribute.len()).any(|part| part == attribute)
            };
            spans.iter().filter(matches).count()
        };
        let spans: Vec<Span> = (0..200_000).map_while(|_| traffic.pop_before(i64::MAX)).collect();
        let (often, rarely) = (count(&spans, &traffic, SEARCH), count(&spans, &traffic, RARE));
        assert!((60..200).contains(&often), "{often} of 200,000");
        assert!((1..20).contains(&rarely), "{rarely} of 200,000");
    }

    #[test]
    fn the_shop_has_86_pods_and_its_entries_fill_the_lottery() {
        assert_eq!(shop::SERVICES.iter().map(|service| u32::from(service.n_pods)).sum::<u32>(), 86);
        assert_eq!(shop::ENTRIES.iter().map(|(weight, _)| weight).sum::<u16>(), 1_000);
    }
}
