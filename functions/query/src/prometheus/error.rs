//! Errors as Prometheus' API has them.
//!
//! Source: Prometheus `web/api/v1/api.go` `respondError`, `getDefaultErrorCode`.

use axum::response::Response;
use http::StatusCode;
use model::IdError;
use model::attribute::write_string;

use super::params::ParamError;
use crate::form::FormError;
use crate::respond;

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The request cannot be understood.
    #[error("{0}")]
    BadData(String),
    /// The query cannot be evaluated.
    #[error("{0}")]
    Execution(String),
    /// The query took too long.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// A part that others were asked for failed twice.
    #[error("{0}; ask again")]
    Job(#[source] storage::Error),
    /// Storage failed; the client is told nothing of the inside.
    #[error("storage failed; ask again")]
    Storage(#[source] storage::Error),
    /// What storage gave cannot be read.
    #[error("storage failed; ask again")]
    Unread(String),
}

impl Error {
    /// The name that clients switch on, and the status.
    fn kind(&self) -> (&'static str, StatusCode) {
        match self {
            Self::BadData(_) => ("bad_data", StatusCode::BAD_REQUEST),
            Self::Execution(_) => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Timeout(_) => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            Self::Job(_) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Storage(_) | Self::Unread(_) => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The status that it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.kind().1
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::OverLimit { .. } => Self::Execution(error.to_string()),
            storage::Error::Job { .. } => Self::Job(error),
            other => Self::Storage(other),
        }
    }
}

impl From<promql::Error> for Error {
    fn from(error: promql::Error) -> Self {
        match error {
            promql::Error::Cancelled => Self::Timeout("expression evaluation"),
            promql::Error::Unread(why) => Self::Unread(why),
            other => Self::Execution(other.to_string()),
        }
    }
}

impl From<ParamError> for Error {
    fn from(error: ParamError) -> Self {
        Self::BadData(error.to_string())
    }
}

impl From<FormError> for Error {
    fn from(error: FormError) -> Self {
        Self::BadData(format!("error parsing form values: {error}"))
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Self::BadData(error.to_string())
    }
}

/// The answer to a request that failed.
pub(super) fn respond(error: &Error) -> Response {
    let (kind, status) = error.kind();
    let mut body = String::from(r#"{"status":"error","errorType":"#);
    write_string(&mut body, kind);
    body.push_str(",\"error\":");
    write_string(&mut body, &error.to_string());
    body.push('}');
    respond::json(status, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_failed_twice_is_told_without_the_inside() {
        let unavailable = storage::Error::unavailable("worker", "running a job", "secret");
        let error = storage::Error::Job { source: std::sync::Arc::new(unavailable) };
        let response = respond(&error.into());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let expect = r#"{"status":"error","errorType":"unavailable","error":"a part of the query failed twice; ask again"}"#;
        assert_eq!(body, expect.as_bytes());
    }
}
