//! Data points → series.
//!
//! Source: Prometheus `storage/remote/otlptranslator/prometheusremotewrite`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use model::Labels;
use model::attribute::{self, AnyValue, Attributes};
use model::histogram::{
    BucketSpan, Buckets, CUSTOM_BOUNDS_SCHEMA, MAX_SCHEMA, MIN_SCHEMA, NativeHistogram, ResetHint,
};
use model::labels::METRIC_NAME;
use model::series::{
    Exemplar, HistogramSample, Metadata, MetricType, STALE_BITS, SeriesBuilder, Temporality,
};

use super::names::{self, NameKind};
use super::{
    DecodedMetrics, ExemplarIn, Exponential, Kind, MetricIn, PointIn, PointValue, Scope, Translation,
};
use crate::error::Error;
use crate::limits::Limits;
use crate::rejected::{Reason, Rejected};
use crate::remote_write::excess;

/// The flag of a point that has no value.
const NO_RECORDED_VALUE: u32 = 1;
/// Between two samples of `target_info`: half the lookback of queries, so that each step finds one.
const INFO_INTERVAL_MS: i64 = 150_000;
/// The longest gap between points that samples of `target_info` fill.
const MAX_INFO_GAP_MS: i64 = 3_600_000;
/// Runes that the labels of an exemplar may have together.
const MAX_EXEMPLAR_RUNES: usize = 128;
/// Width of the zero bucket where the sender says none.
const DEFAULT_ZERO_THRESHOLD: f64 = 1e-128;
/// Resource attributes that identify the target.
const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Translates a request, metric by metric.
pub(super) struct Translator<'t> {
    translation: &'t Translation,
    limits: &'t Limits,
    builder: SeriesBuilder,
    rejected: Rejected,
    resource: Resource,
    scope_labels: Vec<(String, String)>,
}

/// What of a resource all its points share.
#[derive(Default)]
struct Resource {
    /// `job` and `instance`, which overwrite, as far as they are there.
    identity: Vec<(String, String)>,
    /// Labels that points get unless they have their own.
    promoted: Vec<(String, String)>,
    /// Labels of `target_info`; empty if it has none to tell.
    info: Vec<(String, String)>,
    /// Times of its points: of each interval of `target_info` the first and the last.
    times_ms: BTreeMap<i64, (i64, i64)>,
}

