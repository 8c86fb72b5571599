//! Foreign bytes to the model and back.
//!
//! This crate never waits, reads no clock, and knows no HTTP types: bytes in, columns out, columns in, bytes out.
//! A body passes through three steps:
//!
//! 1. [`Encoding::from_header`] and [`decompress`]: the `Content-Encoding`, bounded by [`Limits`];
//! 2. [`otlp::decode_traces`]: protobuf or JSON straight into [`model::SpanColumns`], with a count of the spans that
//!    were invalid;
//! 3. [`otlp::traces_response`] or [`otlp::error_response`]: the answer in the request's own format.
//!
//! Prometheus' remote write goes the same way through [`remote_write`]; [`remote_read`] is its counterpart.
//!
//! The way back is [`otlp::to_messages`] and [`otlp::to_json`].

mod encoding;
mod error;
mod limits;
pub mod otlp;
mod protobuf;
mod rejected;
pub mod remote_read;
pub mod remote_write;

pub use encoding::{Encoding, decompress};
pub use error::{Error, ErrorKind};
pub use limits::Limits;
pub use rejected::{Reason, Rejected};
