//! `POST /v1/traces`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use edge::guard::{RequestId, Served};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use model::{ContentHash, Signal, TenantId};
use storage::Calls;
use storage::block::spans::EncodedSpans;
use storage::object::PutOutcome;
use wire::otlp::Format;
use wire::{Encoding, Limits};

use crate::refusal::Refusal;
use crate::{Shared, body, rules};

/// What becomes of a request's body on the CPU.
struct Prepared {
    content: ContentHash,
    /// `None` if no span was valid, or none was there.
    block: Option<EncodedSpans>,
    n_accepted: u64,
    n_rejected: u64,
    error_message: String,
    body_bytes: usize,
}

/// Stores the request's spans, then answers. Never fails and never panics.
pub(crate) async fn serve(shared: &Arc<Shared>, request: Request) -> Response {
    let format = rules::format(request.headers());
    let request_id = request.extensions().get::<RequestId>().cloned();
    let tenant = edge::tenant(request.headers());
    let calls = Arc::new(Calls::default());
    let after = shared.settings.timeout;

    let work = edge::guard::caught(store(shared, request, &tenant, &calls));
    let outcome = match tokio::time::timeout(after, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(message)) => {
            tracing::error!(message, "ingest panicked");
            Err(Refusal::Panicked)
        }
        Err(_) => Err(Refusal::TooLate { after }),
    };
    let mut response = outcome.unwrap_or_else(|refusal| {
        shared.metrics.refused(&refusal);
        if let Refusal::Storage(error) = &refusal {
            let request_id = request_id.as_ref().map_or("", |id| &id.0);
            let tenant = tenant.as_ref().map_or("", TenantId::as_str);
            tracing::warn!(tenant, request_id, error = %chain(error), "not stored");
        }
        refusal.response(format)
    });
    response.extensions_mut().insert(Served { tenant: tenant.ok(), usage: calls.usage() });
    response
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

async fn store(
    shared: &Arc<Shared>,
    request: Request,
    tenant: &Result<TenantId, model::IdError>,
    calls: &Arc<Calls>,
) -> Result<Response, Refusal> {
    let (parts, mut request_body) = request.into_parts();
    let read = async {
        let format = rules::required_format(&parts.headers)?;
        let encoding = rules::encoding(&parts.headers)?;
        let tenant = tenant.clone()?;
        let limits = &shared.settings.limits;
        let limit = match encoding {
            Encoding::Identity => limits.max_body_bytes,
            _ => limits.max_compressed_bytes,
        };
        let (body, held) = body::read(&mut request_body, limit, &shared.budget).await?;
        Ok::<_, Refusal>((format, encoding, tenant, body, held))
    };
    let (format, encoding, tenant, body, mut held) = match read.await {
        Ok(read) => read,
        Err(refusal) => {
            if refusal.leaves_body_unread() {
                body::drain(request_body, &parts.headers).await;
            }
            return Err(refusal);
        }
    };

    let metrics = &shared.metrics;
    metrics.received_bytes.add(body.len() as u64);
    let work_bytes = body.len() + decompressed_bytes(&body, encoding, &shared.settings.limits);
    held.grow(work_bytes).await?;
    let limits = shared.settings.limits;
    let prepared = if work_bytes <= shared.settings.inline_bytes {
        prepare(&body, &tenant, format, encoding, &limits)?
    } else {
        let (tenant, permits) = (tenant.clone(), Arc::clone(&shared.cpu));
        let permit = permits.acquire_owned().await.expect("invariant: the semaphore is never closed");
        let work = move || {
            let prepared = prepare(&body, &tenant, format, encoding, &limits);
            drop(permit);
            prepared
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Panicked)??
    };
    // What was claimed may have been too little, for bodies of several members.
    held.grow(prepared.body_bytes).await?;
    metrics.decompressed_bytes.add(prepared.body_bytes as u64);

    let Prepared { content, block, n_accepted, n_rejected, error_message, .. } = prepared;
    if let Some(block) = block {
        metrics.encoded_bytes.add(block.bytes.len() as u64);
        let stored = shared.writer.spans(&tenant, content, block, calls).await?;
        match stored.outcome {
            PutOutcome::Created => metrics.stored_requests.add(1),
            PutOutcome::AlreadyThere => metrics.duplicate_requests.add(1),
        }
    } else {
        metrics.empty_requests.add(1);
    }
    metrics.accepted_spans.add(n_accepted);
    metrics.rejected_spans.add(n_rejected);
    Ok(success(format, n_rejected, &error_message))
}

/// What the body will be, by what it says of itself or by a guess, within the limit: for the budget only.
fn decompressed_bytes(body: &[u8], encoding: Encoding, limits: &Limits) -> usize {
    let said_bytes = match encoding {
        Encoding::Identity => 0,
        Encoding::Gzip => {
            let said_bytes = body.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
            // Deflate expands by 1032 at most, so a short body cannot claim a large part.
            said_bytes.min(body.len().saturating_mul(1032))
        }
        Encoding::Deflate | Encoding::Zstd => body.len().saturating_mul(8),
    };
    said_bytes.min(limits.max_body_bytes)
}

/// The CPU's part: body to block.
fn prepare(
    body: &Bytes,
    tenant: &TenantId,
    format: Format,
    encoding: Encoding,
    limits: &Limits,
) -> Result<Prepared, wire::Error> {
    let body = wire::decompress(body, encoding, limits)?;
    let content = storage::write::content_hash(tenant, Signal::Traces, &body);
    let decoded = wire::otlp::decode_traces(&body, format, limits)?;
    let n_accepted = decoded.columns.len() as u64;
    let block = (n_accepted > 0).then(|| storage::block::spans::encode(&decoded.columns));
    Ok(Prepared {
        content,
        block,
        n_accepted,
        n_rejected: decoded.rejected_spans,
        error_message: decoded.error_message,
        body_bytes: body.len(),
    })
}

fn success(format: Format, n_rejected: u64, error_message: &str) -> Response {
    let body = wire::otlp::traces_response(format, n_rejected, error_message);
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}
