//! Index items of files that were merged into others, and what is to be deleted after them.
//!
//! ```text
//! retired item = u8 128  u8 files  per file that has its rows now 16 bytes: its content   item as it was
//! after grace  = u8 version 1  section tenant  section signal  per partition: section its name  section files
//! files        = per file u8 level  i64 LE least start, ns  its content, 16 bytes
//! section      = varint length  bytes
//! ```
//! No item of a file begins with 128: their versions are small.

use std::collections::BTreeMap;

use model::{ContentHash, Signal, TenantId};

use super::FileKey;
use super::item::{read_section, write_section};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::take;
use crate::kv::Key;

const RETIRED: u8 = 128;
const VERSION: u8 = 1;
/// Bytes of a file's key in a note.
const KEY_BYTES: usize = 25;

/// The most files that the rows of one may go to.
pub(crate) const MAX_HEIRS: usize = 64;

/// The item of a file whose rows are in the files `into` now, at most [`MAX_HEIRS`]; of none, they are gone.
pub(crate) fn write_retired(into: &[ContentHash], item: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + into.len() * 16 + item.len());
    out.push(RETIRED);
    out.push(into.len() as u8);
    for content in into {
        out.extend_from_slice(&content.0);
    }
    out.extend_from_slice(item);
    out
}

/// The files that have the rows of an item's file now, if it was retired, and where in the value the item as it was
/// begins.
pub(crate) fn split_retired(value: &[u8]) -> (Option<Vec<ContentHash>>, usize) {
    let [RETIRED, n, rest @ ..] = value else { return (None, 0) };
    let n_bytes = usize::from(*n) * 16;
    match rest.get(..n_bytes) {
        Some(heirs) => (Some(heirs.as_chunks().0.iter().copied().map(ContentHash).collect()), 2 + n_bytes),
        None => (None, 0),
    }
}

/// What goes when no question can need it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AfterGrace {
    pub(crate) tenant: TenantId,
    pub(crate) signal: Signal,
    /// Files by the partition of their items.
    pub(crate) files: BTreeMap<String, Vec<FileKey>>,
}

impl AfterGrace {
    /// Files with the keys of their index items and objects.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&FileKey, Key, String)> {
        let of_partitions =
            self.files.iter().flat_map(|(partition, files)| files.iter().map(move |file| (partition, file)));
        of_partitions.map(|(partition, file)| {
            (file, Key::new(partition.clone(), file.sort()), file.object(&self.tenant))
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        write_section(&mut out, self.tenant.as_str().as_bytes());
        write_section(&mut out, self.signal.as_str().as_bytes());
        for (partition, files) in &self.files {
            write_section(&mut out, partition.as_bytes());
            let mut keys = Vec::with_capacity(files.len() * KEY_BYTES);
            for file in files {
                keys.push(file.level);
                keys.extend_from_slice(&file.min_start_ns.to_le_bytes());
                keys.extend_from_slice(&file.content.0);
            }
            write_section(&mut out, &keys);
        }
        out
    }

    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, Invalid> {
        fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Invalid> {
            std::str::from_utf8(read_section(bytes)?).map_err(|_| Invalid("text is not UTF-8"))
        }
        if take(&mut bytes, 1)?[0] != VERSION {
            return Err(Invalid("note of retired files has an unknown version"));
        }
        let tenant = text(&mut bytes)?.parse().map_err(|_| Invalid("note of retired files has no tenant"))?;
        let signal = text(&mut bytes)?;
        let signal = Signal::ALL.into_iter().find(|it| it.as_str() == signal);
        let signal = signal.ok_or(Invalid("note of retired files has no signal"))?;
        let mut files: BTreeMap<String, Vec<FileKey>> = BTreeMap::new();
        while !bytes.is_empty() {
            let partition = text(&mut bytes)?.to_owned();
            let (keys, rest) = read_section(&mut bytes)?.as_chunks::<KEY_BYTES>();
            if !rest.is_empty() {
                return Err(Invalid("note of retired files is cut off"));
            }
            let key = |bytes: &[u8; KEY_BYTES]| FileKey {
                signal,
                level: bytes[0],
                min_start_ns: i64::from_le_bytes(bytes[1..9].try_into().expect("invariant: eight bytes")),
                content: ContentHash(bytes[9..].try_into().expect("invariant: sixteen bytes")),
            };
            files.insert(partition, keys.iter().map(key).collect());
        }
        Ok(Self { tenant, signal, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_item_names_its_heir_and_keeps_what_it_said() {
        let heirs = vec![ContentHash([9; 16]), ContentHash([8; 16])];
        let item = write_retired(&heirs, b"as it was");
        assert_eq!(split_retired(&item), (Some(heirs), 34));
        assert_eq!(&item[34..], b"as it was");
        assert_eq!(split_retired(&write_retired(&[], b"x")), (Some(Vec::new()), 2));
        assert_eq!(split_retired(b"\x01item"), (None, 0));
    }

    #[test]
    fn what_goes_after_grace_comes_back() {
        let file = |level, min_start_ns| FileKey {
            signal: Signal::Logs,
            level,
            min_start_ns,
            content: ContentHash([level; 16]),
        };
        let retired = AfterGrace {
            tenant: TenantId::default_tenant(),
            signal: Signal::Logs,
            files: [("p".to_owned(), vec![file(0, -5), file(9, 7)]), ("q".to_owned(), vec![file(1, 0)])]
                .into(),
        };
        let bytes = retired.encode();
        assert_eq!(AfterGrace::parse(&bytes), Ok(retired.clone()));
        assert_eq!(retired.files().count(), 3);
        assert!(AfterGrace::parse(&bytes[..bytes.len() - 1]).is_err());
    }
}
