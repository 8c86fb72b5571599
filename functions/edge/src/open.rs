//! Stores from locations: a folder, `s3://bucket/prefix`, `dynamodb://table`, memory.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use storage::Store;
use storage::index::TableLayout;
use storage::kv::KeyValue;
use storage::object::Object;
use storage::read::RecentTraces;

/// Where objects or the index are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `/a/folder`, `./folder` or `file:///a/folder`: the folder that holds both objects and index.
    Folder(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`: objects.
    S3 {
        /// The bucket.
        bucket: String,
        /// What each key starts with, without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `dynamodb://table`: the index.
    DynamoDb {
        /// The table.
        table: String,
    },
    /// `memory://`: gone with the process; for tests and demonstrations.
    Memory,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no location.
    #[error("invalid location {0:?}; it takes a folder, s3://bucket/prefix, dynamodb://table or memory://")]
    Location(String),
    /// The location cannot hold this.
    #[error("{location} cannot hold {what}; it takes {takes}")]
    Kind {
        /// The location.
        location: Location,
        /// `objects` or `the index`.
        what: &'static str,
        /// What can.
        takes: &'static str,
    },
    /// This program was built without the implementation.
    #[error("{location} needs the feature {feature:?}, which this program was built without")]
    NotBuiltIn {
        /// The location.
        location: Location,
        /// The feature of this crate.
        feature: &'static str,
    },
    /// The store did not open.
    #[error("cannot open {location}")]
    Storage {
        /// The location.
        location: Location,
        /// What the store says.
        #[source]
        source: storage::Error,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::DynamoDb { table } => write!(f, "dynamodb://{table}"),
            Self::Memory => f.write_str("memory://"),
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Location(text.to_owned());
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(invalid()) } else { Ok(Self::Folder(text.into())) };
        };
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::Folder(rest.into())),
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/');
                // The parts of a key may hold nothing else; a prefix is one.
                let is_key =
                    prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.=".contains(&byte));
                if bucket.is_empty() || !is_key {
                    return Err(invalid());
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            "dynamodb" if !rest.is_empty() && !rest.contains('/') => {
                Ok(Self::DynamoDb { table: rest.to_owned() })
            }
            _ => Err(invalid()),
        }
    }
}

/// The store whose objects and index are at these locations; `shards` partitions hold one window of the index.
///
/// Touches the disk for a folder, and no network for the cloud.
///
/// # Errors
/// A location cannot hold what it shall; the folder is in use or cannot be used.
#[cfg_attr(
    not(feature = "aws"),
    expect(clippy::unused_async, reason = "only the cloud waits for its credentials")
)]
pub async fn open(objects: &Location, index: &Location, shards: u8) -> Result<Store, Error> {
    #[cfg(feature = "aws")]
    let mut cloud = cloud::Cloud::default();
    // The index first: its lock keeps a second process out of the folder.
    let table: Arc<dyn KeyValue> = match index {
        Location::Memory => Arc::new(storage::kv::memory::MemoryTable::new()),
        #[cfg(feature = "embedded")]
        Location::Folder(folder) => {
            folder::table(folder).map_err(|source| Error::Storage { location: index.clone(), source })?
        }
        #[cfg(not(feature = "embedded"))]
        Location::Folder(_) => {
            return Err(Error::NotBuiltIn { location: index.clone(), feature: "embedded" });
        }
        #[cfg(feature = "aws")]
        Location::DynamoDb { table } => cloud.table(table).await,
        #[cfg(not(feature = "aws"))]
        Location::DynamoDb { .. } => {
            return Err(Error::NotBuiltIn { location: index.clone(), feature: "aws" });
        }
        Location::S3 { .. } => {
            let takes = "a folder, dynamodb://table or memory://";
            return Err(Error::Kind { location: index.clone(), what: "the index", takes });
        }
    };
    let objects: Arc<dyn Object> = match objects {
        Location::Memory => Arc::new(storage::object::memory::MemoryObjects::new()),
        #[cfg(feature = "embedded")]
        Location::Folder(folder) => {
            folder::objects(folder).map_err(|source| Error::Storage { location: objects.clone(), source })?
        }
        #[cfg(not(feature = "embedded"))]
        Location::Folder(_) => {
            return Err(Error::NotBuiltIn { location: objects.clone(), feature: "embedded" });
        }
        #[cfg(feature = "aws")]
        Location::S3 { bucket, prefix } => cloud.objects(bucket, prefix).await,
        #[cfg(not(feature = "aws"))]
        Location::S3 { .. } => return Err(Error::NotBuiltIn { location: objects.clone(), feature: "aws" }),
        Location::DynamoDb { .. } => {
            let takes = "a folder, s3://bucket/prefix or memory://";
            return Err(Error::Kind { location: objects.clone(), what: "objects", takes });
        }
    };
    Ok(Store { objects, table, layout: TableLayout { shards }, recent: RecentTraces::default() })
}

