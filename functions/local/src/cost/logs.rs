//! `spandrel cost logs`: the requests of an access log, added up by function and tenant.
//!
//! Lines are those that the functions write (`edge::guard`): one JSON object a request, with or without something
//! before its first brace. All others are skipped. Nothing is kept of a line but its sums.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use storage::Usage;

use super::bill::Billed;
use super::measured::INGEST_MEMORY_MB;
use super::prices::US_EAST_1;
use super::{HEAD, Item, REMARK, Report, row, show};

/// Arguments of `spandrel cost logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Memory of the functions, in MB: what a request's time costs; 0 leaves the time out
    #[arg(long, value_name = "MB", default_value_t = INGEST_MEMORY_MB as u32)]
    memory_mb: u32,
}

/// What a line has that costs something. Older lines lack some of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    target: String,
    function: String,
    tenant: String,
    took_ms: f64,
    object_puts: u64,
    object_gets: u64,
    object_lists: u64,
    object_deletes: u64,
    object_bytes_written: u64,
    object_bytes_read: u64,
    table_reads: u64,
    table_writes: u64,
    table_bytes_read: u64,
    table_bytes_written: u64,
    table_read_units: u64,
    table_write_units: u64,
}

/// What a function did for a tenant.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    n_requests: u64,
    took_s: f64,
    usage: Usage,
}

/// What a log says.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    by_function: BTreeMap<(String, String), Sum>,
    n_skipped: u64,
}

pub(super) fn report(args: &Args) -> Result<Report, Box<dyn Error>> {
    let sums = if args.file.as_os_str() == "-" {
        add_up(std::io::stdin().lock())?
    } else {
        let file = File::open(&args.file).map_err(|err| format!("{}: {err}", args.file.display()))?;
        add_up(BufReader::new(file))?
    };
    Ok(table(&sums, f64::from(args.memory_mb)))
}

/// Adds up the lines of a log. Bytes that are no UTF-8 are skipped with their line.
fn add_up(mut log: impl BufRead) -> std::io::Result<Sums> {
    let mut sums = Sums::default();
    let mut bytes = Vec::new();
    while log.read_until(b'\n', &mut bytes)? > 0 {
        match parse(&bytes) {
            Some(line) => {
                let sum = sums.by_function.entry((line.function.clone(), line.tenant.clone())).or_default();
                sum.n_requests += 1;
                sum.took_s += line.took_ms.max(0.0) / 1e3;
                sum.usage += usage(&line);
            }
            None if bytes.trim_ascii().is_empty() => {}
            None => sums.n_skipped += 1,
        }
        bytes.clear();
    }
    Ok(sums)
}

fn parse(bytes: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line: Line = serde_json::from_str(text.get(text.find('{')?..)?).ok()?;
    (line.target == "spandrel::access").then_some(line)
}

fn usage(line: &Line) -> Usage {
    Usage {
        object_puts: line.object_puts,
        object_gets: line.object_gets,
        object_lists: line.object_lists,
        object_deletes: line.object_deletes,
        bytes_written: line.object_bytes_written,
        bytes_read: line.object_bytes_read,
        table_reads: line.table_reads,
        table_writes: line.table_writes,
        table_bytes_read: line.table_bytes_read,
        table_bytes_written: line.table_bytes_written,
        // A call is a unit at least; older lines have no units.
        table_read_units: line.table_read_units.max(line.table_reads),
        table_write_units: line.table_write_units.max(line.table_writes),
    }
}

