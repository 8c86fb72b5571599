//! Files of spans: what is written comes back, through this crate's reader and through the `parquet` crate.

mod spans;

use bytes::Bytes;
use model::columns::Value;
use model::dense::Choice;
use model::spans::SpanFields;
use model::{SpanColumns, SpanId, TraceId};
use proptest::prelude::*;
use storage::block::reference;
use storage::block::spans::merged::{SpanMerge, SpanRun, SpanWriter, WrittenSpans, verify};
use storage::block::spans::{
    ChunkTable, EncodedSpans, Parts, Projection, column, decode, decode_rows, encode, rows_with_attribute,
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

/// The file that a merge gives whose inputs were fed all that they have.
fn finished(mut merge: SpanMerge, mut writer: SpanWriter) -> WrittenSpans {
    while merge.write(&mut writer, usize::MAX) || merge.starved().is_some() {
        while let Some(starved) = merge.starved() {
            merge.feed(starved, None);
        }
    }
    writer.finish().expect("spans").0
}

/// A merged file of these spans, which come as two inputs.
fn merged(inputs: [SpanColumns; 2]) -> WrittenSpans {
    let mut merge = SpanMerge::new(inputs.len());
    let mut choice = Choice::default();
    for columns in &inputs {
        choice.count(&columns.attributes);
    }
    let dense = choice.choose(&[]);
    for (input, columns) in inputs.into_iter().enumerate() {
        merge.feed(input, Some(SpanRun::sorted(columns, &dense)));
    }
    finished(merge, SpanWriter::new(3, dense))
}

#[test]
fn golden_files_pin_the_merged_layout() {
    let written = merged([spans::example(), spans::example()]);
    assert_eq!(written.descriptor.rows, spans::example().len() as u64, "equal spans are stored once");
    spans::check_golden("spans-4.parquet", &written.bytes);
    spans::check_golden("spans-4.item", &written.descriptor.encode());
}

/// Spans of one trace each, of which the attribute `key` has these texts.
fn with_texts(first_id: u64, texts: &[String]) -> SpanColumns {
    let mut columns = SpanColumns::default();
    for (id, text) in (first_id..).zip(texts) {
        columns.attributes.push("key", Value::String(text));
        let origin = columns.origins.intern_resource("service", "", "");
        let mut trace_id = [1; 16];
        trace_id[..8].copy_from_slice(&id.to_be_bytes());
        let fields = SpanFields { trace_id: TraceId(trace_id), name: "name", ..SpanFields::default() };
        columns.push_span(&fields, origin);
    }
    columns
}

#[test]
fn a_text_that_inputs_have_apart_is_found_in_all_rows() {
    // The first input has a text for each row, which is not looked for among those of the second.
    let own: Vec<String> = (0..300).map(|n| format!("text {n}")).collect();
    let few: Vec<String> = (0..2000).map(|n| format!("text {}", n % 7)).collect();
    let first = merged([with_texts(0, &own), SpanColumns::default()]);
    let Places::Merged(places) = &first.descriptor.places else { panic!("a merged file") };
    let (unit, _) = places.placed().next().expect("a unit");
    let second = with_texts(10_000, &few);
    let dense = Choice::of(&second.attributes).choose(&[]);
    let bytes = first.bytes.slice(unit.start as usize..unit.end as usize);
    let mut merge = SpanMerge::new(2);
    merge.feed(0, Some(SpanRun::read(bytes, unit.start, &dense).expect("own unit")));
    merge.feed(1, Some(SpanRun::sorted(second, &dense)));
    let both = finished(merge, SpanWriter::new(3, dense));
    verify(&both.bytes, &both.descriptor).expect("own file");
    let Places::Merged(places) = &both.descriptor.places else { panic!("a merged file") };
    let mut directory = &both.bytes[places.directory.start as usize..places.directory.end as usize];
    let mut n_found = 0;
    for (unit, _) in places.placed() {
        let (_, table) =
            storage::block::spans::merged::read_head(&mut directory, unit.start).expect("a head");
        let parts = Parts::whole(both.bytes.clone());
        let rows = rows_with_attribute(&table, &parts, "key", "text 3").expect("own file");
        let columns = decode(&table, &parts, Projection::ALL).expect("own file");
        let of_row = |row: &u32| {
            columns.span(*row as usize).attributes().next() == Some(("key", Value::String("text 3")))
        };
        assert!(rows.iter().all(of_row));
        n_found += rows.len();
    }
    let expected = own.iter().chain(&few).filter(|text| *text == "text 3").count();
    assert_eq!((n_found, expected), (expected, 287));
}

#[test]
fn merged_files_of_before_stay_readable() {
    let golden = |name: String| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        std::fs::read(folder.join(name)).expect("golden file")
    };
    for version in [2, 3] {
        let (item, bytes) =
            (golden(format!("spans-{version}.item")), golden(format!("spans-{version}.parquet")));
        let summary = Summary::parse(&item).expect("an item");
        let Places::Merged(merged) = summary.places().expect("places") else { panic!("a merged file") };
        assert_eq!(merged.last_hash == u32::MAX, version == 2, "its end was not known at first");
        let mut found = Vec::new();
        for span in spans::example().iter() {
            let hash = storage::index::fingerprint::hash_id(&span.fields().trace_id.0);
            assert!(summary.may_have_trace(hash).expect("an item"));
            found.extend(merged.that_may_have(hash));
        }
        assert_eq!(found.len(), spans::example().len(), "one unit");
        let start = found[0].start;
        let mut head = &bytes[start as usize..];
        let (_, table) = storage::block::spans::merged::read_head(&mut head, start).expect("a head");
        let parts = Parts::whole(bytes.into());
        let columns = decode(&table, &parts, Projection::ALL).expect("a unit");
        for span in spans::example().iter() {
            assert!(columns.iter().any(|other| other.same_as(span)));
        }
    }
}

