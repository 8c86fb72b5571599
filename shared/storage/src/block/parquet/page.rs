//! A column chunk from values and back.
//!
//! ```text
//! chunk           = [dictionary page] data page
//! dictionary page = PageHeader { type 2, sizes, { count, PLAIN } }     values
//! data page       = PageHeader { type 0, sizes, { count, encoding } }  [repetition] [definition] values
//! ```
//! Both pages of a chunk are compressed by zstd, or neither is: where it saves less than a twentieth, reading is
//! worth more than the bytes. Repetition and definition levels lie in front of the values inside the compressed part.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use model::dictionary::Dictionary;

use super::thrift::{Writer, read_numbers, take};
use super::{Invalid, delta, encoding, hybrid};

/// zstd's level for files that are written once per request: higher ones gain 1 % for twice the time.
const FAST_LEVEL: i32 = 1;
/// The largest page that a reader accepts.
const MAX_PAGE_BYTES: u64 = 1 << 30;
/// Pages below this are not worth a zstd frame.
const MIN_COMPRESS_BYTES: usize = 64;

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
    zstd: zstd::bulk::Compressor<'static>,
    compressed: [Vec<u8>; 2],
}

impl ChunkWriter {
    /// A writer for files of one request.
    pub fn fast() -> Self {
        let zstd = zstd::bulk::Compressor::new(FAST_LEVEL).expect("invariant: the level is one of zstd's");
        Self {
            out: Vec::new(),
            dictionary: Vec::new(),
            data: Vec::new(),
            header: Writer::default(),
            zstd,
            compressed: [Vec::new(), Vec::new()],
        }
    }

