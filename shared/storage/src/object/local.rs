//! Objects as files of a folder.
//!
//! A put writes a temporary file beside the objects (`.tmp/`), syncs it, links it to its final name, removes the
//! temporary name and syncs the folder that got the new entry. The link fails if the name is taken, so there is one
//! winner in a race, also between processes, and nobody ever sees half an object.
//! Not `renameat2` with NOREPLACE: no cheaper (0.2 ms of CPU a put of 50 KB either way, on ext4), less portable.
//! Concurrent puts into one folder share its sync; the folders known to exist are remembered.
//!
//! A read takes what the page cache has at once, on the caller's thread, and goes to a blocking thread only for what
//! has to come from the disk or is large. A query of 2,000 files must not pay 2,000 thread hops for bytes in memory,
//! and a stalled disk must not hold a runtime thread. Opening a file is done on the caller's thread in any case.
//!
//! Folders are never removed, not even empty ones: a remembered handle must not point to a folder that is gone.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Object, ObjectMeta, PutOutcome};
use crate::{Error, Result};

/// Puts that write at the same time. More find no free disk queue, fewer leave it idle; each costs a thread.
const CONCURRENT_PUTS: usize = 16;
/// Largest read that is tried on the caller's thread: about 0.1 ms of copying.
const INLINE_READ_BYTES: u64 = 1 << 20;
/// Folders remembered, each with an open handle.
const REMEMBERED_FOLDERS: usize = 128;
/// Where files are until they are whole.
const TEMP_FOLDER: &str = ".tmp";

/// Objects as files of a folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalObjects {
    files: Arc<Files>,
    put_permits: Arc<Semaphore>,
}

impl LocalObjects {
    /// Objects in `folder`, which is created if it is missing.
    ///
    /// Removes what a crashed process left in `.tmp/`. Another living process that puts into the same folder at that
    /// moment writes its object anew; still, open the embedded table first, whose lock keeps a second process out.
    ///
    /// # Errors
    /// Refused or unavailable if the folder cannot be made or written.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let root = folder.as_ref();
        let files =
            Files::open(root).map_err(|error| failed(format!("opening {}", root.display()), error))?;
        Ok(Self { files: Arc::new(files), put_permits: Arc::new(Semaphore::new(CONCURRENT_PUTS)) })
    }

    /// The part of an object that `wanted` gives for its length; `None` if no object is there.
    async fn read(&self, key: &str, wanted: impl FnOnce(u64) -> Range<u64>) -> Result<Option<Bytes>> {
        let doing = || format!("reading {key}");
        let opened = self.files.open_object(&checked(key)?).map_err(|error| failed(doing(), error))?;
        let Some((file, size)) = opened else { return Ok(None) };
        let range = wanted(size);
        let start = range.start.min(size);
        let n_bytes = range.end.min(size).saturating_sub(start);
        let mut bytes = vec![0; n_bytes as usize];
        let n_cached = if n_bytes <= INLINE_READ_BYTES { read_cached(&file, start, &mut bytes) } else { 0 };
        if n_cached < bytes.len() {
            let read_rest = move || {
                file.read_exact_at(&mut bytes[n_cached..], start + n_cached as u64)?;
                Ok(bytes)
            };
            bytes = on_blocking_thread(read_rest).await.map_err(|error| failed(doing(), error))?;
        }
        Ok(Some(Bytes::from(bytes)))
    }
}

#[async_trait::async_trait]
impl Object for LocalObjects {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        let doing = || format!("storing {key}");
        let relative = checked(key)?;
        let permit = Arc::clone(&self.put_permits).acquire_owned().await;
        let permit = permit.expect("invariant: the semaphore is never closed");
        let files = Arc::clone(&self.files);
        // The permit goes with the work: a caller that goes away does not stop it.
        let put = move || {
            let _permit = permit;
            files.put(&relative, &body)
        };
        on_blocking_thread(put).await.map_err(|error| failed(doing(), error))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.read(key, |_| range).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.read(key, |size| 0..size).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        let path = self.files.root.join(checked(key)?);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(failed(format!("reading the size of {key}"), error)),
        }
    }

    /// Not synced: an object that a power failure brings back is named by no index entry, and is found again.
    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.files.root.join(checked(key)?);
        match on_blocking_thread(move || fs::remove_file(&path)).await {
            Ok(()) => Ok(()),
            Err(error) if is_absence(&error) => Ok(()),
            Err(error) => Err(failed(format!("deleting {key}"), error)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        let doing = format!("listing {prefix}");
        let files = Arc::clone(&self.files);
        let mut listing =
            Listing { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit, found: Vec::new() };
        let walk = move || {
            let start = listing.prefix.rfind('/').map_or("", |slash| &listing.prefix[..=slash]).to_owned();
            listing.walk(&files.root, &start)?;
            Ok(listing.found)
        };
        on_blocking_thread(walk).await.map_err(|error| failed(doing, error))
    }
}

