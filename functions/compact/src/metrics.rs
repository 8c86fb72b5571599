//! What was merged, counted.

use edge::metrics::{Counter, Page};
use storage::compact::Report;

/// Counts over all passes of a process.
#[derive(Debug, Default)]
pub struct Metrics {
    passes: Counter,
    failures: Counter,
    merges: Counter,
    inputs: Counter,
    outputs: Counter,
    rows: Counter,
    duplicates: Counter,
    bytes_read: Counter,
    bytes_written: Counter,
    expired: Counter,
    rewritten: Counter,
    dropped: Counter,
    deleted: Counter,
}

impl Metrics {
    /// Counts a pass; `None` for one that failed.
    pub fn count(&self, report: Option<&Report>) {
        self.passes.add(1);
        let Some(report) = report else {
            self.failures.add(1);
            return;
        };
        self.failures.add(report.failed);
        self.merges.add(report.merges);
        self.inputs.add(report.inputs);
        self.outputs.add(report.outputs);
        self.rows.add(report.rows);
        self.duplicates.add(report.duplicates);
        self.bytes_read.add(report.bytes_read);
        self.bytes_written.add(report.bytes_written);
        self.expired.add(report.expired);
        self.rewritten.add(report.rewritten);
        self.dropped.add(report.dropped);
        self.deleted.add(report.deleted);
    }

    /// Appends the counts to a page of metrics.
    pub fn write(&self, page: &mut Page) {
        let mut counter = |name: &str, help: &str, values: &[(&str, u64)]| page.counters(name, help, values);
        counter("spandrel_compact_passes_total", "Passes over all windows.", &[("", self.passes.get())]);
        counter(
            "spandrel_compact_failures_total",
            "Windows or passes that failed.",
            &[("", self.failures.get())],
        );
        counter("spandrel_compact_merges_total", "Merges published.", &[("", self.merges.get())]);
        counter(
            "spandrel_compact_files_total",
            "Files that merges read and wrote, that became too old, that a policy changed, and that were deleted.",
            &[
                (r#"kind="input""#, self.inputs.get()),
                (r#"kind="output""#, self.outputs.get()),
                (r#"kind="expired""#, self.expired.get()),
                (r#"kind="rewritten""#, self.rewritten.get()),
                (r#"kind="deleted""#, self.deleted.get()),
            ],
        );
        counter(
            "spandrel_compact_rows_total",
            "Spans, samples and log records that merges wrote, that they left out as duplicates, and that policies \
             dropped.",
            &[
                (r#"kind="written""#, self.rows.get()),
                (r#"kind="duplicate""#, self.duplicates.get()),
                (r#"kind="dropped""#, self.dropped.get()),
            ],
        );
        counter(
            "spandrel_compact_bytes_total",
            "Bytes of the files that merges read and wrote.",
            &[
                (r#"direction="read""#, self.bytes_read.get()),
                (r#"direction="written""#, self.bytes_written.get()),
            ],
        );
    }
}
