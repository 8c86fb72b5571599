//! Jaeger's query API: v1 for Grafana and older UIs, v3 for newer ones.
//!
//! A request passes through the tenant's name, the query string, the parameters (`params`), one or two reads within
//! the timeout, and the rendering (`v1`, `v3`); what goes wrong becomes one of few kinds of error (`error`).
//! Our own search, page by page, is here too: it has the words of v1 and the summaries of v3.
//! Every endpoint only reads: archiving and metrics answer that there is no such storage.
//!
//! - `params`, with `go` and `tags`: what is asked for.
//! - `v1`, with `adjust` and `terms`; `v3`: what is answered.
//! - `error`: statuses and bodies of errors.

mod adjust;
mod error;
mod go;
mod params;
mod tags;
mod terms;
mod v1;
mod v3;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State as Extension;
use axum::response::{Html, Response};
use axum::routing::{any, get, post};
use edge::guard::{RequestId, Served};
use edge::ledger::Ledger;
use http::StatusCode;
use http::request::Parts;
use model::search::TraceSearch;
use model::time::SECOND_NS;
use model::{SpanColumns, TenantId, TraceId};
use storage::read::{Limits, Operation, Position, SearchPage, ServiceLink, Trace, TraceSet};
use wire::otlp::Format;

use self::adjust::Adjust;
use self::error::{Error, Version};
use self::params::{ParamError, Search};
use self::v1::Partial;
use crate::fanout::{Asker, Fanout, Tally};
use crate::form::{self, Form, Plus};
use crate::reads::Reads;
use crate::respond;
use crate::token::Token;
use crate::{Searches, State};

/// The page at `/` of the classical port.
const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Spandrel: Jaeger query API</title></head>\n\
<body><h1>Spandrel: Jaeger query API</h1>\n\
<p>Jaeger's query API is served here under <code>/api</code>. The Jaeger UI is not bundled.</p>\n\
<p>Grafana: add a data source of type Jaeger with the URL of this page.<br>\n\
Jaeger UI: run it with its API proxied to this address.</p>\n\
</body></html>\n";

/// Our own search, page by page.
const SEARCH_PATH: &str = "/spandrel/api/v1/search/traces";

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    reads: Arc<dyn Reads>,
    limits: Limits,
    timeout: Duration,
    clock: fn() -> i64,
    ledger: Arc<Ledger>,
    searches: Option<Arc<Searches>>,
    fanout: Option<Arc<Fanout>>,
}

impl From<State> for Shared {
    fn from(state: State) -> Self {
        Self {
            reads: Arc::new(state.store),
            limits: state.limits,
            timeout: state.timeout,
            clock: state.clock,
            ledger: state.ledger,
            searches: state.searches,
            fanout: state.fanout,
        }
    }
}

/// Everything that Jaeger's query port (16686) serves, at the root.
pub fn router(state: State) -> Router {
    port(state.into())
}

/// The API at the root, everything under `/jaeger`, and our own search.
pub(crate) fn api_and_prefix(state: State) -> Router {
    routes(state.into())
}

fn routes(shared: Shared) -> Router {
    let own = Router::new().route(SEARCH_PATH, get(search_page)).with_state(shared.clone());
    api(shared.clone()).nest("/jaeger", port(shared)).merge(own)
}

fn port(shared: Shared) -> Router {
    api(shared)
        .route("/", get(async || Html(PAGE)))
        .fallback(async || respond::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()))
}

fn api(shared: Shared) -> Router {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/services/{*service_operations}", get(service_operations))
        .route("/api/operations", get(operations))
        .route("/api/traces", get(search))
        .route("/api/traces/{id}", get(trace))
        .route("/api/archive/{id}", post(archive))
        .route("/api/transform", post(transform))
        .route("/api/dependencies", get(dependencies))
        .route("/api/metrics/latencies", get(metrics))
        .route("/api/metrics/calls", get(metrics))
        .route("/api/metrics/errors", get(metrics))
        .route("/api/metrics/minstep", get(metrics))
        .route("/api/v3/services", get(services_v3))
        .route("/api/v3/operations", get(operations_v3))
        .route("/api/v3/traces", get(search_v3))
        .route("/api/v3/traces/{id}", get(trace_v3))
        .route("/api/v3/trace-summaries", get(summaries_v3))
        .route("/api/{*unknown}", any(unknown))
        .with_state(shared)
}

