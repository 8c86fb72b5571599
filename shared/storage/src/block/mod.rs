//! Files: bytes from columns and back. Pure: nothing here waits or knows where bytes are kept.
//!
//! - [`parquet`]: pages, chunks and footers.
//! - [`parts`]: parts of files.
//! - [`spans`], [`logs`], [`series`]: the columns of spans, of log records, and of series with their samples;
//!   `columns`: what spans and log records have in common.
//! - [`hive`]: the columns as catalogs of tables name them.
//! - [`samples`]: samples as other engines read them.
//! - [`mod@reference`]: the same columns through the `parquet` crate, to check files independently.

mod columns;
pub mod hive;
mod ints;
pub mod logs;
pub mod parquet;
pub mod parts;
pub mod reference;
pub mod samples;
pub mod series;
pub mod spans;
