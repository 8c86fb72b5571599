//! The search section of merged files against a plain look at every span.

mod spans;

use std::collections::BTreeMap;

use model::columns::Value;
use model::dense::Choice;
use model::search::{Condition, TraceSearch};
use model::spans::SpanView;
use model::{SpanColumns, TimeRange, attribute};
use proptest::prelude::*;
use spans::{any_columns, some_text};
use storage::block::spans::merged::{SpanMerge, SpanRun, SpanWriter, WrittenSpans, verify};
use storage::block::spans::search::{Block, read_directory, start_us};
use storage::index::Places;

/// The merged file of these spans.
fn merged(columns: SpanColumns) -> WrittenSpans {
    let mut merge = SpanMerge::new(1);
    let dense = Choice::of(&columns.attributes).choose(&[]);
    merge.feed(0, Some(SpanRun::sorted(columns, &dense)));
    let mut writer = SpanWriter::new(3, dense);
    merge.write(&mut writer, usize::MAX);
    writer.finish().expect("there are spans").0
}

/// Whether a span meets a condition, as its definition says.
fn meets(span: SpanView<'_>, condition: &Condition) -> bool {
    let fields = span.fields();
    match condition {
        Condition::Service(service) => span.service() == service,
        Condition::Name(name) => fields.name == name,
        Condition::Kind(kind) => fields.kind == *kind,
        Condition::Status(code) => fields.status_code == *code,
        Condition::StatusMessage(message) => fields.status_message == message,
        Condition::ScopeName(name) => span.scope().0 == name,
        Condition::ScopeVersion(version) => span.scope().1 == version,
        Condition::TraceState(state) => fields.trace_state == state,
        Condition::DurationAtLeast(least) => fields.duration_ns >= *least,
        Condition::DurationAtMost(most) => fields.duration_ns <= *most,
        Condition::Attribute { key, value } => {
            let in_json = |json: &str| {
                attribute::parse_map(json).unwrap_or_default().iter().any(|(other, found)| {
                    let mut text = String::new();
                    attribute::write_value(&mut text, found);
                    other == key && (text == *value || text == format!("{value:?}"))
                })
            };
            span.attributes().any(|(other, found)| other == key && Condition::text_matches(found, value))
                || in_json(span.resource())
                || span.events().any(|event| in_json(event.attributes))
        }
        Condition::Any(any) => any.iter().any(|condition| meets(span, condition)),
    }
}

fn any_simple_condition() -> impl Strategy<Value = Condition> {
    let number = prop_oneof![-1i64..4, any::<i64>()];
    let value = prop_oneof!["[a-c]{0,2}", (0i64..4).prop_map(|n| n.to_string()), Just("true".to_owned())];
    prop_oneof![
        some_text().prop_map(Condition::Service),
        some_text().prop_map(Condition::Name),
        (-1i32..7).prop_map(Condition::Kind),
        any::<i32>().prop_map(Condition::Status),
        some_text().prop_map(Condition::StatusMessage),
        some_text().prop_map(Condition::ScopeName),
        some_text().prop_map(Condition::ScopeVersion),
        some_text().prop_map(Condition::TraceState),
        number.clone().prop_map(Condition::DurationAtLeast),
        number.prop_map(Condition::DurationAtMost),
        ("[a-e]{0,2}|service.name", value).prop_map(|(key, value)| Condition::Attribute { key, value }),
    ]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => any_simple_condition(),
        1 => proptest::collection::vec(any_simple_condition(), 1..3).prop_map(Condition::Any),
    ]
}

