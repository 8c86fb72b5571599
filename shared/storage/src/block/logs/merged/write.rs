//! Rows in order → file.

use bytes::Bytes;
use model::LogColumns;
use model::transfer::LogTransfer;

use super::{LAYOUT, LEAVES, NODES, RecordId, column, encode, write_ids};
use crate::block::parquet::file::{self, RowGroup};
use crate::block::parquet::write::ChunkWriter;
use crate::block::parts::write_head;
use crate::index::{LogDescriptor, LogUnit, MergedLogs};

/// Rows of a unit: few, because a question that wants the newest lines reads one at least; many, because each repeats
/// resources and keys.
const UNIT_ROWS: usize = 8192;
/// A unit takes as much memory at most, unless a single row takes more.
const UNIT_MEMORY_BYTES: usize = 4 << 20;
/// Units of a file at most: each is some 20 bytes in the index item.
pub const MAX_UNITS: usize = 1024;

/// A merged file and what planning needs to know of it.
#[derive(Debug, Clone)]
pub struct WrittenLogs {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: LogDescriptor,
}

/// Writes a merged file from rows that come in order. Memory: one unit and the finished bytes.
pub struct LogWriter {
    writer: ChunkWriter,
    columns: LogColumns,
    /// Of the rows of the open unit.
    ids: Vec<RecordId>,
    groups: Vec<RowGroup>,
    units: Vec<LogUnit>,
    directory: Vec<u8>,
    /// Those of the file so far, in order.
    services: Vec<String>,
    /// The number of the open unit's first service.
    first_service: u32,
    held_bytes: usize,
}

impl LogWriter {
    /// An empty file, compressed by `zstd_level`.
    pub fn new(zstd_level: i32) -> Self {
        let mut writer = ChunkWriter::with_level(zstd_level);
        writer.out.extend_from_slice(file::MAGIC);
        Self {
            writer,
            columns: LogColumns::default(),
            ids: Vec::new(),
            groups: Vec::new(),
            units: Vec::new(),
            directory: Vec::new(),
            services: Vec::new(),
            first_service: 0,
            held_bytes: 0,
        }
    }

    /// Whether the file has `target_bytes` in its closed units, or as many units as one may have.
    pub fn is_full(&self, target_bytes: u64) -> bool {
        self.writer.out.len() as u64 >= target_bytes || self.units.len() >= MAX_UNITS
    }

    /// Whether the open unit has no room for a row of another batch.
    pub(super) fn is_unit_full(&self, transfer: &LogTransfer, from: &LogColumns, row: usize) -> bool {
        let row_bytes = || transfer.row_bytes(from, row, &self.columns);
        let is_large = || self.columns.memory_bytes() + row_bytes() > UNIT_MEMORY_BYTES;
        !self.columns.is_empty() && (self.columns.len() >= UNIT_ROWS || is_large())
    }

    /// Appends a row of a service, which is the last row's or a later one.
    pub(super) fn push(
        &mut self,
        (service, id): (&str, RecordId),
        from: &LogColumns,
        row: usize,
        transfer: &mut LogTransfer,
    ) {
        if self.services.last().is_none_or(|last| last != service) {
            self.services.push(service.to_owned());
        }
        if self.columns.is_empty() {
            self.first_service = self.services.len() as u32 - 1;
        }
        self.ids.push(id);
        self.columns.push_row_of(from, row, transfer);
    }

    /// Whether the last row of the open unit is equal to a row of another batch, in every field.
    pub(super) fn ends_with(&self, other: &LogColumns, row: usize, transfer: &LogTransfer) -> bool {
        let Some(last) = self.columns.len().checked_sub(1) else { return false };
        LogTransfer::of(&self.columns).fields(&self.columns, last) == transfer.fields(other, row)
            && self.columns.origins.is_same(last, &other.origins, row)
            && self.columns.attributes.is_same(last, &other.attributes, row)
    }

    /// Closes the open unit, if it has rows. Whoever appends tells transfers that another batch is filled.
    pub(super) fn close_unit(&mut self) {
        if self.columns.is_empty() {
            return;
        }
        let columns = std::mem::take(&mut self.columns);
        self.held_bytes = self.held_bytes.max(columns.memory_bytes());
        // The head is as long as the lengths in it are: the chunks are written behind and moved into place.
        let start = self.writer.out.len();
        let mut chunks = encode::write_chunks(&mut self.writer, &columns);
        write_ids(&mut self.writer, &std::mem::take(&mut self.ids), &mut chunks);
        let n_rows = columns.len() as u64;
        let head = write_head(n_rows, &chunks);
        self.writer.out.splice(start..start, head.iter().copied());
        for chunk in &mut chunks {
            chunk.offset += head.len() as u64;
        }
        self.directory.extend_from_slice(&head);
        let len = (self.writer.out.len() - start) as u64;
        let services = (self.first_service, self.services.len() as u32 - 1);
        // Readers of Parquet see no identities.
        chunks.truncate(column::COUNT);
        self.units.push(LogUnit::of(&columns, len, services));
        self.groups.push(RowGroup { n_rows, chunks });
    }

    /// The file; `None` if no row was written.
    pub fn finish(mut self) -> Option<WrittenLogs> {
        self.close_unit();
        if self.units.is_empty() {
            return None;
        }
        let mut out = self.writer.out;
        let directory = out.len() as u64..(out.len() + self.directory.len()) as u64;
        out.extend_from_slice(&self.directory);
        file::write_footer(&mut out, NODES, &LEAVES, &self.groups, &[("spandrel.layout", LAYOUT)]);
        let merged = MergedLogs { units: self.units, directory };
        let descriptor =
            LogDescriptor::of_merged(merged, &self.services, out.len() as u64, self.held_bytes as u64);
        Some(WrittenLogs { bytes: Bytes::from(out), descriptor })
    }
}
