//! Files of log records: what is written comes back, and what is stored is visible and verified.

mod spans;

use std::sync::Arc;

use bytes::Bytes;
use model::columns::Value;
use model::logs::{Body, LogFields};
use model::transfer::LogTransfer;
use model::{LogColumns, Signal, SpanId, TenantId, TraceId};
use proptest::collection::vec;
use proptest::prelude::*;
use storage::block::logs::merged::{LogMerge, LogRun, LogWriter, WrittenLogs, read_ids, tables, verify};
use storage::block::logs::{ChunkTable, EncodedLogs, Parts, Projection, decode, encode};
use storage::block::reference;
use storage::index::{LogSummary, Places, TableLayout, fingerprint};
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::write::{Stored, Writer, content_hash};
use storage::{Store, object::PutOutcome, read};

use crate::spans::{any_attribute, push_attributes, some_text};

#[derive(Debug, Clone)]
enum AnyBody {
    None,
    Text(String),
    Json(i64),
}

/// So many log records with anything in them.
fn any_columns(n: std::ops::Range<usize>) -> impl Strategy<Value = LogColumns> {
    let body = prop_oneof![
        Just(AnyBody::None),
        some_text().prop_map(AnyBody::Text),
        any::<i64>().prop_map(AnyBody::Json)
    ];
    let time = prop_oneof![Just(0), any::<i64>()];
    let numbers = (time.clone(), time, prop_oneof![0i32..25, any::<i32>()], any::<u32>(), any::<u32>());
    let ids = (any::<Option<[u8; 16]>>(), any::<Option<[u8; 8]>>());
    let record = (numbers, ids, body, vec(any_attribute(), 0..6), [(); 6].map(|()| some_text()));
    vec(record, n).prop_map(|records| {
        let mut columns = LogColumns::default();
        for (numbers, ids, body, attributes, texts) in &records {
            push_attributes(&mut columns.attributes, attributes);
            let json = if let AnyBody::Json(number) = body { number.to_string() } else { String::new() };
            let resource = format!(r#"{{"service.name":"{}"}}"#, numbers.2 % 3);
            let origin = columns.origins.intern_resource(&texts[0], &resource, &texts[1]);
            let origin = columns.origins.intern_scope(origin, &texts[2], &texts[3], "");
            let record = LogFields {
                time_ns: numbers.0,
                observed_time_ns: numbers.1,
                severity_number: numbers.2,
                severity_text: &texts[4],
                event_name: &texts[5],
                body: match body {
                    AnyBody::None => Body::None,
                    AnyBody::Text(text) => Body::Text(text),
                    AnyBody::Json(_) => Body::Json(&json),
                },
                trace_id: TraceId(ids.0.unwrap_or_default()),
                span_id: SpanId(ids.1.unwrap_or_default()),
                flags: numbers.3,
                dropped_attributes_count: numbers.4,
            };
            columns.push_record(&record, origin);
        }
        columns
    })
}

/// Three records with every kind of body and value.
fn example() -> LogColumns {
    let mut columns = LogColumns::default();
    let time_ns = 1_795_568_400_000_000_000;
    let shop = columns.origins.intern_resource("shop", r#"{"service.name":"shop","pid":7}"#, "");
    let shop = columns.origins.intern_scope(shop, "logger", "1.2", r#"{"schema_url":"s"}"#);
    columns.attributes.push("http.route", Value::String("/cart"));
    columns.attributes.push("http.response.status_code", Value::Int(500));
    columns.attributes.push("ratio", Value::Double(0.25));
    columns.attributes.push("retry", Value::Bool(true));
    columns.attributes.push("items", Value::Json(r#"["a",1]"#));
    columns.attributes.push("nothing", Value::Empty);
    let failed = LogFields {
        time_ns,
        observed_time_ns: time_ns + 1_000,
        severity_number: 17,
        severity_text: "ERROR",
        event_name: "cart.failed",
        body: Body::Text("upstream timed out"),
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        flags: 1,
        dropped_attributes_count: 2,
    };
    columns.push_record(&failed, shop);
    let structured = LogFields { body: Body::Json(r#"{"n":1}"#), time_ns: 0, event_name: "", ..failed };
    columns.push_record(&structured, shop);
    let other = columns.origins.intern_resource("", "", "");
    columns.push_record(&LogFields::default(), other);
    columns
}

/// Where the columns of a request's file are.
fn table(encoded: &EncodedLogs) -> ChunkTable {
    match &encoded.descriptor.places {
        Places::OfRequest(table) => table.clone(),
        Places::Merged(_) => panic!("a file of one request"),
    }
}

/// A merged file with these log records.
fn merged(columns: LogColumns) -> WrittenLogs {
    let mut merge = LogMerge::new(1);
    let content = content_hash(&TenantId::default_tenant(), Signal::Logs, b"a request");
    let mut run = Some(LogRun::of_request(Arc::new(columns), content, |_| true));
    let mut writer = LogWriter::new(3);
    loop {
        while merge.starved().is_some() {
            merge.feed(0, run.take());
        }
        if !merge.write(&mut writer, u64::MAX) {
            return writer.finish().expect("some rows");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn log_records_come_back(columns in any_columns(1..40)) {
        let encoded = encode(&columns);
        let read = decode(&table(&encoded), &Parts::whole(encoded.bytes), Projection::ALL).expect("own file");
        prop_assert_eq!(read.first_difference(&columns), None);
        for row in 0..columns.len() {
            prop_assert_eq!(read.origins.service.get(row), columns.origins.service.get(row));
        }
    }

    #[test]
    fn the_index_item_tells_what_is_in_the_file(columns in any_columns(1..20)) {
        let encoded = encode(&columns);
        let item = encoded.descriptor.encode();
        let summary = LogSummary::parse(&item).expect("own bytes");
        prop_assert_eq!(summary.places().expect("own bytes"), encoded.descriptor.places.clone());
        prop_assert_eq!((summary.rows, summary.size), (columns.len() as u64, encoded.bytes.len() as u64));
        for (row, record) in columns.iter().enumerate() {
            let time_ns = if record.time_ns == 0 { record.observed_time_ns } else { record.time_ns };
            prop_assert!((summary.min_time_ns..=summary.max_time_ns).contains(&time_ns));
            prop_assert!((summary.min_severity..=summary.max_severity).contains(&record.severity_number));
            prop_assert!(summary.may_have_service(columns.origins.service.get(row)).expect("own bytes"));
            let hash = fingerprint::hash_id(&record.trace_id.0);
            prop_assert!(record.trace_id.is_zero() || summary.may_have_trace(hash).expect("own bytes"));
        }
    }

    #[test]
    fn merged_log_records_come_back_sorted(columns in any_columns(1..40)) {
        let written = merged(columns.clone());
        verify(&written.bytes, &written.descriptor).expect("own file");
        let item = written.descriptor.encode();
        let summary = LogSummary::parse(&item).expect("own bytes");
        let places = summary.places().expect("own bytes");
        prop_assert_eq!(&places, &written.descriptor.places);
        let Places::Merged(units) = places else { panic!("a merged file") };
        let directory = units.directory.start as usize..units.directory.end as usize;
        let tables = tables(&written.bytes[directory], &units).expect("own file");
        let read = decode(&tables[0], &Parts::whole(written.bytes.clone()), Projection::ALL).expect("own file");
        let ids = read_ids(&tables[0], &Parts::whole(written.bytes.clone())).expect("own file");
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by_key(|&row| (columns.origins.service.get(row), columns.event_time_ns(row)));
        let mut expected = LogColumns::default();
        let mut transfer = LogTransfer::of(&columns);
        for &row in &order {
            expected.push_row_of(&columns, row, &mut transfer);
        }
        prop_assert_eq!(read.first_difference(&expected), None);
        let positions: Vec<usize> = ids.iter().map(|id| id.position as usize).collect();
        prop_assert_eq!(positions, order);
        let other = reference::decode_logs(written.bytes).expect("Parquet");
        prop_assert_eq!(other.first_difference(&expected), None);
    }

    #[test]
    fn damaged_merged_files_are_errors_or_log_records(columns in any_columns(1..10), at in any::<prop::sample::Index>(), byte: u8) {
        let written = merged(columns);
        let mut file = written.bytes.to_vec();
        let at = at.index(file.len());
        file[at] = byte;
        let _ = verify(&Bytes::from(file), &written.descriptor);
    }

    #[test]
    fn damaged_files_are_errors_or_log_records(columns in any_columns(1..10), at in any::<prop::sample::Index>(), byte: u8) {
        let encoded = encode(&columns);
        let mut file = encoded.bytes.to_vec();
        let at = at.index(file.len());
        file[at] = byte;
        let _ = decode(&table(&encoded), &Parts::whole(Bytes::from(file)), Projection::ALL);
    }

    #[test]
    fn damaged_items_are_errors_or_items(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(summary) = LogSummary::parse(&bytes) {
            let _ = (summary.places(), summary.services(), summary.may_have_trace(7), summary.may_have_service("x"));
        }
    }
}

/// The layout is pinned: a change of these bytes is a new version, and old files must stay readable.
#[test]
fn golden_files_pin_the_layout() {
    let encoded = encode(&example());
    spans::check_golden("logs-1.parquet", &encoded.bytes);
    spans::check_golden("logs-1.item", &encoded.descriptor.encode());
}

#[test]
fn golden_files_pin_the_merged_layout() {
    let written = merged(example());
    spans::check_golden("logs-2.parquet", &written.bytes);
    spans::check_golden("logs-2.item", &written.descriptor.encode());
}

#[tokio::test]
async fn what_is_stored_is_visible_once_and_verified() {
    let store = Store {
        objects: Arc::new(MemoryObjects::new()),
        table: Arc::new(MemoryTable::new()),
        layout: TableLayout { shards: 1 },
        recent: storage::read::RecentTraces::default(),
    };
    let tenant = TenantId::default_tenant();
    let writer = Writer::new(store.clone());
    let put = async || -> Stored {
        let content = content_hash(&tenant, Signal::Logs, b"a request");
        writer.logs(&tenant, content, encode(&example()), 1_000, &Arc::default()).await.expect("memory")
    };
    let first = put().await;
    let again = put().await;
    assert_eq!((first.outcome, again.outcome), (PutOutcome::Created, PutOutcome::AlreadyThere));
    assert_eq!(first.key, again.key);
    assert!(first.key.contains("signal=logs"), "{}", first.key);
    let windows = read::windows(&store, &tenant).await.expect("memory");
    assert_eq!(windows.len(), 1, "{windows:?}");
    assert_eq!((windows[0].signal, windows[0].n_items, windows[0].objects.len()), (Signal::Logs, 3, 1));
    assert_eq!(read::verify(&store, &tenant).await.expect("sound"), 3);
    store.objects.delete(&first.key).await.expect("memory");
    let error = read::verify(&store, &tenant).await.expect_err("the object is gone");
    assert!(error.to_string().contains(&first.key), "{error}");
}
