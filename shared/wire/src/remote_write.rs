//! Prometheus remote write, versions 1.0 and 2.0, straight into a batch of series.
//!
//! A series whose labels are no identity is rejected with its samples, and so is a histogram that contradicts itself;
//! all else is kept. Labels need not be sorted. No message is built: strings stay borrowed until the batch takes them.
//!
//! Source: Prometheus remote write specification 1.0 and 2.0; `prompb/types.proto`, `prompb/io/prometheus/write/v2`.

use std::borrow::Cow;
use std::sync::Arc;

use model::histogram::{
    BucketSpan, Buckets, CUSTOM_BOUNDS_SCHEMA, MAX_SCHEMA, MIN_SCHEMA, NativeHistogram, ResetHint,
};
use model::labels::METRIC_NAME;
use model::series::{Exemplar, HistogramSample, Metadata, MetricType, SeriesBuilder, Temporality};
use model::{Labels, SeriesBatch};

use crate::error::Error;
use crate::limits::Limits;
use crate::protobuf::{Broken, END, Reader, fixed64, length, varint};
use crate::rejected::{Reason, Rejected};

/// The message in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The message that a `Content-Type` names; none for a media type or a message of another kind.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        if !parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/x-protobuf")) {
            return None;
        }
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name.trim().eq_ignore_ascii_case("proto") {
                return match value.trim().trim_matches('"') {
                    "prometheus.WriteRequest" => Some(Self::V1),
                    "io.prometheus.write.v2.Request" => Some(Self::V2),
                    _ => None,
                };
            }
        }
        Some(Self::V1)
    }
}

/// What a request held.
#[derive(Debug, Default)]
pub struct DecodedWrite {
    /// The valid series.
    pub batch: SeriesBatch,
    /// Float samples in it, before equal ones were joined: what 2.0 wants to be told.
    pub n_samples: u64,
    /// Histograms in it, likewise.
    pub n_histograms: u64,
    /// Exemplars in it, likewise.
    pub n_exemplars: u64,
    /// Samples, histograms and exemplars that were rejected.
    pub rejected: Rejected,
}

/// The longest name of a label.
const MAX_LABEL_NAME_BYTES: usize = 1024;

/// Reads a request, after decompression.
///
/// # Errors
/// The body is over the limit, holds more samples than allowed, or is not protobuf.
pub fn decode(body: &[u8], version: Version, limits: &Limits) -> Result<DecodedWrite, Error> {
    if body.len() > limits.max_body_bytes {
        return Err(Error::TooLarge { limit: limits.max_body_bytes });
    }
    let mut request = Request {
        limits,
        builder: SeriesBuilder::default(),
        symbols: Vec::new(),
        said: DecodedWrite::default(),
    };
    let read = match version {
        Version::V1 => request.v1(Reader::new(body)),
        Version::V2 => request.v2(Reader::new(body)),
    };
    read.map_err(|broken| broken.in_body(body))?;
    if let Some(excess) = limits.excess(&request.builder) {
        return Err(excess);
    }
    request.said.batch = request.builder.finish();
    Ok(request.said)
}

struct Request<'a> {
    limits: &'a Limits,
    builder: SeriesBuilder,
    /// Of version 2: the texts that labels refer to, with their positions in the batch once they have one.
    symbols: Vec<(&'a [u8], Option<u32>)>,
    said: DecodedWrite,
}

/// Why labels are not taken, also in words.
type Fault = (Reason, String);

/// What of a series has to wait until its labels are known.
#[derive(Clone, Copy)]
struct Numbers {
    samples: u32,
    histograms: u32,
    exemplars: u32,
}

impl<'a> Request<'a> {
    fn v1(&mut self, mut message: Reader<'a>) -> Result<(), Broken> {
        const TIMESERIES: u32 = length(1);
        const METADATA: u32 = length(3);
        let numbers = Numbers { samples: length(2), exemplars: length(3), histograms: length(4) };
        loop {
            match message.tag()? {
                END => return Ok(()),
                TIMESERIES => {
                    let series = message.message()?;
                    let labels = self.labels_v1(series)?;
                    self.samples(series, numbers, labels)?;
                }
                METADATA => self.metadata_v1(message.message()?)?,
                tag => message.skip(tag)?,
            }
            if self.is_full() {
                return Ok(());
            }
        }
    }

