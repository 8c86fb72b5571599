//! From a load to what it makes the provider do; pure.
//!
//! Arithmetic only: each function is one item of the bill, and says what it takes from [`super::measured`].

use super::bill::{Billed, GB, READ_UNIT_BYTES, WRITE_UNIT_BYTES, Write, write_units};
use super::measured::{self, Shape};

/// Seconds of a month, which has 30 days.
pub const MONTH_S: f64 = 30.0 * 86_400.0;
const HOURS_OF_MONTH: f64 = 30.0 * 24.0;
const MB_OF_GB: f64 = 1_024.0;

/// One request of `n` items: an object, an index item, a function that computes and waits. Not counted: what a process
/// learns of names after its start, a read or write for each service that it has not seen.
pub fn ingest_request(shape: &Shape, n: f64) -> Billed {
    Billed {
        object_puts: 1.0,
        write_units: write_units(shape.index_item_bytes(n), Write::Alone),
        function_requests: 1.0,
        function_gb_s: ingest_seconds(shape, n) * measured::INGEST_MEMORY_MB / MB_OF_GB,
        ..Billed::default()
    }
}

/// How long such a request occupies a function.
pub fn ingest_seconds(shape: &Shape, n: f64) -> f64 {
    let cpu_s = (shape.request_cpu_us + shape.item_cpu_us * n) / 1e6;
    cpu_s * measured::MB_PER_CORE / measured::INGEST_MEMORY_MB + measured::INGEST_WAIT_S
}

/// The share of one request's file in all merges of its items. Invocations are left out: a tick merges many files.
pub fn compaction_of_request(shape: &Shape, n: f64) -> Billed {
    let first = Billed {
        object_gets: 1.0,
        object_puts: measured::MERGE_PUTS / measured::MERGE_INPUTS,
        write_units: retire_write_units(shape, n)
            + measured::MERGE_WRITE_UNITS / measured::MERGE_INPUTS
            + sieve_write_units(shape, n),
        read_units: reread_units(shape, n),
        ..Billed::default()
    };
    let later_calls = (measured::MERGES - 1.0) * n * shape.merged_item_bytes / measured::LATER_CALL_BYTES;
    let later = Billed { object_gets: later_calls, object_puts: later_calls, ..Billed::default() };
    let seconds = measured::MERGES * n / shape.merged_per_second;
    let work = Billed { function_gb_s: seconds * measured::CORE_MEMORY_MB / MB_OF_GB, ..Billed::default() };
    first + later + work
}

/// Write units to retire a level-0 file: the transaction that publishes the merged file replaces its index item, which is
/// billed as the larger of both, and after the grace period what replaced it is removed.
fn retire_write_units(shape: &Shape, n: f64) -> f64 {
    write_units(shape.index_item_bytes(n), Write::InTransaction)
        + write_units(measured::RETIRED_ITEM_BYTES, Write::Alone)
}

/// Write units of the request's share of sieves, which are written by themselves, and removed.
fn sieve_write_units(shape: &Shape, n: f64) -> f64 {
    measured::SIEVES * 2.0 * n * shape.sieve_bytes_per_item / WRITE_UNIT_BYTES
}

/// Read units for a file's index item while it is in its window: each tick reads all that is there, many items a call.
/// On the average it waits half a tick to be merged, and what replaces it stays half a tick longer than the grace period.
fn reread_units(shape: &Shape, n: f64) -> f64 {
    let n_ticks = |seconds: f64| (measured::TICK_S / 2.0 + seconds) / measured::TICK_S;
    let bytes =
        n_ticks(0.0) * shape.index_item_bytes(n) + n_ticks(measured::GRACE_S) * measured::RETIRED_ITEM_BYTES;
    measured::WINDOW_READS_PER_TICK * bytes / READ_UNIT_BYTES
}

/// The items of one request at rest for `retention_days`: merged, and before that as they came.
pub fn storage_of_request(shape: &Shape, n: f64, retention_days: f64) -> Billed {
    let merged = n * shape.merged_item_bytes / GB * retention_days / 30.0;
    let level0_months = measured::LEVEL0_HOURS / HOURS_OF_MONTH;
    Billed {
        object_gb_months: merged + shape.file_bytes(n) / GB * level0_months,
        table_gb_months: shape.index_item_bytes(n) / GB * level0_months,
        ..Billed::default()
    }
}

/// What one request leaves in the functions' logs.
pub fn logs_of_request() -> Billed {
    Billed { log_gb: measured::LOG_BYTES_PER_REQUEST / GB, ..Billed::default() }
}

/// One query.
pub fn query(gets: f64, read_units: f64) -> Billed {
    Billed {
        object_gets: gets,
        read_units,
        function_requests: 1.0,
        function_gb_s: measured::QUERY_S * measured::CORE_MEMORY_MB / MB_OF_GB,
        ..Billed::default()
    }
}