fn table(sums: &Sums, memory_mb: f64) -> Report {
    let mut rows = vec![row(HEAD)];
    rows[0].extend(["per thousand", "MB written", "MB read"].map(str::to_owned));
    let mut parts = Vec::new();
    let mut total = Item::new("in all", Billed::default());
    for ((function, tenant), sum) in &sums.by_function {
        let mut billed = Billed::from(&sum.usage);
        if memory_mb > 0.0 {
            billed.function_requests = sum.n_requests as f64;
            billed.function_gb_s = sum.took_s * memory_mb / 1_024.0;
        }
        total.billed = total.billed + billed;
        let who = [function.as_str(), tenant.as_str()].map(|name| if name.is_empty() { "–" } else { name });
        let item = Item::new(who.join(" "), billed);
        let mut cells = item.row();
        let Usage { bytes_written, bytes_read, .. } = sum.usage;
        let per_thousand = item.dollars() * 1e3 / sum.n_requests.max(1) as f64;
        cells.push(show::dollars(per_thousand));
        cells.extend([bytes_written, bytes_read].map(|bytes| show::quantity(bytes as f64 / 1e6)));
        rows.push(cells);
        parts.push(json!({
            "function": function, "tenant": tenant, "requests": sum.n_requests, "seconds": sum.took_s,
            "object_bytes_written": bytes_written, "object_bytes_read": bytes_read,
            "billed": billed, "dollars": item.dollars(), "dollars_per_thousand_requests": per_thousand,
        }));
    }
    rows.push(total.row());
    let n_requests: u64 = sums.by_function.values().map(|sum| sum.n_requests).sum();
    let month = show::dollars(total.dollars() * 30.0);
    let remarks = vec![
        format!("{n_requests} requests; {} other lines were skipped", sums.n_skipped),
        format!("thirty such days: {month}, without what data costs at rest"),
        REMARK.to_owned(),
    ];
    let json = json!({
        "parts": parts, "dollars": total.dollars(), "requests": n_requests, "lines_skipped": sums.n_skipped,
        "memory_mb": memory_mb, "prices": US_EAST_1,
    });
    Report { rows, remarks, json }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = concat!(
        r#"{"timestamp":"2026-11-25T21:46:57.375062Z","level":"INFO","message":"request","method":"POST","path":"/v1/traces","status":200,"took_ms":60.0,"function":"ingest","tenant":"a","request_id":"r-1","object_puts":1,"object_gets":0,"object_lists":0,"object_deletes":0,"object_bytes_written":44000000,"object_bytes_read":0,"table_reads":0,"table_writes":1,"table_bytes_read":0,"table_bytes_written":4000,"table_read_units":0,"table_write_units":4,"target":"spandrel::access"}"#,
        "\n",
        "2026-11-25T21:46:58Z ",
        r#"{"function":"ingest","tenant":"a","took_ms":40,"object_puts":1,"table_writes":1,"target":"spandrel::access"}"#,
        "\n",
        r#"{"function":"query","tenant":"b","took_ms":500,"object_gets":100,"table_reads":2,"table_read_units":24,"target":"spandrel::access"}"#,
        "\n\n",
        r#"{"message":"stopping: requests in flight finish","target":"local::serve"}"#,
        "\n",
        "START RequestId: x\n",
        r#"{"target":"spandrel::access","#,
        "\n",
    );

    #[test]
    fn requests_add_up_by_function_and_tenant() {
        let sums = add_up(LOG.as_bytes()).expect("memory");
        assert_eq!(sums.n_skipped, 3);
        let sum = |function: &str, tenant: &str| &sums.by_function[&(function.to_owned(), tenant.to_owned())];
        let ingest = sum("ingest", "a");
        assert_eq!((ingest.n_requests, ingest.usage.object_puts), (2, 2));
        assert_eq!(ingest.usage.table_write_units, 4 + 1, "a line without units has one a call");
        assert!((ingest.took_s - 0.1).abs() < 1e-12);
        assert_eq!(sum("query", "b").usage.table_read_units, 24);
        assert_eq!(sums.by_function.len(), 2);
    }

    #[test]
    fn a_log_is_priced() {
        let report = table(&add_up(LOG.as_bytes()).expect("memory"), 512.0);
        let dollars = |i: usize| report.json["parts"][i]["dollars"].as_f64().expect("a number");
        // 2 × 5 + 5 × 0.625 + 2 × 0.2 + 0.05 × 13.3334 = 14.19167 millionths.
        assert!((dollars(0) - 14.191_67e-6).abs() < 1e-10, "{}", dollars(0));
        // 100 × 0.4 + 24 × 0.125 + 0.2 + 0.25 × 13.3334 = 46.53335 millionths.
        assert!((dollars(1) - 46.533_35e-6).abs() < 1e-10, "{}", dollars(1));
        let text = report.text();
        assert!(text.contains("ingest a") && text.contains("3 requests; 3 other lines"), "{text}");

        let local = table(&add_up(LOG.as_bytes()).expect("memory"), 0.0);
        // 14.19167 and 46.53335 without their functions: 13.125 + 43.
        let all = local.json["dollars"].as_f64().expect("a number");
        assert!((all - 56.125e-6).abs() < 1e-10, "{all}");
    }

    #[test]
    fn an_empty_log_costs_nothing() {
        let sums = add_up(&b""[..]).expect("memory");
        assert_eq!(sums, Sums::default());
        assert!(table(&sums, 512.0).text().contains("0 requests"));
    }
}
