//! Prometheus' HTTP API: queries, lookups, metadata, exemplars, and what Grafana probes.
//!
//! A request passes through the tenant's name, query string and form (`crate::form`, merged), the parameters
//! (`params`), plan → fetch → evaluate within the timeout (`query`), and the rendering (`json`, `answer`).
//! What goes wrong becomes one of few kinds of error (`error`). It never writes.
//!
//! - `remote_read`: samples for a Prometheus that evaluates by itself.
//! - `params`: what is asked for. `lookup`: series, labels, values, metadata, exemplars. `query`: expressions. `blocks`,
//!   `results`: parts of range queries that are kept.
//! - `json`, `tree`, `answer`: what is answered. `status`: what describes a server.
//! - `error`: statuses and bodies of errors.

mod answer;
mod blocks;
mod error;
mod json;
mod lookup;
mod params;
mod query;
mod remote_read;
mod results;
mod status;
mod tree;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as Extension};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get, post};
use edge::guard::{RequestId, Served};
use edge::ledger::Ledger;
use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN};
use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, ORIGIN, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::TenantId;
use storage::Store;
use storage::read::Limits;

pub(crate) use self::blocks::run_job;
pub use self::results::{Counts, Results};

use self::answer::Answer;
use self::error::Error;
use crate::State;
use crate::fanout::{Asker, Fanout, Tally};
use crate::form::Form;
use crate::respond;

/// The page at `/` of the classical port.
const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Spandrel: Prometheus API</title></head>\n\
<body><h1>Spandrel: Prometheus API</h1>\n\
<p>Prometheus' HTTP API is served here under <code>/api/v1</code>; remote write goes to <code>/api/v1/write</code>.</p>\n\
<p>Grafana: add a data source of type Prometheus with the URL of this page.</p>\n\
</body></html>\n";
/// The longest form in a body.
const MAX_FORM_BYTES: usize = 10 << 20;
/// How long a query may take unless the request or the server's own limit says less.
const MAX_TIMEOUT: Duration = Duration::from_mins(2);

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    store: Store,
    limits: Limits,
    timeout: Duration,
    clock: fn() -> i64,
    ledger: Arc<Ledger>,
    results: Option<Arc<Results>>,
    fanout: Option<Arc<Fanout>>,
}

impl From<State> for Shared {
    fn from(state: State) -> Self {
        Self {
            store: state.store,
            limits: state.limits,
            timeout: state.timeout.min(MAX_TIMEOUT),
            clock: state.clock,
            ledger: state.ledger,
            results: state.results,
            fanout: state.fanout,
        }
    }
}

/// Everything that Prometheus' port (9090) serves to those who ask, at the root.
pub fn router(state: State) -> Router {
    port(state.into())
}

/// The API at the root, and everything under `/prometheus`.
pub(crate) fn api_and_prefix(state: State) -> Router {
    let shared = Shared::from(state);
    api(shared.clone()).nest("/prometheus", port(shared))
}

fn port(shared: Shared) -> Router {
    api(shared)
        .route("/", get(async || Html(PAGE)))
        .fallback(async || respond::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()))
}

fn api(shared: Shared) -> Router {
    /// An endpoint for GET, POST and OPTIONS, or for GET and OPTIONS.
    fn both(work: MethodRouter<Shared>) -> MethodRouter<Shared> {
        work.options(preflight)
    }
    Router::new()
        .route("/api/v1/query", both(get(instant).post(instant)))
        .route("/api/v1/query_range", both(get(range).post(range)))
        .route("/api/v1/read", post(remote_read::remote_read))
        .route("/api/v1/query_exemplars", both(get(exemplars).post(exemplars)))
        .route("/api/v1/format_query", both(get(format_query).post(format_query)))
        .route("/api/v1/parse_query", both(get(parse_query).post(parse_query)))
        .route("/api/v1/series", both(get(series).post(series)))
        .route("/api/v1/labels", both(get(label_names).post(label_names)))
        .route("/api/v1/label/{name}/values", both(get(label_values)))
        .route("/api/v1/metadata", both(get(metadata)))
        .route("/api/v1/rules", both(get(rules)))
        .route("/api/v1/alerts", both(get(alerts)))
        .route("/api/v1/targets", both(get(targets)))
        .route("/api/v1/targets/metadata", both(get(target_metadata)))
        .route("/api/v1/scrape_pools", both(get(scrape_pools)))
        .route("/api/v1/alertmanagers", both(get(alertmanagers)))
        .route("/api/v1/status/buildinfo", both(get(build_info)))
        .route("/api/v1/status/runtimeinfo", both(get(runtime_info)))
        .route("/api/v1/status/flags", both(get(flags)))
        .route("/api/v1/status/config", both(get(config)))
        .route("/api/v1/status/tsdb", both(get(tsdb)))
        .route("/api/v1/status/walreplay", both(get(wal_replay)))
        .route("/api/v1/{*unknown}", any(unknown))
        .with_state(shared)
}

/// What a handler works with: the decoded request, and storage whose calls are counted.
struct Call {
    store: Store,
    limits: Limits,
    tenant: TenantId,
    form: Form,
    path: String,
    now_ms: i64,
    timeout: Duration,
    results: Option<Arc<Results>>,
    asker: Asker,
}

