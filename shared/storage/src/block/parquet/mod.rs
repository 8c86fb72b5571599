//! Parquet pages, chunks and footers, written and read without detours.
//!
//! A file of one request has some 500 rows in some 36 columns, and with the `parquet` crate most of the time goes into
//! the set-up of each column's writer or reader. This module writes the same format directly: one row group, per
//! column at most one dictionary page and one data page (version 1), zstd where it helps. It reads what it writes and
//! nothing else; the `parquet` crate reads it too (see `block::spans` and its tests), as do DuckDB, Spark and Trino.
//!
//! - [`thrift`]: the compact protocol of page headers and footers.
//! - [`hybrid`]: levels and dictionary positions (run length / bit packing).
//! - [`delta`]: whole numbers as packed differences.
//! - [`mod@write`], [`read`]: a column chunk from values and back.
//! - [`mod@file`]: schema, magic and footer.
//!
//! Source: the Apache Parquet format, `parquet.thrift` and `Encodings.md`, version 2.10.

pub mod delta;
pub mod file;
pub mod hybrid;
pub mod read;
pub mod thrift;
pub mod write;

/// Why bytes are not a chunk or page of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// The numbers of Parquet's encodings.
pub mod encoding {
    /// Values as they are.
    pub const PLAIN: i32 = 0;
    /// Levels.
    pub const RLE: i32 = 3;
    /// Packed differences.
    pub const DELTA_BINARY_PACKED: i32 = 5;
    /// Positions in the chunk's dictionary page.
    pub const RLE_DICTIONARY: i32 = 8;
    /// Doubles by the place of their bytes: first bytes, second bytes, ….
    pub const BYTE_STREAM_SPLIT: i32 = 9;
}

/// How a column's values are stored, by Parquet's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Physical {
    /// One bit.
    Boolean,
    /// Four bytes.
    Int32,
    /// Eight bytes.
    Int64,
    /// An IEEE double.
    Double,
    /// Length and bytes.
    ByteArray,
    /// This many bytes.
    Fixed(u8),
}

impl Physical {
    /// The number in `parquet.thrift`.
    pub fn number(self) -> i32 {
        match self {
            Self::Boolean => 0,
            Self::Int32 => 1,
            Self::Int64 => 2,
            Self::Double => 5,
            Self::ByteArray => 6,
            Self::Fixed(_) => 7,
        }
    }
}
