//! Metrics in OTLP/JSON: whole numbers may be texts, ids are hexadecimal, enumerations are numbers, unknown keys are
//! passed over, and `null` is "not said".

use base64::Engine as _;
use model::attribute::{AnyValue, Attributes};
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::translate::Translator;
use super::{DELTA, ExemplarIn, Exponential, Kind, MetricIn, POINTS_AT_ONCE, PointIn, PointValue, Scope};
use crate::error::Error;
use crate::limits::Limits;

/// A message that has a field of another JSON type than it can have.
#[derive(Debug)]
struct Wrong {
    field: &'static str,
    expected: &'static str,
}

type Read<T> = Result<T, Wrong>;

/// The longest JSON text of one point, resource or scope: what is made of it may take sixteen times as much.
const MAX_PART_BYTES: usize = 1 << 20;

pub(super) fn read(body: &[u8], limits: &Limits, translator: &mut Translator<'_>) -> Result<(), Error> {
    let text = std::str::from_utf8(body).map_err(|err| Error::NotUtf8 { offset: err.valid_up_to() })?;
    // Only where things are is read at first; lists are walked element by element, and nothing is kept of them.
    let request: Request<'_> = object(text)?;
    each(request.resource_metrics, &mut |raw| {
        let message: ResourceMetrics<'_> = parsed(raw)?;
        translator.open_resource(&attributes(&part(message.resource, "resource")?, limits)?);
        each(message.scope_metrics, &mut |raw| {
            let message: ScopeMetrics<'_> = parsed(raw)?;
            let scope = part(message.scope, "scope")?;
            translator.open_scope(&Scope {
                name: text_of(&scope, "name")?,
                version: text_of(&scope, "version")?,
                attributes: attributes(&scope, limits)?,
                schema_url: raw_text(message.schema_url, "schemaUrl")?,
            });
            each(message.metrics, &mut |raw| read_metric(&parsed(raw)?, limits, translator))
        })?;
        translator.close_resource();
        Ok(())
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Request<'a> {
    #[serde(borrow, rename = "resourceMetrics")]
    resource_metrics: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceMetrics<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, rename = "scopeMetrics")]
    scope_metrics: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ScopeMetrics<'a> {
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow, rename = "schemaUrl")]
    schema_url: Option<&'a RawValue>,
    #[serde(borrow)]
    metrics: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metric<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    unit: Option<&'a RawValue>,
    #[serde(borrow)]
    gauge: Option<&'a RawValue>,
    #[serde(borrow)]
    sum: Option<&'a RawValue>,
    #[serde(borrow)]
    histogram: Option<&'a RawValue>,
    #[serde(borrow, rename = "exponentialHistogram")]
    exponential_histogram: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfKind<'a> {
    #[serde(borrow, rename = "dataPoints")]
    data_points: Option<&'a RawValue>,
    #[serde(rename = "aggregationTemporality")]
    aggregation_temporality: Value,
    #[serde(rename = "isMonotonic")]
    is_monotonic: Option<bool>,
}

/// A message; `null` is one in which nothing is said.
fn parsed<'a, T: Deserialize<'a> + Default>(raw: &'a RawValue) -> Result<T, Error> {
    let is_null = raw.get() == "null";
    if is_null { Ok(T::default()) } else { object(raw.get()) }
}

/// The message of an object, and of nothing else: a derived one would also be read from an array.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    let message = serde_json::from_str(text).map_err(Error::Json)?;
    if text.trim_start().starts_with('{') {
        Ok(message)
    } else {
        Err(Error::Json(serde::de::Error::custom("a message must be an object")))
    }
}

/// Hands the elements of an array to `take`; nothing is said by `null`.
fn each<'a>(
    array: Option<&'a RawValue>,
    take: &mut dyn FnMut(&'a RawValue) -> Result<(), Error>,
) -> Result<(), Error> {
    struct Elements<'t, 'a> {
        take: &'t mut dyn FnMut(&'a RawValue) -> Result<(), Error>,
        error: &'t mut Option<Error>,
    }

    impl<'a> Visitor<'a> for Elements<'_, 'a> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
            while let Some(element) = list.next_element::<&'a RawValue>()? {
                if let Err(error) = (self.take)(element) {
                    *self.error = Some(error);
                    return Err(serde::de::Error::custom("an element is wrong"));
                }
            }
            Ok(())
        }
    }

    let Some(array) = array else { return Ok(()) };
    let mut error = None;
    let mut parser = serde_json::Deserializer::from_str(array.get());
    let walked = parser.deserialize_seq(Elements { take, error: &mut error });
    match (walked, error) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(error)) => Err(error),
        (Err(broken), None) => Err(Error::Json(broken)),
    }
}

