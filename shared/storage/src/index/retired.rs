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

/// The item of a file whose rows are in the files `heirs` now, at most [`MAX_HEIRS`]; of none, they are gone.
pub(crate) fn write_retired(heirs: &PlacedFiles) -> Vec<u8> {
    let mut out = vec![RETIRED];
    heirs.write(&mut out);
    out
}

/// Whether the item of this value is retired.
pub(crate) fn is_retired(value: &[u8]) -> bool {
    matches!(value.first(), Some(&(RETIRED | RETIRED_BEFORE)))
}

/// The files that have the rows of an item's file now, if it was retired.
pub(crate) fn read_retired(signal: Signal, value: &[u8]) -> Result<Option<PlacedFiles>, Invalid> {
    match value {
        [RETIRED, heirs @ ..] => PlacedFiles::parse(signal, heirs).map(Some),
        [RETIRED_BEFORE, ..] => Ok(Some(PlacedFiles::default())),
        _ => Ok(None),
    }
}

/// Files of a signal, by the partitions of their items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlacedFiles(BTreeMap<String, Vec<FileKey>>);

impl PlacedFiles {
    /// Adds a file whose item is in this partition.
    pub(crate) fn push(&mut self, partition: String, file: FileKey) {
        self.0.entry(partition).or_default().push(file);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Files, each with the partition of its item.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &FileKey)> {
        self.0.iter().flat_map(|(partition, files)| files.iter().map(move |file| (&**partition, file)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (partition, files) in &self.0 {
            write_section(out, partition.as_bytes());
            let mut keys = Vec::with_capacity(files.len() * KEY_BYTES);
            for file in files {
                keys.push(file.level);
                keys.extend_from_slice(&file.min_start_ns.to_le_bytes());
                keys.extend_from_slice(&file.content.0);
            }
            write_section(out, &keys);
        }
    }

    fn parse(signal: Signal, mut bytes: &[u8]) -> Result<Self, Invalid> {
        let mut files = BTreeMap::new();
        while !bytes.is_empty() {
            let partition = read_text(&mut bytes)?.to_owned();
            let (keys, rest) = read_section(&mut bytes)?.as_chunks::<KEY_BYTES>();
            if !rest.is_empty() {
                return Err(Invalid("list of files is cut off"));
            }
            let key = |bytes: &[u8; KEY_BYTES]| FileKey {
                signal,
                level: bytes[0],
                min_start_ns: i64::from_le_bytes(bytes[1..9].try_into().expect("invariant: eight bytes")),
                content: ContentHash(bytes[9..].try_into().expect("invariant: sixteen bytes")),
            };
            files.insert(partition, keys.iter().map(key).collect());
        }
        Ok(Self(files))
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
    pub(crate) fn files(&self) -> impl Iterator<Item = (&FileKey, Key, String)> {
        self.files
            .iter()
            .map(|(partition, file)| (file, Key::new(partition, file.sort()), file.object(&self.tenant)))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        write_section(&mut out, self.tenant.as_str().as_bytes());
        write_section(&mut out, self.signal.as_str().as_bytes());
        self.files.write(&mut out);
        out
    }

    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, Invalid> {
        if take(&mut bytes, 1)?[0] != VERSION {
            return Err(Invalid("note of retired files has an unknown version"));
        }
        let tenant = read_text(&mut bytes)?.parse();
        let tenant = tenant.map_err(|_| Invalid("note of retired files has no tenant"))?;
        let signal = read_text(&mut bytes)?;
        let signal = Signal::ALL.into_iter().find(|it| it.as_str() == signal);
        let signal = signal.ok_or(Invalid("note of retired files has no signal"))?;
        Ok(Self { tenant, signal, files: PlacedFiles::parse(signal, bytes)? })
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
        let mut files = PlacedFiles::default();
        files.push("p".to_owned(), file(0, -5));
        files.push("q".to_owned(), file(1, 0));
        files.push("p".to_owned(), file(9, 7));
        files
    }

    #[test]
    fn a_retired_item_names_its_heirs() {
        let item = write_retired(&some_files());
        assert!(is_retired(&item));
        assert_eq!(item.len(), 1 + 2 * (2 + 1) + 3 * KEY_BYTES);
        let heirs = read_retired(Signal::Logs, &item).unwrap().unwrap();
        assert_eq!(heirs, some_files());
        let levels: Vec<_> = heirs.iter().map(|(partition, file)| (partition, file.level)).collect();
        assert_eq!(levels, [("p", 0), ("p", 9), ("q", 1)]);
        assert!(read_retired(Signal::Logs, &item[..item.len() - 1]).is_err());
        let gone = write_retired(&PlacedFiles::default());
        assert_eq!(read_retired(Signal::Logs, &gone), Ok(Some(PlacedFiles::default())));
        let before = [&[128, 1][..], &[9; 16], b"as it was"].concat();
        assert_eq!(read_retired(Signal::Logs, &before), Ok(Some(PlacedFiles::default())));
        for living in [&b"\x01item"[..], b"\x81treated", b""] {
            assert!(!is_retired(living));
            assert_eq!(read_retired(Signal::Logs, living), Ok(None));
        }
    }

    #[test]
    fn what_goes_after_grace_comes_back() {
        let retired =
            AfterGrace { tenant: TenantId::default_tenant(), signal: Signal::Logs, files: some_files() };
        let bytes = retired.encode();
        assert_eq!(AfterGrace::parse(&bytes), Ok(retired.clone()));
        assert_eq!(retired.files().count(), 3);
        assert!(AfterGrace::parse(&bytes[..bytes.len() - 1]).is_err());
    }
}
