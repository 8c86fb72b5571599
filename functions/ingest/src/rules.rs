//! The protocol's rules about method, path and headers; pure.
//!
//! Source: OTLP specification, "OTLP/HTTP Request"; the Collector's `otlpreceiver` and `confighttp`.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};
use wire::Encoding;
use wire::otlp::Format;
use wire::remote_write::Version;

use crate::refusal::{Protocol, Refusal};

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `<any prefix>/v1/traces`.
    Traces,
    /// `<any prefix>/v1/metrics`, among them Prometheus' own `/api/v1/otlp/v1/metrics`.
    Metrics,
    /// `<any prefix>/v1/logs`.
    Logs,
    /// `<any prefix>/api/v1/write`.
    RemoteWrite,
}

/// The last two segments of a path.
fn ends(path: &str) -> (&str, &str) {
    let mut segments = path.trim_end_matches('/').rsplit('/').filter(|segment| !segment.is_empty());
    let last = segments.next().unwrap_or_default();
    (segments.next().unwrap_or_default(), last)
}

/// Whether `path` is an endpoint of OTLP or of remote write behind any prefix, served or not.
pub fn is_endpoint(path: &str) -> bool {
    matches!(ends(path), ("v1", "traces" | "metrics" | "logs" | "write") | ("v1development", "profiles"))
}

/// What a request is for.
///
/// Exporters append `/v1/traces` to whatever base they were given, so any prefix is accepted.
pub(crate) fn route(method: &Method, path: &str) -> Result<Endpoint, Refusal> {
    match ends(path) {
        ("v1", "traces") if method == Method::POST || method == Method::OPTIONS => Ok(Endpoint::Traces),
        ("v1", "metrics") if method == Method::POST || method == Method::OPTIONS => Ok(Endpoint::Metrics),
        ("v1", "logs") if method == Method::POST || method == Method::OPTIONS => Ok(Endpoint::Logs),
        ("v1", "write") if method == Method::POST || method == Method::OPTIONS => Ok(Endpoint::RemoteWrite),
        ("v1", "traces" | "metrics" | "logs" | "write") => Err(Refusal::Method(method.clone())),
        (_, signal) if is_endpoint(path) => Err(Refusal::NotServed(signal.to_owned())),
        _ => Err(Refusal::NotFound { path: path.chars().take(256).collect() }),
    }
}

/// How answers to an endpoint are written.
pub(crate) fn protocol(endpoint: Endpoint, headers: &HeaderMap) -> Protocol {
    match endpoint {
        Endpoint::Traces | Endpoint::Metrics | Endpoint::Logs => Protocol::Otlp(format(headers)),
        Endpoint::RemoteWrite => Protocol::RemoteWrite,
    }
}

/// The message of a remote write; version 1 where there is no content type.
pub(crate) fn remote_write_version(headers: &HeaderMap) -> Result<Version, Refusal> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Version::V1) };
    let value = String::from_utf8_lossy(value.as_bytes());
    Version::from_content_type(&value)
        .ok_or_else(|| Refusal::WriteMediaType(value.chars().take(256).collect()))
}

/// How the body of a remote write is compressed: by Snappy, also where the header that says so is missing.
pub(crate) fn remote_write_encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let value =
        headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    match value.as_deref().map(str::trim) {
        None | Some("" | "snappy") => Ok(Encoding::SnappyBlock),
        Some(other) => Err(Refusal::WriteEncoding(other.chars().take(64).collect())),
    }
}

/// The format of the request's body, if its content type names one.
pub(crate) fn format(headers: &HeaderMap) -> Option<Format> {
    Format::from_content_type(headers.get(CONTENT_TYPE)?.to_str().ok()?)
}

/// The format of the request's body.
pub(crate) fn required_format(headers: &HeaderMap) -> Result<Format, Refusal> {
    format(headers).ok_or_else(|| {
        let sent =
            headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Refusal::MediaType(sent.unwrap_or_default())
    })
}

/// How the request's body is compressed.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    match headers.get(CONTENT_ENCODING) {
        None => Ok(Encoding::Identity),
        Some(value) => {
            Encoding::from_header(&String::from_utf8_lossy(value.as_bytes())).map_err(Refusal::Wire)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_prefix_may_stand_before_the_signal() {
        let check = |path: &str, expect: &str| {
            let got = match route(&Method::POST, path) {
                Ok(Endpoint::Traces) => "traces".to_owned(),
                Ok(Endpoint::Metrics) => "metrics".to_owned(),
                Ok(Endpoint::Logs) => "logs".to_owned(),
                Ok(Endpoint::RemoteWrite) => "write".to_owned(),
                Err(refusal) => refusal.status().as_u16().to_string(),
            };
            assert_eq!(got, expect, "{path}");
        };
        check("/v1/traces", "traces");
        check("/v1/traces/", "traces");
        check("//v1/traces", "traces");
        check("/base//v1//traces", "traces");
        check("/stage/otlp/v1/traces", "traces");
        check("/api/v1/write", "write");
        check("/prometheus/api/v1/write/", "write");
        check("/", "404");
        check("", "404");
        check("/traces", "404");
        check("/v1/traces/x", "404");
        check("/v1/metrics", "metrics");
        check("/api/v1/otlp/v1/metrics", "metrics");
        check("/v1/logs", "logs");
        check("/xv1/traces", "404");
    }
}
