//! gzip for answers worth it. Only gzip: it is what every client of these APIs takes.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;

/// Shorter bodies go as they are.
const MIN_BYTES: u64 = 1024;
/// Longer bodies are compressed on a thread of their own: about 1 ms of work.
const INLINE_BYTES: usize = 128 << 10;

/// Whether the client takes gzip: it names `gzip`, and not with a weight of 0.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let is_refused = parts.any(|part| {
            let weight = part.trim().strip_prefix("q=").map(|weight| weight.trim().parse::<f32>());
            matches!(weight, Some(Ok(weight)) if weight <= 0.0)
        });
        name.eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// `response` compressed, or as it is when it is short, compressed already, of a compressed type, or a stream.
pub(super) async fn gzip(response: Response) -> Response {
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    if bytes < MIN_BYTES || !is_compressible(response.headers()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        // A body of known length lies in memory and does not fail.
        return Response::from_parts(parts, Body::empty());
    };
    let compressed = if plain.len() <= INLINE_BYTES {
        compress(&plain)
    } else {
        let shared = plain.clone();
        tokio::task::spawn_blocking(move || compress(&shared)).await.unwrap_or_default()
    };
    let is_smaller = !compressed.is_empty() && compressed.len() < plain.len();
    let body = if is_smaller {
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        parts.headers.remove(CONTENT_LENGTH);
        Bytes::from(compressed)
    } else {
        plain
    };
    parts.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(parts, Body::from(body))
}

fn is_compressible(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_packed = ["image/", "font/", "application/gzip", "application/zip"]
        .iter()
        .any(|packed| content_type.starts_with(packed) && !content_type.starts_with("image/svg"));
    !headers.contains_key(CONTENT_ENCODING) && !is_packed
}

/// Empty if it did not work, which writing into memory always does.
fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6 + 64), Compression::fast());
    match encoder.write_all(plain) {
        Ok(()) => encoder.finish().unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}
