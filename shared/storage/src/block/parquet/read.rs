//! A column chunk → values. The form of a chunk is drawn in [`mod@super::write`].

use std::cell::RefCell;
use std::ops::Range;

use model::dictionary::Dictionary;

use super::thrift::{read_numbers, take};
use super::{Invalid, delta, encoding, hybrid};

/// The largest page that a reader accepts.
const MAX_PAGE_BYTES: usize = 1 << 30;

thread_local! {
    static ZSTD: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("invariant: zstd has memory for a context"));
}

/// A page as it is stored.
#[derive(Debug, Clone, Copy)]
struct StoredPage<'a> {
    kind: i64,
    plain_len: usize,
    count: usize,
    encoding: i32,
    body: &'a [u8],
}

impl<'a> StoredPage<'a> {
    /// Takes one page off the front of `bytes`.
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Invalid> {
        let (mut kind, mut plain, mut stored, mut count, mut encoding) = (-1, -1, -1, -1, -1);
        read_numbers(bytes, &mut |path, number| match path {
            [1] => kind = number,
            [2] => plain = number,
            [3] => stored = number,
            [5 | 7, 1] => count = number,
            [5 | 7, 2] => encoding = number,
            _ => {}
        })?;
        let small = |number: i64, max: usize| usize::try_from(number).ok().filter(|&number| number <= max);
        let stored = small(stored, MAX_PAGE_BYTES).ok_or(Invalid("page has an impossible length"))?;
        let plain_len = small(plain, MAX_PAGE_BYTES).ok_or(Invalid("page has an impossible length"))?;
        let count = small(count, MAX_PAGE_BYTES / 8).ok_or(Invalid("page has an impossible count"))?;
        let encoding = i32::try_from(encoding).map_err(|_| Invalid("page has no encoding"))?;
        Ok(Self { kind, plain_len, count, encoding, body: take(bytes, stored)? })
    }

    fn plain(&self, compressed: bool) -> Result<Vec<u8>, Invalid> {
        if compressed {
            return decompress(self.body, self.plain_len);
        }
        if self.body.len() == self.plain_len {
            Ok(self.body.to_vec())
        } else {
            Err(Invalid("page has another length than it says"))
        }
    }
}

/// The `plain_len` bytes that zstd has made `compressed` of.
///
/// # Errors
/// They are others, or more or fewer.
pub fn decompress(compressed: &[u8], plain_len: usize) -> Result<Vec<u8>, Invalid> {
    let plain = ZSTD
        .with_borrow_mut(|zstd| zstd.decompress(compressed, plain_len))
        .map_err(|_| Invalid("page does not decompress"))?;
    if plain.len() == plain_len { Ok(plain) } else { Err(Invalid("page has another length than it says")) }
}

/// Which levels are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    /// Both kinds.
    Read,
    /// Definition levels only: the others are known from another column of the same list.
    Skip,
    /// Neither, but the ends of the lists: of a list whose entries are required.
    Ends,
    /// Neither: only the values.
    Values,
    /// Neither: definition levels are looked at one by one, by [`Pages::slots`].
    Slots,
}

/// A chunk of which only the headers were looked at.
#[derive(Debug, Clone, Copy)]
pub struct ChunkReader<'a> {
    dictionary: Option<StoredPage<'a>>,
    data: StoredPage<'a>,
    compressed: bool,
}

impl<'a> ChunkReader<'a> {
    /// The chunk in `bytes`.
    ///
    /// # Errors
    /// The bytes are not one.
    pub fn open(mut bytes: &'a [u8], compressed: bool) -> Result<Self, Invalid> {
        let mut page = StoredPage::take(&mut bytes)?;
        let mut dictionary = None;
        if page.kind == 2 {
            dictionary = Some(page);
            page = StoredPage::take(&mut bytes)?;
        }
        if page.kind != 0 || !bytes.is_empty() {
            return Err(Invalid("chunk is not one data page"));
        }
        Ok(Self { dictionary, data: page, compressed })
    }

    /// The page with the distinct strings, each with its length in front; the data page where there is none.
    /// A string that is not among these bytes is no value of the column.
    ///
    /// # Errors
    /// The page does not decompress.
    pub fn strings_page(&self) -> Result<Vec<u8>, Invalid> {
        self.dictionary.unwrap_or(self.data).plain(self.compressed)
    }

