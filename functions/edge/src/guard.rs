//! The door: what happens to every request, from a socket or from a Lambda event.
//!
//! path → request id → router (panics caught, time bounded) → gzip → access log.
//! It never turns a failure into a closed connection: there is always an answer.

mod compression;
mod path;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures::FutureExt as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use model::TenantId;
use storage::Usage;
use tower::ServiceExt as _;

/// The header that names a request in logs; taken from the request if it is there, and sent back.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// The name of a request in logs. The door puts it into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// What a handler tells the access log: it puts this into its response's extensions.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// Which function answered: `ingest`, `query`, …
    pub function: &'static str,
    /// Whose data it was.
    pub tenant: Option<TenantId>,
    /// What it cost.
    pub usage: Usage,
}

/// What others did for a request, and what was known before: a handler that has such things to tell puts this into its
/// response's extensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Parts that workers were asked for; each has a line of its own in the log, with what it cost.
    pub jobs: u64,
    /// Parts that were asked for a second time because they were slow.
    pub hedges: u64,
    /// Parts that were asked for again because they failed.
    pub retries: u64,
    /// Files that were not read because it was kept what they have.
    pub kept_files: u64,
}

/// Why the door answers in place of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The handler panicked: a fault of ours.
    #[error("internal fault; the request may be sent again")]
    Panicked,
    /// The handler did not answer within the time that the platform leaves.
    #[error("the request took longer than {} s; send it again or ask for less", .after.as_secs())]
    TooLate {
        /// How long it had.
        after: Duration,
    },
    /// The platform does not carry an answer this large.
    #[error(
        "the response of {bytes} bytes exceeds the {limit} that Lambda can return; ask for less or accept gzip"
    )]
    TooLarge {
        /// The size of the response event.
        bytes: usize,
        /// The most that is carried.
        limit: usize,
    },
}

impl Failure {
    /// The status that lets clients retry where that helps.
    pub fn status(self) -> StatusCode {
        match self {
            // Not 500: OTLP exporters drop what was answered with 500 and retry 503.
            Self::Panicked | Self::TooLate { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// What is known of a request whose handler failed.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The normalised path and query.
    pub uri: Uri,
    /// The request's content type.
    pub content_type: Option<HeaderValue>,
}

/// Says a [`Failure`] in the form of one API.
pub type OnFailure = fn(&Asked, Failure) -> Response;

/// A router with what stands in front of it. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    router: Router,
    base_path: Arc<str>,
    on_failure: OnFailure,
}

impl Door {
    /// A door to `router`; `on_failure` answers when it cannot.
    pub fn new(router: Router, on_failure: OnFailure) -> Self {
        Self { router, base_path: "".into(), on_failure }
    }

    /// The same door below a path such as `/otel`, which is taken away from requests that have it.
    #[must_use]
    pub fn below(mut self, base_path: &str) -> Self {
        self.base_path = base_path.trim_end_matches('/').into();
        self
    }

    /// The answer to `request`; never fails and never panics. `limit` bounds the time that the router may take.
    pub async fn answer(&self, mut request: Request<Body>, limit: Option<Duration>) -> Response {
        let started = Instant::now();
        if let Some(uri) = path::normalized(request.uri(), &self.base_path) {
            *request.uri_mut() = uri;
        }
        let id = request_id(&request);
        request.extensions_mut().insert(id.clone());
        let asked = Asked {
            method: request.method().clone(),
            uri: request.uri().clone(),
            content_type: request.headers().get(CONTENT_TYPE).cloned(),
        };
        let wants_gzip = compression::accepts_gzip(request.headers());
        let is_http_1_0 = request.version() == Version::HTTP_10;

        let mut response = match routed(self.router.clone(), request, limit).await {
            Ok(response) => response,
            Err(failure) => (self.on_failure)(&asked, failure),
        };
        if wants_gzip && !is_http_1_0 {
            response = compression::gzip(response).await;
        }
        if let Ok(value) = HeaderValue::from_str(&id.0) {
            response.headers_mut().insert(REQUEST_ID_HEADER, value);
        }
        log(&asked, &response, &id, started.elapsed());
        response
    }

    /// The answer of this door to a request that it may not or could not pass on.
    pub fn refuse(&self, asked: &Asked, failure: Failure) -> Response {
        (self.on_failure)(asked, failure)
    }
}

/// A failure as text, for APIs without a form of their own.
pub fn plain_failure(_asked: &Asked, failure: Failure) -> Response {
    failure_response(failure, "text/plain; charset=utf-8", format!("{failure}\n"))
}

/// A failure as Jaeger's API has errors, which is also what Grafana shows of it.
/// Source: Jaeger `cmd/query/app/http_handler.go` `structuredResponse`.
pub fn json_failure(_asked: &Asked, failure: Failure) -> Response {
    let error = serde_json::json!({ "code": failure.status().as_u16(), "msg": failure.to_string() });
    let body = serde_json::json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": [error] });
    failure_response(failure, "application/json", body.to_string())
}

fn failure_response(failure: Failure, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = failure.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What `work` gives, or the message of its panic.
///
/// # Errors
/// `work` panicked.
pub async fn caught<F: Future>(work: F) -> Result<F::Output, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| panic_message(&*panic))
}

/// The text of a panic's payload.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text").to_owned()
}

