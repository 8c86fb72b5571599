//! `spandrel cost lookup`: what a trace by id takes, of any age, without a hint; pure.
//!
//! A question by id knows nothing of when its trace was. It reads two rounds of calls, each of which waits for the one
//! before only:
//!
//! 1. The list of windows, and beside it the partitions of the windows that are expected: [`EXPECTED_HOURS`] hours,
//!    [`EXPECTED_DAYS`] days and `wide`. Their items are the sparse index: where each unit of some thousand spans lies,
//!    and the hash of its first trace.
//! 2. Of each day the one unit that may have the trace, in one ranged read; of hours that are not merged into their day
//!    yet only of files whose sieve lets the trace pass, once in [`SIEVE_STRANGERS`] times.
//!
//! Rounds stay two as long as
//!
//! - a partition is one page ([`PAGE_BYTES`]): a day of up to some 390 million spans with one shard;
//! - a day is one run: what its hours have is published in one transaction ([`MERGE_FILES`] files), up to some 50 million
//!   spans a day, if hours are even. Above that a day is two runs or more, with a read each and no further round;
//! - no day is older than the expected ones, nor a window late. Else a process that has not asked before takes a third
//!   round, and then remembers.
//!
//! `tests/lookup.rs` of `storage` counts calls and rounds over a month of small days; here are the sizes of large ones.
//! What an item and a unit take is measured: see [`measured`].

use serde_json::json;

use super::bill::{Billed, READ_UNIT_BYTES, Read, read_units};
use super::measured::{
    self, MERGED_FILE_BYTES, MERGED_INDEX_BYTES, SIEVE_BYTES_PER_TRACE, SPANS, SPANS_PER_TRACE,
    UNIT_INDEX_BYTES, UNIT_SPANS,
};
use super::prices::US_EAST_1;
use super::{REMARK, Report, row, show};

/// Hours that a process expects which has not asked before: those that lie open or wait for their day, the one that begins
/// next included.
pub const EXPECTED_HOURS: f64 = 29.0;
/// Days that it expects.
pub const EXPECTED_DAYS: f64 = 33.0;
/// A stranger passes the sieve of a file once in so many times.
pub const SIEVE_STRANGERS: f64 = 64.0;
/// Bytes of a page of the table.
pub const PAGE_BYTES: f64 = (1 << 20) as f64;
/// Files of one merge into a day, inputs and outputs.
pub const MERGE_FILES: f64 = 90.0;
/// Inputs of one merge into a day.
pub const MERGE_INPUTS: f64 = 72.0;

/// Arguments of `spandrel cost lookup`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Spans that are stored in all
    #[arg(long, default_value_t = 1e9, value_parser = super::plan::at_least_one)]
    spans: f64,
    /// Days over which they are spread evenly
    #[arg(long, default_value_t = 30.0, value_parser = super::plan::at_least_one)]
    days: f64,
}

/// What a lookup takes of a process that has not asked before, by what is merged.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Files of a merged day.
    pub files_of_day: f64,
    /// Runs of a merged day: reads that it takes.
    pub runs_of_day: f64,
    /// Bytes of a day's index items, with keys.
    pub index_bytes_of_day: f64,
    /// Pages of the largest partition: they follow from each other.
    pub pages: f64,
    /// Reads of the table.
    pub table_reads: f64,
    /// Read units of them.
    pub read_units: f64,
    /// Ranged reads of objects.
    pub gets: f64,
    /// Bytes of such a read.
    pub bytes_of_get: f64,
    /// Dollars of a thousand lookups, without functions.
    pub dollars_per_thousand: f64,
}

/// What a lookup takes when all days but the newest are merged, and of that `n_hours` hours are stored, each merged into
/// one run.
pub fn figures(spans: f64, days: f64, n_hours: f64) -> Figures {
    let spans_of_day = spans / days;
    let files = |n: f64| (n * SPANS.merged_item_bytes / MERGED_FILE_BYTES).ceil();
    let index_bytes = |n: f64| files(n) * MERGED_INDEX_BYTES + (n / UNIT_SPANS).ceil() * UNIT_INDEX_BYTES;
    let files_of_day = files(spans_of_day);
    let inputs = 24.0 * files(spans_of_day / 24.0);
    let runs_of_day = (inputs / MERGE_INPUTS).max((inputs + files_of_day) / MERGE_FILES).ceil();
    let index_bytes_of_day = index_bytes(spans_of_day);
    let of_hour = spans_of_day / 24.0;
    let index_bytes_of_hour = index_bytes(of_hour) + of_hour / SPANS_PER_TRACE * SIEVE_BYTES_PER_TRACE;

    let merged_days = if n_hours > 0.0 { days - 1.0 } else { days };
    let table_reads = 1.0 + 1.0 + EXPECTED_HOURS + EXPECTED_DAYS;
    let found = merged_days.min(EXPECTED_DAYS) + n_hours.min(EXPECTED_HOURS);
    let list_bytes = (days + n_hours) * measured::WINDOW_ITEM_BYTES;
    let read_units = merged_days * read_units(index_bytes_of_day, Read::Consistent)
        + n_hours * read_units(index_bytes_of_hour, Read::Consistent)
        + read_units(list_bytes, Read::Consistent)
        // What is expected and not there takes a unit all the same.
        + (EXPECTED_HOURS + EXPECTED_DAYS + 1.0 - found).max(0.0);
    let gets = merged_days * runs_of_day + n_hours / SIEVE_STRANGERS;
    let billed = Billed { object_gets: gets, read_units, ..Billed::default() };
    Figures {
        files_of_day,
        runs_of_day,
        index_bytes_of_day,
        pages: (index_bytes_of_day.max(index_bytes_of_hour) / PAGE_BYTES).ceil(),
        table_reads,
        read_units,
        gets,
        bytes_of_get: UNIT_SPANS * SPANS.merged_item_bytes,
        dollars_per_thousand: billed.dollars(&US_EAST_1) * 1e3,
    }
}

