//! The columns of files by the names and types of Hive, which catalogs of tables such as Glue's use.
//!
//! They follow from the layouts that files are written by, so that a table never says what no file has.

use model::Signal;

use super::parquet::Physical;
use super::parquet::file::{Content, Logical, Node};
use super::{logs, series, spans};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, as in the files.
    pub name: &'static str,
    /// Its type, such as `map<string,string>`.
    pub kind: String,
}

/// The columns of a signal's files. Those of spans and log records are the same at every level; of series these are the
/// columns of files of single requests and then those that only merged ones have: a file has nulls for what it lacks.
pub fn columns(signal: Signal) -> Vec<Column> {
    match signal {
        Signal::Traces => of_nodes(spans::NODES),
        Signal::Logs => of_nodes(logs::NODES),
        Signal::Metrics => {
            let mut columns = of_nodes(series::NODES);
            let merged = of_nodes(series::merged::NODES);
            columns.extend(
                merged
                    .into_iter()
                    .filter(|column| !series::NODES.iter().any(|node| node.name == column.name)),
            );
            columns
        }
    }
}

fn of_nodes(nodes: &[Node<'static>]) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut rest = nodes;
    while let Some(column) = take(&mut rest) {
        columns.push(column);
    }
    columns
}

/// Takes a node with all its own off the front of `rest`.
fn take(rest: &mut &[Node<'static>]) -> Option<Column> {
    let (node, tail) = rest.split_first()?;
    *rest = tail;
    let kind = match node.content {
        Content::Leaf(physical) => of_leaf(physical, node.logical).to_owned(),
        Content::Group(n_children) => {
            let children: Vec<Column> = (0..n_children).filter_map(|_| take(rest)).collect();
            match (node.logical, children.first()) {
                // Their one child is the repeated group: a structure of what an entry has.
                (Logical::Map, Some(entry)) => {
                    entry.kind.replacen("struct<key:", "map<", 1).replacen(",value:", ",", 1)
                }
                (Logical::List, Some(entry)) => match entry.kind.strip_prefix("struct<element:") {
                    Some(element) => format!("array<{element}"),
                    None => format!("array<{}>", entry.kind),
                },
                _ => {
                    let field = |child: &Column| format!("{}:{}", child.name, child.kind);
                    format!("struct<{}>", children.iter().map(field).collect::<Vec<_>>().join(","))
                }
            }
        }
    };
    Some(Column { name: node.name, kind })
}

fn of_leaf(physical: Physical, logical: Logical) -> &'static str {
    match (physical, logical) {
        (_, Logical::TimestampMs | Logical::TimestampNs) => "timestamp",
        (_, Logical::String | Logical::Json) => "string",
        (Physical::Boolean, _) => "boolean",
        (Physical::Int32, _) => "int",
        (Physical::Int64, _) => "bigint",
        (Physical::Double, _) => "double",
        (Physical::ByteArray | Physical::Fixed(_), _) => "binary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(signal: Signal, name: &str) -> String {
        let columns = columns(signal);
        let found: Vec<&Column> = columns.iter().filter(|column| column.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0].kind.clone()
    }

    #[test]
    fn types_are_those_of_hive() {
        let value = "struct<string:string,int:bigint,double:double,bool:boolean,json:string>";
        for (signal, name, expected) in [
            (Signal::Traces, "trace_id", "binary"),
            (Signal::Traces, "start_time", "timestamp"),
            (Signal::Traces, "kind", "int"),
            (Signal::Traces, "attributes", &format!("map<string,{value}>")),
            (
                Signal::Traces,
                "events",
                "array<struct<time:timestamp,name:string,attributes:string,dropped_attributes_count:bigint>>",
            ),
            (Signal::Logs, "body_json", "string"),
            (Signal::Logs, "attributes", &format!("map<string,{value}>")),
            (Signal::Metrics, "labels", "map<string,string>"),
            (Signal::Metrics, "samples", "array<struct<time:timestamp,value:double,start_time:timestamp>>"),
            (Signal::Metrics, "chunks", "binary"),
            (Signal::Metrics, "temporality", "int"),
        ] {
            assert_eq!(kind(signal, name), expected, "{name}");
        }
    }
}
