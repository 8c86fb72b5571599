//! Metrics in protobuf.

use model::attribute::{AnyValue, Attributes};

use super::translate::Translator;
use super::{DELTA, ExemplarIn, Exponential, Kind, MetricIn, POINTS_AT_ONCE, PointIn, PointValue, Scope};
use crate::error::Error;
use crate::limits::Limits;
use crate::protobuf::{Broken, END, Reader, fixed64, length, varint};

pub(super) fn read(body: &[u8], limits: &Limits, translator: &mut Translator<'_>) -> Result<(), Error> {
    const RESOURCE_METRICS: u32 = length(1);
    let mut request = || -> Result<(), Broken> {
        let mut message = Reader::new(body);
        loop {
            match message.tag()? {
                END => return Ok(()),
                RESOURCE_METRICS => resource_metrics(message.message()?, limits, translator)?,
                tag => message.skip(tag)?,
            }
        }
    };
    request().map_err(|broken| broken.in_body(body))
}

fn resource_metrics(
    message: Reader<'_>,
    limits: &Limits,
    translator: &mut Translator<'_>,
) -> Result<(), Broken> {
    const RESOURCE: u32 = length(1);
    const SCOPE_METRICS: u32 = length(2);
    // The resource first, wherever it stands.
    let mut attributes = Attributes::new();
    let mut fields = message;
    loop {
        match fields.tag()? {
            END => break,
            RESOURCE => {
                let mut resource = fields.message()?;
                loop {
                    match resource.tag()? {
                        END => break,
                        tag if tag == length(1) => attribute(&mut attributes, resource.message()?, limits)?,
                        tag => resource.skip(tag)?,
                    }
                }
            }
            tag => fields.skip(tag)?,
        }
    }
    translator.open_resource(&attributes);
    let mut fields = message;
    loop {
        match fields.tag()? {
            END => break,
            SCOPE_METRICS => scope_metrics(fields.message()?, limits, translator)?,
            tag => fields.skip(tag)?,
        }
        if translator.excess().is_some() {
            break;
        }
    }
    translator.close_resource();
    Ok(())
}

fn scope_metrics(
    message: Reader<'_>,
    limits: &Limits,
    translator: &mut Translator<'_>,
) -> Result<(), Broken> {
    const SCOPE: u32 = length(1);
    const METRICS: u32 = length(2);
    const SCHEMA_URL: u32 = length(3);
    let mut scope = Scope::default();
    let mut fields = message;
    loop {
        match fields.tag()? {
            END => break,
            SCOPE => {
                let mut own = fields.message()?;
                loop {
                    match own.tag()? {
                        END => break,
                        tag if tag == length(1) => scope.name = text(own.bytes()?),
                        tag if tag == length(2) => scope.version = text(own.bytes()?),
                        tag if tag == length(3) => attribute(&mut scope.attributes, own.message()?, limits)?,
                        tag => own.skip(tag)?,
                    }
                }
            }
            SCHEMA_URL => scope.schema_url = text(fields.bytes()?),
            tag => fields.skip(tag)?,
        }
    }
    translator.open_scope(&scope);
    let mut fields = message;
    loop {
        match fields.tag()? {
            END => return Ok(()),
            METRICS => metric(fields.message()?, limits, translator)?,
            tag => fields.skip(tag)?,
        }
        if translator.excess().is_some() {
            return Ok(());
        }
    }
}