/// What a handler works with: the decoded request, and storage whose calls are counted.
struct Call {
    reads: Arc<dyn Reads>,
    limits: Limits,
    tenant: TenantId,
    form: Form,
    now_ns: i64,
    asker: Asker,
}

impl Call {
    async fn traces_by_id(&self, ids: &[TraceId]) -> Result<TraceSet, Error> {
        let now_s = u64::try_from(self.now_ns / SECOND_NS).unwrap_or(0);
        Ok(self.reads.traces_by_id(&self.tenant, ids, now_s, &self.limits).await?)
    }

    async fn search(&self, search: &TraceSearch) -> Result<TraceSet, Error> {
        let aid = self.asker.aid(search);
        Ok(self.reads.search(&self.tenant, search, &self.limits, aid.means()).await?)
    }

    async fn search_page(&self, search: &TraceSearch, after: Option<Position>) -> Result<SearchPage, Error> {
        let aid = self.asker.aid(search);
        Ok(self.reads.search_page(&self.tenant, search, after, &self.limits, aid.means()).await?)
    }

    async fn services(&self) -> Result<Vec<String>, Error> {
        Ok(self.reads.services(&self.tenant).await?)
    }

    /// The operations of the service that clients see under this name.
    async fn operations(&self, service: &str) -> Result<Vec<Operation>, Error> {
        Ok(self.reads.operations(&self.tenant, terms::service_stored(service)).await?)
    }
}

/// Runs the work of one request: decodes it, counts what it costs, bounds its time, logs, and writes its errors.
async fn answer<F, Fut>(shared: Shared, version: Version, parts: Parts, work: F) -> Response
where
    F: FnOnce(Call) -> Fut,
    Fut: Future<Output = Result<String, Error>>,
{
    let path = parts.uri.path();
    let tenant = edge::tenant(&parts.headers);
    let form = Form::parse(parts.uri.query().unwrap_or(""));
    let (tenant, form) = match (tenant, form) {
        (Ok(tenant), Ok(form)) => (tenant, form),
        (Err(err), _) => return error::respond(version, &Error::Tenant(err)),
        (_, Err(err)) => return error::respond(version, &Error::Parameter(err.into())),
    };
    let is_pretty = version == Version::V1 && !matches!(form.first("prettyPrint"), "" | "false");
    let calls = shared.ledger.calls(crate::FUNCTION, Some(&tenant));
    let tally: Arc<Tally> = Arc::default();
    let asker = Asker {
        fanout: shared.fanout,
        searches: shared.searches,
        tenant: tenant.clone(),
        request_id: parts.extensions.get::<RequestId>().map_or_else(String::new, |id| id.0.to_string()),
        deadline: tokio::time::Instant::now() + shared.timeout,
        tally: Arc::clone(&tally),
    };
    let call = Call {
        reads: shared.reads.metered(&calls),
        limits: shared.limits,
        tenant: tenant.clone(),
        form,
        now_ns: (shared.clock)(),
        asker,
    };
    let timed = tokio::time::timeout(shared.timeout, work(call)).await;
    let answer = timed.unwrap_or(Err(Error::TimedOut(shared.timeout)));

    let status = answer.as_ref().map_or_else(Error::status, |_| StatusCode::OK);
    let mut response = match answer {
        Ok(body) if is_pretty => respond::json(StatusCode::OK, respond::pretty(&body)),
        Ok(body) => respond::json(StatusCode::OK, body),
        Err(err) => {
            if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
                tracing::warn!(path, %tenant, status = status.as_u16(), error = ?err, "query failed");
            }
            error::respond(version, &err)
        }
    };
    let extensions = response.extensions_mut();
    extensions.insert(Served { function: crate::FUNCTION, tenant: Some(tenant), usage: calls.usage() });
    extensions.insert(tally.spread());
    response
}

/// `GET /api/services`.
async fn services(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V1, parts, async |call| {
        let services = call.services().await?;
        Ok(v1::names(&shown_services(&services)))
    })
    .await
}

/// `GET /api/v3/services`.
async fn services_v3(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V3, parts, async |call| {
        let services = call.services().await?;
        Ok(v3::services(&shown_services(&services)))
    })
    .await
}

