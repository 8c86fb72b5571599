//! Aggregations that keep no series: their answers do not depend on the order in which series come, to the bit.

use model::series::STALE_BITS;
use model::{Labels, Series};
use promql::{Data, Error, QueryParams, Take, Value};

const STEP_MS: i64 = 60_000;
const N_STEPS: i64 = 30;

/// Series of two metrics, whose sums depend on the order of the numbers in their last bits.
fn stored() -> Vec<Series> {
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as f64
    };
    let mut all = Vec::new();
    for metric in ["a_total", "b_total"] {
        for pod in 0..40 {
            let mut series = Series {
                labels: Labels::from_pairs([
                    ("Zone", if pod % 3 == 0 { "" } else { "z" }),
                    ("__name__", metric),
                    ("job", if pod % 2 == 0 { "even" } else { "odd" }),
                    ("pod", &format!("{pod:02}")),
                ]),
                ..Series::default()
            };
            let mut count = 0.0;
            for at in 0..N_STEPS * 4 {
                count += random() / 3e9 * 10_f64.powi(pod % 9);
                let is_stale = pod == 5 && at % 50 == 49;
                series.time_ms.push(at * STEP_MS / 4);
                series.value.push(if is_stale { f64::from_bits(STALE_BITS) } else { count });
            }
            all.push(series);
        }
    }
    all
}

/// The answer, to the bit.
fn answer(query: &str, data: &dyn Data) -> String {
    let expr = promql::parse(query).expect(query);
    let plan = promql::plan(query, &expr, &QueryParams::range(0, N_STEPS * STEP_MS, STEP_MS));
    let answer = promql::evaluate(&plan, data, &|| false).expect(query);
    let Value::Matrix(series) = answer.value else { panic!("{query}: no matrix") };
    assert!(!series.is_empty(), "{query}");
    let bits = |value: f64| format!("{:x}", value.to_bits());
    let lines = series.iter().map(|points| {
        let values: Vec<String> =
            points.floats.iter().map(|(time_ms, value)| format!("{time_ms}:{}", bits(*value))).collect();
        format!("{:?} {}", points.labels, values.join(" "))
    });
    let remarks = format!("{:?} {:?}", answer.warnings, answer.infos);
    lines.chain([remarks]).collect::<Vec<_>>().join("\n")
}

fn of_metrics(stored: &[Series], metrics: &[&str]) -> Vec<Series> {
    stored.iter().filter(|series| metrics.contains(&series.labels.metric_name())).cloned().collect()
}

#[test]
fn the_order_of_series_changes_no_bit() {
    let stored = stored();
    let ops = ["sum", "avg", "count", "group", "min", "max", "stddev", "stdvar"];
    let expressions = [
        ("a_total", &["a_total"][..]),
        ("rate(a_total[5m])", &["a_total"]),
        ("(last_over_time(a_total[2m]))", &["a_total"]),
        (r#"{__name__=~"a_total|b_total"}"#, &["a_total", "b_total"]),
        (r#"rate({__name__="a_total",pod=~"0.*"}[5m])"#, &["a_total"]),
        ("max_over_time(rate(a_total[5m])[10m:1m])", &["a_total"]),
    ];
    for op in ops {
        for (expression, metrics) in expressions {
            for by in ["", "by (job)", "without (pod)", "by (pod)"] {
                let query = format!("{op} {by} ({expression})");
                let mut data = vec![of_metrics(&stored, metrics)];
                data[0].sort_by(|a, b| a.labels.cmp(&b.labels));
                let sorted = answer(&query, &data);
                data[0].reverse();
                assert_eq!(answer(&query, &data), sorted, "{query}, the last first");
                data[0].rotate_left(11);
                assert_eq!(answer(&query, &data), sorted, "{query}, from the middle");
            }
        }
    }
}

/// Series in the order of their labels, of which two may not be looked at at once, and that tells how many were.
struct OneByOne(Vec<Series>, std::cell::Cell<usize>);

impl Data for OneByOne {
    fn n_series(&self, _: usize) -> usize {
        self.0.len()
    }

    fn each(&self, _: usize, take: &mut Take<'_>) -> Result<(), Error> {
        for series in &self.0 {
            self.1.set(self.1.get() + 1);
            take(series.view())?;
        }
        Ok(())
    }
}

#[test]
fn series_in_order_are_looked_at_once() {
    let stored = of_metrics(&stored(), &["a_total"]);
    let mut by_labels: Vec<Series> =
        stored.into_iter().filter(|series| series.labels.get("Zone").is_empty()).collect();
    by_labels.sort_by(|a, b| a.labels.cmp(&b.labels));
    let n_series = by_labels.len();
    let data = OneByOne(by_labels, std::cell::Cell::new(0));
    for query in ["sum by (job) (rate(a_total[5m]))", "count(a_total)", "max(max_over_time(a_total[1m]))"] {
        data.1.set(0);
        answer(query, &data);
        assert_eq!(data.1.get(), n_series, "{query}");
    }
}

#[test]
fn a_series_that_cannot_be_read_is_an_error() {
    struct Broken;
    impl Data for Broken {
        fn n_series(&self, _: usize) -> usize {
            1
        }
        fn each(&self, _: usize, _: &mut Take<'_>) -> Result<(), Error> {
            Err(Error::Unread("corrupt".to_owned()))
        }
    }
    for query in ["x", "rate(x[5m])", "sum(x)", "sum(rate(x[5m]))", "topk(1, x)", "absent_over_time(x[5m])"] {
        let expr = promql::parse(query).expect(query);
        let plan = promql::plan(query, &expr, &QueryParams::instant(0));
        let answer = promql::evaluate(&plan, &Broken, &|| false);
        assert_eq!(answer, Err(Error::Unread("corrupt".to_owned())), "{query}");
    }
}
