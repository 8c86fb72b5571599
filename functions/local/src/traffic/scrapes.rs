//! Metrics of the shop, as a Prometheus that scrapes its pods would send them by remote write.
//!
//! Each of the 86 pods has about 116 series: of its runtime, its HTTP server (counters and a histogram by route), its
//! database clients and its queues, and one `target_info`: 10,000 series in all. A scrape brings one sample of each
//! series; requests hold 2,000 of them, wherever a scrape ends, as Prometheus' queue sends them. Halfway through, one service in four is rolled
//! out: its pods get new names, and the old ones' series end with stale markers. Or the same series as the pods' SDKs
//! would send them through a Collector by OTLP.

mod otlp;

use super::proto;
use super::random::Random;
use super::shop::SERVICES;

/// Ms between two scrapes of a pod.
pub const SCRAPE_MS: i64 = 15_000;
/// Most series in a request.
const SERIES_PER_REQUEST: usize = 2_000;
/// The value that says that a series has ended.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

const ROUTES: [&str; 5] = ["/", "/cart", "/api/products/{id}", "/api/orders", "/healthz"];
const STATUSES: [&str; 3] = ["200", "404", "500"];
/// Upper bounds of the histogram, and what share of the requests is at or below, of 1,000.
const BOUNDS: [(&str, u64); 13] = [
    ("0.005", 120),
    ("0.01", 300),
    ("0.025", 520),
    ("0.05", 690),
    ("0.075", 780),
    ("0.1", 840),
    ("0.25", 930),
    ("0.5", 965),
    ("0.75", 980),
    ("1", 988),
    ("2.5", 996),
    ("5", 999),
    ("+Inf", 1_000),
];
/// Gauges and counters of the runtime: name, whether it counts, and how large it is.
const RUNTIME: [(&str, bool, f64); 16] = [
    ("process_resident_memory_bytes", false, 150e6),
    ("process_virtual_memory_bytes", false, 1.2e9),
    ("process_open_fds", false, 90.0),
    ("process_threads", false, 24.0),
    ("process_cpu_seconds_total", true, 2.4),
    ("runtime_heap_bytes", false, 80e6),
    ("runtime_heap_objects", false, 600e3),
    ("runtime_gc_cycles_total", true, 2.0),
    ("runtime_gc_pause_seconds_total", true, 0.004),
    ("runtime_allocated_bytes_total", true, 40e6),
    ("network_receive_bytes_total", true, 300e3),
    ("network_transmit_bytes_total", true, 900e3),
    ("network_receive_packets_total", true, 800.0),
    ("network_transmit_packets_total", true, 900.0),
    ("disk_read_bytes_total", true, 4096.0),
    ("disk_written_bytes_total", true, 65536.0),
];

/// How the value of a series moves from scrape to scrape.
#[derive(Debug, Clone, Copy)]
enum Motion {
    /// Around a middle, whole numbers.
    Gauge { middle: f64 },
    /// Up by about so much, in hundredths where `fine`.
    Counter { mean: f64, fine: bool },
    /// Part of a histogram: so many of a thousand of what its `requests` counts.
    Bucket { requests: usize, share: u64 },
    /// Sum of a histogram whose count is at `requests`.
    Sum { requests: usize },
    /// Always the same.
    Constant(f64),
}

#[derive(Debug)]
struct OneSeries {
    /// The encoded labels, each with its tag and length.
    labels: Vec<u8>,
    name: String,
    /// What OTLP says of it beside its resource: encoded attributes, each with its key and value.
    attributes: Vec<Vec<u8>>,
    motion: Motion,
    value: f64,
}

#[derive(Debug)]
struct Target {
    /// The encoded resource of OTLP, with the attributes that all series share.
    resource: Vec<u8>,
    series: Vec<OneSeries>,
    /// Ms after the start of a round.
    offset_ms: i64,
    /// The round from which on it is there, and the one in which it is gone.
    rounds: std::ops::Range<u64>,
}

