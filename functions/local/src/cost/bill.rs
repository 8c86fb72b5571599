//! From what was done to dollars; pure.

use std::iter::Sum;
use std::ops::{Add, Mul};

use storage::Usage;

use super::prices::Prices;

/// Bytes of a GB, as the provider counts.
pub const GB: f64 = (1u64 << 30) as f64;

/// Bytes of a write unit.
pub const WRITE_UNIT_BYTES: f64 = 1_024.0;
/// Bytes of a read unit.
pub const READ_UNIT_BYTES: f64 = 4_096.0;

/// How an item is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// By itself, with a condition or without; removals too, by the size of what they remove.
    Alone,
    /// In a transaction.
    InTransaction,
}

/// How items are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// What may lack the last moments.
    Eventual,
    /// What has everything that was acknowledged: how [`storage::kv`] reads.
    Consistent,
    /// In a transaction.
    InTransaction,
}

/// Write units of an item of so many bytes: one for each KB that is begun, twice that in a transaction.
/// Source: Amazon DynamoDB Developer Guide, "DynamoDB read and write operations".
pub fn write_units(bytes: f64, write: Write) -> f64 {
    let units = (bytes / WRITE_UNIT_BYTES).ceil().max(1.0);
    match write {
        Write::Alone => units,
        Write::InTransaction => 2.0 * units,
    }
}

/// Read units of what one call reads together: one for each 4 KB that are begun, and by the way of reading half of it or
/// twice. Source: as [`write_units`].
pub fn read_units(bytes: f64, read: Read) -> f64 {
    let units = (bytes / READ_UNIT_BYTES).ceil().max(1.0);
    match read {
        Read::Eventual => units / 2.0,
        Read::Consistent => units,
        Read::InTransaction => 2.0 * units,
    }
}

/// What was done, or is planned to be done, in the units that are billed. Fractions are shares of what several did.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Billed {
    /// Writes of objects and pages of listings.
    pub object_puts: f64,
    /// Reads of objects and of their lengths.
    pub object_gets: f64,
    /// Write units of the table.
    pub write_units: f64,
    /// Read units of the table.
    pub read_units: f64,
    /// Invocations of functions.
    pub function_requests: f64,
    /// GB of memory times seconds of functions.
    pub function_gb_s: f64,
    /// GB of log lines.
    pub log_gb: f64,
    /// GB of objects times months.
    pub object_gb_months: f64,
    /// GB of the table times months.
    pub table_gb_months: f64,
}

impl Billed {
    /// What it costs.
    pub fn dollars(&self, prices: &Prices) -> f64 {
        let calls = self.object_puts * prices.million_object_puts
            + self.object_gets * prices.million_object_gets
            + self.write_units * prices.million_write_units
            + self.read_units * prices.million_read_units
            + self.function_requests * prices.million_function_requests;
        calls / 1e6
            + self.function_gb_s * prices.function_gb_s
            + self.log_gb * prices.log_gb
            + self.object_gb_months * prices.object_gb_month
            + self.table_gb_months * prices.table_gb_month
    }
}

impl From<&Usage> for Billed {
    /// The calls that were counted. Bytes cost nothing by themselves: what they take is in the units.
    fn from(usage: &Usage) -> Self {
        Self {
            object_puts: (usage.object_puts + usage.object_lists) as f64,
            object_gets: usage.object_gets as f64,
            write_units: usage.table_write_units as f64,
            read_units: usage.table_read_units as f64,
            ..Self::default()
        }
    }
}

impl Add for Billed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            object_puts: self.object_puts + other.object_puts,
            object_gets: self.object_gets + other.object_gets,
            write_units: self.write_units + other.write_units,
            read_units: self.read_units + other.read_units,
            function_requests: self.function_requests + other.function_requests,
            function_gb_s: self.function_gb_s + other.function_gb_s,
            log_gb: self.log_gb + other.log_gb,
            object_gb_months: self.object_gb_months + other.object_gb_months,
            table_gb_months: self.table_gb_months + other.table_gb_months,
        }
    }
}

impl Mul<f64> for Billed {
    type Output = Self;

    fn mul(self, n: f64) -> Self {
        Self {
            object_puts: self.object_puts * n,
            object_gets: self.object_gets * n,
            write_units: self.write_units * n,
            read_units: self.read_units * n,
            function_requests: self.function_requests * n,
            function_gb_s: self.function_gb_s * n,
            log_gb: self.log_gb * n,
            object_gb_months: self.object_gb_months * n,
            table_gb_months: self.table_gb_months * n,
        }
    }
}

impl Sum for Billed {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole and half units are exact")]
mod tests {
    use super::*;
    use crate::cost::prices::US_EAST_1;

    fn check(billed: Billed, expect: f64) {
        let dollars = billed.dollars(&US_EAST_1);
        assert!((dollars - expect).abs() < 1e-9, "{billed:?}: {dollars}, not {expect}");
    }

    #[test]
    fn each_unit_has_its_price() {
        let none = Billed::default();
        check(none, 0.0);
        check(Billed { object_puts: 1000.0, ..none }, 0.005);
        check(Billed { object_gets: 1000.0, ..none }, 0.0004);
        check(Billed { write_units: 1e6, ..none }, 0.625);
        check(Billed { read_units: 1e6, ..none }, 0.125);
        check(Billed { function_requests: 5e6, ..none }, 1.0);
        check(Billed { function_gb_s: 3e6, ..none }, 40.0002);
        check(Billed { log_gb: 3.0, ..none }, 1.5);
        check(Billed { object_gb_months: 1000.0, ..none }, 23.0);
        check(Billed { table_gb_months: 4.0, ..none }, 1.0);
        // 5 + 0.40 + 0.625 = 6.025, twice.
        let all = Billed { object_puts: 1e6, object_gets: 1e6, write_units: 1e6, ..none };
        check([all, all].into_iter().sum(), 12.05);
        check(all * 2.0, 12.05);
    }

    #[test]
    fn units_are_rounded_up() {
        assert_eq!([0.0, 1_024.0, 1_025.0].map(|bytes| write_units(bytes, Write::Alone)), [1.0, 1.0, 2.0]);
        assert_eq!([1.0, 2_049.0].map(|bytes| write_units(bytes, Write::InTransaction)), [2.0, 6.0]);
        let nine_kilobytes =
            [Read::Eventual, Read::Consistent, Read::InTransaction].map(|read| read_units(9_000.0, read));
        assert_eq!(nine_kilobytes, [1.5, 3.0, 6.0]);
        assert_eq!(read_units(0.0, Read::Eventual), 0.5);
    }

    #[test]
    fn counted_calls_are_billed_by_unit() {
        let usage = Usage {
            object_puts: 2,
            object_lists: 1,
            object_gets: 10,
            object_deletes: 100,
            bytes_read: 1 << 40,
            table_reads: 3,
            table_writes: 2,
            table_read_units: 40,
            table_write_units: 8,
            ..Usage::default()
        };
        // 3 × 5 + 10 × 0.4 + 8 × 0.625 + 40 × 0.125 = 15 + 4 + 5 + 5 = 29 millionths.
        check(Billed::from(&usage), 29e-6);
    }
}
