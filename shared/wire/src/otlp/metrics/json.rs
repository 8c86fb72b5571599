//! Metrics in OTLP/JSON: whole numbers may be texts, ids are hexadecimal, enumerations are numbers, unknown keys are
//! passed over, and `null` is "not said".

use base64::Engine as _;
use model::attribute::{AnyValue, Attributes};
use serde_json::Value;

use super::translate::Translator;
use super::{DELTA, ExemplarIn, Exponential, Kind, MetricIn, PointIn, PointValue, Scope};
use crate::error::Error;
use crate::limits::Limits;

/// A message that has a field of another JSON type than it can have.
#[derive(Debug)]
struct Wrong {
    field: &'static str,
    expected: &'static str,
}

type Read<T> = Result<T, Wrong>;

pub(super) fn read(body: &[u8], limits: &Limits, translator: &mut Translator<'_>) -> Result<(), Error> {
    let text = std::str::from_utf8(body).map_err(|err| Error::NotUtf8 { offset: err.valid_up_to() })?;
    // Bounded depth: the default of the parser, which is deeper than any message of metrics needs to be.
    let request: Value = serde_json::from_str(text).map_err(Error::Json)?;
    resources(&request, limits, translator).map_err(|wrong| {
        let message = format!("field {} must be {}", wrong.field, wrong.expected);
        Error::Json(serde::de::Error::custom(message))
    })
}

fn resources(request: &Value, limits: &Limits, translator: &mut Translator<'_>) -> Read<()> {
    if !request.is_object() {
        return Err(Wrong { field: "(the request)", expected: "an object" });
    }
    for resource in list(request, "resourceMetrics")? {
        translator.open_resource(&attributes(&resource["resource"], limits)?);
        for scope_metrics in list(resource, "scopeMetrics")? {
            let scope = &scope_metrics["scope"];
            translator.open_scope(&Scope {
                name: text(scope, "name")?,
                version: text(scope, "version")?,
                attributes: attributes(scope, limits)?,
                schema_url: text(scope_metrics, "schemaUrl")?,
            });
            for metric in list(scope_metrics, "metrics")? {
                read_metric(metric, limits, translator)?;
                if translator.excess().is_some() {
                    return Ok(());
                }
            }
        }
        translator.close_resource();
    }
    Ok(())
}

fn read_metric(metric: &Value, limits: &Limits, translator: &mut Translator<'_>) -> Read<()> {
    type ReadPoint = fn(&Value, &Limits) -> Read<PointIn>;
    let kinds: [(&str, ReadPoint); 5] = [
        ("gauge", number_point),
        ("sum", number_point),
        ("histogram", histogram_point),
        ("exponentialHistogram", exponential_point),
        ("summary", summary_point),
    ];
    let mut head = MetricIn {
        name: text(metric, "name")?,
        description: text(metric, "description")?,
        unit: text(metric, "unit")?,
        kind: Kind::Gauge,
    };
    let mut points = Vec::new();
    for (key, point) in kinds {
        let data = &metric[key];
        if data.is_null() {
            continue;
        }
        let is_delta = temporality(data)? == DELTA;
        head.kind = match key {
            "gauge" => Kind::Gauge,
            "sum" => Kind::Sum { is_monotonic: truth(data, "isMonotonic")?, is_delta },
            "histogram" => Kind::Histogram { is_delta },
            "exponentialHistogram" => Kind::Exponential { is_delta },
            _ => Kind::Summary,
        };
        for value in list(data, "dataPoints")? {
            points.push(point(value, limits)?);
        }
    }
    translator.metric(&head, &points);
    Ok(())
}

/// The number of a temporality, which some senders name.
fn temporality(data: &Value) -> Read<i64> {
    match &data["aggregationTemporality"] {
        Value::String(name) if name == "AGGREGATION_TEMPORALITY_DELTA" => Ok(DELTA),
        Value::String(name) if name.starts_with("AGGREGATION_TEMPORALITY_") => Ok(0),
        _ => Ok(integer(data, "aggregationTemporality")?.unwrap_or(0)),
    }
}