/// An endless stream of scrapes.
#[derive(Debug)]
pub struct Scrapes {
    random: Random,
    targets: Vec<Target>,
    start_ms: i64,
    round: u64,
    /// The request that is not full yet, with its samples. A sender's queue knows no scrapes: what one leaves over is
    /// sent with the next.
    open: (Vec<u8>, usize),
    protocol: Protocol,
}

/// How the series are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// By remote write 1.0, a sample of each.
    RemoteWrite,
    /// By OTLP, metrics of one pod together; a histogram is one point.
    Otlp,
}

/// What a round of scrapes of all pods fills, as bodies of remote write 1.0 before compression, each with its samples.
pub type Round = Vec<(Vec<u8>, usize)>;

impl Scrapes {
    /// Scrapes from `start_ms` on, with a roll-out after `n_rounds / 2`. The same seed gives the same values.
    pub fn new(seed: u64, start_ms: i64, n_rounds: u64, protocol: Protocol) -> Self {
        let mut random = Random::new(seed);
        let mut targets = Vec::new();
        for (service_idx, service) in SERVICES.iter().enumerate() {
            let is_rolled_out = service_idx % 4 == 3;
            for pod_idx in 0..service.n_pods {
                let end = if is_rolled_out { n_rounds / 2 } else { u64::MAX };
                targets.push(target(service_idx, pod_idx as usize, 0, 0..end, &mut random));
                if is_rolled_out {
                    targets.push(target(service_idx, pod_idx as usize, 1, end..u64::MAX, &mut random));
                }
            }
        }
        Self { random, targets, start_ms, round: 0, open: (Vec::new(), 0), protocol }
    }

    /// The series that are there at the start.
    pub fn n_series(&self) -> usize {
        self.targets
            .iter()
            .filter(|target| target.rounds.contains(&0))
            .map(|target| target.series.len())
            .sum()
    }

    /// The requests that the next round fills.
    pub fn next_round(&mut self) -> Round {
        let mut requests = Round::new();
        let time_ms = self.start_ms + self.round as i64 * SCRAPE_MS;
        for target in &mut self.targets {
            let is_over = target.rounds.end == self.round;
            if !target.rounds.contains(&self.round) && !is_over {
                continue;
            }
            let counts = advance(&mut target.series, &mut self.random);
            if self.protocol == Protocol::Otlp {
                // An SDK says nothing when it ends.
                if !is_over {
                    otlp::push_target(&mut self.open.0, target, time_ms + target.offset_ms);
                    self.open.1 += target.series.len();
                }
                if self.open.1 >= SERIES_PER_REQUEST {
                    requests.push(std::mem::take(&mut self.open));
                }
                continue;
            }
            for (series, value) in target.series.iter().zip(counts) {
                let bits = if is_over { STALE_BITS } else { value.to_bits() };
                let (body, n_samples) = &mut self.open;
                push_series(body, &series.labels, bits, time_ms + target.offset_ms);
                *n_samples += 1;
                if *n_samples == SERIES_PER_REQUEST {
                    requests.push(std::mem::take(&mut self.open));
                }
            }
        }
        self.round += 1;
        requests
    }
}

/// Moves every series of a pod and returns their values.
fn advance(series: &mut [OneSeries], random: &mut Random) -> Vec<f64> {
    for position in 0..series.len() {
        let value = series[position].value;
        series[position].value = match series[position].motion {
            Motion::Gauge { middle } => {
                let moved = value + (random.unit() - 0.5) * middle * 0.02 + (middle - value) * 0.05;
                moved.round().max(0.0)
            }
            Motion::Counter { mean, fine } => {
                let step = mean * 2.0 * random.unit();
                let step = if fine { (step * 100.0).round() / 100.0 } else { step.round() };
                let sum = value + step;
                if fine { (sum * 100.0).round() / 100.0 } else { sum }
            }
            Motion::Bucket { requests, share } => (series[requests].value * share as f64 / 1_000.0).floor(),
            Motion::Sum { requests } => (series[requests].value * 0.071 * 1e6).round() / 1e6,
            Motion::Constant(constant) => constant,
        };
    }
    series.iter().map(|series| series.value).collect()
}

