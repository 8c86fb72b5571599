//! `spandrel cost scale`: whether the layout stays within the provider's limits; pure.
//!
//! One tenant sends spans at an even rate, all of them of now, which is the worst case: they go to one window of the
//! index and below one prefix of the object store. Several tenants divide every number below but that of functions.
//!
//! | limit | what uses it | what gives |
//! |---|---|---|
//! | 1,000 write units a second and partition | per request: the index item, three times as much to retire it, a share of the merge and of sieves | a window is spread over `--index-shards` partitions by content hash, up to [`MAX_SHARDS`] |
//! | 3,000 read units a second and partition | each query of the newest hour reads the items of all files that are not merged, and what is left of those merged within the grace period | the same; larger requests |
//! | 40,000 write units and 40,000 read units a second and table (default quotas) | the sum of the above; two queries of the newest hour a second | a higher quota; a new table begins with 4,000 and 12,000 and doubles within half an hour |
//! | 3,500 writes and 5,500 reads a second and prefix | objects go below `tenant=/signal=/date=/hour=` | names begin with a hash, so S3 splits a busy prefix by itself; that takes minutes, and an hour begins with a new one |
//! | 1,000 functions at once (default quota) | ingest: requests a second × seconds of a request; compaction: merges × rate | a higher quota |
//! | lag of compaction | a tick, then what came since the last one at 350,000 spans/s a function | more functions; one function cannot do it from 117,000 spans/s on |
//!
//! Partitions and prefixes are filled to [`FILL`] of their limits, because hashes do not divide evenly and load is not
//! even. At 2,048 spans a request the results are:
//!
//! - 10 thousand spans/s fit with one partition and one function.
//! - A million fit with sixteen partitions, and quotas as they are. Writes need four of them; reading the newest hour
//!   needs the others: it has 57,000 items of files that are not merged yet, and 88,000 that name what those of the grace
//!   period ([`GRACE_S`]) were merged into. One query reads 16,000 units of them, $2.03 a thousand queries.
//! - 100 million in one tenant do not fit: 318 partitions a window for writes alone where the layout numbers 255, 21
//!   prefixes where it has one an hour, and higher quotas. Dozens of tenants fit, or a part before the hour in keys, wider
//!   shard numbers and larger requests.
//!
//! Queries of older hours read merged items, which are few, and are not in these numbers.
//!
//! Sources: Amazon DynamoDB Developer Guide, "Quotas" and "Designing partition keys"; Amazon S3 User Guide, "Best
//! practices design patterns: optimizing Amazon S3 performance"; AWS Lambda Developer Guide, "Lambda quotas"; 2026-11.

use serde_json::{Value, json};

use super::bill::{Read, read_units};
use super::measured::{
    GRACE_S, INGEST_MEMORY_MB, MERGE_INPUTS, MERGE_PUTS, MERGES, RETIRED_ITEM_BYTES, SPANS, TICK_S,
};
use super::plan::Load;
use super::prices::US_EAST_1;
use super::{Item, REMARK, Report, load, measured, row, show};

/// Write units that a partition takes in a second.
pub const PARTITION_WRITE_UNITS: f64 = 1_000.0;
/// Read units that a partition gives in a second.
pub const PARTITION_READ_UNITS: f64 = 3_000.0;
/// Write units that a table takes in a second, by default.
pub const TABLE_WRITE_UNITS: f64 = 40_000.0;
/// Read units that a table gives in a second, by default.
pub const TABLE_READ_UNITS: f64 = 40_000.0;
/// Writes that a prefix takes in a second.
pub const PREFIX_WRITES: f64 = 3_500.0;
/// Reads that a prefix gives in a second.
pub const PREFIX_READS: f64 = 5_500.0;
/// Functions at once, by default.
pub const FUNCTIONS: f64 = 1_000.0;
/// Partitions of a window that the index numbers: see [`storage::index::TableLayout`].
pub const MAX_SHARDS: f64 = u8::MAX as f64;
/// How far partitions and prefixes are filled.
pub const FILL: f64 = 0.7;
/// Queries of the newest hour in a second that have to be possible: twenty panels each ten seconds.
pub const HOT_QUERIES_PER_SECOND: f64 = 2.0;