fn point_of(point: &Value, limits: &Limits) -> Read<PointIn> {
    let mut exemplars = Vec::new();
    for exemplar in list(point, "exemplars")? {
        exemplars.push(ExemplarIn {
            time_ns: unsigned(exemplar, "timeUnixNano")?,
            value: number_value(exemplar)?.unwrap_or(0.0),
            trace_id: id(exemplar, "traceId")?,
            span_id: id(exemplar, "spanId")?,
            attributes: key_values(exemplar, "filteredAttributes", limits)?,
        });
    }
    Ok(PointIn {
        attributes: attributes(point, limits)?,
        start_ns: unsigned(point, "startTimeUnixNano")?,
        time_ns: unsigned(point, "timeUnixNano")?,
        flags: unsigned(point, "flags")? as u32,
        value: PointValue::None,
        exemplars,
    })
}

/// `asDouble` or `asInt`.
fn number_value(point: &Value) -> Read<Option<f64>> {
    match double(point, "asDouble")? {
        Some(value) => Ok(Some(value)),
        None => Ok(integer(point, "asInt")?.map(|value| value as f64)),
    }
}

fn number_point(value: &Value, limits: &Limits) -> Read<PointIn> {
    let mut point = point_of(value, limits)?;
    if let Some(number) = number_value(value)? {
        point.value = PointValue::Number(number);
    }
    Ok(point)
}

fn histogram_point(value: &Value, limits: &Limits) -> Read<PointIn> {
    let mut point = point_of(value, limits)?;
    let mut bounds = Vec::new();
    for bound in list(value, "explicitBounds")? {
        bounds.push(as_double(bound).ok_or(Wrong { field: "explicitBounds", expected: "numbers" })?);
    }
    point.value = PointValue::Histogram {
        count: unsigned(value, "count")?,
        sum: double(value, "sum")?,
        bucket_counts: counts(value)?,
        bounds,
    };
    Ok(point)
}

fn exponential_point(value: &Value, limits: &Limits) -> Read<PointIn> {
    let mut point = point_of(value, limits)?;
    let side = |key: &'static str| -> Read<(i32, Vec<u64>)> {
        let buckets = &value[key];
        Ok((integer(buckets, "offset")?.unwrap_or(0) as i32, counts(buckets)?))
    };
    point.value = PointValue::Exponential(Box::new(Exponential {
        scale: integer(value, "scale")?.unwrap_or(0) as i32,
        count: unsigned(value, "count")?,
        sum: double(value, "sum")?,
        zero_count: unsigned(value, "zeroCount")?,
        zero_threshold: double(value, "zeroThreshold")?,
        positive: side("positive")?,
        negative: side("negative")?,
    }));
    Ok(point)
}

fn summary_point(value: &Value, limits: &Limits) -> Read<PointIn> {
    let mut point = point_of(value, limits)?;
    let mut quantiles = Vec::new();
    for quantile in list(value, "quantileValues")? {
        quantiles
            .push((double(quantile, "quantile")?.unwrap_or(0.0), double(quantile, "value")?.unwrap_or(0.0)));
    }
    point.value = PointValue::Summary {
        count: unsigned(value, "count")?,
        sum: double(value, "sum")?.unwrap_or(0.0),
        quantiles,
    };
    Ok(point)
}

fn counts(message: &Value) -> Read<Vec<u64>> {
    let wrong = || Wrong { field: "bucketCounts", expected: "whole numbers" };
    list(message, "bucketCounts")?.iter().map(|count| as_unsigned(count).ok_or_else(wrong)).collect()
}

fn list<'a>(message: &'a Value, field: &'static str) -> Read<&'a [Value]> {
    match &message[field] {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(Wrong { field, expected: "an array" }),
    }
}

fn text(message: &Value, field: &'static str) -> Read<String> {
    match &message[field] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(Wrong { field, expected: "a string" }),
    }
}

