//! The layout of spans in a file, version 1: how [`SpanColumns`](model::SpanColumns) become Parquet, and back.
//!
//! One row is one span. Columns, in the order of the file; what a search reads comes first, so that one range covers it:
//!
//! | column | type | |
//! |---|---|---|
//! | `trace_id` | fixed 16 | |
//! | `start_time` | timestamp, ns, UTC | the bits of OTLP's unsigned number |
//! | `duration_ns` | int64 | end less start |
//! | `service_name` | text | the resource's `service.name` |
//! | `name` | text | |
//! | `kind`, `status_code` | int32 | OTLP's numbers |
//! | `status_message`, `scope_name`, `scope_version`, `trace_state` | text | null for empty |
//! | `resource_attributes` | JSON | the text of `model::attribute`; null for none |
//! | `attributes` | map of text to `{string, int, double, bool, json}` | one of the five is set, none for an empty value; bytes, arrays and maps are JSON |
//! | `events` | list of `{time, name, attributes, dropped_attributes_count}` | |
//! | `links` | list of `{trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags}` | |
//! | `span_id` | fixed 8 | |
//! | `parent_span_id` | fixed 8 | null for a root, and where the next column is not |
//! | `parent_distance` | int32 | the parent is so many rows before this one, or behind it if negative, in the same row group of a merged file |
//! | `flags`, `dropped_attributes_count`, `dropped_events_count`, `dropped_links_count` | int64 | |
//! | `resource_meta`, `scope_meta` | JSON | what else OTLP says of them; null for nothing |
//!
//! [`encode()`] writes a file, [`decode()`] reads columns of it, [`rows_with_attribute`] looks for a value without building
//! columns. The order of spans and of attributes is kept. The file's metadata has `spandrel.layout` = `spans/1`.

use std::sync::LazyLock;

use bytes::Bytes;

use super::parquet::Physical;
use super::parquet::file::{self, Leaf, Logical, Node, Occurs};
use crate::index::Descriptor;

mod decode;
mod dense;
mod encode;
mod find;
pub mod merged;
pub mod search;

pub use super::parts::{ChunkTable, Parts, Projection};
pub use decode::{decode, decode_rows, starts, traces_of};
pub(super) use dense::{ORDER_NODE, node as dense_node};
pub use encode::encode;
pub use find::{may_have_key, rows_with_attribute};

/// The layout's name in a file's metadata, under the key `spandrel.layout`.
pub const LAYOUT: &str = "spans/1";

use Occurs::{Optional, Repeated, Required};

pub(super) const NODES: &[Node<'static>] = &[
    Node::id("trace_id", Required, 16),
    Node::leaf("start_time", Required, Logical::TimestampNs, Physical::Int64),
    Node::number("duration_ns"),
    Node::text("service_name", Required),
    Node::text("name", Required),
    Node::leaf("kind", Required, Logical::None, Physical::Int32),
    Node::leaf("status_code", Required, Logical::None, Physical::Int32),
    Node::text("status_message", Optional),
    Node::text("scope_name", Optional),
    Node::text("scope_version", Optional),
    Node::text("trace_state", Optional),
    Node::json("resource_attributes"),
    Node::group("attributes", Required, Logical::Map, 1),
    Node::group("key_value", Repeated, Logical::None, 2),
    Node::text("key", Required),
    Node::group("value", Required, Logical::None, 5),
    Node::text("string", Optional),
    Node::leaf("int", Optional, Logical::None, Physical::Int64),
    Node::leaf("double", Optional, Logical::None, Physical::Double),
    Node::leaf("bool", Optional, Logical::None, Physical::Boolean),
    Node::json("json"),
    Node::group("events", Required, Logical::List, 1),
    Node::group("list", Repeated, Logical::None, 1),
    Node::group("element", Required, Logical::None, 4),
    Node::leaf("time", Required, Logical::TimestampNs, Physical::Int64),
    Node::text("name", Required),
    Node::json("attributes"),
    Node::number("dropped_attributes_count"),
    Node::group("links", Required, Logical::List, 1),
    Node::group("list", Repeated, Logical::None, 1),
    Node::group("element", Required, Logical::None, 6),
    Node::id("trace_id", Required, 16),
    Node::id("span_id", Required, 8),
    Node::text("trace_state", Optional),
    Node::json("attributes"),
    Node::number("dropped_attributes_count"),
    Node::number("flags"),
    Node::id("span_id", Required, 8),
    Node::id("parent_span_id", Optional, 8),
    Node::leaf("parent_distance", Optional, Logical::None, Physical::Int32),
    Node::number("flags"),
    Node::number("dropped_attributes_count"),
    Node::number("dropped_events_count"),
    Node::number("dropped_links_count"),
    Node::json("resource_meta"),
    Node::json("scope_meta"),
];