impl<'t> Translator<'t> {
    pub(super) fn new(translation: &'t Translation, limits: &'t Limits) -> Self {
        Self {
            translation,
            limits,
            builder: SeriesBuilder::default(),
            rejected: Rejected::default(),
            resource: Resource::default(),
            scope_labels: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> DecodedMetrics {
        DecodedMetrics { batch: self.builder.finish(), rejected: self.rejected }
    }

    /// What there is more of than allowed, and how much would be: the rest need not be read.
    pub(super) fn excess(&self) -> Option<Error> {
        excess(&self.builder, self.limits)
    }

    pub(super) fn open_resource(&mut self, attributes: &Attributes) {
        let text =
            |key: &str| attributes.iter().find(|(other, _)| other == key).map(|(_, value)| value_text(value));
        let mut resource = Resource::default();
        if let Some(name) = text("service.name") {
            let job = match text("service.namespace") {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name,
            };
            resource.identity.push(("job".to_owned(), job));
        }
        if let Some(instance) = text("service.instance.id") {
            resource.identity.push(("instance".to_owned(), instance));
        }
        let is_promoted =
            |key: &str| self.translation.promote_resource_attributes.iter().any(|other| other == key);
        resource.promoted = self.labels(attributes.iter().filter(|(key, _)| is_promoted(key)));
        let is_told =
            |key: &str| self.translation.keep_identifying_resource_attributes || !IDENTIFYING.contains(&key);
        let has_something = attributes.iter().any(|(key, _)| !IDENTIFYING.contains(&key.as_str()));
        if has_something && !resource.identity.is_empty() {
            resource.info = self.labels(attributes.iter().filter(|(key, _)| is_told(key)));
            resource.info = overwritten(std::mem::take(&mut resource.info), &resource.identity);
        }
        self.resource = resource;
    }

    /// Writes the resource's `target_info` over the time of its points.
    pub(super) fn close_resource(&mut self) {
        let resource = std::mem::take(&mut self.resource);
        if resource.info.is_empty() || resource.times_ms.is_empty() {
            return;
        }
        self.builder.label(METRIC_NAME, "target_info");
        for (name, value) in &resource.info {
            self.builder.label(name, value);
        }
        let Ok(series) = self.builder.close_labels(Temporality::Cumulative) else { return };
        let mut next_ms = i64::MIN;
        for (first_ms, last_ms) in resource.times_ms.into_values() {
            // Where the points leave a longer gap, nothing needs to be joined.
            if next_ms == i64::MIN || first_ms.saturating_sub(next_ms) > MAX_INFO_GAP_MS {
                next_ms = first_ms;
            }
            while next_ms < last_ms {
                self.builder.sample(series, next_ms, 1.0, 0);
                next_ms = next_ms.saturating_add(INFO_INTERVAL_MS);
            }
            self.builder.sample(series, last_ms, 1.0, 0);
            next_ms = last_ms.saturating_add(INFO_INTERVAL_MS);
        }
        self.builder.metadata(Metadata {
            family: "target_info".to_owned(),
            metric_type: MetricType::Gauge,
            unit: String::new(),
            help: "Target metadata".to_owned(),
        });
    }

    pub(super) fn open_scope(&mut self, scope: &Scope) {
        self.scope_labels.clear();
        if !self.translation.promote_scope_metadata {
            return;
        }
        let own = [("name", &scope.name), ("version", &scope.version), ("schema_url", &scope.schema_url)];
        self.scope_labels.extend(own.map(|(name, value)| (format!("otel_scope_{name}"), value.clone())));
        for (name, value) in self.labels(scope.attributes.iter()) {
            self.scope_labels.push((format!("otel_scope_{name}"), value));
        }
    }

    /// Attributes as labels, sorted; values of attributes that get the same name are joined.
    fn labels<'a>(&self, attributes: impl Iterator<Item = &'a (String, AnyValue)>) -> Vec<(String, String)> {
        let mut sorted: Vec<&(String, AnyValue)> = attributes.filter(|(key, _)| key != METRIC_NAME).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in sorted {
            let Some(name) = names::label_name(key, self.translation.strategy) else { continue };
            let text = value_text(value);
            match labels.get_mut(&name) {
                None => {
                    labels.insert(name, text);
                }
                Some(joined) => {
                    joined.push(';');
                    joined.push_str(&text);
                }
            }
        }
        labels.into_iter().collect()
    }

    pub(super) fn metric(&mut self, metric: &MetricIn, points: &[PointIn]) {
        let kind = match metric.kind {
            Kind::Sum { is_monotonic: true, .. } => NameKind::MonotonicSum,
            Kind::Gauge => NameKind::Gauge,
            _ => NameKind::Other,
        };
        let Some(name) = names::metric_name(&metric.name, &metric.unit, kind, self.translation.strategy)
        else {
            self.rejected.add(Reason::Labels, points.len() as u64, || {
                format!("metric {:?} has no name that can be used", cut(&metric.name))
            });
            return;
        };
        let is_delta = metric.kind.is_delta();
        self.builder.metadata(Metadata {
            family: name.clone(),
            metric_type: match metric.kind {
                _ if is_delta => MetricType::Unknown,
                Kind::Gauge | Kind::Sum { is_monotonic: false, .. } => MetricType::Gauge,
                Kind::Sum { .. } => MetricType::Counter,
                Kind::Histogram { .. } | Kind::Exponential { .. } => MetricType::Histogram,
                Kind::Summary => MetricType::Summary,
            },
            unit: names::unit_text(&metric.unit),
            help: metric.description.clone(),
        });
        let temporality = if is_delta { Temporality::Delta } else { Temporality::Cumulative };
        for point in points {
            if self.excess().is_some() {
                return;
            }
            self.point(&name, temporality, point);
        }
    }

    fn point(&mut self, name: &str, temporality: Temporality, point: &PointIn) {
        let labels = self.point_labels(&point.attributes);
        let too_long = labels.iter().any(|(_, value)| value.len() > self.limits.max_label_value_bytes);
        if labels.len() > self.limits.max_labels || too_long {
            let (most, longest) = (self.limits.max_labels, self.limits.max_label_value_bytes);
            self.rejected.add(Reason::LabelLimits, 1, || {
                format!(
                    "a point of metric {:?} has more than {most} labels, or one longer than {longest} bytes",
                    cut(name)
                )
            });
            return;
        }
        let time_ms = (point.time_ns / 1_000_000) as i64;
        if let Some(fault) = self.limits.fault_of_time(time_ms) {
            self.rejected.add(Reason::Time, 1, || format!("a point of metric {:?} {fault}", cut(name)));
            return;
        }
        let interval =
            self.resource.times_ms.entry(time_ms.div_euclid(INFO_INTERVAL_MS)).or_insert((time_ms, time_ms));
        *interval = (interval.0.min(time_ms), interval.1.max(time_ms));
        let symbols: Vec<(u32, u32)> = labels
            .iter()
            .map(|(name, value)| (self.builder.symbol(name), self.builder.symbol(value)))
            .collect();
        let mut at = At {
            builder: &mut self.builder,
            labels: &symbols,
            temporality,
            time_ms,
            start_ms: (point.start_ns / 1_000_000) as i64,
            is_stale: point.flags & NO_RECORDED_VALUE != 0,
        };
        let fault = match &point.value {
            PointValue::None if at.is_stale => {
                at.sample(name, &[], 0.0);
                None
            }
            PointValue::None => Some("has no value".to_owned()),
            PointValue::Number(value) => {
                let series = at.sample(name, &[], *value);
                at.exemplars(series, &point.exemplars, |_| true);
                None
            }
            PointValue::Histogram { count, sum, bucket_counts, bounds } => {
                if self.translation.convert_histograms_to_nhcb {
                    at.custom_histogram(name, (*count, *sum), bucket_counts, bounds, &point.exemplars)
                } else {
                    at.classic_histogram(name, (*count, *sum), bucket_counts, bounds, &point.exemplars)
                }
            }
            PointValue::Exponential(exponential) => at.exponential(name, exponential, &point.exemplars),
            PointValue::Summary { count, sum, quantiles } => {
                at.sample(&format!("{name}_sum"), &[], *sum);
                at.sample(&format!("{name}_count"), &[], *count as f64);
                for (quantile, value) in quantiles {
                    at.sample(name, &[("quantile", &plain(*quantile))], *value);
                }
                None
            }
        };
        if let Some(fault) = fault {
            self.rejected.add(Reason::Value, 1, || format!("a point of metric {:?} {fault}", cut(name)));
        }
    }

    /// The labels of a point's series but the name: its own, promoted ones, `job` and `instance`, the scope's.
    fn point_labels(&self, attributes: &Attributes) -> Vec<(String, String)> {
        let mut labels = self.labels(attributes.iter());
        for (name, value) in &self.resource.promoted {
            if !labels.iter().any(|(other, _)| other == name) {
                labels.push((name.clone(), value.clone()));
            }
        }
        overwritten(overwritten(labels, &self.resource.identity), &self.scope_labels)
    }
}

/// `labels` with those of `over` in place of their own of the same name.
fn overwritten(mut labels: Vec<(String, String)>, over: &[(String, String)]) -> Vec<(String, String)> {
    labels.retain(|(name, _)| !over.iter().any(|(other, _)| other == name));
    labels.extend(over.iter().cloned());
    labels
}

/// The series of one point.
struct At<'a> {
    builder: &'a mut SeriesBuilder,
    labels: &'a [(u32, u32)],
    temporality: Temporality,
    time_ms: i64,
    start_ms: i64,
    is_stale: bool,
}

