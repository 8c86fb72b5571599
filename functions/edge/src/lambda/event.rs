//! Event text to request.
//!
//! Reads four shapes: payload 2.0 (HTTP API and function URL), payload 1.0 (REST API), ALB with and without
//! multi-value headers. Fields that are missing, null or unknown are no errors; a header that HTTP does not allow is
//! left out. The request's URI is path and query only: a gateway's host names are not looked at.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use serde::Deserialize;

use super::percent;
use crate::config::RawPath;

/// Who sent the event, and so what its answer must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Payload 2.0: HTTP API or function URL.
    V2,
    /// Payload 1.0: REST API.
    V1,
    /// ALB with single values.
    Alb,
    /// ALB with the target group attribute `lambda.multi_value_headers.enabled`.
    AlbMultiValue,
}

/// Why an event is no request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or a field has another JSON type.
    #[error("invalid event: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no method: some other service's event.
    #[error("the event has no HTTP method: this function answers API Gateway, function URLs and ALB")]
    NotHttp,
    /// The method is none.
    #[error("invalid method {method:?}")]
    Method {
        /// The method.
        method: String,
        /// Who sent it.
        origin: Origin,
    },
    /// The URI is longer than 65,534 bytes once it is encoded.
    #[error("the URI of {bytes} bytes is too long")]
    Uri {
        /// Its length.
        bytes: usize,
        /// Who sent it.
        origin: Origin,
    },
    /// The body is not the base64 that the event says it is.
    #[error("the event's body is not base64: {source}")]
    Base64 {
        /// What is wrong with it.
        source: base64::DecodeError,
        /// Who sent it.
        origin: Origin,
    },
}

impl Error {
    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Uri { .. } => StatusCode::URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Who sent the event, as far as it could be read.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Json(_) | Self::NotHttp => Origin::V2,
            Self::Method { origin, .. } | Self::Uri { origin, .. } | Self::Base64 { origin, .. } => *origin,
        }
    }
}

/// Text that is borrowed from the event where it has no escapes, as base64 has none.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

type Map<'a, V> = BTreeMap<Cow<'a, str>, Option<V>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    version: Option<Text<'a>>,
    #[serde(borrow)]
    raw_path: Option<Text<'a>>,
    #[serde(borrow)]
    raw_query_string: Option<Text<'a>>,
    #[serde(borrow)]
    cookies: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    http_method: Option<Text<'a>>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    query_string_parameters: Option<Map<'a, Text<'a>>>,
    #[serde(borrow)]
    multi_value_query_string_parameters: Option<Map<'a, Vec<Text<'a>>>>,
    #[serde(borrow)]
    headers: Option<Map<'a, Text<'a>>>,
    #[serde(borrow)]
    multi_value_headers: Option<Map<'a, Vec<Text<'a>>>>,
    #[serde(borrow)]
    request_context: Option<Context<'a>>,
    #[serde(borrow)]
    body: Option<Text<'a>>,
    is_base64_encoded: Option<bool>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    #[serde(borrow)]
    domain_name: Option<Text<'a>>,
    #[serde(borrow)]
    stage: Option<Text<'a>>,
    #[serde(borrow)]
    http: Option<ContextHttp<'a>>,
    elb: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct ContextHttp<'a> {
    #[serde(borrow)]
    method: Option<Text<'a>>,
}

fn text<'a>(field: Option<&'a Text<'_>>) -> &'a str {
    field.map_or("", |text| &text.0)
}