/// Positions of the columns among the leaves.
#[expect(missing_docs, reason = "the names are those of the columns")]
pub mod column {
    pub const TRACE_ID: usize = 0;
    pub const START_TIME: usize = 1;
    pub const DURATION_NS: usize = 2;
    pub const SERVICE_NAME: usize = 3;
    pub const NAME: usize = 4;
    pub const KIND: usize = 5;
    pub const STATUS_CODE: usize = 6;
    pub const STATUS_MESSAGE: usize = 7;
    pub const SCOPE_NAME: usize = 8;
    pub const SCOPE_VERSION: usize = 9;
    pub const TRACE_STATE: usize = 10;
    pub const RESOURCE_ATTRIBUTES: usize = 11;
    pub const ATTRIBUTE_KEY: usize = 12;
    pub const ATTRIBUTE_STRING: usize = 13;
    pub const ATTRIBUTE_INT: usize = 14;
    pub const ATTRIBUTE_DOUBLE: usize = 15;
    pub const ATTRIBUTE_BOOL: usize = 16;
    pub const ATTRIBUTE_JSON: usize = 17;
    /// The typed values of attributes.
    pub const ATTRIBUTE_VALUES: std::ops::RangeInclusive<usize> = ATTRIBUTE_STRING..=ATTRIBUTE_JSON;
    pub const EVENT_TIME: usize = 18;
    pub const EVENT_NAME: usize = 19;
    pub const EVENT_ATTRIBUTES: usize = 20;
    pub const EVENT_DROPPED: usize = 21;
    pub const LINK_TRACE_ID: usize = 22;
    pub const LINK_SPAN_ID: usize = 23;
    pub const LINK_TRACE_STATE: usize = 24;
    pub const LINK_ATTRIBUTES: usize = 25;
    pub const LINK_DROPPED: usize = 26;
    pub const LINK_FLAGS: usize = 27;
    pub const SPAN_ID: usize = 28;
    pub const PARENT_SPAN_ID: usize = 29;
    pub const PARENT_DISTANCE: usize = 30;
    pub const FLAGS: usize = 31;
    pub const DROPPED_ATTRIBUTES: usize = 32;
    pub const DROPPED_EVENTS: usize = 33;
    pub const DROPPED_LINKS: usize = 34;
    pub const RESOURCE_META: usize = 35;
    pub const SCOPE_META: usize = 36;
    /// How many columns there are.
    pub const COUNT: usize = 37;
}

/// The attributes of spans and of their resources.
pub(crate) const ATTRIBUTES: Projection = Projection::of(&[
    column::RESOURCE_ATTRIBUTES,
    column::ATTRIBUTE_KEY,
    column::ATTRIBUTE_STRING,
    column::ATTRIBUTE_INT,
    column::ATTRIBUTE_DOUBLE,
    column::ATTRIBUTE_BOOL,
    column::ATTRIBUTE_JSON,
])
.and(Projection::from(dense::ORDER));

static LEAVES: LazyLock<Vec<Leaf<'static>>> = LazyLock::new(|| file::leaves(NODES));

/// A file of spans and what planning needs to know of it.
#[derive(Debug, Clone)]
pub struct EncodedSpans {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: Descriptor,
}
