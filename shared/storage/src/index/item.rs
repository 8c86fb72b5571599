//! Parts of index items.
//!
//! ```text
//! section = varint length  bytes
//! chunks  = section of, per column, varint(length << 1 | compressed)
//! texts   = section of sections of UTF-8
//! ```

use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, write_varint};
use crate::block::parts::ChunkTable;

/// Services are listed as long as their names are no longer than this together.
const MAX_LISTED_BYTES: usize = 4096;

pub(crate) fn write_section(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn read_section<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Invalid> {
    let len = usize::try_from(read_varint(bytes)?).map_err(|_| Invalid("section is too long"))?;
    take(bytes, len)
}

pub(super) fn write_chunks(out: &mut Vec<u8>, table: &ChunkTable) {
    let mut section = Vec::new();
    for &(len, compressed) in &table.chunks {
        write_varint(&mut section, len << 1 | u64::from(compressed));
    }
    write_section(out, &section);
}

pub(super) fn read_chunks(mut section: &[u8]) -> Result<ChunkTable, Invalid> {
    let mut chunks = Vec::new();
    while !section.is_empty() {
        let entry = read_varint(&mut section)?;
        chunks.push((entry >> 1, entry & 1 == 1));
    }
    Ok(ChunkTable::first(chunks))
}

/// The names sorted, each once; `None` if there are too many to list.
pub(super) fn listable<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    let n_bytes: usize = names.iter().map(|name| name.len() + 3).sum();
    (n_bytes <= MAX_LISTED_BYTES).then(|| names.into_iter().map(str::to_owned).collect())
}

pub(super) fn write_texts<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a String>) {
    let mut section = Vec::new();
    for text in texts {
        write_section(&mut section, text.as_bytes());
    }
    write_section(out, &section);
}

pub(super) fn read_texts(mut section: &[u8]) -> Result<Vec<&str>, Invalid> {
    let mut texts = Vec::new();
    while !section.is_empty() {
        let text = std::str::from_utf8(read_section(&mut section)?);
        texts.push(text.map_err(|_| Invalid("text is not UTF-8"))?);
    }
    Ok(texts)
}

/// Whether `text` is among the texts.
pub(super) fn has_text(mut section: &[u8], text: &str) -> Result<bool, Invalid> {
    while !section.is_empty() {
        if read_section(&mut section)? == text.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}
