//! The query function: answers Grafana and the Jaeger UI from what is stored.
//!
//! Each API is a module that parses its parameters (pure), reads through [`storage::read`], and renders its JSON (pure).
//! This crate knows HTTP; it never writes, and knows neither files nor keys.
//!
//! - `jaeger`: Jaeger's query API, v1 and v3. `prometheus`: Prometheus' query API.
//! - `form`: query strings; `reads`: what is read of storage; `respond`: bodies.

pub mod jaeger;
pub mod prometheus;

mod form;
mod reads;
mod respond;

use std::sync::Arc;
use std::time::Duration;

use edge::ledger::Ledger;

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
