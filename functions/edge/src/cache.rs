//! The cache of objects that a process answers questions with, and its metrics.

use std::path::PathBuf;
use std::sync::Arc;

use storage::cached::Cache;

use crate::metrics::Page;
use crate::open::Location;

/// What is kept of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes in memory; 0 for none.
    pub memory_bytes: u64,
    /// A folder for more, which survives the process.
    pub folder: Option<PathBuf>,
    /// Bytes in the folder.
    pub disk_bytes: u64,
}

/// The cache of what is at `objects`, if there is one. A folder that cannot be used is left out with a warning. Blocks.
pub fn open(settings: &Settings, objects: &Location) -> Option<Arc<Cache>> {
    let of = format!("{objects} {}", env!("CARGO_PKG_VERSION"));
    let in_memory = || Cache::in_memory(&of, settings.memory_bytes);
    let folder = settings.folder.as_deref().filter(|_| settings.disk_bytes > 0);
    if let Some(folder) = folder {
        match in_memory().and_folder(folder, settings.disk_bytes) {
            Ok(cache) => return Some(Arc::new(cache)),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the cache's folder cannot be used");
            }
        }
    }
    (settings.memory_bytes > 0).then(|| Arc::new(in_memory()))
}

/// Appends what became of reads, and what is kept.
pub fn write(cache: &Cache, page: &mut Page) {
    const MEMORY: &str = r#"tier="memory""#;
    const DISK: &str = r#"tier="disk""#;
    let counts = cache.counts();
    page.counters(
        "spandrel_object_cache_hits_total",
        "Reads of objects that the cache answered.",
        &[(MEMORY, counts.memory_hits), (DISK, counts.disk_hits)],
    );
    page.counters(
        "spandrel_object_cache_joined_total",
        "Reads of objects that waited for another one's.",
        &[("", counts.joined)],
    );
    page.counters(
        "spandrel_object_cache_misses_total",
        "Reads of objects that went to the object store.",
        &[("", counts.misses)],
    );
    page.counters(
        "spandrel_object_cache_saved_bytes_total",
        "Bytes that were not read of the object store.",
        &[("", counts.saved_bytes)],
    );
    page.counters(
        "spandrel_object_cache_evictions_total",
        "Ranges of objects for which there was no room any more.",
        &[(MEMORY, counts.memory_evictions), (DISK, counts.disk_evictions)],
    );
    page.gauges(
        "spandrel_object_cache_bytes",
        "Bytes that are kept.",
        &[(MEMORY, counts.memory_bytes), (DISK, counts.disk_bytes)],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_opened_as_told_and_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |memory_bytes: u64, folder: Option<PathBuf>, is_there: bool| {
            let settings = Settings { memory_bytes, folder, disk_bytes: 1000 };
            let cache = open(&settings, &Location::Memory);
            assert_eq!(cache.is_some(), is_there, "{settings:?}");
            cache
        };
        check(0, None, false);
        check(1000, None, true);
        let cache = check(0, Some(folder.path().to_owned()), true).expect("a cache");
        // The folder is taken: what is left is memory, or nothing.
        check(0, Some(folder.path().to_owned()), false);
        check(1000, Some(folder.path().to_owned()), true);
        let mut page = Page::default();
        write(&cache, &mut page);
        let page = page.finish();
        assert!(page.contains("spandrel_object_cache_hits_total{tier=\"disk\"} 0\n"), "{page}");
    }
}
