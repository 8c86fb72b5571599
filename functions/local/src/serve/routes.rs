//! Which role answers what.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use edge::guard::{Asked, Failure, Served};
use edge::health;
use edge::ledger::Ledger;
use edge::metrics::{self, Page};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use query::fanout::{Fanout, Tasks, Worker};
use storage::Store;
use storage::cached::Cache;
use storage::write::Writer;
use tower::ServiceExt as _;

use super::args::Args;
use super::page::StartPage;

/// The roles of this process.
pub(crate) struct Roles {
    ingest: ingest::State,
    query: query::State,
    ledger: Arc<Ledger>,
    cache: Option<Arc<Cache>>,
    compaction: Option<Arc<compact::Metrics>>,
    start_page: Arc<StartPage>,
}

impl Roles {
    /// All roles over `store`, whose calls they count in `ledger`. Queries keep objects in `cache`; `compaction` counts what
    /// is merged beside them.
    pub(crate) fn new(
        args: &Args,
        store: Store,
        cache: Option<Arc<Cache>>,
        ledger: Arc<Ledger>,
        compaction: Option<Arc<compact::Metrics>>,
        start_page: StartPage,
    ) -> Self {
        let writer = Arc::new(Writer::new(store.clone()));
        let store = match &cache {
            Some(cache) => store.cached(cache),
            None => store,
        };
        let timeout = Duration::from_millis(args.query_timeout_ms);
        let worker = Worker::new(store.clone(), Arc::clone(&ledger), timeout);
        Self {
            ingest: ingest::State::new(writer, args.ingest_settings(), Arc::clone(&ledger)),
            query: query::State {
                store,
                limits: storage::read::Limits::default(),
                timeout,
                clock: edge::clock::now_ns,
                ledger: Arc::clone(&ledger),
                results: query::prometheus::Results::of(args.result_cache_bytes),
                searches: query::Searches::of(args.search_cache_bytes),
                fanout: Fanout::of(Arc::new(Tasks(worker)), args.query_share()),
            },
            ledger,
            cache,
            compaction,
            start_page: Arc::new(start_page),
        }
    }

    /// Everything by path. OTLP takes any prefix, those of other APIs too, so its paths are looked at first; and
    /// what nothing else matches gets its advice.
    pub(crate) fn one_endpoint(&self) -> Router {
        let ingest = ingest::router(self.ingest.clone());
        let others = query::router(self.query.clone())
            .merge(self.operations())
            .route("/", self.page().fallback_service(ingest.clone()))
            .fallback_service(ingest.clone());
        first(ingest, others)
    }

    /// Prometheus' classical port: remote write and queries.
    pub(crate) fn prometheus(&self) -> Router {
        let queries = query::prometheus::router(self.query.clone()).merge(self.operations());
        first(ingest::router(self.ingest.clone()), queries)
    }

    /// Jaeger's classical port.
    pub(crate) fn jaeger(&self) -> Router {
        query::jaeger::router(self.query.clone()).merge(self.operations())
    }

    /// The health port: every path is one.
    pub(crate) fn health(&self) -> Router {
        self.operations().fallback(get(health::healthy))
    }

    fn operations(&self) -> Router {
        let (ingest, ledger) = (self.ingest.clone(), Arc::clone(&self.ledger));
        let (compaction, cache) = (self.compaction.clone(), self.cache.clone());
        let query = self.query.clone();
        let metrics = move || {
            let mut page = Page::default();
            ingest.write_metrics(&mut page);
            if let Some(compaction) = &compaction {
                compaction.write(&mut page);
            }
            if let Some(cache) = &cache {
                edge::cache::write(cache, &mut page);
            }
            query.write_metrics(&mut page);
            ledger.write(&mut page);
            page.gauges("spandrel_build_info", "The version of this program.", &[(BUILD, 1)]);
            std::future::ready(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page.finish()))
        };
        let (store, ledger) = (self.query.store.clone(), Arc::clone(&self.ledger));
        let inspect = move || {
            let calls = ledger.calls("inspect", None);
            let store = store.metered(&calls);
            async move {
                let answer = crate::inspect::table(&store).await.map_err(|err| {
                    tracing::warn!(error = ?err, "inspection failed");
                    (StatusCode::SERVICE_UNAVAILABLE, "the stores do not answer\n")
                });
                let mut response = answer.into_response();
                let served = Served { function: "inspect", tenant: None, usage: calls.usage() };
                response.extensions_mut().insert(served);
                response
            }
        };
        // There is nothing to reload yet.
        health::router()
            .route("/-/reload", post(health::healthy))
            .route("/-/inspect", get(inspect))
            .route("/metrics", get(metrics))
    }

    fn page(&self) -> MethodRouter {
        let page = Arc::clone(&self.start_page);
        get(move |headers: HeaderMap| std::future::ready(start_page(&headers, &page)))
    }
}