    /// The pages of a column with these greatest levels, decompressed.
    ///
    /// # Errors
    /// The bytes are not such pages.
    pub fn pages(
        &self,
        max_repetition: u8,
        max_definition: u8,
        repetition: Repetition,
    ) -> Result<Pages, Invalid> {
        let dictionary = self.dictionary.map(|page| page.plain(self.compressed)).transpose()?;
        let pages = self.pages_without_strings(max_repetition, max_definition, repetition)?;
        Ok(Pages { dictionary: dictionary.unwrap_or_default(), ..pages })
    }

    /// Whether the values are positions in a page of distinct strings.
    pub fn has_positions(&self) -> bool {
        self.dictionary.is_some()
    }

    /// As [`ChunkReader::pages`], but for the distinct strings, which stay compressed: only positions of values can be
    /// told.
    ///
    /// # Errors
    /// As there.
    pub fn pages_without_strings(
        &self,
        max_repetition: u8,
        max_definition: u8,
        repetition: Repetition,
    ) -> Result<Pages, Invalid> {
        let n_distinct = self.dictionary.map_or(0, |page| page.count);
        let data = self.data.plain(self.compressed)?;
        let count = self.data.count;
        let mut rest = data.as_slice();
        let wanted = repetition;
        let repetition_section = levels_section(&mut rest, max_repetition)?;
        let definition_section = levels_section(&mut rest, max_definition)?;
        let values_at = data.len() - rest.len();
        let is_full = max_definition == 0
            || hybrid::constant(definition_section, level_width(max_definition), count)
                == Some(u32::from(max_definition));
        let definition_start = values_at - definition_section.len();
        let (mut repetition, mut definition, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut n_sparse = None;
        if wanted == Repetition::Slots && max_definition > 0 {
            let counted = hybrid::levels_in(
                definition_section,
                level_width(max_definition),
                count,
                0..0,
                max_definition,
            );
            n_sparse = Some(counted?.2);
        } else if wanted == Repetition::Ends && is_full && max_repetition == 1 {
            ends = match hybrid::packed(repetition_section, 1, count) {
                Some(packed) if packed.first().is_some_and(|byte| byte & 1 == 0) => {
                    hybrid::ends_of_lists(packed, count)
                }
                _ if hybrid::constant(repetition_section, 1, count) == Some(0) => {
                    (1..=count as u32).collect()
                }
                _ => ends_of_levels(&read_levels(repetition_section, max_repetition, count)?, None)?,
            };
        } else {
            if matches!(wanted, Repetition::Read | Repetition::Ends) {
                repetition = read_levels(repetition_section, max_repetition, count)?;
            }
            if !is_full || wanted != Repetition::Values {
                definition = read_levels(definition_section, max_definition, count)?;
            }
            if wanted == Repetition::Ends {
                ends = ends_of_levels(&repetition, Some(&definition))?;
            }
        }
        let n_values = if let Some(n) = n_sparse {
            n
        } else if is_full {
            count
        } else {
            hybrid::n_of(&definition, max_definition)
        };
        Ok(Pages {
            dictionary: Vec::new(),
            n_distinct,
            data,
            values_at,
            n_levels: count,
            definition_section: definition_start..values_at,
            max_definition,
            n_before: 0,
            n_values,
            n_in_all: n_values,
            encoding: self.data.encoding,
            repetition,
            definition,
            ends,
        })
    }
}

impl ChunkReader<'_> {
    /// As [`ChunkReader::pages`] with both kinds of levels, of some rows only: as if the column had no others.
    ///
    /// # Errors
    /// The bytes are not such pages, or there are fewer rows.
    pub fn pages_of_rows(
        &self,
        max_repetition: u8,
        max_definition: u8,
        rows: Range<usize>,
    ) -> Result<Pages, Invalid> {
        let dictionary = self.dictionary.map(|page| page.plain(self.compressed)).transpose()?;
        let n_distinct = self.dictionary.map_or(0, |page| page.count);
        let data = self.data.plain(self.compressed)?;
        let count = self.data.count;
        let mut rest = data.as_slice();
        let repetition_section = levels_section(&mut rest, max_repetition)?;
        let definition_section = levels_section(&mut rest, max_definition)?;
        let values_at = data.len() - rest.len();
        let levels = match max_repetition {
            0 if rows.end <= count => rows,
            0 => return Err(Invalid("column has too few rows")),
            _ => hybrid::levels_of_rows(repetition_section, count, rows)?,
        };
        let repetition = match max_repetition {
            0 => Vec::new(),
            _ => hybrid::levels_in(repetition_section, 1, count, levels.clone(), 0)?.0,
        };
        let (definition, n_before, n_in_all) = match max_definition {
            0 => (Vec::new(), levels.start, count),
            max => hybrid::levels_in(definition_section, level_width(max), count, levels.clone(), max)?,
        };
        let n_values = match max_definition {
            0 => levels.len(),
            max => hybrid::n_of(&definition, max),
        };
        Ok(Pages {
            dictionary: dictionary.unwrap_or_default(),
            n_distinct,
            data,
            values_at,
            n_levels: levels.len(),
            definition_section: 0..0,
            max_definition,
            n_before,
            n_values,
            n_in_all,
            encoding: self.data.encoding,
            repetition,
            definition,
            ends: Vec::new(),
        })
    }
}

