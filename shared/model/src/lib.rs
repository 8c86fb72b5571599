//! The nouns of Spandrel: ids, tenants, time ranges, attributes, spans and log records as columns, labels and series.
//!
//! This crate knows no wire format, no file layout, no clock and no I/O.
//! `wire` decodes foreign bytes into [`spans::SpanColumns`] and [`series::SeriesBatch`], `storage` writes and reads them as Parquet,
//! `query` renders them for its clients.
//!
//! - [`ids`]: trace and span ids, content hashes, tenants.
//! - [`time`]: instants and ranges in nanoseconds since the Unix epoch.
//! - [`attribute`]: the value of an attribute and its lossless JSON text.
//! - [`dictionary`]: strings stored once, rows that point at them.
//! - [`spans`], [`logs`]: a batch of spans, of log records, one vector per field; [`columns`]: what both have.
//! - [`dense`]: attributes that most spans of a file have, in columns of their own.
//! - [`search`]: what a query asks of spans.
//! - [`sampling`]: which spans and log records are kept, and with what weight they count then.
//! - [`labels`], [`matcher`]: the identity of a series, and what a selector asks of it.
//! - [`hash`]: hashes that what is stored depends on.
//! - [`histogram`]: native histograms.
//! - [`series`]: samples, exemplars and metadata, as they are stored and as they are evaluated.

pub mod attribute;
pub mod columns;
pub mod dense;
pub mod dictionary;
pub mod hash;
pub mod histogram;
pub mod ids;
pub mod labels;
pub mod logs;
pub mod matcher;
pub mod sampling;
pub mod search;
pub mod series;
pub mod spans;
pub mod time;
pub mod transfer;

pub use attribute::AnyValue;
pub use histogram::NativeHistogram;
pub use ids::{ContentHash, IdError, Signal, SpanId, TenantId, TraceId};
pub use labels::Labels;
pub use logs::LogColumns;
pub use matcher::{MatchOp, Matcher};
pub use series::{Series, SeriesBatch};
pub use spans::SpanColumns;
pub use time::TimeRange;