const RATES: [f64; 3] = [1e4, 1e6, 1e8];

/// Arguments of `spandrel cost scale`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Spans in a request
    #[arg(long, default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..))]
    spans_per_request: u32,
    /// Days that data is kept
    #[arg(long, default_value_t = 30)]
    retention_days: u32,
}

/// What a rate takes of each limit.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Figures {
    /// Spans that arrive in a second.
    pub spans_per_second: f64,
    /// Requests in a second.
    pub requests_per_second: f64,
    /// Write units in a second, all in the newest window.
    pub write_units_per_second: f64,
    /// Partitions that the newest window needs for its writes.
    pub shards_for_writes: f64,
    /// Read units of one query of the newest hour.
    pub read_units_per_hot_query: f64,
    /// Partitions that it needs for such queries.
    pub shards_for_reads: f64,
    /// Objects written in a second below one prefix.
    pub object_writes_per_second: f64,
    /// Objects read in a second below it, by compaction.
    pub object_reads_per_second: f64,
    /// Ingest functions at once.
    pub ingest_functions: f64,
    /// Compaction functions at once.
    pub compaction_functions: f64,
    /// Seconds from a span's arrival to its first merge, at most.
    pub lag_s: f64,
    /// Dollars of a month, without queries.
    pub dollars_per_month: f64,
}

/// What a rate takes.
pub fn figures(spans_per_second: f64, spans_per_request: f64, retention_days: f64) -> Figures {
    let n = spans_per_request;
    let requests = spans_per_second / n;
    let compaction = load::compaction_of_request(&SPANS, n);
    let write_units_per_second =
        requests * (load::ingest_request(&SPANS, n).write_units + compaction.write_units);
    let compaction_functions = (spans_per_second * MERGES / SPANS.merged_per_second).ceil();
    let lag_s =
        TICK_S + TICK_S * spans_per_second * MERGES / (compaction_functions * SPANS.merged_per_second);
    let index_bytes = requests * (lag_s * SPANS.index_item_bytes(n) + GRACE_S * RETIRED_ITEM_BYTES);
    let read_units_per_hot_query = read_units(index_bytes, Read::Consistent);
    let month = Load {
        spans_per_second,
        spans_per_request: n,
        samples_per_second: 0.0,
        samples_per_request: 1.0,
        log_records_per_second: 0.0,
        log_records_per_request: 1.0,
        queries_per_day: 0.0,
        gets_per_query: 0.0,
        read_units_per_query: 0.0,
        retention_days,
    }
    .month();
    Figures {
        spans_per_second,
        requests_per_second: requests,
        write_units_per_second,
        shards_for_writes: (write_units_per_second / (PARTITION_WRITE_UNITS * FILL)).ceil(),
        read_units_per_hot_query,
        shards_for_reads: (HOT_QUERIES_PER_SECOND * read_units_per_hot_query / (PARTITION_READ_UNITS * FILL))
            .ceil(),
        object_writes_per_second: requests * (1.0 + MERGE_PUTS / MERGE_INPUTS),
        object_reads_per_second: requests * compaction.object_gets,
        ingest_functions: (requests * load::ingest_seconds(&SPANS, n)).ceil(),
        compaction_functions,
        lag_s,
        dollars_per_month: month.iter().map(Item::dollars).sum(),
    }
}

/// Whether a limit is kept, and what keeps it or would.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// The limit.
    pub limit: &'static str,
    /// Whether the layout stays inside with its settings and default quotas.
    pub is_inside: bool,
    /// The setting that keeps it, or what would be needed.
    pub needs: String,
}

impl Figures {
    /// Partitions that the newest window needs.
    pub fn shards(&self) -> f64 {
        self.shards_for_writes.max(self.shards_for_reads)
    }