fn truth(message: &Value, field: &'static str) -> Read<bool> {
    match &message[field] {
        Value::Null => Ok(false),
        Value::Bool(truth) => Ok(*truth),
        _ => Err(Wrong { field, expected: "a boolean" }),
    }
}

fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().or_else(|| {
            number.as_f64().filter(|value| value.fract().to_bits() << 1 == 0).map(|value| value as i64)
        }),
        _ => None,
    }
}

fn as_unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => {
            number.as_u64().or_else(|| as_integer(value).and_then(|value| u64::try_from(value).ok()))
        }
        _ => None,
    }
}

/// A number, or one of the three that JSON has no number for.
fn as_double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.parse().ok(),
        },
        _ => None,
    }
}

fn integer(message: &Value, field: &'static str) -> Read<Option<i64>> {
    match &message[field] {
        Value::Null => Ok(None),
        value => as_integer(value).map(Some).ok_or(Wrong { field, expected: "a whole number" }),
    }
}

fn unsigned(message: &Value, field: &'static str) -> Read<u64> {
    match &message[field] {
        Value::Null => Ok(0),
        value => as_unsigned(value).ok_or(Wrong { field, expected: "a whole number, not negative" }),
    }
}

fn double(message: &Value, field: &'static str) -> Read<Option<f64>> {
    match &message[field] {
        Value::Null => Ok(None),
        value => as_double(value).map(Some).ok_or(Wrong { field, expected: "a number" }),
    }
}

/// Hexadecimal; none of zeros.
fn id(message: &Value, field: &'static str) -> Read<Vec<u8>> {
    let wrong = Wrong { field, expected: "hexadecimal" };
    let text = text(message, field)?;
    if text.len() > 32 || text.len() % 2 == 1 || !text.is_ascii() {
        return Err(wrong);
    }
    let bytes: Option<Vec<u8>> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect();
    let bytes = bytes.ok_or(wrong)?;
    Ok(if bytes.iter().any(|&byte| byte != 0) { bytes } else { Vec::new() })
}

fn attributes(message: &Value, limits: &Limits) -> Read<Attributes> {
    key_values(message, "attributes", limits)
}

fn key_values(message: &Value, field: &'static str, limits: &Limits) -> Read<Attributes> {
    let mut attributes = Attributes::new();
    for entry in list(message, field)?.iter().take(limits.max_attributes_per_span) {
        attributes.push((text(entry, "key")?, any_value(&entry["value"])?));
    }
    Ok(attributes)
}

/// Nested as deep as the parser goes, which is bounded.
fn any_value(value: &Value) -> Read<AnyValue> {
    let Value::Object(fields) = value else {
        return if value.is_null() {
            Ok(AnyValue::Empty)
        } else {
            Err(Wrong { field: "value", expected: "an object" })
        };
    };
    for (key, inner) in fields.iter().filter(|(_, inner)| !inner.is_null()) {
        match key.as_str() {
            "stringValue" => return text(value, "stringValue").map(AnyValue::String),
            "boolValue" => return truth(value, "boolValue").map(AnyValue::Bool),
            "intValue" => return Ok(integer(value, "intValue")?.map_or(AnyValue::Empty, AnyValue::Int)),
            "doubleValue" => {
                return Ok(double(value, "doubleValue")?.map_or(AnyValue::Empty, AnyValue::Double));
            }
            "bytesValue" => {
                let wrong = |_| Wrong { field: "bytesValue", expected: "base64" };
                let bytes = base64::engine::general_purpose::STANDARD.decode(text(value, "bytesValue")?);
                return bytes.map(AnyValue::Bytes).map_err(wrong);
            }
            "arrayValue" => {
                return list(inner, "values")?
                    .iter()
                    .map(any_value)
                    .collect::<Read<_>>()
                    .map(AnyValue::Array);
            }
            "kvlistValue" => {
                let mut map = Attributes::new();
                for entry in list(inner, "values")? {
                    map.push((text(entry, "key")?, any_value(&entry["value"])?));
                }
                return Ok(AnyValue::Map(map));
            }
            _ => {}
        }
    }
    Ok(AnyValue::Empty)
}
