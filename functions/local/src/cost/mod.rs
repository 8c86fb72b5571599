//! `spandrel cost`: what data, a load or a day of requests costs, at the provider's list prices.
//!
//! prices ([`prices`]) and units ([`bill`]) → what was measured ([`measured`]) → what a load makes the provider do
//! ([`load`]) → tables:
//!
//! - `cost data` ([`stored`]): what a data folder holds, at rest and to make.
//! - `cost plan` ([`plan`]): a planned load, by month.
//! - `cost logs` ([`logs`]): the access log of a day, by function and tenant.
//! - `cost lookup` ([`lookup`]): rounds, calls and dollars of a trace by id.
//! - `cost scale` ([`scale`]): where the limits of the provider are, from 10 thousand to 100 million spans/s.
//!
//! Everything but reading the folder and the log is pure.

pub mod bill;
pub mod load;
pub mod logs;
pub mod lookup;
pub mod measured;
pub mod plan;
pub mod prices;
pub mod scale;
pub(crate) mod show;
pub mod stored;

use std::error::Error;
use std::io::Write as _;

use bill::Billed;
use prices::US_EAST_1;
use serde_json::{Value, json};

/// Arguments of `spandrel cost`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// One line of JSON in place of the table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// What a data folder holds: at rest for a month, and to make
    Data(stored::Args),
    /// A planned load, by month
    Plan(plan::Load),
    /// The requests of a log, by function and tenant
    Logs(logs::Args),
    /// What a trace by id takes, by spans and days that are stored
    Lookup(lookup::Args),
    /// Limits and dollars for 10 thousand, 1 million and 100 million spans a second
    Scale(scale::Args),
}

/// What is printed: a table with remarks, or the same as JSON.
#[derive(Debug)]
pub(crate) struct Report {
    /// As [`crate::table`] has them.
    rows: Vec<Vec<String>>,
    remarks: Vec<String>,
    json: Value,
}

/// A line of a bill.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is for.
    pub name: String,
    /// What is billed.
    pub billed: Billed,
}

/// Prints what something costs.
///
/// # Errors
/// The folder, the stores or the log cannot be read.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let report = match &args.what {
        What::Data(data) => stored::report(data)?,
        What::Plan(load) => plan::report(load),
        What::Logs(logs) => logs::report(logs)?,
        What::Lookup(lookup) => lookup::report(lookup),
        What::Scale(scale) => scale::report(scale),
    };
    let text = if args.json { format!("{}\n", report.json) } else { report.text() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

impl Report {
    fn text(&self) -> String {
        let mut text = crate::table::text(&self.rows);
        for remark in &self.remarks {
            text.push('\n');
            text.push_str(remark);
        }
        text.push('\n');
        text
    }
}

/// The head of [`Item::row`].
const HEAD: [&str; 9] =
    ["item", "PUTs", "GETs", "write units", "read units", "invocations", "GB-s", "GB-months", "dollars"];

impl Item {
    /// An item of this name.
    pub fn new(name: impl Into<String>, billed: Billed) -> Self {
        Self { name: name.into(), billed }
    }

    fn dollars(&self) -> f64 {
        self.billed.dollars(&US_EAST_1)
    }

    fn row(&self) -> Vec<String> {
        let Billed { object_puts, object_gets, write_units, read_units, .. } = self.billed;
        let gb_months = self.billed.object_gb_months + self.billed.table_gb_months;
        let mut row = vec![self.name.clone()];
        let quantities = [
            object_puts,
            object_gets,
            write_units,
            read_units,
            self.billed.function_requests,
            self.billed.function_gb_s,
            gb_months,
        ];
        row.extend(quantities.map(show::quantity));
        row.push(show::dollars(self.dollars()));
        row
    }

    fn json(&self) -> Value {
        json!({ "item": self.name, "billed": self.billed, "dollars": self.dollars() })
    }
}

/// Cells of a row.
fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// What every report says of its prices.
const REMARK: &str = "List prices of us-east-1, 2026-11, without free tiers; a month has 30 days. Not counted: data transfer, \
                      the door in front of the functions.";
