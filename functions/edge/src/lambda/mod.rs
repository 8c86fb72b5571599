//! Lambda: events of API Gateway (HTTP and REST), function URLs and ALB to requests, responses to events.
//!
//! event text → [`event::parse`] → [`crate::guard::Door`] → [`answer::encode`] → event text.
//! Written here instead of taken from `lambda_http`, which runs URLs through a URL parser and panics on a query or a
//! host that is none, and reads decoded paths as encoded ones. Nothing here panics on any event.
//! Limits and traps: the design's contract for API Gateway, function URL and ALB.

pub mod answer;
pub mod event;
pub mod job;
mod percent;
#[cfg(feature = "lambda")]
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

use crate::config::RawPath;
use crate::guard::{Asked, Door, Failure, RequestId};
pub use event::Origin;
pub use job::job_event;
#[cfg(feature = "lambda")]
pub use run::{main, run, run_scheduled, run_with_jobs};

/// The answer to one event, both as JSON text; never fails and never panics.
///
/// `limit` bounds the time that the router may take; `id` names the invocation in logs.
pub async fn answer(
    door: &Door,
    event: &str,
    raw_path: RawPath,
    id: RequestId,
    limit: Option<Duration>,
) -> String {
    let (mut request, origin) = match event::parse(event, raw_path) {
        Ok(parsed) => parsed,
        Err(error) => {
            tracing::warn!(%error, request_id = &*id.0, "event refused");
            let response = plain(error.status(), format!("{error}\n"));
            return answer::encode(response, error.origin()).await.unwrap_or_default();
        }
    };
    let asked = Asked {
        method: request.method().clone(),
        uri: request.uri().clone(),
        content_type: request.headers().get(header::CONTENT_TYPE).cloned(),
    };
    request.extensions_mut().insert(id);
    let response = door.answer(request, limit).await;
    match answer::encode(response, origin).await {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, path = asked.uri.path(), "response not sent");
            let response = door.refuse(&asked, Failure::from(error));
            answer::encode(response, origin).await.unwrap_or_default()
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
