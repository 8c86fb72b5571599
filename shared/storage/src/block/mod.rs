//! Files: bytes from columns and back. Pure: nothing here waits or knows where bytes are kept.
//!
//! - [`parquet`]: pages, chunks and footers.
//! - [`spans`]: the columns of spans.
//! - [`mod@reference`]: the same columns through the `parquet` crate, to check files independently.

pub mod parquet;
pub mod reference;
pub mod spans;
