//! What a benchmark prints: a table for eyes, a line of JSON for scripts.

use std::io::Write as _;

use serde_json::Value;

use super::{Error, Result};

pub(super) use crate::table::number;

/// One table and the same as JSON.
#[derive(Debug)]
pub(super) struct Report {
    /// As [`crate::table`] has them.
    pub(super) rows: Vec<Vec<String>>,
    pub(super) json: Value,
}

impl Report {
    /// Writes to standard output; with `json` the table goes to standard error instead.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let table = crate::table::text(&self.rows);
        let mut out = std::io::stdout().lock();
        if json {
            std::io::stderr().lock().write_all(table.as_bytes()).map_err(Error::io("standard error"))?;
            writeln!(out, "{}", self.json).map_err(Error::io("standard output"))
        } else {
            out.write_all(table.as_bytes()).map_err(Error::io("standard output"))
        }
    }
}

/// A row of a table.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// As [`number`], or `-` where nothing was measured.
pub(super) fn number_or_dash(measured: Option<f64>, decimals: usize) -> String {
    measured.map_or_else(|| "-".to_owned(), |measured| number(measured, decimals))
}

/// Says on standard error what went wrong; nothing is left to do if that fails too.
pub(super) fn complain(error: &Error) {
    let _ = writeln!(std::io::stderr().lock(), "error: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let check = |value: f64, decimals: usize, expect: &str| assert_eq!(number(value, decimals), expect);
        check(0.0, 0, "0");
        check(999.0, 0, "999");
        check(1_000.0, 0, "1,000");
        check(1_234_567.891, 2, "1,234,567.89");
        check(-123_456.0, 0, "-123,456");
        check(12.5, 1, "12.5");
    }

    #[test]
    fn a_table_aligns_its_columns() {
        let rows = vec![row(["name", "n"]), row(["a", "1,000"]), row(["long name", "2"])];
        let table = crate::table::text(&rows);
        assert_eq!(table, "name           n\n----------------\na          1,000\nlong name      2\n");
    }
}