    /// Strings, by the positions of the present ones in `dictionary`.
    /// With `skip`, the string at that position must not occur and is left out of the dictionary.
    pub fn strings(
        &mut self,
        levels: Levels<'_>,
        dictionary: &Dictionary,
        positions: &[u32],
        skip: Option<u32>,
    ) -> Chunk {
        self.begin(levels);
        let n_distinct = dictionary.len() - usize::from(skip.is_some());
        // Where most values are their own, positions only cost.
        if positions.is_empty() || n_distinct * 4 > positions.len() * 3 {
            for &position in positions {
                plain_string(&mut self.data, dictionary.get(position));
            }
            return self.finish(levels, 0, encoding::PLAIN);
        }
        for position in (0..dictionary.len() as u32).filter(|&position| Some(position) != skip) {
            plain_string(&mut self.dictionary, dictionary.get(position));
        }
        let width = hybrid::position_width(n_distinct);
        self.data.push(width);
        match skip {
            None => hybrid::write_positions(&mut self.data, positions.iter().copied(), width),
            Some(skip) => {
                let moved = positions.iter().map(move |&position| position - u32::from(position > skip));
                hybrid::write_positions(&mut self.data, moved, width);
            }
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
        let mut compressed = try_zstd && plain_len >= MIN_COMPRESS_BYTES;
        if compressed {
            let [dictionary, data] = &mut self.compressed;
            compress(&mut self.zstd, &self.dictionary, dictionary);
            compress(&mut self.zstd, &self.data, data);
            let len = if n_distinct > 0 { dictionary.len() } else { 0 } + data.len();
            compressed = len * 20 < plain_len * 19;
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

fn plain_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
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

/// The pages of a chunk, decompressed.
#[derive(Debug)]
pub struct Pages {
    dictionary: Vec<u8>,
    n_distinct: usize,
    data: Vec<u8>,
    values_at: usize,
    n_values: usize,
    encoding: i32,
    /// Repetition levels; empty for a flat column.
    pub repetition: Vec<u32>,
    /// Definition levels; empty for a required column.
    pub definition: Vec<u32>,
}

thread_local! {
    static ZSTD: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("invariant: zstd has memory for a context"));
}

struct PageHeader {
    kind: i64,
    plain_len: usize,
    count: usize,
    encoding: i32,
}

/// Takes one page off the front of `bytes`.
fn read_page(bytes: &mut &[u8], compressed: bool) -> Result<(PageHeader, Vec<u8>), Invalid> {
    let (mut kind, mut plain, mut stored, mut count, mut encoding) = (-1, 0, 0, 0, -1);
    read_numbers(bytes, &mut |path, number| match path {
        [1] => kind = number,
        [2] => plain = number,
        [3] => stored = number,
        [5 | 7, 1] => count = number,
        [5 | 7, 2] => encoding = number,
        _ => {}
    })?;
    let stored = usize::try_from(stored).map_err(|_| Invalid("page has a negative length"))?;
    let body = take(bytes, stored)?;
    if !u64::try_from(plain).is_ok_and(|plain| plain <= MAX_PAGE_BYTES) {
        return Err(Invalid("page is too long"));
    }
    let plain_len = plain as usize;
    let body = if compressed {
        ZSTD.with_borrow_mut(|zstd| zstd.decompress(body, plain_len))
            .map_err(|_| Invalid("page does not decompress"))?
    } else {
        body.to_vec()
    };
    if body.len() != plain_len {
        return Err(Invalid("page has another length than it says"));
    }
    let count = usize::try_from(count).map_err(|_| Invalid("page has a negative count"))?;
    if count as u64 > MAX_PAGE_BYTES / 8 {
        return Err(Invalid("page has too many values"));
    }
    let encoding = i32::try_from(encoding).map_err(|_| Invalid("page has no encoding"))?;
    Ok((PageHeader { kind, plain_len, count, encoding }, body))
}

impl Pages {
    /// Reads a chunk of a column with these greatest levels.
    ///
    /// # Errors
    /// The bytes are not such a chunk.
    pub fn read(
        mut bytes: &[u8],
        compressed: bool,
        max_repetition: u8,
        max_definition: u8,
    ) -> Result<Self, Invalid> {
        let (mut header, mut body) = read_page(&mut bytes, compressed)?;
        let (mut dictionary, mut n_distinct) = (Vec::new(), 0);
        if header.kind == 2 {
            (dictionary, n_distinct) = (body, header.count);
            (header, body) = read_page(&mut bytes, compressed)?;
        }
        if header.kind != 0 || !bytes.is_empty() {
            return Err(Invalid("chunk is not one data page"));
        }
        let mut rest = body.as_slice();
        let mut levels = |max: u8| -> Result<Vec<u32>, Invalid> {
            let mut levels = Vec::new();
            if max > 0 {
                let len: [u8; 4] = take(&mut rest, 4)?.try_into().expect("invariant: as many taken");
                let section = take(&mut rest, u32::from_le_bytes(len) as usize)?;
                hybrid::read(section, (8 - max.leading_zeros()) as u8, header.count, &mut levels)?;
                if levels.iter().any(|&level| level > u32::from(max)) {
                    return Err(Invalid("level is too deep"));
                }
            }
            Ok(levels)
        };
        let repetition = levels(max_repetition)?;
        let definition = levels(max_definition)?;
        let values_at = header.plain_len - rest.len();
        let present = |definition: &[u32]| {
            definition.iter().filter(|&&level| level == u32::from(max_definition)).count()
        };
        let n_values = if max_definition > 0 { present(&definition) } else { header.count };
        Ok(Self {
            dictionary,
            n_distinct,
            data: body,
            values_at,
            n_values,
            encoding: header.encoding,
            repetition,
            definition,
        })
    }

    /// How many values there are, nulls not counted.
    pub fn n_values(&self) -> usize {
        self.n_values
    }

    fn values(&self) -> &[u8] {
        &self.data[self.values_at..]
    }

    fn positions(&self) -> Result<Vec<u32>, Invalid> {
        let mut values = self.values();
        let width = take(&mut values, 1)?[0];
        let mut positions = Vec::with_capacity(self.n_values.min(self.data.len() * 8));
        hybrid::read(values, width, self.n_values, &mut positions)?;
        if positions.iter().any(|&position| position as usize >= self.n_distinct) {
            return Err(Invalid("position is outside of the dictionary"));
        }
        Ok(positions)
    }

    /// The distinct strings and the position of each value.
    ///
    /// # Errors
    /// The values are not strings, or not UTF-8.
    pub fn strings(&self) -> Result<(Dictionary, Vec<u32>), Invalid> {
        let mut dictionary = Dictionary::default();
        match self.encoding {
            encoding::RLE_DICTIONARY => {
                let mut rest = self.dictionary.as_slice();
                for _ in 0..self.n_distinct {
                    dictionary.push_unindexed(read_plain_string(&mut rest)?);
                }
                Ok((dictionary, self.positions()?))
            }
            encoding::PLAIN => {
                let mut rest = self.values();
                let mut positions = Vec::with_capacity(self.n_values.min(rest.len() / 4));
                for _ in 0..self.n_values {
                    positions.push(dictionary.intern(read_plain_string(&mut rest)?));
                }
                Ok((dictionary, positions))
            }
            _ => Err(Invalid("strings have an unexpected encoding")),
        }
    }

    /// Values of a fixed length.
    ///
    /// # Errors
    /// The values are not of this length.
    pub fn ids<const N: usize>(&self) -> Result<Vec<[u8; N]>, Invalid> {
        let as_id = |bytes: &[u8]| <[u8; N]>::try_from(bytes).expect("invariant: chunks have this length");
        self.fixed(N, as_id)
    }

    /// 64-bit numbers.
    ///
    /// # Errors
    /// The values are none.
    pub fn i64s(&self) -> Result<Vec<i64>, Invalid> {
        if self.encoding == encoding::DELTA_BINARY_PACKED {
            return delta::read(self.values(), self.n_values);
        }
        self.fixed(8, |bytes| {
            i64::from_le_bytes(bytes.try_into().expect("invariant: chunks have this length"))
        })
    }

    /// 32-bit numbers.
    ///
    /// # Errors
    /// The values are none.
    pub fn i32s(&self) -> Result<Vec<i32>, Invalid> {
        self.fixed(4, |bytes| {
            i32::from_le_bytes(bytes.try_into().expect("invariant: chunks have this length"))
        })
    }

    /// Doubles.
    ///
    /// # Errors
    /// The values are none.
    pub fn doubles(&self) -> Result<Vec<f64>, Invalid> {
        self.fixed(8, |bytes| {
            f64::from_le_bytes(bytes.try_into().expect("invariant: chunks have this length"))
        })
    }

    /// Truths.
    ///
    /// # Errors
    /// The values are none.
    pub fn bools(&self) -> Result<Vec<bool>, Invalid> {
        let bits = self.values();
        if self.encoding != encoding::PLAIN || bits.len() < self.n_values.div_ceil(8) {
            return Err(Invalid("truths are cut off or have an unexpected encoding"));
        }
        Ok((0..self.n_values).map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect())
    }

    fn fixed<T: Copy>(&self, len: usize, read: impl Fn(&[u8]) -> T) -> Result<Vec<T>, Invalid> {
        let all = |bytes: &[u8], count: usize| -> Result<Vec<T>, Invalid> {
            let total = count.checked_mul(len).ok_or(Invalid("page has too many values"))?;
            let bytes = bytes.get(..total).ok_or(Invalid("data is cut off"))?;
            Ok(bytes.chunks_exact(len).map(&read).collect())
        };
        match self.encoding {
            encoding::PLAIN => all(self.values(), self.n_values),
            encoding::RLE_DICTIONARY => {
                let distinct = all(&self.dictionary, self.n_distinct)?;
                Ok(self.positions()?.into_iter().map(|position| distinct[position as usize]).collect())
            }
            _ => Err(Invalid("values have an unexpected encoding")),
        }
    }
}

fn read_plain_string<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Invalid> {
    let len: [u8; 4] = take(rest, 4)?.try_into().expect("invariant: as many taken");
    let bytes = take(rest, u32::from_le_bytes(len) as usize)?;
    std::str::from_utf8(bytes).map_err(|_| Invalid("string is not UTF-8"))
}