fn level_width(max: u8) -> u8 {
    (8 - max.leading_zeros()) as u8
}

/// The ends of lists from levels; without definition levels every level is an entry.
///
/// # Errors
/// The first level is not that of a new list.
pub fn ends_of_levels(repetition: &[u8], definition: Option<&[u8]>) -> Result<Vec<u32>, Invalid> {
    let n_lists = hybrid::n_of(repetition, 0);
    let is_empty = |definition: &[u8]| hybrid::n_of(definition, 0) == definition.len();
    if n_lists == repetition.len() && definition.is_some_and(is_empty) {
        return Ok(vec![0; n_lists]);
    }
    let mut ends: Vec<u32> = Vec::with_capacity(n_lists);
    let mut n_entries = 0;
    for (at, &level) in repetition.iter().enumerate() {
        if level == 0 {
            ends.push(n_entries);
        }
        let end = ends.last_mut().ok_or(Invalid("first level continues a list"))?;
        n_entries += u32::from(definition.is_none_or(|definition| definition[at] > 0));
        *end = n_entries;
    }
    Ok(ends)
}

/// Takes the bytes of levels up to `max` off the front of a data page; none if there are no levels.
fn levels_section<'a>(page: &mut &'a [u8], max: u8) -> Result<&'a [u8], Invalid> {
    if max == 0 {
        return Ok(&[]);
    }
    let len: [u8; 4] = take(page, 4)?.try_into().expect("invariant: as many taken");
    take(page, u32::from_le_bytes(len) as usize)
}

fn read_levels(section: &[u8], max: u8, count: usize) -> Result<Vec<u8>, Invalid> {
    let mut levels = Vec::new();
    if max > 0 {
        hybrid::read_levels(section, level_width(max), count, &mut levels)?;
        // The greatest of all, because that takes a few instructions for many levels.
        if levels.iter().fold(0, |deepest, &level| deepest.max(level)) > max {
            return Err(Invalid("level is too deep"));
        }
    }
    Ok(levels)
}

/// The pages of a chunk, decompressed.
#[derive(Debug)]
pub struct Pages {
    dictionary: Vec<u8>,
    n_distinct: usize,
    data: Vec<u8>,
    values_at: usize,
    n_levels: usize,
    /// Where definition levels lie in the data page.
    definition_section: Range<usize>,
    max_definition: u8,
    /// Values that are stored before those of the rows that were asked for.
    n_before: usize,
    n_values: usize,
    /// Values that are stored.
    n_in_all: usize,
    encoding: i32,
    /// Repetition levels; empty for a flat column.
    pub repetition: Vec<u8>,
    /// Definition levels; empty for a required column.
    pub definition: Vec<u8>,
    /// The ends of the lists, where they were asked for.
    pub ends: Vec<u32>,
}