impl At<'_> {
    /// The series with this name and more labels, which overwrite.
    fn series(&mut self, name: &str, more: &[(&str, &str)]) -> Option<u32> {
        let name = (self.builder.symbol(METRIC_NAME), self.builder.symbol(name));
        self.builder.label_at(name.0, name.1);
        let more: Vec<(u32, u32)> = more
            .iter()
            .map(|(name, value)| (self.builder.symbol(name), self.builder.symbol(value)))
            .collect();
        for &(label, value) in self.labels {
            if label != name.0 && !more.iter().any(|(other, _)| *other == label) {
                self.builder.label_at(label, value);
            }
        }
        for (label, value) in more {
            self.builder.label_at(label, value);
        }
        self.builder.close_labels(self.temporality).ok()
    }

    fn sample(&mut self, name: &str, more: &[(&str, &str)], value: f64) -> Option<u32> {
        let series = self.series(name, more)?;
        let value = if self.is_stale { f64::from_bits(STALE_BITS) } else { value };
        self.builder.sample(series, self.time_ms, value, self.start_ms);
        Some(series)
    }

    fn exemplars(&mut self, series: Option<u32>, exemplars: &[ExemplarIn], is_wanted: impl Fn(f64) -> bool) {
        let Some(series) = series else { return };
        for exemplar in exemplars.iter().filter(|exemplar| is_wanted(exemplar.value)) {
            self.builder.exemplar(series, translated(exemplar));
        }
    }

    /// `_bucket`, `_count` and `_sum`, the last only if it is said.
    fn classic_histogram(
        &mut self,
        name: &str,
        (count, sum): (u64, Option<f64>),
        bucket_counts: &[u64],
        bounds: &[f64],
        exemplars: &[ExemplarIn],
    ) -> Option<String> {
        if let Some(fault) = fault_of_bounds(bucket_counts, bounds) {
            return Some(fault);
        }
        if let Some(sum) = sum {
            self.sample(&format!("{name}_sum"), &[], sum);
        }
        self.sample(&format!("{name}_count"), &[], count as f64);
        let bucket = format!("{name}_bucket");
        let mut cumulative = 0_u64;
        let mut below = f64::NEG_INFINITY;
        for (bound, n) in bounds.iter().zip(bucket_counts) {
            cumulative = cumulative.saturating_add(*n);
            let series = self.sample(&bucket, &[("le", &plain(*bound))], cumulative as f64);
            self.exemplars(series, exemplars, |value| below < value && value <= *bound);
            below = *bound;
        }
        let series = self.sample(&bucket, &[("le", "+Inf")], count as f64);
        self.exemplars(series, exemplars, |value| value > below || value.is_nan());
        None
    }

    fn custom_histogram(
        &mut self,
        name: &str,
        (count, sum): (u64, Option<f64>),
        bucket_counts: &[u64],
        bounds: &[f64],
        exemplars: &[ExemplarIn],
    ) -> Option<String> {
        if let Some(fault) = fault_of_bounds(bucket_counts, bounds) {
            return Some(fault);
        }
        let counts: Vec<f64> = bucket_counts.iter().map(|&n| n as f64).collect();
        let spans = if counts.is_empty() {
            Vec::new()
        } else {
            vec![BucketSpan { offset: 0, length: counts.len() as u32 }]
        };
        self.histogram(
            name,
            NativeHistogram {
                schema: CUSTOM_BOUNDS_SCHEMA,
                count: count as f64,
                sum: sum.unwrap_or(0.0),
                positive: Buckets { spans, counts },
                custom_bounds: bounds.to_vec(),
                is_integer: true,
                ..NativeHistogram::default()
            },
            exemplars,
        );
        None
    }

    fn exponential(
        &mut self,
        name: &str,
        exponential: &Exponential,
        exemplars: &[ExemplarIn],
    ) -> Option<String> {
        if exponential.scale < MIN_SCHEMA {
            return Some(format!("has the scale {}, less than {MIN_SCHEMA}", exponential.scale));
        }
        let scale_down = (exponential.scale - MAX_SCHEMA).max(0);
        let zero_threshold =
            exponential.zero_threshold.filter(|width| *width > 0.0).unwrap_or(DEFAULT_ZERO_THRESHOLD);
        self.histogram(
            name,
            NativeHistogram {
                schema: exponential.scale.min(MAX_SCHEMA),
                zero_threshold,
                zero_count: exponential.zero_count as f64,
                count: exponential.count as f64,
                sum: exponential.sum.unwrap_or(0.0),
                positive: sparse(exponential.positive.0, &exponential.positive.1, scale_down),
                negative: sparse(exponential.negative.0, &exponential.negative.1, scale_down),
                is_integer: true,
                ..NativeHistogram::default()
            },
            exemplars,
        );
        None
    }

    fn histogram(&mut self, name: &str, mut histogram: NativeHistogram, exemplars: &[ExemplarIn]) {
        let Some(series) = self.series(name, &[]) else { return };
        if self.is_stale {
            histogram = NativeHistogram { sum: f64::from_bits(STALE_BITS), ..NativeHistogram::default() };
        }
        if self.temporality == Temporality::Delta {
            histogram.reset_hint = ResetHint::Gauge;
        }
        let sample = HistogramSample {
            time_ms: self.time_ms,
            start_ms: self.start_ms,
            histogram: Arc::new(histogram),
        };
        self.builder.histogram(series, sample);
        self.exemplars(Some(series), exemplars, |_| true);
    }
}

