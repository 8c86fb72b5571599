//! Plan, fetch, evaluate (stub: being written).

use std::sync::Arc;

use model::search::TraceSearch;
use model::spans::SpanView;
use model::{SpanColumns, TenantId, TimeRange, TraceId};

use crate::{Result, Store};

/// How much one query may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Spans in the answer.
    pub max_spans: u64,
    /// Bytes read from objects.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_spans: 1_000_000, max_bytes: 4 << 30 }
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

/// A name under which a service has spans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation {
    /// The spans' name.
    pub name: String,
    /// The spans' kind by OTLP's numbers.
    pub kind: i32,
}

/// How often one service called another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceLink {
    /// The caller.
    pub parent: String,
    /// The called.
    pub child: String,
    /// Spans of `child` whose parent is a span of `parent`.
    pub call_count: u64,
}

/// The traces with these ids that exist, at any age, whole, in the order of `ids`.
///
/// # Errors
/// As the stores; over the limits.
pub async fn traces_by_id(_store: &Store, _tenant: &TenantId, _ids: &[TraceId], _limits: &Limits) -> Result<TraceSet> {
    unimplemented!()
}

/// The newest traces with a span that meets all conditions, whole, newest first.
///
/// # Errors
/// As the stores; over the limits.
pub async fn search(_store: &Store, _tenant: &TenantId, _search: &TraceSearch, _limits: &Limits) -> Result<TraceSet> {
    unimplemented!()
}

/// The services that have spans, sorted.
///
/// # Errors
/// As the stores.
pub async fn services(_store: &Store, _tenant: &TenantId) -> Result<Vec<String>> {
    unimplemented!()
}

/// The operations of a service, sorted.
///
/// # Errors
/// As the stores.
pub async fn operations(_store: &Store, _tenant: &TenantId, _service: &str) -> Result<Vec<Operation>> {
    unimplemented!()
}

/// Calls between services by spans that start in `range`, sorted.
///
/// # Errors
/// As the stores; over the limits.
pub async fn service_links(_store: &Store, _tenant: &TenantId, _range: TimeRange, _limits: &Limits) -> Result<Vec<ServiceLink>> {
    unimplemented!()
}