/// Positions in a dictionary page, looked up one by one.
#[derive(Debug, Clone, Copy)]
enum Packed<'a> {
    Constant(u32),
    Bytes(&'a [u8]),
    Pairs(&'a [u8]),
}

/// Positions in a dictionary, of which few are looked at.
#[derive(Debug)]
pub struct Positions<'a> {
    packed: Option<Packed<'a>>,
    /// Where they are not packed in whole bytes.
    all: Vec<u32>,
    n_distinct: u32,
}

/// Tells of ascending levels whether they have a value, and the how manieth.
#[derive(Debug)]
pub struct Slots<'a> {
    levels: SlotLevels<'a>,
    max: u8,
    /// Levels that were passed, and how many of them have a value.
    at: usize,
    n: usize,
}

#[derive(Debug)]
enum SlotLevels<'a> {
    Constant(u8),
    Packed(&'a [u8], u8),
    Read(Vec<u8>),
}

impl Slots<'_> {
    /// The place among the values of the one at `level`, which is not before the one asked for last.
    pub fn of(&mut self, level: usize) -> Option<usize> {
        let passed = self.at..level;
        self.at = level;
        let is_value = match &self.levels {
            SlotLevels::Constant(constant) => {
                let is_value = *constant == self.max;
                self.n += if is_value { passed.len() } else { 0 };
                is_value
            }
            SlotLevels::Packed(packed, width) => {
                self.n += hybrid::count_in_packed_range(packed, *width, passed, self.max);
                hybrid::level_in_packed(packed, *width, level) == self.max
            }
            SlotLevels::Read(levels) => {
                self.n += hybrid::n_of(&levels[passed], self.max);
                levels[level] == self.max
            }
        };
        is_value.then_some(self.n)
    }
}

impl Positions<'_> {
    /// The places of the first `n` values that are at `wanted`, ascending.
    pub fn places_of(&self, wanted: u32, n: usize) -> Vec<u32> {
        match self.packed {
            Some(Packed::Constant(position)) => (0..if position == wanted { n as u32 } else { 0 }).collect(),
            Some(Packed::Bytes(bytes)) => u8::try_from(wanted).map_or_else(
                |_| Vec::new(),
                |wanted| memchr::memchr_iter(wanted, &bytes[..n]).map(|place| place as u32).collect(),
            ),
            Some(Packed::Pairs(bytes)) => {
                let pairs = bytes.as_chunks::<2>().0[..n].iter();
                let is_it = |(_, pair): &(usize, &[u8; 2])| u32::from(u16::from_le_bytes(**pair)) == wanted;
                pairs.enumerate().filter(is_it).map(|(place, _)| place as u32).collect()
            }
            None => {
                let all = self.all.iter().take(n).enumerate();
                all.filter(|(_, position)| **position == wanted).map(|(place, _)| place as u32).collect()
            }
        }
    }

    /// The position of the value `at`, which is less than the number of values.
    ///
    /// # Errors
    /// It is outside of the dictionary.
    #[inline]
    pub fn get(&self, at: usize) -> Result<u32, Invalid> {
        let position = match self.packed {
            Some(Packed::Constant(position)) => position,
            Some(Packed::Bytes(bytes)) => u32::from(bytes[at]),
            Some(Packed::Pairs(bytes)) => u32::from(bytes[2 * at]) | u32::from(bytes[2 * at + 1]) << 8,
            None => self.all[at],
        };
        if position < self.n_distinct {
            Ok(position)
        } else {
            Err(Invalid("position is outside of the dictionary"))
        }
    }
}

impl Pages {
    /// How many values there are, nulls not counted.
    pub fn n_values(&self) -> usize {
        self.n_values
    }

    /// How many levels there are, or values of a flat column that is required.
    pub fn n_levels(&self) -> usize {
        self.n_levels
    }

