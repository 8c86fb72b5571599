//! The nouns of Spandrel: ids, tenants, time ranges, attributes, and spans as columns.
//!
//! This crate knows no wire format, no file layout, no clock and no I/O.
//! `wire` decodes foreign bytes into [`spans::SpanColumns`], `storage` writes and reads them as Parquet,
//! `query` renders them for its clients.
//!
//! - [`ids`]: trace and span ids, content hashes, tenants.
//! - [`time`]: instants and ranges in nanoseconds since the Unix epoch.
//! - [`attribute`]: the value of an attribute and its lossless JSON text.
//! - [`dictionary`]: strings stored once, rows that point at them.
//! - [`spans`]: a batch of spans, one vector per field.
//! - [`search`]: what a query asks of spans.

pub mod attribute;
pub mod dictionary;
pub mod ids;
pub mod search;
pub mod spans;
pub mod time;

pub use attribute::AnyValue;
pub use ids::{ContentHash, IdError, Signal, SpanId, TenantId, TraceId};
pub use spans::SpanColumns;
pub use time::TimeRange;
