//! Plan, fetch, evaluate.
//!
//! 1. The index items of the windows that a question may touch are read (`index`); the plan keeps the files that may
//!    hold an answer, by time, service, operation, duration, status and trace ids, and which of their columns to read.
//! 2. Those columns are fetched in few, joined ranges (`fetch`).
//! 3. They are decoded and tested (`evaluate`): pure.
//!
//! Nothing of the index is kept and nothing polled: a question that starts after a write was acknowledged sees it.

/// What `$ask` gives; asked once more where an object was missing: it may have been deleted between the reading of its item
/// and its own, and then the index says by now where its rows are. A macro, because a function cannot say of a closure
/// that what it returns is `Send`.
macro_rules! again_if_missing {
    ($ask:expr) => {
        match $ask.await {
            Err(Error::Missing { .. }) => $ask.await,
            answer => answer,
        }
    };
}

mod evaluate;
mod expected;
mod fetch;
mod find;
pub(crate) mod index;
mod jobs;
mod links;
mod merged;
mod pages;
mod recent;
mod series;
mod traces;
mod windows;

use std::sync::Arc;

use model::spans::SpanView;
use model::{SpanColumns, TenantId, TraceId};

use crate::index::{keys, names};
use crate::kv::{Key, SortRange, range_all};
use crate::{Error, Result, Store};

pub use crate::index::names::Operation;
pub(crate) use evaluate::matching_texts;
pub use find::{FilePart, Hit, KeptMatches, Matches, Means, SearchWorkers};
pub use jobs::{Found, JobFile, SearchJob, Share, run_job};
pub use links::{ServiceLink, service_links};
pub use pages::{Position, SearchPage, search_page, search_page_with};
pub use recent::RecentTraces;
pub use series::{
    NamedFiles, Room, Selected, Selection, SeriesFiles, SeriesLimits, Steps, exemplars, label_names,
    label_sets, label_values, metadata, select, select_packed,
};
pub use traces::{search, search_with, traces_by_id};
pub use windows::{StoredWindow, retired, tenants, verify, windows};

/// How much one query may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Spans in the answer, or looked at for links between services.
    pub max_spans: u64,
    /// Bytes read from objects.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_spans: 2_000_000, max_bytes: 4 << 30 }
    }
}

/// Whole traces, over the blocks that hold their spans.
#[derive(Debug, Clone, Default)]
pub struct TraceSet {
    /// Decoded blocks.
    pub blocks: Vec<Arc<SpanColumns>>,
    /// The traces; a search gives the newest first.
    pub traces: Vec<Trace>,
}

/// One trace: where its spans are. Never without spans.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id.
    pub trace_id: TraceId,
    /// Block and row of each span, by start; a span that was stored twice is here once.
    pub spans: Vec<(u32, u32)>,
}

impl TraceSet {
    /// The spans of one of the traces, by start.
    pub fn spans<'a>(&'a self, trace: &'a Trace) -> impl Iterator<Item = SpanView<'a>> {
        trace.spans.iter().map(|&(block, row)| self.blocks[block as usize].span(row as usize))
    }
}

/// The services that have spans, sorted.
///
/// # Errors
/// As the stores.
pub async fn services(store: &Store, tenant: &TenantId) -> Result<Vec<String>> {
    let items = range_all(&*store.table, &keys::services_partition(tenant), SortRange::ALL).await?;
    Ok(items.into_iter().map(|(sort, _)| names::service_of(&sort).to_owned()).collect())
}

/// The operations of a service, sorted; none for an unknown service.
///
/// # Errors
/// As the stores.
pub async fn operations(store: &Store, tenant: &TenantId, service: &str) -> Result<Vec<Operation>> {
    if service.len() > names::MAX_NAME_BYTES {
        return Ok(Vec::new());
    }
    let key = Key::new(keys::services_partition(tenant), names::service_sort(service));
    let Some(item) = store.table.get(&key).await? else { return Ok(Vec::new()) };
    let names = names::Operations::parse(&item.value)
        .map_err(|err| Error::corrupt(format!("names of service {service}"), err))?;
    Ok(names.operations.into_iter().collect())
}