    /// Where values are, of pages that were read by [`Repetition::Slots`].
    ///
    /// # Errors
    /// Levels are cut off.
    pub fn slots(&self) -> Result<Slots<'_>, Invalid> {
        let (max, count) = (self.max_definition, self.n_levels);
        let section = &self.data[self.definition_section.clone()];
        let width = level_width(max);
        let levels = if max == 0 {
            SlotLevels::Constant(0)
        } else if let Some(constant) = hybrid::constant(section, width, count) {
            SlotLevels::Constant(constant as u8)
        } else if let Some(packed) = hybrid::packed(section, width, count) {
            SlotLevels::Packed(packed, width)
        } else {
            SlotLevels::Read(read_levels(section, max, count)?)
        };
        Ok(Slots { levels, max, at: 0, n: 0 })
    }

    fn values(&self) -> &[u8] {
        &self.data[self.values_at..]
    }

    /// The position of each value in the dictionary page.
    ///
    /// # Errors
    /// The chunk has no dictionary, or a position is outside of it.
    pub fn positions(&self) -> Result<Vec<u32>, Invalid> {
        if self.encoding != encoding::RLE_DICTIONARY {
            return Err(Invalid("values are not positions"));
        }
        let mut values = self.values();
        let width = take(&mut values, 1)?[0];
        let positions = self.packed_positions(values, width)?;
        let greatest = positions.iter().fold(0, |greatest, &position| greatest.max(position));
        if !positions.is_empty() && greatest as usize >= self.n_distinct {
            return Err(Invalid("position is outside of the dictionary"));
        }
        Ok(positions)
    }

    /// The position that all values have, if they are written as one run.
    fn constant_position(&self) -> Option<usize> {
        let (&width, values) = self.values().split_first().filter(|(width, _)| **width <= 32)?;
        hybrid::constant(values, width, self.n_in_all).map(|position| position as usize)
    }

    fn packed_positions(&self, values: &[u8], width: u8) -> Result<Vec<u32>, Invalid> {
        let wanted = self.n_before..self.n_before + self.n_values;
        match (width, hybrid::packed(values, width, self.n_in_all)) {
            (8, Some(packed)) => Ok(packed[wanted].iter().map(|&position| u32::from(position)).collect()),
            (16, Some(packed)) => {
                let pairs = packed[2 * wanted.start..2 * wanted.end].as_chunks().0;
                Ok(pairs.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))).collect())
            }
            _ => {
                let mut positions = Vec::with_capacity(self.n_in_all.min(self.data.len() * 8));
                hybrid::read(values, width, self.n_in_all, &mut positions)?;
                positions.truncate(wanted.end);
                positions.drain(..wanted.start);
                Ok(positions)
            }
        }
    }

    /// The distinct strings, and the positions of values for looking them up. Of all rows only.
    ///
    /// # Errors
    /// The values are not strings, or not UTF-8.
    pub fn strings_lazily(&self) -> Result<(Dictionary, Positions<'_>), Invalid> {
        if self.encoding != encoding::RLE_DICTIONARY {
            let (dictionary, all) = self.strings()?;
            let n_distinct = dictionary.len() as u32;
            return Ok((dictionary, Positions { packed: None, all, n_distinct }));
        }
        Ok((self.dictionary()?, self.positions_lazily()?))
    }

    /// The positions of values in the page of distinct strings, for looking them up. Of all rows only.
    ///
    /// # Errors
    /// The values are not positions.
    pub fn positions_lazily(&self) -> Result<Positions<'_>, Invalid> {
        if self.encoding != encoding::RLE_DICTIONARY {
            return Err(Invalid("values are not positions"));
        }
        let mut values = self.values();
        let width = take(&mut values, 1)?[0];
        let packed = match (width, hybrid::packed(values, width, self.n_values)) {
            (8, Some(bytes)) => Some(Packed::Bytes(bytes)),
            (16, Some(bytes)) => Some(Packed::Pairs(bytes)),
            (1..=32, None) => hybrid::constant(values, width, self.n_values).map(Packed::Constant),
            _ => None,
        };
        let all = if packed.is_some() { Vec::new() } else { self.positions()? };
        Ok(Positions { packed, all, n_distinct: self.n_distinct as u32 })
    }

    fn dictionary(&self) -> Result<Dictionary, Invalid> {
        plain_strings(&self.dictionary, self.n_distinct)
    }

    /// As [`Pages::strings`], where few of the distinct strings are needed.
    fn few_strings(&self) -> Result<(Dictionary, Vec<u32>), Invalid> {
        let mut positions = self.positions()?;
        let mut wanted = positions.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let mut dictionary = Dictionary::default();
        let mut rest = self.dictionary.as_slice();
        let mut next = 0;
        for &position in &wanted {
            for _ in next..position {
                skip_plain_string(&mut rest)?;
            }
            next = position + 1;
            dictionary.push_unindexed(read_plain_string(&mut rest)?);
        }
        for position in &mut positions {
            let place = wanted.binary_search(position).expect("invariant: wanted has every position");
            *position = place as u32;
        }
        Ok((dictionary, positions))
    }

    /// The distinct strings and the position of each value.
    ///
    /// # Errors
    /// The values are not strings, or not UTF-8.
    pub fn strings(&self) -> Result<(Dictionary, Vec<u32>), Invalid> {
        match self.encoding {
            encoding::RLE_DICTIONARY if self.n_values < self.n_distinct / 4 => self.few_strings(),
            encoding::RLE_DICTIONARY => Ok((self.dictionary()?, self.positions()?)),
            encoding::PLAIN => {
                let mut dictionary = Dictionary::default();
                let mut rest = self.values();
                let mut positions = Vec::with_capacity(self.n_values.min(rest.len() / 4));
                for _ in 0..self.n_before {
                    skip_plain_string(&mut rest)?;
                }
                for _ in 0..self.n_values {
                    positions.push(dictionary.intern(read_plain_string(&mut rest)?));
                }
                Ok((dictionary, positions))
            }
            _ => Err(Invalid("strings have an unexpected encoding")),
        }
    }

    /// As [`Pages::strings`], but that strings may come twice where they are not in a dictionary page.
    ///
    /// # Errors
    /// As there.
    pub fn strings_as_they_are(&self) -> Result<(Dictionary, Vec<u32>), Invalid> {
        if self.encoding != encoding::PLAIN || self.n_before > 0 {
            return self.strings();
        }
        let dictionary = plain_strings(self.values(), self.n_values)?;
        Ok((dictionary, (0..self.n_values as u32).collect()))
    }

    /// Values of a fixed length.
    ///
    /// # Errors
    /// The values are not of this length.
    pub fn ids<const N: usize>(&self) -> Result<Vec<[u8; N]>, Invalid> {
        let as_id = |bytes: &[u8]| <[u8; N]>::try_from(bytes).expect("invariant: chunks have this length");
        self.fixed(N, as_id)
    }

    /// The values of a fixed length in some places, of a column without nulls of which few are needed.
    ///
    /// # Errors
    /// The values are not of this length, or fewer.
    pub fn ids_at<const N: usize>(&self, places: &[u32]) -> Result<Vec<[u8; N]>, Invalid> {
        let id = |ids: &[u8], place: u32| ids.as_chunks().0.get(place as usize).copied();
        let cut_off = Invalid("data is cut off");
        if self.encoding == encoding::PLAIN {
            let places = places.iter().map(|&place| id(self.values(), place));
            return places.collect::<Option<_>>().ok_or(cut_off);
        }
        let positions = self.positions_lazily()?;
        let mut ids = Vec::with_capacity(places.len());
        for &place in places {
            if place as usize >= self.n_values {
                return Err(cut_off);
            }
            ids.push(id(&self.dictionary, positions.get(place as usize)?).ok_or(cut_off)?);
        }
        Ok(ids)
    }

    /// 64-bit numbers.
    ///
    /// # Errors
    /// The values are none.
    pub fn i64s(&self) -> Result<Vec<i64>, Invalid> {
        if self.encoding == encoding::DELTA_BINARY_PACKED {
            let mut values = delta::read(self.values(), self.n_in_all)?;
            values.truncate(self.n_before + self.n_values);
            values.drain(..self.n_before);
            return Ok(values);
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
        if self.encoding == encoding::BYTE_STREAM_SPLIT {
            let n = self.n_in_all;
            let n_bytes = n.checked_mul(8).ok_or(Invalid("page has too many values"))?;
            let streams = self.values().get(..n_bytes).ok_or(Invalid("data is cut off"))?;
            let mut bits = vec![0_u64; n];
            for (place, stream) in streams.chunks_exact(n.max(1)).enumerate() {
                for (bits, &byte) in bits.iter_mut().zip(stream) {
                    *bits |= u64::from(byte) << (8 * place);
                }
            }
            let wanted = bits.into_iter().skip(self.n_before).take(self.n_values);
            return Ok(wanted.map(f64::from_bits).collect());
        }
        self.fixed(8, |bytes| {
            f64::from_le_bytes(bytes.try_into().expect("invariant: chunks have this length"))
        })
    }

    /// Bytes.
    ///
    /// # Errors
    /// The values are none.
    pub fn blobs(&self) -> Result<Vec<&[u8]>, Invalid> {
        if self.encoding != encoding::PLAIN {
            return Err(Invalid("bytes have an unexpected encoding"));
        }
        let mut rest = self.values();
        let mut blobs = Vec::with_capacity(self.n_values.min(rest.len() / 4));
        for _ in 0..self.n_before {
            skip_plain_string(&mut rest)?;
        }
        for _ in 0..self.n_values {
            blobs.push(take_plain_string(&mut rest)?);
        }
        Ok(blobs)
    }

    /// Truths.
    ///
    /// # Errors
    /// The values are none.
    pub fn bools(&self) -> Result<Vec<bool>, Invalid> {
        let bits = self.values();
        if self.encoding != encoding::PLAIN || bits.len() < self.n_in_all.div_ceil(8) {
            return Err(Invalid("truths are cut off or have an unexpected encoding"));
        }
        let wanted = self.n_before..self.n_before + self.n_values;
        Ok(wanted.map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect())
    }

    fn fixed<T: Copy>(&self, len: usize, read: impl Fn(&[u8]) -> T) -> Result<Vec<T>, Invalid> {
        let all = |bytes: &[u8], count: usize| -> Result<Vec<T>, Invalid> {
            let total = count.checked_mul(len).ok_or(Invalid("page has too many values"))?;
            let bytes = bytes.get(..total).ok_or(Invalid("data is cut off"))?;
            Ok(bytes.chunks_exact(len).map(&read).collect())
        };
        match self.encoding {
            encoding::PLAIN => {
                let before = self.n_before.checked_mul(len).ok_or(Invalid("page has too many values"))?;
                all(self.values().get(before..).ok_or(Invalid("data is cut off"))?, self.n_values)
            }
            encoding::RLE_DICTIONARY => {
                let distinct = all(&self.dictionary, self.n_distinct)?;
                if let Some(only) = self.constant_position().and_then(|position| distinct.get(position)) {
                    return Ok(vec![*only; self.n_values]);
                }
                Ok(self.positions()?.into_iter().map(|position| distinct[position as usize]).collect())
            }
            _ => Err(Invalid("values have an unexpected encoding")),
        }
    }
}

