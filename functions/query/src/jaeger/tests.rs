//! The API through its routes, over hand-made spans.

use std::sync::Mutex;

use axum::body::to_bytes;
use futures::future::{BoxFuture, FutureExt as _};
use http::{Method, Request, header};
use model::columns::Value;
use model::search::Condition;
use model::spans::{EventView, LinkView, SpanFields};
use model::{SpanId, TimeRange};
use storage::read::Means;
use tower::ServiceExt as _;

use super::*;

const TRACE_ID: &str = "0102030405060708090a0b0c0d0e0f10";
const SHORT_TRACE_ID: &str = "00000000000000ab";
const START_NS: i64 = 1_700_000_000_123_456_789;
const NOW_NS: i64 = 1_700_000_100_000_000_000;

fn trace_id(text: &str) -> TraceId {
    text.parse().expect("a trace id")
}

fn span_id(number: u64) -> SpanId {
    SpanId(number.to_be_bytes())
}

/// A trace of two services with everything that OTLP has, the root last, and a trace with a short id and no service.
fn spans() -> SpanColumns {
    let mut columns = SpanColumns::default();
    let shop = r#"{"service.name":"shop","host.name":"h-1","ip":16909060,"blob":{"$bytes":"AQI="},"list":[1,2.5,{"$bytes":"AQI="}]}"#;
    let shop = columns.origins.intern_resource("shop", shop, "");
    let shop = columns.origins.intern_scope(shop, "tracer", "1.2", "");
    let pay = columns.origins.intern_resource("pay", r#"{"service.name":"pay"}"#, "");
    let none = columns.origins.intern_resource("", "", "");

    columns.attributes.push("z", Value::String("last \"quoted\""));
    columns.attributes.push("http.status_code", Value::Int(500));
    columns.attributes.push("big", Value::Int(9_007_199_254_740_992));
    columns.attributes.push("small", Value::Int(-9_007_199_254_740_991));
    columns.attributes.push("ratio", Value::Double(0.5));
    columns.attributes.push("nan", Value::Double(f64::NAN));
    columns.attributes.push("ok", Value::Bool(false));
    columns.attributes.push("empty", Value::Empty);
    columns.attributes.push("bytes", Value::Json(r#"{"$bytes":"AP8="}"#));
    columns.attributes.push("list", Value::Json(r#"[1,"a",null]"#));
    columns.attributes.push("map", Value::Json(r#"{"$$k":{"$bytes":"AP8="},"d":{"$double":"NaN"},"n":1.0}"#));
    columns.attributes.push("peer.ipv4", Value::Int(33_686_020));
    let late = START_NS + 2_000_000;
    columns.events.push(EventView {
        time_ns: late,
        name: "late",
        attributes: "",
        dropped_attributes_count: 0,
    });
    columns.events.push(EventView {
        time_ns: START_NS,
        name: "exception",
        attributes: r#"{"exception.type":"E","count":2,"b":{"$bytes":"AQI="}}"#,
        dropped_attributes_count: 0,
    });
    columns.events.push(EventView {
        time_ns: START_NS + 1_000,
        name: "",
        attributes: "",
        dropped_attributes_count: 0,
    });
    let link = |trace_id, number, attributes| LinkView {
        trace_id,
        span_id: span_id(number),
        trace_state: "",
        attributes,
        dropped_attributes_count: 0,
        flags: 0,
    };
    columns.links.push(link(trace_id(SHORT_TRACE_ID), 9, ""));
    columns.links.push(link(TraceId::default(), 8, ""));
    columns.links.push(link(trace_id(TRACE_ID), 7, r#"{"opentracing.ref_type":"child_of"}"#));
    let child = SpanFields {
        trace_id: trace_id(TRACE_ID),
        span_id: span_id(2),
        parent_span_id: span_id(1),
        trace_state: "k=v",
        flags: 0x103,
        name: "GET /",
        kind: 2,
        start_ns: START_NS,
        duration_ns: 1_999_999,
        status_code: 2,
        status_message: "boom",
        ..SpanFields::default()
    };
    columns.push_span(&child, shop);
    let root = SpanFields {
        trace_id: trace_id(TRACE_ID),
        span_id: span_id(1),
        name: "checkout",
        kind: 3,
        start_ns: START_NS + 1_000,
        duration_ns: -5,
        status_code: 1,
        ..SpanFields::default()
    };
    columns.push_span(&root, pay);
    let lone = SpanFields {
        trace_id: trace_id(SHORT_TRACE_ID),
        span_id: span_id(5),
        parent_span_id: span_id(4),
        name: "lone",
        start_ns: START_NS,
        duration_ns: 1,
        ..SpanFields::default()
    };
    columns.push_span(&lone, none);
    columns
}

/// What storage was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Ids(Vec<TraceId>),
    Search(TraceSearch),
    Page(TraceSearch, Option<Position>),
    Operations(String),
    Links(TimeRange),
}

/// Answers from the spans, or with an error, or never.
#[derive(Clone, Default)]
struct Fixture {
    spans: Arc<SpanColumns>,
    error: Option<storage::Error>,
    hangs: bool,
    tenant: Arc<Mutex<Option<TenantId>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fixture {
    fn new() -> Self {
        Self { spans: Arc::new(spans()), ..Self::default() }
    }

    fn failing(error: storage::Error) -> Self {
        Self { error: Some(error), ..Self::new() }
    }

    fn reply<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        asked: Option<Asked>,
        value: T,
    ) -> BoxFuture<'static, storage::Result<T>> {
        *self.tenant.lock().expect("a lock") = Some(tenant.clone());
        self.asked.lock().expect("a lock").extend(asked);
        let error = self.error.clone();
        let hangs = self.hangs;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            error.map_or(Ok(value), Err)
        }
        .boxed()
    }

    fn traces(&self, wanted: impl Fn(&TraceId) -> bool) -> TraceSet {
        let mut set = group_by_trace(SpanColumns::clone(&self.spans));
        set.traces.retain(|trace| wanted(&trace.trace_id));
        set
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("a lock").clone()
    }
}

impl Reads for Fixture {
    fn metered(&self, _: &Arc<storage::Calls>) -> Arc<dyn Reads> {
        Arc::new(self.clone())
    }

    fn traces_by_id<'a>(
        &'a self,
        tenant: &'a TenantId,
        ids: &'a [TraceId],
        _: u64,
        _: &'a Limits,
    ) -> BoxFuture<'a, storage::Result<TraceSet>> {
        self.reply(tenant, Some(Asked::Ids(ids.to_vec())), self.traces(|id| ids.contains(id)))
    }

    /// All traces, or none for the service `none`.
    fn search<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: &'a TraceSearch,
        _: &'a Limits,
        _: Means<'a>,
    ) -> BoxFuture<'a, storage::Result<TraceSet>> {
        let none = search.conditions.contains(&Condition::Service("none".to_owned()));
        let mut set = self.traces(|_| !none);
        set.traces.push(Trace { trace_id: trace_id("ff"), spans: Vec::new() });
        self.reply(tenant, Some(Asked::Search(search.clone())), set)
    }

    /// One trace a page.
    fn search_page<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: &'a TraceSearch,
        after: Option<Position>,
        _: &'a Limits,
        _: Means<'a>,
    ) -> BoxFuture<'a, storage::Result<SearchPage>> {
        let place = |trace: &Trace| Position { start_ns: START_NS, trace_id: trace.trace_id };
        let mut set = self.traces(|id| after.is_none_or(|after| *id > after.trace_id));
        set.traces.sort_by_key(|trace| trace.trace_id);
        let is_last = set.traces.len() < 2;
        set.traces.truncate(1);
        let next = set.traces.first().map(place).filter(|_| !is_last);
        self.reply(tenant, Some(Asked::Page(search.clone(), after)), SearchPage { set, next })
    }

    fn services<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, storage::Result<Vec<String>>> {
        let mut services: Vec<String> =
            self.spans.origins.service.dictionary.iter().map(str::to_owned).collect();
        services.sort();
        self.reply(tenant, None, services)
    }

    fn operations<'a>(
        &'a self,
        tenant: &'a TenantId,
        service: &'a str,
    ) -> BoxFuture<'a, storage::Result<Vec<Operation>>> {
        let operation = |name: &str, kind| Operation { name: name.to_owned(), kind };
        let operations = vec![operation("GET /", 0), operation("GET /", 2), operation("pay \"now\"", 3)];
        self.reply(tenant, Some(Asked::Operations(service.to_owned())), operations)
    }

    fn service_links<'a>(
        &'a self,
        tenant: &'a TenantId,
        range: TimeRange,
        _: &'a Limits,
    ) -> BoxFuture<'a, storage::Result<Vec<ServiceLink>>> {
        let link = |parent: &str, child: &str, call_count| ServiceLink {
            parent: parent.to_owned(),
            child: child.to_owned(),
            call_count,
        };
        let links = vec![
            link("", "pay", 2),
            link("OTLPResourceNoServiceName", "pay", 3),
            link("shop", "pay", 18_446_744_073_709_551_615),
            link("shop", "stock", 1),
        ];
        self.reply(tenant, Some(Asked::Links(range)), links)
    }
}

struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

async fn send(fixture: &Fixture, request: Request<Body>) -> Answer {
    let shared = Shared {
        reads: Arc::new(fixture.clone()),
        limits: Limits::default(),
        timeout: if fixture.hangs { Duration::ZERO } else { Duration::from_mins(1) },
        clock: || NOW_NS,
        ledger: Arc::default(),
        searches: None,
        fanout: None,
    };
    let router = routes(shared);
    let response = router.oneshot(request).await.expect("a router never fails");
    let status = response.status().as_u16();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map_or("", |value| value.to_str().expect("ASCII")).to_owned();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    Answer { status, content_type, body: String::from_utf8(body.to_vec()).expect("UTF-8") }
}

async fn get_from(fixture: &Fixture, uri: &str) -> Answer {
    send(fixture, Request::get(uri).body(Body::empty()).expect(uri)).await
}

async fn get_ok(fixture: &Fixture, uri: &str) -> String {
    let answer = get_from(fixture, uri).await;
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, "application/json"),
        "{uri}: {}",
        answer.body
    );
    answer.body
}

async fn check_v1_error(fixture: &Fixture, uri: &str, status: u16, message: &str) {
    let answer = get_from(fixture, uri).await;
    let mut expect =
        format!(r#"{{"data":null,"total":0,"limit":0,"offset":0,"errors":[{{"code":{status},"msg":"#);
    model::attribute::write_string(&mut expect, message);
    expect.push_str("}]}\n");
    assert_eq!((answer.status, answer.body), (status, expect), "{uri}");
    assert_eq!(answer.content_type, "text/plain; charset=utf-8", "{uri}");
}

async fn check_v3_error(fixture: &Fixture, uri: &str, status: u16, message: &str) {
    let answer = get_from(fixture, uri).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect(uri);
    assert_eq!(answer.status, status, "{uri}");
    assert_eq!(
        (body["error"]["httpCode"].as_u64(), body["error"]["message"].as_str()),
        (Some(status.into()), Some(message))
    );
}

#[tokio::test]
async fn services_are_a_list_also_when_there_are_none() {
    assert_eq!(
        get_ok(&Fixture::new(), "/api/services").await,
        r#"{"data":["OTLPResourceNoServiceName","pay","shop"],"total":3,"limit":0,"offset":0,"errors":null}"#
    );
    assert_eq!(
        get_ok(&Fixture::default(), "/api/services").await,
        r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#
    );
    assert_eq!(
        get_ok(&Fixture::new(), "/api/v3/services").await,
        r#"{"services":["OTLPResourceNoServiceName","pay","shop"]}"#
    );
    assert_eq!(get_ok(&Fixture::default(), "/api/v3/services").await, r#"{"services":[]}"#);
}

#[tokio::test]
async fn the_api_is_also_under_its_prefix() {
    let fixture = Fixture::new();
    for path in ["/api/services", "/api/services/shop/operations", "/api/v3/services", "/api/traces/ab"] {
        assert_eq!(get_ok(&fixture, &format!("/jaeger{path}")).await, get_ok(&fixture, path).await, "{path}");
    }
    let page = get_from(&fixture, "/jaeger").await;
    assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(page.body.contains("data source of type Jaeger"), "{}", page.body);
}

#[tokio::test]
async fn unknown_paths_are_never_a_page() {
    let fixture = Fixture::new();
    for path in [
        "/api/nothing",
        "/api/traces/ab/spans",
        "/api/services/operations",
        "/api/services//operations",
        "/api/services/shop",
        "/api/metrics/other",
        "/api/v3/nothing",
        "/jaeger/api/nothing",
        "/jaeger/search",
    ] {
        let answer = get_from(&fixture, path).await;
        assert_eq!(
            (answer.status, answer.content_type.as_str()),
            (404, "text/plain; charset=utf-8"),
            "{path}"
        );
        assert_eq!(answer.body, "404 page not found\n", "{path}");
    }
    let posted = send(&fixture, Request::post("/api/services").body(Body::empty()).expect("a request")).await;
    assert_eq!(posted.status, 405);
}

#[tokio::test]
async fn operations_of_a_service_are_unique_names() {
    let expect = r#"{"data":["GET /","pay \"now\""],"total":2,"limit":0,"offset":0,"errors":null}"#;
    let check = async |path: &str, service: &str| {
        let fixture = Fixture::new();
        assert_eq!(get_ok(&fixture, path).await, expect, "{path}");
        assert_eq!(fixture.asked(), [Asked::Operations(service.to_owned())], "{path}");
    };
    check("/api/services/shop/operations", "shop").await;
    check("/api/services/shop/operations/", "shop").await;
    check("/api/services/a%2Fb%20c+d%2Be/operations", "a/b c d+e").await;
    check("/api/services/a/b/operations", "a/b").await;
    check("/api/services/operations/operations", "operations").await;
    check("/api/services/caf%C3%A9/operations", "café").await;
    check("/api/services/OTLPResourceNoServiceName/operations", "").await;
    check_v1_error(&Fixture::new(), "/api/services/a%zz/operations", 400, r#"invalid URL escape "%zz""#)
        .await;
    check_v1_error(&Fixture::new(), "/api/services/a%ff/operations", 400, r#"invalid UTF-8 in "a%ff""#).await;
}

#[tokio::test]
async fn operations_have_span_kinds() {
    let fixture = Fixture::new();
    assert_eq!(
        get_ok(&fixture, "/api/operations?service=shop").await,
        r#"{"data":[{"name":"GET /","spanKind":""},{"name":"GET /","spanKind":"server"},{"name":"pay \"now\"","spanKind":"client"}],"total":3,"limit":0,"offset":0,"errors":null}"#
    );
    assert_eq!(
        get_ok(&fixture, "/api/operations?service=shop&spanKind=server").await,
        r#"{"data":[{"name":"GET /","spanKind":"server"}],"total":1,"limit":0,"offset":0,"errors":null}"#
    );
    assert_eq!(
        get_ok(&fixture, "/api/operations?service=shop&spanKind=rpc").await,
        r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#
    );
    check_v1_error(&fixture, "/api/operations", 400, "parameter 'service' is required").await;
    assert_eq!(
        get_ok(&fixture, "/api/v3/operations?service=shop").await,
        r#"{"operations":[{"name":"GET /","spanKind":"internal"},{"name":"GET /","spanKind":"server"},{"name":"pay \"now\"","spanKind":"client"}]}"#
    );
    for name in ["spanKind", "span_kind"] {
        assert_eq!(
            get_ok(&fixture, &format!("/api/v3/operations?service=shop&{name}=internal")).await,
            r#"{"operations":[{"name":"GET /","spanKind":"internal"}]}"#
        );
    }
    assert_eq!(get_ok(&fixture, "/api/v3/operations").await, r#"{"operations":[]}"#);
}

const RICH_SPAN_HEAD: &str = r#"{"traceID":"0102030405060708090a0b0c0d0e0f10","spanID":"0000000000000002","flags":1,"operationName":"GET /","references":[{"refType":"CHILD_OF","traceID":"0102030405060708090a0b0c0d0e0f10","spanID":"0000000000000001"},"#;

#[tokio::test]
async fn a_trace_is_golden() {
    let body = get_ok(&Fixture::new(), &format!("/api/traces/{TRACE_ID}")).await;
    let expect = [
        r#"{"data":[{"traceID":"0102030405060708090a0b0c0d0e0f10","spans":["#,
        RICH_SPAN_HEAD,
        r#"{"refType":"FOLLOWS_FROM","traceID":"00000000000000ab","spanID":"0000000000000009"},"#,
        r#"{"refType":"CHILD_OF","traceID":"0102030405060708090a0b0c0d0e0f10","spanID":"0000000000000007"}],"#,
        r#""startTime":1700000000123456,"duration":1999,"tags":["#,
        r#"{"key":"otel.scope.name","type":"string","value":"tracer"},"#,
        r#"{"key":"otel.scope.version","type":"string","value":"1.2"},"#,
        r#"{"key":"big","type":"int64","value":"9007199254740992"},"#,
        r#"{"key":"bytes","type":"binary","value":"AP8="},"#,
        r#"{"key":"empty","type":"string","value":""},"#,
        r#"{"key":"http.status_code","type":"int64","value":500},"#,
        r#"{"key":"list","type":"string","value":"[1,\"a\",null]"},"#,
        r#"{"key":"map","type":"string","value":"{\"$k\":\"AP8=\",\"d\":\"NaN\",\"n\":1.0}"},"#,
        r#"{"key":"nan","type":"float64","value":"NaN"},"#,
        r#"{"key":"ok","type":"bool","value":false},"#,
        r#"{"key":"peer.ipv4","type":"string","value":"2.2.2.4"},"#,
        r#"{"key":"ratio","type":"float64","value":0.5},"#,
        r#"{"key":"small","type":"int64","value":-9007199254740991},"#,
        r#"{"key":"z","type":"string","value":"last \"quoted\""},"#,
        r#"{"key":"span.kind","type":"string","value":"server"},"#,
        r#"{"key":"otel.status_code","type":"string","value":"ERROR"},"#,
        r#"{"key":"error","type":"bool","value":true},"#,
        r#"{"key":"otel.status_description","type":"string","value":"boom"},"#,
        r#"{"key":"w3c.tracestate","type":"string","value":"k=v"}],"#,
        r#""logs":[{"timestamp":1700000000123456,"fields":["#,
        r#"{"key":"event","type":"string","value":"exception"},"#,
        r#"{"key":"b","type":"binary","value":"AQI="},"#,
        r#"{"key":"count","type":"int64","value":2},"#,
        r#"{"key":"exception.type","type":"string","value":"E"}]},"#,
        r#"{"timestamp":1700000000123457,"fields":[]},"#,
        r#"{"timestamp":1700000000125456,"fields":[{"key":"event","type":"string","value":"late"}]}],"#,
        r#""processID":"p1","warnings":null},"#,
        r#"{"traceID":"0102030405060708090a0b0c0d0e0f10","spanID":"0000000000000001","operationName":"checkout","references":[],"#,
        r#""startTime":1700000000123457,"duration":0,"tags":["#,
        r#"{"key":"span.kind","type":"string","value":"client"},"#,
        r#"{"key":"otel.status_code","type":"string","value":"OK"}],"#,
        r#""logs":[],"processID":"p2","warnings":null}],"#,
        r#""processes":{"p1":{"serviceName":"shop","tags":["#,
        r#"{"key":"blob","type":"binary","value":"AQI="},"#,
        r#"{"key":"host.name","type":"string","value":"h-1"},"#,
        r#"{"key":"ip","type":"string","value":"1.2.3.4"},"#,
        r#"{"key":"list","type":"string","value":"[1,2.5,\"AQI=\"]"}]},"#,
        r#""p2":{"serviceName":"pay","tags":[]}},"warnings":null}],"#,
        r#""total":0,"limit":0,"offset":0,"errors":null}"#,
    ];
    assert_eq!(body, expect.concat());
}

#[tokio::test]
async fn a_raw_trace_is_not_adjusted() {
    let body = get_ok(&Fixture::new(), &format!("/api/traces/{TRACE_ID}?raw=true")).await;
    let expect = [
        RICH_SPAN_HEAD,
        r#"{"refType":"FOLLOWS_FROM","traceID":"00000000000000ab","spanID":"0000000000000009"},"#,
        r#"{"refType":"FOLLOWS_FROM","traceID":"0000000000000000","spanID":"0000000000000008"},"#,
    ];
    assert!(body.contains(&expect.concat()), "{body}");
    assert!(body.contains(r#""value":"1.2"},{"key":"z","#), "attributes are not sorted: {body}");
    assert!(body.contains(r#"{"key":"ip","type":"int64","value":16909060}"#), "{body}");
    assert!(body.contains(
        r#"{"timestamp":1700000000125456,"fields":[{"key":"event","type":"string","value":"late"}]},{"#
    ));
}

#[tokio::test]
async fn a_trace_without_service_and_with_a_short_id_is_shown() {
    assert_eq!(
        get_ok(&Fixture::new(), "/api/traces/AB").await,
        [
            r#"{"data":[{"traceID":"00000000000000ab","spans":["#,
            r#"{"traceID":"00000000000000ab","spanID":"0000000000000005","operationName":"lone","#,
            r#""references":[{"refType":"CHILD_OF","traceID":"00000000000000ab","spanID":"0000000000000004"}],"#,
            r#""startTime":1700000000123456,"duration":0,"tags":[],"logs":[],"processID":"p1","warnings":null}],"#,
            r#""processes":{"p1":{"serviceName":"OTLPResourceNoServiceName","tags":[]}},"warnings":null}],"#,
            r#""total":0,"limit":0,"offset":0,"errors":null}"#,
        ]
        .concat()
    );
}

#[tokio::test]
async fn processes_are_shared_within_a_trace_and_across_blocks() {
    // The same resource in two blocks is one process; the numbers start again with each trace.
    let blocks = vec![Arc::new(spans()), Arc::new(spans())];
    let traces = vec![
        Trace { trace_id: trace_id(TRACE_ID), spans: vec![(0, 1), (0, 0), (1, 0), (1, 1)] },
        Trace { trace_id: trace_id(TRACE_ID), spans: vec![(1, 0), (0, 1)] },
    ];
    let body = v1::traces(&TraceSet { blocks, traces }, Adjust::Raw, &[]);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let shown = |trace: usize| {
        let trace = &body["data"][trace];
        let spans = trace["spans"].as_array().expect("spans");
        let of_spans: Vec<_> = spans.iter().map(|span| span["processID"].as_str().expect("an id")).collect();
        let name = |id: &str| trace["processes"][id]["serviceName"].as_str().unwrap_or("").to_owned();
        (of_spans.join(" "), name("p1"), name("p2"), name("p3"))
    };
    let (shop, pay, none) = ("shop".to_owned(), "pay".to_owned(), String::new());
    assert_eq!(shown(0), ("p1 p2 p2 p1".to_owned(), pay.clone(), shop.clone(), none.clone()));
    assert_eq!(shown(1), ("p1 p2".to_owned(), shop, pay, none));
}

#[tokio::test]
async fn a_server_span_with_its_clients_id_gets_its_own_unless_raw() {
    let mut columns = SpanColumns::default();
    let origin = columns.origins.intern_resource("a", "", "");
    for kind in [3, 2] {
        let span = SpanFields { trace_id: trace_id("1"), span_id: span_id(7), kind, ..SpanFields::default() };
        columns.push_span(&span, origin);
    }
    let fixture = Fixture { spans: Arc::new(columns), ..Fixture::default() };
    let adjusted = get_ok(&fixture, "/api/traces/1").await;
    let server = r#""spanID":"0000000000000001","operationName":"","references":[{"refType":"CHILD_OF","traceID":"0000000000000001","spanID":"0000000000000007"}]"#;
    assert!(adjusted.contains(server), "{adjusted}");
    let raw = get_ok(&fixture, "/api/traces/1?raw=1").await;
    assert_eq!(raw.matches(r#""spanID":"0000000000000007","operationName""#).count(), 2, "{raw}");
}

#[tokio::test]
async fn damaged_attributes_do_not_hide_a_trace() {
    let mut columns = SpanColumns::default();
    let origin = columns.origins.intern_resource("a", "{broken", "");
    columns.attributes.push("x", Value::Json(r#"{"$bytes":"#));
    columns.push_span(&SpanFields { trace_id: trace_id("1"), ..SpanFields::default() }, origin);
    let fixture = Fixture { spans: Arc::new(columns), ..Fixture::default() };
    let body = get_ok(&fixture, "/api/traces/1").await;
    assert!(body.contains(r#""tags":[{"key":"x","type":"string","value":"{\"$bytes\":"}]"#), "{body}");
    assert!(body.contains(r#""tags":[{"key":"attributes","type":"string","value":"{broken"}]"#), "{body}");
}

#[tokio::test]
async fn an_unknown_trace_is_404() {
    let fixture = Fixture::new();
    check_v1_error(&fixture, "/api/traces/1234", 404, "trace not found").await;
    check_v1_error(&fixture, "/api/traces/0", 404, "trace not found").await;
    check_v3_error(&fixture, "/api/v3/traces/1234", 404, "No traces found").await;
}

#[tokio::test]
async fn a_trace_is_found_whatever_unit_its_hint_has() {
    let fixture = Fixture::new();
    let plain = get_ok(&fixture, &format!("/api/traces/{TRACE_ID}")).await;
    for hint in [
        "start=1700000000000&end=1700000001000",
        "start=1700000000000000&end=1700000001000000",
        "start=&end=",
    ] {
        assert_eq!(get_ok(&fixture, &format!("/api/traces/{TRACE_ID}?{hint}")).await, plain, "{hint}");
    }
}

#[tokio::test]
async fn wrong_ids_are_400() {
    let fixture = Fixture::new();
    let long = "1".repeat(33);
    check_v1_error(&fixture, "/api/traces/xyz", 400, r#"strconv.ParseUint: parsing "xyz": invalid syntax"#)
        .await;
    check_v1_error(
        &fixture,
        &format!("/api/traces/{long}"),
        400,
        &format!("TraceID cannot be longer than 32 hex characters: {long}"),
    )
    .await;
    check_v1_error(&fixture, "/api/traces/%ff", 400, r#"invalid UTF-8 in "%ff""#).await;
    check_v1_error(&fixture, "/api/traces/%", 400, r#"invalid URL escape "%""#).await;
    check_v1_error(
        &fixture,
        "/api/traces/ab?start=x",
        400,
        r#"unable to parse param 'start': strconv.ParseInt: parsing "x": invalid syntax"#,
    )
    .await;
    check_v3_error(
        &fixture,
        "/api/v3/traces/xyz",
        400,
        r#"malformed parameter trace_id: strconv.ParseUint: parsing "xyz": invalid syntax"#,
    )
    .await;
    check_v3_error(&fixture, "/api/v3/traces/%ff", 400, r#"invalid UTF-8 in "%ff""#).await;
    assert!(fixture.asked().is_empty(), "storage is not asked");
}

#[tokio::test]
async fn a_search_asks_storage_and_leaves_out_empty_traces() {
    let fixture = Fixture::new();
    let body = get_ok(
        &fixture,
        "/api/traces?service=shop&limit=20&lookback=1h&start=1700000000000000&end=1700000001000000",
    )
    .await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let data = body["data"].as_array().expect("traces");
    assert_eq!(data.len(), 2);
    assert!(data.iter().all(|trace| !trace["spans"].as_array().expect("spans").is_empty()));
    assert_eq!((&body["total"], &body["errors"]), (&0.into(), &serde_json::Value::Null));
    assert_eq!(
        fixture.asked(),
        [Asked::Search(TraceSearch {
            range: TimeRange {
                start_ns: 1_700_000_000_000_000_000,
                end_ns_exclusive: 1_700_000_001_000_001_000
            },
            conditions: vec![Condition::Service("shop".to_owned())],
            limit: 20,
        })]
    );
    let none = get_ok(&fixture, "/api/traces?service=none").await;
    assert_eq!(none, r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#);
    check_v1_error(&fixture, "/api/traces", 400, "parameter 'service' is required").await;
    check_v1_error(&fixture, "/api/traces?service=%zz", 400, r#"invalid URL escape "%zz""#).await;
}

#[tokio::test]
async fn a_search_by_ids_names_the_missing_ones() {
    let fixture = Fixture::new();
    let body =
        get_ok(&fixture, "/api/traces?traceID=ab&traceID=99&traceID=ffffffffffffffff0000000000000001").await;
    assert!(body.starts_with(r#"{"data":[{"traceID":"00000000000000ab""#), "{body}");
    let errors = r#""errors":[{"msg":"trace not found","traceID":"0000000000000099"},{"msg":"trace not found","traceID":"ffffffffffffffff0000000000000001"}]}"#;
    assert!(body.ends_with(errors), "{body}");
    let body = get_ok(&fixture, "/api/traces?traceID=ab").await;
    assert!(body.ends_with(r#""errors":null}"#), "{body}");
}

#[tokio::test]
async fn dependencies_are_summed_and_filtered() {
    let fixture = Fixture::new();
    assert_eq!(
        get_ok(&fixture, "/api/dependencies?endTs=1700000000000&lookback=1000").await,
        r#"{"data":[{"parent":"OTLPResourceNoServiceName","child":"pay","callCount":5},{"parent":"shop","child":"pay","callCount":18446744073709551615},{"parent":"shop","child":"stock","callCount":1}],"total":0,"limit":0,"offset":0,"errors":null}"#
    );
    let range =
        TimeRange { start_ns: 1_699_999_999_000_999_999, end_ns_exclusive: 1_700_000_000_001_000_000 };
    assert_eq!(fixture.asked(), [Asked::Links(range)]);
    assert_eq!(
        get_ok(&fixture, "/api/dependencies?service=stock").await,
        r#"{"data":[{"parent":"shop","child":"stock","callCount":1}],"total":0,"limit":0,"offset":0,"errors":null}"#
    );
    assert_eq!(
        get_ok(&fixture, "/api/dependencies?lookback=-5").await,
        r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#
    );
}

#[tokio::test]
async fn there_are_no_metrics_and_no_archive() {
    let fixture = Fixture::new();
    for kind in ["latencies", "calls", "errors", "minstep"] {
        let uri = format!("/api/metrics/{kind}?service=a,service=b");
        check_v1_error(&fixture, &uri, 501, "metrics querying is currently disabled").await;
    }
    let archived =
        send(&fixture, Request::post("/api/archive/ab").body(Body::empty()).expect("a request")).await;
    assert_eq!(archived.status, 501);
    assert!(
        archived.body.contains(r#""msg":"archive span storage was not configured""#),
        "{}",
        archived.body
    );
}

#[tokio::test]
async fn pretty_print_is_for_v1() {
    let fixture = Fixture::default();
    let compact = get_ok(&fixture, "/api/services?prettyPrint=false").await;
    assert_eq!(compact, get_ok(&fixture, "/api/services").await);
    assert_eq!(
        get_ok(&fixture, "/api/services?prettyPrint=true").await,
        "{\n    \"data\": [],\n    \"total\": 0,\n    \"limit\": 0,\n    \"offset\": 0,\n    \"errors\": null\n}"
    );
}

#[tokio::test]
async fn the_tenant_comes_from_its_header() {
    let fixture = Fixture::new();
    let request =
        |tenant: &str| Request::get("/api/services").header("X-Scope-OrgID", tenant).body(Body::empty());
    send(&fixture, request("team-a").expect("a request")).await;
    assert_eq!(fixture.tenant.lock().expect("a lock").take(), Some("team-a".parse().expect("a tenant")));
    get_ok(&fixture, "/api/services").await;
    assert_eq!(fixture.tenant.lock().expect("a lock").take(), Some(TenantId::default_tenant()));
    let refused = send(&fixture, request("a/b").expect("a request")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(*fixture.tenant.lock().expect("a lock"), None);
}

#[tokio::test]
async fn storage_errors_keep_their_inside() {
    let uris = [
        "/api/services",
        "/api/traces?service=a",
        "/api/traces/ab",
        "/api/dependencies",
        "/api/operations?service=a",
    ];
    let times = "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-15T00:13:20Z";
    let v3_uris = [
        "/api/v3/services".to_owned(),
        "/api/v3/traces/ab".to_owned(),
        format!("/api/v3/traces?{times}"),
        format!("/api/v3/trace-summaries?{times}"),
    ];
    for (error, status, message) in [
        (
            storage::Error::unavailable("table", "reading secret", "throttled"),
            503,
            "storage is unavailable; retry later",
        ),
        (storage::Error::corrupt("secret", "bad"), 500, "internal error"),
        (
            storage::Error::OverLimit { limit: 5, unit: "spans" },
            422,
            "query exceeds the limit of 5 spans; narrow its time range or filters",
        ),
    ] {
        let fixture = Fixture::failing(error);
        for uri in uris {
            check_v1_error(&fixture, uri, status, message).await;
        }
        for uri in &v3_uris {
            check_v3_error(&fixture, uri, status, message).await;
        }
    }
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_504() {
    let fixture = Fixture { hangs: true, ..Fixture::new() };
    let message = "query took longer than 0ns; narrow its time range or filters";
    check_v1_error(&fixture, "/api/services", 504, message).await;
    check_v3_error(&fixture, "/api/v3/services", 504, message).await;
}

#[tokio::test]
async fn summaries_tell_root_errors_and_orphans() {
    let fixture = Fixture::new();
    let query = "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-15T00:13:20Z";
    assert_eq!(
        get_ok(&fixture, &format!("/api/v3/trace-summaries?{query}")).await,
        [
            r#"{"summaries":[{"traceId":"0102030405060708090a0b0c0d0e0f10","rootServiceName":"pay","rootOperationName":"checkout","#,
            r#""minStartTimeUnixNano":"1700000000123456789","maxEndTimeUnixNano":"1700000000125456788","#,
            r#""spanCount":2,"errorSpanCount":1,"orphanSpanCount":0,"services":["#,
            r#"{"name":"pay","spanCount":1,"errorSpanCount":0},{"name":"shop","spanCount":1,"errorSpanCount":1}]},"#,
            r#"{"traceId":"000000000000000000000000000000ab","rootServiceName":"OTLPResourceNoServiceName","rootOperationName":"lone","#,
            r#""minStartTimeUnixNano":"1700000000123456789","maxEndTimeUnixNano":"1700000000123456790","#,
            r#""spanCount":1,"errorSpanCount":0,"orphanSpanCount":1,"services":["#,
            r#"{"name":"OTLPResourceNoServiceName","spanCount":1,"errorSpanCount":0}]}]}"#,
        ]
        .concat()
    );
    let none = get_ok(&fixture, &format!("/api/v3/trace-summaries?{query}&query.serviceName=none")).await;
    assert_eq!(none, r#"{"summaries":[]}"#, "an empty answer is no error");
    check_v3_error(
        &fixture,
        "/api/v3/trace-summaries",
        400,
        "query.startTimeMin and query.startTimeMax are required",
    )
    .await;
}

#[tokio::test]
async fn a_v3_search_without_traces_is_404() {
    let fixture = Fixture::new();
    let query = "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-15T00:13:20Z&query.serviceName=none";
    check_v3_error(&fixture, &format!("/api/v3/traces?{query}"), 404, "No traces found").await;
}

#[tokio::test]
async fn a_v3_trace_is_otlp() {
    let body = get_ok(&Fixture::new(), "/api/v3/traces/ab").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect(&body);
    let span = &body["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "000000000000000000000000000000ab");
    assert_eq!(span["startTimeUnixNano"], START_NS.to_string());
    let body = get_ok(&Fixture::new(), &format!("/api/v3/traces/{TRACE_ID}?raw_traces=true")).await;
    let body: serde_json::Value = serde_json::from_str(&body).expect(&body);
    let spans = &body["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!((&spans[0]["kind"], &spans[0]["status"]["code"]), (&2.into(), &2.into()), "enums are numbers");
    assert_eq!(spans[0]["attributes"][1]["value"]["intValue"], "500", "64-bit numbers are strings");
    let query = "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-15T00:13:20Z";
    let body = get_ok(&Fixture::new(), &format!("/api/v3/traces?{query}")).await;
    let body: serde_json::Value = serde_json::from_str(&body).expect(&body);
    assert_eq!(body["result"]["resourceSpans"].as_array().expect("resources").len(), 3);
}

async fn transform_body(body: &str) -> Answer {
    let request = Request::builder().method(Method::POST).uri("/api/transform");
    send(&Fixture::new(), request.body(Body::from(body.to_owned())).expect("a request")).await
}

#[tokio::test]
async fn otlp_is_transformed_as_jaeger_does() {
    let span = r#"{"traceId":"83a9efd15c1c98a977e0711cc93ee28b","spanId":"e127af99e3b3e074","parentSpanId":"909541b92cf05311","name":"okey-dokey-0","kind":2,"startTimeUnixNano":"1706678909209712000","endTimeUnixNano":"1706678909209835000","attributes":[{"key":"net.peer.ip","value":{"stringValue":"1.2.3.4"}},{"key":"peer.service","value":{"stringValue":"telemetrygen-client"}}],"status":{}}"#;
    let answer = transform_body(&format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"telemetrygen"}}}}]}},"scopeSpans":[{{"scope":{{"name":"telemetrygen"}},"spans":[{span}]}}],"schemaUrl":"https://opentelemetry.io/schemas/1.4.0"}}]}}"#
    ))
    .await;
    // Jaeger's fixture otlp2jaeger-out.json.
    let expect = [
        r#"{"data":[{"traceID":"83a9efd15c1c98a977e0711cc93ee28b","spans":[{"traceID":"83a9efd15c1c98a977e0711cc93ee28b","#,
        r#""spanID":"e127af99e3b3e074","operationName":"okey-dokey-0","references":[{"refType":"CHILD_OF","#,
        r#""traceID":"83a9efd15c1c98a977e0711cc93ee28b","spanID":"909541b92cf05311"}],"startTime":1706678909209712,"#,
        r#""duration":123,"tags":[{"key":"otel.scope.name","type":"string","value":"telemetrygen"},"#,
        r#"{"key":"net.peer.ip","type":"string","value":"1.2.3.4"},"#,
        r#"{"key":"peer.service","type":"string","value":"telemetrygen-client"},"#,
        r#"{"key":"span.kind","type":"string","value":"server"}],"logs":[],"processID":"p1","warnings":null}],"#,
        r#""processes":{"p1":{"serviceName":"telemetrygen","tags":[]}},"warnings":null}],"#,
        r#""total":0,"limit":0,"offset":0,"errors":null}"#,
    ];
    assert_eq!((answer.status, answer.body), (200, expect.concat()));
}

#[tokio::test]
async fn a_body_that_is_no_otlp_is_400() {
    for body in ["", "{", "no json", "[]"] {
        let answer = transform_body(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains(r#""msg":"cannot decode OTLP JSON: "#), "{body}: {}", answer.body);
    }
}

#[tokio::test]
async fn pages_of_our_own_search_follow_each_other() {
    let fixture = Fixture::new();
    let first = get_ok(&fixture, "/spandrel/api/v1/search/traces?limit=1&minDuration=1ns").await;
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(first["traces"][0]["traceId"], format!("{SHORT_TRACE_ID:0>32}"));
    assert_eq!(first["traces"][0]["rootOperationName"], "lone");
    let token = first["next"].as_str().expect("a token");
    let next = format!("/spandrel/api/v1/search/traces?limit=1&minDuration=1ns&token={token}");
    let second: serde_json::Value = serde_json::from_str(&get_ok(&fixture, &next).await).expect("JSON");
    assert_eq!((second["traces"][0]["traceId"].as_str(), second.get("next")), (Some(TRACE_ID), None));
    let asked = fixture.asked();
    let (Asked::Page(search, None), Asked::Page(later, Some(after))) = (&asked[0], &asked[1]) else {
        panic!("{asked:?}")
    };
    assert_eq!((search, after.trace_id), (later, trace_id(SHORT_TRACE_ID)));
    let damaged = "invalid parameter token: it is damaged";
    check_v3_error(&fixture, "/spandrel/api/v1/search/traces?token=x", 400, damaged).await;
    let other = "invalid parameter token: it belongs to a search with other parameters";
    check_v3_error(&fixture, &format!("{next}&service=shop"), 400, other).await;
    check_v3_error(
        &fixture,
        "/spandrel/api/v1/search/traces?limit=0",
        400,
        "invalid parameter: limit must be greater than 0",
    )
    .await;
}
