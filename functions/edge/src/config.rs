//! The environment of a Lambda function, read once, with errors that name the variable.

use std::str::FromStr;
use std::time::Duration;

use storage::read::Share;

use crate::cache;

/// Below the 30 s after which an HTTP API answers by itself.
const DEFAULT_TIMEOUT_MS: u64 = 25_000;
/// A function of 512 MB has as much to spare.
const DEFAULT_CACHE_MEMORY_BYTES: u64 = 64 << 20;
/// The one folder that a function can write to,
const DEFAULT_CACHE_FOLDER: &str = "/tmp/spandrel-cache";
/// which has 512 MB unless it is told otherwise.
const DEFAULT_CACHE_DISK_BYTES: u64 = 384 << 20;
/// Some hundred panels of a dashboard.
const DEFAULT_RESULT_CACHE_BYTES: u64 = 32 << 20;

/// Some ten searches over a thousand files each.
const DEFAULT_SEARCH_CACHE_BYTES: u64 = 16 << 20;

/// What the environment says. Locations are read by [`crate::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `SPANDREL_OBJECT_STORE`: where objects are, `s3://bucket/prefix`.
    pub object_store: String,
    /// `SPANDREL_INDEX`: where the index is, `dynamodb://table`.
    pub index: String,
    /// `SPANDREL_INDEX_SHARDS`: partitions per index window into which is written; windows know how many they have.
    pub index_shards: u8,
    /// `SPANDREL_QUERY_TIMEOUT_MS`: how long one query may take.
    pub query_timeout: Duration,
    /// `SPANDREL_INGEST_TIMEOUT_MS`: how long one ingest request may take.
    pub ingest_timeout: Duration,
    /// `SPANDREL_MAX_BODY_BYTES`: the most bytes of a request's body, compressed and decompressed alike.
    pub max_body_bytes: usize,
    /// `SPANDREL_CACHE_MEMORY_BYTES`, `SPANDREL_CACHE_DIR` (`off` for none), `SPANDREL_CACHE_DISK_BYTES`: what a query
    /// function keeps of objects.
    pub cache: cache::Settings,
    /// `SPANDREL_RESULT_CACHE_BYTES`: what a query function keeps of the results of PromQL range queries.
    pub result_cache_bytes: u64,
    /// `SPANDREL_SEARCH_CACHE_BYTES`: what a query function keeps of what searches for traces found.
    pub search_cache_bytes: u64,
    /// `SPANDREL_QUERY_SHARE_BYTES`, `SPANDREL_QUERY_JOBS` (0 for none): how much a query function reads for a query by
    /// itself, and in how many invocations more is split.
    pub query_share: Share,
    /// `SPANDREL_BASE_PATH`: what a custom domain's mapping puts in front of every path.
    pub base_path: String,
    /// `SPANDREL_RAW_PATH`: how the gateway hands over paths.
    pub raw_path: RawPath,
}

/// Whether an event's path is still percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RawPath {
    /// By the event's kind: decoded by an HTTP API, encoded by a function URL, a REST API and ALB.
    #[default]
    ByOrigin,
    /// As the client sent it.
    Encoded,
    /// Decoded once by the gateway.
    Decoded,
}

/// Why the environment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable that has no default is not there.
    #[error("environment variable {name} is not set; it takes {takes}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it takes, by example.
        takes: &'static str,
    },
    /// A variable's value is not of its kind.
    #[error("environment variable {name}={value:?} is invalid; it takes {takes}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
}