    fn v2(&mut self, message: Reader<'a>) -> Result<(), Broken> {
        const SYMBOLS: u32 = length(4);
        const TIMESERIES: u32 = length(5);
        const METADATA: u32 = length(5);
        let mut first = message;
        loop {
            match first.tag()? {
                END => break,
                SYMBOLS => self.symbols.push((first.bytes()?, None)),
                tag => first.skip(tag)?,
            }
        }
        let numbers = Numbers { samples: length(2), histograms: length(3), exemplars: length(4) };
        let mut second = message;
        loop {
            match second.tag()? {
                END => return Ok(()),
                TIMESERIES => {
                    let series = second.message()?;
                    let labels = self.labels_v2(series)?;
                    let mut fields = series;
                    loop {
                        match fields.tag()? {
                            END => break,
                            METADATA => {
                                let metadata = fields.message()?;
                                if let &Ok(series) = &labels {
                                    self.metadata_v2(metadata, series)?;
                                }
                            }
                            tag => fields.skip(tag)?,
                        }
                    }
                    self.samples(series, numbers, labels)?;
                }
                tag => second.skip(tag)?,
            }
            if self.is_full() {
                return Ok(());
            }
        }
    }

    /// Whether there is more than allowed: the rest need not be read.
    fn is_full(&self) -> bool {
        self.limits.excess(&self.builder).is_some()
    }

    fn labels_v1(&mut self, mut series: Reader<'a>) -> Result<Result<u32, Fault>, Broken> {
        const LABEL: u32 = length(1);
        let mut fault = None;
        let (mut n_labels, mut has_name) = (0, false);
        loop {
            match series.tag()? {
                END => break,
                LABEL => {
                    let (name, value) = name_and_value(series.message()?)?;
                    n_labels += 1;
                    has_name |= name == METRIC_NAME.as_bytes() && !value.is_empty();
                    fault = fault.or_else(|| self.label_fault(name, value, n_labels));
                    if fault.is_none() && self.builder.label_utf8(name, value).is_err() {
                        fault = Some((Reason::Labels, "a label is not UTF-8".to_owned()));
                    }
                }
                tag => series.skip(tag)?,
            }
        }
        Ok(self.close(fault, has_name))
    }

    fn labels_v2(&mut self, mut series: Reader<'a>) -> Result<Result<u32, Fault>, Broken> {
        const LABEL_REFS: u32 = length(1);
        const LABEL_REF: u32 = varint(1);
        let mut references = Vec::new();
        loop {
            match series.tag()? {
                END => break,
                LABEL_REFS => varints(series.message()?, &mut references)?,
                LABEL_REF => references.push(series.varint()?),
                tag => series.skip(tag)?,
            }
        }
        let mut fault =
            (references.len() % 2 == 1).then(|| (Reason::Labels, "labels_refs are not pairs".to_owned()));
        let mut has_name = false;
        for (n_before, pair) in references.chunks_exact(2).enumerate() {
            if fault.is_some() {
                break;
            }
            let (Some(name), Some(value)) = (self.symbol(pair[0]), self.symbol(pair[1])) else {
                let text = "labels_refs name a symbol that is not there";
                fault = Some((Reason::Labels, text.to_owned()));
                break;
            };
            has_name |= name == METRIC_NAME.as_bytes() && !value.is_empty();
            fault = self.label_fault(name, value, n_before + 1);
            if fault.is_none() {
                match (self.symbol_position(pair[0]), self.symbol_position(pair[1])) {
                    (Some(name), Some(value)) => self.builder.label_at(name, value),
                    _ => fault = Some((Reason::Labels, "a label is not UTF-8".to_owned())),
                }
            }
        }
        Ok(self.close(fault, has_name))
    }