fn fault_of_bounds(bucket_counts: &[u64], bounds: &[f64]) -> Option<String> {
    let is_empty = bucket_counts.is_empty() && bounds.is_empty();
    if !is_empty && bucket_counts.len() != bounds.len() + 1 {
        return Some(format!("has {} buckets for {} bounds", bucket_counts.len(), bounds.len()));
    }
    if !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return Some("has bounds that do not ascend".to_owned());
    }
    None
}

/// Dense counts from `offset` on as runs, at a schema coarser by `scale_down`. Empty buckets are left out unless there
/// are no more than two between others. Prometheus numbers a bucket by its upper bound, hence one more.
fn sparse(offset: i32, counts: &[u64], scale_down: i32) -> Buckets {
    const MAX_GAP: i32 = 2;
    let mut merged: Vec<(i32, f64)> = Vec::new();
    for (position, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let index = (offset.saturating_add(position as i32) >> scale_down.min(31)).saturating_add(1);
        match merged.last_mut() {
            Some((last, sum)) if *last == index => *sum += count as f64,
            _ => merged.push((index, count as f64)),
        }
    }
    let mut buckets = Buckets::default();
    let mut next = 0;
    for (index, count) in merged {
        let gap = index.saturating_sub(next);
        match buckets.spans.last_mut() {
            Some(span) if gap <= MAX_GAP => {
                span.length += gap as u32 + 1;
                buckets.counts.resize(buckets.counts.len() + gap as usize, 0.0);
            }
            _ => buckets.spans.push(BucketSpan { offset: gap, length: 1 }),
        }
        buckets.counts.push(count);
        next = index.saturating_add(1);
    }
    buckets
}

