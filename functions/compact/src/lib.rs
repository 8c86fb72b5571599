//! Merges small files into large ones, on a schedule in Lambda and by a ticker locally.
//!
//! The clock, the environment and the schedule are here; what is merged and how it stays safe is in
//! [`storage::compact`]. Any number of these may run at once.

mod metrics;

use std::sync::Arc;
use std::time::Duration;

use edge::config::{self, parsed};
use edge::ledger::Ledger;
use serde_json::{Value, json};
use storage::Store;
use storage::compact::{Report, Settings};
use tokio::sync::watch;

pub use metrics::Metrics;

/// A compactor: the stores, what it does, and its name among all others.
#[derive(Clone)]
pub struct Compactor {
    /// Where everything is.
    pub store: Store,
    /// What a pass does.
    pub settings: Settings,
    /// No two that run at once have the same.
    pub owner: String,
    /// What was done so far.
    pub metrics: Arc<Metrics>,
    /// What that cost.
    pub ledger: Arc<Ledger>,
}

impl Compactor {
    /// One pass over everything.
    ///
    /// # Errors
    /// As [`storage::compact::run`].
    pub async fn pass(&self) -> storage::Result<Report> {
        let calls = self.ledger.calls("compact", None);
        let outcome =
            storage::compact::run(&self.store, &self.settings, &self.owner, &edge::clock::now_s, &calls)
                .await;
        self.metrics.count(outcome.as_ref().ok());
        let usage = calls.usage();
        match &outcome {
            Ok(report) if *report != Report::default() => tracing::info!(
                merges = report.merges,
                inputs = report.inputs,
                outputs = report.outputs,
                rows = report.rows,
                duplicates = report.duplicates,
                expired = report.expired,
                rewritten = report.rewritten,
                dropped = report.dropped,
                deleted = report.deleted,
                forestalled = report.forestalled,
                held = report.held,
                failed = report.failed,
                object_gets = usage.object_gets,
                object_puts = usage.object_puts,
                table_reads = usage.table_reads,
                table_writes = usage.table_writes,
                table_read_units = usage.table_read_units,
                table_write_units = usage.table_write_units,
                bytes_read = usage.bytes_read,
                bytes_written = usage.bytes_written,
                "compacted"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(?error, "compaction failed"),
        }
        outcome
    }

    /// A pass every `interval`, until `stop` says so. A pass that has begun goes on to its end.
    pub async fn tick(&self, interval: Duration, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            // The error is logged, and the next pass tries again.
            let _ = self.pass().await;
        }
    }
}

/// The settings by the variables that `lookup` finds.
///
/// # Errors
/// A value is not of its kind.
pub fn settings(lookup: impl Fn(&str) -> Option<String>) -> Result<Settings, config::Error> {
    let text = |name: &'static str| lookup(name).filter(|value| !value.is_empty());
    let defaults = Settings::default();
    let rules = defaults.rules;
    Ok(Settings {
        grace_s: parsed(text, "SPANDREL_COMPACT_GRACE_S", defaults.grace_s, "seconds")?,
        retention: parsed(text, "SPANDREL_RETENTION", defaults.retention, "rules such as 30d,metrics=400d")?,
        sampling: parsed(
            text,
            "SPANDREL_SAMPLING_POLICY",
            defaults.sampling,
            "policies such as errors;rest=10%;after=6h",
        )?,
        dense_attributes: text("SPANDREL_DENSE_ATTRIBUTES")
            .map(|keys| keys.split(',').map(|key| key.trim().to_owned()).collect())
            .unwrap_or_default(),
        max_merges: parsed(text, "SPANDREL_COMPACT_MAX_MERGES", defaults.max_merges, "a number")?,
        rules: storage::compact::Rules {
            target_bytes: parsed(text, "SPANDREL_COMPACT_TARGET_BYTES", rules.target_bytes, "bytes")?,
            ..rules
        },
        everything: false,
    })
}

/// A report as JSON: the answer of the Lambda function.
pub fn to_json(report: &Report) -> Value {
    json!({
        "merges": report.merges, "inputs": report.inputs, "outputs": report.outputs, "rows": report.rows,
        "duplicates": report.duplicates, "bytes_read": report.bytes_read, "bytes_written": report.bytes_written,
        "forestalled": report.forestalled, "held": report.held, "expired": report.expired,
        "rewritten": report.rewritten, "dropped": report.dropped,
        "deleted": report.deleted, "failed": report.failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_change_what_they_name() {
        let of = |name: &'static str, value: &'static str| {
            settings(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(of("", "").expect("defaults"), Settings::default());
        assert_eq!(of("SPANDREL_COMPACT_GRACE_S", "7").expect("seconds").grace_s, 7);
        assert_eq!(of("SPANDREL_COMPACT_TARGET_BYTES", "9").expect("bytes").rules.target_bytes, 9);
        let tenant = "team-a".parse().expect("a tenant");
        let retention = of("SPANDREL_RETENTION", "30d,team-a/=1d").expect("rules").retention;
        assert_eq!(retention.age_s(&tenant, model::Signal::Logs), Some(86_400));
        let sampling = of("SPANDREL_SAMPLING_POLICY", "team-a/rest=7%;after=6h").expect("policies").sampling;
        assert_eq!(sampling.of(&tenant).map(|policy| policy.rest_percent), Some(7.0));
        let dense = of("SPANDREL_DENSE_ATTRIBUTES", "order.id, user.id").expect("keys").dense_attributes;
        assert_eq!(dense, ["order.id", "user.id"]);
        let error = of("SPANDREL_SAMPLING_POLICY", "rest=7%").expect_err("no age");
        assert!(error.to_string().contains("SPANDREL_SAMPLING_POLICY"), "{error}");
        let error = of("SPANDREL_COMPACT_MAX_MERGES", "many").expect_err("no number");
        assert!(error.to_string().contains("SPANDREL_COMPACT_MAX_MERGES"), "{error}");
    }
}
