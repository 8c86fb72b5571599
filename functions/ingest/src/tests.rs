//! The router over stores in memory: every rule of the contract for OTLP, and what happens when things fail.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Request, StatusCode};
use model::sampling::head::{HeadSampling, LogSampling, Mode};
use prost::Message as _;
use storage::Store;
use storage::faults::{Call, Fault, Faults, FaultyObject, FaultyTable};
use storage::index::TableLayout;
use storage::kv::memory::MemoryTable;
use storage::object::memory::MemoryObjects;
use storage::object::{Object, ObjectMeta, PutOutcome};
use storage::write::Writer;
use tower::ServiceExt as _;
use wire::otlp::message::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, ResourceSpans, RpcStatus, ScopeSpans, Span,
};

use super::*;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// An ingest function over stores in memory, with a script of faults.
struct Ingest {
    router: Router,
    state: State,
    objects: Arc<MemoryObjects>,
    faults: Faults,
    is_panicking: Arc<AtomicBool>,
}

impl Ingest {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let (objects, faults) = (Arc::new(MemoryObjects::new()), Faults::new());
        let is_panicking = Arc::new(AtomicBool::new(false));
        let faulty = Arc::new(FaultyObject::new(Arc::clone(&objects) as Arc<dyn Object>, faults.clone()));
        let store = Store {
            objects: Arc::new(Panicking { inner: faulty, is_panicking: Arc::clone(&is_panicking) }),
            table: Arc::new(FaultyTable::new(Arc::new(MemoryTable::new()), faults.clone())),
            layout: TableLayout { shards: 1 },
            recent: storage::read::RecentTraces::default(),
        };
        let state = State::new(Arc::new(Writer::new(store)), settings, Arc::default());
        Self { router: router(state.clone()), state, objects, faults, is_panicking }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("a router does not fail");
        Answer::of(response).await
    }

    async fn post(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        self.send(post(content_type, body)).await
    }

    async fn n_objects(&self) -> usize {
        self.objects.list("", None, 1000).await.expect("memory").len()
    }

    fn metrics(&self) -> String {
        let mut page = edge::metrics::Page::default();
        self.state.write_metrics(&mut page);
        page.finish()
    }
}

/// An object store that panics when told to.
struct Panicking {
    inner: Arc<dyn Object>,
    is_panicking: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Object for Panicking {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> storage::Result<PutOutcome> {
        assert!(!self.is_panicking.load(SeqCst), "told to panic");
        self.inner.put_if_absent(key, body).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> storage::Result<Option<Bytes>> {
        self.inner.get_range(key, range).await
    }
    async fn get(&self, key: &str) -> storage::Result<Option<Bytes>> {
        self.inner.get(key).await
    }
    async fn head(&self, key: &str) -> storage::Result<Option<u64>> {
        self.inner.head(key).await
    }
    async fn delete(&self, key: &str) -> storage::Result<()> {
        self.inner.delete(key).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> storage::Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
        Self { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message of the `google.rpc.Status` that an error must carry in the request's format.
    fn error(&self, content_type: &str) -> String {
        assert_eq!(self.header("content-type"), content_type, "{self:?}");
        let message = if content_type == PROTOBUF {
            RpcStatus::decode(&*self.body).expect("a status").message
        } else {
            let status: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
            status["message"].as_str().expect("a message").to_owned()
        };
        assert!(!message.is_empty());
        message
    }

    fn assert_full_success(&self, content_type: &str) {
        assert_eq!((self.status, self.header("content-type")), (200, content_type), "{}", self.text());
        assert_eq!(&*self.body, if content_type == JSON { &b"{}"[..] } else { b"" });
    }

    fn assert_retry(&self, content_type: &str) {
        assert_eq!((self.status, self.header("retry-after")), (503, "1"), "{self:?}");
        self.error(content_type);
    }
}

fn post(content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post("/v1/traces").header("content-type", content_type);
    request.body(body.into()).expect("a request")
}

fn span(n: u8) -> Span {
    Span {
        trace_id: vec![n; 16],
        span_id: vec![n; 8],
        name: format!("span {n}"),
        kind: 2,
        start_time_unix_nano: 1_764_032_400_000_000_000,
        end_time_unix_nano: 1_764_032_400_000_000_000 + u64::from(n),
        ..Span::default()
    }
}

fn protobuf(spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn json(trace_id: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[
            {{"traceId":"{trace_id}","spanId":"eee19b7ec3c1b174","name":"a","startTimeUnixNano":"1764032400000000000"}}
        ]}}]}}]}}"#
    )
}

