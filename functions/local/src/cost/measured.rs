//! What was measured, and what is assumed: the numbers between a load and its bill, each with where it comes from.
//!
//! "Measured" is what this program wrote and counted on the benchmark's telemetry in 2026-11: `spandrel bench load`
//! into an empty folder, then `spandrel inspect`. "Assumed" is what nothing could be asked for yet. Real telemetry
//! differs; `spandrel cost data` and `spandrel cost logs` say what yours costs.

/// What items of one signal take.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What is counted, in the plural.
    pub items: &'static str,
    /// Bytes of a level-0 file beside its items: dictionaries, resources, footer.
    pub file_bytes: f64,
    /// Bytes of an item in a level-0 file.
    pub item_bytes: f64,
    /// Bytes of an item at rest, in merged files.
    pub merged_item_bytes: f64,
    /// Bytes of a level-0 file's index item, with its key, beside what grows with the items.
    pub index_bytes: f64,
    /// Bytes by which each item makes the index item longer: fingerprints of trace ids.
    pub index_bytes_per_item: f64,
    /// CPU of a request beside its items, in µs: HTTP, two calls to the stores, set-up of columns.
    pub request_cpu_us: f64,
    /// CPU of an item in a request, in µs: decompress, decode, encode.
    pub item_cpu_us: f64,
    /// Items that a function merges in a second, read to written.
    pub merged_per_second: f64,
    /// Bytes of an item in the sieve of a merged file: what tells that a trace is not there.
    pub sieve_bytes_per_item: f64,
}

impl Shape {
    /// Bytes of the level-0 file of a request with `n` items.
    pub fn file_bytes(&self, n: f64) -> f64 {
        self.file_bytes + self.item_bytes * n
    }

    /// Bytes of its index item.
    pub fn index_item_bytes(&self, n: f64) -> f64 {
        self.index_bytes + self.index_bytes_per_item * n
    }
}

/// Spans, 18 a trace, 8–16 attributes each, of 20 services in a request.
///
/// Measured: 88.1 bytes a span at 512 a request, 56.1 at 2,048, which is 21.8 KB a file and 45.4 bytes a span (8,192:
/// 44.9, where this says 48.1). Index items of 550, 825 and 1,695 bytes, and 100 for key and attribute names.
/// CPU: 4.5 s a million at 512 a request over HTTP, 2.0 at 2,048.
/// Merged: measured 54.1 in one file of a million, the order for searches included.
/// Merging: 285,000 spans/s on one core, index and stores included, on a day on which the version before did 210,000,
/// which had done 290,000 on a better one. 350,000 is between; 500,000 is what it has to reach.
pub const SPANS: Shape = Shape {
    items: "spans",
    file_bytes: 21_800.0,
    item_bytes: 45.4,
    merged_item_bytes: 55.0,
    index_bytes: 590.0,
    index_bytes_per_item: 0.16,
    request_cpu_us: 1_700.0,
    item_cpu_us: 1.2,
    merged_per_second: 350_000.0,
    sieve_bytes_per_item: SIEVE_BYTES_PER_TRACE / SPANS_PER_TRACE,
};

/// Samples, as Prometheus sends them: 10,000 series every 15 s, 2,000 samples a request.
///
/// Measured: 4.8 (remote write) to 5.1 (OTLP) bytes a sample at 2,000 a request; index items of 79 bytes, and 100 for
/// key and attribute names; 1.3 CPU s a million. Assumed: how bytes and CPU divide between request and item.
/// Merged: measured 1.02 bytes in files of six hours; 1.44 leaves room for jitter, which this load has not. Merging:
/// measured 4 million samples/s.
pub const SAMPLES: Shape = Shape {
    items: "samples",
    file_bytes: 2_000.0,
    item_bytes: 4.1,
    merged_item_bytes: 1.44,
    index_bytes: 180.0,
    index_bytes_per_item: 0.0,
    request_cpu_us: 1_000.0,
    item_cpu_us: 0.8,
    merged_per_second: 2_000_000.0,
    sieve_bytes_per_item: 0.0,
};

/// Log records with a line of text, four attributes and a trace id of their own, which is the worst for the index.
///
/// Measured: 47.4 bytes a record at 510 a request, 40.9 at 2,045; index items of 1,282 and 4,850 bytes, and 100 for
/// key and attribute names. Assumed: merged as small as the largest request; CPU and merging as of spans.
pub const LOG_RECORDS: Shape = Shape {
    items: "log records",
    file_bytes: 4_400.0,
    item_bytes: 38.7,
    merged_item_bytes: 41.0,
    index_bytes: 200.0,
    index_bytes_per_item: 2.33,
    request_cpu_us: 1_700.0,
    item_cpu_us: 1.2,
    merged_per_second: 500_000.0,
    sieve_bytes_per_item: 0.0,
};