fn push_series(body: &mut Vec<u8>, labels: &[u8], value_bits: u64, time_ms: i64) {
    let sample_len = 9 + 1 + proto::varint_len(time_ms as u64);
    proto::header(body, 1, labels.len() + proto::field_len(sample_len));
    body.extend_from_slice(labels);
    proto::header(body, 2, sample_len);
    proto::fixed64(body, 1, value_bits);
    proto::number(body, 2, time_ms as u64);
}

fn target(
    service_idx: usize,
    pod_idx: usize,
    generation: u64,
    rounds: std::ops::Range<u64>,
    random: &mut Random,
) -> Target {
    let service = &SERVICES[service_idx];
    let replica_set = random.next();
    let pod = format!("{}-{:010x}-{:05x}", service.name, replica_set >> 24, random.below(1 << 20));
    let instance =
        format!("10.{}.{}.{}:8080", 40 + service_idx % 3, 16 + pod_idx, 2 + random.below(250) + generation);
    let common: Vec<(&str, &str)> = vec![
        ("cluster", "shop-blue"),
        ("instance", &instance),
        ("job", service.name),
        ("namespace", service.namespace),
        ("pod", &pod),
    ];
    let mut series = Vec::new();
    let mut add = |name: &str, more: &[(&str, &str)], motion: Motion, value: f64| {
        series.push(OneSeries {
            labels: encoded_labels(name, &common, more),
            name: name.to_owned(),
            attributes: more.iter().map(|(key, text)| otlp::attribute(key, text)).collect(),
            motion,
            value,
        });
        series.len() - 1
    };
    add("up", &[], Motion::Constant(1.0), 1.0);
    let info = [("service_version", service.version), ("telemetry_sdk_language", "rust")];
    add("target_info", &info, Motion::Constant(1.0), 1.0);
    for (name, counts, size) in RUNTIME {
        let motion = if counts {
            Motion::Counter { mean: size, fine: size < 10.0 }
        } else {
            Motion::Gauge { middle: size }
        };
        add(name, &[], motion, if counts { 0.0 } else { size.round() });
    }
    for state in ["idle", "used", "pending"] {
        add("db_client_connections", &[("state", state)], Motion::Gauge { middle: 12.0 }, 10.0);
    }
    for queue in ["orders", "mails"] {
        add("queue_messages", &[("queue", queue)], Motion::Gauge { middle: 400.0 }, 400.0);
    }
    for (route_idx, route) in ROUTES.into_iter().enumerate() {
        let busy = 300.0 / (1 + route_idx) as f64;
        for (status_idx, status) in STATUSES.into_iter().enumerate() {
            let mean = busy / [1.0, 50.0, 200.0][status_idx];
            let labels = [("method", "GET"), ("route", route), ("status", status)];
            add("http_server_requests_total", &labels, Motion::Counter { mean, fine: false }, 0.0);
        }
        let labels = [("method", "GET"), ("route", route)];
        let motion = Motion::Counter { mean: busy, fine: false };
        let requests = add("http_server_request_duration_seconds_count", &labels, motion, 0.0);
        add("http_server_request_duration_seconds_sum", &labels, Motion::Sum { requests }, 0.0);
        for (bound, share) in BOUNDS {
            let labels = [("le", bound), ("method", "GET"), ("route", route)];
            add(
                "http_server_request_duration_seconds_bucket",
                &labels,
                Motion::Bucket { requests, share },
                0.0,
            );
        }
    }
    let resource = otlp::resource(&[
        ("k8s.cluster.name", "shop-blue"),
        ("service.instance.id", &instance),
        ("service.name", service.name),
        ("k8s.namespace.name", service.namespace),
        ("k8s.pod.name", &pod),
        ("service.version", service.version),
        ("telemetry.sdk.language", "rust"),
    ]);
    Target { resource, series, offset_ms: random.below(SCRAPE_MS as u64) as i64, rounds }
}