    /// Each limit in turn.
    pub fn verdicts(&self) -> [Verdict; 6] {
        let verdict = |limit, is_inside, inside: String, outside: String| Verdict {
            limit,
            is_inside,
            needs: if is_inside { inside } else { outside },
        };
        let shards = self.shards();
        let busiest = self.object_writes_per_second / PREFIX_WRITES;
        let busiest = busiest.max(self.object_reads_per_second / PREFIX_READS);
        let prefixes = (busiest / FILL).ceil();
        let functions = self.ingest_functions + self.compaction_functions;
        let table_write_units = show::quantity(self.write_units_per_second);
        let read_units_per_second = self.read_units_per_hot_query * HOT_QUERIES_PER_SECOND;
        let table_read_units = show::quantity(read_units_per_second);
        [
            verdict(
                "partitions of the index",
                shards <= MAX_SHARDS,
                format!("--index-shards {shards}"),
                format!(
                    "{shards} a window, and the layout numbers {MAX_SHARDS}: {} tenants or more, larger requests, or a wider number",
                    (shards / MAX_SHARDS).ceil()
                ),
            ),
            verdict(
                "write units of the table",
                self.write_units_per_second <= TABLE_WRITE_UNITS,
                "the default quota".to_owned(),
                format!("a quota of {table_write_units} a second in place of {TABLE_WRITE_UNITS}"),
            ),
            verdict(
                "read units of the table",
                read_units_per_second <= TABLE_READ_UNITS,
                "the default quota".to_owned(),
                format!(
                    "a quota of {table_read_units} a second in place of {TABLE_READ_UNITS}, or larger requests"
                ),
            ),
            verdict(
                "requests of a prefix",
                prefixes <= 1.0,
                "one prefix an hour".to_owned(),
                format!(
                    "{prefixes} prefixes an hour and signal: more tenants, or a part before the hour in keys"
                ),
            ),
            verdict(
                "functions at once",
                functions <= FUNCTIONS,
                "the default quota".to_owned(),
                format!("a quota of {functions} in place of {FUNCTIONS}"),
            ),
            verdict(
                "compaction",
                self.compaction_functions <= FUNCTIONS,
                format!("{} function(s) at work, {:.0} s behind", self.compaction_functions, self.lag_s),
                format!("{} functions", self.compaction_functions),
            ),
        ]
    }
}

