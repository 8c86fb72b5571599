//! `spandrel cost plan`: a planned load, by month; pure.

use serde_json::json;

use super::bill::Billed;
use super::load::{self, MONTH_S};
use super::measured::{LOG_RECORDS, QUERY_GETS, QUERY_READ_UNITS, SAMPLES, SPANS, Shape};
use super::prices::US_EAST_1;
use super::{HEAD, Item, REMARK, Report, row, show};

/// A load, which is the same at all hours.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Spans that arrive in a second
    #[arg(long, default_value_t = 0.0, value_parser = amount)]
    pub spans_per_second: f64,
    /// Spans in a request
    #[arg(long, default_value_t = 2_048.0, value_parser = at_least_one)]
    pub spans_per_request: f64,
    /// Samples that arrive in a second
    #[arg(long, default_value_t = 0.0, value_parser = amount)]
    pub samples_per_second: f64,
    /// Samples in a request
    #[arg(long, default_value_t = 2_000.0, value_parser = at_least_one)]
    pub samples_per_request: f64,
    /// Log records that arrive in a second
    #[arg(long, default_value_t = 0.0, value_parser = amount)]
    pub log_records_per_second: f64,
    /// Log records in a request
    #[arg(long, default_value_t = 2_048.0, value_parser = at_least_one)]
    pub log_records_per_request: f64,
    /// Queries in a day
    #[arg(long, default_value_t = 0.0, value_parser = amount)]
    pub queries_per_day: f64,
    /// Reads of objects in a query; `cost logs` says what yours take
    #[arg(long, default_value_t = QUERY_GETS, value_parser = amount)]
    pub gets_per_query: f64,
    /// Read units of the table in a query
    #[arg(long, default_value_t = QUERY_READ_UNITS, value_parser = amount)]
    pub read_units_per_query: f64,
    /// Days that data is kept
    #[arg(long, default_value_t = 30.0, value_parser = amount)]
    pub retention_days: f64,
}

fn amount(text: &str) -> Result<f64, String> {
    let amount: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if amount.is_finite() && amount >= 0.0 {
        Ok(amount)
    } else {
        Err("must be zero or more, and finite".to_owned())
    }
}

pub(super) fn at_least_one(text: &str) -> Result<f64, String> {
    amount(text).and_then(|n| if n >= 1.0 { Ok(n) } else { Err("must be at least 1".to_owned()) })
}

/// A signal's part of a load.
struct Stream {
    shape: &'static Shape,
    per_second: f64,
    per_request: f64,
}

/// What of a request each item of the bill is.
struct Parts {
    ingest: Billed,
    compaction: Billed,
    storage: Billed,
}

impl Stream {
    fn parts(&self, retention_days: f64) -> Parts {
        let (shape, n) = (self.shape, self.per_request);
        Parts {
            ingest: load::ingest_request(shape, n),
            compaction: load::compaction_of_request(shape, n),
            storage: load::storage_of_request(shape, n, retention_days),
        }
    }

    /// What a million of its items cost from arrival to the end of retention, without the functions' logs.
    fn million(&self, retention_days: f64) -> f64 {
        let Parts { ingest, compaction, storage } = self.parts(retention_days);
        ((ingest + compaction + storage) * (1e6 / self.per_request)).dollars(&US_EAST_1)
    }
}

impl Load {
    fn streams(&self) -> [Stream; 3] {
        [
            Stream { shape: &SPANS, per_second: self.spans_per_second, per_request: self.spans_per_request },
            Stream {
                shape: &SAMPLES,
                per_second: self.samples_per_second,
                per_request: self.samples_per_request,
            },
            Stream {
                shape: &LOG_RECORDS,
                per_second: self.log_records_per_second,
                per_request: self.log_records_per_request,
            },
        ]
    }

    fn query(&self) -> Billed {
        load::query(self.gets_per_query, self.read_units_per_query)
    }

    /// The bill of a month once data has been kept for as long as it is: item by item, without their sum.
    pub fn month(&self) -> Vec<Item> {
        let mut items = Vec::new();
        let mut n_requests = 0.0;
        for stream in self.streams() {
            if stream.per_second == 0.0 {
                continue;
            }
            let of_month = stream.per_second * MONTH_S / stream.per_request;
            n_requests += of_month;
            let (name, parts) = (stream.shape.items, stream.parts(self.retention_days));
            items.push(Item::new(format!("{name}: ingest"), parts.ingest * of_month));
            items.push(Item::new(format!("{name}: compaction"), parts.compaction * of_month));
            items.push(Item::new(format!("{name}: storage"), parts.storage * of_month));
        }
        let n_queries = self.queries_per_day * 30.0;
        if n_queries > 0.0 {
            items.push(Item::new("queries", self.query() * n_queries));
        }
        items.push(Item::new("idle", load::idle_month()));
        items.push(Item::new("logs of functions", load::logs_of_request() * (n_requests + n_queries)));
        items
    }
}