/// The names that clients see, sorted, each once.
fn shown_services(stored: &[String]) -> Vec<&str> {
    let mut shown: Vec<&str> = stored.iter().map(|service| terms::service_shown(service)).collect();
    shown.sort_unstable();
    shown.dedup();
    shown
}

/// `GET /api/services/{service}/operations`: the names of operations, each once.
///
/// The service is everything between the two ends: some clients do not escape its slashes, and API Gateway undoes
/// the escapes of others.
async fn service_operations(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    let path = parts.uri.path().strip_prefix("/api/services/");
    let service = path.and_then(|rest| rest.trim_end_matches('/').strip_suffix("/operations"));
    let service = match service {
        None | Some("") => return not_found(),
        Some(raw) => form::decode(raw, Plus::Space),
    };
    answer(shared, Version::V1, parts, async |call| {
        let service = service.map_err(ParamError::Form)?;
        let operations = call.operations(&service).await?;
        let mut names: Vec<&str> = operations.iter().map(|operation| operation.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(v1::names(&names))
    })
    .await
}

/// `GET /api/operations`: names and span kinds.
async fn operations(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V1, parts, async |call| {
        let service = call.form.first("service");
        if service.is_empty() {
            return Err(ParamError::Required("service").into());
        }
        let mut operations = call.operations(service).await?;
        let kind = call.form.first("spanKind");
        if !kind.is_empty() {
            operations.retain(|operation| terms::kind_number(kind) == Some(operation.kind));
        }
        Ok(v1::operations(&operations))
    })
    .await
}

/// `GET /api/v3/operations`. Without a service there are none, as in Jaeger; operations without a kind count as
/// internal, under which name they are shown.
async fn operations_v3(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V3, parts, async |call| {
        let service = call.form.first("service");
        let mut operations = match service {
            "" => Vec::new(),
            service => call.operations(service).await?,
        };
        let kind = params::span_kind_v3(&call.form);
        if !kind.is_empty() {
            let kind = terms::kind_number(kind);
            operations.retain(|operation| {
                kind == Some(operation.kind) || kind == terms::kind_number("internal") && operation.kind == 0
            });
        }
        Ok(v3::operations(&operations))
    })
    .await
}

/// `GET /api/traces`: by ids, with those that are missing named beside the others, or by a search.
async fn search(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V1, parts, async |call| {
        let (search, raw) = params::search(&call.form, call.now_ns)?;
        match search {
            Search::Ids(ids) => {
                let set = call.traces_by_id(&ids).await?;
                let is_found = |id: &TraceId| set.traces.iter().any(|trace| trace.trace_id == *id);
                let missing: Vec<Partial> =
                    ids.iter().filter(|id| !is_found(id)).copied().map(Partial::NotFound).collect();
                Ok(v1::traces(&set, adjust(raw), &missing))
            }
            Search::Matching(search) => Ok(v1::traces(&call.search(&search).await?, adjust(raw), &[])),
        }
    })
    .await
}

fn adjust(raw: bool) -> Adjust {
    if raw { Adjust::Raw } else { Adjust::Standard }
}

/// `GET /api/traces/{id}`.
async fn trace(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    let id = last_segment(&parts);
    answer(shared, Version::V1, parts, async |call| {
        let id = go::trace_id(&id?).map_err(ParamError::Bare)?;
        let raw = params::trace_by_id(&call.form)?;
        let set = call.traces_by_id(&[id]).await?;
        if set.traces.iter().all(|trace| trace.spans.is_empty()) {
            return Err(Error::TraceNotFound);
        }
        Ok(v1::traces(&set, adjust(raw), &[]))
    })
    .await
}

/// The last segment of the path, decoded here so that a wrong one gets an error of the API's form.
fn last_segment(parts: &Parts) -> Result<String, ParamError> {
    let path = parts.uri.path();
    let segment = path.rsplit_once('/').map_or(path, |(_, segment)| segment);
    Ok(form::decode(segment, Plus::Plus)?)
}

/// `GET /api/v3/traces/{trace_id}`.
async fn trace_v3(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    let id = last_segment(&parts);
    answer(shared, Version::V3, parts, async |call| {
        let id = params::trace_by_id_v3(&id?, &call.form)?;
        v3::traces(&call.traces_by_id(&[id]).await?).ok_or(Error::NoTraces)
    })
    .await
}

