//! Values → a column chunk.
//!
//! ```text
//! chunk           = [dictionary page] data page
//! dictionary page = PageHeader { type 2, sizes, { count, PLAIN } }     values
//! data page       = PageHeader { type 0, sizes, { count, encoding } }  [repetition] [definition] values
//! ```
//! Both pages of a chunk are compressed by zstd, or neither is: where it saves less than a twentieth, reading is
//! worth more than the bytes. Repetition and definition levels lie in front of the values inside the compressed part.

use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use model::dictionary::Dictionary;

use super::thrift::Writer;
use super::{delta, encoding, hybrid};

/// zstd's level for files that are written once per request: higher ones gain 1 % for twice the time.
const FAST_LEVEL: i32 = 1;
/// Pages below this are not worth a zstd frame.
const MIN_COMPRESS_BYTES: usize = 64;

/// Row groups in which a column is not compressed after one in which that saved nothing: columns are alike all along.
const UNTRIED_GROUPS: u8 = 15;

/// What a footer must say of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Position in the file.
    pub offset: u64,
    /// Length of the dictionary page with its header, 0 if there is none.
    pub dictionary_len: u64,
    /// Length of all pages with their headers.
    pub len: u64,
    /// The same before compression.
    pub uncompressed_len: u64,
    /// Whether the pages are compressed by zstd.
    pub compressed: bool,
    /// Levels, or values where there are none.
    pub n_values: u64,
    /// Encoding of the values.
    pub encoding: i32,
}

/// Levels of a data page, in the order in which they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Levels<'a> {
    /// Repetition levels as [`hybrid::write_levels`] wrote them; empty for a flat column.
    pub repetition: &'a [u8],
    /// Definition levels, one per value or null; empty for a required column.
    pub definition: &'a [u8],
    /// Bits that a definition level has.
    pub definition_width: u8,
    /// How many levels, or values where there are none.
    pub count: usize,
}

impl Levels<'_> {
    /// A required column that is not in a list.
    pub fn flat(count: usize) -> Self {
        Self { count, ..Self::default() }
    }
}

/// Writes chunks into one file.
pub struct ChunkWriter {
    /// The file so far.
    pub out: Vec<u8>,
    dictionary: Vec<u8>,
    data: Vec<u8>,
    header: Writer,
    min_compress_bytes: usize,
    zstd: zstd::bulk::Compressor<'static>,
    compressed: [Vec<u8>; 2],
    /// The next column of the row group.
    column: usize,
    /// By column in how many row groups compression is not tried, because it was of no use in the last.
    untried: Vec<u8>,
}

impl ChunkWriter {
    /// A writer for files of one request.
    pub fn fast() -> Self {
        Self::with_level(FAST_LEVEL)
    }

    /// A writer that compresses by this level of zstd, 1 to 19.
    pub fn with_level(level: i32) -> Self {
        let zstd = zstd::bulk::Compressor::new(level).expect("invariant: the level is one of zstd's");
        Self {
            out: Vec::new(),
            dictionary: Vec::new(),
            data: Vec::new(),
            header: Writer::default(),
            min_compress_bytes: MIN_COMPRESS_BYTES,
            zstd,
            compressed: [Vec::new(), Vec::new()],
            column: 0,
            untried: Vec::new(),
        }
    }

    /// Has to come before the first chunk of each row group of a file with many.
    pub fn begin_group(&mut self) {
        self.column = 0;
    }

    /// Leaves chunks as they are that have fewer bytes than these, where many are short.
    #[must_use]
    pub fn compressing_from(mut self, bytes: usize) -> Self {
        self.min_compress_bytes = bytes;
        self
    }

    /// Strings, by the position of each in `dictionary`. Strings that no position names are left out.
    pub fn strings(&mut self, levels: Levels<'_>, dictionary: &Dictionary, positions: &[u32]) -> Chunk {
        self.begin(levels);
        let is_used = dictionary.used_by(positions);
        let n_distinct = is_used.iter().filter(|&&used| used).count();
        // Where most values are their own, positions only cost.
        if positions.is_empty() || n_distinct * 4 > positions.len() * 3 {
            for &position in positions {
                plain_string(&mut self.data, dictionary.bytes_of(position));
            }
            return self.finish(levels, 0, encoding::PLAIN);
        }
        for (position, _) in (0..).zip(&is_used).filter(|&(_, &used)| used) {
            plain_string(&mut self.dictionary, dictionary.bytes_of(position));
        }
        let width = hybrid::position_width(n_distinct);
        self.data.push(width);
        if n_distinct == dictionary.len() {
            hybrid::write_positions(&mut self.data, positions.iter().copied(), width);
        } else {
            let mut n_before = 0;
            let moved: Vec<u32> = is_used
                .iter()
                .map(|&used| {
                    let place = n_before;
                    n_before += u32::from(used);
                    place
                })
                .collect();
            let positions = positions.iter().map(|&position| moved[position as usize]);
            hybrid::write_positions(&mut self.data, positions, width);
        }
        self.finish(levels, n_distinct, encoding::RLE_DICTIONARY)
    }

