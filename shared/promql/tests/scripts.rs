//! The scripts in `scripts/`, whose README says what they are: this engine answers as a Prometheus did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter::repeat_n;
use std::path::Path;
use std::sync::Arc;

use model::histogram::{BucketSpan, Buckets};
use model::matcher::matches_all;
use model::series::{HistogramSample, STALE_BITS};
use model::{Labels, NativeHistogram, Series};
use promql::{Plan, QueryParams, Sample, Value};

/// Milliseconds of `1h30m`, or of plain seconds.
fn milliseconds(text: &str) -> i64 {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * 1000.0).round() as i64;
    }
    let mut rest = text;
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).expect("a unit");
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            other => panic!("unit {other:?} in {text}"),
        };
        sum += rest[..digits].parse::<i64>().expect(text) * unit;
        rest = &rest[unit_end..];
    }
    sum
}

fn number(text: &str) -> f64 {
    if text == "stale" { f64::from_bits(STALE_BITS) } else { text.parse().expect(text) }
}

/// The histogram between `{{` and `}}` of a series.
fn histogram(text: &str) -> NativeHistogram {
    let mut found = NativeHistogram { is_integer: true, ..NativeHistogram::default() };
    let mut offset = 0;
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once(':') {
        let is_list = after.starts_with('[');
        let end = after.find(if is_list { ']' } else { ' ' }).unwrap_or(after.len());
        let value = after[..end].trim_start_matches('[');
        rest = after[end..].trim_start_matches(']').trim_start();
        match name {
            "schema" => found.schema = value.parse().expect(text),
            "count" => found.count = number(value),
            "sum" => found.sum = number(value),
            "zero" => found.zero_count = number(value),
            "offset" => offset = value.parse().expect(text),
            "buckets" => found.positive.counts = value.split_whitespace().map(number).collect(),
            "bounds" => found.custom_bounds = value.split_whitespace().map(number).collect(),
            other => panic!("{other:?} in {text}"),
        }
    }
    let counts = std::mem::take(&mut found.positive.counts);
    found.positive = Buckets { spans: vec![BucketSpan { offset, length: counts.len() as u32 }], counts };
    if !found.has_custom_bounds() {
        found.zero_threshold = 1e-128;
    }
    found
}

/// Splits a line at blanks, but not within `{{…}}`.
fn items(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let from = if rest.starts_with("{{") { rest.find("}}").expect(text) } else { 0 };
        let end = rest[from..].find(' ').map_or(rest.len(), |at| from + at);
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    found
}

/// Appends the samples of a line of `load`.
fn push_samples(series: &mut Series, text: &str, step_ms: i64) {
    let mut values: Vec<Option<Result<f64, Arc<NativeHistogram>>>> = Vec::new();
    for item in items(text) {
        if let Some(item) = item.strip_prefix("{{") {
            let (body, times) = item.split_once("}}").expect(item);
            let times = times.strip_prefix('x').map_or(1, |times| times.parse().expect(item));
            values.extend(repeat_n(Some(Err(Arc::new(histogram(body)))), times));
            continue;
        }
        let (first, times) = match item.split_once('x') {
            Some((first, times)) => (first, times.parse::<usize>().expect(item)),
            None => (item, 0),
        };
        if first == "_" {
            values.extend(repeat_n(None, times.max(1)));
            continue;
        }
        let sign = first[1..].find(['+', '-']).map(|at| at + 1).filter(|_| times > 0);
        let (first, step) = sign.map_or((first, "0"), |at| first.split_at(at));
        let (first, step) = (number(first), number(step));
        // A marker's bits do not survive arithmetic.
        values.extend((0..=times).map(|i| Some(Ok(if i == 0 { first } else { first + i as f64 * step }))));
    }
    let mut times = std::mem::take(&mut series.time_ms);
    for (i, value) in values.into_iter().enumerate() {
        let time_ms = i as i64 * step_ms;
        match value {
            None => {}
            Some(Ok(value)) => {
                times.push(time_ms);
                series.value.push(value);
            }
            Some(Err(histogram)) => {
                series.histograms.push(HistogramSample { time_ms, start_ms: 0, histogram });
            }
        }
    }
    series.time_ms = times;
}

