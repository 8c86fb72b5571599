//! Immutable objects under keys: the trait and its implementations.
//!
//! An object never changes once it is there, so whatever was read of it may be kept for ever.

#[cfg(feature = "embedded")]
pub mod local;
pub mod memory;
#[cfg(feature = "aws")]
pub mod s3;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Calls, Result};

/// What became of a create-only write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// This call stored it.
    Created,
    /// Something was there before; it was left alone.
    AlreadyThere,
}

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored, seconds since the epoch; 0 where the store does not know.
    pub modified_s: u64,
}

/// A store of immutable objects.
///
/// Keys are `/`-separated, relative, of `A-Z a-z 0-9 _ - . =` in each part, no part `.` or `..`, at most 512 bytes;
/// keys are made by this crate, never by users. Any two processes may call any method at once.
#[async_trait::async_trait]
pub trait Object: Send + Sync {
    /// Stores `body` under `key` unless an object is there: all of it or nothing, one winner in a race.
    /// When this returns [`PutOutcome::Created`] or [`PutOutcome::AlreadyThere`], the object is durable and visible.
    /// After an error the object may or may not be there, whole in either case.
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome>;

    /// The bytes of `range`, or `None` if no object is there. A range that ends past the object's end is cut off
    /// there; one that starts at or past it gives no bytes.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>>;

    /// The whole object, or `None` if none is there.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// The object's length in bytes, or `None` if none is there.
    async fn head(&self, key: &str) -> Result<Option<u64>>;

    /// Removes the object; removing what is not there is no error.
    async fn delete(&self, key: &str) -> Result<()>;

    /// The objects whose keys start with `prefix` and are greater than `after` (if given), in the order of their
    /// keys, at most `limit`. Slow and billed per page: for repair and inspection only, never for a query.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>>;

    /// The same store, with its calls counted where they reach what is billed: for a store that answers some calls by
    /// itself. `None` where each call is one.
    fn metered(&self, _calls: &Arc<Calls>) -> Option<Arc<dyn Object>> {
        None
    }
}