/// The table of a month.
pub(super) fn report(load: &Load) -> Report {
    let items = load.month();
    let total = Item::new("in all, a month", items.iter().map(|item| item.billed).sum());
    let mut rows = vec![row(HEAD)];
    rows.extend(items.iter().chain([&total]).map(Item::row));

    let days = load.retention_days;
    let mut remarks = Vec::new();
    let mut per_million = serde_json::Map::new();
    for stream in load.streams() {
        let (name, dollars) = (stream.shape.items, stream.million(days));
        let (shown, n) = (show::dollars(dollars), stream.per_request);
        remarks.push(format!("{shown} a million {name} at {n} a request, kept {days} days"));
        per_million.insert(name.replace(' ', "_"), json!(dollars));
    }
    let thousand_queries = (load.query() * 1_000.0).dollars(&US_EAST_1);
    remarks.push(format!("{} a thousand queries", show::dollars(thousand_queries)));
    let idle = load::idle_month().dollars(&US_EAST_1);
    remarks.push(format!("{} a month when nothing arrives", show::dollars(idle)));
    remarks.push(REMARK.to_owned());
    let json = json!({
        "items": items.iter().map(Item::json).collect::<Vec<_>>(),
        "dollars_per_month": total.dollars(),
        "dollars_per_million": per_million,
        "dollars_per_thousand_queries": thousand_queries,
        "dollars_per_idle_month": idle,
        "prices": US_EAST_1,
    });
    Report { rows, remarks, json }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(line: &[&str]) -> Load {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            load: Load,
        }
        let line = ["cost"].iter().chain(line);
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.load).expect("arguments")
    }

    #[test]
    fn a_month_is_added_up_from_its_items() {
        // 10,240 spans/s at 2,048 a request are 5 requests/s: 12.96 M a month.
        let load =
            load(&["--spans-per-second", "10240", "--queries-per-day", "1000", "--retention-days", "30"]);
        let items = load.month();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        let expect =
            ["spans: ingest", "spans: compaction", "spans: storage", "queries", "idle", "logs of functions"];
        assert_eq!(names, expect);
        let check = |i: usize, dollars: f64| {
            let found = items[i].dollars();
            assert!((found - dollars).abs() < dollars * 1e-3, "{}: {found}, not {dollars}", items[i].name);
        };
        // 12.96 M × 6.32077, then × 3.32813 millionths (see `load`).
        check(0, 81.917);
        check(1, 43.132);
        // 12.96 M × 112,640 / 2^30 = 1,359.56 GB, and 12.96 M × 114,779 / 2^30 / 720 = 1.924 GB: × 0.023 = 31.314.
        // The table's 12.96 M × 918 / 2^30 / 720 = 0.01539 GB × 0.25 = 0.00385.
        check(2, 31.318);
        // 30,000 × (50 × 0.4 + 50 × 0.125 + 0.2 + 0.3 × 1.72754 × 13.3334 millionths = 33.3602).
        check(3, 1.000_8);
        // 12.99 M × 1,000 / 2^30 × 0.5.
        check(5, 6.049);
    }

    #[test]
    fn what_does_not_arrive_costs_nothing_but_ticks() {
        let items = load(&[]).month();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["idle", "logs of functions"]);
        assert!(items.iter().map(Item::dollars).sum::<f64>() <= 1.0);
    }

    #[test]
    fn the_table_and_the_json_say_the_same() {
        let report = report(&load(&["--spans-per-second", "1000000", "--samples-per-second", "100000"]));
        let text = report.text();
        let total = report.json["dollars_per_month"].as_f64().expect("a number");
        assert!(text.contains(&show::dollars(total)), "{text}");
        let million = report.json["dollars_per_million"]["spans"].as_f64().expect("a number");
        assert!(million <= 0.006, "{million}: the goal");
        assert!(text.contains("a million log records at 2048 a request, kept 30 days"), "{text}");
    }

    /// The README's numbers.
    #[test]
    fn the_readme_says_what_is_calculated() {
        let text = |line: &[&str]| report(&load(line)).text();
        let large = text(&["--spans-per-request", "2048"]);
        for part in [
            "$0.00589 a million spans",
            "$0.00451 a million samples",
            "$0.00912 a million log records",
            "$0.3125 a month",
        ] {
            assert!(large.contains(part), "{part}: {large}");
        }
        assert!(text(&["--spans-per-request", "512"]).contains("$0.0189 a million spans"));
        assert!(text(&["--spans-per-request", "8192"]).contains("$0.00287 a million spans"));
    }

    #[test]
    fn impossible_loads_are_refused() {
        for bad in ["-1", "nan", "inf", "x"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
        assert!(at_least_one("0.5").is_err());
        assert_eq!(at_least_one("512"), Ok(512.0));
    }
}
