//! Index items of files that were merged into others, and what is to be deleted after them.
//!
//! ```text
//! retired item = u8 130  files: those that have its rows now
//! after grace  = u8 version 1  section tenant  section signal  files
//! files        = per partition of the index: section its name  section keys
//! keys         = per file u8 level  i64 LE least start, ns  its content, 16 bytes
//! section      = varint length  bytes
//! ```
//! What a retired item said is in it no more: the index of a busy hour is mostly such items, and each question reads them.
//! Items that begin with 128 are of versions that kept it; what they name was visible long ago. No item of a file begins
//! with either: their versions are small.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{ContentHash, Signal, TenantId};

use super::FileKey;
use super::item::{read_section, write_section};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::take;
use crate::kv::Key;

const RETIRED: u8 = 130;
/// What retired items of earlier versions begin with.
const RETIRED_BEFORE: u8 = 128;
const VERSION: u8 = 1;
/// Bytes of a file's key.
const KEY_BYTES: usize = 25;

/// The most files that the rows of one may go to.
pub(crate) const MAX_HEIRS: usize = 64;

/// The item of a file whose rows are gone: it has no heirs.
pub(crate) const GONE: &[u8] = &[RETIRED];

/// The item of a file whose rows are in the files `heirs` now, at most [`MAX_HEIRS`].
pub(crate) fn write_retired(heirs: &PlacedFiles) -> Vec<u8> {
    [&[RETIRED], &*heirs.bytes].concat()
}

/// Whether the item of this value is retired.
pub(crate) fn is_retired(value: &[u8]) -> bool {
    matches!(value.first(), Some(&(RETIRED | RETIRED_BEFORE)))
}

/// The files that have the rows of an item's file now, if it was retired.
pub(crate) fn read_retired(signal: Signal, value: &Bytes) -> Result<Option<PlacedFiles>, Invalid> {
    match value.first() {
        Some(&RETIRED) => PlacedFiles::parse(signal, value.slice(1..)).map(Some),
        Some(&RETIRED_BEFORE) => Ok(Some(PlacedFiles::of(signal, &BTreeMap::new()))),
        _ => Ok(None),
    }
}

/// Files of a signal, by the partitions of their items; as they are stored, because a question may read thousands of lists
/// and need none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedFiles {
    signal: Signal,
    bytes: Bytes,
}

impl PlacedFiles {
    /// These files.
    pub(crate) fn of(signal: Signal, files: &BTreeMap<String, Vec<FileKey>>) -> Self {
        let mut bytes = Vec::new();
        for (partition, files) in files {
            write_section(&mut bytes, partition.as_bytes());
            let mut keys = Vec::with_capacity(files.len() * KEY_BYTES);
            for file in files {
                keys.push(file.level);
                keys.extend_from_slice(&file.min_start_ns.to_le_bytes());
                keys.extend_from_slice(&file.content.0);
            }
            write_section(&mut bytes, &keys);
        }
        Self { signal, bytes: bytes.into() }
    }

    /// Files, each with the partition of its item.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, FileKey)> {
        let mut bytes = &*self.bytes;
        let partitions = std::iter::from_fn(move || read_partition(&mut bytes).ok());
        partitions.flat_map(move |(partition, keys)| keys.iter().map(move |key| (partition, self.key(key))))
    }

    fn key(&self, bytes: &[u8; KEY_BYTES]) -> FileKey {
        FileKey {
            signal: self.signal,
            level: bytes[0],
            min_start_ns: i64::from_le_bytes(bytes[1..9].try_into().expect("invariant: eight bytes")),
            content: ContentHash(bytes[9..].try_into().expect("invariant: sixteen bytes")),
        }
    }

    fn parse(signal: Signal, bytes: Bytes) -> Result<Self, Invalid> {
        let mut rest = &*bytes;
        while !rest.is_empty() {
            read_partition(&mut rest)?;
        }
        Ok(Self { signal, bytes })
    }
}

