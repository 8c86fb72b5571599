//! Prometheus remote read: a request into selections, series into the answer that lists samples.
//!
//! The other kind of answer, a stream of chunks, is not offered: a client that takes nothing else is told so.
//!
//! Source: Prometheus `prompb/remote.proto`, `prompb/types.proto`, `storage/remote/read_handler.go`.

use model::histogram::{BucketSpan as ModelSpan, ResetHint};
use model::{MatchOp, Matcher, NativeHistogram, Series};
use prost::Message as _;

use crate::encoding::{Encoding, decompress};
use crate::error::Error;
use crate::limits::Limits;

/// One selection of a request.
#[derive(Debug, Clone)]
pub struct Query {
    /// What the series must pass; all of it.
    pub matchers: Vec<Matcher>,
    /// Samples from this instant, ms since the epoch,
    pub start_ms: i64,
    /// up to this one.
    pub end_ms: i64,
}

/// Reads a request, compressed as it came.
///
/// # Errors
/// The body is over the limit, no block of Snappy, no protobuf; a pattern does not compile; the client takes only
/// answers that are not offered.
pub fn decode(body: &[u8], limits: &Limits) -> Result<Vec<Query>, Error> {
    let body = decompress(body, Encoding::SnappyBlock, limits)?;
    let malformed = |what| Error::Malformed { offset: 0, what };
    let request = message::ReadRequest::decode(&*body).map_err(|_| malformed("not a remote read request"))?;
    let types = &request.accepted_response_types;
    if !types.is_empty() && !types.contains(&message::SAMPLES) {
        return Err(malformed("none of the accepted response types is offered: only SAMPLES is"));
    }
    let matcher = |matcher: message::LabelMatcher| {
        let op = match matcher.r#type {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(malformed("unknown type of matcher")),
        };
        Matcher::new(&matcher.name, op, &matcher.value)
            .map_err(|_| malformed("a matcher's pattern is invalid"))
    };
    let query = |query: message::Query| {
        let matchers = query.matchers.into_iter().map(matcher).collect::<Result<_, _>>()?;
        Ok(Query { matchers, start_ms: query.start_timestamp_ms, end_ms: query.end_timestamp_ms })
    };
    request.queries.into_iter().map(query).collect()
}

/// The answer with the series of each query, as a block of Snappy. Series come in the order of their labels.
pub fn encode(results: Vec<Vec<Series>>) -> Vec<u8> {
    let results = results.into_iter().map(|mut series| {
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        message::QueryResult { timeseries: series.iter().map(time_series).collect() }
    });
    let response = message::ReadResponse { results: results.collect() };
    let plain = response.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&plain).expect("invariant: an answer is shorter than 4 GiB")
}

fn time_series(series: &Series) -> message::TimeSeries {
    let label = |label: &model::labels::Label| message::Label {
        name: label.name.to_string(),
        value: label.value.to_string(),
    };
    let samples = series.time_ms.iter().zip(&series.value);
    message::TimeSeries {
        labels: series.labels.iter().map(label).collect(),
        samples: samples.map(|(&timestamp, &value)| message::Sample { value, timestamp }).collect(),
        histograms: series
            .histograms
            .iter()
            .map(|sample| histogram(&sample.histogram, sample.time_ms))
            .collect(),
    }
}

/// A histogram with counts as it came with: whole, as differences from bucket to bucket, or floating-point.
fn histogram(histogram: &NativeHistogram, timestamp: i64) -> message::Histogram {
    let spans = |spans: &[ModelSpan]| -> Vec<message::BucketSpan> {
        spans.iter().map(|span| message::BucketSpan { offset: span.offset, length: span.length }).collect()
    };
    let is_integer = histogram.is_integer;
    let integer = |count: f64| is_integer.then_some(count as u64);
    let float = |count: f64| (!is_integer).then_some(count);
    let deltas = |counts: &[f64]| -> Vec<i64> {
        let mut before = 0;
        let of_bucket = |count: &f64| {
            let count = *count as i64;
            count - std::mem::replace(&mut before, count)
        };
        if is_integer { counts.iter().map(of_bucket).collect() } else { Vec::new() }
    };
    let floats = |counts: &[f64]| if is_integer { Vec::new() } else { counts.to_vec() };
    message::Histogram {
        count_int: integer(histogram.count),
        count_float: float(histogram.count),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count_int: integer(histogram.zero_count),
        zero_count_float: float(histogram.zero_count),
        negative_spans: spans(&histogram.negative.spans),
        negative_deltas: deltas(&histogram.negative.counts),
        negative_counts: floats(&histogram.negative.counts),
        positive_spans: spans(&histogram.positive.spans),
        positive_deltas: deltas(&histogram.positive.counts),
        positive_counts: floats(&histogram.positive.counts),
        reset_hint: match histogram.reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 1,
            ResetHint::NotReset => 2,
            ResetHint::Gauge => 3,
        },
        timestamp,
        custom_values: histogram.custom_bounds.clone(),
    }
}

