//! `spandrel inspect`: what is stored, by tenant, hour and level.
//!
//! Lists objects, so it also shows what the index does not name.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use edge::open::Location;
use storage::object::Object;

/// Arguments of `spandrel inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for objects and index; its server must not be running
    #[arg(long, env = "SPANDREL_DATA", value_name = "DIR", default_value = "./spandrel-data")]
    data: PathBuf,
    /// Where objects are instead of DIR: s3://bucket/prefix
    #[arg(long, env = "SPANDREL_OBJECT_STORE", value_name = "LOCATION", requires = "index")]
    object_store: Option<String>,
    /// Where the index is instead of DIR: dynamodb://table
    #[arg(long, env = "SPANDREL_INDEX", value_name = "LOCATION", requires = "object_store")]
    index: Option<String>,
}

/// What one folder has of one level.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    n_files: u64,
    n_bytes: u64,
}

/// Prints the table.
///
/// # Errors
/// The stores do not open or do not list; the folder is not there.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sums = runtime.block_on(async {
        let folder = || Location::Folder(args.data.clone());
        let objects = args.object_store.as_deref().map_or_else(|| Ok(folder()), str::parse)?;
        let index = args.index.as_deref().map_or_else(|| Ok(folder()), str::parse)?;
        if matches!(objects, Location::Folder(_)) && !args.data.is_dir() {
            return Err(format!("there is no data folder {}", args.data.display()).into());
        }
        let store = edge::open::open(&objects, &index, 1).await?;
        Ok::<_, Box<dyn Error>>(list(&*store.objects).await?)
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>8} {:>14}  level  folder", "files", "bytes")?;
    for ((folder, level), sum) in sums {
        writeln!(out, "{:>8} {:>14}  {level:<5}  {folder}", sum.n_files, sum.n_bytes)?;
    }
    Ok(())
}

/// Files by folder and level.
async fn list(objects: &dyn Object) -> storage::Result<BTreeMap<(String, String), Sum>> {
    const PAGE: usize = 1000;
    let mut sums: BTreeMap<(String, String), Sum> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = objects.list("", after.as_deref(), PAGE).await?;
        for object in &page {
            let (folder, name) = object.key.rsplit_once('/').unwrap_or(("", &object.key));
            let level = name.split('-').next().unwrap_or_default();
            let sum = sums.entry((folder.to_owned(), level.to_owned())).or_default();
            sum.n_files += 1;
            sum.n_bytes += object.size;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(sums),
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::object::memory::MemoryObjects;

    use super::*;

    #[tokio::test]
    async fn files_are_summed_by_folder_and_level() {
        let objects = MemoryObjects::new();
        for (key, body) in [
            ("a/hour=01/l0-x.parquet", "xx"),
            ("a/hour=01/l0-y.parquet", "y"),
            ("a/hour=01/l1-z.parquet", ""),
        ] {
            objects.put_if_absent(key, body.into()).await.expect("memory");
        }
        let sums: Vec<_> = list(&objects).await.expect("memory").into_iter().collect();
        let folder = || "a/hour=01".to_owned();
        assert_eq!(
            sums,
            [
                ((folder(), "l0".to_owned()), Sum { n_files: 2, n_bytes: 3 }),
                ((folder(), "l1".to_owned()), Sum { n_files: 1, n_bytes: 0 })
            ]
        );
    }
}