/// What `ingest` has an endpoint for goes there, all else to `others`.
fn first(ingest: Router, others: Router) -> Router {
    Router::new().fallback(move |request: Request| {
        let is_ingest = ingest::is_endpoint(request.uri().path());
        let router = if is_ingest { ingest.clone() } else { others.clone() };
        async move { router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {}) }
    })
}

const BUILD: &str = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");

fn start_page(headers: &HeaderMap, page: &StartPage) -> Response {
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/html") {
        Html(page.html.clone()).into_response()
    } else {
        page.text.clone().into_response()
    }
}

/// A failure of the door in the form of the API that was asked.
pub(crate) fn failure(asked: &Asked, failure: Failure) -> Response {
    if ingest::is_endpoint(asked.uri.path()) {
        ingest::failure(asked, failure)
    } else {
        edge::guard::json_failure(asked, failure)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use clap::Parser as _;
    use edge::open::{Location, open};
    use http::Request;

    use super::*;

    async fn roles() -> Roles {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let store = open(&Location::Memory, &Location::Memory, 1).await.expect("memory");
        let page = StartPage { text: "the page\n".to_owned(), html: "<h1>the page</h1>".to_owned() };
        Roles::new(&Line::parse_from(["spandrel"]).args, store, None, Arc::default(), None, page)
    }

    async fn ask(router: &Router, method: &str, path: &str, accept: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json").header("accept", accept);
        let body = if method == "POST" { Body::from("{}") } else { Body::empty() };
        let response =
            router.clone().oneshot(request.body(body).expect("a request")).await.expect("an answer");
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn one_endpoint_serves_every_path() {
        let router = roles().await.one_endpoint();
        for (method, path, status, part) in [
            ("POST", "/v1/traces", 200, "{}"),
            ("POST", "/any/prefix/v1/traces", 200, "{}"),
            ("POST", "/jaeger/api/otlp/v1/traces", 200, "{}"),
            ("GET", "/v1/traces", 405, "POST"),
            ("POST", "/v1/metrics", 200, "{}"),
            ("POST", "/v1/logs", 200, "{}"),
            ("GET", "/jaeger/api/services", 200, "\"data\""),
            ("GET", "/api/services", 200, "\"data\""),
            ("GET", "/prometheus/api/v1/query?query=1%2B1", 200, r#"{"resultType":"scalar","result":["#),
            ("POST", "/prometheus/api/v1/query", 400, r#""errorType":"bad_data""#),
            ("GET", "/api/v1/labels", 200, r#"{"status":"success","data":[]}"#),
            ("GET", "/api/v1/status/buildinfo", 200, r#""version":"3."#),
            ("GET", "/api/v1/nothing", 404, ""),
            ("GET", "/api/v1/write", 405, "POST"),
            ("POST", "/prometheus/api/v1/write", 415, "application/x-protobuf"),
            ("GET", "/-/healthy", 200, "ok"),
            ("GET", "/-/ready", 200, "ok"),
            ("POST", "/-/reload", 200, "ok"),
            ("GET", "/-/reload", 405, ""),
            ("GET", "/metrics", 200, "spandrel_build_info{version="),
            ("GET", "/", 200, "the page"),
            ("POST", "/", 404, "/v1/traces"),
            ("GET", "/nothing", 404, "/v1/traces"),
            ("GET", "/jaeger/nothing", 404, ""),
        ] {
            let (got, body) = ask(&router, method, path, "*/*").await;
            assert_eq!(got, status, "{method} {path}: {body}");
            assert!(body.contains(part), "{method} {path}: {body}");
        }
        assert_eq!(ask(&router, "GET", "/", "text/html,*/*").await.1, "<h1>the page</h1>");
        assert_eq!(ask(&router, "GET", "/", "*/*").await.1, "the page\n");
    }

    #[tokio::test]
    async fn classical_ports_serve_their_api() {
        let roles = roles().await;
        assert_eq!(ask(&roles.jaeger(), "GET", "/api/services", "*/*").await.0, 200);
        assert_eq!(ask(&roles.jaeger(), "GET", "/-/healthy", "*/*").await.0, 200);
        assert_eq!(ask(&roles.prometheus(), "GET", "/api/v1/rules", "*/*").await.0, 200);
        assert_eq!(ask(&roles.prometheus(), "GET", "/-/ready", "*/*").await.0, 200);
        assert_eq!(ask(&roles.prometheus(), "GET", "/graph", "*/*").await.0, 404);
        assert_eq!(ask(&roles.jaeger(), "POST", "/v1/traces", "*/*").await.0, 404);
        for path in ["/", "/health/status", "/-/ready"] {
            assert_eq!(ask(&roles.health(), "GET", path, "*/*").await, (200, "ok\n".to_owned()), "{path}");
        }
    }
}
