//! What can go wrong in storage, by what the caller can do about it.

use std::sync::Arc;

/// The result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error from below, shared so that one failed group commit can be told to each of its members.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why a storage call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store did not do it now and may do it later: throttled, timed out, unreachable, disk full.
    /// Whether a write took effect is unknown.
    #[error("{store} unavailable while {doing}")]
    Unavailable {
        /// Which store: `object store` or `table`.
        store: &'static str,
        /// What was being done, with the key.
        doing: String,
        /// The error from below.
        #[source]
        source: Source,
    },
    /// The store refuses and will refuse again: no permission, no such bucket or table, read-only folder.
    #[error("{store} refused while {doing}")]
    Refused {
        /// Which store: `object store` or `table`.
        store: &'static str,
        /// What was being done, with the key.
        doing: String,
        /// The error from below.
        #[source]
        source: Source,
    },
    /// Another process has the data folder open.
    #[error("data folder {folder} is in use by another process")]
    InUse {
        /// The folder.
        folder: String,
    },
    /// Stored bytes are not what they must be.
    #[error("corrupt {what}: {why}")]
    Corrupt {
        /// The object or item.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An object that the index names is not there.
    #[error("object {key} is missing")]
    Missing {
        /// Its key.
        key: String,
    },
    /// A part of a query that others were asked for was not answered, also not the second time.
    #[error("a part of the query failed twice")]
    Job {
        /// The error of the second time.
        #[source]
        source: Source,
    },
    /// A query asks for more than one query may read.
    #[error("query exceeds the limit of {limit} {unit}; narrow its time range or filters")]
    OverLimit {
        /// How much is allowed.
        limit: u64,
        /// Of what: `spans`, `bytes`, `files`.
        unit: &'static str,
    },
}

impl Error {
    /// An error of a store that may pass.
    pub fn unavailable(
        store: &'static str,
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { store, doing: doing.into(), source: Arc::from(source.into()) }
    }

    /// An error of a store that will not pass by itself.
    pub fn refused(
        store: &'static str,
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Refused { store, doing: doing.into(), source: Arc::from(source.into()) }
    }

    /// Stored bytes that do not decode.
    pub fn corrupt(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Corrupt { what: what.into(), why: why.to_string() }
    }
}