/// Labels of `name{label="value"}`, as an expression has them.
fn labels(text: &str) -> Labels {
    let matchers = promql::parse_selector(text).expect(text);
    Labels::from_pairs(matchers.iter().map(|matcher| (matcher.name(), matcher.value())))
}

/// The end of the labels at the beginning of a line.
fn labels_end(line: &str) -> usize {
    let blank = line.find(' ').unwrap_or(line.len());
    if line[..blank].contains('{') { line.find('}').map_or(blank, |at| at + 1) } else { blank }
}

/// What a need must have at least.
fn samples_in(series: &Series, need: &promql::Need) -> Series {
    let is_in = |time_ms: i64| time_ms > need.start_ms_exclusive && time_ms <= need.end_ms;
    let floats = series.time_ms.iter().copied().zip(series.value.iter().copied());
    let mut floats: Vec<(i64, f64)> = floats.filter(|(time_ms, _)| is_in(*time_ms)).collect();
    if let Some((first_ms, step_ms)) = need.steps_ms {
        // Later ones of the same step replace earlier ones.
        let seen_at = |time_ms: i64| -(first_ms - time_ms).div_euclid(step_ms);
        floats.reverse();
        floats.dedup_by_key(|(time_ms, _)| seen_at(*time_ms));
        floats.reverse();
    }
    let time_ms = floats.iter().map(|(time_ms, _)| *time_ms).collect();
    let value = floats.iter().map(|(_, value)| *value).collect();
    let histograms = series.histograms.iter().filter(|sample| is_in(sample.time_ms)).cloned().collect();
    Series { labels: series.labels.clone(), time_ms, value, histograms }
}

fn data_of(plan: &Plan, stored: &[Series]) -> Vec<Vec<Series>> {
    let of_need = |need: &promql::Need| {
        let matching = stored.iter().filter(|series| matches_all(&need.matchers, &series.labels));
        let cut = matching.map(|series| samples_in(series, need));
        cut.filter(|series| !series.time_ms.is_empty() || !series.histograms.is_empty()).collect()
    };
    plan.needs().iter().map(of_need).collect()
}

