//! The columns of files by the names and types of Hive, which catalogs of tables such as Glue's use.
//!
//! They follow from the layouts that files are written by, so that a table never says what no file has.

use model::Signal;
use model::columns::ValueKind;
use model::dense::DenseKey;

use super::parquet::Physical;
use super::parquet::file::{Content, Logical, Node};
use super::{logs, series, spans};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, as in the files.
    pub name: String,
    /// Its type, such as `map<string,string>`.
    pub kind: String,
}

/// Attributes of spans that merged files often have columns for. Source: OpenTelemetry's semantic conventions.
const CONVENTIONS: [(&str, ValueKind); 35] = [
    ("client.address", ValueKind::String),
    ("code.function.name", ValueKind::String),
    ("db.collection.name", ValueKind::String),
    ("db.namespace", ValueKind::String),
    ("db.operation.name", ValueKind::String),
    ("db.query.text", ValueKind::String),
    ("db.response.returned_rows", ValueKind::Int),
    ("db.system.name", ValueKind::String),
    ("enduser.id", ValueKind::String),
    ("error.type", ValueKind::String),
    ("gen_ai.operation.name", ValueKind::String),
    ("gen_ai.provider.name", ValueKind::String),
    ("gen_ai.request.model", ValueKind::String),
    ("gen_ai.response.model", ValueKind::String),
    ("gen_ai.usage.input_tokens", ValueKind::Int),
    ("gen_ai.usage.output_tokens", ValueKind::Int),
    ("http.request.method", ValueKind::String),
    ("http.response.status_code", ValueKind::Int),
    ("http.route", ValueKind::String),
    ("messaging.destination.name", ValueKind::String),
    ("messaging.message.id", ValueKind::String),
    ("messaging.operation.name", ValueKind::String),
    ("messaging.system", ValueKind::String),
    ("network.peer.address", ValueKind::String),
    ("network.peer.port", ValueKind::Int),
    ("rpc.grpc.status_code", ValueKind::Int),
    ("rpc.method", ValueKind::String),
    ("rpc.service", ValueKind::String),
    ("rpc.system", ValueKind::String),
    ("server.address", ValueKind::String),
    ("server.port", ValueKind::Int),
    ("session.id", ValueKind::String),
    ("url.full", ValueKind::String),
    ("url.path", ValueKind::String),
    ("user_agent.original", ValueKind::String),
];

/// The columns of a signal's files. Those of log records are the same at every level. Of spans and series these are the
/// columns of files of single requests and then those that only merged ones have: a file has nulls for what it lacks.
///
/// Which attributes of spans have columns follows from the data. There are columns here for those that conventions know,
/// and for `attributes`; what else a file has in columns of its own, a table does not show.
pub fn columns(signal: Signal, attributes: &[DenseKey]) -> Vec<Column> {
    match signal {
        Signal::Traces => {
            let mut columns = of_nodes(spans::NODES);
            columns.extend(of_nodes(&[spans::ORDER_NODE]));
            let known = CONVENTIONS.map(|(key, kind)| DenseKey { key: key.to_owned(), kind });
            for one in known.iter().chain(attributes) {
                let name = one.column_name();
                if !columns.iter().any(|column| column.name == name) {
                    columns.extend(of_nodes(&[spans::dense_node(one, &name)]));
                }
            }
            columns
        }
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

fn of_nodes(nodes: &[Node<'_>]) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut rest = nodes;
    while let Some(column) = take(&mut rest) {
        columns.push(column);
    }
    columns
}

/// Takes a node with all its own off the front of `rest`.
fn take(rest: &mut &[Node<'_>]) -> Option<Column> {
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
    Some(Column { name: node.name.to_owned(), kind })
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
        let own = DenseKey { key: "App.Items".to_owned(), kind: ValueKind::Json };
        let columns = columns(signal, &[own.clone(), own]);
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
            (Signal::Traces, "attributes_order", "string"),
            (Signal::Traces, "attribute_http_route", "string"),
            (Signal::Traces, "attribute_http_response_status_code_int", "bigint"),
            (Signal::Traces, "attribute_app_items_json", "string"),
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
