//! Reads one file of spans from its front to its end.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use model::{SpanColumns, TenantId};

use crate::block::spans::merged::read_head;
use crate::block::spans::{self, ChunkTable, Parts, Projection};
use crate::index::Places;
use crate::read::index::IndexedFile;
use crate::{Error, Result, Store};

/// The units of a file one after the other; a file of a request is one unit.
///
/// Memory is bounded by what is fetched at once, or by one unit if that is longer.
pub(super) struct Units<'a> {
    store: &'a Store,
    key: String,
    file: &'a IndexedFile,
    left: VecDeque<(Range<u64>, Option<ChunkTable>)>,
    fetched: (u64, Bytes),
    max_fetched_bytes: u64,
}

impl<'a> Units<'a> {
    /// Of a file; so many bytes are fetched at once if more than one unit is.
    pub(super) fn of(
        store: &'a Store,
        tenant: &TenantId,
        file: &'a IndexedFile,
        max_fetched_bytes: u64,
    ) -> Result<Self> {
        let summary = file.summary()?;
        let left = match summary.places().map_err(|err| file.corrupt(err))? {
            Places::OfRequest(table) => VecDeque::from([(0..summary.size, Some(table))]),
            Places::Merged(merged) => merged.placed().map(|(place, _)| (place, None)).collect(),
        };
        let key = file.key.object(tenant);
        Ok(Self { store, key, file, left, fetched: (0, Bytes::new()), max_fetched_bytes })
    }

    /// The file that is read.
    pub(super) fn file(&self) -> &'a IndexedFile {
        self.file
    }

    /// The columns in `projection` of the next unit; `None` behind the last.
    ///
    /// # Errors
    /// As the object store; the file is corrupt.
    pub(super) async fn next(&mut self, projection: Projection) -> Result<Option<SpanColumns>> {
        let Some((place, table)) = self.left.pop_front() else { return Ok(None) };
        let bytes = self.bytes(&place).await?;
        let corrupt = |err| self.file.corrupt(err);
        let (table, parts) = if let Some(table) = table {
            (table, Parts::whole(bytes))
        } else {
            let (_, table) = read_head(&mut &*bytes, place.start).map_err(corrupt)?;
            let mut parts = Parts::new();
            parts.add(place.start, bytes);
            (table, parts)
        };
        spans::decode(&table, &parts, projection).map(Some).map_err(corrupt)
    }

    async fn bytes(&mut self, place: &Range<u64>) -> Result<Bytes> {
        let is_there = |(start, bytes): &(u64, Bytes)| {
            *start <= place.start && place.end <= start.saturating_add(bytes.len() as u64)
        };
        if !is_there(&self.fetched) {
            let max_end = place.start.saturating_add(self.max_fetched_bytes);
            let ends = self.left.iter().map(|(place, _)| place.end);
            let end = ends.take_while(|&end| end <= max_end).last().unwrap_or(place.end);
            let found = self.store.objects.get_range(&self.key, place.start..end).await?;
            let bytes = found.ok_or_else(|| Error::Missing { key: self.key.clone() })?;
            self.fetched = (place.start, bytes);
            if !is_there(&self.fetched) {
                return Err(Error::corrupt(
                    format!("object {}", self.key),
                    "it is shorter than its item says",
                ));
            }
        }
        let start = (place.start - self.fetched.0) as usize;
        Ok(self.fetched.1.slice(start..start + (place.end - place.start) as usize))
    }
}
