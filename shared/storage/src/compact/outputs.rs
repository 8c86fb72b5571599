//! What merges of all signals have in common: how inputs are read, in which windows outputs lie, how they are stored.

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use model::{Signal, TenantId};

use super::publish::{self, Output};
use crate::index::{FileKey, MAX_HEIRS, Window, hours_of_long_window, write_treated};
use crate::read::index::IndexedFile;
use crate::{Error, Result, Store};

/// How many objects are read at once.
const CONCURRENT_READS: usize = 16;
/// zstd's level for files that live long.
pub(super) const ZSTD_LEVEL: i32 = 3;
/// zstd's level for files of hours, which are merged again within a day: 3 takes twice the time for 3 %.
const HOURLY_ZSTD_LEVEL: i32 = 1;

/// What a merge did.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) outputs: Vec<Output>,
    pub(super) n_rows: u64,
    pub(super) n_duplicates: u64,
    pub(super) bytes_written: u64,
    pub(super) peak_held_bytes: u64,
}

/// Bytes of memory that each input's run takes, and how many all did at most.
#[derive(Debug)]
pub(super) struct Held {
    of_inputs: Vec<u64>,
    peak: u64,
}

impl Held {
    pub(super) fn new(n_inputs: usize) -> Self {
        Self { of_inputs: vec![0; n_inputs], peak: 0 }
    }

    /// Notes an input's next run.
    pub(super) fn note(&mut self, input: usize, memory_bytes: usize) {
        self.of_inputs[input] = memory_bytes as u64;
        self.peak = self.peak.max(self.of_inputs.iter().sum());
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

/// What was applied to each of these files.
pub(super) fn treatments_of_all(files: &[IndexedFile]) -> Vec<u64> {
    let Some((first, others)) = files.split_first() else { return Vec::new() };
    let is_of_all = |treatment: &&u64| others.iter().all(|file| file.treatments.contains(treatment));
    first.treatments.iter().filter(is_of_all).copied().collect()
}

/// Where and from what outputs are made.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) store: &'a Store,
    pub(super) tenant: &'a TenantId,
    pub(super) signal: Signal,
    pub(super) inputs: &'a [IndexedFile],
    /// That of the inputs, or the long one that they are brought into.
    pub(super) window: Window,
    pub(super) level: u8,
    pub(super) target_bytes: u64,
    /// Attributes of spans that get columns of their own, however few spans have them.
    pub(super) dense_attributes: &'a [String],
    /// What was applied to all that outputs have.
    pub(super) treatments: &'a [u64],
}

/// A file that is finished, and what its item says.
pub(super) struct Finished {
    pub(super) bytes: Bytes,
    pub(super) item: Vec<u8>,
    pub(super) n_rows: u64,
    /// First and last time or start, ns since the epoch.
    pub(super) range_ns: (i64, i64),
}

impl Job<'_> {
    /// zstd's level for outputs in a window.
    pub(super) fn zstd_level(window: Window) -> i32 {
        match window {
            Window::Hour(_) => HOURLY_ZSTD_LEVEL,
            Window::Hours { .. } | Window::Wide => ZSTD_LEVEL,
        }
    }

    /// Stores an output, whose name follows from the inputs and its number.
    pub(super) async fn store(
        &self,
        merged: &mut Merged,
        layout: &str,
        window: Window,
        file: Finished,
    ) -> Result<()> {
        let (min_start_ns, max_start_ns) = file.range_ns;
        let part = merged.outputs.len();
        let content = publish::content_of(self.tenant, self.signal, layout, self.inputs, part);
        let key = FileKey { signal: self.signal, level: self.level, min_start_ns, content };
        // What was wide may not be so any more.
        let window = if window == Window::Wide { Window::of(min_start_ns, max_start_ns) } else { window };
        merged.n_rows += file.n_rows;
        merged.bytes_written += file.bytes.len() as u64;
        publish::store_object(self.store, self.tenant, &key, file.bytes).await?;
        let item = write_treated(self.treatments, &file.item);
        merged.outputs.push(Output { key, window, item });
        Ok(())
    }

    /// The bytes of whole objects, in the order of `inputs`.
    pub(super) fn whole<'i>(&self, inputs: Vec<&'i IndexedFile>) -> impl Stream<Item = Result<Bytes>> + 'i
    where
        Self: 'i,
    {
        let Self { store, tenant, .. } = *self;
        let read = move |input: &'i IndexedFile| {
            let key = input.key.object(tenant);
            async move { store.objects.get(&key).await?.ok_or(Error::Missing { key }) }
        };
        let reads: Vec<_> = inputs.into_iter().map(read).collect();
        stream::iter(reads).buffered(CONCURRENT_READS)
    }

    /// The bytes of an input in a range.
    pub(super) async fn range(&self, input: &IndexedFile, range: std::ops::Range<u64>) -> Result<Bytes> {
        let key = input.key.object(self.tenant);
        self.store.objects.get_range(&key, range).await?.ok_or(Error::Missing { key })
    }
}

/// In which windows outputs lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slices {
    One(Window),
    /// By long window.
    Long {
        hours: u8,
    },
}

impl Slices {
    /// Of inputs in `window` with times from `first_ns` to `last_ns`. What reaches over too many long windows stays
    /// `wide`.
    pub(super) fn of(signal: Signal, window: Window, (first_ns, last_ns): (i64, i64)) -> Self {
        let slices = Self::Long { hours: hours_of_long_window(signal) };
        let n_slices = slices.number_of(last_ns).saturating_sub(slices.number_of(first_ns));
        match window {
            Window::Wide if n_slices < MAX_HEIRS as i64 / 2 => slices,
            window => Self::One(window),
        }
    }

    /// The slice in which a time lies.
    pub(super) fn number_of(self, time_ns: i64) -> i64 {
        match self {
            Self::One(_) => 0,
            Self::Long { .. } => time_ns.div_euclid(self.width_ns()),
        }
    }

    /// The width of slices.
    pub(super) fn width_ns(self) -> i64 {
        match self {
            Self::One(_) => i64::MAX,
            Self::Long { hours } => i64::from(hours) * model::time::HOUR_NS,
        }
    }

    /// The window of a slice.
    pub(super) fn window_of(self, slice: i64) -> Window {
        match self {
            Self::One(window) => window,
            Self::Long { hours } => Window::Hours { first: slice.saturating_mul(i64::from(hours)), n: hours },
        }
    }
}
