//! Data points → series.
//!
//! Source: Prometheus `storage/remote/otlptranslator/prometheusremotewrite`.

use std::collections::{BTreeMap, HashMap};
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
    /// What all points of the open scope get, ascending by name.
    shared: Vec<SharedLabel>,
    /// Symbols of the names that attributes get, by key; `None` for a key of which no name is left.
    label_names: HashMap<String, Option<u32>>,
    /// Bounds of the last histogram, with the symbols of their texts.
    bounds: (Vec<f64>, Vec<u32>),
    symbols: Symbols,
}

/// Names that every translation needs, as symbols.
#[derive(Clone, Copy)]
struct Symbols {
    metric_name: u32,
    le: u32,
    infinity: u32,
}

/// A label that comes from the resource or the scope.
#[derive(Clone, Copy)]
struct SharedLabel {
    name: u32,
    value: u32,
    /// Whether a point's own label of this name counts instead; else this one does.
    gives_way: bool,
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
        let mut builder = SeriesBuilder::default();
        let symbols = Symbols {
            metric_name: builder.symbol(METRIC_NAME),
            le: builder.symbol("le"),
            infinity: builder.symbol("+Inf"),
        };
        Self {
            translation,
            limits,
            builder,
            rejected: Rejected::default(),
            resource: Resource::default(),
            scope_labels: Vec::new(),
            shared: Vec::new(),
            label_names: HashMap::default(),
            bounds: (Vec::new(), Vec::new()),
            symbols,
        }
    }

    pub(super) fn finish(self) -> DecodedMetrics {
        DecodedMetrics { batch: self.builder.finish(), rejected: self.rejected }
    }

    /// What there is more of than allowed, and how much would be: the rest need not be read.
    pub(super) fn excess(&self) -> Option<Error> {
        self.limits.excess(&self.builder)
    }

    /// Counts a point of a metric that cannot be read.
    pub(super) fn reject_point(&mut self, metric: &str, error: &Error) {
        self.rejected.add(Reason::Value, 1, || format!("a point of metric {:?}: {error}", cut(metric)));
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
        if self.translation.promote_scope_metadata {
            self.promote_scope(scope);
        }
        // Later ones overwrite: the identity what is promoted, the scope both.
        let mut shared: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
        for (name, value) in &self.resource.promoted {
            shared.insert(name, (value, true));
        }
        for (name, value) in self.resource.identity.iter().chain(&self.scope_labels) {
            shared.insert(name, (value, false));
        }
        // An empty value is no label, but it overwrites one.
        self.shared.clear();
        for (name, (value, gives_way)) in shared {
            let (name, value) = (self.builder.symbol(name), self.builder.symbol(value));
            self.shared.push(SharedLabel { name, value, gives_way });
        }
    }

    fn promote_scope(&mut self, scope: &Scope) {
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
        let names = Names::new(&name, metric.kind, &mut self.builder);
        for point in points {
            if self.excess().is_some() {
                return;
            }
            self.point(&names, temporality, point);
        }
    }

    fn point(&mut self, names: &Names<'_>, temporality: Temporality, point: &PointIn) {
        let labels = self.point_labels(&point.attributes);
        let longest = labels.iter().map(|label| self.builder.text(label.1).len()).max().unwrap_or(0);
        if labels.len() > self.limits.max_labels || longest > self.limits.max_label_value_bytes {
            let (most, longest) = (self.limits.max_labels, self.limits.max_label_value_bytes);
            let name = cut(names.text);
            self.rejected.add(Reason::LabelLimits, 1, || {
                format!(
                    "a point of metric {name:?} has more than {most} labels, or one longer than {longest} bytes"
                )
            });
            return;
        }
        let time_ms = (point.time_ns / 1_000_000) as i64;
        if let Some(fault) = self.limits.fault_of_time(time_ms) {
            let name = cut(names.text);
            self.rejected.add(Reason::Time, 1, || format!("a point of metric {name:?} {fault}"));
            return;
        }
        let interval =
            self.resource.times_ms.entry(time_ms.div_euclid(INFO_INTERVAL_MS)).or_insert((time_ms, time_ms));
        *interval = (interval.0.min(time_ms), interval.1.max(time_ms));
        let name_place = place_of(&self.builder, &labels, METRIC_NAME).unwrap_or_else(|at| at);
        let mut at = At {
            builder: &mut self.builder,
            bounds: &mut self.bounds,
            symbols: self.symbols,
            labels: &labels,
            name_place,
            le_place: None,
            temporality,
            time_ms,
            start_ms: (point.start_ns / 1_000_000) as i64,
            is_stale: point.flags & NO_RECORDED_VALUE != 0,
        };
        let fault = match &point.value {
            PointValue::None if at.is_stale => {
                at.sample(names.plain, None, 0.0);
                None
            }
            PointValue::None => Some("has no value".to_owned()),
            PointValue::Number(value) => {
                let series = at.sample(names.plain, None, *value);
                at.exemplars(series, &point.exemplars, |_| true);
                None
            }
            PointValue::Histogram { count, sum, bucket_counts, bounds } => {
                if self.translation.convert_histograms_to_nhcb {
                    at.custom_histogram(names, (*count, *sum), bucket_counts, bounds, &point.exemplars)
                } else {
                    at.classic_histogram(names, (*count, *sum), bucket_counts, bounds, &point.exemplars)
                }
            }
            PointValue::Exponential(exponential) => at.exponential(names, exponential, &point.exemplars),
            PointValue::Summary { count, sum, quantiles } => {
                at.sample(names.sum, None, *sum);
                at.sample(names.count, None, *count as f64);
                let label = at.builder.symbol("quantile");
                for (quantile, value) in quantiles {
                    let quantile = at.builder.symbol(&plain(*quantile));
                    at.sample(names.plain, Some((label, quantile)), *value);
                }
                None
            }
        };
        if let Some(fault) = fault {
            let name = cut(names.text);
            self.rejected.add(Reason::Value, 1, || format!("a point of metric {name:?} {fault}"));
        }
    }

    /// The labels of a point's series but the name, as symbols, ascending by name: its own, promoted ones, `job` and
    /// `instance`, the scope's. None is empty.
    fn point_labels(&mut self, attributes: &Attributes) -> Vec<(u32, u32)> {
        let mut own = self.own_labels(attributes);
        let is_overwritten =
            |name: u32| self.shared.iter().any(|other| !other.gives_way && other.name == name);
        own.retain(|label| !is_overwritten(label.0));
        let is_own = |name: u32| own.iter().any(|other| other.0 == name);
        let others = self.shared.iter().filter(|label| !(label.gives_way && is_own(label.name)));
        let others = others.map(|label| (label.name, label.value));
        // Both ascend by name.
        let name = |label: &(u32, u32)| self.builder.text(label.0);
        let mut labels = Vec::with_capacity(own.len() + self.shared.len());
        let mut own = own.iter().copied().peekable();
        for other in others {
            while let Some(label) = own.next_if(|label| name(label) < name(&other)) {
                labels.push(label);
            }
            labels.push(other);
        }
        labels.extend(own);
        labels.retain(|label| label.0 != self.symbols.metric_name && !self.builder.text(label.1).is_empty());
        labels
    }

    /// Attributes as labels, ascending by name; values of attributes that get the same name are joined.
    fn own_labels(&mut self, attributes: &Attributes) -> Vec<(u32, u32)> {
        let mut own: Vec<(u32, u32)> = Vec::with_capacity(attributes.len());
        for (key, value) in attributes.iter().filter(|(key, _)| key != METRIC_NAME) {
            let Some(name) = self.label_symbol(key) else { continue };
            if own.iter().any(|label| label.0 == name) {
                return self.joined_labels(attributes);
            }
            let value = match value {
                AnyValue::String(text) => self.builder.symbol(text),
                other => self.builder.symbol(&value_text(other)),
            };
            own.push((name, value));
        }
        own.sort_unstable_by(|a, b| self.builder.text(a.0).cmp(self.builder.text(b.0)));
        own
    }

    fn joined_labels(&mut self, attributes: &Attributes) -> Vec<(u32, u32)> {
        let labels = self.labels(attributes.iter());
        let symbols =
            labels.iter().map(|(name, value)| (self.builder.symbol(name), self.builder.symbol(value)));
        symbols.collect()
    }

    /// The symbol of the name that an attribute's key gets.
    fn label_symbol(&mut self, key: &str) -> Option<u32> {
        if let Some(known) = self.label_names.get(key) {
            return *known;
        }
        let name = names::label_name(key, self.translation.strategy);
        let symbol = name.map(|name| self.builder.symbol(&name));
        self.label_names.insert(key.to_owned(), symbol);
        symbol
    }
}

