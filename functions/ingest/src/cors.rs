//! What lets a web page send telemetry: the SDKs for browsers ask first (`OPTIONS`), then post.
//!
//! Source: Fetch standard, "CORS protocol"; OTLP exporters for browsers send own headers, and `sendBeacon` sends with
//! credentials, for which `*` is not enough: the origin is sent back by name.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Web pages that may send telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// These, such as `https://shop.example`.
    Named(Vec<String>),
}

/// The origin that the request comes from, if it is one that may.
pub(crate) fn allowed_origin(headers: &HeaderMap, origins: &Origins) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let is_allowed = match origins {
        Origins::Any => true,
        Origins::Named(names) => names.iter().any(|name| name.as_bytes() == origin.as_bytes()),
    };
    is_allowed.then(|| origin.clone())
}

/// The answer to a question before the request.
pub(crate) fn preflight(headers: &HeaderMap, is_allowed: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    if is_allowed {
        let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let usual = HeaderValue::from_static("content-type, content-encoding, authorization, x-scope-orgid");
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(usual));
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    }
    response
}

/// Lets the page see the answer.
pub(crate) fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}
