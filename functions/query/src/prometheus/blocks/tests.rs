use std::fmt::Write as _;

use model::histogram::{BucketSpan, Buckets};
use model::series::{HistogramSample, STALE_BITS, SeriesBuilder, Temporality};
use model::{NativeHistogram, Signal};
use storage::compact::{self, Rules, Settings};
use storage::index::TableLayout;
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::read::{self, Share};
use storage::write::{Writer, content_hash};

use super::*;
use crate::fanout::{Fanout, Tasks, Worker};

/// Begins a day.
const EPOCH_MS: i64 = 480_000 * 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Queries whose parts could give something else than the whole.
const QUERIES: [&str; 34] = [
    "gauge",
    "gauge offset 7m",
    "gauge offset -3m",
    "requests_total @ 1728000600",
    "gauge - gauge @ start()",
    "gauge / on (pod) group_left () sum by (pod) (requests_total @ end())",
    "rate(requests_total[5m])",
    "rate(gauge[2m])",
    "sum(rate(requests_total[1m]))",
    "sum by (job) (rate(requests_total[3m]))",
    "avg(sum by (pod) (gauge))",
    "sum(topk(2, gauge))",
    "topk(2, rate(requests_total[5m]))",
    "bottomk(1, gauge)",
    "limitk(2, gauge)",
    "limit_ratio(0.5, gauge)",
    "sum(limitk(3, gauge))",
    r#"count_values("value", round(gauge / 100))"#,
    "quantile(0.7, gauge)",
    "stddev(gauge)",
    "max_over_time(sum(rate(requests_total[1m]))[10m:1m])",
    "avg_over_time(gauge[7m:35s] offset 2m)",
    "sum_over_time(gauge[5m:step()] @ 1728000600)",
    "absent(gauge)",
    r#"absent_over_time(nothing{job="a"}[5m])"#,
    "delta_total",
    "rate(delta_total[5m]) + on () group_left () vector(1)",
    "sum(latency)",
    "histogram_quantile(0.9, sum by (job) (rate(latency[5m])))",
    "max(latency)",
    r#"{__name__=~"gauge|requests_total"} > 500"#,
    "gauge > bool on (pod, job) requests_total or requests_total",
    "time() - timestamp(gauge)",
    "vector(time())",
];

struct Fixture {
    store: Store,
    writer: Writer,
    tenant: TenantId,
    n_writes: u64,
}

impl Fixture {
    fn new() -> Self {
        let store = Store {
            objects: Arc::new(MemoryObjects::new()),
            table: Arc::new(MemoryTable::new()),
            layout: TableLayout { shards: 2 },
            recent: storage::read::RecentTraces::default(),
        };
        let writer = Writer::new(store.clone());
        Self { store, writer, tenant: TenantId::default_tenant(), n_writes: 0 }
    }

    /// Some samples within ten minutes from `from_ms` on.
    async fn write(&mut self, random: &mut Random, from_ms: i64, has_delta: bool) {
        let mut builder = SeriesBuilder::default();
        for _ in 0..=random.below(8) {
            let metrics = ["gauge", "requests_total", "latency", "delta_total"];
            let metric = random.pick(&metrics[..if has_delta { 4 } else { 3 }]);
            builder.label("__name__", metric);
            builder.label("pod", random.pick(&["p1", "p2", "p3", "p4"]));
            builder.label("job", random.pick(&["a", "b"]));
            let temporality = match metric {
                "delta_total" => Temporality::Delta,
                _ => Temporality::Cumulative,
            };
            let series = builder.close_labels(temporality).expect("labels");
            for i in 0..random.below(40) as i64 {
                let time_ms = from_ms + i * 15_000 + random.pick(&[0, 0, 0, 1, 14_999]);
                let value = match random.below(20) {
                    0 => f64::from_bits(STALE_BITS),
                    1 => f64::NAN,
                    _ => random.below(100_000) as f64 / 97.0,
                };
                if metric == "latency" {
                    let counts = vec![random.below(50) as f64, 1.0];
                    let histogram = NativeHistogram {
                        schema: random.pick(&[2, 3]),
                        count: counts[0] + 1.0,
                        sum: value,
                        positive: Buckets { spans: vec![BucketSpan { offset: 0, length: 2 }], counts },
                        ..NativeHistogram::default()
                    };
                    let histogram = Arc::new(histogram);
                    builder.histogram(series, HistogramSample { time_ms, start_ms: 0, histogram });
                } else {
                    builder.sample(series, time_ms, value, 0);
                }
            }
        }
        let Some(encoded) = storage::block::series::encode(&builder.finish()) else { return };
        self.n_writes += 1;
        let content = content_hash(&self.tenant, Signal::Metrics, &self.n_writes.to_le_bytes());
        let now_s = (from_ms / 1000) as u64;
        let written = self.writer.series(&self.tenant, content, encoded, now_s, &Arc::default()).await;
        written.expect("memory");
    }

