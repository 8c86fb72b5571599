//! What ingestion counts.

use edge::metrics::{Counter, Page};
use wire::{Reason, Rejected};

use crate::refusal::{Kind, Refusal};
use crate::rules::Endpoint;

/// Counters of one signal.
#[derive(Debug, Default)]
pub(crate) struct OfSignal {
    pub(crate) stored_requests: Counter,
    pub(crate) empty_requests: Counter,
    pub(crate) duplicate_requests: Counter,
    pub(crate) accepted: Counter,
    pub(crate) rejected: Counter,
    pub(crate) sampled_out: Counter,
    pub(crate) sampling_errors: Counter,
}

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    spans: OfSignal,
    samples: OfSignal,
    log_records: OfSignal,
    pub(crate) received_bytes: Counter,
    pub(crate) decompressed_bytes: Counter,
    pub(crate) encoded_bytes: Counter,
    refusals: [Counter; Kind::ALL.len()],
    rejected_samples: [Counter; Reason::ALL.len()],
}

impl Metrics {
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refusals[refusal.kind() as usize].add(1);
    }

    pub(crate) fn rejected(&self, rejected: &Rejected) {
        for ((reason, _), counter) in Reason::ALL.iter().zip(&self.rejected_samples) {
            counter.add(rejected.of(*reason));
        }
    }

    /// The counters of what an endpoint receives.
    pub(crate) fn of(&self, endpoint: Endpoint) -> &OfSignal {
        match endpoint {
            Endpoint::Traces => &self.spans,
            Endpoint::Metrics | Endpoint::RemoteWrite => &self.samples,
            Endpoint::Logs => &self.log_records,
        }
    }

    pub(crate) fn write(&self, page: &mut Page, held_bytes: usize) {
        page.counters(
            "spandrel_ingest_requests_total",
            "Requests that were answered with 200.",
            &[
                (r#"signal="traces",outcome="stored""#, self.spans.stored_requests.get()),
                (r#"signal="traces",outcome="duplicate""#, self.spans.duplicate_requests.get()),
                (r#"signal="traces",outcome="empty""#, self.spans.empty_requests.get()),
                (r#"signal="metrics",outcome="stored""#, self.samples.stored_requests.get()),
                (r#"signal="metrics",outcome="duplicate""#, self.samples.duplicate_requests.get()),
                (r#"signal="metrics",outcome="empty""#, self.samples.empty_requests.get()),
                (r#"signal="logs",outcome="stored""#, self.log_records.stored_requests.get()),
                (r#"signal="logs",outcome="duplicate""#, self.log_records.duplicate_requests.get()),
                (r#"signal="logs",outcome="empty""#, self.log_records.empty_requests.get()),
            ],
        );
        page.counters(
            "spandrel_ingest_spans_total",
            "Spans of requests that were answered with 200.",
            &[
                (r#"outcome="accepted""#, self.spans.accepted.get()),
                (r#"outcome="rejected""#, self.spans.rejected.get()),
            ],
        );
        page.counters(
            "spandrel_ingest_samples_total",
            "Samples and histograms of requests that were stored, and what was left out of them.",
            &[
                (r#"outcome="accepted""#, self.samples.accepted.get()),
                (r#"outcome="rejected""#, self.samples.rejected.get()),
            ],
        );
        let labels = Reason::ALL.map(|(_, name)| format!(r#"reason="{name}""#));
        let rejected: Vec<(&str, u64)> =
            labels.iter().zip(&self.rejected_samples).map(|(label, n)| (label.as_str(), n.get())).collect();
        page.counters(
            "spandrel_ingest_rejected_samples_total",
            "Samples, histograms and exemplars that were left out, by reason.",
            &rejected,
        );
        page.counters(
            "spandrel_ingest_log_records_total",
            "Log records of requests that were answered with 200.",
            &[
                (r#"outcome="accepted""#, self.log_records.accepted.get()),
                (r#"outcome="rejected""#, self.log_records.rejected.get()),
            ],
        );
        page.counters(
            "spandrel_ingest_sampled_out_total",
            "Spans and log records that head sampling dropped.",
            &[
                (r#"signal="traces""#, self.spans.sampled_out.get()),
                (r#"signal="logs""#, self.log_records.sampled_out.get()),
            ],
        );
        page.counters(
            "spandrel_ingest_sampling_errors_total",
            "Spans and log records whose sampling probability could not be found out, dropped or kept as told.",
            &[
                (r#"signal="traces""#, self.spans.sampling_errors.get()),
                (r#"signal="logs""#, self.log_records.sampling_errors.get()),
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