/// Labels sorted by name, as remote write wants them.
fn encoded_labels(name: &str, common: &[(&str, &str)], more: &[(&str, &str)]) -> Vec<u8> {
    let mut labels: Vec<(&str, &str)> = vec![("__name__", name)];
    labels.extend(common);
    labels.extend(more);
    labels.sort_unstable();
    let mut out = Vec::new();
    for (name, value) in labels {
        proto::header(&mut out, 1, proto::field_len(name.len()) + proto::field_len(value.len()));
        proto::bytes(&mut out, 1, name.as_bytes());
        proto::bytes(&mut out, 2, value.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_a_sample_of_each_series() {
        let mut scrapes = Scrapes::new(1, 0, 4, Protocol::RemoteWrite);
        let n_series = scrapes.n_series();
        assert!((9_000..=11_000).contains(&n_series), "{n_series}");
        let mut of_round = || {
            let before = scrapes.open.1;
            let requests = scrapes.next_round();
            assert!(requests.iter().all(|(_, n)| *n == SERIES_PER_REQUEST));
            requests.len() * SERIES_PER_REQUEST + scrapes.open.1 - before
        };
        let n: Vec<usize> = (0..4).map(|_| of_round()).collect();
        assert_eq!((n[0], n[1], n[3]), (n_series, n_series, n_series));
        assert!(n[2] > n_series, "the series of pods that are gone end with a marker");
    }

    #[test]
    fn a_seed_gives_the_same_bytes() {
        for protocol in [Protocol::RemoteWrite, Protocol::Otlp] {
            let first_round = || Scrapes::new(7, 1_000, 8, protocol).next_round();
            assert_eq!(first_round(), first_round());
        }
    }

    #[test]
    fn both_protocols_bring_the_same_series() {
        use wire::otlp::metrics::{Translation, decode_metrics};
        use wire::remote_write::{Version, decode};
        let limits = wire::Limits::default();
        let names = |batches: Vec<model::SeriesBatch>| -> std::collections::BTreeMap<String, usize> {
            let mut names = std::collections::BTreeMap::new();
            for batch in batches {
                for series in 0..batch.n_series() {
                    let labels = batch.labels_of(series);
                    let name = labels.iter().find(|pair| batch.symbols.get(pair.0) == "__name__");
                    *names.entry(batch.symbols.get(name.expect("a name").1).to_owned()).or_default() += 1;
                }
            }
            names
        };
        let of = |protocol| Scrapes::new(3, 1_800_000_000_000, 8, protocol).next_round();
        let written = of(Protocol::RemoteWrite).into_iter();
        let written = written.map(|(body, _)| decode(&body, Version::V1, &limits).expect("valid").batch);
        let translation = Translation::default();
        let sent = of(Protocol::Otlp).into_iter().map(|(body, _)| {
            let decoded = decode_metrics(&body, wire::otlp::Format::Protobuf, &translation, &limits);
            let decoded = decoded.expect("valid");
            assert_eq!(decoded.rejected.n(), 0, "{}", decoded.rejected.message());
            decoded.batch
        });
        let (written, sent) = (names(written.collect()), names(sent.collect()));
        // The last request of a round is not full; each target says the same of itself.
        assert_eq!(written.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
        let bucket = "http_server_request_duration_seconds_bucket";
        assert!(
            sent[bucket].abs_diff(written[bucket]) * 5 < written[bucket],
            "{} {}",
            sent[bucket],
            written[bucket]
        );
    }
}
