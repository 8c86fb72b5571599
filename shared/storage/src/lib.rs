//! Parquet blocks in an object store and an index in a key-value table.
//!
//! This is the only crate that waits for anything, and the only one that knows Parquet, Arrow, S3, DynamoDB and the
//! embedded store. It knows no HTTP, no environment and no clock: what needs the time takes it as an argument.
//!
//! - [`object`], [`kv`]: the two traits, what their implementations promise, and the implementations.
//! - [`block`]: bytes of a file from columns and back; pure.
//! - [`index`]: keys and values of the table; pure.
//! - [`mod@write`]: object first, index second.
//! - [`read`]: plan, fetch, evaluate.
//! - [`compact`]: many small files into few large ones.
//! - [`cached`]: keeps what was read of objects.
//! - [`export`]: samples for other engines.
//! - [`metered`]: counts each call and byte.
//! - `latency`: a far store, for measuring.
//! - `aws`: clients of the two services; `invoke`: a function that is invoked.
//! - [`faults`], [`conformance`]: for tests.

pub mod block;
pub mod cached;
pub mod compact;
pub mod export;
pub mod index;
pub mod kv;
mod latency;
pub mod metered;
pub mod object;
pub mod read;
pub mod write;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "conformance")]
pub mod faults;
#[cfg(feature = "invoke")]
pub mod invoke;

mod error;

use std::sync::Arc;

pub use error::{Error, Result, Source};
pub use metered::{Calls, Usage};

/// The two stores that hold everything. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// Objects: the data.
    pub objects: Arc<dyn object::Object>,
    /// The key-value table: the index and small state.
    pub table: Arc<dyn kv::KeyValue>,
    /// How each index window is spread over partitions.
    pub layout: index::TableLayout,
    /// What this process read of traces.
    pub recent: read::RecentTraces,
}

impl Store {
    /// The same stores, with each call counted in `calls`; what a cache answers is no call.
    #[must_use]
    pub fn metered(&self, calls: &Arc<Calls>) -> Self {
        let objects = self.objects.metered(calls).unwrap_or_else(|| {
            Arc::new(metered::MeteredObject::new(Arc::clone(&self.objects), Arc::clone(calls)))
        });
        Self {
            objects,
            table: Arc::new(metered::MeteredKeyValue::new(Arc::clone(&self.table), Arc::clone(calls))),
            layout: self.layout,
            recent: self.recent.clone(),
        }
    }
}