fn number_text(value: f64) -> String {
    if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

fn sample_text(sample: &Sample) -> String {
    let histogram = match sample {
        Sample::Float(value) => return number_text(*value),
        Sample::Histogram(histogram) => histogram,
    };
    let ends = |has_lower, has_upper| match (has_lower, has_upper) {
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    };
    let bucket = |bucket: &model::histogram::BoundedBucket| {
        let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(number_text);
        format!("{}:{lower}:{upper}:{count}", ends(bucket.has_lower, bucket.has_upper))
    };
    let buckets: Vec<String> = histogram.bounded_buckets().iter().map(bucket).collect();
    let [count, sum] = [histogram.count, histogram.sum].map(number_text);
    format!("{{{{count:{count} sum:{sum} buckets:[{}]}}}}", buckets.join(" "))
}

fn labels_text(labels: &Labels) -> String {
    let pairs = labels.iter().filter(|label| &*label.name != "__name__");
    let is_plain = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let name = |name: &str| if is_plain(name) { name.to_owned() } else { format!("{name:?}") };
    let pairs: Vec<String> = pairs.map(|label| format!("{}={:?}", name(&label.name), label.value)).collect();
    format!("{}{{{}}}", labels.metric_name(), pairs.join(", "))
}

enum Question<'a> {
    Instant { at_ms: i64, query: &'a str },
    Range { start_ms: i64, end_ms: i64, step_ms: i64, query: &'a str },
}

fn question(line: &str) -> Question<'_> {
    if let Some(rest) = line.strip_prefix("eval instant at ") {
        let (at, query) = rest.split_once(' ').expect(line);
        return Question::Instant { at_ms: milliseconds(at), query };
    }
    let words: Vec<&str> = line.splitn(9, ' ').collect();
    let &["eval", "range", "from", start, "to", end, "step", step, query] = &words[..] else {
        panic!("what is {line:?}?")
    };
    let [start_ms, end_ms, step_ms] = [start, end, step].map(milliseconds);
    Question::Range { start_ms, end_ms, step_ms, query }
}

/// What this engine answers, in the lines of a script; errors and remarks too.
fn answer(question: &Question<'_>, stored: &[Series]) -> Vec<String> {
    let (query, params) = match *question {
        Question::Instant { at_ms, query } => (query, QueryParams::instant(at_ms)),
        Question::Range { start_ms, end_ms, step_ms, query } => {
            (query, QueryParams::range(start_ms, end_ms, step_ms))
        }
    };
    let expr = match promql::parse(query) {
        Ok(expr) => expr,
        Err(error) => return vec![format!("error {error}")],
    };
    let plan = promql::plan(query, &expr, &params);
    let answer = match promql::evaluate(&plan, &data_of(&plan, stored), &|| false) {
        Ok(answer) => answer,
        Err(error) => return vec![format!("error {error}")],
    };
    let remarks = |kind: &'static str, mut texts: Vec<String>| {
        texts.sort();
        texts.into_iter().map(move |text| format!("{kind} {text}"))
    };
    let mut lines: Vec<String> =
        remarks("warn", answer.warnings).chain(remarks("info", answer.infos)).collect();
    match answer.value {
        Value::Scalar(value) => lines.push(format!("scalar {}", number_text(value))),
        Value::String(text) => lines.push(format!("string {text:?}")),
        Value::Vector(samples) => {
            let line = |(labels, sample): &(Labels, Sample)| {
                format!("{} {}", labels_text(labels), sample_text(sample))
            };
            lines.extend(samples.iter().map(line));
        }
        Value::Matrix(series) => {
            for points in series {
                let floats = points.floats.iter().map(|&(at_ms, value)| (at_ms, Sample::Float(value)));
                let histograms = points.histograms.iter();
                let histograms =
                    histograms.map(|(at_ms, value)| (*at_ms, Sample::Histogram(Arc::clone(value))));
                let by_time: BTreeMap<i64, Sample> = floats.chain(histograms).collect();
                let mut line = labels_text(&points.labels);
                if let Question::Range { start_ms, end_ms, step_ms, .. } = *question {
                    for at_ms in (start_ms..=end_ms).step_by(step_ms as usize) {
                        let text = by_time.get(&at_ms).map_or_else(|| "_".to_owned(), sample_text);
                        write!(line, " {text}").expect("a string");
                    }
                } else {
                    for (at_ms, sample) in &by_time {
                        write!(line, " {}@{}", sample_text(sample), *at_ms as f64 / 1000.0)
                            .expect("a string");
                    }
                }
                lines.push(line);
            }
        }
    }
    lines
}

/// Whether lines say the same, but for the last bits of numbers: sums in another order differ in them.
fn is_same(a: &str, b: &str) -> bool {
    let split = |text: &str| -> Vec<String> {
        text.split_inclusive([' ', ':', ']', '@', '}']).map(str::to_owned).collect()
    };
    let (a, b) = (split(a.trim_end()), split(b.trim_end()));
    let trimmed =
        |text: &str| text.trim_end_matches([' ', ':', ']', '@', '}']).trim_start_matches('[').to_owned();
    a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| {
            let numbers = (trimmed(a).parse::<f64>(), trimmed(b).parse::<f64>());
            let (Ok(x), Ok(y)) = numbers else { return a == b };
            let tolerance = 1e-9 * x.abs().max(y.abs()).max(1e-3);
            x.total_cmp(&y).is_eq() || x.is_nan() && y.is_nan() || (x - y).abs() <= tolerance
        })
}