#[cfg(feature = "embedded")]
mod folder {
    use std::path::Path;
    use std::sync::Arc;

    use storage::Result;
    use storage::kv::KeyValue;
    use storage::object::Object;

    /// Objects in `objects/`, so that a folder can be handed to another reader without the index.
    pub(super) fn objects(folder: &Path) -> Result<Arc<dyn Object>> {
        Ok(Arc::new(storage::object::local::LocalObjects::open(folder.join("objects"))?))
    }

    /// The index in one file, which one process at a time may have open.
    pub(super) fn table(folder: &Path) -> Result<Arc<dyn KeyValue>> {
        Ok(Arc::new(storage::kv::embedded::EmbeddedTable::open(folder.join("index.redb"))?))
    }
}

#[cfg(feature = "aws")]
mod cloud {
    use std::sync::Arc;

    use storage::aws::{Clients, Timeouts, clients};
    use storage::kv::KeyValue;
    use storage::kv::dynamodb::DynamoTable;
    use storage::object::Object;
    use storage::object::s3::S3Objects;

    /// Clients that are made when one is needed, once: credentials and connections are shared.
    #[derive(Default)]
    pub(super) struct Cloud(Option<Clients>);

    impl Cloud {
        pub(super) async fn objects(&mut self, bucket: &str, prefix: &str) -> Arc<dyn Object> {
            Arc::new(S3Objects::new(self.clients().await.s3, bucket, prefix))
        }

        pub(super) async fn table(&mut self, table: &str) -> Arc<dyn KeyValue> {
            Arc::new(DynamoTable::new(self.clients().await.dynamodb, table))
        }

        async fn clients(&mut self) -> Clients {
            let made = match self.0.take() {
                Some(made) => made,
                None => clients(Timeouts::default()).await,
            };
            self.0.insert(made).clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_say_what_they_are() {
        let check = |text: &str, expect: Option<Location>| {
            assert_eq!(text.parse::<Location>().ok(), expect, "{text:?}");
        };
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
        check("./data", Some(Location::Folder("./data".into())));
        check("file:///var/data", Some(Location::Folder("/var/data".into())));
        check("s3://bucket", Some(s3("bucket", "")));
        check("s3://bucket/a/b/", Some(s3("bucket", "a/b")));
        check("dynamodb://table", Some(Location::DynamoDb { table: "table".into() }));
        check("memory://", Some(Location::Memory));
        for bad in
            ["", "file://data", "s3://", "s3:///a", "s3://b/ä", "dynamodb://", "dynamodb://a/b", "http://x"]
        {
            check(bad, None);
        }
    }

    #[tokio::test]
    async fn a_location_holds_what_it_can() {
        let table = Location::DynamoDb { table: "t".into() };
        let bucket = Location::S3 { bucket: "b".into(), prefix: String::new() };
        assert!(open(&Location::Memory, &Location::Memory, 1).await.is_ok());
        let error = open(&table, &Location::Memory, 1).await.err().expect("objects in a table");
        assert!(error.to_string().contains("cannot hold objects"), "{error}");
        let error = open(&Location::Memory, &bucket, 1).await.err().expect("an index in a bucket");
        assert!(error.to_string().contains("cannot hold the index"), "{error}");
    }

    #[cfg(feature = "embedded")]
    #[tokio::test]
    async fn a_folder_is_open_once_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::Folder(folder.path().join("data"));
        let store = open(&location, &location, 1).await.expect("opened");
        let error = open(&location, &location, 1).await.err().expect("in use");
        assert_eq!(error.to_string(), format!("cannot open {location}"));
        assert!(matches!(error, Error::Storage { source: storage::Error::InUse { .. }, .. }), "{error:?}");
        drop(store);
        assert!(open(&location, &location, 1).await.is_ok());
        assert!(
            folder.path().join("data/objects").is_dir() && folder.path().join("data/index.redb").is_file()
        );
    }
}