/// The names of the series of a metric, as symbols; those that its kind has none of are the plain one.
struct Names<'n> {
    text: &'n str,
    plain: u32,
    sum: u32,
    count: u32,
    bucket: u32,
}

impl<'n> Names<'n> {
    fn new(text: &'n str, kind: Kind, builder: &mut SeriesBuilder) -> Self {
        let plain = builder.symbol(text);
        let mut names = Self { text, plain, sum: plain, count: plain, bucket: plain };
        if matches!(kind, Kind::Histogram { .. } | Kind::Summary) {
            names.sum = builder.symbol(&format!("{text}_sum"));
            names.count = builder.symbol(&format!("{text}_count"));
        }
        if matches!(kind, Kind::Histogram { .. }) {
            names.bucket = builder.symbol(&format!("{text}_bucket"));
        }
        names
    }
}

/// Where a label of this name is among labels that ascend by name, or where it would be.
fn place_of(builder: &SeriesBuilder, labels: &[(u32, u32)], name: &str) -> Result<usize, usize> {
    labels.binary_search_by(|label| builder.text(label.0).cmp(name))
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
    bounds: &'a mut (Vec<f64>, Vec<u32>),
    symbols: Symbols,
    /// Ascending by name.
    labels: &'a [(u32, u32)],
    /// Where the metric's name belongs among them.
    name_place: usize,
    /// Where `le` does, once that was looked for.
    le_place: Option<Result<usize, usize>>,
    temporality: Temporality,
    time_ms: i64,
    start_ms: i64,
    is_stale: bool,
}

