//! Why a body cannot be read at all.

use crate::encoding::Encoding;

/// Why a request is refused as a whole. A single invalid span is not an error but a rejected span.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is longer than allowed, before or after decompression.
    #[error("body is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body holds more of something than allowed.
    #[error("body holds more than {limit} {what}")]
    TooMany {
        /// The most that is allowed.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// The `Content-Encoding` is none that is served.
    #[error("unsupported content encoding {0:?}: use identity, gzip, deflate or zstd")]
    UnsupportedEncoding(String),
    /// The compressed body is truncated, damaged, or followed by something else.
    #[error("corrupt {encoding} body: {what}")]
    CorruptCompression {
        /// The encoding that the sender named.
        encoding: Encoding,
        /// What was found.
        what: String,
    },
    /// The body is not protobuf.
    #[error("malformed protobuf at byte {offset}: {what}")]
    Malformed {
        /// Where in the decompressed body.
        offset: usize,
        /// What was found or expected.
        what: &'static str,
    },
    /// The body should be JSON but is not UTF-8.
    #[error("json body is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Where the first wrong byte is.
        offset: usize,
    },
    /// The body is not JSON, or a field has a JSON type that it cannot have.
    #[error("malformed json: {}", json_message(.0))]
    Json(#[source] serde_json::Error),
}

/// Longest part of an answer that the sender's own text makes up, in bytes.
const MAX_QUOTED_BYTES: usize = 200;

/// What `serde_json` says, with a long text of the body cut out of its middle: the end says where it was.
fn json_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if message.len() <= 2 * MAX_QUOTED_BYTES {
        return message;
    }
    let start = message.floor_char_boundary(MAX_QUOTED_BYTES);
    let end = message.ceil_char_boundary(message.len() - MAX_QUOTED_BYTES);
    format!("{} … {}", &message[..start], &message[end..])
}

/// What the sender can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send something valid: HTTP 400.
    BadRequest,
    /// Send less at once: HTTP 413.
    TooLarge,
    /// Use another encoding: HTTP 415.
    Unsupported,
}

impl Error {
    /// What the sender can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::TooMany { .. } => ErrorKind::TooLarge,
            Self::UnsupportedEncoding(_) => ErrorKind::Unsupported,
            Self::CorruptCompression { .. }
            | Self::Malformed { .. }
            | Self::NotUtf8 { .. }
            | Self::Json(_) => ErrorKind::BadRequest,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_long_text_of_the_body_is_not_sent_back() {
        let body = format!("{{\"resourceSpans\":\"{}\"}}", "é".repeat(100_000));
        let error =
            crate::otlp::decode_traces(body.as_bytes(), crate::otlp::Format::Json, &crate::Limits::default());
        let message = error.expect_err("a text is no list").to_string();
        assert!(
            message.len() < 500 && message.contains("é") && message.contains("line 1 column"),
            "{message}"
        );
    }
}