    async fn merge(&self, now_ms: i64) {
        let rules =
            Rules { min_fresh: 3, min_merged: 2, max_inputs: 5, target_bytes: 4000, ..Rules::default() };
        let settings = Settings { rules, ..Settings::default() };
        let now_s = (now_ms / 1000) as u64;
        compact::run(&self.store, &settings, "test", &|| now_s, &Arc::default()).await.expect("memory");
    }

    /// The answer, to the bit, by parts and as a whole; and how many steps were kept.
    async fn ask(
        &self,
        results: &Results,
        query: &str,
        params: QueryParams,
    ) -> (Option<String>, String, u64) {
        self.ask_with(results, query, params, None).await
    }

    /// The same, with others to ask.
    async fn ask_with(
        &self,
        results: &Results,
        query: &str,
        params: QueryParams,
        asker: Option<&Asker>,
    ) -> (Option<String>, String, u64) {
        let expr = promql::parse(query).expect(query);
        let limits = SeriesLimits::default();
        let question = Question {
            store: &self.store,
            tenant: &self.tenant,
            query,
            expr: &expr,
            params,
            limits: &limits,
            deadline: Instant::now() + Duration::from_mins(10),
            asker,
        };
        let by_parts = answer(&question, results).await.expect("memory");
        let n_cached_steps = by_parts.as_ref().map_or(0, |answered| answered.n_cached_steps);
        let plan = promql::plan(query, &expr, &params);
        let data = read::select_packed(&self.store, &self.tenant, &selections_of(&plan), &limits).await;
        let whole = evaluate_plan(plan, Arc::new(data.expect("memory")), question.deadline).await;
        let whole = match whole {
            Ok(answer) => shown(&answer),
            Err(error) => error.to_string(),
        };
        (by_parts.map(|answered| shown(&answered.answer)), whole, n_cached_steps)
    }
}

/// Workers over the fixture's store, among whom shares of so many bytes are split.
fn asker(fixture: &Fixture, bytes: u64, max_jobs: usize) -> Asker {
    let worker = Worker::new(fixture.store.clone(), Arc::default(), Duration::from_mins(10));
    Asker {
        fanout: Fanout::of(Arc::new(Tasks(worker)), Share { bytes, max_jobs }),
        searches: None,
        tenant: fixture.tenant.clone(),
        request_id: String::new(),
        deadline: tokio::time::Instant::now() + Duration::from_mins(10),
        tally: Arc::default(),
    }
}

/// All bits of numbers, too: NaN differs from NaN.
fn shown(answer: &Answer) -> String {
    let mut text = format!("{:?} {:?}", answer.warnings, answer.infos);
    let Value::Matrix(series) = &answer.value else { panic!("no matrix") };
    for series in series {
        write!(text, "\n{:?}", series.labels).expect("a String");
        for (time_ms, value) in &series.floats {
            write!(text, " {time_ms}:{:x}", value.to_bits()).expect("a String");
        }
        write!(text, " {:?}", series.histograms).expect("a String");
    }
    text
}

