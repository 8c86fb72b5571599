//! What every endpoint does with a request: read, decompress, decode, encode, store, answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use edge::guard::{RequestId, Served};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use model::sampling::HeadSampler;
use model::sampling::head::SampledOut;
use model::{ContentHash, SeriesBatch, Signal, TenantId};
use storage::Calls;
use storage::block::logs::EncodedLogs;
use storage::block::series::EncodedSeries;
use storage::block::spans::EncodedSpans;
use storage::object::PutOutcome;
use wire::otlp::Format;
use wire::remote_write::{self, Version};
use wire::{Encoding, Limits, Reason, Rejected};

use crate::refusal::Refusal;
use crate::rules::Endpoint;
use crate::{Sampling, Settings, Shared, body, rules};

/// What becomes of a request's body on the CPU.
struct Prepared {
    content: ContentHash,
    /// `None` if nothing was valid, or nothing was there.
    block: Option<Block>,
    n_accepted: u64,
    n_rejected: u64,
    error_message: String,
    body_bytes: usize,
    written: Written,
    /// Of samples: why they were rejected.
    rejected: Rejected,
    /// Of spans and log records: what sampling dropped.
    sampled_out: SampledOut,
}

/// A file to be stored.
enum Block {
    Spans(EncodedSpans),
    Series(Box<EncodedSeries>),
    Logs(EncodedLogs),
}

/// What remote write 2.0 wants to be told.
#[derive(Default)]
struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

/// The message in a body.
#[derive(Clone, Copy)]
enum Message {
    Traces(Format),
    Metrics(Format),
    Logs(Format),
    RemoteWrite(Version),
}

impl Message {
    /// The message that the endpoint and the content type say.
    fn of(endpoint: Endpoint, headers: &HeaderMap) -> Result<Self, Refusal> {
        match endpoint {
            Endpoint::Traces => rules::required_format(headers).map(Self::Traces),
            Endpoint::Metrics => rules::required_format(headers).map(Self::Metrics),
            Endpoint::Logs => rules::required_format(headers).map(Self::Logs),
            Endpoint::RemoteWrite => rules::remote_write_version(headers).map(Self::RemoteWrite),
        }
    }
}

