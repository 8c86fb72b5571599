//! OTLP: traces, metrics and logs in protobuf and JSON.
//!
//! In: `protobuf` and `json` read traces and logs; both fill a `batch`, which checks each row and owns the columns.
//! [`metrics`] become series. Out: `render` makes [`message`]s and JSON of columns, `response` the answers.

mod batch;
mod json;
pub mod message;
pub mod metrics;
mod protobuf;
mod render;
mod response;

use model::{LogColumns, SpanColumns};

use crate::error::Error;
use crate::limits::Limits;

pub use render::{JsonStyle, messages_to_json, to_json, to_messages};
pub use response::{error_response, logs_response, metrics_response, traces_response};

/// The names of OTLP's span kinds by their numbers.
const KIND_NAMES: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
/// The names of OTLP's status codes by their numbers.
const STATUS_NAMES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

/// The names of OTLP's severities by their numbers.
const SEVERITY_NAMES: [&str; 25] = [
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

/// How an OTLP message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Format {
    /// The format that a `Content-Type` names, in any case and with any parameters.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|format| media_type.eq_ignore_ascii_case(format.content_type()))
    }

    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// What a request held.
#[derive(Debug, Clone, Default)]
pub struct DecodedTraces {
    /// The valid spans, in the order of the request.
    pub columns: SpanColumns,
    /// How many spans were invalid.
    pub rejected_spans: u64,
    /// Why the first of them were, empty if none was; for the sender.
    pub error_message: String,
}

/// Reads an `ExportTraceServiceRequest`.
///
/// # Errors
/// The body is over the limit or is not of that format. A single invalid span is counted, not an error.
pub fn decode_traces(body: &[u8], format: Format, limits: &Limits) -> Result<DecodedTraces, Error> {
    let (columns, rejected_spans, error_message) = decode_rows(body, format, limits)?;
    Ok(DecodedTraces { columns, rejected_spans, error_message })
}

/// What a request held.
#[derive(Debug, Clone, Default)]
pub struct DecodedLogs {
    /// The valid records, in the order of the request.
    pub columns: LogColumns,
    /// How many records were invalid.
    pub rejected_log_records: u64,
    /// Why the first of them were, empty if none was; for the sender.
    pub error_message: String,
}

/// Reads an `ExportLogsServiceRequest`.
///
/// # Errors
/// As [`decode_traces`].
pub fn decode_logs(body: &[u8], format: Format, limits: &Limits) -> Result<DecodedLogs, Error> {
    let (columns, rejected_log_records, error_message) = decode_rows(body, format, limits)?;
    Ok(DecodedLogs { columns, rejected_log_records, error_message })
}

fn decode_rows<C: protobuf::Row + json::Row>(
    body: &[u8],
    format: Format,
    limits: &Limits,
) -> Result<(C, u64, String), Error> {
    if body.len() > limits.max_body_bytes {
        return Err(Error::TooLarge { limit: limits.max_body_bytes });
    }
    let batch = match format {
        Format::Protobuf => protobuf::decode(body, limits),
        Format::Json => json::decode(body, limits),
    }?;
    Ok(batch.finish())
}
