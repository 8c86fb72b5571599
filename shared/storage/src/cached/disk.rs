//! Ranges of objects as files of a folder: what a process read stays for the next one.
//!
//! A file is `v1/<2 hex digits>/<hash of the key>-<start>-<end>`, numbers in hex. Its bytes:
//!
//! ```text
//! 32  BLAKE3 of the file's name and what follows
//!  n  the bytes of the object from start to end
//! ```
//!
//! It is written beside its place and renamed. Nothing is synced: what a crash or a bad disk leaves of it does not have
//! its checksum, and is a miss. The first write or removal that fails switches the folder off until the next start.
//! One process at a time has the folder, by a lock on `lock`. All functions block.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::ranges::{ObjectId, Ranges};

/// The folder of this layout.
const VERSION: &str = "v1";
/// Where files are until they are whole.
const TEMP_FOLDER: &str = "tmp";
const CHECKSUM_BYTES: usize = 32;

/// Ranges of objects as files of a folder.
pub(super) struct Disk {
    folder: PathBuf,
    ranges: Mutex<Ranges<()>>,
    next_temp: AtomicU64,
    is_off: AtomicBool,
    /// Held while this lives.
    _lock: File,
}

impl Disk {
    /// Opens the folder, made if it is missing, with what an earlier process left, as far as `capacity` bytes hold.
    ///
    /// # Errors
    /// The folder cannot be made, read or locked.
    pub(super) fn open(folder: &Path, capacity: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another process has it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let folder = folder.join(VERSION);
        let temp = folder.join(TEMP_FOLDER);
        if temp.exists() {
            fs::remove_dir_all(&temp)?;
        }
        fs::create_dir_all(&temp)?;
        let disk = Self {
            folder,
            ranges: Mutex::new(Ranges::new(capacity)),
            next_temp: AtomicU64::new(0),
            is_off: AtomicBool::new(false),
            _lock: lock,
        };
        disk.find_files()?;
        Ok(disk)
    }

    /// Bytes in files, and how many had to go.
    pub(super) fn counts(&self) -> (u64, u64) {
        let ranges = self.ranges();
        (ranges.bytes(), ranges.n_evicted())
    }

    /// The stored range that `wanted` lies in, and its bytes.
    pub(super) fn read(&self, object: ObjectId, wanted: &Range<u64>) -> Option<(Range<u64>, Bytes)> {
        if self.is_off.load(Relaxed) {
            return None;
        }
        let (range, ()) = self.ranges().find(object, wanted)?;
        let name = name_of(object, &range);
        let read = fs::read(self.path_of(&name));
        if let Ok(bytes) = read {
            let n_bytes = CHECKSUM_BYTES as u64 + range.end - range.start;
            if bytes.len() as u64 == n_bytes
                && bytes[..CHECKSUM_BYTES] == checksum(&name, &bytes[CHECKSUM_BYTES..])
            {
                return Some((range, Bytes::from(bytes).slice(CHECKSUM_BYTES..)));
            }
        }
        // Gone, torn or damaged.
        let gone = self.ranges().forget(object);
        self.remove_files(&gone);
        None
    }

    /// Keeps the bytes of an object from `start` on, if there is room for them.
    pub(super) fn write(&self, object: ObjectId, start: u64, bytes: &[u8]) {
        let range = start..start + bytes.len() as u64;
        if self.is_off.load(Relaxed) || !self.ranges().takes(&range) {
            return;
        }
        if let Err(error) = self.write_file(&name_of(object, &range), bytes) {
            self.switch_off(&error);
            return;
        }
        let gone = self.ranges().insert(object, range, ());
        self.remove_files(&gone);
    }

    /// Removes what there is of an object.
    pub(super) fn forget(&self, object: ObjectId) {
        let gone = self.ranges().forget(object);
        self.remove_files(&gone);
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path_of(name);
        let temp = self.folder.join(TEMP_FOLDER).join(self.next_temp.fetch_add(1, Relaxed).to_string());
        let mut content = Vec::with_capacity(CHECKSUM_BYTES + bytes.len());
        content.extend_from_slice(&checksum(name, bytes));
        content.extend_from_slice(bytes);
        let written = fs::write(&temp, content).and_then(|()| match fs::rename(&temp, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = path.parent().expect("invariant: a file of the cache is in a folder");
                fs::create_dir_all(parent)?;
                fs::rename(&temp, &path)
            }
            renamed => renamed,
        });
        if written.is_err() {
            // Best effort: the next start removes it.
            let _ = fs::remove_file(&temp);
        }
        written
    }

    fn remove_files(&self, gone: &[(ObjectId, Range<u64>)]) {
        for (object, range) in gone {
            match fs::remove_file(self.path_of(&name_of(*object, range))) {
                Err(error) if error.kind() != ErrorKind::NotFound => self.switch_off(&error),
                _ => {}
            }
        }
    }

    fn switch_off(&self, error: &io::Error) {
        if !self.is_off.swap(true, Relaxed) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "the cache's folder cannot be used and is switched off");
        }
    }

    /// Takes the files that are there; those that are none of ours are left alone.
    fn find_files(&self) -> io::Result<()> {
        let mut gone = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            let folder = folder?;
            if folder.file_name().len() != 2 || !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let name = file?.file_name();
                if let Some((object, range)) = name.to_str().and_then(parse_name) {
                    let mut ranges = self.ranges();
                    if !ranges.takes(&range) || ranges.find(object, &range).is_some() {
                        gone.push((object, range));
                        continue;
                    }
                    gone.extend(ranges.insert(object, range, ()));
                }
            }
        }
        self.remove_files(&gone);
        Ok(())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(&name[..2]).join(name)
    }

    fn ranges(&self) -> MutexGuard<'_, Ranges<()>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(object: ObjectId, range: &Range<u64>) -> String {
    format!("{object:032x}-{:x}-{:x}", range.start, range.end)
}