/// Stores what the request holds, then answers. Never fails and never panics.
pub(crate) async fn serve(shared: &Arc<Shared>, request: Request, endpoint: Endpoint) -> Response {
    let protocol = rules::protocol(endpoint, request.headers());
    let request_id = request.extensions().get::<RequestId>().cloned();
    let tenant = edge::tenant(request.headers());
    let calls = shared.ledger.calls(crate::FUNCTION, tenant.as_ref().ok());
    let after = shared.settings.timeout;

    let work = edge::guard::caught(store(shared, request, endpoint, &tenant, &calls));
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
        refusal.response(protocol)
    });
    response.extensions_mut().insert(Served {
        function: crate::FUNCTION,
        tenant: tenant.ok(),
        usage: calls.usage(),
    });
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
    endpoint: Endpoint,
    tenant: &Result<TenantId, model::IdError>,
    calls: &Arc<Calls>,
) -> Result<Response, Refusal> {
    let (parts, mut request_body) = request.into_parts();
    let read = async {
        let message = Message::of(endpoint, &parts.headers)?;
        let encoding = match message {
            Message::Traces(_) | Message::Metrics(_) | Message::Logs(_) => rules::encoding(&parts.headers)?,
            Message::RemoteWrite(_) => rules::remote_write_encoding(&parts.headers)?,
        };
        let tenant = tenant.clone()?;
        let limits = &shared.settings.limits;
        let limit = match encoding {
            Encoding::Identity => limits.max_body_bytes,
            _ => limits.max_compressed_bytes,
        };
        let (body, held) = body::read(&mut request_body, limit, &shared.budget).await?;
        Ok::<_, Refusal>((message, encoding, tenant, body, held))
    };
    let (message, encoding, tenant, body, mut held) = match read.await {
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
    let prepared = if work_bytes <= shared.settings.inline_bytes {
        prepare(shared, &body, &tenant, message, encoding)?
    } else {
        let (tenant, shared, permits) = (tenant.clone(), Arc::clone(shared), Arc::clone(&shared.cpu));
        let permit = permits.acquire_owned().await.expect("invariant: the semaphore is never closed");
        let work = move || {
            let prepared = prepare(&shared, &body, &tenant, message, encoding);
            drop(permit);
            prepared
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Panicked)??
    };
    // What was claimed may have been too little, for bodies of several members.
    held.grow(prepared.body_bytes).await?;
    metrics.decompressed_bytes.add(prepared.body_bytes as u64);

    let Prepared { content, block, n_accepted, n_rejected, .. } = prepared;
    let stored = match block {
        None => None,
        Some(Block::Spans(block)) => {
            metrics.encoded_bytes.add(block.bytes.len() as u64);
            Some(shared.writer.spans(&tenant, content, block, edge::clock::now_s(), calls).await?)
        }
        Some(Block::Series(block)) => {
            metrics.encoded_bytes.add(block.bytes.len() as u64);
            Some(shared.writer.series(&tenant, content, *block, edge::clock::now_s(), calls).await?)
        }
        Some(Block::Logs(block)) => {
            metrics.encoded_bytes.add(block.bytes.len() as u64);
            Some(shared.writer.logs(&tenant, content, block, edge::clock::now_s(), calls).await?)
        }
    };
    let of_signal = metrics.of(endpoint);
    match stored.map(|stored| stored.outcome) {
        Some(PutOutcome::Created) => of_signal.stored_requests.add(1),
        Some(PutOutcome::AlreadyThere) => of_signal.duplicate_requests.add(1),
        None => of_signal.empty_requests.add(1),
    }
    of_signal.accepted.add(n_accepted);
    of_signal.rejected.add(n_rejected);
    of_signal.sampled_out.add(prepared.sampled_out.n_dropped);
    of_signal.sampling_errors.add(prepared.sampled_out.n_errors);
    metrics.rejected(&prepared.rejected);
    Ok(match message {
        Message::Traces(format) => {
            success(format, wire::otlp::traces_response(format, n_rejected, &prepared.error_message))
        }
        Message::Metrics(format) => {
            success(format, wire::otlp::metrics_response(format, n_rejected, &prepared.error_message))
        }
        Message::Logs(format) => {
            success(format, wire::otlp::logs_response(format, n_rejected, &prepared.error_message))
        }
        Message::RemoteWrite(_) => written(&prepared.written, n_rejected, &prepared.error_message),
    })
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
        Encoding::Deflate | Encoding::Zstd | Encoding::SnappyBlock => body.len().saturating_mul(8),
    };
    said_bytes.min(limits.max_body_bytes)
}