proptest! {
    #[test]
    fn blocks_are_never_wrong(
        columns in any_columns(1..60),
        conditions in proptest::collection::vec(any_condition(), 0..3),
        range in any::<(i64, i64)>(),
        everywhere in any::<bool>(),
    ) {
        let range = if everywhere { (i64::MIN, i64::MAX) } else { range };
        let range = TimeRange { start_ns: range.0.min(range.1), end_ns_exclusive: range.0.max(range.1) };
        let search = TraceSearch { range, conditions, limit: 20 };
        let file = merged(columns.clone());
        prop_assert_eq!(verify(&file.bytes, &file.descriptor), Ok(()));
        let Places::Merged(places) = &file.descriptor.places else { panic!("the file is merged") };
        let directory = &file.bytes[places.search.start as usize..places.search.end as usize];
        let blocks = read_directory(directory, places.directory.start).expect("own directory");
        prop_assert_eq!(blocks.iter().map(|block| block.rows).sum::<usize>(), columns.len());

        // By start: how many certain ones, how many in all.
        let mut told: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
        for block in blocks.iter().filter(|block| block.may_match(&search)) {
            let bytes = &file.bytes[block.place.start as usize..block.place.end as usize];
            for found in Block::open(block, bytes).expect("own block").matches(&search).expect("own block") {
                let of_start = told.entry(found.start_us).or_default();
                of_start.0 += usize::from(found.is_certain);
                of_start.1 += 1;
            }
        }
        let mut expected: BTreeMap<i64, usize> = BTreeMap::new();
        for span in columns.iter().filter(|span| range.contains(span.fields().start_ns)) {
            if search.conditions.iter().all(|condition| meets(span, condition)) {
                *expected.entry(start_us(span.fields().start_ns)).or_default() += 1;
            }
        }
        for start in told.keys().chain(expected.keys()) {
            let (certain, all) = told.get(start).copied().unwrap_or_default();
            let matching = expected.get(start).copied().unwrap_or_default();
            prop_assert!(certain <= matching && matching <= all, "{start}: {certain} ≤ {matching} ≤ {all}");
        }
    }

    #[test]
    fn any_bytes_are_a_directory_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80), end in any::<u64>()) {
        if let Ok(blocks) = read_directory(&bytes, end) {
            prop_assert!(blocks.iter().all(|block| block.place.end <= end));
        }
    }

    #[test]
    fn damaged_blocks_are_errors_or_blocks(
        columns in any_columns(1..40),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let file = merged(columns);
        let Places::Merged(places) = &file.descriptor.places else { panic!("the file is merged") };
        let directory = &file.bytes[places.search.start as usize..places.search.end as usize];
        let blocks = read_directory(directory, places.directory.start).expect("own directory");
        let mut bytes = file.bytes[blocks[0].place.start as usize..blocks[0].place.end as usize].to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let conditions = vec![
            Condition::DurationAtLeast(5),
            Condition::Name(String::new()),
            Condition::Attribute { key: "a".to_owned(), value: "1".to_owned() },
        ];
        let search = TraceSearch { range: TimeRange { start_ns: i64::MIN, end_ns_exclusive: i64::MAX }, conditions, limit: 1 };
        let found = Block::open(&blocks[0], &bytes).and_then(|block| block.matches(&search));
        prop_assert!(found.is_err() || found.is_ok_and(|found| found.len() <= blocks[0].rows));
    }
}

#[test]
fn many_spans_of_one_operation_are_told_apart_by_their_attributes() {
    let mut columns = SpanColumns::default();
    for n in 0..20_000_i64 {
        let (tier, id) = (
            ["free", "gold", "founder"][usize::from(n % 7 == 0) + usize::from(n % 7001 == 0)],
            n.to_string(),
        );
        columns.attributes.push("tier", Value::String(tier));
        columns.attributes.push("order", Value::String(&id));
        columns.attributes.push("amount", Value::Int(n));
        let origin = columns.origins.intern_resource("shop", r#"{"pod":"shop-1"}"#, "");
        let origin = columns.origins.intern_scope(origin, "", "", "");
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&n.to_be_bytes());
        let span = model::spans::SpanFields {
            trace_id: model::TraceId(trace_id),
            name: "pay",
            start_ns: n * 1_000_000,
            duration_ns: 1000 + n,
            ..model::spans::SpanFields::default()
        };
        columns.push_span(&span, origin);
    }
    let file = merged(columns);
    let Places::Merged(places) = &file.descriptor.places else { panic!("the file is merged") };
    let directory = &file.bytes[places.search.start as usize..places.search.end as usize];
    let blocks = read_directory(directory, places.directory.start).expect("own directory");
    assert!((3..6).contains(&blocks.len()), "{}", blocks.len());
    let range = TimeRange { start_ns: 0, end_ns_exclusive: i64::MAX };
    let found = |key: &str, value: &str| {
        let condition = Condition::Attribute { key: key.to_owned(), value: value.to_owned() };
        let search = TraceSearch { range, conditions: vec![condition], limit: 1 };
        let of_block = |block| {
            let bytes = &file.bytes[block_place(block)];
            Block::open(block, bytes).expect("own block").matches(&search).expect("own block")
        };
        let all: Vec<_> = blocks.iter().flat_map(of_block).collect();
        (all.iter().filter(|found| found.is_certain).count(), all.len())
    };
    assert_eq!(found("tier", "founder"), (1, 1));
    assert_eq!(found("tier", "gold"), (2859, 2859));
    assert_eq!(found("tier", "silver"), (0, 0));
    assert_eq!(found("pod", "shop-1"), (20_000, 20_000));
    assert_eq!(found("nothing", "1"), (0, 0));
    // Values of one span each are fingerprints: one block may have it, rarely another.
    let (certain, all) = found("order", "12345");
    assert!(certain == 0 && (5000..12_000).contains(&all), "{certain} {all}");
    // Numbers that all differ are not told.
    assert_eq!(found("amount", "12345"), (0, 20_000));
    assert_eq!(found("amount", "many"), (0, 0));
}

fn block_place(block: &storage::block::spans::search::BlockEntry) -> std::ops::Range<usize> {
    block.place.start as usize..block.place.end as usize
}