/// Runs a script; returns how many questions it has and what is answered otherwise.
fn run(text: &str) -> (usize, Vec<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut stored: Vec<Series> = Vec::new();
    let (mut n_questions, mut wrong) = (0, Vec::new());
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        let indented: Vec<&str> =
            lines[at..].iter().take_while(|line| line.starts_with("  ")).map(|line| line.trim()).collect();
        at += indented.len();
        if line == "clear" {
            stored.clear();
        } else if let Some(step) = line.strip_prefix("load ") {
            for line in indented.iter().filter(|line| !line.starts_with('#')) {
                let (name, values) = line.split_at(labels_end(line));
                let mut series = Series { labels: labels(name), ..Series::default() };
                push_samples(&mut series, values, milliseconds(step));
                stored.push(series);
            }
        } else if line.starts_with("eval ") {
            n_questions += 1;
            let question = question(line);
            let mut found = answer(&question, &stored);
            let (Question::Instant { query, .. } | Question::Range { query, .. }) = question;
            let is_ordered = ["sort", "topk", "bottomk"].iter().any(|name| query.starts_with(name));
            let mut expected: Vec<String> = indented.iter().map(|&line| line.to_owned()).collect();
            if !is_ordered {
                found.sort();
                expected.sort();
            }
            let is_right =
                found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| is_same(a, b));
            if !is_right {
                wrong.push(format!(
                    "{line}\n  expected\n    {}\n  got\n    {}",
                    expected.join("\n    "),
                    found.join("\n    ")
                ));
            }
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "what is {line:?}?");
        }
    }
    (n_questions, wrong)
}

#[test]
fn questions_are_answered_as_by_prometheus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let (mut n_questions, mut wrong) = (0, Vec::new());
    let mut scripts: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    scripts.sort();
    for script in scripts {
        let (n, wrong_here) = run(&std::fs::read_to_string(&script).expect("a script"));
        n_questions += n;
        let name = script.file_name().expect("a name").to_string_lossy().into_owned();
        wrong.extend(wrong_here.into_iter().map(|text| format!("{name}: {text}")));
    }
    assert!(n_questions > 100, "{n_questions} questions");
    assert!(wrong.is_empty(), "{} of {n_questions} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_wrong_answer_is_found() {
    let (n_questions, wrong) =
        run("load 1m\n  x 1 2\neval instant at 1m x\n  x{} 3\neval instant at 1m x\n  x{} 2");
    assert_eq!((n_questions, wrong.len()), (2, 1));
    let (_, wrong) = run("load 1m\n  x 1 2\neval instant at 1m x\n");
    assert_eq!(wrong.len(), 1);
}

/// Newer than the Prometheus that the scripts are compared with: from the documentation of later versions.
#[test]
fn what_one_side_lacks_can_be_filled_in() {
    let script = r#"
load 1m
  a{x="1"} 1 2 3
  a{x="2"} 10 20 stale
  b{x="2"} 100 stale 300
  b{x="3"} 7 7 7
  many{x="1", z="p"} 1x2
  many{x="2", z="q"} 2x2
  one{x="1", w="red"} 5x2
  one{x="9", w="blue"} 9x2
eval instant at 0 a + fill(0) b
  {x="1"} 1
  {x="2"} 110
  {x="3"} 7
eval instant at 0 a + fill_right(0) b
  {x="1"} 1
  {x="2"} 110
eval instant at 0 a - on (x) fill_left (-1) b
  {x="2"} -90
  {x="3"} -8
eval instant at 0 a / fill_right(2) fill_left(14) b
  {x="1"} 0.5
  {x="2"} 0.1
  {x="3"} 2
eval range from 0 to 2m step 1m a + fill(0) b
  {x="1"} 1 2 3
  {x="2"} 110 20 300
  {x="3"} 7 7 7
eval instant at 0 a > fill(5) b
eval instant at 0 a > fill(8) b
  {x="3"} 8
eval instant at 0 a < fill(5) b
  a{x="1"} 1
  a{x="2"} 10
  {x="3"} 5
eval instant at 0 a < bool fill(5) b
  {x="1"} 1
  {x="2"} 1
  {x="3"} 1
eval instant at 0 many * on (x) group_left (w) fill_right(10) one
  {w="red", x="1", z="p"} 5
  {x="2", z="q"} 20
eval instant at 0 many * on (x) group_left (w) fill(10) one
  {w="blue", x="9"} 90
  {w="red", x="1", z="p"} 5
  {x="2", z="q"} 20
eval instant at 0 fill + fill_left
eval instant at 0 a and fill(0) b
  error 1:1: parse error: filling in missing series not allowed for set operators
eval instant at 0 1 + fill(0) b
  error 1:1: parse error: filling in missing series only allowed between instant vectors
eval instant at 0 a + fill(b) b
  error 1:10: parse error: unexpected identifier "b" in fill modifier, expected number
"#;
    let (n_questions, wrong) = run(script);
    assert_eq!(n_questions, 15);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