    /// Values of a fixed length that repeat: distinct ones once, and positions; plain if they turn out not to.
    pub fn repeated_ids<const N: usize>(&mut self, levels: Levels<'_>, values: &[[u8; N]]) -> Chunk {
        self.repeated(levels, values, |out, value| out.extend_from_slice(value))
    }

    /// Values of a fixed length as they are: for ids that do not repeat, where compression has nothing to find.
    pub fn unique_ids<const N: usize>(&mut self, levels: Levels<'_>, values: &[[u8; N]]) -> Chunk {
        self.begin(levels);
        self.data.extend(values.iter().flatten());
        self.finish_as(levels, 0, encoding::PLAIN, false)
    }

    /// 64-bit numbers without much repetition, as packed differences.
    pub fn changing_i64(&mut self, levels: Levels<'_>, values: &[i64]) -> Chunk {
        self.begin(levels);
        delta::write(&mut self.data, values);
        self.finish(levels, 0, encoding::DELTA_BINARY_PACKED)
    }

    /// 64-bit numbers that repeat; plain if they turn out not to.
    pub fn repeated_i64(&mut self, levels: Levels<'_>, values: &[i64]) -> Chunk {
        self.repeated(levels, values, |out, value| out.extend_from_slice(&value.to_le_bytes()))
    }

    /// 32-bit numbers that repeat; plain if they turn out not to.
    pub fn repeated_i32(&mut self, levels: Levels<'_>, values: &[i32]) -> Chunk {
        self.repeated(levels, values, |out, value| out.extend_from_slice(&value.to_le_bytes()))
    }

    fn repeated<T: Hash + Eq + Copy>(
        &mut self,
        levels: Levels<'_>,
        values: &[T],
        plain: impl Fn(&mut Vec<u8>, &T),
    ) -> Chunk {
        self.begin(levels);
        let most = (values.len() * 3 / 4).min(0x1_0000);
        let mut places = Places::default();
        let mut distinct: Vec<T> = Vec::new();
        let mut positions = Vec::with_capacity(values.len());
        for value in values {
            // A run is the common case, and comparing is cheaper than hashing.
            match positions.last() {
                Some(&last) if distinct[last as usize] == *value => positions.push(last),
                _ => positions.push(places.position(value, &mut distinct)),
            }
            if distinct.len() > most.max(1) {
                break;
            }
        }
        if distinct.len() > most.max(1) || values.is_empty() {
            for value in values {
                plain(&mut self.data, value);
            }
            return self.finish(levels, 0, encoding::PLAIN);
        }
        for value in &distinct {
            plain(&mut self.dictionary, value);
        }
        let width = hybrid::position_width(distinct.len());
        self.data.push(width);
        hybrid::write_positions(&mut self.data, positions.iter().copied(), width);
        self.finish(levels, distinct.len(), encoding::RLE_DICTIONARY)
    }

    /// Doubles as they are.
    pub fn doubles(&mut self, levels: Levels<'_>, values: &[f64]) -> Chunk {
        self.begin(levels);
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.finish(levels, 0, encoding::PLAIN)
    }

    /// Doubles, split by the place of their bytes: for measured values, whose high bytes are alike and low ones often
    /// zero. Plain ones compress worse.
    pub fn split_doubles(&mut self, levels: Levels<'_>, values: &[f64]) -> Chunk {
        self.begin(levels);
        let start = self.data.len();
        self.data.resize(start + values.len() * 8, 0);
        let streams = &mut self.data[start..];
        for (at, value) in values.iter().enumerate() {
            for (place, byte) in value.to_le_bytes().into_iter().enumerate() {
                streams[place * values.len() + at] = byte;
            }
        }
        self.finish(levels, 0, encoding::BYTE_STREAM_SPLIT)
    }

    /// 64-bit numbers, each of a few or all near each other: times.
    pub fn times(&mut self, levels: Levels<'_>, values: &[i64]) -> Chunk {
        let mut distinct: Vec<i64> =
            values.iter().step_by(values.len().div_ceil(64).max(1)).copied().collect();
        let n_looked_at = distinct.len();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() * 2 > n_looked_at {
            self.changing_i64(levels, values)
        } else {
            self.repeated_i64(levels, values)
        }
    }

