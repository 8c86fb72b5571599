//! Parts of files: where columns are, which are wanted, and which were fetched.

use std::ops::Range;

use bytes::Bytes;
use model::dense::Dense;

use super::parquet::file::{Leaf, Node, RowGroup};
use super::parquet::read::ChunkReader;
use super::parquet::thrift::{read_varint, write_varint};
use super::parquet::write::{Chunk, ChunkWriter};
use super::parquet::{Invalid, file};

/// A set of columns of one layout, at most 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection(u128);

impl Projection {
    /// All columns.
    pub const ALL: Self = Self(u128::MAX);

    /// These columns and the first, by which a file's rows are counted.
    pub const fn of(columns: &[usize]) -> Self {
        let mut bits = 1;
        let mut i = 0;
        while i < columns.len() {
            bits |= 1 << columns[i];
            i += 1;
        }
        Self(bits)
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This column and all behind it.
    pub const fn from(column: usize) -> Self {
        Self(u128::MAX << column)
    }

    /// Whether a column is in the set.
    pub const fn has(self, column: usize) -> bool {
        self.0 >> column & 1 == 1
    }
}

/// Where the chunks of a row group are: they lie end to end, in the order of the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkTable {
    /// Position of the first in the file.
    pub start: u64,
    /// Per column the length of its chunk, and whether it is compressed.
    pub chunks: Vec<(u64, bool)>,
    /// Attributes of spans that have columns of their own, behind the others.
    pub dense: Dense,
}

impl Default for ChunkTable {
    fn default() -> Self {
        Self::first(Vec::new())
    }
}

impl ChunkTable {
    /// Of a file's first row group, which lies behind the magic number.
    pub fn first(chunks: Vec<(u64, bool)>) -> Self {
        Self::at(file::MAGIC.len() as u64, chunks)
    }

    /// Of a row group that begins at `start`.
    pub fn at(start: u64, chunks: Vec<(u64, bool)>) -> Self {
        Self { start, chunks, dense: Dense::default() }
    }

    /// Of a row group with these chunks.
    pub(super) fn of(chunks: &[Chunk]) -> Self {
        let start = chunks.first().map_or(file::MAGIC.len() as u64, |chunk| chunk.offset);
        Self::at(start, chunks.iter().map(|chunk| (chunk.len, chunk.compressed)).collect())
    }

    /// The chunk of a column among fetched parts, opened.
    ///
    /// # Errors
    /// It was not fetched, or is no chunk.
    pub(super) fn open<'a>(&self, parts: &'a Parts, column: usize) -> Result<ChunkReader<'a>, Invalid> {
        ChunkReader::open(parts.get(&self.range(column))?, self.chunks[column].1)
    }

    /// Position behind the last chunk.
    pub fn end(&self) -> u64 {
        self.start + self.chunks.iter().map(|chunk| chunk.0).sum::<u64>()
    }

    /// The bytes of a column's chunk in the file.
    pub fn range(&self, column: usize) -> Range<u64> {
        let start = self.start + self.chunks[..column].iter().map(|chunk| chunk.0).sum::<u64>();
        start..start + self.chunks[column].0
    }

    /// The ranges of `projection`'s chunks, those less than `gap` bytes apart joined.
    pub fn ranges(&self, projection: Projection, gap: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut start = self.start;
        for (column, chunk) in self.chunks.iter().enumerate() {
            let range = start..start + chunk.0;
            start = range.end;
            if !projection.has(column) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if range.start - last.end <= gap => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }
}

/// The head of a unit: rows, and per chunk its length and whether it is compressed.
pub(super) fn write_head(rows: u64, chunks: &[Chunk]) -> Vec<u8> {
    let mut head = Vec::with_capacity(3 * chunks.len());
    write_varint(&mut head, rows);
    for chunk in chunks {
        write_varint(&mut head, chunk.len << 1 | u64::from(chunk.compressed));
    }
    head
}

/// Takes the head of a unit with so many columns off the front of `bytes`: rows, and where the chunks are in a unit that
/// begins at `start`.
///
/// # Errors
/// The bytes are no head.
pub(super) fn read_head(
    bytes: &mut &[u8],
    start: u64,
    n_columns: usize,
) -> Result<(u64, ChunkTable), Invalid> {
    let n_before = bytes.len();
    let rows = read_varint(bytes)?;
    let mut chunks = Vec::with_capacity(n_columns);
    for _ in 0..n_columns {
        let entry = read_varint(bytes)?;
        if entry >> 1 > u64::from(u32::MAX) {
            return Err(Invalid("chunk is too long"));
        }
        chunks.push((entry >> 1, entry & 1 == 1));
    }
    Ok((rows, ChunkTable::at(start + (n_before - bytes.len()) as u64, chunks)))
}

/// The file with the chunks that `write` appends, for `n_rows` rows of a layout, and where they are in it.
/// `expected_bytes` is about as long as the chunks will be.
pub(super) fn assemble(
    layout: &str,
    (nodes, leaves): (&[Node<'_>], &[Leaf<'_>]),
    n_rows: usize,
    expected_bytes: usize,
    write: impl FnOnce(&mut ChunkWriter) -> Vec<Chunk>,
) -> (Bytes, ChunkTable) {
    let mut writer = ChunkWriter::fast();
    writer.out.reserve(expected_bytes);
    writer.out.extend_from_slice(file::MAGIC);
    let chunks = write(&mut writer);
    let mut out = writer.out;
    let table = ChunkTable::of(&chunks);
    let group = RowGroup { n_rows: n_rows as u64, chunks };
    file::write_footer(&mut out, nodes, leaves, &[group], &[("spandrel.layout", layout)]);
    (Bytes::from(out), table)
}

/// Parts of a file that were fetched.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    parts: Vec<(u64, Bytes)>,
}

impl Parts {
    /// No parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole file.
    pub fn whole(file: Bytes) -> Self {
        Self { parts: vec![(0, file)] }
    }

    /// Adds the bytes of the file from `offset` on.
    pub fn add(&mut self, offset: u64, bytes: Bytes) {
        self.parts.push((offset, bytes));
    }

    /// The bytes of the file in `range`.
    ///
    /// # Errors
    /// They were not fetched.
    pub(super) fn get(&self, range: &Range<u64>) -> Result<&[u8], Invalid> {
        let part = |(offset, bytes): &'_ (u64, Bytes)| {
            let start = range.start.checked_sub(*offset)? as usize;
            let end = (range.end - offset) as usize;
            (end <= bytes.len()).then_some(start..end)
        };
        let found = self.parts.iter().find_map(|entry| part(entry).map(|range| &entry.1[range]));
        found.ok_or(Invalid("file is shorter than its index says"))
    }
}