/// The messages, with their field numbers.
mod message {
    /// The answer that lists samples.
    pub(super) const SAMPLES: i32 = 0;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ReadRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) queries: Vec<Query>,
        #[prost(int32, repeated, tag = "2")]
        pub(super) accepted_response_types: Vec<i32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Query {
        #[prost(int64, tag = "1")]
        pub(super) start_timestamp_ms: i64,
        #[prost(int64, tag = "2")]
        pub(super) end_timestamp_ms: i64,
        #[prost(message, repeated, tag = "3")]
        pub(super) matchers: Vec<LabelMatcher>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct LabelMatcher {
        #[prost(int32, tag = "1")]
        pub(super) r#type: i32,
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(string, tag = "3")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ReadResponse {
        #[prost(message, repeated, tag = "1")]
        pub(super) results: Vec<QueryResult>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct QueryResult {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub(super) count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(super) count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub(super) sum: f64,
        #[prost(sint32, tag = "4")]
        pub(super) schema: i32,
        #[prost(double, tag = "5")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub(super) zero_count_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub(super) zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub(super) negative_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "9")]
        pub(super) negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        pub(super) negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        pub(super) positive_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "12")]
        pub(super) positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub(super) positive_counts: Vec<f64>,
        #[prost(int32, tag = "14")]
        pub(super) reset_hint: i32,
        #[prost(int64, tag = "15")]
        pub(super) timestamp: i64,
        #[prost(double, repeated, tag = "16")]
        pub(super) custom_values: Vec<f64>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Labels;
    use model::series::{HistogramSample, STALE_BITS};

    use super::*;

    fn request(types: Vec<i32>, matchers: &[(i32, &str, &str)]) -> Vec<u8> {
        let matcher = |&(r#type, name, value): &(i32, &str, &str)| message::LabelMatcher {
            r#type,
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let matchers = matchers.iter().map(matcher).collect();
        let query = message::Query { start_timestamp_ms: 5, end_timestamp_ms: 9, matchers };
        let request = message::ReadRequest { queries: vec![query], accepted_response_types: types };
        snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("short")
    }

    #[test]
    fn requests_are_read() {
        let matchers = [(0, "__name__", "up"), (1, "a", "x"), (2, "b", "y.*"), (3, "c", "z")];
        let queries = decode(&request(vec![1, 0], &matchers), &Limits::default()).expect("a request");
        assert_eq!((queries.len(), queries[0].start_ms, queries[0].end_ms), (1, 5, 9));
        let read: Vec<_> = queries[0].matchers.iter().map(|m| (m.name(), m.op(), m.value())).collect();
        assert_eq!(read[1], ("a", MatchOp::NotEqual, "x"));
        assert_eq!(read[3], ("c", MatchOp::NotRegex, "z"));
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        let check = |body: &[u8], expect: &str| {
            let error = decode(body, &Limits::default()).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(b"\xff\xff\xff\xff\xff", "snappy");
        check(&request(vec![1], &[]), "only SAMPLES");
        check(&request(vec![], &[(2, "a", "(")]), "pattern");
        check(&request(vec![], &[(7, "a", "b")]), "unknown type");
        check(
            &snap::raw::Encoder::new().compress_vec(b"\x0a\xff").expect("short"),
            "not a remote read request",
        );
    }

    #[test]
    fn series_are_listed_by_labels_to_the_bit() {
        let buckets = model::histogram::Buckets {
            spans: vec![ModelSpan { offset: 1, length: 3 }],
            counts: vec![2.0, 0.0, 1.0],
        };
        let histogram =
            NativeHistogram { count: 3.0, sum: 1.5, positive: buckets, ..NativeHistogram::default() };
        let series = |name: &str| Series {
            labels: Labels::from_pairs([("__name__", name)]),
            time_ms: vec![1, 2],
            value: vec![0.5, f64::from_bits(STALE_BITS)],
            histograms: vec![HistogramSample {
                time_ms: 3,
                start_ms: 0,
                histogram: Arc::new(histogram.clone()),
            }],
        };
        let body = encode(vec![vec![series("b"), series("a")], Vec::new()]);
        let plain = snap::raw::Decoder::new().decompress_vec(&body).expect("a block");
        let response = message::ReadResponse::decode(&*plain).expect("an answer");
        assert_eq!(response.results.len(), 2);
        let names: Vec<_> = response.results[0].timeseries.iter().map(|s| &*s.labels[0].value).collect();
        assert_eq!(names, ["a", "b"]);
        let first = &response.results[0].timeseries[0];
        assert_eq!(first.samples[1].value.to_bits(), STALE_BITS);
        let read = &first.histograms[0];
        assert_eq!((read.count_float, read.count_int, read.timestamp), (Some(3.0), None, 3));
        assert_eq!((&read.positive_counts[..], read.positive_deltas.len()), (&[2.0, 0.0, 1.0][..], 0));
        let whole = super::histogram(&NativeHistogram { is_integer: true, ..histogram }, 3);
        assert_eq!((whole.count_float, whole.count_int, whole.zero_count_int), (None, Some(3), Some(0)));
        assert_eq!((&whole.positive_deltas[..], whole.positive_counts.len()), (&[2, -2, 1][..], 0));
    }
}