/// The value of an environment variable, if it is set and is text.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Settings {
    /// The settings of this process.
    ///
    /// # Errors
    /// A variable is missing or invalid.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_lookup(variable)
    }

    /// The settings by the variables that `lookup` finds; an empty value is as good as none.
    ///
    /// # Errors
    /// A variable is missing or invalid.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let text = |name: &'static str| lookup(name).filter(|value| !value.is_empty());
        let required = |name, takes| text(name).ok_or(Error::Missing { name, takes });
        let base_path = text("SPANDREL_BASE_PATH").unwrap_or_default();
        let invalid = |name, value: &str, takes| Error::Invalid { name, value: value.to_owned(), takes };
        if !base_path.is_empty() && !base_path.starts_with('/') {
            return Err(invalid("SPANDREL_BASE_PATH", &base_path, "a path such as /telemetry"));
        }
        let raw_path = match text("SPANDREL_RAW_PATH").as_deref() {
            None | Some("auto") => RawPath::ByOrigin,
            Some("encoded") => RawPath::Encoded,
            Some("decoded") => RawPath::Decoded,
            Some(value) => return Err(invalid("SPANDREL_RAW_PATH", value, "auto, encoded or decoded")),
        };
        let index_shards = parsed(text, "SPANDREL_INDEX_SHARDS", 4, "1 to 255")?;
        if index_shards == 0 {
            return Err(invalid("SPANDREL_INDEX_SHARDS", "0", "1 to 255"));
        }
        let cache = cache::Settings {
            memory_bytes: parsed(text, "SPANDREL_CACHE_MEMORY_BYTES", DEFAULT_CACHE_MEMORY_BYTES, "bytes")?,
            folder: match text("SPANDREL_CACHE_DIR").as_deref() {
                None => Some(DEFAULT_CACHE_FOLDER.into()),
                Some("off") => None,
                Some(folder) => Some(folder.into()),
            },
            disk_bytes: parsed(text, "SPANDREL_CACHE_DISK_BYTES", DEFAULT_CACHE_DISK_BYTES, "bytes")?,
        };
        let milliseconds =
            |name| parsed(text, name, DEFAULT_TIMEOUT_MS, "milliseconds").map(Duration::from_millis);
        Ok(Self {
            object_store: required("SPANDREL_OBJECT_STORE", "a location such as s3://bucket/prefix")?,
            index: required("SPANDREL_INDEX", "a location such as dynamodb://table")?,
            index_shards,
            query_timeout: milliseconds("SPANDREL_QUERY_TIMEOUT_MS")?,
            ingest_timeout: milliseconds("SPANDREL_INGEST_TIMEOUT_MS")?,
            max_body_bytes: parsed(text, "SPANDREL_MAX_BODY_BYTES", 64 << 20, "bytes")?,
            cache,
            result_cache_bytes: parsed(
                text,
                "SPANDREL_RESULT_CACHE_BYTES",
                DEFAULT_RESULT_CACHE_BYTES,
                "bytes",
            )?,
            search_cache_bytes: parsed(
                text,
                "SPANDREL_SEARCH_CACHE_BYTES",
                DEFAULT_SEARCH_CACHE_BYTES,
                "bytes",
            )?,
            query_share: Share {
                bytes: parsed(text, "SPANDREL_QUERY_SHARE_BYTES", Share::DEFAULT_BYTES, "bytes")?,
                max_jobs: parsed(text, "SPANDREL_QUERY_JOBS", Share::DEFAULT_JOBS, "a number")?,
            },
            base_path,
            raw_path,
        })
    }
}

/// The value of a variable that `text` finds, or `default`.
///
/// # Errors
/// The value is not of its kind.
pub fn parsed<T: FromStr>(
    text: impl Fn(&'static str) -> Option<String>,
    name: &'static str,
    default: T,
    takes: &'static str,
) -> Result<T, Error> {
    let Some(value) = text(name) else { return Ok(default) };
    value.parse().map_err(|_| Error::Invalid { name, value, takes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
        Settings::from_lookup(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    const STORES: [(&str, &str); 2] =
        [("SPANDREL_OBJECT_STORE", "s3://bucket/prefix"), ("SPANDREL_INDEX", "dynamodb://table")];

    #[test]
    fn only_the_stores_have_no_default() {
        let read = settings(&STORES).expect("settings");
        assert_eq!((read.index_shards, read.query_timeout), (4, Duration::from_secs(25)));
        let error = settings(&STORES[..1]).expect_err("no index");
        assert_eq!(
            error.to_string(),
            "environment variable SPANDREL_INDEX is not set; it takes a location such as dynamodb://table"
        );
    }

    #[test]
    fn the_cache_is_as_told() {
        let cache = |variables: &[(&str, &str)]| {
            settings(&[&STORES[..], variables].concat()).expect("settings").cache
        };
        assert_eq!(cache(&[]).folder.as_deref(), Some(std::path::Path::new("/tmp/spandrel-cache")));
        let told = [
            ("SPANDREL_CACHE_DIR", "off"),
            ("SPANDREL_CACHE_MEMORY_BYTES", "0"),
            ("SPANDREL_CACHE_DISK_BYTES", "7"),
        ];
        assert_eq!(cache(&told), cache::Settings { memory_bytes: 0, folder: None, disk_bytes: 7 });
    }

    #[test]
    fn an_invalid_value_is_named() {
        let check = |name: &'static str, value: &str, is_fine: bool| {
            let read = settings(&[STORES[0], STORES[1], (name, value)]);
            assert_eq!(read.is_ok(), is_fine, "{name}={value}");
            if let Err(error) = read {
                assert!(error.to_string().contains(name), "{error}");
            }
        };
        check("SPANDREL_INDEX_SHARDS", "8", true);
        check("SPANDREL_INDEX_SHARDS", "", true);
        check("SPANDREL_INDEX_SHARDS", "0", false);
        check("SPANDREL_INDEX_SHARDS", "300", false);
        check("SPANDREL_QUERY_TIMEOUT_MS", "10s", false);
        check("SPANDREL_QUERY_JOBS", "0", true);
        check("SPANDREL_QUERY_JOBS", "many", false);
        check("SPANDREL_QUERY_SHARE_BYTES", "64MB", false);
        check("SPANDREL_MAX_BODY_BYTES", "1e6", false);
        check("SPANDREL_BASE_PATH", "telemetry", false);
        check("SPANDREL_BASE_PATH", "/telemetry", true);
        check("SPANDREL_RAW_PATH", "decoded", true);
        check("SPANDREL_RAW_PATH", "raw", false);
    }
}
