//! Errors, by what the client can do about them, in the two forms that clients expect.
//!
//! | status | what |
//! |---|---|
//! | 400 | wrong parameters, wrong tenant, wrong body |
//! | 404 | no such trace |
//! | 413 | the body is too large |
//! | 422 | the query would read more than one query may: narrow it |
//! | 500 | ours; the client is told nothing of the inside |
//! | 501 | no such storage here |
//! | 503 | storage is unavailable, or a part of the query failed twice: retry later |
//! | 504 | the query took too long: narrow it |

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use model::attribute::write_string;

use super::params::ParamError;
use crate::respond;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Wrong parameters.
    #[error(transparent)]
    Parameter(#[from] ParamError),
    /// The tenant's name is none.
    #[error(transparent)]
    Tenant(model::IdError),
    /// The body is not what it must be.
    #[error("cannot decode OTLP JSON: {0}")]
    Body(String),
    /// The body is larger than allowed.
    #[error("request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The bytes allowed.
        limit: usize,
    },
    /// No trace has the id. v1's words.
    #[error("trace not found")]
    TraceNotFound,
    /// No trace has the id or meets the search. v3's words.
    #[error("No traces found")]
    NoTraces,
    /// There are no metrics to answer from. Jaeger's words.
    #[error("metrics querying is currently disabled")]
    NoMetrics,
    /// There is nothing to copy to. Jaeger's words.
    #[error("archive span storage was not configured")]
    NoArchive,
    /// It took too long.
    #[error("query took longer than {0:?}; narrow its time range or filters")]
    TimedOut(Duration),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl Error {
    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Parameter(_) | Self::Tenant(_) | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::TraceNotFound | Self::NoTraces => StatusCode::NOT_FOUND,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoMetrics | Self::NoArchive => StatusCode::NOT_IMPLEMENTED,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Storage(storage::Error::OverLimit { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Storage(storage::Error::Unavailable { .. } | storage::Error::Job { .. }) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client is told.
    fn client_message(&self) -> String {
        match self {
            Self::Storage(storage::Error::OverLimit { .. }) => self.to_string(),
            Self::Storage(storage::Error::Unavailable { .. }) => {
                "storage is unavailable; retry later".to_owned()
            }
            Self::Storage(err @ storage::Error::Job { .. }) => format!("{err}; retry later"),
            Self::Storage(_) => "internal error".to_owned(),
            _ => self.to_string(),
        }
    }
}

/// How a version of the API writes errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The common envelope, as plain text with a newline: Go's `http.Error`.
    V1,
    /// grpc-gateway's object.
    V3,
}

/// The answer that tells `error`.
pub(super) fn respond(version: Version, error: &Error) -> Response {
    let status = error.status();
    match version {
        Version::V1 => respond::text(status, v1_body(status, &error.client_message())),
        Version::V3 => respond::json(status, v3_body(status, &error.client_message())),
    }
}

fn v1_body(status: StatusCode, message: &str) -> String {
    let mut body = String::from(r#"{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":"#);
    body.push_str(status.as_str());
    body.push_str(",\"msg\":");
    write_string(&mut body, message);
    body.push_str("}]}\n");
    body
}

fn v3_body(status: StatusCode, message: &str) -> String {
    let mut body =
        format!(r#"{{"error":{{"grpcCode":{},"httpCode":{},"message":"#, grpc_code(status), status.as_u16());
    write_string(&mut body, message);
    body.push_str(",\"httpStatus\":");
    write_string(&mut body, status.canonical_reason().unwrap_or(""));
    body.push_str("}}");
    body
}

/// The gRPC code of a status. Source: google.rpc.Code.
fn grpc_code(status: StatusCode) -> u8 {
    match status {
        StatusCode::BAD_REQUEST => 3,
        StatusCode::GATEWAY_TIMEOUT => 4,
        StatusCode::NOT_FOUND => 5,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => 8,
        StatusCode::NOT_IMPLEMENTED => 12,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_status_and_message() {
        let check = |error: Error, status: u16, message: &str| {
            assert_eq!(
                (error.status().as_u16(), error.client_message().as_str()),
                (status, message),
                "{error:?}"
            );
        };
        check(Error::Parameter(ParamError::Required("service")), 400, "parameter 'service' is required");
        check(Error::TraceNotFound, 404, "trace not found");
        check(Error::NoTraces, 404, "No traces found");
        check(Error::BodyTooLarge { limit: 5 }, 413, "request body is larger than 5 bytes");
        check(
            storage::Error::OverLimit { limit: 9, unit: "spans" }.into(),
            422,
            "query exceeds the limit of 9 spans; narrow its time range or filters",
        );
        check(storage::Error::corrupt("block secret", "bad").into(), 500, "internal error");
        check(storage::Error::Missing { key: "secret".to_owned() }.into(), 500, "internal error");
        check(storage::Error::refused("table", "reading secret", "denied").into(), 500, "internal error");
        check(Error::NoMetrics, 501, "metrics querying is currently disabled");
        check(Error::NoArchive, 501, "archive span storage was not configured");
        check(
            storage::Error::unavailable("table", "reading secret", "throttled").into(),
            503,
            "storage is unavailable; retry later",
        );
        let unavailable = storage::Error::unavailable("worker", "running a job", "secret");
        check(
            storage::Error::Job { source: std::sync::Arc::new(unavailable) }.into(),
            503,
            "a part of the query failed twice; retry later",
        );
        check(
            Error::TimedOut(Duration::from_secs(25)),
            504,
            "query took longer than 25s; narrow its time range or filters",
        );
    }

    #[test]
    fn both_forms_are_exact() {
        assert_eq!(
            v1_body(StatusCode::BAD_REQUEST, "a \"b\""),
            "{\"data\":null,\"total\":0,\"limit\":0,\"offset\":0,\"errors\":[{\"code\":400,\"msg\":\"a \\\"b\\\"\"}]}\n"
        );
        assert_eq!(
            v3_body(StatusCode::NOT_FOUND, "No traces found"),
            r#"{"error":{"grpcCode":5,"httpCode":404,"message":"No traces found","httpStatus":"Not Found"}}"#
        );
    }
}
