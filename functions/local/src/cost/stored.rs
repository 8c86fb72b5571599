//! `spandrel cost data`: what a data folder holds costs, at rest for a month and to make.
//!
//! What level-0 files took is counted: each is one request. Of merged files the index does not know how many requests
//! they came in, so theirs are as many as `--items-per-request` says. The time of functions is that of [`super::load`].

use std::collections::BTreeMap;
use std::error::Error;

use model::{Signal, TenantId};
use serde_json::json;
use storage::read::{self, StoredWindow};

use super::bill::{Billed, GB, Write, write_units};
use super::measured::{LOG_RECORDS, SAMPLES, SPANS, Shape};
use super::prices::US_EAST_1;
use super::{REMARK, Report, load, row, show};
use crate::stores;

/// Bytes of an index item beside its value: its key and the names of its attributes.
const INDEX_KEY_BYTES: u64 = 100;

/// Arguments of `spandrel cost data`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stores: stores::Args,
    /// Spans, samples or log records of the requests from which merged files came
    #[arg(long, default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..))]
    items_per_request: u32,
}

/// What a tenant has of a signal at a level.
#[derive(Debug, Default)]
struct Stored {
    n_files: u64,
    n_items: u64,
    bytes: u64,
    index_bytes: u64,
}

type ByLevel = BTreeMap<(TenantId, Signal, u8), Stored>;

pub(super) fn report(args: &Args) -> Result<Report, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stored = runtime.block_on(async {
        let store = args.stores.open().await?;
        let mut stored = ByLevel::new();
        for tenant in read::tenants(&store).await? {
            for window in read::windows(&store, &tenant).await? {
                add(&mut stored, &tenant, &window);
            }
        }
        Ok::<_, Box<dyn Error>>(stored)
    })?;
    Ok(table(&stored, f64::from(args.items_per_request)))
}

fn add(stored: &mut ByLevel, tenant: &TenantId, window: &StoredWindow) {
    let entry = stored.entry((tenant.clone(), window.signal, window.level)).or_default();
    entry.n_files += window.objects.len() as u64;
    entry.n_items += window.n_items;
    entry.bytes += window.bytes;
    entry.index_bytes += window.index_bytes;
}

fn shape(signal: Signal) -> &'static Shape {
    match signal {
        Signal::Traces => &SPANS,
        Signal::Metrics => &SAMPLES,
        Signal::Logs => &LOG_RECORDS,
    }
}

impl Stored {
    /// At rest for a month.
    fn rest(&self) -> Billed {
        let index_bytes = self.index_bytes + self.n_files * INDEX_KEY_BYTES;
        Billed {
            object_gb_months: self.bytes as f64 / GB,
            table_gb_months: index_bytes as f64 / GB,
            ..Billed::default()
        }
    }

    /// What made it.
    fn made(&self, signal: Signal, level: u8, items_per_request: f64) -> Billed {
        if self.n_files == 0 {
            return Billed::default();
        }
        if level == 0 {
            let index_bytes = self.index_bytes / self.n_files + INDEX_KEY_BYTES;
            let mut request = load::ingest_request(shape(signal), self.n_items as f64 / self.n_files as f64);
            request.write_units = write_units(index_bytes as f64, Write::Alone);
            return request * self.n_files as f64;
        }
        let request = load::ingest_request(shape(signal), items_per_request)
            + load::compaction_of_request(shape(signal), items_per_request);
        request * (self.n_items as f64 / items_per_request)
    }
}

const HEAD: [&str; 11] = [
    "what",
    "files",
    "items",
    "bytes",
    "B/item",
    "PUTs",
    "write units",
    "to make",
    "per million",
    "rest, a month",
    "per million",
];