/// A file of traces with so many spans each.
fn written(sizes: &[usize]) -> WrittenSpans {
    let mut columns = SpanColumns::default();
    for (trace, &size) in sizes.iter().enumerate() {
        for span in 0..size as u64 {
            let origin = columns.origins.intern_resource("s", "{}", "");
            let fields = SpanFields {
                trace_id: TraceId((trace as u128 + 1).to_be_bytes()),
                span_id: SpanId((span + 1).to_be_bytes()),
                ..SpanFields::default()
            };
            columns.push_span(&fields, origin);
        }
    }
    merged([columns, SpanColumns::default()])
}

#[test]
fn a_trace_is_in_one_unit_unless_it_is_larger() {
    let written = written(&[900; 23]);
    verify(&written.bytes, &written.descriptor).expect("own file");
    let Places::Merged(places) = &written.descriptor.places else { panic!("a merged file") };
    let rows: Vec<u64> = places.units.iter().map(|unit| unit.rows).collect();
    assert_eq!(rows, [4500, 4500, 4500, 4500, 2700]);
    let large = self::written(&[9_000, 10]);
    verify(&large.bytes, &large.descriptor).expect("own file");
    let Places::Merged(places) = &large.descriptor.places else { panic!("a merged file") };
    assert_eq!(places.units.len(), 2);
}

#[test]
fn traces_of_a_merged_file_are_in_its_sieve() {
    let hash = |i: u128| storage::index::fingerprint::hash_id(&(i + 1).to_be_bytes());
    for n_traces in [1, 1_500, 4_096, 5_000] {
        let written = written(&vec![1; n_traces]);
        let item = written.descriptor.encode();
        let summary = Summary::parse(&item).expect("own bytes");
        let are_many = n_traces > 4_096;
        let may_have = |i| {
            let may_have = if are_many {
                storage::index::fingerprint::may_pass(&written.many_traces, hash(i))
            } else {
                summary.may_have_trace(hash(i))
            };
            may_have.expect("own bytes")
        };
        assert_eq!(written.many_traces.is_empty(), !are_many);
        assert!((0..n_traces as u128).all(may_have));
        let n_strangers = (1_000_000..1_064_000).filter(|&i| may_have(i)).count();
        assert!(n_strangers < 1_300, "{n_strangers} of 64,000, 1,000 expected");
        let n_bytes = written.many_traces.len().max(item.len());
        assert!(n_bytes < 200 + n_traces * 11 / 10, "{n_bytes} bytes");
    }
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