/// A part that is read as a whole.
fn part(raw: Option<&RawValue>, field: &'static str) -> Result<Value, Error> {
    let Some(raw) = raw else { return Ok(Value::Null) };
    if raw.get().len() > MAX_PART_BYTES {
        return Err(Wrong { field, expected: "shorter than 1 MiB" }.into());
    }
    serde_json::from_str(raw.get()).map_err(Error::Json)
}

fn raw_text(raw: Option<&RawValue>, field: &'static str) -> Result<String, Error> {
    match part(raw, field)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        _ => Err(Wrong { field, expected: "a string" }.into()),
    }
}

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        Self::Json(serde::de::Error::custom(format!("field {} must be {}", wrong.field, wrong.expected)))
    }
}

fn read_metric(metric: &Metric<'_>, limits: &Limits, translator: &mut Translator<'_>) -> Result<(), Error> {
    type ReadPoint = fn(&Value, &Limits) -> Read<PointIn>;
    let kinds: [(Option<&RawValue>, ReadPoint); 5] = [
        (metric.gauge, number_point),
        (metric.sum, number_point),
        (metric.histogram, histogram_point),
        (metric.exponential_histogram, exponential_point),
        (metric.summary, summary_point),
    ];
    let mut head = MetricIn {
        name: raw_text(metric.name, "name")?,
        description: raw_text(metric.description, "description")?,
        unit: raw_text(metric.unit, "unit")?,
        kind: Kind::Gauge,
    };
    let mut points = Vec::new();
    for (position, (data, point)) in kinds.into_iter().enumerate() {
        let Some(data) = data else { continue };
        let data: OfKind<'_> = parsed(data)?;
        let is_delta = temporality(&data.aggregation_temporality)? == DELTA;
        head.kind = match position {
            0 => Kind::Gauge,
            1 => Kind::Sum { is_monotonic: data.is_monotonic.unwrap_or(false), is_delta },
            2 => Kind::Histogram { is_delta },
            3 => Kind::Exponential { is_delta },
            _ => Kind::Summary,
        };
        each(data.data_points, &mut |raw| {
            // A point that is wrong costs no other.
            let read = match part(Some(raw), "dataPoints") {
                Ok(value) => point(&value, limits).map_err(Error::from),
                Err(error) => Err(error),
            };
            match read {
                Ok(point) => points.push(point),
                Err(error) => translator.reject_point(&head.name, &error),
            }
            if points.len() == POINTS_AT_ONCE {
                translator.metric(&head, &points);
                points.clear();
            }
            // What is left of a request that holds too much is not read: it is refused.
            translator.excess().map_or(Ok(()), Err)
        })?;
        translator.metric(&head, &points);
        points.clear();
    }
    Ok(())
}

/// The number of a temporality, which some senders name.
fn temporality(value: &Value) -> Read<i64> {
    match value {
        Value::Null => Ok(0),
        Value::String(name) if name == "AGGREGATION_TEMPORALITY_DELTA" => Ok(DELTA),
        Value::String(name) if name.starts_with("AGGREGATION_TEMPORALITY_") => Ok(0),
        value => {
            as_integer(value).ok_or(Wrong { field: "aggregationTemporality", expected: "a whole number" })
        }
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

fn text_of(message: &Value, field: &'static str) -> Read<String> {
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
    let text = text_of(message, field)?;
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
        attributes.push((text_of(entry, "key")?, any_value(&entry["value"])?));
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
            "stringValue" => return text_of(value, "stringValue").map(AnyValue::String),
            "boolValue" => return truth(value, "boolValue").map(AnyValue::Bool),
            "intValue" => return Ok(integer(value, "intValue")?.map_or(AnyValue::Empty, AnyValue::Int)),
            "doubleValue" => {
                return Ok(double(value, "doubleValue")?.map_or(AnyValue::Empty, AnyValue::Double));
            }
            "bytesValue" => {
                let wrong = |_| Wrong { field: "bytesValue", expected: "base64" };
                let bytes = base64::engine::general_purpose::STANDARD.decode(text_of(value, "bytesValue")?);
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
                    map.push((text_of(entry, "key")?, any_value(&entry["value"])?));
                }
                return Ok(AnyValue::Map(map));
            }
            _ => {}
        }
    }
    Ok(AnyValue::Empty)
}