/// The folder and what is known of it. All functions block.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    root_folder: Arc<Folder>,
    /// By key prefix without the last slash: folders that exist and whose entries in their parents are durable.
    folders: Mutex<HashMap<String, Arc<Folder>>>,
}

impl Files {
    fn open(root: &Path) -> io::Result<Self> {
        let temp = root.join(TEMP_FOLDER);
        create_folder_durably(root)?;
        fs::create_dir_all(&temp)?;
        for entry in fs::read_dir(&temp)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(process_mark()) {
                remove_if_there(&entry.path())?;
            }
        }
        let root_folder = Arc::new(Folder::open(root)?);
        root_folder.sync()?;
        Ok(Self { root: root.to_owned(), root_folder, folders: Mutex::default() })
    }

    fn put(&self, key: &str, body: &[u8]) -> io::Result<PutOutcome> {
        let folder_key = key.rfind('/').map_or("", |slash| &key[..slash]);
        let path = self.root.join(key);
        let mut attempts_left = 3;
        loop {
            attempts_left -= 1;
            let folder = self.folder(folder_key)?;
            // Looking first spares a retried request the write and a full disk the error.
            let attempt = if is_object(&path)? {
                Ok(PutOutcome::AlreadyThere)
            } else {
                self.write_and_link(&path, body)
            };
            match attempt {
                Ok(outcome) => {
                    // Also for an object of someone else, who may not have come to this yet.
                    folder.sync()?;
                    return Ok(outcome);
                }
                // The folder was removed by hand, or a starting process took our file for a leftover.
                Err(error) if error.kind() == ErrorKind::NotFound && attempts_left > 0 => {
                    lock(&self.folders).clear();
                    fs::create_dir_all(self.root.join(TEMP_FOLDER))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the object appear, whole and with its bytes on the disk; its name is not durable yet.
    fn write_and_link(&self, path: &Path, body: &[u8]) -> io::Result<PutOutcome> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = TempFile(self.root.join(TEMP_FOLDER).join(format!("{}{n}", process_mark())));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temp.0)?;
        file.write_all(body)?;
        file.sync_data()?;
        match fs::hard_link(&temp.0, path) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_object(path)? => {
                Ok(PutOutcome::AlreadyThere)
            }
            Err(error) => Err(error),
        }
    }

    /// The folder of a key prefix; makes it, and what is missing above it, durably.
    fn folder(&self, folder_key: &str) -> io::Result<Arc<Folder>> {
        if folder_key.is_empty() {
            return Ok(Arc::clone(&self.root_folder));
        }
        if let Some(folder) = lock(&self.folders).get(folder_key) {
            return Ok(Arc::clone(folder));
        }
        let parent = self.folder(folder_key.rfind('/').map_or("", |slash| &folder_key[..slash]))?;
        let path = self.root.join(folder_key);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Also if it was there: whoever made it may not have synced its entry, or may have crashed before.
        parent.sync()?;
        let folder = Arc::new(Folder::open(&path)?);
        let mut folders = lock(&self.folders);
        if folders.len() >= REMEMBERED_FOLDERS {
            folders.clear();
        }
        folders.insert(folder_key.to_owned(), Arc::clone(&folder));
        Ok(folder)
    }

    /// An object's file and size.
    fn open_object(&self, key: &str) -> io::Result<Option<(File, u64)>> {
        let file = match File::open(self.root.join(key)) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some((file, metadata.len())))
    }
}

/// A name that goes away with this value.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.0) {
            tracing::warn!(path = %self.0.display(), ?error, "temporary file not removed");
        }
    }
}

/// An open folder whose sync is shared: one caller syncs for all that asked before it began.
#[derive(Debug)]
struct Folder {
    handle: File,
    syncs: Mutex<Syncs>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct Syncs {
    /// How often a sync was asked for.
    n_asked: u64,
    /// So many of the first of them are done.
    n_synced: u64,
    /// So many of the first of them may have failed, and with what.
    failed: Option<(u64, i32)>,
    running: bool,
}

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { handle: File::open(path)?, syncs: Mutex::default(), finished: Condvar::new() })
    }

    /// Returns when the entries that the folder had at the call are durable.
    /// A failed sync fails for all who waited for it: the kernel reports a lost write only once.
    fn sync(&self) -> io::Result<()> {
        let mut syncs = lock(&self.syncs);
        syncs.n_asked += 1;
        let mine = syncs.n_asked;
        loop {
            if let Some((n_failed, code)) = syncs.failed
                && mine <= n_failed
            {
                return Err(io::Error::from_raw_os_error(code));
            }
            if mine <= syncs.n_synced {
                return Ok(());
            }
            if !syncs.running {
                break;
            }
            syncs = self.finished.wait(syncs).unwrap_or_else(PoisonError::into_inner);
        }
        syncs.running = true;
        let n_covered = syncs.n_asked;
        drop(syncs);
        let outcome = self.handle.sync_all();
        let mut syncs = lock(&self.syncs);
        syncs.running = false;
        match &outcome {
            Ok(()) => syncs.n_synced = n_covered,
            Err(error) => syncs.failed = Some((n_covered, error.raw_os_error().unwrap_or_default())),
        }
        self.finished.notify_all();
        outcome
    }
}

