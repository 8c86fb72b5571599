//! The pods' metrics as OTLP's messages.
//!
//! Source of the field numbers: opentelemetry-proto `metrics.proto`, `common.proto`.

use super::{BOUNDS, Motion, OneSeries, Target};
use crate::traffic::proto;

const CUMULATIVE: u64 = 2;

/// A `KeyValue` with a text.
pub(super) fn attribute(key: &str, text: &str) -> Vec<u8> {
    let mut value = Vec::new();
    proto::bytes(&mut value, 1, text.as_bytes());
    let mut out = Vec::new();
    proto::bytes(&mut out, 1, key.as_bytes());
    proto::bytes(&mut out, 2, &value);
    out
}

/// A `Resource` with these attributes.
pub(super) fn resource(attributes: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, text) in attributes {
        proto::bytes(&mut out, 1, &attribute(key, text));
    }
    out
}

/// Appends a `ResourceMetrics` with what a pod says at a time.
pub(super) fn push_target(body: &mut Vec<u8>, target: &Target, time_ms: i64) {
    let mut metrics = Vec::new();
    let mut scope = Vec::new();
    proto::bytes(&mut scope, 1, b"shop");
    proto::bytes(&mut metrics, 1, &scope);
    let is_same = |a: &&OneSeries, b: &OneSeries| a.name == b.name;
    let own = target.series.iter().filter(|series| series.name != "target_info");
    let mut rest: Vec<&OneSeries> = own.collect();
    while let Some(first) = rest.first().copied() {
        let (points, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|series| is_same(series, first));
        rest = others;
        // Parts of a histogram are sent with its count.
        if matches!(first.motion, Motion::Bucket { .. } | Motion::Sum { .. }) {
            continue;
        }
        let metric = match first.name.strip_suffix("_count") {
            Some(name) => histogram(name, &points, target, time_ms),
            None => numbers(&first.name, &points, time_ms),
        };
        proto::bytes(&mut metrics, 2, &metric);
    }
    let mut of_resource = Vec::new();
    proto::bytes(&mut of_resource, 1, &target.resource);
    proto::bytes(&mut of_resource, 2, &metrics);
    proto::bytes(body, 1, &of_resource);
}

fn times(point: &mut Vec<u8>, time_ms: i64) {
    const SINCE_MS: i64 = 3_600_000;
    proto::fixed64(point, 2, ((time_ms - SINCE_MS) * 1_000_000) as u64);
    proto::fixed64(point, 3, (time_ms * 1_000_000) as u64);
}

/// A gauge, or a monotonic sum.
fn numbers(name: &str, points: &[&OneSeries], time_ms: i64) -> Vec<u8> {
    let mut data = Vec::new();
    for series in points {
        let mut point = Vec::new();
        times(&mut point, time_ms);
        proto::fixed64(&mut point, 4, series.value.to_bits());
        for attribute in &series.attributes {
            proto::bytes(&mut point, 7, attribute);
        }
        proto::bytes(&mut data, 1, &point);
    }
    let counts = matches!(points[0].motion, Motion::Counter { .. });
    if counts {
        proto::number(&mut data, 2, CUMULATIVE);
        proto::number(&mut data, 3, 1);
    }
    let mut metric = Vec::new();
    proto::bytes(&mut metric, 1, name.as_bytes());
    proto::bytes(&mut metric, if counts { 7 } else { 5 }, &data);
    metric
}

/// Histograms of the counts in `points`, with their sums and buckets.
fn histogram(name: &str, points: &[&OneSeries], target: &Target, time_ms: i64) -> Vec<u8> {
    let mut data = Vec::new();
    for series in points {
        let position = target.series.iter().position(|other| std::ptr::eq(other, *series));
        let of_this = |requests: usize| Some(requests) == position;
        let (mut sum, mut cumulative) = (0.0, Vec::new());
        for other in &target.series {
            match other.motion {
                Motion::Sum { requests } if of_this(requests) => sum = other.value,
                Motion::Bucket { requests, .. } if of_this(requests) => cumulative.push(other.value),
                _ => {}
            }
        }
        let mut before = 0.0;
        let mut counts = Vec::new();
        for value in cumulative {
            counts.extend_from_slice(&((value - before) as u64).to_le_bytes());
            before = value;
        }
        let bounds = BOUNDS.iter().filter_map(|(bound, _)| bound.parse::<f64>().ok());
        let bounds: Vec<u8> = bounds.filter(|bound| bound.is_finite()).flat_map(f64::to_le_bytes).collect();
        let mut point = Vec::new();
        times(&mut point, time_ms);
        proto::fixed64(&mut point, 4, before as u64);
        proto::fixed64(&mut point, 5, f64::to_bits(sum));
        proto::bytes(&mut point, 6, &counts);
        proto::bytes(&mut point, 7, &bounds);
        for attribute in &series.attributes {
            proto::bytes(&mut point, 9, attribute);
        }
        proto::bytes(&mut data, 1, &point);
    }
    proto::number(&mut data, 2, CUMULATIVE);
    let mut metric = Vec::new();
    proto::bytes(&mut metric, 1, name.as_bytes());
    proto::bytes(&mut metric, 9, &data);
    metric
}