/// Seconds that an ingest function waits in a request: an object's PUT, then the index write. Assumed: 40 + 20 ms.
pub const INGEST_WAIT_S: f64 = 0.060;
/// Memory of an ingest function and of one that has nothing to do, in MB.
pub const INGEST_MEMORY_MB: f64 = 512.0;
/// Memory of a function that queries or merges, in MB: one whole core.
pub const CORE_MEMORY_MB: f64 = 1_769.0;
/// Memory at which a function has one core, in MB; with less it has that share of it.
/// Source: AWS Lambda Developer Guide, "Configure Lambda function memory".
pub const MB_PER_CORE: f64 = 1_769.0;
/// Bytes of log lines that one request leaves: 600 of the access log (measured), the rest the platform's own report.
pub const LOG_BYTES_PER_REQUEST: f64 = 1_000.0;

/// Level-0 files in one merge.
pub const MERGE_INPUTS: f64 = 48.0;
/// Objects that a merge writes: the file, and a narrow one to search in where the signal has it.
pub const MERGE_PUTS: f64 = 2.0;
/// Further write units of a merge: lease, window, outputs, a note of what to delete. A budget, not measured: the note has
/// 25 bytes of each input (1.3 KB: 4 units in the transaction, 2 for its removal), an output's item up to 3 KB.
pub const MERGE_WRITE_UNITS: f64 = 6.0;
/// Seconds between two ticks of compaction.
pub const TICK_S: f64 = 60.0;
/// How often a tick reads the items of a window into which is written: before it merges, and after it.
pub const WINDOW_READS_PER_TICK: f64 = 2.0;
/// Seconds that items of merged files stay in their window, for questions that have begun before.
pub const GRACE_S: f64 = 180.0;
/// Bytes of such an item, which names the file that has its rows: 60, and 100 for key and attribute names.
pub const RETIRED_ITEM_BYTES: f64 = 160.0;
/// Times that each byte is merged: in its first minutes, in its hour, in its day.
pub const MERGES: f64 = 3.0;
/// Those of them whose outputs have sieves beside their items, until they are merged: in its first minutes, in its hour.
pub const SIEVES: f64 = 2.0;
/// Spans of a trace in the benchmark's telemetry, on the average.
pub const SPANS_PER_TRACE: f64 = 18.0;
/// Bytes of a trace in a sieve. Measured: 0.95 with 5,000 traces.
pub const SIEVE_BYTES_PER_TRACE: f64 = 0.95;
/// Length at which a merged file is closed.
pub const MERGED_FILE_BYTES: f64 = (64 << 20) as f64;
/// Spans of a unit of a merged file: 4,096, and the rest of the last trace.
pub const UNIT_SPANS: f64 = 4_105.0;
/// Bytes of a unit in the index item of its file. Measured: 2,639 bytes of an item with 245 units.
pub const UNIT_INDEX_BYTES: f64 = 9.0;
/// Bytes of the index item of a merged file beside them, with its key: twenty services, their operations.
pub const MERGED_INDEX_BYTES: f64 = 540.0;
/// Bytes of a window in the list of them.
pub const WINDOW_ITEM_BYTES: f64 = 70.0;
/// Bytes that the later merges read or write in one call.
pub const LATER_CALL_BYTES: f64 = (32 << 20) as f64;
/// Hours that level-0 files stay: until they are merged, and the grace period after it.
pub const LEVEL0_HOURS: f64 = 1.0;

/// Reads of objects in a query. Assumed, of files that are merged; measured of 196 that are not yet: 10 for the newest
/// 20 traces of a service, 195 for those that a filter looks through, and 500 for a range of a metric in 500 files.
pub const QUERY_GETS: f64 = 50.0;
/// Read units of a query. Measured: 46 for the index items of 196 files of 2,048 spans, 23 for 500 of samples. The
/// newest hour of a large tenant takes more: see [`super::scale`].
pub const QUERY_READ_UNITS: f64 = 50.0;
/// Seconds of a query, waits included. Assumed, from waits of 20–40 ms that follow each other and tens of ms of CPU.
pub const QUERY_S: f64 = 0.3;

/// Functions that are asked each minute whether there is something to do: compaction and alerts.
pub const IDLE_FUNCTIONS: f64 = 2.0;
/// Seconds of a tick that finds nothing to do. Assumed.
pub const IDLE_TICK_S: f64 = 0.1;
/// Read units of such a tick: tenants, windows of a month (9 units), rules. Assumed.
pub const IDLE_TICK_READ_UNITS: f64 = 12.0;
/// Write units of such a tick: a lease is taken and given back. Assumed.
pub const IDLE_TICK_WRITE_UNITS: f64 = 2.0;
