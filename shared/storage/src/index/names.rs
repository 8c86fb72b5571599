//! The table of names: which services there are, and which operations each has.
//!
//! ```text
//! item = u8 version 1  u8 flags (1: there are more operations)  per operation: zigzag kind  varint length  UTF-8
//! ```
//! One item a service, sorted by operation. A service keeps [`MAX_OPERATIONS`] of them, so that names with ids in them
//! fill neither the table nor a drop-down list; spans of all others are found all the same.

use std::collections::BTreeSet;

use model::series::{Metadata, MetricType};

use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, write_varint, zigzag};

/// The most operations that are remembered of one service.
pub const MAX_OPERATIONS: usize = 1_000;
/// Longer names of services and operations are not remembered.
pub const MAX_NAME_BYTES: usize = 256;

const VERSION: u8 = 1;

/// A name under which a service has spans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation {
    /// The spans' name.
    pub name: String,
    /// The spans' kind by OTLP's numbers.
    pub kind: i32,
}

/// The operations of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    /// In order.
    pub operations: BTreeSet<Operation>,
    /// Whether the service has more of them.
    pub more: bool,
}

impl Operations {
    /// Adds an operation; returns whether that changed anything.
    pub fn insert(&mut self, operation: Operation) -> bool {
        if operation.name.len() > MAX_NAME_BYTES || self.operations.contains(&operation) {
            return false;
        }
        if self.operations.len() >= MAX_OPERATIONS {
            return !std::mem::replace(&mut self.more, true);
        }
        self.operations.insert(operation)
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.more)];
        for operation in &self.operations {
            write_varint(&mut out, zigzag(operation.kind.into()));
            write_varint(&mut out, operation.name.len() as u64);
            out.extend_from_slice(operation.name.as_bytes());
        }
        out
    }

    /// Reads an item's value.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, Invalid> {
        let head = take(&mut bytes, 2)?;
        if head[0] != VERSION {
            return Err(Invalid("item of names has an unknown version"));
        }
        let mut operations = BTreeSet::new();
        while !bytes.is_empty() {
            let kind = read_varint(&mut bytes)?;
            let kind = (kind >> 1) as i32 ^ -((kind & 1) as i32);
            let len = usize::try_from(read_varint(&mut bytes)?).map_err(|_| Invalid("name is too long"))?;
            let name =
                std::str::from_utf8(take(&mut bytes, len)?).map_err(|_| Invalid("name is not UTF-8"))?;
            operations.insert(Operation { name: name.to_owned(), kind });
        }
        Ok(Self { operations, more: head[1] & 1 == 1 })
    }
}

/// The sort key of a service. An empty name has one too, hence the sign in front.
pub fn service_sort(service: &str) -> String {
    format!("={service}")
}

/// The service of a sort key.
pub fn service_of(sort: &str) -> &str {
    sort.strip_prefix('=').unwrap_or(sort)
}

/// What senders said of one metric family.
///
/// ```text
/// item = u8 version 1  per statement: u8 type  text unit  text help
/// text = varint length  UTF-8
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Each statement once, in order; at most [`MAX_STATEMENTS`].
    pub statements: BTreeSet<Metadata>,
}

/// The most statements that are remembered of one family.
pub const MAX_STATEMENTS: usize = 8;
/// Longer help texts are cut.
const MAX_HELP_BYTES: usize = 1024;

const TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

impl Said {
    /// Adds a statement; returns whether that changed anything.
    pub fn insert(&mut self, mut statement: Metadata) -> bool {
        statement.help.truncate(statement.help.floor_char_boundary(MAX_HELP_BYTES));
        statement.unit.truncate(statement.unit.floor_char_boundary(MAX_HELP_BYTES));
        self.statements.len() < MAX_STATEMENTS && self.statements.insert(statement)
    }

    /// The item's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for statement in &self.statements {
            out.push(TYPES.iter().position(|other| *other == statement.metric_type).unwrap_or(0) as u8);
            for text in [&statement.unit, &statement.help] {
                write_varint(&mut out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }

    /// Reads an item's value, which is of `family`.
    ///
    /// # Errors
    /// The bytes are not one, or of a later version.
    pub fn parse(family: &str, mut bytes: &[u8]) -> Result<Self, Invalid> {
        fn text(bytes: &mut &[u8]) -> Result<String, Invalid> {
            let len = usize::try_from(read_varint(bytes)?).map_err(|_| Invalid("text is too long"))?;
            let text = std::str::from_utf8(take(bytes, len)?).map_err(|_| Invalid("text is not UTF-8"))?;
            Ok(text.to_owned())
        }
        if take(&mut bytes, 1)?[0] != VERSION {
            return Err(Invalid("item of metadata has an unknown version"));
        }
        let mut said = Self::default();
        while !bytes.is_empty() {
            let metric_type =
                TYPES.get(usize::from(take(&mut bytes, 1)?[0])).ok_or(Invalid("unknown metric type"))?;
            let (unit, help) = (text(&mut bytes)?, text(&mut bytes)?);
            said.statements.insert(Metadata {
                family: family.to_owned(),
                metric_type: *metric_type,
                unit,
                help,
            });
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_of_a_family_comes_back() {
        let statement = |metric_type, help: &str| Metadata {
            family: "up".to_owned(),
            metric_type,
            unit: String::new(),
            help: help.to_owned(),
        };
        let mut said = Said::default();
        assert!(said.insert(statement(MetricType::Gauge, "Is it?")));
        assert!(!said.insert(statement(MetricType::Gauge, "Is it?")));
        assert!(said.insert(statement(MetricType::StateSet, "é")));
        assert_eq!(Said::parse("up", &said.encode()), Ok(said.clone()));
        for n in 0..20 {
            said.insert(statement(MetricType::Counter, &n.to_string()));
        }
        assert_eq!(said.statements.len(), MAX_STATEMENTS);
    }

    fn operation(name: &str, kind: i32) -> Operation {
        Operation { name: name.to_owned(), kind }
    }

    #[test]
    fn operations_come_back() {
        let mut operations = Operations::default();
        assert!(operations.insert(operation("GET /", 2)));
        assert!(operations.insert(operation("GET /", 3)));
        assert!(!operations.insert(operation("GET /", 2)));
        assert!(operations.insert(operation("", -1)));
        assert_eq!(Operations::parse(&operations.encode()), Ok(operations));
    }

    #[test]
    fn a_service_keeps_so_many_operations_and_no_more() {
        let mut operations = Operations::default();
        for i in 0..MAX_OPERATIONS {
            assert!(operations.insert(operation(&format!("op {i}"), 0)));
        }
        assert!(operations.insert(operation("one more", 0)), "the mark changes once");
        assert!(!operations.insert(operation("yet another", 0)));
        assert!(!operations.insert(operation(&"x".repeat(MAX_NAME_BYTES + 1), 0)));
        assert_eq!(operations.operations.len(), MAX_OPERATIONS);
        assert!(Operations::parse(&operations.encode()).expect("own bytes").more);
    }
}