/// `GET /api/v3/traces`.
async fn search_v3(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V3, parts, async |call| {
        let search = params::search_v3(&call.form)?;
        v3::traces(&call.search(&search).await?).ok_or(Error::NoTraces)
    })
    .await
}

/// `GET /api/v3/trace-summaries`.
async fn summaries_v3(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V3, parts, async |call| {
        let search = params::search_v3(&call.form)?;
        Ok(v3::summaries(&call.search(&search).await?))
    })
    .await
}

/// `GET /spandrel/api/v1/search/traces`: summaries of the newest traces, and a token for those behind them.
async fn search_page(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V3, parts, async |call| {
        let (search, after, question) = params::search_page(&call.form, &call.tenant, call.now_ns)?;
        let page = call.search_page(&search, after).await?;
        let next = page.next.map(|after| Token { question, range: search.range, after }.encode());
        Ok(v3::page(&page.set, next.as_deref(), call.asker.tally.spread()))
    })
    .await
}

/// `GET /api/dependencies`: calls between services, of one service if `service` names it.
async fn dependencies(Extension(shared): Extension<Shared>, parts: Parts) -> Response {
    answer(shared, Version::V1, parts, async |call| {
        let range = params::dependencies(&call.form, call.now_ns)?;
        let stored = if range.start_ns < range.end_ns_exclusive {
            call.reads.service_links(&call.tenant, range, &call.limits).await?
        } else {
            Vec::new()
        };
        let service = call.form.first("service");
        let mut links: Vec<ServiceLink> = Vec::new();
        for link in stored {
            let parent = terms::service_shown(&link.parent);
            let child = terms::service_shown(&link.child);
            if !service.is_empty() && service != parent && service != child {
                continue;
            }
            match links.iter_mut().find(|other| other.parent == parent && other.child == child) {
                Some(other) => other.call_count += link.call_count,
                None => links.push(ServiceLink {
                    parent: parent.to_owned(),
                    child: child.to_owned(),
                    call_count: link.call_count,
                }),
            }
        }
        Ok(v1::dependencies(&links))
    })
    .await
}

/// `GET /api/metrics/…`: there is no metrics storage behind this API.
async fn metrics() -> Response {
    error::respond(Version::V1, &Error::NoMetrics)
}

/// `POST /api/archive/{id}`: there is no archive; a trace stays for as long as retention says.
async fn archive() -> Response {
    error::respond(Version::V1, &Error::NoArchive)
}

/// `POST /api/transform`: OTLP JSON to v1 JSON, as it is; nothing is stored.
async fn transform(Extension(shared): Extension<Shared>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    answer(shared, Version::V1, parts, async |_| {
        let limits = wire::Limits::default();
        let body = read_body(body, limits.max_body_bytes).await?;
        let decoded = wire::otlp::decode_traces(&body, Format::Json, &limits).map_err(|err| match err {
            wire::Error::TooLarge { limit } => Error::BodyTooLarge { limit },
            other => Error::Body(other.to_string()),
        })?;
        let rejected = match decoded.rejected_spans {
            0 => Vec::new(),
            n => vec![Partial::Message(format!("{n} invalid spans left out: {}", decoded.error_message))],
        };
        Ok(v1::traces(&group_by_trace(decoded.columns), Adjust::Raw, &rejected))
    })
    .await
}

async fn read_body(body: Body, limit: usize) -> Result<bytes::Bytes, Error> {
    // Of the errors of a body only "too long" can still be answered.
    axum::body::to_bytes(body, limit).await.map_err(|_| Error::BodyTooLarge { limit })
}

/// The traces in a batch, in order of first appearance.
fn group_by_trace(columns: SpanColumns) -> TraceSet {
    let mut traces: Vec<Trace> = Vec::new();
    let mut index_of: HashMap<TraceId, usize> = HashMap::new();
    for (row, &trace_id) in columns.trace_id.iter().enumerate() {
        let index = *index_of.entry(trace_id).or_insert_with(|| {
            traces.push(Trace { trace_id, spans: Vec::new() });
            traces.len() - 1
        });
        traces[index].spans.push((0, row as u32));
    }
    TraceSet { blocks: vec![Arc::new(columns)], traces }
}

/// Any other path under `/api`: never a page, which clients would take for an answer.
async fn unknown() -> Response {
    not_found()
}

fn not_found() -> Response {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}