#[tokio::test]
async fn the_answer_by_parts_is_that_of_the_whole_in_any_history() {
    let (mut n_by_parts, mut n_cached_steps, mut n_with_remarks, mut n_jobs) = (0, 0, 0, 0);
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut fixture = Fixture::new();
        // Sometimes so small that blocks are driven out.
        let results = Results::new(random.pick(&[1 << 20, 1 << 20, 30_000]));
        let has_delta = random.below(2) == 0;
        let mut now_ms = EPOCH_MS;
        for _ in 0..60 {
            match random.below(6) {
                0 => now_ms += random.below(20) as i64 * MINUTE_MS,
                1 => {
                    // Late, too.
                    let from_ms = now_ms - random.below(120) as i64 * MINUTE_MS;
                    fixture.write(&mut random, from_ms, has_delta).await;
                }
                2 => fixture.write(&mut random, now_ms, has_delta).await,
                3 if random.below(2) == 0 => fixture.merge(now_ms).await,
                _ => {
                    let step_ms = random.pick(&[5_000, 15_000, 15_000, 60_000, 61_500]);
                    let end_ms = now_ms / step_ms * step_ms + random.pick(&[0, 0, 0, 1_000]);
                    let n_steps = random.pick(&[64, 100, 240, 300]);
                    let mut params = QueryParams::range(end_ms - n_steps * step_ms, end_ms, step_ms);
                    params.lookback_ms = random.pick(&[300_000, 300_000, 60_000]);
                    let query = random.pick(&QUERIES);
                    let asker =
                        asker(&fixture, random.pick(&[1, 300_000, 1 << 40]), 1 + random.below(8) as usize);
                    // Twice, so that what the first one keeps is used.
                    for _ in 0..2 {
                        let asked = fixture.ask_with(&results, query, params, Some(&asker)).await;
                        let (by_parts, whole, n_cached) = asked;
                        if let Some(by_parts) = by_parts {
                            assert_eq!(by_parts, whole, "{query} {params:?} of seed {seed}");
                            n_by_parts += 1;
                            n_with_remarks += u64::from(!whole.starts_with("[] []"));
                        }
                        n_cached_steps += n_cached;
                    }
                    let spread = asker.tally.spread();
                    assert_eq!(spread.retries, 0);
                    n_jobs += spread.jobs;
                }
            }
            assert!(results.counts().bytes <= 1 << 20);
        }
    }
    // The test tests something.
    assert!(
        n_by_parts > 200 && n_cached_steps > 20_000 && n_with_remarks > 10 && n_jobs > 200,
        "{n_by_parts} {n_cached_steps} {n_with_remarks} {n_jobs}"
    );
}

#[tokio::test]
async fn a_refreshed_dashboard_evaluates_what_is_new() {
    let mut fixture = Fixture::new();
    let mut random = Random(1);
    for minutes in [0, 10, 20, 30, 40, 50] {
        fixture.write(&mut random, EPOCH_MS + minutes * MINUTE_MS, false).await;
    }
    let results = Results::new(1 << 20);
    let query = "sum by (pod) (rate(requests_total[2m]))";
    let step_ms = 15_000;
    let mut n_cached = Vec::new();
    for refresh in 0..4 {
        let end_ms = EPOCH_MS + 60 * MINUTE_MS + refresh * step_ms;
        let params = QueryParams::range(end_ms - 240 * step_ms, end_ms, step_ms);
        let (by_parts, whole, n) = fixture.ask(&results, query, params).await;
        assert_eq!(by_parts.as_ref(), Some(&whole));
        n_cached.push(n);
        // New data at the end only.
        fixture.write(&mut random, end_ms, false).await;
    }
    assert_eq!(n_cached[0], 0);
    assert!(n_cached[1..].iter().all(|&n| n > 200), "{n_cached:?} of 241 steps");

    // What arrives late is seen.
    let end_ms = EPOCH_MS + 61 * MINUTE_MS;
    let params = QueryParams::range(end_ms - 240 * step_ms, end_ms, step_ms);
    let (before, ..) = fixture.ask(&results, query, params).await;
    while fixture.ask(&results, query, params).await.1 == *before.as_ref().expect("by parts") {
        fixture.write(&mut random, EPOCH_MS + 30 * MINUTE_MS, false).await;
    }
    let (after, whole, n) = fixture.ask(&results, query, params).await;
    assert_eq!(after, Some(whole));
    assert!(n > 100, "{n} of 241 steps");
}