/// A month in which nothing arrives: the ticks of each minute.
pub fn idle_month() -> Billed {
    let tick = Billed {
        read_units: measured::IDLE_TICK_READ_UNITS,
        write_units: measured::IDLE_TICK_WRITE_UNITS,
        function_requests: 1.0,
        function_gb_s: measured::IDLE_TICK_S * measured::INGEST_MEMORY_MB / MB_OF_GB,
        ..Billed::default()
    };
    tick * (measured::IDLE_FUNCTIONS * MONTH_S / 60.0)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole and half units are exact")]
mod tests {
    use super::super::measured::{LOG_RECORDS, SAMPLES, SPANS};
    use super::super::prices::US_EAST_1;
    use super::*;

    fn close(found: f64, expect: f64, what: &str) {
        assert!((found - expect).abs() <= expect * 1e-3, "{what}: {found}, not {expect}");
    }

    #[test]
    fn a_request_costs_what_a_pencil_says() {
        let request = ingest_request(&SPANS, 2_048.0);
        // 590 + 0.16 × 2,048 = 918 bytes: one unit.
        assert_eq!((request.object_puts, request.write_units), (1.0, 1.0));
        // CPU 1.7 + 1.2 × 2.048 = 4.158 ms, on 512 of 1,769 MB 14.365 ms; 60 ms of waiting; half a GB.
        close(request.function_gb_s, 0.074_365 / 2.0, "GB-s");
        // 5 + 0.625 + 0.2 + 0.0371825 × 13.3334 = 6.32077 millionths.
        close(request.dollars(&US_EAST_1), 6.320_77e-6, "dollars");
        // 590 + 0.16 × 8,192 = 1,901 bytes; 200 + 2.33 × 2,048 = 4,972 bytes.
        assert_eq!(ingest_request(&SPANS, 8_192.0).write_units, 2.0);
        assert_eq!(ingest_request(&LOG_RECORDS, 2_048.0).write_units, 5.0);
        assert_eq!(ingest_request(&SAMPLES, 2_000.0).write_units, 1.0);
    }

    #[test]
    fn compaction_costs_what_a_pencil_says() {
        let share = compaction_of_request(&SPANS, 2_048.0);
        // Twice 2,048 × 55 = 112,640 bytes in 32 MiB: 225,280 / 33,554,432 = 0.0067139 calls each way.
        close(share.object_gets, 1.006_713_9, "GETs");
        close(share.object_puts, 2.0 / 48.0 + 0.006_713_9, "PUTs");
        // 1 in a transaction and its removal, 6/48 of the merge: 3.125; sieves 2 × 2 × 2,048 × 0.95/18 / 1,024 = 0.42222.
        close(share.write_units, 3.547_22, "write units");
        // Half a tick and three and a half, twice each: 2 × (0.5 × 917.68 + 3.5 × 160) / 4,096.
        close(share.read_units, 0.49748, "read units");
        // Three times 2,048 spans at 350,000 a second: 17.554 ms of 1.72754 GB.
        close(share.function_gb_s, 0.030_326, "GB-s");
        // 0.0483806 × 5 + 1.0067139 × 0.4 + 3.54722 × 0.625 + 0.49748 × 0.125 + 0.030326 × 13.3334 = 3.32813 millionths.
        close(share.dollars(&US_EAST_1), 3.32813e-6, "dollars");
    }

    #[test]
    fn storage_costs_what_a_pencil_says() {
        let rest = storage_of_request(&SPANS, 2_048.0, 60.0);
        // 112,640 bytes for two months: 2.09808e-4 GB-months. Level 0: 21,800 + 92,979 = 114,779 bytes for 1/720: 1.485e-7.
        close(rest.object_gb_months, 2.099_57e-4, "GB-months");
        // 918 bytes for 1/720 month.
        close(rest.table_gb_months, 1.187e-9, "GB-months of the table");
    }

    #[test]
    fn an_idle_month_costs_less_than_a_dollar() {
        // 86,400 ticks: 2 × 0.625 + 12 × 0.125 + 0.2 + 0.05 × 13.3334 = 3.61667 millionths each.
        let dollars = idle_month().dollars(&US_EAST_1);
        close(dollars, 0.312_48, "dollars");
        assert!(dollars <= 1.0);
    }

    /// The goals of the product: what a million spans may cost, thirty days at rest included.
    #[test]
    fn a_million_spans_costs_what_it_may() {
        let check = |n: f64, most: f64| {
            let request = ingest_request(&SPANS, n)
                + compaction_of_request(&SPANS, n)
                + storage_of_request(&SPANS, n, 30.0);
            let dollars = (request * (1e6 / n)).dollars(&US_EAST_1);
            println!("{n} a request: ${dollars:.5} a million spans");
            assert!(dollars <= most, "{n} a request: {dollars}");
        };
        check(2_048.0, 0.006);
        check(512.0, 0.02);
    }
}
