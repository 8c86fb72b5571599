//! Many inputs in order → one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;
use model::transfer::LogTransfer;
use model::{ContentHash, LogColumns};

use super::{LogWriter, Parts, Projection, RecordId, decode, read_head, read_ids};
use crate::block::parquet::Invalid;

/// Log records in the order of merged files, in memory.
#[derive(Debug)]
pub struct LogRun {
    columns: Arc<LogColumns>,
    ids: Ids,
    /// Rows in order.
    order: Vec<u32>,
    next: usize,
    transfer: LogTransfer,
}

#[derive(Debug)]
enum Ids {
    /// Rows are those of a request, in its order.
    OfRequest([u8; 16]),
    /// By row.
    Stored(Vec<RecordId>),
}

impl Ids {
    fn of(&self, row: usize) -> RecordId {
        match self {
            Self::OfRequest(request) => RecordId { request: *request, position: row as u32 },
            Self::Stored(ids) => ids[row],
        }
    }
}

impl LogRun {
    /// The log records of a request's file whose event times `is_in` takes.
    pub fn of_request(columns: Arc<LogColumns>, content: ContentHash, is_in: impl Fn(i64) -> bool) -> Self {
        Self::sorted(columns, Ids::OfRequest(content.0), is_in)
    }

    /// The log records of a unit that was read whole, head included.
    ///
    /// # Errors
    /// The bytes are not a unit, or its rows are not in order.
    pub fn read(bytes: Bytes, start: u64) -> Result<Self, Invalid> {
        let (_, table) = read_head(&mut &*bytes, start)?;
        let mut parts = Parts::new();
        parts.add(start, bytes);
        let columns = decode(&table, &parts, Projection::ALL)?;
        let ids = read_ids(&table, &parts)?;
        if ids.len() != columns.len() {
            return Err(Invalid("columns differ in length"));
        }
        let run = Self::sorted(Arc::new(columns), Ids::Stored(ids), |_| true);
        if run.order.is_sorted() { Ok(run) } else { Err(Invalid("rows are not in order")) }
    }

    fn sorted(columns: Arc<LogColumns>, ids: Ids, is_in: impl Fn(i64) -> bool) -> Self {
        let service = &columns.origins.service;
        let mut by_name: Vec<u32> = (0..service.dictionary.len() as u32).collect();
        by_name.sort_by_key(|&position| service.dictionary.get(position));
        let mut ranks: Vec<u32> = vec![0; by_name.len()];
        for (rank, &position) in by_name.iter().enumerate() {
            ranks[position as usize] = rank as u32;
        }
        let rows = (0..columns.len()).filter(|&row| is_in(columns.event_time_ns(row)));
        let mut order: Vec<u32> = rows.map(|row| row as u32).collect();
        order.sort_by_key(|&row| {
            let row = row as usize;
            (ranks[service.rows[row] as usize], columns.event_time_ns(row), ids.of(row))
        });
        let transfer = LogTransfer::of(&columns);
        Self { columns, ids, order, next: 0, transfer }
    }

    /// The log records, in whatever order; those that were left out too.
    pub fn columns(&self) -> &LogColumns {
        &self.columns
    }

    /// Leaves out the rows of [`LogRun::columns`] that are told.
    pub fn leave_out(&mut self, is_dropped: &[bool]) {
        self.order.retain(|&row| !is_dropped[row as usize]);
    }

    /// About how many bytes the log records take.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes()
    }

    /// Service of the next record, and what it is sorted by besides.
    fn next(&self) -> Option<(&str, Key)> {
        let row = *self.order.get(self.next)? as usize;
        let key = (self.columns.event_time_ns(row), self.ids.of(row));
        Some((self.columns.origins.service.get(row), key))
    }
}

/// What the records of a service are sorted by.
type Key = (i64, RecordId);

/// Merges inputs, each of which is fed run by run in the order of its rows. A record that several inputs have, because its
/// request came again after it had been merged, is written once.
///
/// Memory is bounded by one run of each input and one unit.
#[derive(Debug)]
pub struct LogMerge {
    inputs: Vec<Input>,
    /// The service whose records are written.
    service: Option<String>,
    /// The next record of each input that is of this service.
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    /// The last record of this service that was written.
    last: Option<Key>,
    /// Log records that were left out, because another input has them too.
    pub n_duplicates: u64,
}

#[derive(Debug)]
enum Input {
    Starved,
    Fed(Box<LogRun>),
    Ended,
}

impl LogMerge {
    /// Of so many inputs.
    pub fn new(n_inputs: usize) -> Self {
        Self {
            inputs: (0..n_inputs).map(|_| Input::Starved).collect(),
            service: None,
            heads: BinaryHeap::new(),
            last: None,
            n_duplicates: 0,
        }
    }

    /// An input whose next run is needed.
    pub fn starved(&self) -> Option<usize> {
        self.inputs.iter().position(|input| matches!(input, Input::Starved))
    }

    /// Gives an input's next run; `None` if it has no more.
    pub fn feed(&mut self, input: usize, run: Option<LogRun>) {
        let Some(run) = run else {
            self.inputs[input] = Input::Ended;
            return;
        };
        let Some((service, key)) = run.next() else { return };
        if self.service.as_deref() == Some(service) {
            self.heads.push(Reverse((key, input)));
        }
        self.inputs[input] = Input::Fed(Box::new(run));
    }

    /// Writes log records until an input is starved, the file is full, or none is left; `false` in the last case. No input
    /// may be starved. A full file is left to the caller.
    pub fn write(&mut self, writer: &mut LogWriter, target_bytes: u64) -> bool {
        loop {
            let Some(&Reverse((key, at))) = self.heads.peek() else {
                if self.next_service() {
                    continue;
                }
                return false;
            };
            let Input::Fed(run) = &mut self.inputs[at] else { return false };
            let row = run.order[run.next] as usize;
            let may_be_copy = self.last == Some(key);
            if !may_be_copy && writer.is_unit_full(&run.transfer, &run.columns, row) {
                writer.close_unit();
                if writer.is_full(target_bytes) {
                    return true;
                }
                continue;
            }
            let service = self.service.as_deref().unwrap_or_default();
            if may_be_copy && writer.ends_with(&run.columns, row, &run.transfer) {
                self.n_duplicates += 1;
            } else {
                writer.push((service, key.1), &run.columns, row, &mut run.transfer);
                self.last = Some(key);
            }
            run.next += 1;
            self.heads.pop();
            match run.next() {
                None => {
                    self.inputs[at] = Input::Starved;
                    return true;
                }
                Some((next, key)) if next == service => self.heads.push(Reverse((key, at))),
                Some(_) => {}
            }
        }
    }

    /// Goes on to the least service that is left, if there is one.
    fn next_service(&mut self) -> bool {
        let nexts = self.inputs.iter().enumerate().filter_map(|(at, input)| match input {
            Input::Fed(run) => run.next().map(|(service, key)| (service, key, at)),
            Input::Starved | Input::Ended => None,
        });
        let least = nexts.clone().map(|(service, _, _)| service).min();
        let of_least = nexts.filter(|(service, _, _)| Some(*service) == least);
        self.heads.extend(of_least.map(|(_, key, at)| Reverse((key, at))));
        self.service = least.map(str::to_owned);
        self.last = None;
        self.service.is_some()
    }
}
