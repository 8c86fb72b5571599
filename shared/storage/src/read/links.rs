//! Which service called which.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::FixedState;
use futures::stream::TryStreamExt as _;
use model::dictionary::Dictionary;
use model::{Signal, SpanColumns, SpanId, TenantId, TimeRange, TraceId};

use super::Limits;
use super::fetch::{self, Asker};
use super::index::{self, IndexedFile};
use crate::block::spans::{self, Projection, column};
use crate::{Error, Result, Store};

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

/// Calls between different services by spans that start in `range`, sorted. A span that was stored twice counts once.
///
/// # Errors
/// As the stores; over the limits.
pub async fn service_links(
    store: &Store,
    tenant: &TenantId,
    range: TimeRange,
    limits: &Limits,
) -> Result<Vec<ServiceLink>> {
    again_if_missing!(links_once(store, tenant, range, limits))
}

async fn links_once(
    store: &Store,
    tenant: &TenantId,
    range: TimeRange,
    limits: &Limits,
) -> Result<Vec<ServiceLink>> {
    let known = index::known_windows(store, tenant, Signal::Traces).await?;
    let files = index::files(store, tenant, Signal::Traces, index::windows_in(&known, range)).await?;
    let mut n_spans = 0;
    let mut wanted = Vec::new();
    for file in &files {
        let summary = file.summary()?;
        if summary.meets(range) {
            n_spans += summary.rows;
            wanted.push(file.clone());
        }
    }
    if n_spans > limits.max_spans {
        return Err(Error::OverLimit { limit: limits.max_spans, unit: "spans" });
    }
    let projection = const {
        Projection::of(&[
            column::START_TIME,
            column::SERVICE_NAME,
            column::SPAN_ID,
            column::PARENT_SPAN_ID,
            column::PARENT_DISTANCE,
        ])
    };
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let decode = |file: IndexedFile| {
        let asker = asker.clone();
        async move {
            let groups = asker.row_groups(&file).await?;
            let parts = asker.parts_of(&file, &groups, projection).await?;
            let decode = |table| spans::decode(table, &parts, projection);
            groups.iter().map(decode).collect::<Result<Vec<_>, _>>().map_err(|err| file.corrupt(err))
        }
    };
    let mut decoded = std::pin::pin!(fetch::each(wanted, fetch::CONCURRENT_TASKS, decode));
    let mut calls = Calls::default();
    while let Some(groups) = decoded.try_next().await? {
        for columns in groups {
            calls.add(&columns, range);
        }
    }
    Ok(calls.links())
}

/// Spans by identity, with their service and parent.
#[derive(Default)]
struct Calls {
    services: Dictionary,
    spans: HashMap<(TraceId, SpanId, u32), SpanId, FixedState>,
    service_of: HashMap<(TraceId, SpanId), u32, FixedState>,
}

impl Calls {
    fn add(&mut self, columns: &SpanColumns, range: TimeRange) {
        let positions: Vec<u32> =
            columns.origins.service.dictionary.iter().map(|service| self.services.intern(service)).collect();
        for row in 0..columns.len() {
            if !range.contains(columns.start_ns[row]) {
                continue;
            }
            let (trace, span) = (columns.trace_id[row], columns.span_id[row]);
            let service = positions[columns.origins.service.rows[row] as usize];
            // Zipkin's client and server spans share an id: the identity of a call includes the service.
            if let Entry::Vacant(vacant) = self.spans.entry((trace, span, service)) {
                vacant.insert(columns.parent_span_id[row]);
                // Whose of several the id is does not depend on the order of rows.
                let owner = self.service_of.entry((trace, span)).or_insert(service);
                if self.services.get(service) < self.services.get(*owner) {
                    *owner = service;
                }
            }
        }
    }

    fn links(self) -> Vec<ServiceLink> {
        let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
        for (&(trace, _, child), &parent_span) in &self.spans {
            if let Some(&parent) = self.service_of.get(&(trace, parent_span))
                && parent != child
            {
                *counts.entry((parent, child)).or_default() += 1;
            }
        }
        let name = |service: u32| self.services.get(service).to_owned();
        let mut links: Vec<ServiceLink> = counts
            .into_iter()
            .map(|((parent, child), call_count)| ServiceLink {
                parent: name(parent),
                child: name(child),
                call_count,
            })
            .collect();
        links.sort_unstable();
        links
    }
}
