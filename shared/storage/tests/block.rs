//! Files of spans: what is written comes back, through this crate's reader and through the `parquet` crate.

mod spans;

use bytes::Bytes;
use model::SpanColumns;
use proptest::prelude::*;
use storage::block::reference;
use storage::block::spans::merged::{SpanMerge, SpanRun, SpanWriter, WrittenSpans, verify};
use storage::block::spans::{
    ChunkTable, EncodedSpans, Parts, Projection, column, decode, decode_rows, encode,
};
use storage::index::{Places, Summary};

fn assert_same(read: &SpanColumns, written: &SpanColumns) {
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(written.iter()) {
        assert!(
            read.same_as(written),
            "{read:?} is not {written:?}",
            read = read.fields(),
            written = written.fields()
        );
        assert_eq!(read.service(), written.service());
    }
}

fn table(encoded: &EncodedSpans) -> &ChunkTable {
    match &encoded.descriptor.places {
        Places::OfRequest(table) => table,
        Places::Merged(_) => panic!("a file of one request"),
    }
}

fn own_reader(file: &Bytes, table: &ChunkTable) -> SpanColumns {
    decode(table, &Parts::whole(file.clone()), Projection::ALL).expect("own file")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn spans_come_back_through_both_readers(columns in spans::any_columns(1..40)) {
        let encoded = encode(&columns);
        assert_same(&own_reader(&encoded.bytes, table(&encoded)), &columns);
        assert_same(&reference::decode(encoded.bytes.clone()).expect("a parquet file"), &columns);
    }

    #[test]
    fn some_rows_are_as_among_all(columns in spans::any_columns(1..40), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let encoded = encode(&columns);
        let (a, b) = (a.index(columns.len()), b.index(columns.len()));
        let rows = a.min(b)..a.max(b) + 1;
        let some = decode_rows(table(&encoded), &Parts::whole(encoded.bytes.clone()), Projection::ALL, rows.clone()).expect("own file");
        prop_assert_eq!(some.len(), rows.len());
        for (at, row) in rows.enumerate() {
            prop_assert!(some.span(at).same_as(columns.span(row)));
        }
        let beyond = columns.len()..columns.len() + 1;
        prop_assert!(decode_rows(table(&encoded), &Parts::whole(encoded.bytes.clone()), Projection::ALL, beyond).is_err());
    }

    #[test]
    fn the_index_item_tells_where_columns_are(columns in spans::any_columns(1..20)) {
        let encoded = encode(&columns);
        let item = encoded.descriptor.encode();
        let summary = Summary::parse(&item).expect("own bytes");
        prop_assert_eq!(summary.places().expect("own bytes"), encoded.descriptor.places.clone());
        prop_assert_eq!(summary.rows, columns.len() as u64);
        prop_assert_eq!(summary.size, encoded.bytes.len() as u64);
        prop_assert_eq!(summary.min_start_ns, columns.start_ns.iter().copied().min().expect("rows"));
        prop_assert_eq!(summary.max_start_ns, columns.start_ns.iter().copied().max().expect("rows"));
        for span in columns.iter() {
            let hash = storage::index::fingerprint::hash_id(&span.fields().trace_id.0);
            prop_assert!(summary.may_have_trace(hash).expect("own bytes"));
            prop_assert!(summary.may_have_service(span.service()).expect("own bytes"));
            prop_assert!(summary.may_have_operation(span.service(), span.fields().name).expect("own bytes"));
        }
    }

    #[test]
    fn damaged_files_are_errors_or_spans(columns in spans::any_columns(1..10), at in any::<prop::sample::Index>(), byte: u8) {
        let encoded = encode(&columns);
        let mut file = encoded.bytes.to_vec();
        let at = at.index(file.len());
        file[at] = byte;
        let _ = decode(table(&encoded), &Parts::whole(Bytes::from(file)), Projection::ALL);
    }

    #[test]
    fn damaged_items_are_errors_or_items(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(summary) = Summary::parse(&bytes) {
            let _ = (summary.places(), summary.services(), summary.may_have_trace(7), summary.may_have_service("x"));
        }
    }
}

#[test]
fn a_projection_reads_only_its_ranges() {
    let columns = spans::example();
    let encoded = encode(&columns);
    let projection = Projection::of(&[column::NAME, column::SPAN_ID]);
    let ranges = table(&encoded).ranges(projection, 0);
    assert_eq!(ranges.len(), 3, "trace id, name and span id lie apart");
    let mut parts = Parts::new();
    for range in ranges {
        parts.add(range.start, encoded.bytes.slice(range.start as usize..range.end as usize));
    }
    let read = decode(table(&encoded), &parts, projection).expect("own file");
    assert_eq!(read.name.get(1), columns.name.get(1));
    assert_eq!(read.span_id, columns.span_id);
    assert!(read.attributes.key.is_empty());
    assert!(decode(table(&encoded), &parts, Projection::ALL).is_err(), "other columns were not fetched");
}

/// The layout is pinned: a change of these bytes is a new version, and old files must stay readable.
#[test]
fn golden_files_pin_the_layout() {
    let encoded = encode(&spans::example());
    spans::check_golden("spans-1.parquet", &encoded.bytes);
    spans::check_golden("spans-1.item", &encoded.descriptor.encode());
}

/// A merged file of these spans, which come as two inputs.
fn merged(inputs: [SpanColumns; 2]) -> WrittenSpans {
    let mut merge = SpanMerge::new(inputs.len());
    for (input, columns) in inputs.into_iter().enumerate() {
        merge.feed(input, Some(SpanRun::sorted(columns)));
    }
    let mut writer = SpanWriter::new(3);
    while merge.write(&mut writer, usize::MAX) || merge.starved().is_some() {
        while let Some(starved) = merge.starved() {
            merge.feed(starved, None);
        }
    }
    writer.finish().expect("spans")
}

#[test]
fn golden_files_pin_the_merged_layout() {
    let written = merged([spans::example(), spans::example()]);
    assert_eq!(written.descriptor.rows, spans::example().len() as u64, "equal spans are stored once");
    spans::check_golden("spans-2.parquet", &written.bytes);
    spans::check_golden("spans-2.item", &written.descriptor.encode());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn merged_spans_come_back_through_the_other_reader(
        a in spans::any_columns(1..30), b in spans::any_columns(1..30),
    ) {
        let written = merged([a.clone(), b.clone()]);
        verify(&written.bytes, &written.descriptor).expect("own file");
        let read = reference::decode(written.bytes.clone()).expect("a parquet file");
        for span in a.iter().chain(b.iter()) {
            prop_assert_eq!(read.iter().filter(|other| other.same_as(span)).count(), 1);
        }
        let item = written.descriptor.encode();
        let summary = Summary::parse(&item).expect("own bytes");
        prop_assert_eq!(summary.rows, read.len() as u64);
        for span in read.iter() {
            let hash = storage::index::fingerprint::hash_id(&span.fields().trace_id.0);
            prop_assert!(summary.may_have_trace(hash).expect("own bytes"));
        }
    }
}
