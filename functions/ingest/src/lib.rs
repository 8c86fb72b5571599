//! Receives OTLP and Prometheus remote write over HTTP and stores them durably before it answers.
//!
//! request → rules of the protocol (`rules`) → body, bounded (`body`, `budget`) → decompress, hash, decode,
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

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as Extracted};
use axum::response::Response;
use edge::guard::{Asked, Failure};
use storage::write::Writer;
use tokio::sync::Semaphore;
use wire::otlp::Format;
use wire::otlp::metrics::Translation;

pub use cors::Origins;
pub use metrics::Metrics;
pub use rules::is_endpoint;
pub use wire::Limits;

use budget::Budget;
use refusal::{Protocol, Refusal};

/// What bounds ingestion.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds of one request.
    pub limits: Limits,
    /// Bytes of bodies, compressed and decompressed, that all requests together may hold.
    pub budget_bytes: usize,
    /// How long a request waits for its part of the budget before it is sent away with "retry later".
    pub budget_wait: Duration,
    /// How long a request may take from its first byte to its answer.
    pub timeout: Duration,
    /// Bodies up to this size are decoded on the thread that received them; larger ones on a thread of their own, so
    /// that they do not hold up other connections. 1 MiB of OTLP takes about 5 ms, a hop 20 µs.
    pub inline_bytes: usize,
    /// Larger bodies that are decoded at once.
    pub cpu_permits: usize,
    /// Web pages that may send telemetry from a browser.
    pub origins: Origins,
    /// How metrics of OTLP become series.
    pub translation: Translation,
}

/// Resource attributes that become labels of every series: those that Prometheus' guide to OpenTelemetry recommends.
/// Source: prometheus.io, "Using Prometheus as your OpenTelemetry backend".
const PROMOTED: [&str; 18] = [
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.statefulset.name",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            budget_bytes: 256 << 20,
            budget_wait: Duration::from_secs(2),
            timeout: Duration::from_secs(25),
            inline_bytes: 1 << 20,
            cpu_permits: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            origins: Origins::Any,
            translation: Translation {
                promote_resource_attributes: PROMOTED.map(str::to_owned).to_vec(),
                ..Translation::default()
            },
        }
    }
}

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    writer: Arc<Writer>,
    settings: Settings,
    budget: Budget,
    cpu: Arc<Semaphore>,
    metrics: Metrics,
}

impl State {
    /// Ingestion into `writer`.
    pub fn new(writer: Arc<Writer>, settings: Settings) -> Self {
        let budget = Budget::new(settings.budget_bytes, settings.budget_wait);
        let cpu = Arc::new(Semaphore::new(settings.cpu_permits.max(1)));
        Self(Arc::new(Shared { writer, settings, budget, cpu, metrics: Metrics::default() }))
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