    fn symbol(&self, reference: u64) -> Option<&'a [u8]> {
        usize::try_from(reference).ok().and_then(|at| self.symbols.get(at)).map(|symbol| symbol.0)
    }

    /// Where the batch has a symbol.
    fn symbol_position(&mut self, reference: u64) -> Option<u32> {
        let symbol = self.symbols.get_mut(usize::try_from(reference).ok()?)?;
        if symbol.1.is_none() {
            symbol.1 = Some(self.builder.symbol(std::str::from_utf8(symbol.0).ok()?));
        }
        symbol.1
    }

    fn label_fault(&self, name: &[u8], value: &[u8], n_labels: usize) -> Option<Fault> {
        let (most, longest) = (self.limits.max_labels, self.limits.max_label_value_bytes);
        let text = if n_labels > most {
            format!("a series has more than {most} labels")
        } else if name.len() > MAX_LABEL_NAME_BYTES {
            format!("a label's name is longer than {MAX_LABEL_NAME_BYTES} bytes")
        } else if value.len() > longest {
            format!("label {:?} is longer than {longest} bytes", String::from_utf8_lossy(name))
        } else {
            return None;
        };
        Some((Reason::LabelLimits, text))
    }

    fn close(&mut self, fault: Option<Fault>, has_name: bool) -> Result<u32, Fault> {
        let nameless = || (Reason::Labels, "a series has no label __name__".to_owned());
        if let Some(fault) = fault.or_else(|| (!has_name).then(nameless)) {
            self.builder.abandon_labels();
            return Err(fault);
        }
        let closed = self.builder.close_labels(Temporality::Cumulative);
        closed.map_err(|bad| (Reason::Labels, bad.to_string()))
    }

    /// Whether a sample of this time is kept.
    fn takes_time(&mut self, time_ms: i64) -> bool {
        let fault = self.limits.fault_of_time(time_ms);
        if let Some(fault) = fault {
            self.said.rejected.add(Reason::Time, 1, || format!("a sample {fault}"));
        }
        fault.is_none()
    }

    fn samples(
        &mut self,
        mut series: Reader<'a>,
        at: Numbers,
        labels: Result<u32, Fault>,
    ) -> Result<(), Broken> {
        let mut n_rejected = 0;
        loop {
            let tag = series.tag()?;
            if tag == END {
                break;
            } else if tag == at.samples {
                let (value, time_ms, start_ms) = sample(series.message()?)?;
                match &labels {
                    &Ok(series) if self.takes_time(time_ms) => {
                        self.said.n_samples += 1;
                        self.builder.sample(series, time_ms, value, start_ms);
                    }
                    Ok(_) => {}
                    Err(_) => n_rejected += 1,
                }
            } else if tag == at.histograms {
                let sample = histogram(series.message()?)?;
                match (&labels, sample) {
                    (Ok(series), Ok(sample)) => {
                        if self.takes_time(sample.time_ms) {
                            self.said.n_histograms += 1;
                            self.builder.histogram(*series, sample);
                        }
                    }
                    (Ok(_), Err(fault)) => self.said.rejected.add(Reason::Value, 1, || fault.to_owned()),
                    (Err(_), _) => n_rejected += 1,
                }
            } else if tag == at.exemplars {
                let exemplar = self.exemplar(series.message()?)?;
                match (&labels, exemplar) {
                    (Ok(series), Some(exemplar)) => {
                        self.said.n_exemplars += 1;
                        self.builder.exemplar(*series, exemplar);
                    }
                    (Ok(_), None) => {
                        let text = "an exemplar's labels are not texts, or too long";
                        self.said.rejected.add(Reason::Value, 1, || text.to_owned());
                    }
                    (Err(_), _) => n_rejected += 1,
                }
            } else {
                series.skip(tag)?;
            }
        }
        if let Err((reason, text)) = labels {
            self.said.rejected.add(reason, n_rejected, || text);
        }
        Ok(())
    }

    /// An exemplar of either version: labels are messages in one and references in the other.
    fn exemplar(&mut self, mut message: Reader<'a>) -> Result<Option<Exemplar>, Broken> {
        const LABEL: u32 = length(1);
        const LABEL_REF: u32 = varint(1);
        const VALUE: u32 = fixed64(2);
        const TIME: u32 = varint(3);
        let (mut value, mut time_ms) = (0.0, 0);
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        let mut references = Vec::new();
        loop {
            match message.tag()? {
                END => break,
                LABEL if self.symbols.is_empty() => {
                    let (name, label_value) = name_and_value(message.message()?)?;
                    pairs.push((String::from_utf8_lossy(name), String::from_utf8_lossy(label_value)));
                }
                LABEL => varints(message.message()?, &mut references)?,
                LABEL_REF => references.push(message.varint()?),
                VALUE => value = f64::from_bits(message.fixed64()?),
                TIME => time_ms = message.varint()? as i64,
                tag => message.skip(tag)?,
            }
        }
        for pair in references.chunks(2) {
            let texts = pair.iter().map(|&reference| self.symbol(reference).map(String::from_utf8_lossy));
            match texts.collect::<Option<Vec<_>>>().as_deref() {
                Some([name, value]) => pairs.push((name.clone(), value.clone())),
                _ => return Ok(None),
            }
        }
        let n_bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if n_bytes > self.limits.max_label_value_bytes {
            return Ok(None);
        }
        Ok(Some(Exemplar { time_ms, value, labels: Labels::from_pairs(pairs) }))
    }

    fn metadata_v1(&mut self, mut message: Reader<'a>) -> Result<(), Broken> {
        const TYPE: u32 = varint(1);
        const FAMILY: u32 = length(2);
        const HELP: u32 = length(4);
        const UNIT: u32 = length(5);
        let mut metadata = Metadata::default();
        loop {
            match message.tag()? {
                END => break,
                TYPE => metadata.metric_type = metric_type(message.varint()?),
                FAMILY => metadata.family = self.text(message.bytes()?),
                HELP => metadata.help = self.text(message.bytes()?),
                UNIT => metadata.unit = self.text(message.bytes()?),
                tag => message.skip(tag)?,
            }
        }
        if !metadata.family.is_empty() {
            self.builder.metadata(metadata);
        }
        Ok(())
    }

    /// Version 2 says it of a series; the family's name is the series' without what its type adds.
    fn metadata_v2(&mut self, mut message: Reader<'a>, series: u32) -> Result<(), Broken> {
        const TYPE: u32 = varint(1);
        const HELP: u32 = varint(3);
        const UNIT: u32 = varint(4);
        let mut metadata = Metadata::default();
        loop {
            match message.tag()? {
                END => break,
                TYPE => metadata.metric_type = metric_type(message.varint()?),
                HELP => {
                    let text = self.symbol(message.varint()?);
                    metadata.help = text.map_or_else(String::new, |text| self.text(text));
                }
                UNIT => {
                    let text = self.symbol(message.varint()?);
                    metadata.unit = text.map_or_else(String::new, |text| self.text(text));
                }
                tag => message.skip(tag)?,
            }
        }
        if metadata != Metadata::default() {
            let name = self.builder.metric_name(series).unwrap_or_default();
            family_of(name, metadata.metric_type).clone_into(&mut metadata.family);
            self.builder.metadata(metadata);
        }
        Ok(())
    }

    fn text(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(self.limits.max_label_value_bytes)]);
        text.into_owned()
    }
}

