//! Which stores a command works on: arguments that several commands share.

use std::error::Error;
use std::path::PathBuf;

use edge::open::Location;
use storage::Store;

/// Where the stores are.
#[derive(Debug, clap::Args)]
#[group(id = "stores")]
pub(crate) struct Args {
    /// Folder for objects and index; its server must not be running
    #[arg(long, env = "SPANDREL_DATA", value_name = "DIR", default_value = "./spandrel-data")]
    data: PathBuf,
    /// Where objects are instead of DIR: s3://bucket/prefix
    #[arg(long, env = "SPANDREL_OBJECT_STORE", value_name = "LOCATION", requires = "index")]
    object_store: Option<String>,
    /// Where the index is instead of DIR: dynamodb://table
    #[arg(long, env = "SPANDREL_INDEX", value_name = "LOCATION", requires = "object_store")]
    index: Option<String>,
    /// Partitions of the index into which what is merged of an hour is written
    #[arg(long, env = "SPANDREL_INDEX_SHARDS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    index_shards: Option<u8>,
}

impl Args {
    /// Opens the stores.
    ///
    /// # Errors
    /// They do not open; the folder is not there.
    pub(crate) async fn open(&self) -> Result<Store, Box<dyn Error>> {
        let folder = || Location::Folder(self.data.clone());
        let objects = self.object_store.as_deref().map_or_else(|| Ok(folder()), str::parse)?;
        let index = self.index.as_deref().map_or_else(|| Ok(folder()), str::parse)?;
        if matches!(objects, Location::Folder(_)) && !self.data.is_dir() {
            return Err(format!("there is no data folder {}", self.data.display()).into());
        }
        let shards =
            self.index_shards.unwrap_or(if matches!(index, Location::DynamoDb { .. }) { 4 } else { 1 });
        Ok(edge::open::open(&objects, &index, shards).await?)
    }

    /// The name of this process among compactors.
    pub(crate) fn owner(&self) -> String {
        owner(self.object_store.is_none())
    }
}

/// The name of this process among compactors. Only one process opens a folder, so that all have one name there, and what
/// a killed one held is free at once.
pub(crate) fn owner(is_folder: bool) -> String {
    if is_folder { "local".to_owned() } else { format!("{}-{}", std::process::id(), edge::clock::now_ns()) }
}