    /// Bytes as they are.
    pub fn blobs<'b>(&mut self, levels: Levels<'_>, values: impl Iterator<Item = &'b [u8]>) -> Chunk {
        self.begin(levels);
        for value in values {
            self.data.extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.data.extend_from_slice(value);
        }
        self.finish(levels, 0, encoding::PLAIN)
    }

    /// Truths, one bit each.
    pub fn bools(&mut self, levels: Levels<'_>, values: &[bool]) -> Chunk {
        self.begin(levels);
        let byte = |group: &[bool]| {
            group.iter().enumerate().fold(0, |bits, (i, &truth)| bits | u8::from(truth) << i)
        };
        self.data.extend(values.chunks(8).map(byte));
        self.finish(levels, 0, encoding::PLAIN)
    }

    fn begin(&mut self, levels: Levels<'_>) {
        self.dictionary.clear();
        self.data.clear();
        self.data.extend_from_slice(levels.repetition);
        if !levels.definition.is_empty() {
            hybrid::write_levels(&mut self.data, levels.definition, levels.definition_width);
        }
    }

    fn finish(&mut self, levels: Levels<'_>, n_distinct: usize, encoding: i32) -> Chunk {
        self.finish_as(levels, n_distinct, encoding, true)
    }

    fn finish_as(&mut self, levels: Levels<'_>, n_distinct: usize, encoding: i32, try_zstd: bool) -> Chunk {
        let plain_len = self.dictionary.len() + self.data.len();
        if self.untried.len() <= self.column {
            self.untried.resize(self.column + 1, 0);
        }
        let untried = &mut self.untried[self.column];
        self.column += 1;
        let mut compressed = try_zstd && plain_len >= self.min_compress_bytes;
        if compressed && *untried > 0 {
            *untried -= 1;
            compressed = false;
        }
        if compressed {
            let [dictionary, data] = &mut self.compressed;
            compress(&mut self.zstd, &self.dictionary, dictionary);
            compress(&mut self.zstd, &self.data, data);
            let len = if n_distinct > 0 { dictionary.len() } else { 0 } + data.len();
            compressed = len * 20 < plain_len * 19;
            *untried = if compressed { 0 } else { UNTRIED_GROUPS };
        }
        let offset = self.out.len() as u64;
        let mut headers_len = 0;
        let mut dictionary_len = 0;
        if n_distinct > 0 {
            let body = if compressed { &self.compressed[0] } else { &self.dictionary };
            write_header(
                &mut self.header,
                2,
                7,
                self.dictionary.len(),
                body.len(),
                n_distinct,
                encoding::PLAIN,
            );
            self.out.extend_from_slice(&self.header.out);
            self.out.extend_from_slice(body);
            headers_len += self.header.out.len();
            dictionary_len = self.out.len() as u64 - offset;
        }
        let body = if compressed { &self.compressed[1] } else { &self.data };
        write_header(&mut self.header, 0, 5, self.data.len(), body.len(), levels.count, encoding);
        self.out.extend_from_slice(&self.header.out);
        self.out.extend_from_slice(body);
        headers_len += self.header.out.len();
        let dictionary_plain_len = if n_distinct > 0 { self.dictionary.len() } else { 0 };
        Chunk {
            offset,
            dictionary_len,
            len: self.out.len() as u64 - offset,
            uncompressed_len: (headers_len + dictionary_plain_len + self.data.len()) as u64,
            compressed,
            n_values: levels.count as u64,
            encoding,
        }
    }
}

fn plain_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

fn compress(zstd: &mut zstd::bulk::Compressor<'static>, from: &[u8], to: &mut Vec<u8>) {
    to.clear();
    to.reserve(zstd::zstd_safe::compress_bound(from.len()));
    zstd.compress_to_buffer(from, to).expect("invariant: the buffer has the size that zstd asks for");
}

fn write_header(
    header: &mut Writer,
    kind: i32,
    field: i16,
    plain: usize,
    stored: usize,
    count: usize,
    encoding: i32,
) {
    header.out.clear();
    header.element(|w| {
        w.i32(1, kind);
        w.i32(2, plain as i32);
        w.i32(3, stored as i32);
        w.structure(field, |w| {
            w.i32(1, count as i32);
            w.i32(2, encoding);
            if kind == 0 {
                w.i32(3, encoding::RLE);
                w.i32(4, encoding::RLE);
            }
        });
    });
}

/// Where each distinct value is in a list of them.
#[derive(Default)]
struct Places(HashTable<u32>);

impl Places {
    fn position<T: Hash + Eq + Copy>(&mut self, value: &T, distinct: &mut Vec<T>) -> u32 {
        let hash = FixedState::default().hash_one(value);
        if let Some(&position) = self.0.find(hash, |&position| distinct[position as usize] == *value) {
            return position;
        }
        let position = distinct.len() as u32;
        distinct.push(*value);
        self.0.insert_unique(hash, position, |&position| {
            FixedState::default().hash_one(distinct[position as usize])
        });
        position
    }
}
