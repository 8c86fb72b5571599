//! `spandrel tables`: definitions of tables over the stored files, for Glue and so for Athena.
//!
//! The columns follow from the layouts of files. Partitions are projected, not registered: a table is defined once and sees
//! each file at once. `terraform/tables` has what this prints; a system test compares them, and both with what DuckDB sees.

use std::error::Error;
use std::io::Write as _;

use model::Signal;
use model::columns::ValueKind;
use model::dense::DenseKey;
use serde_json::{Value, json};
use storage::block::hive;

/// Arguments of `spandrel tables`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the objects are
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    location: String,
    /// One table instead of all
    #[arg(long, value_enum)]
    signal: Option<Name>,
    /// An attribute of spans that merged files have a column for, beside those that conventions know; may be repeated
    #[arg(long = "attribute", value_name = "KEY[:int|double|bool|json]", value_parser = attribute)]
    attributes: Vec<DenseKey>,
}

#[expect(clippy::unnecessary_wraps, reason = "the form that clap asks for")]
fn attribute(text: &str) -> Result<DenseKey, std::convert::Infallible> {
    let kinds = [
        (":int", ValueKind::Int),
        (":double", ValueKind::Double),
        (":bool", ValueKind::Bool),
        (":json", ValueKind::Json),
    ];
    let found = kinds.iter().find_map(|(suffix, kind)| Some((text.strip_suffix(suffix)?, *kind)));
    let (key, kind) = found.unwrap_or((text, ValueKind::String));
    Ok(DenseKey { key: key.to_owned(), kind })
}

/// A signal by its name in folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    Traces,
    Metrics,
    Logs,
}

/// Prints a Glue `TableInput` for each signal, as JSON by lines.
///
/// # Errors
/// The output is closed.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let signals = match args.signal {
        None => Signal::ALL.to_vec(),
        Some(Name::Traces) => vec![Signal::Traces],
        Some(Name::Metrics) => vec![Signal::Metrics],
        Some(Name::Logs) => vec![Signal::Logs],
    };
    let mut stdout = std::io::stdout().lock();
    for signal in signals {
        writeln!(stdout, "{}", table_input(signal, args.location.trim_end_matches('/'), &args.attributes))?;
    }
    Ok(())
}

/// The `TableInput` of Glue's `CreateTable` for a signal's files below `location`.
fn table_input(signal: Signal, location: &str, attributes: &[DenseKey]) -> Value {
    let name = signal.as_str();
    let columns: Vec<Value> = hive::columns(signal, attributes)
        .into_iter()
        .map(|column| json!({ "Name": column.name, "Type": column.kind }))
        .collect();
    let folders = format!("{location}/tenant=${{tenant}}/signal={name}/date=${{date}}/hour=${{hour}}/");
    json!({
        "Name": name,
        "Description": format!("{name}, by tenant and the hour in which a file begins"),
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": [
            { "Name": "tenant", "Type": "string" },
            { "Name": "date", "Type": "string" },
            { "Name": "hour", "Type": "int" },
        ],
        "Parameters": {
            "classification": "parquet",
            "projection.enabled": "true",
            // A question names its tenant: `where tenant = 'default'`.
            "projection.tenant.type": "injected",
            "projection.date.type": "date",
            "projection.date.format": "yyyy-MM-dd",
            "projection.date.range": "2024-01-01,NOW+1DAY",
            "projection.hour.type": "integer",
            "projection.hour.range": "0,23",
            "projection.hour.digits": "2",
            "storage.location.template": folders,
        },
        "StorageDescriptor": {
            "Columns": columns,
            "Location": format!("{location}/"),
            "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
                // By name: files of series have other columns before merging than after.
                "Parameters": { "parquet.column.index.access": "false" },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_columns_of_its_files_and_projects_their_folders() {
        for signal in Signal::ALL {
            let own = ["tier", "items:json"].map(|text| attribute(text).expect("a key"));
            let table = table_input(signal, "s3://b/p", &own);
            let name = signal.as_str();
            let expected =
                format!("s3://b/p/tenant=${{tenant}}/signal={name}/date=${{date}}/hour=${{hour}}/");
            assert_eq!(table["Parameters"]["storage.location.template"], expected);
            let columns = table["StorageDescriptor"]["Columns"].as_array().expect("columns");
            assert_eq!(columns.len(), hive::columns(signal, &own).len());
            if signal == Signal::Traces {
                let last: Vec<_> = columns.iter().rev().take(2).map(|column| &column["Name"]).collect();
                assert_eq!(last, ["attribute_items_json", "attribute_tier"]);
            }
            assert_eq!(columns[0]["Type"], hive::columns(signal, &own)[0].kind);
        }
    }
}
