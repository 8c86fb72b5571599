//! Object first, index second (stub: being written).

use std::sync::Arc;

use model::{ContentHash, Signal, TenantId};

use crate::block::spans::EncodedSpans;
use crate::object::PutOutcome;
use crate::{Calls, Result, Store};

/// The name of what one request stores: a hash of tenant, signal and decompressed body.
pub fn content_hash(_tenant: &TenantId, _signal: Signal, _body: &[u8]) -> ContentHash {
    unimplemented!()
}

/// Writes blocks. One per process: it remembers which names the table already has. Cheap to share behind an `Arc`.
pub struct Writer {
    _store: Store,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object's key.
    pub key: String,
    /// Whether this call created it; a repeated request finds it there.
    pub outcome: PutOutcome,
}

impl Writer {
    /// Writes to `store`.
    pub fn new(store: Store) -> Self {
        Self { _store: store }
    }

    /// Stores the spans of one request durably and visibly. Sending the same content again stores nothing twice.
    /// `now_s`: seconds since the epoch. Every storage call is counted in `calls`.
    ///
    /// # Errors
    /// As the stores.
    pub async fn spans(
        &self,
        _tenant: &TenantId,
        _content: ContentHash,
        _spans: EncodedSpans,
        _now_s: u64,
        _calls: &Arc<Calls>,
    ) -> Result<Stored> {
        unimplemented!()
    }
}
