//! The layout of log records in a file, version 1: how [`LogColumns`](model::LogColumns) become Parquet, and back.
//!
//! One row is one record. Columns, in the order of the file; what a search reads comes first, so that one range covers it:
//!
//! | column | type | |
//! |---|---|---|
//! | `time`, `observed_time` | timestamp, ns, UTC | the bits of OTLP's unsigned numbers; null for 0, which is "unknown" |
//! | `severity_number` | int32 | OTLP's number |
//! | `service_name` | text | the resource's `service.name` |
//! | `severity_text`, `event_name` | text | null for empty |
//! | `body` | text | null where there is no body, or one that is not text |
//! | `body_json` | JSON | a body that is not text, in the text of `model::attribute` |
//! | `attributes` | map of text to `{string, int, double, bool, json}` | as in files of spans |
//! | `trace_id` | fixed 16 | null for none |
//! | `span_id` | fixed 8 | null for none |
//! | `scope_name`, `scope_version` | text | null for empty |
//! | `resource_attributes` | JSON | the text of `model::attribute`; null for none |
//! | `flags`, `dropped_attributes_count` | int64 | |
//! | `resource_meta`, `scope_meta` | JSON | what else OTLP says of them; null for nothing |
//!
//! [`encode()`] writes a file, [`decode()`] reads columns of it. The order of records and of attributes is kept. The file's
//! metadata has `spandrel.layout` = `logs/1`. [`merged`] has the files that these become.

use std::sync::LazyLock;

use bytes::Bytes;

use super::parquet::Physical;
use super::parquet::file::{self, Leaf, Logical, Node, Occurs};
use crate::index::LogDescriptor;

mod decode;
mod encode;
pub mod merged;

pub use super::parts::{ChunkTable, Parts, Projection};
pub use decode::decode;
pub use encode::encode;

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "logs/1";

use Occurs::{Optional, Repeated, Required};

pub(super) const NODES: &[Node<'static>] = &[
    Node::leaf("time", Optional, Logical::TimestampNs, Physical::Int64),
    Node::leaf("observed_time", Optional, Logical::TimestampNs, Physical::Int64),
    Node::leaf("severity_number", Required, Logical::None, Physical::Int32),
    Node::text("service_name", Required),
    Node::text("severity_text", Optional),
    Node::text("event_name", Optional),
    Node::text("body", Optional),
    Node::json("body_json"),
    Node::group("attributes", Required, Logical::Map, 1),
    Node::group("key_value", Repeated, Logical::None, 2),
    Node::text("key", Required),
    Node::group("value", Required, Logical::None, 5),
    Node::text("string", Optional),
    Node::leaf("int", Optional, Logical::None, Physical::Int64),
    Node::leaf("double", Optional, Logical::None, Physical::Double),
    Node::leaf("bool", Optional, Logical::None, Physical::Boolean),
    Node::json("json"),
    Node::id("trace_id", Optional, 16),
    Node::id("span_id", Optional, 8),
    Node::text("scope_name", Optional),
    Node::text("scope_version", Optional),
    Node::json("resource_attributes"),
    Node::number("flags"),
    Node::number("dropped_attributes_count"),
    Node::json("resource_meta"),
    Node::json("scope_meta"),
];

/// Positions of the columns among the leaves.
#[expect(missing_docs, reason = "the names are those of the columns")]
pub mod column {
    pub const TIME: usize = 0;
    pub const OBSERVED_TIME: usize = 1;
    pub const SEVERITY_NUMBER: usize = 2;
    pub const SERVICE_NAME: usize = 3;
    pub const SEVERITY_TEXT: usize = 4;
    pub const EVENT_NAME: usize = 5;
    pub const BODY: usize = 6;
    pub const BODY_JSON: usize = 7;
    pub const ATTRIBUTE_KEY: usize = 8;
    /// The typed values of attributes.
    pub const ATTRIBUTE_VALUES: std::ops::RangeInclusive<usize> = 9..=13;
    pub const TRACE_ID: usize = 14;
    pub const SPAN_ID: usize = 15;
    pub const SCOPE_NAME: usize = 16;
    pub const SCOPE_VERSION: usize = 17;
    pub const RESOURCE_ATTRIBUTES: usize = 18;
    pub const FLAGS: usize = 19;
    pub const DROPPED_ATTRIBUTES: usize = 20;
    pub const RESOURCE_META: usize = 21;
    pub const SCOPE_META: usize = 22;
    /// How many columns there are.
    pub const COUNT: usize = 23;
}

static LEAVES: LazyLock<Vec<Leaf<'static>>> = LazyLock::new(|| file::leaves(NODES));

/// A file of log records and what planning needs to know of it.
#[derive(Debug, Clone)]
pub struct EncodedLogs {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: LogDescriptor,
}