type ReadPoint = fn(Reader<'_>, &Limits) -> Result<PointIn, Broken>;

fn metric(message: Reader<'_>, limits: &Limits, translator: &mut Translator<'_>) -> Result<(), Broken> {
    let mut metric =
        MetricIn { name: String::new(), description: String::new(), unit: String::new(), kind: Kind::Gauge };
    // A `Gauge`, `Sum` and so on: where several kinds are there, the last counts.
    let mut data: Vec<Reader<'_>> = Vec::new();
    let (mut data_tag, mut point): (u32, ReadPoint) = (0, number_point);
    let mut fields = message;
    loop {
        match fields.tag()? {
            END => break,
            tag if tag == length(1) => metric.name = text(fields.bytes()?),
            tag if tag == length(2) => metric.description = text(fields.bytes()?),
            tag if tag == length(3) => metric.unit = text(fields.bytes()?),
            tag => {
                let read: ReadPoint = match tag {
                    tag if tag == length(5) || tag == length(7) => number_point,
                    tag if tag == length(9) => histogram_point,
                    tag if tag == length(10) => exponential_point,
                    tag if tag == length(11) => summary_point,
                    tag => {
                        fields.skip(tag)?;
                        continue;
                    }
                };
                if data_tag != tag {
                    data.clear();
                    (data_tag, point) = (tag, read);
                }
                data.push(fields.message()?);
            }
        }
    }
    // What the points are is said behind them.
    let (mut is_delta, mut is_monotonic) = (false, false);
    for message in &data {
        let mut fields = *message;
        loop {
            match fields.tag()? {
                END => break,
                tag if tag == varint(2) => is_delta = fields.varint()? as i64 == DELTA,
                tag if tag == varint(3) => is_monotonic = fields.varint()? != 0,
                tag => fields.skip(tag)?,
            }
        }
    }
    metric.kind = match data_tag {
        tag if tag == length(7) => Kind::Sum { is_monotonic, is_delta },
        tag if tag == length(9) => Kind::Histogram { is_delta },
        tag if tag == length(10) => Kind::Exponential { is_delta },
        tag if tag == length(11) => Kind::Summary,
        _ => Kind::Gauge,
    };
    let mut points = Vec::new();
    for message in data {
        let mut fields = message;
        loop {
            match fields.tag()? {
                END => break,
                tag if tag == length(1) => points.push(point(fields.message()?, limits)?),
                tag => fields.skip(tag)?,
            }
            if points.len() == POINTS_AT_ONCE {
                translator.metric(&metric, &points);
                points.clear();
                if translator.excess().is_some() {
                    return Ok(());
                }
            }
        }
    }
    translator.metric(&metric, &points);
    Ok(())
}

fn number_point(mut message: Reader<'_>, limits: &Limits) -> Result<PointIn, Broken> {
    let mut point = PointIn::default();
    loop {
        match message.tag()? {
            END => return Ok(point),
            tag if tag == fixed64(2) => point.start_ns = message.fixed64()?,
            tag if tag == fixed64(3) => point.time_ns = message.fixed64()?,
            tag if tag == fixed64(4) => point.value = PointValue::Number(f64::from_bits(message.fixed64()?)),
            tag if tag == length(5) => point.exemplars.push(exemplar(message.message()?, limits)?),
            tag if tag == fixed64(6) => point.value = PointValue::Number(message.fixed64()? as i64 as f64),
            tag if tag == length(7) => attribute(&mut point.attributes, message.message()?, limits)?,
            tag if tag == varint(8) => point.flags = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
}

fn histogram_point(mut message: Reader<'_>, limits: &Limits) -> Result<PointIn, Broken> {
    let mut point = PointIn::default();
    let (mut count, mut sum, mut bucket_counts, mut bounds) = (0, None, Vec::new(), Vec::new());
    loop {
        match message.tag()? {
            END => break,
            tag if tag == fixed64(2) => point.start_ns = message.fixed64()?,
            tag if tag == fixed64(3) => point.time_ns = message.fixed64()?,
            tag if tag == fixed64(4) => count = message.fixed64()?,
            tag if tag == fixed64(5) => sum = Some(f64::from_bits(message.fixed64()?)),
            tag if tag == length(6) => fixed(message.message()?, |bits| bucket_counts.push(bits))?,
            tag if tag == fixed64(6) => bucket_counts.push(message.fixed64()?),
            tag if tag == length(7) => fixed(message.message()?, |bits| bounds.push(f64::from_bits(bits)))?,
            tag if tag == fixed64(7) => bounds.push(f64::from_bits(message.fixed64()?)),
            tag if tag == length(8) => point.exemplars.push(exemplar(message.message()?, limits)?),
            tag if tag == length(9) => attribute(&mut point.attributes, message.message()?, limits)?,
            tag if tag == varint(10) => point.flags = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
    point.value = PointValue::Histogram { count, sum, bucket_counts, bounds };
    Ok(point)
}

fn exponential_point(mut message: Reader<'_>, limits: &Limits) -> Result<PointIn, Broken> {
    let mut point = PointIn::default();
    let mut exponential = Exponential::default();
    loop {
        match message.tag()? {
            END => break,
            tag if tag == length(1) => attribute(&mut point.attributes, message.message()?, limits)?,
            tag if tag == fixed64(2) => point.start_ns = message.fixed64()?,
            tag if tag == fixed64(3) => point.time_ns = message.fixed64()?,
            tag if tag == fixed64(4) => exponential.count = message.fixed64()?,
            tag if tag == fixed64(5) => exponential.sum = Some(f64::from_bits(message.fixed64()?)),
            tag if tag == varint(6) => exponential.scale = zigzag(message.varint()?),
            tag if tag == fixed64(7) => exponential.zero_count = message.fixed64()?,
            tag if tag == length(8) => exponential.positive = buckets(message.message()?)?,
            tag if tag == length(9) => exponential.negative = buckets(message.message()?)?,
            tag if tag == varint(10) => point.flags = message.varint()? as u32,
            tag if tag == length(11) => point.exemplars.push(exemplar(message.message()?, limits)?),
            tag if tag == fixed64(14) => {
                exponential.zero_threshold = Some(f64::from_bits(message.fixed64()?));
            }
            tag => message.skip(tag)?,
        }
    }
    point.value = PointValue::Exponential(Box::new(exponential));
    Ok(point)
}

fn buckets(mut message: Reader<'_>) -> Result<(i32, Vec<u64>), Broken> {
    let (mut offset, mut counts) = (0, Vec::new());
    loop {
        match message.tag()? {
            END => return Ok((offset, counts)),
            tag if tag == varint(1) => offset = zigzag(message.varint()?),
            tag if tag == length(2) => {
                let mut packed = message.message()?;
                while !packed.rest().is_empty() {
                    counts.push(packed.varint()?);
                }
            }
            tag if tag == varint(2) => counts.push(message.varint()?),
            tag => message.skip(tag)?,
        }
    }
}

fn summary_point(mut message: Reader<'_>, limits: &Limits) -> Result<PointIn, Broken> {
    let mut point = PointIn::default();
    let (mut count, mut sum, mut quantiles) = (0, 0.0, Vec::new());
    loop {
        match message.tag()? {
            END => break,
            tag if tag == fixed64(2) => point.start_ns = message.fixed64()?,
            tag if tag == fixed64(3) => point.time_ns = message.fixed64()?,
            tag if tag == fixed64(4) => count = message.fixed64()?,
            tag if tag == fixed64(5) => sum = f64::from_bits(message.fixed64()?),
            tag if tag == length(6) => {
                let (mut of, mut quantile, mut value) = (message.message()?, 0.0, 0.0);
                loop {
                    match of.tag()? {
                        END => break,
                        tag if tag == fixed64(1) => quantile = f64::from_bits(of.fixed64()?),
                        tag if tag == fixed64(2) => value = f64::from_bits(of.fixed64()?),
                        tag => of.skip(tag)?,
                    }
                }
                quantiles.push((quantile, value));
            }
            tag if tag == length(7) => attribute(&mut point.attributes, message.message()?, limits)?,
            tag if tag == varint(8) => point.flags = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
    point.value = PointValue::Summary { count, sum, quantiles };
    Ok(point)
}

fn exemplar(mut message: Reader<'_>, limits: &Limits) -> Result<ExemplarIn, Broken> {
    let mut exemplar = ExemplarIn::default();
    loop {
        match message.tag()? {
            END => return Ok(exemplar),
            tag if tag == fixed64(2) => exemplar.time_ns = message.fixed64()?,
            tag if tag == fixed64(3) => exemplar.value = f64::from_bits(message.fixed64()?),
            tag if tag == length(4) => exemplar.span_id = id(message.bytes()?),
            tag if tag == length(5) => exemplar.trace_id = id(message.bytes()?),
            tag if tag == fixed64(6) => exemplar.value = message.fixed64()? as i64 as f64,
            tag if tag == length(7) => attribute(&mut exemplar.attributes, message.message()?, limits)?,
            tag => message.skip(tag)?,
        }
    }
}

/// An id that is one: none of zeros or of another length than ids have.
fn id(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() <= 16 && bytes.iter().any(|&byte| byte != 0) { bytes.to_vec() } else { Vec::new() }
}

fn fixed(mut packed: Reader<'_>, mut take: impl FnMut(u64)) -> Result<(), Broken> {
    while !packed.rest().is_empty() {
        take(packed.fixed64()?);
    }
    Ok(())
}

fn zigzag(number: u64) -> i32 {
    (number >> 1) as i32 ^ -((number & 1) as i32)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Appends a `KeyValue`; of more than allowed the later ones are left out.
fn attribute(attributes: &mut Attributes, mut message: Reader<'_>, limits: &Limits) -> Result<(), Broken> {
    let (mut key, mut value) = (String::new(), AnyValue::Empty);
    loop {
        match message.tag()? {
            END => break,
            tag if tag == length(1) => key = text(message.bytes()?),
            tag if tag == length(2) => value = any_value(message.message()?, limits, 1)?,
            tag => message.skip(tag)?,
        }
    }
    if attributes.len() < limits.max_attributes_per_span {
        attributes.push((key, value));
    }
    Ok(())
}

/// A value; what is nested deeper than allowed is empty.
fn any_value(mut message: Reader<'_>, limits: &Limits, depth: usize) -> Result<AnyValue, Broken> {
    let mut value = AnyValue::Empty;
    loop {
        match message.tag()? {
            END => return Ok(value),
            tag if tag == length(1) => value = AnyValue::String(text(message.bytes()?)),
            tag if tag == varint(2) => value = AnyValue::Bool(message.varint()? != 0),
            tag if tag == varint(3) => value = AnyValue::Int(message.varint()? as i64),
            tag if tag == fixed64(4) => value = AnyValue::Double(f64::from_bits(message.fixed64()?)),
            tag if tag == length(5) && depth < limits.max_depth => {
                let mut array = Vec::new();
                let mut list = message.message()?;
                loop {
                    match list.tag()? {
                        END => break,
                        tag if tag == length(1) => array.push(any_value(list.message()?, limits, depth + 1)?),
                        tag => list.skip(tag)?,
                    }
                }
                value = AnyValue::Array(array);
            }
            tag if tag == length(6) && depth < limits.max_depth => {
                let mut map = Attributes::new();
                let mut list = message.message()?;
                loop {
                    match list.tag()? {
                        END => break,
                        tag if tag == length(1) => {
                            let (mut entry, mut key, mut inner) =
                                (list.message()?, String::new(), AnyValue::Empty);
                            loop {
                                match entry.tag()? {
                                    END => break,
                                    tag if tag == length(1) => key = text(entry.bytes()?),
                                    tag if tag == length(2) => {
                                        inner = any_value(entry.message()?, limits, depth + 1)?;
                                    }
                                    tag => entry.skip(tag)?,
                                }
                            }
                            map.push((key, inner));
                        }
                        tag => list.skip(tag)?,
                    }
                }
                value = AnyValue::Map(map);
            }
            tag if tag == length(7) => value = AnyValue::Bytes(message.bytes()?.to_vec()),
            tag => message.skip(tag)?,
        }
    }
}