#[tokio::test]
async fn others_are_asked_for_what_is_more_than_a_share() {
    let mut fixture = Fixture::new();
    let mut random = Random(1);
    for minutes in 0..60 {
        fixture.write(&mut random, EPOCH_MS + minutes * MINUTE_MS, false).await;
    }
    let params = QueryParams::range(EPOCH_MS, EPOCH_MS + 60 * MINUTE_MS, 10_000);
    let query = "sum by (pod) (rate(requests_total[2m]))";
    for (bytes, max_jobs, expect) in [(1 << 40, 8, 0), (1, 8, 8), (1, 3, 3), (1, 1, 0), (1, 100, 12)] {
        let results = Results::new(1 << 20);
        let asker = asker(&fixture, bytes, max_jobs);
        let (by_parts, whole, _) = fixture.ask_with(&results, query, params, Some(&asker)).await;
        assert_eq!(by_parts.as_ref(), Some(&whole));
        assert_eq!(asker.tally.spread().jobs, expect, "{bytes} bytes, {max_jobs} jobs");
        let (again, _, n_cached) = fixture.ask_with(&results, query, params, Some(&asker)).await;
        assert_eq!(again, Some(whole));
        assert!(n_cached > 300, "what others evaluated is kept: {n_cached} of 361 steps");
        assert!(asker.tally.spread().jobs <= expect + 1, "and not asked for again");
    }
    // A file that the one who asks did not see: not this job.
    let job = RangeJob {
        query: query.to_owned(),
        start_ms: EPOCH_MS,
        end_ms: EPOCH_MS + MINUTE_MS,
        step_ms: 10_000,
        lookback_ms: 300_000,
        files: [0; 32],
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    assert_eq!(run_job(&fixture.store, &fixture.tenant, &job, deadline).await.expect("memory"), None);
}

#[tokio::test]
async fn what_depends_on_the_whole_range_is_not_told_by_parts() {
    let mut fixture = Fixture::new();
    let mut random = Random(3);
    for _ in 0..10 {
        fixture.write(&mut random, EPOCH_MS, true).await;
    }
    let results = Results::new(1 << 20);
    let params = QueryParams::range(EPOCH_MS, EPOCH_MS + 60 * MINUTE_MS, 15_000);
    for query in ["delta_total", "gauge - gauge @ start()", "info(gauge)", "gauge[5m]", r#""text""#] {
        assert_eq!(fixture.ask(&results, query, params).await.0, None, "{query}");
    }
    let short = QueryParams { end_ms: params.start_ms + 62 * 15_000, ..params };
    assert_eq!(fixture.ask(&results, "gauge", short).await.0, None);
    assert_eq!(results.counts().bytes, 0);
}

#[test]
fn blocks_lie_at_fixed_places() {
    let check = |start_ms: i64, end_ms: i64, step_ms: i64, expect: Option<&[(i64, i64, i64)]>| {
        let found = places(&QueryParams::range(start_ms, end_ms, step_ms));
        let found: Option<Vec<_>> = found.map(|places| {
            places.iter().map(|place| (place.number, place.asked.first_ms, place.asked.last_ms)).collect()
        });
        assert_eq!(found.as_deref(), expect, "{start_ms}..={end_ms} by {step_ms}");
    };
    check(0, 630, 10, Some(&[(0, 0, 310), (1, 320, 630)]));
    check(5, 639, 10, Some(&[(0, 5, 315), (1, 325, 635)]));
    check(0, 629, 10, None);
    check(310, 940, 10, Some(&[(0, 310, 310), (1, 320, 630), (2, 640, 940)]));
    check(-330, 300, 10, Some(&[(-2, -330, -330), (-1, -320, -10), (0, 0, 300)]));
    check(100, 0, 10, None);
    check(0, 1000, 0, None);
    check(i64::MAX - 700, i64::MAX, 10, None);
    check(i64::MIN, i64::MIN + 700, 10, None);
}

#[test]
fn many_runs_become_one() {
    let block = || {
        let (warnings, infos) = (Vec::new(), Vec::new());
        Some(Arc::new(Block { files: [0; 32], series: Vec::new(), warnings, infos }))
    };
    let check = |kept: &str, expect: &[(usize, usize)]| {
        let kept: Vec<_> = kept.chars().map(|kept| if kept == 'x' { block() } else { None }).collect();
        let found: Vec<_> = runs(&kept).into_iter().map(|run| (run.start, run.end)).collect();
        assert_eq!(found, expect);
    };
    check("", &[]);
    check("xxx", &[]);
    check("...", &[(0, 3)]);
    check(".xx..", &[(0, 1), (3, 5)]);
    check("x.x.x.x.", &[(1, 2), (3, 4), (5, 6), (7, 8)]);
    check("x.x.x.x.x.x", &[(1, 10)]);
}
