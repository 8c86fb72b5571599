//! Why a request is not stored, and the answer that says so.
//!
//! The kinds follow what the sender can do: change the request (4xx, which senders drop) or send it again
//! (503 with `Retry-After`). Source: OTLP specification, "Failures"; the Collector's `internal/errors/errors.go`.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use wire::ErrorKind;
use wire::otlp::Format;

/// Why a request is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The path names no signal.
    #[error(
        "no endpoint at {path:?}: spans go to <base>/v1/traces, metrics to <base>/v1/metrics, log records to \
         <base>/v1/logs. OTEL_EXPORTER_OTLP_ENDPOINT is a base to which exporters add /v1/traces; \
         OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is and needs the whole URL, with /v1/traces at its end"
    )]
    NotFound {
        /// The path, cut.
        path: String,
    },
    /// OTLP has this signal, this program not.
    #[error("OTLP {0} are not stored here, only traces, metrics and logs: switch the exporter of {0} off")]
    NotServed(String),
    /// Not a POST.
    #[error("method {0} is not allowed here: OTLP requests are POST")]
    Method(Method),
    /// The body's format is none of OTLP.
    #[error("unsupported content type {0:?}: use application/x-protobuf or application/json")]
    MediaType(String),
    /// The body is none of remote write.
    #[error("unsupported content type {0:?}: use application/x-protobuf")]
    WriteMediaType(String),
    /// The body's compression is none of remote write.
    #[error("unsupported content encoding {0:?}: use snappy")]
    WriteEncoding(String),
    /// The tenant's header is invalid.
    #[error("{0}")]
    Tenant(#[from] model::IdError),
    /// The body is too large, of an unknown encoding, or not decodable.
    #[error("{0}")]
    Wire(#[from] wire::Error),
    /// The body stopped before its end.
    #[error("the request's body broke off: {0}")]
    Broken(#[source] axum::Error),
    /// Too much is in flight.
    #[error("too many requests at once; send it again")]
    Busy,
    /// Took too long.
    #[error("not stored within {} s; send it again", .after.as_secs())]
    TooLate {
        /// The time it had.
        after: Duration,
    },
    /// The stores did not take it.
    #[error("storage is unavailable; send it again")]
    Storage(#[from] storage::Error),
    /// A fault of ours.
    #[error("internal fault; send it again")]
    Panicked,
}

/// The numbers of `google.rpc.Code`.
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

impl Refusal {
    /// The HTTP status: never 500.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::NotServed(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType(_) | Self::WriteMediaType(_) | Self::WriteEncoding(_) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::Wire(error) => match error.kind() {
                ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
                ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            },
            Self::Tenant(_) | Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::Busy | Self::TooLate { .. } | Self::Storage(_) | Self::Panicked => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn grpc_code(&self) -> i32 {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
            StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => UNIMPLEMENTED,
            _ => INVALID_ARGUMENT,
        }
    }

    /// The label under which it is counted.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } | Self::NotServed(_) | Self::Method(_) => Kind::Route,
            Self::Wire(error) if error.kind() == ErrorKind::TooLarge => Kind::TooLarge,
            Self::Wire(_)
            | Self::MediaType(_)
            | Self::WriteMediaType(_)
            | Self::WriteEncoding(_)
            | Self::Tenant(_)
            | Self::Broken(_) => Kind::Request,
            Self::Busy => Kind::Busy,
            Self::TooLate { .. } => Kind::Timeout,
            Self::Storage(_) => Kind::Storage,
            Self::Panicked => Kind::Panic,
        }
    }

    /// Whether the body, if it is still under way, should be read to its end before the answer.
    ///
    /// A connection that is closed with unread bytes is reset, and the sender may never see the answer.
    pub(crate) fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::MediaType(_)
                | Self::WriteMediaType(_)
                | Self::WriteEncoding(_)
                | Self::Tenant(_)
                | Self::Wire(_)
                | Self::Busy
                | Self::NotServed(_)
        )
    }

    /// The answer of OTLP: a `google.rpc.Status` in the request's own format, protobuf when that is unknown, but text
    /// for what is not a request of OTLP at all. Remote write is answered in text.
    pub(crate) fn response(&self, protocol: Protocol) -> Response {
        let text = self.to_string();
        let format = match protocol {
            Protocol::Otlp(format) => format,
            Protocol::RemoteWrite => None,
        };
        let is_text = protocol == Protocol::RemoteWrite
            || matches!(self, Self::Method(_) | Self::MediaType(_))
            || (self.is_lost() && format.is_none());
        let (content_type, body) = if is_text {
            ("text/plain; charset=utf-8", format!("{text}\n").into_bytes())
        } else {
            let format = format.unwrap_or(Format::Protobuf);
            (format.content_type(), wire::otlp::error_response(format, self.grpc_code(), &text))
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::Method(_) = self {
            headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        }
        response
    }

    fn is_lost(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NotServed(_))
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// OTLP, in the request's format where that is known.
    Otlp(Option<Format>),
    /// Remote write.
    RemoteWrite,
}

/// Refusals as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Wrong path or method.
    Route,
    /// Not decodable, wrong header.
    Request,
    /// Body over a limit.
    TooLarge,
    /// Over the budget.
    Busy,
    /// Over the time limit.
    Timeout,
    /// The stores.
    Storage,
    /// A fault of ours.
    Panic,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [(Self, &'static str); 7] = [
        (Self::Route, r#"kind="route""#),
        (Self::Request, r#"kind="request""#),
        (Self::TooLarge, r#"kind="too_large""#),
        (Self::Busy, r#"kind="busy""#),
        (Self::Timeout, r#"kind="timeout""#),
        (Self::Storage, r#"kind="storage""#),
        (Self::Panic, r#"kind="panic""#),
    ];
}