pub(super) fn report(args: &Args) -> Report {
    let Args { spans, days } = *args;
    let merged = figures(spans, days, 0.0);
    let late = figures(spans, days, 24.0);
    let mut rows = vec![row(["", "all days merged", "the newest day in 24 hours"])];
    let mut line = |what: &str, value: &dyn Fn(&Figures) -> String| {
        rows.push(vec![what.to_owned(), value(&merged), value(&late)]);
    };
    let quantity = show::quantity;
    line("files of a day", &|of| quantity(of.files_of_day));
    line("runs of a day", &|of| quantity(of.runs_of_day));
    line("bytes of its index items", &|of| quantity(of.index_bytes_of_day));
    line("first round: reads of the table", &|of| quantity(of.table_reads));
    line("pages of the largest partition", &|of| quantity(of.pages));
    line("read units", &|of| quantity(of.read_units));
    line("second round: ranged GETs of a trace that is not there", &|of| quantity(of.gets));
    line("bytes of a GET", &|of| quantity(of.bytes_of_get));
    line("dollars of a thousand lookups, without functions", &|of| show::dollars(of.dollars_per_thousand));
    let remarks = vec![
        format!(
            "{} spans over {days} days in one tenant, {SPANS_PER_TRACE} a trace, one shard; a process that has not asked before. One that has reads only windows that are there.",
            quantity(spans)
        ),
        format!(
            "Each day of {} spans has {} units of {} spans; read units are of {READ_UNIT_BYTES} bytes.",
            quantity(spans / days),
            quantity((spans / days / UNIT_SPANS).ceil()),
            quantity(UNIT_SPANS)
        ),
        REMARK.to_owned(),
    ];
    let json = json!({ "merged": merged, "newest_day_in_hours": late, "prices": US_EAST_1 });
    Report { rows, remarks, json }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers are exact")]
mod tests {
    use super::*;

    fn close(found: f64, expect: f64, what: &str) {
        assert!((found - expect).abs() <= expect * 1e-3, "{what}: {found}, not {expect}");
    }

    #[test]
    fn a_billion_spans_over_a_month_are_as_a_pencil_says() {
        let of = figures(1e9, 30.0, 0.0);
        // 33.33 M spans × 55 bytes / 64 MiB = 27.3; of an hour 1.14, so 48 files are merged into 28.
        assert_eq!((of.files_of_day, of.runs_of_day), (28.0, 1.0));
        // 28 × 540 + 8,121 units × 9.
        close(of.index_bytes_of_day, 88_209.0, "bytes");
        assert_eq!((of.pages, of.table_reads, of.gets), (1.0, 64.0, 30.0));
        // 30 × 22 + 1 for the list + 63 - 30 for what is expected and not there.
        close(of.read_units, 694.0, "read units");
        // 4,105 × 55.
        close(of.bytes_of_get, 225_775.0, "bytes of a read");
        // 694 × 0.125 + 30 × 0.4 = 98.75 millionths.
        close(of.dollars_per_thousand, 0.098_75, "dollars");
    }

    #[test]
    fn hours_of_the_newest_day_are_sieved() {
        let of = figures(1e9, 30.0, 24.0);
        // Of an hour 2 × 540 + 339 × 9 + 77,160 traces × 0.95 = 77,433 bytes: 19 units.
        // 29 × 22 + 24 × 19 + 1 + 63 - 29 - 24.
        close(of.read_units, 1_105.0, "read units");
        close(of.gets, 29.375, "reads");
        assert!(of.gets <= 30.0, "at most one a day");
    }

    #[test]
    fn larger_days_take_more_reads_and_no_further_round() {
        let of = figures(50e6 * 30.0, 30.0, 0.0);
        assert_eq!((of.runs_of_day, of.pages), (1.0, 1.0));
        let of = figures(300e6 * 30.0, 30.0, 0.0);
        assert_eq!((of.runs_of_day, of.pages), (6.0, 1.0));
        assert_eq!(figures(400e6 * 30.0, 30.0, 0.0).pages, 2.0);
    }

    #[test]
    fn the_table_says_what_is_calculated() {
        let text = report(&Args { spans: 1e9, days: 30.0 }).text();
        for part in ["$0.0988", "$0.1499", "694", "226 k"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