/// A partition and the keys of its files.
fn read_partition<'a>(bytes: &mut &'a [u8]) -> Result<(&'a str, &'a [[u8; KEY_BYTES]]), Invalid> {
    let partition = read_text(bytes)?;
    match read_section(bytes)?.as_chunks::<KEY_BYTES>() {
        (keys, []) => Ok((partition, keys)),
        _ => Err(Invalid("list of files is cut off")),
    }
}

fn read_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Invalid> {
    std::str::from_utf8(read_section(bytes)?).map_err(|_| Invalid("text is not UTF-8"))
}

/// What goes when no question can need it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AfterGrace {
    pub(crate) tenant: TenantId,
    pub(crate) signal: Signal,
    pub(crate) files: PlacedFiles,
}

impl AfterGrace {
    /// Files with the keys of their index items and objects.
    pub(crate) fn files(&self) -> impl Iterator<Item = (FileKey, Key, String)> {
        self.files.iter().map(|(partition, file)| {
            let (at, object) = (Key::new(partition, file.sort()), file.object(&self.tenant));
            (file, at, object)
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        write_section(&mut out, self.tenant.as_str().as_bytes());
        write_section(&mut out, self.signal.as_str().as_bytes());
        out.extend_from_slice(&self.files.bytes);
        out
    }

    pub(crate) fn parse(value: &Bytes) -> Result<Self, Invalid> {
        let mut bytes = &**value;
        if take(&mut bytes, 1)?[0] != VERSION {
            return Err(Invalid("note of retired files has an unknown version"));
        }
        let tenant = read_text(&mut bytes)?.parse();
        let tenant = tenant.map_err(|_| Invalid("note of retired files has no tenant"))?;
        let signal = read_text(&mut bytes)?;
        let signal = Signal::ALL.into_iter().find(|it| it.as_str() == signal);
        let signal = signal.ok_or(Invalid("note of retired files has no signal"))?;
        Ok(Self { tenant, signal, files: PlacedFiles::parse(signal, value.slice_ref(bytes))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_files() -> PlacedFiles {
        let file = |level, min_start_ns| FileKey {
            signal: Signal::Logs,
            level,
            min_start_ns,
            content: ContentHash([level; 16]),
        };
        let files = [("p".to_owned(), vec![file(0, -5), file(9, 7)]), ("q".to_owned(), vec![file(1, 0)])];
        PlacedFiles::of(Signal::Logs, &files.into())
    }

    #[test]
    fn a_retired_item_names_its_heirs() {
        let none = PlacedFiles::of(Signal::Logs, &BTreeMap::new());
        let read = |value: &[u8]| read_retired(Signal::Logs, &Bytes::copy_from_slice(value));
        let item = write_retired(&some_files());
        assert!(is_retired(&item));
        assert_eq!(item.len(), 1 + 2 * (2 + 1) + 3 * KEY_BYTES);
        let heirs = read(&item).unwrap().unwrap();
        assert_eq!(heirs, some_files());
        let keys: Vec<_> =
            heirs.iter().map(|(partition, file)| (partition, file.level, file.min_start_ns)).collect();
        assert_eq!(keys, [("p", 0, -5), ("p", 9, 7), ("q", 1, 0)]);
        assert!(read(&item[..item.len() - 1]).is_err());
        assert_eq!(write_retired(&none), GONE);
        assert_eq!(read(GONE), Ok(Some(none.clone())));
        let before = [&[128, 1][..], &[9; 16], b"as it was"].concat();
        assert_eq!(read(&before), Ok(Some(none)));
        for living in [&b"\x01item"[..], b"\x81treated", b""] {
            assert!(!is_retired(living));
            assert_eq!(read(living), Ok(None));
        }
    }

    #[test]
    fn what_goes_after_grace_comes_back() {
        let retired =
            AfterGrace { tenant: TenantId::default_tenant(), signal: Signal::Logs, files: some_files() };
        let bytes = Bytes::from(retired.encode());
        assert_eq!(AfterGrace::parse(&bytes), Ok(retired.clone()));
        assert_eq!(retired.files().count(), 3);
        assert!(AfterGrace::parse(&bytes.slice(..bytes.len() - 1)).is_err());
    }
}