/// The request that the event's text stands for, and who sent it.
///
/// # Errors
/// The event is none of HTTP, or its method, URI or body cannot be one.
pub fn parse(event: &str, raw_path: RawPath) -> Result<(Request<Body>, Origin), Error> {
    let event: Event<'_> = serde_json::from_str(event)?;
    let context = event.request_context.as_ref();
    let v2_method = context.and_then(|context| context.http.as_ref()).and_then(|http| http.method.as_ref());
    let is_v2 = text(event.version.as_ref()) == "2.0" || v2_method.is_some();
    let origin = if is_v2 {
        Origin::V2
    } else if context.is_some_and(|context| context.elb.is_some()) {
        if event.multi_value_headers.is_some() { Origin::AlbMultiValue } else { Origin::Alb }
    } else {
        Origin::V1
    };
    let method = text(v2_method.or(event.http_method.as_ref()));
    if method.is_empty() {
        return Err(Error::NotHttp);
    }
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Error::Method { method: method.to_owned(), origin })?;

    let mut target = path(&event, origin, raw_path);
    let query = query(&event, origin);
    if !query.is_empty() {
        target.push('?');
        target.push_str(&query);
    }
    let uri = Uri::try_from(&target).map_err(|_| Error::Uri { bytes: target.len(), origin })?;
    let mut headers = headers(&event);
    let body = body(event.body, event.is_base64_encoded == Some(true))
        .map_err(|source| Error::Base64 { source, origin })?;
    // The gateway's framing is not ours: the length is the body's, whatever was done to it on the way.
    headers.remove(TRANSFER_ENCODING);
    headers.remove(EXPECT);
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok((request, origin))
}

/// The path, encoded, without the stage that an HTTP API puts in front of it.
fn path(event: &Event<'_>, origin: Origin, raw_path: RawPath) -> String {
    let context = event.request_context.as_ref();
    let mut path = text(if origin == Origin::V2 { event.raw_path.as_ref() } else { event.path.as_ref() });
    let stage = text(context.and_then(|context| context.stage.as_ref()));
    if origin == Origin::V2 && !stage.is_empty() && stage != "$default" {
        let below = path.strip_prefix('/').and_then(|path| path.strip_prefix(stage));
        path = below.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
    }
    let is_decoded = match raw_path {
        RawPath::Encoded => false,
        RawPath::Decoded => true,
        // A custom domain in front of a function URL would be CloudFront's, which keeps the function URL's name here.
        RawPath::ByOrigin => {
            let domain = text(context.and_then(|context| context.domain_name.as_ref()));
            origin == Origin::V2 && !domain.contains(".lambda-url.")
        }
    };
    let path = if is_decoded { percent::decoded_path(path) } else { percent::encoded_path(path) };
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// The query, encoded. The maps of payload 2.0 are never used: they join repeated keys by commas.
fn query(event: &Event<'_>, origin: Origin) -> String {
    if origin == Origin::V2 {
        return percent::query(text(event.raw_query_string.as_ref()));
    }
    let mut query = String::new();
    let mut push = |key: &str, value: &str| {
        if !query.is_empty() {
            query.push('&');
        }
        if origin == Origin::V1 {
            percent::push_query_part(&mut query, key);
            query.push('=');
            percent::push_query_part(&mut query, value);
        } else {
            // ALB hands over what the client sent.
            query.push_str(&percent::query(key));
            query.push('=');
            query.push_str(&percent::query(value));
        }
    };
    if let Some(parameters) = event.multi_value_query_string_parameters.as_ref().filter(|map| !map.is_empty())
    {
        for (key, values) in parameters {
            for value in values.iter().flatten() {
                push(key, &value.0);
            }
        }
    } else if let Some(parameters) = &event.query_string_parameters {
        for (key, value) in parameters {
            push(key, text(value.as_ref()));
        }
    }
    query
}

fn headers(event: &Event<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut push = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    if let Some(multi) = event.multi_value_headers.as_ref().filter(|map| !map.is_empty()) {
        for (name, values) in multi {
            for value in values.iter().flatten() {
                push(name, &value.0);
            }
        }
    } else {
        for (name, value) in event.headers.iter().flatten() {
            push(name, text(value.as_ref()));
        }
    }
    let cookies: Vec<&str> = event.cookies.iter().flatten().map(|cookie| &*cookie.0).collect();
    if !cookies.is_empty()
        && !headers.contains_key(COOKIE)
        && let Ok(value) = HeaderValue::from_str(&cookies.join("; "))
    {
        headers.insert(COOKIE, value);
    }
    headers
}

fn body(body: Option<Text<'_>>, is_base64: bool) -> Result<Vec<u8>, base64::DecodeError> {
    match body {
        None => Ok(Vec::new()),
        Some(Text(text)) if is_base64 => BASE64.decode(text.as_bytes()),
        Some(Text(text)) => Ok(text.into_owned().into_bytes()),
    }
}
