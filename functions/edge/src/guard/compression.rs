//! gzip for answers worth it. Only gzip: it is what every client of these APIs takes.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, stream};
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

/// `response` compressed, or as it is when it is short, compressed already or of a compressed type.
pub(super) async fn gzip(response: Response) -> Response {
    let n_bytes = response.body().size_hint().exact();
    if n_bytes.is_some_and(|n_bytes| n_bytes < MIN_BYTES) || !is_compressible(response.headers()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    if n_bytes.is_none() {
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        parts.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
        return Response::from_parts(parts, compress_pieces(body));
    }
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

/// A body of unknown length, compressed piece by piece as it is sent.
fn compress_pieces(body: Body) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let pieces = stream::try_unfold(Some((body.into_data_stream(), encoder)), async |state| {
        let Some((mut plain, mut encoder)) = state else { return Ok(None) };
        while let Some(piece) = plain.next().await {
            encoder.write_all(&piece?).map_err(axum::Error::new)?;
            let compressed = std::mem::take(encoder.get_mut());
            if !compressed.is_empty() {
                return Ok(Some((Bytes::from(compressed), Some((plain, encoder)))));
            }
        }
        let compressed = encoder.finish().map_err(axum::Error::new)?;
        Ok::<_, axum::Error>(Some((Bytes::from(compressed), None)))
    });
    Body::from_stream(pieces)
}

/// Empty if it did not work, which writing into memory always does.
fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6 + 64), Compression::fast());
    match encoder.write_all(plain) {
        Ok(()) => encoder.finish().unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}