fn translated(exemplar: &ExemplarIn) -> Exemplar {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, id) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        if !id.is_empty() {
            pairs.push((name.to_owned(), hex(id)));
        }
    }
    let runes = |pairs: &[(String, String)]| -> usize {
        pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
    };
    let attributes: Vec<(String, String)> =
        exemplar.attributes.iter().map(|(key, value)| (key.clone(), value_text(value))).collect();
    // All of them or none.
    if runes(&pairs) + runes(&attributes) <= MAX_EXEMPLAR_RUNES {
        pairs.extend(attributes);
    }
    Exemplar {
        time_ms: (exemplar.time_ns / 1_000_000) as i64,
        value: exemplar.value,
        labels: Labels::from_pairs(pairs),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("invariant: writing to a String does not fail");
        out
    })
}

/// A bound or quantile: plain decimal, no exponent.
fn plain(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    value.to_string()
}

/// A value as text: numbers shortest, arrays and maps as JSON, bytes as base64.
fn value_text(value: &AnyValue) -> String {
    use base64::Engine as _;
    match value {
        AnyValue::Empty => String::new(),
        AnyValue::String(text) => text.clone(),
        AnyValue::Bool(truth) => truth.to_string(),
        AnyValue::Int(number) => number.to_string(),
        AnyValue::Double(number) => plain(*number),
        AnyValue::Bytes(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            let mut out = String::new();
            attribute::write_value(&mut out, value);
            out
        }
    }
}

/// A name that is short enough for a message.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(100)]
}
