//! Export of samples: the same rows before merging and after it.

use std::sync::Arc;

use model::Signal;
use model::series::{STALE_BITS, SeriesBuilder, Temporality};
use storage::export;
use storage::write::{Writer, content_hash};

use super::{FIRST_HOUR, HOUR_MS, NOW_S, everything, let_grace_pass, memory, run, tenant, wait};

const MINUTE_MS: i64 = 60_000;

/// Files of an export by day, and how many samples they have.
async fn exported(store: &storage::Store, range_ms: (i64, i64)) -> (Vec<(i64, usize, bytes::Bytes)>, u64) {
    let mut files = Vec::new();
    let mut keep = |day: i64, number: usize, bytes: bytes::Bytes| {
        files.push((day, number, bytes));
        Ok(())
    };
    let n_samples = export::samples(store, &tenant(), range_ms, &mut keep).await.expect("memory");
    (files, n_samples)
}

#[test]
fn samples_are_exported_once_by_day_whether_merged_or_not() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let start_ms = FIRST_HOUR * HOUR_MS;
        // Three series over 30 hours, a stale marker in between; each request has the samples of the one before, too.
        for minute in (0..30 * 60_i32).step_by(30) {
            let mut builder = SeriesBuilder::default();
            for series in 0..3 {
                builder.label("__name__", "m");
                builder.label("n", &series.to_string());
                let at = builder.close_labels(Temporality::Cumulative).expect("labels");
                for minute in [minute - 30, minute].into_iter().filter(|&minute| minute >= 0) {
                    let value = if minute == 60 { f64::from_bits(STALE_BITS) } else { f64::from(minute) };
                    builder.sample(at, start_ms + i64::from(minute) * MINUTE_MS, value, 0);
                }
            }
            let content = content_hash(&tenant(), Signal::Metrics, &minute.to_le_bytes());
            let encoded = storage::block::series::encode(&builder.finish()).expect("samples");
            writer.series(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
        }
        let all = (i64::MIN, i64::MAX);
        let (before, n_before) = exported(&store, all).await;
        assert_eq!(n_before, 3 * (60 - 1));
        let days: Vec<(i64, usize)> = before.iter().map(|(day, number, _)| (*day, *number)).collect();
        assert_eq!(days, [(FIRST_HOUR / 24, 0), (FIRST_HOUR / 24 + 1, 0)]);
        let report = run(&store, &everything(), NOW_S).await.expect("memory");
        assert!(report.merges > 0 && report.failed == 0, "{report:?}");
        assert_eq!(exported(&store, all).await, (before.clone(), n_before));
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(exported(&store, all).await, (before, n_before));
        let two_hours = (start_ms + HOUR_MS, start_ms + 3 * HOUR_MS - 1);
        assert_eq!(exported(&store, two_hours).await.1, 3 * 3);
        assert_eq!(exported(&store, (0, start_ms - 1)).await, (Vec::new(), 0));
    });
}