async fn routed(
    router: Router,
    request: Request<Body>,
    limit: Option<Duration>,
) -> Result<Response, Failure> {
    let work = caught(async move {
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    });
    let outcome = match limit {
        None => work.await,
        Some(after) => tokio::time::timeout(after, work).await.map_err(|_| Failure::TooLate { after })?,
    };
    outcome.map_err(|message| {
        tracing::error!(message, "handler panicked");
        Failure::Panicked
    })
}

fn request_id(request: &Request<Body>) -> RequestId {
    if let Some(id) = request.extensions().get::<RequestId>() {
        return id.clone();
    }
    let sent = request.headers().get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    match sent.filter(|id| !id.is_empty() && id.len() <= 128) {
        Some(id) => RequestId(id.into()),
        None => RequestId(new_id().into()),
    }
}

/// Distinct within the process, and most likely between processes that log to one place.
fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| (crate::clock::now_ns() as u32).rotate_left(16) ^ std::process::id());
    format!("{:08x}-{:x}", *PROCESS, NEXT.fetch_add(1, Relaxed))
}

fn log(asked: &Asked, response: &Response, id: &RequestId, took: Duration) {
    let served = response.extensions().get::<Served>().cloned().unwrap_or_default();
    let spread = response.extensions().get::<Spread>().copied().unwrap_or_default();
    let (method, path) = (asked.method.as_str(), asked.uri.path());
    write_line(&Line { method, path, status: response.status(), served: &served, spread, id, took });
}

/// Writes the access log's line of a part of a request that another asked this process for, as if it were a request.
pub fn log_job(path: &str, is_fine: bool, served: &Served, id: &RequestId, took: Duration) {
    let status = if is_fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    write_line(&Line { method: "JOB", path, status, served, spread: Spread::default(), id, took });
}

/// What the access log says of a request.
struct Line<'a> {
    method: &'a str,
    path: &'a str,
    status: StatusCode,
    served: &'a Served,
    spread: Spread,
    id: &'a RequestId,
    took: Duration,
}

