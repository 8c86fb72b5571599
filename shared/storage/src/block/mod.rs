//! Files: bytes from columns and back. Pure: nothing here waits or knows where bytes are kept.
//!
//! - [`parquet`]: pages, chunks and footers.
//! - [`parts`]: parts of files.
//! - [`spans`], [`series`]: the columns of spans, and of series with their samples.
//! - [`mod@reference`]: the same columns through the `parquet` crate, to check files independently.

pub mod parquet;
pub mod parts;
pub mod reference;
pub mod series;
pub mod spans;
