//! Every trap of API Gateway, function URLs and ALB: raw event in, request seen by a router, event out.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{answer, answer::MAX_ALB_BYTES};
use crate::config::RawPath;
use crate::guard::{Door, RequestId, json_failure, plain_failure};

/// Tells what arrived: method, raw path and query, headers, body as base64.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
    let seen = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": headers,
        "body": BASE64.encode(&body),
    });
    axum::Json(seen).into_response()
}

fn door() -> Door {
    let router = Router::new()
        .route(
            "/binary",
            any(|| async { ([("content-type", "application/x-protobuf")], vec![0xff, 0x00, 0x0a]) }),
        )
        .route(
            "/empty-protobuf",
            any(|| async { ([("content-type", "application/x-protobuf")], Vec::new()) }),
        )
        .route("/untyped", any(|| async { Response::new(Body::from(vec![0x0a, 0xff])) }))
        .route("/not-utf8", any(|| async { ([("content-type", "text/plain")], vec![b'a', 0xff]) }))
        .route(
            "/zipped",
            any(|| async { ([("content-type", "text/plain"), ("content-encoding", "gzip")], "zz") }),
        )
        .route("/big", get(|| async { "x".repeat(1 << 20) }))
        .route("/huge", get(|| async { ([("content-type", "application/json")], "\"".repeat(4 << 20)) }))
        .route("/panic", any(|| async { if true { panic!("boom") } else { "never" } }))
        .route("/slow", any(|| async { std::future::pending::<&str>().await }))
        .route(
            "/cookies",
            any(|| async {
                [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("vary", "x"), ("vary", "y")].into_headers()
            }),
        )
        .fallback(echo);
    Door::new(router, plain_failure)
}

trait IntoHeaders {
    fn into_headers(self) -> Response;
}

impl<const N: usize> IntoHeaders for [(&'static str, &'static str); N] {
    fn into_headers(self) -> Response {
        let mut response = Response::new(Body::empty());
        for (name, value) in self {
            response.headers_mut().append(name, value.parse().expect("a header value"));
        }
        response
    }
}

async fn ask_text(door: &Door, event: &str, raw_path: RawPath) -> Value {
    let id = RequestId("invocation-1".into());
    let text = answer(door, event, raw_path, id, Some(Duration::from_secs(1))).await;
    serde_json::from_str(&text).expect("the answer is JSON")
}

async fn ask(event: Value) -> Value {
    ask_text(&door(), &event.to_string(), RawPath::ByOrigin).await
}

/// What the router saw of an event.
async fn seen(event: Value) -> Value {
    let answer = ask(event).await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    serde_json::from_str(answer["body"].as_str().expect("text")).expect("what echo says")
}

const URL_DOMAIN: &str = "abc.lambda-url.us-east-1.on.aws";
const API_DOMAIN: &str = "abc.execute-api.us-east-1.amazonaws.com";

/// An event as an HTTP API and a function URL send it, with `more` in its place.
fn v2(domain: &str, path: &str, more: &Value) -> Value {
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "host": domain, "x-forwarded-proto": "https" },
        "requestContext": {
            "accountId": "anonymous", "apiId": "abc", "domainName": domain, "domainPrefix": "abc",
            "http": { "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "x" },
            "requestId": "1", "stage": "$default", "time": "x", "timeEpoch": 1
        },
        "isBase64Encoded": false
    });
    merge(&mut event, more);
    event
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn post(body: &Value) -> Value {
    let mut event = v2(URL_DOMAIN, "/x", body);
    event["requestContext"]["http"]["method"] = json!("POST");
    event
}

fn header<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = seen["headers"].as_array().expect("pairs");
    headers.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().expect("text")).collect()
}