/// Writes the access log's line. `spandrel cost logs` adds these fields up: a name that changes here changes there.
fn write_line(line: &Line<'_>) {
    const TARGET: &str = "spandrel::access";
    let Line { method, path, served, spread, .. } = line;
    let status = line.status.as_u16();
    let is_ours = line.status.is_server_error();
    let is_silent = if is_ours {
        !tracing::enabled!(target: TARGET, tracing::Level::WARN)
    } else {
        !tracing::enabled!(target: TARGET, tracing::Level::INFO)
    };
    if is_silent {
        return;
    }
    let request_id = &*line.id.0;
    let took_ms = line.took.as_micros() as f64 / 1e3;
    let tenant = served.tenant.as_ref().map_or("", TenantId::as_str);
    let (function, usage) = (served.function, served.usage);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: TARGET, method, path, status, took_ms, function, tenant, request_id,
                object_puts = usage.object_puts, object_gets = usage.object_gets,
                object_lists = usage.object_lists, object_deletes = usage.object_deletes,
                object_bytes_written = usage.bytes_written, object_bytes_read = usage.bytes_read,
                table_reads = usage.table_reads, table_writes = usage.table_writes,
                table_bytes_read = usage.table_bytes_read, table_bytes_written = usage.table_bytes_written,
                table_read_units = usage.table_read_units, table_write_units = usage.table_write_units,
                jobs = spread.jobs, hedges = spread.hedges, retries = spread.retries,
                kept_files = spread.kept_files,
                "request"
            )
        };
    }
    if is_ours {
        line!(warn);
    } else {
        line!(info);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    fn door() -> Door {
        let router = Router::new()
            .route("/ok", get(|| async { "fine" }))
            .route("/big", get(|| async { "x".repeat(5000) }))
            .route(
                "/pieces",
                get(async || {
                    let pieces = (0..500).map(|number| Ok::<_, std::io::Error>(format!("{number:010}")));
                    Body::from_stream(futures::stream::iter(pieces))
                }),
            )
            .route("/panic", get(|| async { if true { panic!("boom") } else { "never" } }))
            .route("/slow", get(|| async { std::future::pending::<&str>().await }));
        Door::new(router, plain_failure).below("/base/")
    }

    async fn ask(uri: &str, headers: &[(&str, &str)]) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = door().answer(request, Some(Duration::from_millis(20))).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        (parts.status, parts.headers, body.to_vec())
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_that_clients_retry() {
        let (status, headers, body) = ask("/panic", &[]).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[RETRY_AFTER], "1");
        assert!(!String::from_utf8_lossy(&body).contains("boom"), "internals stay inside");
        assert_eq!(ask("/ok", &[]).await.0, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_too_long_is_answered_for() {
        let (status, headers, _) = ask("/slow", &[]).await;
        assert_eq!(
            (status, &headers[RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().expect("1"))
        );
    }

    #[tokio::test]
    async fn paths_are_normalised_before_routing() {
        for path in ["/ok", "//ok", "/base/ok", "/base//ok", "//base/ok"] {
            assert_eq!(ask(path, &[]).await.0, StatusCode::OK, "{path}");
        }
        assert_eq!(ask("/baseok", &[]).await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_ask() {
        let (_, headers, body) = ask("/big", &[("accept-encoding", "deflate, gzip;q=0.5")]).await;
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["vary"], "accept-encoding");
        assert!(body.len() < 200 && headers.get("content-length").is_none_or(|length| length != "5000"));
        assert_eq!(ask("/big", &[]).await.2.len(), 5000);
        assert_eq!(ask("/big", &[("accept-encoding", "gzip;q=0")]).await.2.len(), 5000);
        assert_eq!(ask("/ok", &[("accept-encoding", "gzip")]).await.2, b"fine");
    }

    #[tokio::test]
    async fn answers_in_pieces_are_compressed_as_they_come() {
        use std::io::Read as _;
        let (_, headers, body) = ask("/pieces", &[("accept-encoding", "gzip")]).await;
        assert_eq!(
            (&headers["content-encoding"], &headers["vary"]),
            (&HeaderValue::from_static("gzip"), &HeaderValue::from_static("accept-encoding"),)
        );
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).expect("gzip");
        assert!(body.len() < 2000, "{}", body.len());
        assert_eq!(plain, ask("/pieces", &[]).await.2);
    }

    #[tokio::test]
    async fn a_request_keeps_the_id_it_came_with() {
        assert_eq!(ask("/ok", &[(REQUEST_ID_HEADER, "abc")]).await.1[REQUEST_ID_HEADER], "abc");
        let ids = [ask("/ok", &[]).await.1, ask("/ok", &[]).await.1];
        assert_ne!(ids[0][REQUEST_ID_HEADER], ids[1][REQUEST_ID_HEADER]);
    }
}