/// A series' name without the suffix of a part of its family.
fn family_of(name: &str, metric_type: MetricType) -> &str {
    let suffixes: &[&str] = match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => {
            &["_bucket", "_count", "_sum", "_gcount", "_gsum"]
        }
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// By the numbers of both versions.
fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

/// `Label` of version 1.
fn name_and_value(mut label: Reader<'_>) -> Result<(&[u8], &[u8]), Broken> {
    const NAME: u32 = length(1);
    const VALUE: u32 = length(2);
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    loop {
        match label.tag()? {
            END => return Ok((name, value)),
            NAME => name = label.bytes()?,
            VALUE => value = label.bytes()?,
            tag => label.skip(tag)?,
        }
    }
}

/// `Sample` of both versions: value, time, start (0 in version 1).
fn sample(mut message: Reader<'_>) -> Result<(f64, i64, i64), Broken> {
    const VALUE: u32 = fixed64(1);
    const TIME: u32 = varint(2);
    const START: u32 = varint(3);
    let (mut value, mut time_ms, mut start_ms) = (0.0, 0, 0);
    loop {
        match message.tag()? {
            END => return Ok((value, time_ms, start_ms)),
            VALUE => value = f64::from_bits(message.fixed64()?),
            TIME => time_ms = message.varint()? as i64,
            START => start_ms = message.varint()? as i64,
            tag => message.skip(tag)?,
        }
    }
}

/// A packed field of varints.
fn varints(mut packed: Reader<'_>, out: &mut Vec<u64>) -> Result<(), Broken> {
    while !packed.rest().is_empty() {
        out.push(packed.varint()?);
    }
    Ok(())
}

/// A packed field of doubles.
fn doubles(mut packed: Reader<'_>, out: &mut Vec<f64>) -> Result<(), Broken> {
    while !packed.rest().is_empty() {
        out.push(f64::from_bits(packed.fixed64()?));
    }
    Ok(())
}

fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn bucket_span(mut message: Reader<'_>) -> Result<BucketSpan, Broken> {
    const OFFSET: u32 = varint(1);
    const LENGTH: u32 = varint(2);
    let mut span = BucketSpan { offset: 0, length: 0 };
    loop {
        match message.tag()? {
            END => return Ok(span),
            OFFSET => span.offset = zigzag(message.varint()?) as i32,
            LENGTH => span.length = message.varint()? as u32,
            tag => message.skip(tag)?,
        }
    }
}

/// The buckets of one sign as they are read: counts, or differences of integer counts.
#[derive(Default)]
struct Side {
    spans: Vec<BucketSpan>,
    deltas: Vec<u64>,
    counts: Vec<f64>,
}

impl Side {
    fn finish(self, is_integer: bool) -> Buckets {
        let counts = if is_integer {
            let mut count = 0_i64;
            let absolute = self.deltas.iter().map(|&delta| {
                count = count.wrapping_add(zigzag(delta));
                count as f64
            });
            absolute.collect()
        } else {
            self.counts
        };
        Buckets { spans: self.spans, counts }
    }
}

/// `Histogram` of both versions, or why it is none.
fn histogram(mut message: Reader<'_>) -> Result<Result<HistogramSample, &'static str>, Broken> {
    let (mut time_ms, mut start_ms) = (0, 0);
    let mut histogram = NativeHistogram { is_integer: true, ..NativeHistogram::default() };
    let (mut positive, mut negative) = (Side::default(), Side::default());
    loop {
        match message.tag()? {
            END => break,
            tag if tag == varint(1) => histogram.count = message.varint()? as f64,
            tag if tag == fixed64(2) => {
                histogram.count = f64::from_bits(message.fixed64()?);
                histogram.is_integer = false;
            }
            tag if tag == fixed64(3) => histogram.sum = f64::from_bits(message.fixed64()?),
            tag if tag == varint(4) => histogram.schema = zigzag(message.varint()?) as i32,
            tag if tag == fixed64(5) => histogram.zero_threshold = f64::from_bits(message.fixed64()?),
            tag if tag == varint(6) => histogram.zero_count = message.varint()? as f64,
            tag if tag == fixed64(7) => histogram.zero_count = f64::from_bits(message.fixed64()?),
            tag if tag == length(8) => negative.spans.push(bucket_span(message.message()?)?),
            tag if tag == length(9) => varints(message.message()?, &mut negative.deltas)?,
            tag if tag == varint(9) => negative.deltas.push(message.varint()?),
            tag if tag == length(10) => doubles(message.message()?, &mut negative.counts)?,
            tag if tag == fixed64(10) => negative.counts.push(f64::from_bits(message.fixed64()?)),
            tag if tag == length(11) => positive.spans.push(bucket_span(message.message()?)?),
            tag if tag == length(12) => varints(message.message()?, &mut positive.deltas)?,
            tag if tag == varint(12) => positive.deltas.push(message.varint()?),
            tag if tag == length(13) => doubles(message.message()?, &mut positive.counts)?,
            tag if tag == fixed64(13) => positive.counts.push(f64::from_bits(message.fixed64()?)),
            tag if tag == varint(14) => {
                histogram.reset_hint = match message.varint()? {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NotReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            tag if tag == varint(15) => time_ms = message.varint()? as i64,
            tag if tag == length(16) => doubles(message.message()?, &mut histogram.custom_bounds)?,
            tag if tag == fixed64(16) => histogram.custom_bounds.push(f64::from_bits(message.fixed64()?)),
            tag if tag == varint(17) => start_ms = message.varint()? as i64,
            tag => message.skip(tag)?,
        }
    }
    histogram.positive = positive.finish(histogram.is_integer);
    histogram.negative = negative.finish(histogram.is_integer);
    Ok(match fault_of(&histogram) {
        Some(fault) => Err(fault),
        None => Ok(HistogramSample { time_ms, start_ms, histogram: Arc::new(histogram) }),
    })
}

/// What a histogram contradicts itself in. Source: Prometheus `model/histogram` `Validate`, as far as it protects readers.
fn fault_of(histogram: &NativeHistogram) -> Option<&'static str> {
    let has_custom_bounds = histogram.schema == CUSTOM_BOUNDS_SCHEMA;
    if !has_custom_bounds && !(MIN_SCHEMA..=MAX_SCHEMA).contains(&histogram.schema) {
        return Some("a histogram has an unknown schema");
    }
    if !histogram.positive.is_consistent() || !histogram.negative.is_consistent() {
        return Some("a histogram's spans contradict its buckets");
    }
    if has_custom_bounds {
        let ascend = histogram.custom_bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let last = histogram.positive.iter().last().map_or(0, |(index, _)| i64::from(index));
        let first = histogram.positive.iter().next().map_or(0, |(index, _)| index);
        if !ascend
            || first < 0
            || last > histogram.custom_bounds.len() as i64
            || !histogram.negative.counts.is_empty()
        {
            return Some("a histogram's custom bounds contradict its buckets");
        }
    } else if !histogram.custom_bounds.is_empty() {
        return Some("a histogram has custom bounds beside an exponential schema");
    }
    None
}
