//! Answers to an export request, in the request's own format.

use std::fmt::Write as _;

use model::attribute::write_string;
use prost::Message as _;

use super::Format;
use super::message::{ExportTracePartialSuccess, ExportTraceServiceResponse, RpcStatus};

/// An `ExportTraceServiceResponse`.
///
/// Full success is an empty protobuf message or `{}`: the standard forbids a `partial_success` then.
/// No rejected span but a message is a warning.
pub fn traces_response(format: Format, rejected_spans: u64, error_message: &str) -> Vec<u8> {
    response(format, "rejectedSpans", rejected_spans, error_message)
}

/// An `ExportMetricsServiceResponse`, by the rules of [`traces_response`].
pub fn metrics_response(format: Format, rejected_points: u64, error_message: &str) -> Vec<u8> {
    response(format, "rejectedDataPoints", rejected_points, error_message)
}

/// An `ExportLogsServiceResponse`, by the rules of [`traces_response`].
pub fn logs_response(format: Format, rejected_log_records: u64, error_message: &str) -> Vec<u8> {
    response(format, "rejectedLogRecords", rejected_log_records, error_message)
}

/// The messages of all signals have the same fields under the same numbers, and differ in the name of the first.
fn response(format: Format, json_name: &str, rejected_spans: u64, error_message: &str) -> Vec<u8> {
    let full_success = rejected_spans == 0 && error_message.is_empty();
    match format {
        Format::Protobuf if full_success => Vec::new(),
        Format::Json if full_success => b"{}".to_vec(),
        Format::Protobuf => {
            let partial_success = ExportTracePartialSuccess {
                rejected_spans: i64::try_from(rejected_spans).unwrap_or(i64::MAX),
                error_message: error_message.to_owned(),
            };
            ExportTraceServiceResponse { partial_success: Some(partial_success) }.encode_to_vec()
        }
        Format::Json => {
            let mut text = String::from(r#"{"partialSuccess":{"#);
            if rejected_spans > 0 {
                write!(text, r#""{json_name}":"{rejected_spans}""#)
                    .expect("invariant: writing to a string succeeds");
            }
            if !error_message.is_empty() {
                text.push_str(if rejected_spans > 0 { "," } else { "" });
                text.push_str(r#""errorMessage":"#);
                write_string(&mut text, error_message);
            }
            text.push_str("}}");
            text.into_bytes()
        }
    }
}

/// A `google.rpc.Status`: the body of an answer that is not 2xx.
pub fn error_response(format: Format, grpc_code: i32, message: &str) -> Vec<u8> {
    match format {
        Format::Protobuf => RpcStatus { code: grpc_code, message: message.to_owned() }.encode_to_vec(),
        Format::Json => {
            let mut text = format!(r#"{{"code":{grpc_code},"message":"#);
            write_string(&mut text, message);
            text.push('}');
            text.into_bytes()
        }
    }
}