/// What a name says; `None` unless it is just what [`name_of`] gives.
fn parse_name(name: &str) -> Option<(ObjectId, Range<u64>)> {
    let mut parts = name.split('-');
    let object = ObjectId::from_str_radix(parts.next()?, 16).ok()?;
    let start = u64::from_str_radix(parts.next()?, 16).ok()?;
    let end = u64::from_str_radix(parts.next()?, 16).ok()?;
    (start < end && name_of(object, &(start..end)) == name).then_some((object, start..end))
}

fn checksum(name: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    *blake3::Hasher::new().update(name.as_bytes()).update(bytes).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 64 << 10;

    fn open(folder: &tempfile::TempDir) -> Disk {
        Disk::open(folder.path(), CAPACITY).expect("a folder")
    }

    fn files(disk: &Disk) -> Vec<PathBuf> {
        let folders =
            fs::read_dir(&disk.folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let files = folders.flat_map(|folder| fs::read_dir(folder).expect("a folder"));
        files.map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn files_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = open(&folder);
        disk.write(7, 100, b"hello");
        assert_eq!(disk.read(7, &(101..103)), Some((100..105, Bytes::from_static(b"hello"))));
        assert!(Disk::open(folder.path(), CAPACITY).is_err(), "one process at a time");
        let bytes = disk.counts();
        drop(disk);
        let disk = open(&folder);
        assert_eq!(disk.counts(), bytes);
        assert_eq!(disk.read(7, &(100..105)), Some((100..105, Bytes::from_static(b"hello"))));
        disk.forget(7);
        assert_eq!((disk.read(7, &(100..105)), files(&disk)), (None, Vec::new()));
    }

    #[test]
    fn what_is_torn_or_damaged_is_a_miss() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = open(&folder);
        let damage: [fn(&mut Vec<u8>); 5] = [
            |content| content[0] ^= 1,
            |content| *content.last_mut().expect("bytes") ^= 0x80,
            |content| content.truncate(34),
            Vec::clear,
            |content| content.push(0),
        ];
        for damage in damage {
            disk.write(7, 0, b"hello");
            let path = files(&disk).pop().expect("a file");
            let mut content = fs::read(&path).expect("its content");
            damage(&mut content);
            fs::write(&path, content).expect("damaged");
            assert_eq!(disk.read(7, &(0..5)), None);
            assert_eq!((disk.counts().0, files(&disk)), (0, Vec::new()));
        }
        // The bytes of one range under the name of another.
        disk.write(7, 0, b"hello");
        disk.write(8, 0, b"other");
        let path = |object| disk.path_of(&name_of(object, &(0..5)));
        fs::rename(path(7), path(8)).expect("renamed");
        assert_eq!((disk.read(8, &(0..5)), disk.read(7, &(0..5))), (None, None));
    }

    #[test]
    fn bytes_are_bounded_also_after_a_restart_with_less() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = open(&folder);
        for object in 0..100 {
            disk.write(object << 100, 0, &[object as u8; 2048]);
        }
        let (bytes, n_evicted) = disk.counts();
        let n_files = files(&disk).len() as u64;
        assert!(bytes <= CAPACITY && bytes > CAPACITY / 2);
        assert_eq!(n_files + n_evicted, 100);
        drop(disk);
        fs::write(folder.path().join(VERSION).join("00/not one of ours"), "x").expect("written");
        let disk = Disk::open(folder.path(), CAPACITY / 2).expect("a folder");
        assert!(disk.counts().0 <= CAPACITY / 2 && disk.counts().0 > 0);
        let ours = files(&disk).len() - 1;
        assert_eq!(ours as u64, disk.counts().0 / (2048 + 256));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_switched_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = open(&folder);
        disk.write(7, 0, b"hello");
        fs::remove_dir_all(disk.folder.join(TEMP_FOLDER)).expect("removed");
        disk.write(8, 0, b"hello");
        assert!(disk.is_off.load(Relaxed));
        assert_eq!((disk.read(7, &(0..5)), disk.read(8, &(0..5))), (None, None));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = name_of(0xab, &(16..255));
        assert_eq!(name, "000000000000000000000000000000ab-10-ff");
        assert_eq!(parse_name(&name), Some((0xab, 16..255)));
        for wrong in
            ["", "ab-10-ff", "000000000000000000000000000000ab-ff-10", &format!("{name}-1"), &name[1..]]
        {
            assert_eq!(parse_name(wrong), None, "{wrong}");
        }
    }
}