/// Runs the work of one request: decodes it, counts what it costs, bounds its time, and writes its errors.
async fn answer<F, Fut>(shared: Shared, request: Request, work: F) -> Response
where
    F: FnOnce(Call) -> Fut,
    Fut: Future<Output = Result<Answer, Error>>,
{
    let origin = request.headers().get(ORIGIN).cloned();
    let path = request.uri().path().to_owned();
    let request_id = request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.to_string());
    let tally: Arc<Tally> = Arc::default();
    let tenant = edge::tenant(request.headers());
    let calls = shared.ledger.calls(crate::FUNCTION, tenant.as_ref().ok());
    let answered = async {
        let tenant = tenant.clone()?;
        let form = form_of(request).await?;
        let timeout = params::duration_ms(&form, "timeout")?;
        let timeout =
            timeout.map_or(shared.timeout, |ms| Duration::from_millis(ms.max(0) as u64).min(shared.timeout));
        let asker = Asker {
            fanout: shared.fanout.clone(),
            searches: None,
            tenant: tenant.clone(),
            request_id,
            deadline: tokio::time::Instant::now() + timeout,
            tally: Arc::clone(&tally),
        };
        let call = Call {
            store: shared.store.metered(&calls),
            limits: shared.limits,
            tenant,
            form,
            path: path.clone(),
            now_ms: (shared.clock)().div_euclid(1_000_000),
            timeout,
            results: shared.results.clone(),
            asker,
        };
        let timed = tokio::time::timeout(timeout, work(call)).await;
        timed.unwrap_or(Err(Error::Timeout("query execution")))
    };
    let mut response = match answered.await {
        Ok(answer) => answer.into_response(),
        Err(err) => {
            if err.status() == StatusCode::INTERNAL_SERVER_ERROR {
                let tenant = tenant.as_ref().map_or("", TenantId::as_str);
                tracing::warn!(path, tenant, error = ?err, "query failed");
            }
            error::respond(&err)
        }
    };
    share(response.headers_mut(), origin.as_ref());
    let extensions = response.extensions_mut();
    extensions.insert(Served { function: crate::FUNCTION, tenant: tenant.ok(), usage: calls.usage() });
    extensions.insert(tally.spread());
    response
}

/// The pairs of the form in the body, then those of the query string, as Go's `Request.Form` has them.
async fn form_of(request: Request) -> Result<Form, Error> {
    let (parts, body) = request.into_parts();
    let query = Form::parse(parts.uri.query().unwrap_or(""))?;
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if parts.method != Method::POST || !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(query);
    }
    let body = axum::body::to_bytes(body, MAX_FORM_BYTES).await.map_err(|_| {
        Error::BadData(format!("error parsing form values: body is larger than {MAX_FORM_BYTES} bytes"))
    })?;
    let body = String::from_utf8_lossy(&body);
    Ok(Form::parse(&body)?.followed_by(query))
}

/// Lets web pages of any origin see the answer. Source: Prometheus `util/httputil/cors.go`.
fn share(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if origin.is_some() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        let allowed = HeaderValue::from_static("Accept, Authorization, Content-Type, Origin");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
    }
}

async fn preflight(headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    share(response.headers_mut(), headers.get(ORIGIN));
    response
}

/// `/api/v1/query`.
async fn instant(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, query::instant).await
}

/// `/api/v1/query_range`.
async fn range(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, query::range).await
}

/// `/api/v1/query_exemplars`.
async fn exemplars(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, lookup::exemplars).await
}

/// `/api/v1/format_query`.
async fn format_query(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, async |call| query::format(&call.form)).await
}

/// `/api/v1/parse_query`.
async fn parse_query(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, async |call| query::parse(&call.form)).await
}

/// `/api/v1/series`.
async fn series(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, lookup::series).await
}

/// `/api/v1/labels`.
async fn label_names(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, lookup::label_names).await
}

/// `/api/v1/label/{name}/values`.
async fn label_values(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, lookup::label_values).await
}

/// `/api/v1/metadata`.
async fn metadata(Extension(shared): Extension<Shared>, request: Request) -> Response {
    answer(shared, request, lookup::metadata).await
}

/// Handlers of endpoints whose answer needs no storage.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident => $body:expr;)*) => {$(
        $(#[$doc])*
        async fn $name(Extension(shared): Extension<Shared>, request: Request) -> Response {
            let make: fn(&Call) -> Result<String, Error> = $body;
            answer(shared, request, async move |call| Ok(Answer::data(make(&call)?))).await
        }
    )*};
}

plain! {
    /// `/api/v1/rules`.
    rules => |call| Ok(status::rules(&call.form)?);
    /// `/api/v1/alerts`.
    alerts => |_| Ok(status::alerts());
    /// `/api/v1/targets`.
    targets => |_| Ok(status::targets());
    /// `/api/v1/targets/metadata`.
    target_metadata => |_| Ok("[]".to_owned());
    /// `/api/v1/scrape_pools`.
    scrape_pools => |_| Ok(status::scrape_pools());
    /// `/api/v1/alertmanagers`.
    alertmanagers => |_| Ok(status::alertmanagers());
    /// `/api/v1/status/buildinfo`.
    build_info => |_| Ok(status::build_info());
    /// `/api/v1/status/runtimeinfo`.
    runtime_info => |call| Ok(status::runtime_info(call.now_ms));
    /// `/api/v1/status/flags`.
    flags => |_| Ok(status::flags());
    /// `/api/v1/status/config`.
    config => |_| Ok(status::config());
    /// `/api/v1/status/tsdb`.
    tsdb => |_| Ok(status::tsdb());
    /// `/api/v1/status/walreplay`.
    wal_replay => |_| Ok(status::wal_replay());
}

/// Any other path under `/api/v1`.
async fn unknown() -> Response {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}
