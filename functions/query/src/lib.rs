//! The query function: answers Grafana and the Jaeger UI from what is stored.
//!
//! Each API is a module that parses its parameters (pure), reads through [`storage::read`], and renders its JSON (pure).
//! This crate knows HTTP; it never writes, and knows neither files nor keys.
//!
//! - `jaeger`: Jaeger's query API, v1 and v3. `prometheus`: Prometheus' query API.
//! - `form`: query strings; `reads`: what is read of storage; `respond`: bodies; `token`: where a page begins.

pub mod jaeger;
pub mod prometheus;

mod form;
mod reads;
mod respond;
mod token;

use std::sync::Arc;
use std::time::Duration;

use edge::ledger::Ledger;
use edge::metrics::Page;

/// What the handlers work with.
#[derive(Clone)]
pub struct State {
    /// Where the data is.
    pub store: storage::Store,
    /// How much one query may read.
    pub limits: storage::read::Limits,
    /// How long one query may take.
    pub timeout: Duration,
    /// The time now, in ns since the epoch.
    pub clock: fn() -> i64,
    /// Where storage calls are added up.
    pub ledger: Arc<Ledger>,
    /// What is kept of the results of PromQL range queries, if anything is.
    pub results: Option<Arc<prometheus::Results>>,
}

impl State {
    /// Appends what became of range queries, if results of them are kept.
    pub fn write_metrics(&self, page: &mut Page) {
        let Some(results) = &self.results else { return };
        let counts = results.counts();
        page.counters(
            "spandrel_result_cache_steps_total",
            "Steps of range queries that may be kept, by whether they were.",
            &[(r#"result="hit""#, counts.cached_steps), (r#"result="miss""#, counts.evaluated_steps)],
        );
        page.counters(
            "spandrel_result_cache_evictions_total",
            "Blocks of results for which there was no room any more.",
            &[("", counts.evictions)],
        );
        page.gauges("spandrel_result_cache_bytes", "Bytes of results that are kept.", &[("", counts.bytes)]);
    }
}

/// The name of this function in logs and metrics.
const FUNCTION: &str = "query";

/// All query APIs for the one endpoint: Jaeger's at `/jaeger/api/…`, Prometheus' at `/prometheus/api/v1/…`, and both
/// without these prefixes for clients that take no path.
///
/// It has no page at `/` and no fallback, so that it can be merged with other routers.
pub fn router(state: State) -> axum::Router {
    jaeger::api_and_prefix(state.clone()).merge(prometheus::api_and_prefix(state))
}
