//! The query function: answers Grafana and the Jaeger UI from what is stored.
//!
//! Each API is a module that parses its parameters (pure), reads through [`storage::read`], and renders its JSON (pure).
//! This crate knows HTTP; it never writes, and knows neither files nor keys.
//!
//! - `jaeger`: Jaeger's query API, v1 and v3. `prometheus`: Prometheus' query API.
//! - `fanout`: large queries, split among copies of this function. `searches`: what they found, kept.
//! - `form`: query strings; `reads`: what is read of storage; `respond`: bodies; `token`: where a page begins; `kept`: values
//!   up to a number of bytes.

pub mod fanout;
pub mod jaeger;
pub mod prometheus;

mod form;
mod kept;
mod reads;
mod respond;
mod searches;
mod token;

use std::sync::Arc;
use std::time::Duration;

use edge::ledger::Ledger;
use edge::metrics::Page;

use fanout::Fanout;
pub use searches::Searches;

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
    /// What is kept of what searches for traces found, if anything is.
    pub searches: Option<Arc<Searches>>,
    /// Among whom queries are split, if they are.
    pub fanout: Option<Arc<Fanout>>,
}

impl State {
    /// Appends what became of range queries and searches, as far as results of them are kept, and of jobs.
    pub fn write_metrics(&self, page: &mut Page) {
        if let Some(results) = &self.results {
            let counts = results.counts();
            page.counters(
                "spandrel_result_cache_steps_total",
                "Steps of range queries that may be kept, by whether they were.",
                &[(HIT, counts.cached_steps), (MISS, counts.evaluated_steps)],
            );
            page.counters(
                "spandrel_result_cache_evictions_total",
                "Blocks of results for which there was no room any more.",
                &[("", counts.evictions)],
            );
            let help = "Bytes of results that are kept.";
            page.gauges("spandrel_result_cache_bytes", help, &[("", counts.bytes)]);
        }
        if let Some(searches) = &self.searches {
            let counts = searches.counts();
            page.counters(
                "spandrel_search_cache_files_total",
                "Files that searches had to look at, by whether it was kept what they have.",
                &[(HIT, counts.hits), (MISS, counts.misses)],
            );
            page.counters(
                "spandrel_search_cache_evictions_total",
                "Files of searches for which there was no room any more.",
                &[("", counts.evictions)],
            );
            let help = "Bytes of what searches found that are kept.";
            page.gauges("spandrel_search_cache_bytes", help, &[("", counts.bytes)]);
        }
        if let Some(fanout) = &self.fanout {
            let counts = fanout.counts();
            page.counters(
                "spandrel_query_jobs_total",
                "Parts of queries that were given to workers: first, again because slow, again because failed.",
                &[
                    (r#"start="first""#, counts.jobs),
                    (r#"start="hedge""#, counts.hedges),
                    (r#"start="retry""#, counts.retries),
                ],
            );
        }
    }
}

const HIT: &str = r#"result="hit""#;
const MISS: &str = r#"result="miss""#;

/// The name of this function in logs and metrics.
const FUNCTION: &str = "query";

/// All query APIs for the one endpoint: Jaeger's at `/jaeger/api/…`, Prometheus' at `/prometheus/api/v1/…`, and both
/// without these prefixes for clients that take no path.
///
/// It has no page at `/` and no fallback, so that it can be merged with other routers.
pub fn router(state: State) -> axum::Router {
    jaeger::api_and_prefix(state.clone()).merge(prometheus::api_and_prefix(state))
}
