//! `POST /api/v1/read`: samples of series as they are, for a Prometheus that evaluates by itself.
//!
//! Source: Prometheus `storage/remote/read_handler.go`.

use axum::body::Body;
use axum::extract::{Request, State as Extension};
use axum::response::{IntoResponse as _, Response};
use edge::guard::Served;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use model::TenantId;
use storage::read::{self, Selection, SeriesLimits};
use storage::{Error as StorageError, Store};
use wire::remote_read;

use super::Shared;
use crate::respond;

/// The longest request: a list of matchers.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Samples in an answer, which is made in memory.
const MAX_SAMPLES: u64 = 5_000_000;

/// What an answer needs, and how it is refused: in plain text, as Prometheus does.
enum Outcome {
    Answer(Vec<u8>),
    Refusal(StatusCode, String),
}

pub(super) async fn remote_read(Extension(shared): Extension<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let tenant = edge::tenant(&parts.headers);
    let calls = shared.ledger.calls(crate::FUNCTION, tenant.as_ref().ok());
    let store = shared.store.metered(&calls);
    let work = answer(&shared, store, &parts.headers, &tenant, body);
    let outcome = tokio::time::timeout(shared.timeout, work).await.unwrap_or_else(|_| {
        Outcome::Refusal(StatusCode::SERVICE_UNAVAILABLE, "the query took too long".to_owned())
    });
    let mut response = match outcome {
        Outcome::Refusal(status, problem) => respond::text(status, problem + "\n"),
        Outcome::Answer(body) => {
            let mut response = Body::from(body).into_response();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            response
        }
    };
    response.extensions_mut().insert(Served {
        function: crate::FUNCTION,
        tenant: tenant.ok(),
        usage: calls.usage(),
    });
    response
}

async fn answer(
    shared: &Shared,
    store: Store,
    headers: &HeaderMap,
    tenant: &Result<TenantId, model::IdError>,
    body: Body,
) -> Outcome {
    let bad = |problem: String| Outcome::Refusal(StatusCode::BAD_REQUEST, problem);
    let tenant = match tenant {
        Ok(tenant) => tenant,
        Err(problem) => return bad(problem.to_string()),
    };
    let is_snappy = headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "snappy");
    if !is_snappy {
        let problem = "unsupported content encoding: use snappy".to_owned();
        return Outcome::Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem);
    }
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return bad(format!("the request cannot be read, or is longer than {MAX_BODY_BYTES} bytes"));
    };
    let limits = wire::Limits { max_body_bytes: MAX_BODY_BYTES, ..wire::Limits::default() };
    let queries = match remote_read::decode(&body, &limits) {
        Ok(queries) => queries,
        Err(problem) => return bad(problem.to_string()),
    };
    let selection = |query: remote_read::Query| Selection {
        steps: None,
        matchers: query.matchers,
        start_ms_exclusive: query.start_ms.saturating_sub(1),
        end_ms: query.end_ms,
    };
    let selections: Vec<Selection> = queries.into_iter().map(selection).collect();
    let limits = SeriesLimits {
        max_bytes: shared.limits.max_bytes,
        max_samples: MAX_SAMPLES,
        ..SeriesLimits::default()
    };
    match read::select(&store, tenant, &selections, &limits).await {
        Ok(results) => {
            // Compressing takes as long as reading: on a thread of its own.
            match tokio::task::spawn_blocking(move || remote_read::encode(results)).await {
                Ok(body) => Outcome::Answer(body),
                Err(err) => std::panic::resume_unwind(err.into_panic()),
            }
        }
        Err(error @ StorageError::OverLimit { .. }) => bad(error.to_string()),
        Err(error) => {
            tracing::warn!(tenant = tenant.as_str(), ?error, "remote read failed");
            Outcome::Refusal(StatusCode::INTERNAL_SERVER_ERROR, "storage failed; ask again".to_owned())
        }
    }
}