const TRACE_ID: &str = "5b8efff798038103d269b633813fc60c";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

/// A body that comes in pieces, without a length.
fn chunked(body: &[u8], piece_bytes: usize) -> Body {
    let pieces: Vec<_> = body.chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
    Body::from_stream(stream::iter(pieces).map(Ok::<_, std::io::Error>))
}

#[tokio::test]
async fn spans_are_stored_before_the_answer() {
    let ingest = Ingest::new();
    ingest.post(PROTOBUF, protobuf(vec![span(1), span(2)])).await.assert_full_success(PROTOBUF);
    assert_eq!(ingest.n_objects().await, 1);
    ingest.post(JSON, json(TRACE_ID)).await.assert_full_success(JSON);
    assert_eq!(ingest.n_objects().await, 2);
    let metrics = ingest.metrics();
    assert!(metrics.contains(r#"spandrel_ingest_spans_total{outcome="accepted"} 3"#), "{metrics}");
    assert!(metrics.contains("spandrel_ingest_held_bytes 0"), "{metrics}");
}

#[tokio::test]
async fn the_same_request_is_stored_once() {
    let ingest = Ingest::new();
    let body = protobuf(vec![span(1)]);
    for encoded in [body.clone(), body.clone()] {
        ingest.post(PROTOBUF, encoded).await.assert_full_success(PROTOBUF);
    }
    let mut zipped = post(PROTOBUF, gzip(&body));
    zipped.headers_mut().insert("content-encoding", "gzip".parse().expect("gzip"));
    ingest.send(zipped).await.assert_full_success(PROTOBUF);
    assert_eq!(ingest.n_objects().await, 1);
    let metrics = ingest.metrics();
    assert!(metrics.contains(r#"requests_total{signal="traces",outcome="duplicate"} 2"#), "{metrics}");
}

#[tokio::test]
async fn media_types_are_read_without_parameters() {
    let ingest = Ingest::new();
    for (content_type, answered) in [
        ("application/x-protobuf", PROTOBUF),
        ("application/x-protobuf; charset=utf-8", PROTOBUF),
        ("Application/X-Protobuf", PROTOBUF),
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/json;charset=UTF-8;v=1", JSON),
    ] {
        let body = if answered == JSON { json(TRACE_ID).into_bytes() } else { protobuf(vec![span(1)]) };
        ingest.post(content_type, body).await.assert_full_success(answered);
    }
    for content_type in
        ["text/plain", "application/xml", "application/octet-stream", "nonsense", "", "\u{ff}"]
    {
        let answer = ingest.post(content_type, protobuf(vec![span(1)])).await;
        assert_eq!((answer.status, answer.header("content-type")), (415, "text/plain; charset=utf-8"));
        assert!(answer.text().contains("application/x-protobuf"), "{}", answer.text());
    }
    let request = Request::post("/v1/traces").body(Body::from(protobuf(vec![span(1)]))).expect("a request");
    assert_eq!(ingest.send(request).await.status, 415);
}

#[tokio::test]
async fn other_methods_and_paths_say_what_to_do() {
    let ingest = Ingest::new();
    for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD"] {
        let request =
            Request::builder().method(method).uri("/v1/traces").body(Body::empty()).expect("a request");
        let answer = ingest.send(request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST, OPTIONS"), "{method}");
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
    for path in ["/", "/v1", "/v1/trace", "/v2/traces", "/v1/traces/x"] {
        let mut request = post(PROTOBUF, protobuf(vec![span(1)]));
        *request.uri_mut() = path.parse().expect(path);
        let answer = ingest.send(request).await;
        assert_eq!(answer.status, 404, "{path}");
        let message = answer.error(PROTOBUF);
        assert!(
            message.contains("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") && message.contains("/v1/traces"),
            "{message}"
        );
        let request = Request::post(path).body(Body::empty()).expect("a request");
        let answer = ingest.send(request).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (404, "text/plain; charset=utf-8"),
            "{path}"
        );
    }
    let mut request = post(JSON, "{}");
    *request.uri_mut() = "/v1development/profiles".parse().expect("a path");
    let answer = ingest.send(request).await;
    assert_eq!(answer.status, 404);
    assert!(answer.error(JSON).contains("only traces"));
    assert_eq!(ingest.n_objects().await, 0);
}

#[tokio::test]
async fn any_prefix_is_accepted() {
    let ingest = Ingest::new();
    for path in ["/base/v1/traces", "//v1/traces", "/a/b/c/v1/traces/", "/base//v1/traces?x=y"] {
        let mut request = post(PROTOBUF, protobuf(vec![span(1)]));
        *request.uri_mut() = path.parse().expect(path);
        ingest.send(request).await.assert_full_success(PROTOBUF);
    }
}

#[tokio::test]
async fn content_encodings_are_undone_in_both_formats() {
    let ingest = Ingest::new();
    let zlib = |body: &[u8]| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    };
    let bodies = [(PROTOBUF, protobuf(vec![span(1)])), (JSON, json(TRACE_ID).into_bytes())];
    for (content_type, body) in bodies {
        let halves = [gzip(&body[..7]), gzip(&body[7..])].concat();
        for (encoding, encoded) in [
            ("identity", body.clone()),
            ("", body.clone()),
            ("gzip", gzip(&body)),
            ("GZIP", gzip(&body)),
            ("gzip", halves),
            ("deflate", zlib(&body)),
        ] {
            let mut request = post(content_type, encoded);
            request.headers_mut().insert("content-encoding", encoding.parse().expect("a value"));
            ingest.send(request).await.assert_full_success(content_type);
        }
        for encoding in ["br", "nonsense", "gzip, gzip"] {
            let mut request = post(content_type, body.clone());
            request.headers_mut().insert("content-encoding", encoding.parse().expect("a value"));
            let answer = ingest.send(request).await;
            assert_eq!(answer.status, 415);
            assert!(answer.error(content_type).contains(encoding));
        }
    }
    assert_eq!(ingest.n_objects().await, 2);
}

#[tokio::test]
async fn an_empty_request_is_a_success_that_stores_nothing() {
    let ingest = Ingest::new();
    ingest.post(PROTOBUF, Body::empty()).await.assert_full_success(PROTOBUF);
    ingest.post(PROTOBUF, protobuf(Vec::new())).await.assert_full_success(PROTOBUF);
    ingest.post(JSON, "{}").await.assert_full_success(JSON);
    ingest.post(JSON, r#"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#).await.assert_full_success(JSON);
    assert_eq!(ingest.n_objects().await, 0);
    assert!(ingest.metrics().contains(r#"outcome="empty"} 4"#));
}

#[tokio::test]
async fn invalid_spans_are_counted_and_the_rest_is_kept() {
    let ingest = Ingest::new();
    let invalid = |n| Span { trace_id: vec![n; 15], ..span(n) };
    let answer = ingest.post(PROTOBUF, protobuf(vec![span(1), invalid(2), invalid(3)])).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, PROTOBUF));
    let response = ExportTraceServiceResponse::decode(&*answer.body).expect("a response");
    let partial = response.partial_success.expect("a partial success");
    assert_eq!((partial.rejected_spans, partial.error_message.is_empty()), (2, false));
    assert_eq!(ingest.n_objects().await, 1);

    let answer = ingest.post(JSON, json("abc")).await;
    let response: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(
        (answer.status, &response["partialSuccess"]["rejectedSpans"]),
        (200, &"1".into()),
        "{response}"
    );
    assert_eq!(ingest.n_objects().await, 1, "nothing was left to store");
}

#[tokio::test]
async fn undecodable_bodies_are_bad_requests() {
    let ingest = Ingest::new();
    for (content_type, body, encoding) in [
        (PROTOBUF, &b"hello"[..], ""),
        (PROTOBUF, b"\x0a\xff\xff\xff\xff\x07", ""),
        (JSON, b"{", ""),
        (JSON, b"[]", ""),
        (JSON, b"\xff", ""),
        (PROTOBUF, b"hello", "gzip"),
        (PROTOBUF, b"hello", "zstd"),
        (JSON, b"", "gzip"),
    ] {
        let mut request = post(content_type, body);
        request.headers_mut().insert("content-encoding", encoding.parse().expect("a value"));
        let answer = ingest.send(request).await;
        assert_eq!(answer.status, 400, "{body:?}");
        answer.error(content_type);
    }
}

#[tokio::test]
async fn tenants_are_named_by_a_header() {
    let ingest = Ingest::new();
    for (tenant, status) in [("me", 200), ("them", 200), ("", 200), ("../me", 400), ("a b", 400)] {
        let mut request = post(PROTOBUF, protobuf(vec![span(1)]));
        request.headers_mut().insert("x-scope-orgid", tenant.parse().expect("a value"));
        assert_eq!(ingest.send(request).await.status, status, "{tenant:?}");
    }
    let keys = ingest.objects.list("", None, 10).await.expect("memory");
    let tenants: Vec<_> = keys.iter().map(|object| object.key.split('/').next().expect("a folder")).collect();
    assert_eq!(tenants, ["tenant=default", "tenant=me", "tenant=them"]);
}

fn small_limits() -> Settings {
    let limits = Limits { max_body_bytes: 10_000, max_compressed_bytes: 1_000, ..Limits::default() };
    Settings { limits, ..Settings::default() }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_while_they_arrive() {
    let ingest = Ingest::with(small_limits());
    let refuse = async |request: Request<Body>| {
        let answer = ingest.send(request).await;
        assert_eq!(answer.status, 413);
        answer.error(PROTOBUF);
    };
    let zipped = |mut request: Request<Body>| {
        request.headers_mut().insert("content-encoding", "gzip".parse().expect("gzip"));
        request
    };
    refuse(post(PROTOBUF, vec![0; 10_001])).await;
    refuse(post(PROTOBUF, chunked(&[0; 10_001], 100))).await;
    // The limit of what is compressed is its own.
    refuse(zipped(post(PROTOBUF, vec![0; 1_001]))).await;
    refuse(zipped(post(PROTOBUF, chunked(&[0; 1_001], 7)))).await;
    refuse(zipped(post(PROTOBUF, gzip(&[0; 10_001])))).await;
    assert_eq!(ingest.state.0.budget.held_bytes(), 0);
    // A length that promises too much is enough; nothing is read.
    let endless = Body::new(Endless);
    refuse(post(PROTOBUF, endless)).await;

    let just_fits = protobuf((1..160).map(span).collect());
    assert!((9_000..10_000).contains(&just_fits.len()), "{}", just_fits.len());
    ingest.post(PROTOBUF, chunked(&just_fits, 1)).await.assert_full_success(PROTOBUF);
}

/// Says that a terabyte comes, and never sends any of it.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("not to be read for long"))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(1 << 40)
    }
}

#[tokio::test]
async fn a_compression_bomb_is_refused() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..100 {
        encoder.write_all(&zeros).expect("memory");
    }
    let bomb = encoder.finish().expect("memory");
    let ingest = Ingest::new();
    let mut request = post(PROTOBUF, bomb);
    request.headers_mut().insert("content-encoding", "gzip".parse().expect("gzip"));
    let answer = ingest.send(request).await;
    assert_eq!(answer.status, 413);
    answer.error(PROTOBUF);
    assert_eq!(ingest.state.0.budget.held_bytes(), 0);
}

#[tokio::test]
async fn a_large_body_is_decoded_on_another_thread() {
    let ingest = Ingest::with(Settings { inline_bytes: 0, ..Settings::default() });
    ingest.post(PROTOBUF, protobuf(vec![span(1)])).await.assert_full_success(PROTOBUF);
    assert_eq!(ingest.post(PROTOBUF, "hello").await.status, 400);
    assert_eq!(ingest.n_objects().await, 1);
}

#[tokio::test]
async fn a_refused_sender_may_finish_sending() {
    let ingest = Ingest::new();
    for (expect_header, n_read) in [(None, 3), (Some("100-continue"), 0)] {
        let (sender, n_seen) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), 3);
        let counted = Arc::clone(&sender);
        let body = stream::iter(0..n_seen).map(move |_| {
            counted.fetch_add(1, SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let mut request = post("text/plain", Body::from_stream(body));
        if let Some(value) = expect_header {
            request.headers_mut().insert("expect", value.parse().expect("a value"));
        }
        assert_eq!(ingest.send(request).await.status, 415);
        assert_eq!(sender.load(SeqCst), n_read, "{expect_header:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() {
    let ingest = Ingest::new();
    let body = protobuf(vec![span(1), span(2)]);
    let pieces = [Ok(Bytes::from(body[..20].to_vec())), Err(std::io::Error::other("gone"))];
    let answer = ingest.post(PROTOBUF, Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(answer.status, 400);
    assert_eq!((ingest.n_objects().await, ingest.state.0.budget.held_bytes()), (0, 0));
}

#[tokio::test]
async fn storage_that_fails_is_an_answer_to_retry() {
    let calls = [Call::ObjectPut, Call::TablePut, Call::TableBatchGet];
    let faults = [Fault::FailBefore, Fault::FailAfter, Fault::Refuse];
    for call in calls {
        for fault in faults {
            for (content_type, body) in
                [(PROTOBUF, protobuf(vec![span(1)])), (JSON, json(TRACE_ID).into_bytes())]
            {
                let ingest = Ingest::new();
                ingest.faults.on_nth(call, 0, fault);
                let answer = ingest.post(content_type, body.clone()).await;
                answer.assert_retry(content_type);
                assert!(!answer.text().contains("injected"), "internals stay inside: {}", answer.text());
                ingest.post(content_type, body).await.assert_full_success(content_type);
                assert_eq!(ingest.n_objects().await, 1, "{call:?} {fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_to_retry() {
    for settings in [Settings::default(), Settings { inline_bytes: 0, ..Settings::default() }] {
        let ingest = Ingest::with(settings);
        ingest.is_panicking.store(true, SeqCst);
        ingest.post(PROTOBUF, protobuf(vec![span(1)])).await.assert_retry(PROTOBUF);
        ingest.post(JSON, json(TRACE_ID)).await.assert_retry(JSON);
        assert_eq!(ingest.state.0.budget.held_bytes(), 0);
        ingest.is_panicking.store(false, SeqCst);
        ingest.post(PROTOBUF, protobuf(vec![span(1)])).await.assert_full_success(PROTOBUF);
        assert!(ingest.metrics().contains(r#"kind="panic"} 2"#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_an_answer_to_retry() {
    let ingest = Ingest::new();
    ingest.faults.on_nth(Call::ObjectPut, 0, Fault::Stall);
    let started = tokio::time::Instant::now();
    ingest.post(PROTOBUF, protobuf(vec![span(1)])).await.assert_retry(PROTOBUF);
    assert_eq!(started.elapsed().as_secs(), 25);
    assert!(ingest.metrics().contains(r#"kind="timeout"} 1"#));
    ingest.faults.heal();
    ingest.post(PROTOBUF, protobuf(vec![span(1)])).await.assert_full_success(PROTOBUF);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_budget_in_flight_is_sent_away() {
    let body = protobuf((1..200).map(span).collect());
    let budget_bytes = body.len() * 5 / 2;
    let ingest = Ingest::with(Settings { budget_bytes, ..Settings::default() });
    ingest.faults.on_every(Call::ObjectPut, Fault::Delay(Duration::from_secs(10)));
    let send = || ingest.post(PROTOBUF, body.clone());
    let later = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        send().await
    };
    let (a, b, c, d) = tokio::join!(send(), send(), send(), later);
    a.assert_full_success(PROTOBUF);
    b.assert_full_success(PROTOBUF);
    c.assert_retry(PROTOBUF);
    d.assert_full_success(PROTOBUF);
    assert!(ingest.metrics().contains(r#"kind="busy"} 1"#));
    assert_eq!(ingest.state.0.budget.held_bytes(), 0);
}

#[tokio::test]
async fn browsers_may_ask_and_send() {
    let ask = || {
        Request::options("/base/v1/traces")
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-custom")
            .body(Body::empty())
            .expect("a request")
    };
    let send = || {
        let mut request = post(JSON, "{}");
        request.headers_mut().insert("origin", "https://shop.example".parse().expect("a value"));
        request
    };
    let check = async |origins: Origins, allowed: &str, headers: &str| {
        let ingest = Ingest::with(Settings { origins, ..Settings::default() });
        let answer = ingest.send(ask()).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("access-control-allow-headers"), headers);
        let answer = ingest.send(send()).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, allowed));
        assert_eq!(
            ingest.post(JSON, "{}").await.header("access-control-allow-origin"),
            "",
            "not from a browser"
        );
    };
    check(Origins::Any, "https://shop.example", "content-type,x-custom").await;
    check(
        Origins::Named(vec!["https://shop.example".to_owned()]),
        "https://shop.example",
        "content-type,x-custom",
    )
    .await;
    check(Origins::Named(vec!["https://other.example".to_owned()]), "", "").await;
}

#[tokio::test]
async fn what_is_sampled_out_is_a_success_and_counted() {
    let half =
        HeadSampling { mode: Mode::Equalizing, ..HeadSampling::of("50".parse().expect("a percentage")) };
    let sampling = |logs| Some(Sampling { head: half, logs });
    let ingest = Ingest::with(Settings { sampling: sampling(None), ..Settings::default() });
    // The last seven bytes of an id decide.
    ingest
        .post(PROTOBUF, protobuf(vec![span(0x7f), span(0x80), span(1)]))
        .await
        .assert_full_success(PROTOBUF);
    ingest.post(PROTOBUF, protobuf(vec![span(2), span(3)])).await.assert_full_success(PROTOBUF);
    assert_eq!(ingest.n_objects().await, 1);
    let lying = Span { trace_state: "ot=th:8".to_owned(), ..span(1) };
    ingest.post(PROTOBUF, protobuf(vec![lying])).await.assert_full_success(PROTOBUF);
    let metrics = ingest.metrics();
    for line in [
        r#"spandrel_ingest_spans_total{outcome="accepted"} 1"#,
        r#"spandrel_ingest_spans_total{outcome="rejected"} 0"#,
        r#"spandrel_ingest_sampled_out_total{signal="traces"} 5"#,
        r#"spandrel_ingest_sampled_out_total{signal="logs"} 0"#,
        r#"spandrel_ingest_sampling_errors_total{signal="traces"} 1"#,
        r#"requests_total{signal="traces",outcome="empty"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    let record =
        |trace_id: &str| format!(r#"{{"traceId":"{trace_id}","timeUnixNano":"1764032400000000000"}}"#);
    let records = [record(TRACE_ID), record(&"a".repeat(32)), record("")].join(",");
    let logs = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
    for (settings, n_accepted) in [(None, 3), (Some(LogSampling::default()), 2)] {
        let ingest = Ingest::with(Settings { sampling: sampling(settings), ..Settings::default() });
        let mut request = post(JSON, logs.clone());
        *request.uri_mut() = "/v1/logs".parse().expect("a path");
        ingest.send(request).await.assert_full_success(JSON);
        let metrics = ingest.metrics();
        let accepted = format!(r#"log_records_total{{outcome="accepted"}} {n_accepted}"#);
        let sampled_out = format!(r#"sampled_out_total{{signal="logs"}} {}"#, 3 - n_accepted);
        assert!(metrics.contains(&accepted) && metrics.contains(&sampled_out), "{metrics}");
    }
}

#[tokio::test]
async fn the_log_gets_tenant_and_cost() {
    let ingest = Ingest::new();
    let request = post(PROTOBUF, protobuf(vec![span(1)]));
    let response = ingest.router.clone().oneshot(request).await.expect("a router does not fail");
    let served = response.extensions().get::<edge::guard::Served>().expect("what was served");
    assert_eq!(served.tenant.as_ref().map(model::TenantId::as_str), Some("default"));
    assert_eq!((served.function, served.usage.object_puts), ("ingest", 1));
    let mut page = edge::metrics::Page::default();
    ingest.state.0.ledger.write(&mut page);
    let line = r#"spandrel_storage_calls_total{function="ingest",tenant="default",call="object_put"} 1"#;
    let page = page.finish();
    assert!(page.contains(line), "{page}");
    assert_eq!(response.status(), StatusCode::OK);
}

proptest::proptest! {
    #[test]
    fn any_bytes_under_any_headers_get_an_answer(
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        content_type in proptest::sample::select(vec![PROTOBUF, JSON, "text/plain"]),
        encoding in proptest::sample::select(vec!["", "gzip", "deflate", "zstd", "br"]),
        piece_bytes in 1usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ingest = Ingest::with(small_limits());
        let mut request = post(content_type, chunked(&body, piece_bytes));
        request.headers_mut().insert("content-encoding", encoding.parse().expect("a value"));
        let status = runtime.block_on(ingest.send(request)).status;
        proptest::prop_assert!([200, 400, 413, 415].contains(&status), "{}", status);
    }
}