/// The CPU's part: body to block.
fn prepare(
    shared: &Shared,
    body: &Bytes,
    tenant: &TenantId,
    message: Message,
    encoding: Encoding,
) -> Result<Prepared, wire::Error> {
    let Settings { limits, translation, sampling, .. } = &shared.settings;
    let body = wire::decompress(body, encoding, limits)?;
    match message {
        Message::Traces(format) => {
            let content = storage::write::content_hash(tenant, Signal::Traces, &body);
            let mut decoded = wire::otlp::decode_traces(&body, format, limits)?;
            let sampled_out = match sampling {
                Some(sampling) => HeadSampler::new(&sampling.head).sample_spans(&mut decoded.columns),
                None => SampledOut::default(),
            };
            let n_accepted = decoded.columns.len() as u64;
            let block =
                (n_accepted > 0).then(|| Block::Spans(storage::block::spans::encode(&decoded.columns)));
            Ok(Prepared {
                content,
                block,
                n_accepted,
                n_rejected: decoded.rejected_spans,
                error_message: decoded.error_message,
                body_bytes: body.len(),
                written: Written::default(),
                rejected: Rejected::default(),
                sampled_out,
            })
        }
        Message::Metrics(format) => {
            let content = storage::write::content_hash(tenant, Signal::Metrics, &body);
            let limits = in_time(&shared.settings);
            let mut decoded = wire::otlp::metrics::decode_metrics(&body, format, translation, &limits)?;
            admit(shared, tenant, &mut decoded.batch, &mut decoded.rejected);
            let block = storage::block::series::encode(&decoded.batch);
            Ok(Prepared {
                content,
                n_accepted: decoded.batch.n_samples() as u64,
                block: block.map(|block| Block::Series(Box::new(block))),
                n_rejected: decoded.rejected.n(),
                error_message: decoded.rejected.message().to_owned(),
                body_bytes: body.len(),
                written: Written::default(),
                rejected: decoded.rejected,
                sampled_out: SampledOut::default(),
            })
        }
        Message::Logs(format) => {
            let content = storage::write::content_hash(tenant, Signal::Logs, &body);
            let mut decoded = wire::otlp::decode_logs(&body, format, limits)?;
            let sampled_out = match sampling {
                Some(Sampling { head, logs: Some(logs) }) => {
                    HeadSampler::new(head).sample_logs(logs, &mut decoded.columns)
                }
                _ => SampledOut::default(),
            };
            let n_accepted = decoded.columns.len() as u64;
            Ok(Prepared {
                content,
                block: (n_accepted > 0).then(|| Block::Logs(storage::block::logs::encode(&decoded.columns))),
                n_accepted,
                n_rejected: decoded.rejected_log_records,
                error_message: decoded.error_message,
                body_bytes: body.len(),
                written: Written::default(),
                rejected: Rejected::default(),
                sampled_out,
            })
        }
        Message::RemoteWrite(version) => {
            let content = storage::write::content_hash(tenant, Signal::Metrics, &body);
            let mut decoded = remote_write::decode(&body, version, &in_time(&shared.settings))?;
            let mut written = Written {
                samples: decoded.n_samples,
                histograms: decoded.n_histograms,
                exemplars: decoded.n_exemplars,
            };
            if admit(shared, tenant, &mut decoded.batch, &mut decoded.rejected) {
                let batch = &decoded.batch;
                written = Written {
                    samples: batch.time_ms.len() as u64,
                    histograms: batch.histograms.len() as u64,
                    exemplars: batch.exemplars.len() as u64,
                };
            }
            let block = storage::block::series::encode(&decoded.batch);
            Ok(Prepared {
                content,
                block: block.map(|block| Block::Series(Box::new(block))),
                n_accepted: written.samples + written.histograms,
                n_rejected: decoded.rejected.n(),
                error_message: decoded.rejected.message().to_owned(),
                body_bytes: body.len(),
                written,
                rejected: decoded.rejected,
                sampled_out: SampledOut::default(),
            })
        }
    }
}

/// The limits with the times between which samples are taken now.
fn in_time(settings: &Settings) -> Limits {
    let now_ms = edge::clock::now_ns() / 1_000_000;
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Limits {
        min_time_ms: settings.max_sample_age.map_or(i64::MIN, |age| now_ms.saturating_sub(ms(age))),
        max_time_ms: settings.max_sample_future.map_or(i64::MAX, |future| now_ms.saturating_add(ms(future))),
        ..settings.limits
    }
}

/// Drops series over the tenant's limit, and counts what was rejected by reason; says whether any series was dropped.
fn admit(shared: &Shared, tenant: &TenantId, batch: &mut SeriesBatch, rejected: &mut Rejected) -> bool {
    let Some(max) = shared.settings.max_series_per_tenant else { return false };
    let n_dropped = shared.series.admit(tenant, edge::clock::now_ns() / 1_000_000, max, batch);
    rejected.add(Reason::SeriesLimit, n_dropped, || {
        format!("tenant {tenant} has {max} series in this hour already: new ones are left out")
    });
    n_dropped > 0
}

/// The answer to a write: what was kept is stored, and what was not is said with a status that stops the sender from
/// sending it again. Source: remote write specification 2.0, "Partial Write".
fn written(written: &Written, n_rejected: u64, error_message: &str) -> Response {
    let mut response = if n_rejected > 0 {
        let text = format!("{n_rejected} samples, histograms or exemplars left out: {error_message}\n");
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        response
    } else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    };
    for (name, n) in [
        ("x-prometheus-remote-write-samples-written", written.samples),
        ("x-prometheus-remote-write-histograms-written", written.histograms),
        ("x-prometheus-remote-write-exemplars-written", written.exemplars),
    ] {
        response.headers_mut().insert(name, HeaderValue::from(n));
    }
    response
}

fn success(format: Format, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}