impl At<'_> {
    /// The series with this name and one more label, which overwrites.
    fn series(&mut self, name: u32, more: Option<(u32, u32)>) -> u32 {
        let (labels, name_place) = (self.labels, self.name_place);
        let name = (self.symbols.metric_name, name);
        let Some(more) = more else {
            self.builder.labels_at(&labels[..name_place]);
            self.builder.labels_at(&[name]);
            self.builder.labels_at(&labels[name_place..]);
            return self.builder.close_sorted_labels(self.temporality);
        };
        let place = match self.le_place {
            Some(place) if more.0 == self.symbols.le => place,
            _ => place_of(self.builder, labels, self.builder.text(more.0)),
        };
        if more.0 == self.symbols.le {
            self.le_place = Some(place);
        }
        let (before, after) = match place {
            Ok(at) => (at, at + 1),
            Err(at) => (at, at),
        };
        let is_first = before < name_place || before == name_place && self.builder.text(more.0) < METRIC_NAME;
        if is_first {
            self.builder.labels_at(&labels[..before]);
            self.builder.labels_at(&[more]);
            self.builder.labels_at(&labels[after..name_place]);
            self.builder.labels_at(&[name]);
            self.builder.labels_at(&labels[name_place..]);
        } else {
            self.builder.labels_at(&labels[..name_place]);
            self.builder.labels_at(&[name]);
            self.builder.labels_at(&labels[name_place..before]);
            self.builder.labels_at(&[more]);
            self.builder.labels_at(&labels[after..]);
        }
        self.builder.close_sorted_labels(self.temporality)
    }

    fn sample(&mut self, name: u32, more: Option<(u32, u32)>, value: f64) -> u32 {
        let series = self.series(name, more);
        let value = if self.is_stale { f64::from_bits(STALE_BITS) } else { value };
        self.builder.sample(series, self.time_ms, value, self.start_ms);
        series
    }

    fn exemplars(&mut self, series: u32, exemplars: &[ExemplarIn], is_wanted: impl Fn(f64) -> bool) {
        for exemplar in exemplars.iter().filter(|exemplar| is_wanted(exemplar.value)) {
            self.builder.exemplar(series, translated(exemplar));
        }
    }

    /// `_bucket`, `_count` and `_sum`, the last only if it is said.
    fn classic_histogram(
        &mut self,
        names: &Names<'_>,
        (count, sum): (u64, Option<f64>),
        bucket_counts: &[u64],
        bounds: &[f64],
        exemplars: &[ExemplarIn],
    ) -> Option<String> {
        if let Some(fault) = fault_of_bounds(bucket_counts, bounds) {
            return Some(fault);
        }
        if let Some(sum) = sum {
            self.sample(names.sum, None, sum);
        }
        self.sample(names.count, None, count as f64);
        let is_known = self.bounds.0.len() == bounds.len()
            && self.bounds.0.iter().zip(bounds).all(|(a, b)| a.to_bits() == b.to_bits());
        if !is_known {
            *self.bounds = (bounds.to_vec(), Vec::new());
            for bound in bounds {
                let text = self.builder.symbol(&plain(*bound));
                self.bounds.1.push(text);
            }
        }
        let le = self.symbols.le;
        let mut cumulative = 0_u64;
        let mut below = f64::NEG_INFINITY;
        for (position, (bound, n)) in bounds.iter().zip(bucket_counts).enumerate() {
            cumulative = cumulative.saturating_add(*n);
            let text = self.bounds.1[position];
            let series = self.sample(names.bucket, Some((le, text)), cumulative as f64);
            self.exemplars(series, exemplars, |value| below < value && value <= *bound);
            below = *bound;
        }
        let series = self.sample(names.bucket, Some((le, self.symbols.infinity)), count as f64);
        self.exemplars(series, exemplars, |value| value > below || value.is_nan());
        None
    }

    fn custom_histogram(
        &mut self,
        names: &Names<'_>,
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
            names.plain,
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
        names: &Names<'_>,
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
            names.plain,
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

    fn histogram(&mut self, name: u32, mut histogram: NativeHistogram, exemplars: &[ExemplarIn]) {
        let series = self.series(name, None);
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
        self.exemplars(series, exemplars, |_| true);
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
