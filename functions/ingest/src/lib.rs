//! Receives OTLP and Prometheus remote write over HTTP and stores them durably before it answers.
//!
//! request → rules of the protocol (`rules`) → body, bounded (`body`, `budget`) → decompress, hash, decode, sample,
//! encode (one piece of CPU work) → object and index → answer in the request's own format (`refusal`).
//! A 2xx is sent only after the data is stored and visible. Whatever goes wrong is an answer that tells the sender
//! whether to retry; nothing is answered with 500, which OTLP senders take for "drop it".

mod body;
mod budget;
mod cors;
mod metrics;
mod receive;
mod refusal;
mod rules;
mod series_guard;
mod settings;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Extracted};
use axum::response::Response;
use edge::guard::{Asked, Failure};
use edge::ledger::Ledger;
use storage::write::Writer;
use tokio::sync::Semaphore;
use wire::otlp::Format;

pub use cors::Origins;
pub use metrics::Metrics;
pub use rules::is_endpoint;
pub use settings::{Sampling, Settings};
pub use wire::Limits;
pub use wire::otlp::metrics::{Translation, TranslationStrategy};

use budget::Budget;
use refusal::{Protocol, Refusal};
use series_guard::SeriesGuard;

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    writer: Arc<Writer>,
    settings: Settings,
    budget: Budget,
    cpu: Arc<Semaphore>,
    metrics: Metrics,
    series: SeriesGuard,
    ledger: Arc<Ledger>,
}

/// The name of this function in logs and metrics.
const FUNCTION: &str = "ingest";

impl State {
    /// Ingestion into `writer`, whose storage calls are added up in `ledger`.
    pub fn new(writer: Arc<Writer>, settings: Settings, ledger: Arc<Ledger>) -> Self {
        let budget = Budget::new(settings.budget_bytes, settings.budget_wait);
        let cpu = Arc::new(Semaphore::new(settings.cpu_permits.max(1)));
        Self(Arc::new(Shared {
            writer,
            settings,
            budget,
            cpu,
            metrics: Metrics::default(),
            series: SeriesGuard::default(),
            ledger,
        }))
    }

    /// Appends what was counted to a page of metrics.
    pub fn write_metrics(&self, page: &mut edge::metrics::Page) {
        self.0.metrics.write(page, self.0.budget.held_bytes());
    }
}

/// Serves `POST <any prefix>/v1/traces`, `…/v1/metrics`, `…/v1/logs` and `…/api/v1/write`; everything else gets an answer
/// that says what to do instead.
pub fn router(state: State) -> Router {
    Router::new().fallback(serve).with_state(state)
}

/// A failure of the door in the form of OTLP: for [`edge::guard::Door`].
pub fn failure(asked: &Asked, failure: Failure) -> Response {
    let format =
        asked.content_type.as_ref().and_then(|value| Format::from_content_type(value.to_str().ok()?));
    let protocol = match rules::route(&asked.method, asked.uri.path()) {
        Ok(rules::Endpoint::RemoteWrite) => Protocol::RemoteWrite,
        _ => Protocol::Otlp(format),
    };
    match failure {
        Failure::Panicked => Refusal::Panicked.response(protocol),
        Failure::TooLate { after } => Refusal::TooLate { after }.response(protocol),
        Failure::TooLarge { .. } => edge::guard::plain_failure(asked, failure),
    }
}

async fn serve(Extracted(State(shared)): Extracted<State>, request: Request) -> Response {
    let origin = cors::allowed_origin(request.headers(), &shared.settings.origins);
    let mut response = match rules::route(request.method(), request.uri().path()) {
        Ok(_) if request.method() == http::Method::OPTIONS => {
            cors::preflight(request.headers(), origin.is_some())
        }
        Ok(endpoint) => receive::serve(&shared, request, endpoint).await,
        Err(refusal) => {
            shared.metrics.refused(&refusal);
            refusal.response(Protocol::Otlp(rules::format(request.headers())))
        }
    };
    if let Some(origin) = origin {
        cors::allow(&mut response, origin);
    }
    response
}
