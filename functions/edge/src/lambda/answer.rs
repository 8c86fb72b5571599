//! Response to event text.
//!
//! A body travels as text if its type says text, no coding lies over it, and it is UTF-8; else as base64, which every
//! gateway decodes (a REST API needs `binaryMediaTypes = */*`). A body without a type would be taken for text: it
//! gets one.

use std::collections::BTreeMap;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response};
use serde::Serialize;

use super::Origin;
use crate::guard::Failure;

/// The largest response event that Lambda takes, as its own error message says it.
pub const MAX_LAMBDA_BYTES: usize = 6_291_556;
/// The largest response that ALB takes, the whole JSON included.
pub const MAX_ALB_BYTES: usize = 1 << 20;

/// Why a response cannot be sent as an event.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event would be larger than the platform carries.
    #[error("the response event of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is carried.
        limit: usize,
    },
    /// The body broke off.
    #[error("the response's body broke off: {0}")]
    Body(#[source] axum::Error),
    /// The event did not serialise.
    #[error("the response event did not serialise: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            Error::Body(_) | Error::Json(_) => Self::Panicked,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<&'a str, Vec<String>>>,
    /// Present in payload 2.0 even if empty: `cargo lambda watch` takes no event without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<Vec<String>>,
    body: &'a str,
    is_base64_encoded: bool,
}

/// The text of the event that `response` travels in.
///
/// # Errors
/// The event is larger than the platform carries; the body broke off.
pub async fn encode(response: Response<Body>, origin: Origin) -> Result<String, Error> {
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(Error::Body)?;
    // The gateway frames the answer; a length that a HEAD answer kept would contradict its empty body.
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    if !body.is_empty() && !parts.headers.contains_key(CONTENT_TYPE) {
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    let (body, is_base64_encoded) = body_text(&parts.headers, body);
    let mut answer = Answer {
        status_code: parts.status.as_u16(),
        status_description: None,
        headers: None,
        multi_value_headers: None,
        cookies: None,
        body: &body,
        is_base64_encoded,
    };
    match origin {
        Origin::V2 => {
            answer.cookies = Some(values(&parts.headers, SET_COOKIE.as_str()));
            answer.headers = Some(joined(&parts.headers));
        }
        Origin::V1 => answer.multi_value_headers = Some(listed(&parts.headers)),
        Origin::Alb | Origin::AlbMultiValue => {
            let reason = parts.status.canonical_reason().unwrap_or("Unknown");
            answer.status_description = Some(format!("{} {reason}", parts.status.as_u16()));
            if origin == Origin::Alb {
                answer.headers = Some(joined(&parts.headers));
            } else {
                answer.multi_value_headers = Some(listed(&parts.headers));
            }
        }
    }
    let event = serde_json::to_string(&answer)?;
    let limit = match origin {
        Origin::Alb | Origin::AlbMultiValue => MAX_ALB_BYTES,
        Origin::V1 | Origin::V2 => MAX_LAMBDA_BYTES,
    };
    if event.len() > limit { Err(Error::TooLarge { bytes: event.len(), limit }) } else { Ok(event) }
}

/// The body as the event has it, and whether that is base64.
fn body_text(headers: &HeaderMap, body: Bytes) -> (String, bool) {
    if headers.contains_key(CONTENT_ENCODING) || !is_text(headers) {
        let is_base64 = !body.is_empty();
        return (BASE64.encode(&body), is_base64);
    }
    match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(error) => (BASE64.encode(error.as_bytes()), true),
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || matches!(media_type.as_str(), "application/json" | "application/javascript" | "application/xml")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
}

fn value_text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(value_text).collect()
}

fn listed(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    headers.keys().map(|name| (name.as_str(), values(headers, name.as_str()))).collect()
}

/// One value a name: repeated ones joined by commas, as HTTP reads them. Not for `set-cookie`, which has no such form.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let names = headers.keys().filter(|name| **name != SET_COOKIE);
    names.map(|name| (name.as_str(), values(headers, name.as_str()).join(", "))).collect()
}