pub(super) fn report(args: &Args) -> Report {
    let figures =
        RATES.map(|rate| figures(rate, f64::from(args.spans_per_request), f64::from(args.retention_days)));
    let head = RATES.map(|rate| format!("{} spans/s", show::quantity(rate)));
    let mut rows = vec![row(["", "limit", &head[0], &head[1], &head[2]])];
    let mut line = |what: &str, limit: &str, value: &dyn Fn(&Figures) -> String| {
        let [a, b, c] = [&figures[0], &figures[1], &figures[2]].map(value);
        rows.push(vec![what.to_owned(), limit.to_owned(), a, b, c]);
    };
    let quantity = show::quantity;
    line("requests/s", "", &|of| quantity(of.requests_per_second));
    line("index: write units/s in the newest window", "1 k a partition", &|of| {
        quantity(of.write_units_per_second)
    });
    line("index: partitions for them", "255", &|of| quantity(of.shards_for_writes));
    line("index: read units of a query of the newest hour", "3 k/s a partition", &|of| {
        quantity(of.read_units_per_hot_query)
    });
    line("index: partitions for two such queries/s", "255", &|of| quantity(of.shards_for_reads));
    line("index: dollars of a thousand such queries", "", &|of| {
        show::dollars(of.read_units_per_hot_query * 1e3 * US_EAST_1.million_read_units / 1e6)
    });
    line("objects: writes/s of a prefix", "3.5 k", &|of| quantity(of.object_writes_per_second));
    line("objects: reads/s of a prefix, by compaction", "5.5 k", &|of| quantity(of.object_reads_per_second));
    line("ingest functions at once", "1 k with those below", &|of| quantity(of.ingest_functions));
    line("compaction functions at once", "", &|of| quantity(of.compaction_functions));
    line("seconds to the first merge, at most", "", &|of| quantity(of.lag_s));
    line("dollars a month", "", &|of| show::dollars(of.dollars_per_month));

    let mut remarks = Vec::new();
    for of in &figures {
        remarks.push(format!("{} spans/s in one tenant:", quantity(of.spans_per_second)));
        for Verdict { limit, is_inside, needs } in of.verdicts() {
            let word = if is_inside { "inside" } else { "OUTSIDE" };
            remarks.push(format!("  {word:<8} {limit}: {needs}"));
        }
    }
    remarks.push(format!(
        "{} spans a request, kept {} days; ingest functions of {INGEST_MEMORY_MB} MB that wait {} ms a request; partitions and prefixes filled to {:.0} %.",
        args.spans_per_request,
        args.retention_days,
        measured::INGEST_WAIT_S * 1e3,
        FILL * 100.0
    ));
    remarks.push(REMARK.to_owned());
    let rates: Vec<Value> =
        figures.iter().map(|of| json!({ "figures": of, "verdicts": of.verdicts() })).collect();
    Report { rows, remarks, json: json!({ "rates": rates, "prices": US_EAST_1 }) }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole and half units are exact")]
mod tests {
    use super::*;

    fn close(found: f64, expect: f64, what: &str) {
        assert!((found - expect).abs() <= expect * 1e-3, "{what}: {found}, not {expect}");
    }

    #[test]
    fn a_million_spans_a_second_is_as_a_pencil_says() {
        let of = figures(1e6, 2_048.0, 30.0);
        close(of.requests_per_second, 488.28, "requests");
        // 488.28 × (1 + 3 + 6/48 + 0.42222 of sieves = 4.54722) = 2,220.3 units; at 700 a partition 3.17.
        close(of.write_units_per_second, 2_220.32, "write units");
        assert_eq!(of.shards_for_writes, 4.0);
        // Nine functions of 350,000 spans/s keep up with three merges: a tick, and 60 × 3 / 3.15 s to work it off.
        assert_eq!(of.compaction_functions, 9.0);
        close(of.lag_s, 117.143, "seconds");
        // 488.28 × (117.14 items of 917.68 bytes + 180 of 160) = 66.55 MB in units of 4,096.
        close(of.read_units_per_hot_query, 16_248.0, "read units");
        // 2 × 16,248 / 2,100 = 15.47.
        assert_eq!(of.shards_for_reads, 16.0);
        // 488.28 × (1 + 2/48) = 508.6; 488.28 × 1.00671 = 491.6.
        close(of.object_writes_per_second, 508.63, "writes");
        close(of.object_reads_per_second, 491.56, "reads");
        // 488.28 × 74.365 ms = 36.3 at once.
        assert_eq!(of.ingest_functions, 37.0);
        // 488.28 × 2,592,000 × (6.32077 + 3.32813 + 2.41650 + 0.46566 of logs = 12.5311) millionths, and 0.31 idle: see `load`.
        close(of.dollars_per_month, 15_860.0, "dollars");
    }

    #[test]
    fn limits_are_kept_or_named() {
        let outside = |rate: f64, per_request: f64| -> Vec<&str> {
            let verdicts = figures(rate, per_request, 30.0).verdicts();
            verdicts.iter().filter(|verdict| !verdict.is_inside).map(|verdict| verdict.limit).collect()
        };
        assert_eq!(outside(1e4, 2_048.0), [""; 0]);
        assert_eq!(figures(1e4, 2_048.0, 30.0).shards(), 1.0);
        assert_eq!(outside(1e6, 2_048.0), [""; 0]);
        // A quarter of the spans in a request are four times the files, with items of three quarters of the length.
        assert_eq!(outside(1e6, 512.0), ["read units of the table"]);
        let expect = [
            "partitions of the index",
            "write units of the table",
            "read units of the table",
            "requests of a prefix",
            "functions at once",
        ];
        assert_eq!(outside(1e8, 2_048.0), expect);
    }

    /// The numbers that the documentation of this module and the README say; those of a million spans are in `plan`.
    #[test]
    fn the_documentation_says_what_is_calculated() {
        let most = figures(1e8, 2_048.0, 30.0);
        assert_eq!(most.shards_for_writes, 318.0);
        let verdicts = most.verdicts();
        assert!(verdicts[3].needs.starts_with("21 prefixes"), "{verdicts:?}");
        assert_eq!((SPANS.merged_per_second / MERGES / 1_000.0).round(), 117.0);
        let report = report(&Args { spans_per_request: 2_048, retention_days: 30 });
        let text = report.text();
        for part in ["partitions of the index: --index-shards 16", "$2.03", "a quota of 3.31 M a second"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(report.json["rates"].as_array().map(Vec::len), Some(3));
    }
}
