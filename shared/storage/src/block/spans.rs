//! stub
use bytes::Bytes;
use model::SpanColumns;
use crate::index::Descriptor;

/// stub
#[derive(Debug, Clone)]
pub struct EncodedSpans {
    /// The file.
    pub bytes: Bytes,
    /// What planning needs to know of it.
    pub descriptor: Descriptor,
}

/// stub
pub fn encode(_columns: &SpanColumns) -> EncodedSpans {
    unimplemented!()
}
