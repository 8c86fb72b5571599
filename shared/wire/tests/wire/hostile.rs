//! No bytes make a decoder panic, and whatever a decoder takes can be rendered.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;
use wire::otlp::{Format, JsonStyle, decode_traces, to_json, to_messages};
use wire::{Encoding, Limits, decompress};

use crate::generate;
use crate::round_trip::{Comparison, normalise};

const TIGHT: Limits = Limits {
    max_compressed_bytes: 1 << 16,
    max_body_bytes: 1 << 16,
    max_depth: 2,
    max_attributes_per_span: 3,
    max_string_bytes: 8,
    max_labels: 4,
    max_label_value_bytes: 32,
    max_samples: 64,
    max_series: 1 << 10,
    min_time_ms: i64::MIN,
    max_time_ms: i64::MAX,
};

/// What is done to bytes that were valid.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Remove(Index),
    Insert(Index, u8),
    Cut(Index),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        5 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => any::<Index>().prop_map(Damage::Remove),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ];
    vec(one, 0..4)
}

fn apply(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for damage in damage {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Set(at, byte) => *at.get_mut(&mut bytes) = *byte,
            Damage::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Damage::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let copy = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(copy);
            }
        }
    }
    bytes
}

/// Decodes in both formats with wide and with tight limits, and renders what was taken.
fn decode_and_render(body: &[u8]) {
    for limits in [&Limits::default(), &TIGHT] {
        for format in [Format::Protobuf, Format::Json] {
            let Ok(decoded) = decode_traces(body, format, limits) else { continue };
            assert!(decoded.error_message.len() < 1000);
            assert_eq!(decoded.error_message.is_empty(), decoded.rejected_spans == 0);
            let messages = to_messages(decoded.columns.iter());
            let again = decode_traces(&messages.encode_to_vec(), Format::Protobuf, &Limits::default());
            assert_eq!(again.expect("own messages").columns.len(), decoded.columns.len());
            for style in [JsonStyle::Otlp, JsonStyle::TempoBatches, JsonStyle::TempoTrace] {
                let text = to_json(decoded.columns.iter(), style);
                serde_json::from_str::<serde::de::IgnoredAny>(&text).expect(&text);
            }
        }
    }
}

fn decompress_all(body: &[u8]) {
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
        let content = decompress(body, encoding, &TIGHT).unwrap_or(Cow::Borrowed(b""));
        assert!(content.len() <= TIGHT.max_body_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(body in vec(any::<u8>(), 0..200)) {
        decode_and_render(&body);
        decompress_all(&body);
    }

    #[test]
    fn random_json_never_panics(text in "[\\[\\]{}\":,a-e0-3 ]{0,60}") {
        decode_and_render(format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{text}"#).as_bytes());
    }

    #[test]
    fn damaged_protobuf_never_panics(request in generate::request(), damage in damage()) {
        decode_and_render(&apply(request.encode_to_vec(), &damage));
    }

    #[test]
    fn damaged_protobuf_means_what_prost_reads(request in generate::request(), damage in damage()) {
        let body = apply(request.encode_to_vec(), &damage);
        if let Ok(read) = ExportTraceServiceRequest::decode(&body[..]) {
            let (expect, n_invalid) = normalise(&read);
            let decoded = decode_traces(&body, Format::Protobuf, &Limits::default()).expect("prost took it");
            prop_assert_eq!(decoded.rejected_spans, n_invalid);
            let messages = to_messages(decoded.columns.iter()).encode_to_vec();
            let messages = ExportTraceServiceRequest::decode(&messages[..]).expect("own messages");
            Comparison::default().requests(&messages, &expect);
        }
    }

    #[test]
    fn damaged_json_never_panics(request in generate::request(), damage in damage()) {
        let decoded = decode_traces(&request.encode_to_vec(), Format::Protobuf, &Limits::default()).expect("valid");
        decode_and_render(&apply(to_json(decoded.columns.iter(), JsonStyle::Otlp).into_bytes(), &damage));
    }

    #[test]
    fn damaged_compression_never_panics(content in vec(0..4u8, 0..500), damage in damage()) {
        let mut libdeflate = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut gzip = vec![0; libdeflate.gzip_compress_bound(content.len())];
        let length = libdeflate.gzip_compress(&content, &mut gzip).expect("gzip");
        gzip.truncate(length);
        let mut zlib = vec![0; libdeflate.zlib_compress_bound(content.len())];
        let length = libdeflate.zlib_compress(&content, &mut zlib).expect("zlib");
        zlib.truncate(length);
        let zstd = zstd::bulk::compress(&content, 1).expect("zstd");
        for body in [gzip, zlib, zstd] {
            decompress_all(&apply(body, &damage));
        }
    }
}

#[test]
fn nesting_without_end_is_no_danger() {
    let deep_json = |open: &str| {
        let body = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":[{{"value":{}"#,
            open.repeat(100_000)
        );
        decode_and_render(body.as_bytes());
    };
    deep_json("[");
    deep_json("{\"a\":");
    deep_json("{\"arrayValue\":{\"values\":[");
    deep_json("{\"kvlistValue\":{\"values\":[{\"value\":");
    decode_and_render("[".repeat(100_000).as_bytes());
    decode_and_render(format!("{{\"unknown\":{}", "[".repeat(100_000)).as_bytes());

    // An array of one array of one array …, from the inside out.
    let mut value = Vec::new();
    for _ in 0..5_000 {
        let mut outer = Vec::new();
        prost::encoding::bytes::encode(1, &value, &mut outer);
        value.clear();
        prost::encoding::bytes::encode(5, &outer, &mut value);
    }
    let mut body = Vec::new();
    for field in [2, 9, 2, 2, 1] {
        body.clear();
        prost::encoding::bytes::encode(field, &value, &mut body);
        std::mem::swap(&mut body, &mut value);
    }
    decode_and_render(&value);
}