fn table(stored: &ByLevel, items_per_request: f64) -> Report {
    let mut rows = vec![row(HEAD)];
    let mut parts = Vec::new();
    let (mut to_make, mut at_rest) = (0.0, 0.0);
    for ((tenant, signal, level), of_level) in stored {
        let millions = of_level.n_items.max(1) as f64 / 1e6;
        let made = of_level.made(*signal, *level, items_per_request);
        let (make, rest) = (made.dollars(&US_EAST_1), of_level.rest().dollars(&US_EAST_1));
        to_make += make;
        at_rest += rest;
        let mut cells = vec![format!("{tenant} {} level {level}", shape(*signal).items)];
        cells.extend([of_level.n_files, of_level.n_items, of_level.bytes].map(|n| show::quantity(n as f64)));
        cells.push(format!("{:.1}", of_level.bytes as f64 / of_level.n_items.max(1) as f64));
        cells.extend([made.object_puts, made.write_units].map(show::quantity));
        cells.extend([make, make / millions, rest, rest / millions].map(show::dollars));
        rows.push(cells);
        parts.push(json!({
            "tenant": tenant.as_str(), "signal": signal.as_str(), "level": level,
            "files": of_level.n_files, "items": of_level.n_items, "bytes": of_level.bytes,
            "index_bytes": of_level.index_bytes,
            "made": made, "dollars_to_make": make, "dollars_to_make_a_million": make / millions,
            "dollars_at_rest_a_month": rest, "dollars_at_rest_a_month_a_million": rest / millions,
        }));
    }
    let mut remarks =
        vec![format!("{} to make, {} a month at rest", show::dollars(to_make), show::dollars(at_rest))];
    if stored.keys().any(|(.., level)| *level > 0) {
        remarks.push(format!(
            "merged files: to make as if they came in requests of {items_per_request}, merges included"
        ));
    }
    remarks.push(REMARK.to_owned());
    let json = json!({
        "parts": parts, "dollars_to_make": to_make, "dollars_at_rest_a_month": at_rest, "prices": US_EAST_1,
    });
    Report { rows, remarks, json }
}

#[cfg(test)]
mod tests {
    use storage::index::Window;

    use super::*;

    fn window(level: u8, n_files: usize, n_items: u64, bytes: u64, index_bytes: u64) -> StoredWindow {
        StoredWindow {
            signal: Signal::Traces,
            window: Window::Hour(1),
            level,
            objects: vec![String::new(); n_files],
            n_items,
            bytes,
            index_bytes,
            min_start_ns: 0,
            max_start_ns: 0,
            services: std::collections::BTreeSet::new(),
        }
    }

    fn close(report: &Report, part: usize, name: &str, expect: f64) {
        let found = report.json["parts"][part][name].as_f64().expect("a number");
        assert!((found - expect).abs() < expect * 1e-3, "{name}: {found}, not {expect}");
    }

    #[test]
    fn files_are_priced_by_level() {
        let mut stored = ByLevel::new();
        let tenant = TenantId::default_tenant();
        // Two windows of one level are one row: 1,000 files, 2,048,000 spans, 2^30 bytes, 1,000 bytes of index each.
        add(&mut stored, &tenant, &window(0, 400, 819_200, 1 << 29, 400_000));
        add(&mut stored, &tenant, &window(0, 600, 1_228_800, 1 << 29, 600_000));
        add(&mut stored, &tenant, &window(2, 1, 2_048_000, 1 << 30, 4_000));
        let report = table(&stored, 2_048.0);
        // 1,100 bytes an index item are two units: 5 + 1.25 + 0.2 + 0.0371825 × 13.3334 = 6.94577 thousandths.
        close(&report, 0, "dollars_to_make", 6.945_77e-3);
        // A GB, and 1.1 MB of the table: 0.023 + 0.001024 × 0.25.
        close(&report, 0, "dollars_at_rest_a_month", 0.023_256);
        // Over 2.048 million spans.
        close(&report, 0, "dollars_at_rest_a_month_a_million", 0.011_355);
        // A thousand requests as in `load`: 6.32077 + 3.32813 thousandths.
        close(&report, 1, "dollars_to_make", 9.648_90e-3);
        let text = report.text();
        assert!(text.contains("default spans level 0") && text.contains("default spans level 2"), "{text}");
        assert!(text.contains("as if they came in requests of 2048"), "{text}");
    }

    #[test]
    fn an_empty_store_costs_nothing() {
        let report = table(&ByLevel::new(), 512.0);
        assert_eq!(report.json["dollars_to_make"], 0.0);
        assert!(report.text().contains("$0.00 to make, $0.00 a month at rest"), "{}", report.text());
    }
}
