//! What a merge holds in memory stays bounded, whatever the inputs are. Counted, not measured.

use std::sync::Arc;

use model::columns::Value;
use model::logs::{Body, LogFields};
use model::spans::SpanFields;
use model::{LogColumns, Signal, SpanColumns, SpanId, TraceId};
use storage::compact::{Report, Rules, Settings};
use storage::read::{self, Limits};
use storage::write::{Writer, content_hash};

use super::{
    FIRST_HOUR, HOUR_MS, NOW_S, assert_sound, everything, let_grace_pass, memory, run, tenant, wait,
};

const N_INPUTS: u64 = 48;
const N_LOG_INPUTS: u64 = 24;
const LARGE_BYTES: usize = 10 << 20;
const START_NS: i64 = FIRST_HOUR * HOUR_MS * 1_000_000;

/// As a server has them.
fn real() -> Settings {
    Settings { rules: Rules::default(), ..everything() }
}

fn assert_bounded(report: &Report) {
    assert!(report.failed == 0 && report.merges > 2, "{report:?}");
    assert!(report.peak_held_bytes >= 2 * LARGE_BYTES as u64, "{report:?}");
    assert!(report.peak_held_bytes <= Rules::default().max_held_bytes, "{report:?}");
}

#[test]
fn spans_with_large_attributes_are_merged_by_few() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for request in 0..N_INPUTS {
            let mut columns = SpanColumns::default();
            let long = request.to_string().repeat(LARGE_BYTES / 2);
            columns.attributes.push("blob", Value::String(&long[..LARGE_BYTES / 2]));
            columns.attributes.push("other", Value::Json(&long[..LARGE_BYTES / 2]));
            let origin = columns.origins.intern_resource("large", "", "");
            let fields = SpanFields {
                trace_id: TraceId([request as u8 + 1; 16]),
                span_id: SpanId([1; 8]),
                start_ns: START_NS + request as i64,
                ..SpanFields::default()
            };
            columns.push_span(&fields, origin);
            let content = content_hash(&tenant(), Signal::Traces, &request.to_le_bytes());
            let encoded = storage::block::spans::encode(&columns);
            writer.spans(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
        }
        assert_bounded(&run(&store, &real(), NOW_S).await.expect("memory"));
        let ids: Vec<TraceId> = (0..N_INPUTS).map(|request| TraceId([request as u8 + 1; 16])).collect();
        for id in ids {
            let found = read::traces_by_id(&store, &tenant(), &[id], NOW_S, &Limits::default())
                .await
                .expect("memory");
            let span = found.spans(&found.traces[0]).next().expect("a span");
            let n_bytes: usize = span
                .attributes()
                .map(|(_, value)| match value {
                    Value::String(text) | Value::Json(text) => text.len(),
                    _ => 0,
                })
                .sum();
            assert_eq!(n_bytes, LARGE_BYTES);
        }
        let_grace_pass(&store, NOW_S).await;
        assert!(super::objects(&store).await <= 2);
    });
}

#[test]
fn large_log_records_are_merged_by_few() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for request in 0..N_LOG_INPUTS {
            let mut columns = LogColumns::default();
            let long = request.to_string().repeat(LARGE_BYTES);
            let origin = columns.origins.intern_resource("large", "", "");
            let record = LogFields {
                time_ns: START_NS + request as i64,
                body: Body::Text(&long[..LARGE_BYTES]),
                ..LogFields::default()
            };
            columns.push_record(&record, origin);
            let content = content_hash(&tenant(), Signal::Logs, &request.to_le_bytes());
            let encoded = storage::block::logs::encode(&columns);
            writer.logs(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
        }
        assert_bounded(&run(&store, &real(), NOW_S).await.expect("memory"));
        let files = super::logs::stored(&store).await;
        let bodies: Vec<usize> = files
            .iter()
            .flat_map(|(_, columns)| columns.iter())
            .map(|record| if let Body::Text(text) = record.body { text.len() } else { 0 })
            .collect();
        assert_eq!((files.len(), bodies), (1, vec![LARGE_BYTES; N_LOG_INPUTS as usize]));
        let_grace_pass(&store, NOW_S).await;
        assert_sound(&store).await;
    });
}
