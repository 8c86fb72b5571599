//! What ingestion counts.

use edge::metrics::{Counter, Page};

use crate::refusal::{Kind, Refusal};

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) stored_requests: Counter,
    pub(crate) empty_requests: Counter,
    pub(crate) duplicate_requests: Counter,
    pub(crate) accepted_spans: Counter,
    pub(crate) rejected_spans: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) decompressed_bytes: Counter,
    pub(crate) encoded_bytes: Counter,
    refusals: [Counter; Kind::ALL.len()],
}

impl Metrics {
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refusals[refusal.kind() as usize].add(1);
    }

    pub(crate) fn write(&self, page: &mut Page, held_bytes: usize) {
        page.counters(
            "spandrel_ingest_requests_total",
            "Requests that were answered with 200.",
            &[
                (r#"signal="traces",outcome="stored""#, self.stored_requests.get()),
                (r#"signal="traces",outcome="duplicate""#, self.duplicate_requests.get()),
                (r#"signal="traces",outcome="empty""#, self.empty_requests.get()),
            ],
        );
        page.counters(
            "spandrel_ingest_spans_total",
            "Spans of requests that were answered with 200.",
            &[
                (r#"outcome="accepted""#, self.accepted_spans.get()),
                (r#"outcome="rejected""#, self.rejected_spans.get()),
            ],
        );
        page.counters(
            "spandrel_ingest_bytes_total",
            "Bytes of bodies as received and as decompressed, and of blocks.",
            &[
                (r#"stage="received""#, self.received_bytes.get()),
                (r#"stage="decompressed""#, self.decompressed_bytes.get()),
                (r#"stage="encoded""#, self.encoded_bytes.get()),
            ],
        );
        let refusals = Kind::ALL.map(|(kind, label)| (label, self.refusals[kind as usize].get()));
        page.counters("spandrel_ingest_errors_total", "Requests that were not answered with 200.", &refusals);
        page.gauges("spandrel_ingest_held_bytes", "Bytes of bodies in flight.", &[("", held_bytes as u64)]);
    }
}