#[tokio::test]
async fn every_raw_query_arrives_as_a_legal_one() {
    for (raw, expect) in [
        (r#"q={ .a = "b" }"#, json!("q=%7B%20.a%20=%20%22b%22%20%7D")),
        ("query=a b+c%2Bd", json!("query=a%20b+c%2Bd")),
        ("match[]={a=\"1,2\"}&match[]=b", json!("match%5B%5D=%7Ba=%221,2%22%7D&match%5B%5D=b")),
        ("a=|<>^`\\", json!("a=%7C%3C%3E%5E%60%5C")),
        ("a=é\u{7f}\n", json!("a=%C3%A9%7F%0A")),
        ("a=100%&b=%g1", json!("a=100%25&b=%25g1")),
        ("a=b#c?d", json!("a=b%23c?d")),
        ("", json!(null)),
    ] {
        for domain in [URL_DOMAIN, API_DOMAIN] {
            let query = seen(v2(domain, "/x", &json!({ "rawQueryString": raw }))).await["query"].clone();
            assert_eq!(query, expect, "{raw:?}");
        }
    }
}

#[tokio::test]
async fn the_comma_joined_map_of_parameters_is_not_looked_at() {
    let more = json!({ "rawQueryString": "m=a&m=b", "queryStringParameters": { "m": "a,b" } });
    assert_eq!(seen(v2(API_DOMAIN, "/x", &more)).await["query"], "m=a&m=b");
}

#[tokio::test]
async fn a_path_is_decoded_by_an_http_api_and_not_by_a_function_url() {
    for (domain, raw, expect) in [
        (URL_DOMAIN, "/a%2Fb/c", "/a%2Fb/c"),
        (URL_DOMAIN, "/a b/é", "/a%20b/%C3%A9"),
        (URL_DOMAIN, "/100%", "/100%25"),
        (API_DOMAIN, "/a/b/c", "/a/b/c"),
        (API_DOMAIN, "/a%2Fb", "/a%252Fb"),
        (API_DOMAIN, "/a?b#c", "/a%3Fb%23c"),
        (API_DOMAIN, "/a b/é/100%", "/a%20b/%C3%A9/100%25"),
        ("api.example.com", "/100%/x y", "/100%25/x%20y"),
        (API_DOMAIN, "/api/services/http://x/operations", "/api/services/http://x/operations"),
        (API_DOMAIN, "", "/"),
        (API_DOMAIN, "x", "/x"),
        (URL_DOMAIN, "//v1/x", "/v1/x"),
        (URL_DOMAIN, "/../x", "/../x"),
    ] {
        assert_eq!(seen(v2(domain, raw, &json!({}))).await["path"], expect, "{domain} {raw}");
    }
}

#[tokio::test]
async fn a_setting_says_how_paths_arrive() {
    let event = v2("other", "/a%2Fb", &json!({})).to_string();
    for (raw_path, expect) in
        [(RawPath::Encoded, "/a%2Fb"), (RawPath::Decoded, "/a%252Fb"), (RawPath::ByOrigin, "/a%252Fb")]
    {
        let answer = ask_text(&door(), &event, raw_path).await;
        let seen: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("echo");
        assert_eq!(seen["path"], expect, "{raw_path:?}");
    }
}

#[tokio::test]
async fn a_stage_is_taken_from_the_path() {
    for (stage, path, expect) in [
        ("prod", "/prod/v1/x", "/v1/x"),
        ("prod", "/prod", "/"),
        ("prod", "/production/x", "/production/x"),
        ("prod", "/v1/x", "/v1/x"),
        ("$default", "/prod/x", "/prod/x"),
        ("", "/x", "/x"),
    ] {
        let event = v2(API_DOMAIN, path, &json!({ "requestContext": { "stage": stage } }));
        assert_eq!(seen(event).await["path"], expect, "{stage} {path}");
    }
}

#[tokio::test]
async fn a_base_path_is_taken_from_the_path() {
    let door = door().below("/telemetry");
    for (path, expect) in [("/telemetry/v1/x", "/v1/x"), ("/v1/x", "/v1/x"), ("/telemetryx", "/telemetryx")] {
        let event = v2("api.example.com", path, &json!({})).to_string();
        let answer = ask_text(&door, &event, RawPath::ByOrigin).await;
        let seen: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("echo");
        assert_eq!(seen["path"], expect, "{path}");
    }
}

#[tokio::test]
async fn no_host_name_does_harm() {
    for host in ["abc.127.0.0.1:4566", "127.0.0.1", "[::1]:1", "", "ä ö", "a/b?c#d", "1.2.3", "%zz"] {
        let event = v2(host, "/x", &json!({ "requestContext": { "domainName": host } }));
        assert_eq!(seen(event).await["path"], "/x", "{host}");
    }
    assert_eq!(
        seen(v2("x", "/x", &json!({ "headers": null, "requestContext": { "domainName": null } }))).await["path"],
        "/x"
    );
}

#[tokio::test]
async fn base64_is_decoded_for_any_content_type() {
    for content_type in
        ["application/x-www-form-urlencoded", "application/json", "application/x-protobuf", "text/plain"]
    {
        let body = json!({ "body": BASE64.encode(b"query=a+b&\xff"), "isBase64Encoded": true, "headers": { "content-type": content_type } });
        assert_eq!(seen(post(&body)).await["body"], BASE64.encode(b"query=a+b&\xff"), "{content_type}");
    }
    // Some emulators escape slashes.
    let escaped =
        post(&json!({ "isBase64Encoded": true })).to_string().replacen('{', r#"{"body":"\/\/8=","#, 1);
    let answer = ask_text(&door(), &escaped, RawPath::ByOrigin).await;
    let seen: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("echo");
    assert_eq!(seen["body"], BASE64.encode([0xff, 0xff]));
}

#[tokio::test]
async fn bodies_arrive_as_they_are() {
    let text = json!({ "body": "{\"a\":\"é\\n\"}", "headers": { "content-type": "application/json" } });
    assert_eq!(seen(post(&text)).await["body"], BASE64.encode("{\"a\":\"é\\n\"}"));
    let empty = json!({ "headers": { "content-length": "0" } });
    let got = seen(post(&empty)).await;
    assert_eq!((got["body"].as_str(), header(&got, "content-length")), (Some(""), vec!["0"]));
    assert_eq!(seen(post(&json!({ "body": null }))).await["body"], "");
    // The gateway's length is that of another form of the body.
    let other = json!({ "body": "abc", "headers": { "content-length": "9", "transfer-encoding": "chunked", "expect": "100-continue" } });
    let got = seen(post(&other)).await;
    assert_eq!(header(&got, "content-length"), ["3"]);
    assert!(header(&got, "transfer-encoding").is_empty() && header(&got, "expect").is_empty());
}

#[tokio::test]
async fn headers_that_http_does_not_allow_are_left_out() {
    let more = json!({
        "headers": { "x-scope-orgid": "a,b", "bad name": "x", "bad-value": "a\nb", "x-null": null, "x-utf8": "é" },
        "cookies": ["a=1", "b=2"]
    });
    let got = seen(v2(URL_DOMAIN, "/x", &more)).await;
    assert_eq!(header(&got, "x-scope-orgid"), ["a,b"]);
    assert_eq!(header(&got, "cookie"), ["a=1; b=2"]);
    assert_eq!(header(&got, "x-utf8"), ["é"]);
    assert!(header(&got, "bad-value").is_empty());
}

#[tokio::test]
async fn a_rest_api_sends_decoded_parameters() {
    let event = json!({
        "resource": "/{proxy+}", "path": "/a%2Fb/x", "httpMethod": "PUT",
        "headers": { "X-A": "1" }, "multiValueHeaders": { "X-A": ["1", "2"] },
        "queryStringParameters": { "m": "b" },
        "multiValueQueryStringParameters": { "m": ["a b+c", "{\"&\"}"] },
        "requestContext": { "stage": "prod", "path": "/prod/a%2Fb/x", "domainName": "x", "httpMethod": "PUT" },
        "body": null, "isBase64Encoded": false
    });
    let got = seen_v1(event).await;
    assert_eq!((got["method"].as_str(), got["path"].as_str()), (Some("PUT"), Some("/a%2Fb/x")));
    assert_eq!(got["query"], "m=a%20b%2Bc&m=%7B%22%26%22%7D");
    assert_eq!(header(&got, "x-a"), ["1", "2"]);
}

async fn seen_v1(event: Value) -> Value {
    let answer = ask(event).await;
    assert_eq!(answer["multiValueHeaders"]["content-type"], json!(["application/json"]));
    assert_eq!(answer.get("headers"), None);
    serde_json::from_str(answer["body"].as_str().expect("text")).expect("what echo says")
}

/// An event as ALB sends it; parameters and path are as the client sent them.
fn alb(is_multi: bool) -> Value {
    let mut event = json!({
        "requestContext": { "elb": { "targetGroupArn": "arn:x" } },
        "httpMethod": "GET", "path": "/a%2Fb", "body": "", "isBase64Encoded": false
    });
    if is_multi {
        event["multiValueHeaders"] = json!({ "accept": ["a", "b"] });
        event["multiValueQueryStringParameters"] = json!({ "m%5B%5D": ["a%20b+c", "{x}"] });
    } else {
        event["headers"] = json!({ "accept": "a" });
        event["queryStringParameters"] = json!({ "m": "a%20b" });
    }
    event
}

#[tokio::test]
async fn alb_sends_encoded_parameters_and_gets_its_own_form_of_answer() {
    let answer = ask(alb(true)).await;
    assert_eq!(answer["statusDescription"], "200 OK");
    assert_eq!(
        (answer.get("headers"), &answer["multiValueHeaders"]["content-type"]),
        (None, &json!(["application/json"]))
    );
    let got: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("echo");
    assert_eq!(
        (got["path"].as_str(), got["query"].as_str()),
        (Some("/a%2Fb"), Some("m%5B%5D=a%20b+c&m%5B%5D=%7Bx%7D"))
    );
    assert_eq!(header(&got, "accept"), ["a", "b"]);

    let answer = ask(alb(false)).await;
    assert_eq!(
        (answer.get("multiValueHeaders"), &answer["headers"]["content-type"]),
        (None, &json!("application/json"))
    );
    let got: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("echo");
    assert_eq!(got["query"], "m=a%20b");
}

#[tokio::test]
async fn bodies_that_are_no_text_go_as_base64_with_a_type() {
    for (path, body, is_base64, content_type) in [
        ("/binary", "/wAK", true, json!("application/x-protobuf")),
        ("/empty-protobuf", "", false, json!("application/x-protobuf")),
        ("/untyped", "Cv8=", true, json!("application/octet-stream")),
        ("/not-utf8", "Yf8=", true, json!("text/plain")),
        ("/zipped", "eno=", true, json!("text/plain")),
    ] {
        let answer = ask(v2(URL_DOMAIN, path, &json!({}))).await;
        assert_eq!(
            (&answer["body"], &answer["isBase64Encoded"]),
            (&json!(body), &json!(is_base64)),
            "{path}"
        );
        assert_eq!(
            (&answer["headers"]["content-type"], &answer["statusCode"]),
            (&content_type, &json!(200)),
            "{path}"
        );
        assert_eq!(answer["headers"].get("content-length"), None);
        assert_eq!(answer["headers"]["x-request-id"], "invocation-1");
    }
}

#[tokio::test]
async fn payload_two_has_cookies_apart_and_one_value_a_header() {
    let answer = ask(v2(URL_DOMAIN, "/cookies", &json!({}))).await;
    assert_eq!(answer["cookies"], json!(["a=1", "b=2"]));
    assert_eq!((&answer["headers"]["vary"], answer["headers"].get("set-cookie")), (&json!("x, y"), None));
}

#[tokio::test]
async fn a_large_answer_is_compressed_or_refused_in_words() {
    let zipped = ask(v2(URL_DOMAIN, "/huge", &json!({ "headers": { "accept-encoding": "gzip" } }))).await;
    assert_eq!(
        (&zipped["statusCode"], &zipped["headers"]["content-encoding"]),
        (&json!(200), &json!("gzip"))
    );
    // 4 MiB of quotes are 8 MiB as JSON.
    let plain = ask(v2(URL_DOMAIN, "/huge", &json!({}))).await;
    assert_eq!(plain["statusCode"], 413);
    assert!(plain["body"].as_str().expect("text").contains("6291556"), "{plain}");
    let mut event = alb(true);
    event["path"] = json!("/big");
    let refused = ask(event).await;
    assert_eq!(refused["statusCode"], 413);
    assert!(refused["body"].as_str().expect("text").contains(&MAX_ALB_BYTES.to_string()));
    assert_eq!(ask(v2(URL_DOMAIN, "/big", &json!({}))).await["statusCode"], 200);
}

#[tokio::test]
async fn a_failure_has_the_form_of_the_api() {
    let door = Door::new(Router::new().route("/huge", get(|| async { "\"".repeat(4 << 20) })), json_failure);
    let answer = ask_text(&door, &v2(URL_DOMAIN, "/huge", &json!({})).to_string(), RawPath::ByOrigin).await;
    let body: Value = serde_json::from_str(answer["body"].as_str().expect("text")).expect("JSON");
    assert_eq!((&answer["statusCode"], &body["errors"][0]["code"]), (&json!(413), &json!(413)));
}

#[tokio::test(start_paused = true)]
async fn panics_and_timeouts_are_answers_to_retry() {
    for path in ["/panic", "/slow"] {
        let answer = ask(v2(API_DOMAIN, path, &json!({}))).await;
        assert_eq!(
            (&answer["statusCode"], &answer["headers"]["retry-after"]),
            (&json!(503), &json!("1")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_no_request_is_answered_too() {
    for (event, status) in [
        ("{}", 400),
        ("null", 400),
        ("[1]", 400),
        ("not json", 400),
        (r#"{"key1":"value1"}"#, 400),
        (r#"{"source":"aws.events","detail":{}}"#, 400),
        (r#"{"rawPath":5,"requestContext":{"http":{"method":"GET"}}}"#, 400),
        (r#"{"requestContext":{"http":{"method":"G E T"}}}"#, 400),
        (r#"{"body":"!!!","isBase64Encoded":true,"requestContext":{"http":{"method":"POST"}}}"#, 400),
        (r#"{"requestContext":{"http":{"method":"GET"}}}"#, 200),
    ] {
        let answer = ask_text(&door(), event, RawPath::ByOrigin).await;
        assert_eq!(answer["statusCode"], status, "{event}: {answer}");
    }
    let long = v2(URL_DOMAIN, "/x", &json!({ "rawQueryString": "a".repeat(70_000) }));
    assert_eq!(ask(long).await["statusCode"], 414);
}

proptest::proptest! {
    #[test]
    fn any_text_in_any_field_is_answered(path in ".*", query in ".*", name in ".*", value in ".*", body in ".*", is_base64: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let more = json!({ "rawQueryString": query, "headers": { name: value.clone() }, "body": body, "isBase64Encoded": is_base64, "cookies": [value] });
        for domain in [URL_DOMAIN, API_DOMAIN] {
            let answer = runtime.block_on(ask(v2(domain, &path, &more)));
            let status = answer["statusCode"].as_u64().unwrap_or(0);
            proptest::prop_assert!(status == 200 || status == 400, "{}", answer);
        }
    }
}