/// The position of a string among those of a page, each with its length in front.
pub fn find_plain_string(mut page: &[u8], wanted: &str) -> Option<u32> {
    let mut position = 0;
    while let Some((len, rest)) = page.split_first_chunk::<4>() {
        let (string, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        if string == wanted.as_bytes() {
            return Some(position);
        }
        position += 1;
        page = rest;
    }
    None
}

/// The first `n` strings of a page, equal ones as often as they come.
fn plain_strings(mut page: &[u8], n: usize) -> Result<Dictionary, Invalid> {
    let n_at_most = n.min(page.len() / 4);
    let mut ends = Vec::with_capacity(n_at_most);
    let mut text = Vec::with_capacity(page.len() - 4 * n_at_most);
    for _ in 0..n {
        text.extend_from_slice(take_plain_string(&mut page)?);
        ends.push(text.len() as u32);
    }
    Dictionary::of_utf8(text, ends).ok_or(Invalid("string is not UTF-8"))
}

fn skip_plain_string(rest: &mut &[u8]) -> Result<(), Invalid> {
    take_plain_string(rest)?;
    Ok(())
}

fn take_plain_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Invalid> {
    let len: [u8; 4] = take(rest, 4)?.try_into().expect("invariant: as many taken");
    take(rest, u32::from_le_bytes(len) as usize)
}

/// Takes a string with its length in front off the front of `rest`.
///
/// # Errors
/// It is cut off, or not UTF-8.
pub fn read_plain_string<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Invalid> {
    std::str::from_utf8(take_plain_string(rest)?).map_err(|_| Invalid("string is not UTF-8"))
}