/// A walk over the folders in the order of keys.
struct Listing {
    prefix: String,
    after: Option<String>,
    limit: usize,
    found: Vec<ObjectMeta>,
}

impl Listing {
    /// Visits the folder of `folder_key`, which is empty or ends in a slash.
    fn walk(&mut self, root: &Path, folder_key: &str) -> io::Result<()> {
        let entries = match fs::read_dir(root.join(folder_key)) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Keys are ASCII; a name that is not is not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_folder = entry.file_type()?.is_dir();
            if folder_key.is_empty() && name == TEMP_FOLDER {
                continue;
            }
            // With its slash a folder sorts among its siblings as the keys below it do: `a-b` < `a/b` < `ab`.
            let key = format!("{folder_key}{name}{}", if is_folder { "/" } else { "" });
            if if is_folder { self.may_be_below(&key) } else { self.wants(&key) } {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        for key in keys {
            if self.found.len() >= self.limit {
                break;
            }
            if key.ends_with('/') {
                self.walk(root, &key)?;
                continue;
            }
            match fs::metadata(root.join(&key)) {
                Ok(metadata) => {
                    let since_epoch = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
                    let modified_s = since_epoch.unwrap_or_default().as_secs();
                    self.found.push(ObjectMeta { key, size: metadata.len(), modified_s });
                }
                Err(error) if is_absence(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wants(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && self.after.as_deref().is_none_or(|after| key > after)
    }

    /// Whether a wanted key may start with `folder_key`.
    fn may_be_below(&self, folder_key: &str) -> bool {
        let in_prefix = folder_key.starts_with(&self.prefix) || self.prefix.starts_with(folder_key);
        let beyond =
            self.after.as_deref().is_none_or(|after| folder_key > after || after.starts_with(folder_key));
        in_prefix && beyond
    }
}

/// Refuses keys that would leave the folder or name something else in it.
fn checked(key: &str) -> Result<String> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if key.split('/').all(is_part) && key.split('/').next() != Some(TEMP_FOLDER) {
        return Ok(key.to_owned());
    }
    Err(Error::refused("object store", format!("checking key {key:?}"), "not a relative path of plain parts"))
}

/// Reads what the page cache holds from `offset` on, without ever waiting for the disk; returns how much that was.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, bytes: &mut [u8]) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut n_read = 0;
    while n_read < bytes.len() {
        let mut rest = [io::IoSliceMut::new(&mut bytes[n_read..])];
        // Any error is left to the blocking read to meet again: mostly it is EAGAIN, "not in the cache", and where
        // the file system does not know the flag, EOPNOTSUPP.
        match preadv2(file, &mut rest, offset + n_read as u64, ReadWriteFlags::NOWAIT) {
            Ok(n) if n > 0 => n_read += n,
            _ => break,
        }
    }
    n_read
}

/// Elsewhere nothing tells what is cached, so every read goes to a blocking thread.
#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _offset: u64, _bytes: &mut [u8]) -> usize {
    0
}

/// Starts the names of this process's temporary files; no other process has it, not even one with the same id in
/// another container or after a crash.
fn process_mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| format!("{:016x}-", RandomState::new().build_hasher().finish()))
}

/// Whether a file is there; a folder in its place is an error.
fn is_object(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether an error means that no object has that key; a key below another object's is one.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What the caller can do about `error`.
fn failed(doing: String, error: io::Error) -> Error {
    if is_refusal(&error) {
        Error::refused("object store", doing, error)
    } else {
        Error::unavailable("object store", doing, error)
    }
}

/// Whether `error` will not pass by itself: permissions and names, not a full or failing disk.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            // A file in the place of a folder.
            | ErrorKind::AlreadyExists
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
    )
}

/// Makes `folder`, and what is missing above it, so that it survives a power failure.
pub(crate) fn create_folder_durably(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is changed in single steps, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
