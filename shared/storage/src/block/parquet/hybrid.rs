//! Parquet's hybrid of run lengths and bit packing, for levels and dictionary positions.
//!
//! ```text
//! run    = varint(count << 1)                value, in as many bytes as the width needs
//! packed = varint(groups of 8 << 1 | 1)      groups × width bytes, lowest bits first
//! ```
//! A constant column is one run; all else is one packed section, because zstd behind it finds the runs anyway.
//! Dictionary positions are packed in whole bytes (width 8, 16 or 32), wider than needed: zstd then sees the repeated
//! patterns of neighbouring rows, which packing to odd widths would hide.

use std::ops::Range;

use super::Invalid;
use super::thrift::{read_varint, take, write_varint};

/// The width in bits that dictionary positions below `len` are packed in.
pub fn position_width(len: usize) -> u8 {
    match len {
        0..=0x100 => 8,
        0x101..=0x1_0000 => 16,
        _ => 32,
    }
}

fn write_run(out: &mut Vec<u8>, count: usize, value: u32, width: u8) {
    write_varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..usize::from(width.div_ceil(8))]);
}

fn write_packed_head(out: &mut Vec<u8>, count: usize) {
    write_varint(out, (count.div_ceil(8) as u64) << 1 | 1);
}

/// Appends dictionary positions, each below `2^width`; `width` as [`position_width`] gives it.
pub fn write_positions(out: &mut Vec<u8>, positions: impl ExactSizeIterator<Item = u32> + Clone, width: u8) {
    let count = positions.len();
    let mut ahead = positions.clone();
    let Some(first) = ahead.next() else { return };
    if ahead.all(|position| position == first) {
        return write_run(out, count, first, width);
    }
    write_packed_head(out, count);
    let padding = count.next_multiple_of(8) - count;
    match width {
        8 => out.extend(positions.map(|position| position as u8)),
        16 => write_words(out, positions.map(|position| (position as u16).to_le_bytes())),
        _ => write_words(out, positions.map(u32::to_le_bytes)),
    }
    out.resize(out.len() + padding * usize::from(width / 8), 0);
}

fn write_words<const N: usize>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = [u8; N]>) {
    let at = out.len();
    out.resize(at + N * words.len(), 0);
    out[at..].as_chunks_mut().0.iter_mut().zip(words).for_each(|(place, word)| *place = word);
}

/// Appends levels of one or two bits with the four bytes of length that data pages put in front.
pub fn write_levels(out: &mut Vec<u8>, levels: &[u8], width: u8) {
    debug_assert!(width == 1 || width == 2, "invariant: no deeper nesting");
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    match levels.first() {
        None => {}
        Some(&first) if levels.iter().all(|&level| level == first) => {
            write_run(out, levels.len(), u32::from(first), width);
        }
        Some(_) => {
            write_packed_head(out, levels.len());
            out.reserve(levels.len().div_ceil(8) * usize::from(width));
            let (groups, rest) = levels.as_chunks::<8>();
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            let groups = groups.iter().chain((!rest.is_empty()).then_some(&last));
            if width == 1 {
                out.extend(groups.map(|group| pack_ones(u64::from_le_bytes(*group))));
            } else {
                out.extend(groups.flat_map(|group| pack_twos(u64::from_le_bytes(*group)).to_le_bytes()));
            }
        }
    }
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// The lowest bits of eight bytes, in a byte.
fn pack_ones(levels: u64) -> u8 {
    // Bit 0 of byte i goes to bit 56 + i; no two products meet.
    (levels.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// The lowest two bits of eight bytes, in two bytes.
fn pack_twos(levels: u64) -> u16 {
    let nibbles = (levels | levels >> 6) & 0x000f_000f_000f_000f;
    let bytes = (nibbles | nibbles >> 12) & 0x0000_00ff_0000_00ff;
    (bytes | bytes >> 24) as u16
}

/// As many bytes as a byte has bits, each 0 or 1.
fn unpack_ones(packed: u8) -> [u8; 8] {
    // Byte i of the product has the bit i of the factor, among others.
    let spread = u64::from(packed).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((spread.wrapping_add(0x007f_7f7f_7f7f_7f7f) >> 7 | spread >> 7) & 0x0101_0101_0101_0101).to_le_bytes()
}

/// The four pairs of bits of a byte, a byte each.
fn unpack_twos(packed: u8) -> [u8; 4] {
    let nibbles = (u32::from(packed) | u32::from(packed) << 12) & 0x000f_000f;
    ((nibbles | nibbles << 6) & 0x0303_0303).to_le_bytes()
}

/// Reads `count` values of `width` bits into `values` (which is cleared first).
///
/// # Errors
/// `bytes` end too early, or `width` is above 32.
pub fn read(bytes: &[u8], width: u8, count: usize, values: &mut Vec<u32>) -> Result<(), Invalid> {
    if width > 32 {
        return Err(Invalid("packed width is above 32 bits"));
    }
    read_with(bytes, width, count, values, |value| value, unpack)
}

/// Reads `count` levels of one or two bits into `levels` (which is cleared first).
///
/// # Errors
/// `bytes` end too early.
pub fn read_levels(bytes: &[u8], width: u8, count: usize, levels: &mut Vec<u8>) -> Result<(), Invalid> {
    read_with(bytes, width, count, levels, |value| value as u8, unpack_levels)
}

/// How many of the levels are `value`.
pub fn n_of(levels: &[u8], value: u8) -> usize {
    // Counted in bytes, which takes a few instructions for many levels.
    let of_few = |few: &[u8]| few.iter().fold(0_u8, |n, &level| n.wrapping_add(u8::from(level == value)));
    levels.chunks(u8::MAX.into()).map(|few| usize::from(of_few(few))).sum()
}

/// The value of a section of `count` values that is one run.
pub fn constant(bytes: &[u8], width: u8, count: usize) -> Option<u32> {
    let mut rest = bytes;
    let head = read_varint(&mut rest).ok()?;
    if head & 1 == 1 || head >> 1 < count as u64 {
        return None;
    }
    let mut value = [0; 4];
    let stored = take(&mut rest, usize::from(width.div_ceil(8))).ok()?;
    value[..stored.len()].copy_from_slice(stored);
    Some(u32::from_le_bytes(value))
}

/// The packed bytes of a section of `count` values that is one packed section.
pub fn packed(bytes: &[u8], width: u8, count: usize) -> Option<&[u8]> {
    let mut rest = bytes;
    let head = read_varint(&mut rest).ok()?;
    let groups = usize::try_from(head >> 1).ok()?;
    if head & 1 == 0 || groups.checked_mul(8)? < count {
        return None;
    }
    take(&mut rest, groups.checked_mul(usize::from(width))?).ok()
}

/// The ends of lists from their `count` repetition levels of one bit, where every level is an entry: a list ends where
/// the next begins, which is at each zero.
pub fn ends_of_lists(packed: &[u8], count: usize) -> Vec<u32> {
    let mut ends = Vec::with_capacity(count / 4);
    for (word_idx, bytes) in packed.chunks(8).enumerate() {
        let mut word = [0xff; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let mut zeros = !u64::from_le_bytes(word);
        while zeros != 0 {
            let at = word_idx * 64 + zeros.trailing_zeros() as usize;
            if at >= count {
                break;
            }
            ends.push(at as u32);
            zeros &= zeros - 1;
        }
    }
    // What was pushed are the beginnings; the first is no end, and the last list ends with the levels.
    if !ends.is_empty() {
        ends.remove(0);
        ends.push(count as u32);
    }
    ends
}

/// The levels of some rows of a list column with `count` repetition levels of one bit: a row begins at each zero.
///
/// # Errors
/// The section is cut off, or there are fewer rows.
pub fn levels_of_rows(section: &[u8], count: usize, rows: Range<usize>) -> Result<Range<usize>, Invalid> {
    if constant(section, 1, count) == Some(0) {
        return if rows.end <= count { Ok(rows) } else { Err(Invalid("column has too few rows")) };
    }
    let mut all = Vec::new();
    let packed = if let Some(packed) = packed(section, 1, count) {
        packed
    } else {
        let mut levels = Vec::new();
        read_levels(section, 1, count, &mut levels)?;
        all.extend(levels.chunks(8).map(|group| group.iter().rev().fold(0, |byte, level| byte << 1 | level)));
        &all
    };
    let (mut begun, mut start) = (0, None);
    // Words that end before the first row that is looked for.
    let mut n_skipped = 0;
    for word in packed.as_chunks::<8>().0.iter().take(count / 64) {
        let n_zeros = u64::from_le_bytes(*word).count_zeros() as usize;
        if begun + n_zeros > rows.start {
            break;
        }
        begun += n_zeros;
        n_skipped += 8;
    }
    for (at, &byte) in packed.iter().enumerate().skip(n_skipped) {
        let n = 8.min(count.saturating_sub(at * 8));
        let zeros = !byte & (0xff_u16 >> (8 - n)) as u8;
        let n_zeros = zeros.count_ones() as usize;
        // The row that is looked for begins within this byte.
        while let Some(wanted) = if start.is_none() { Some(rows.start) } else { Some(rows.end) } {
            if wanted >= begun + n_zeros {
                break;
            }
            let level = at * 8 + place_of_one(zeros, wanted - begun);
            match start {
                None => start = Some(level),
                Some(start) => return Ok(start..level),
            }
            if rows.is_empty() {
                return Ok(level..level);
            }
        }
        begun += n_zeros;
    }
    match start {
        Some(start) if rows.end == begun => Ok(start..count),
        None if rows.start == begun && rows.is_empty() => Ok(count..count),
        _ => Err(Invalid("column has too few rows")),
    }
}

/// The place of the `n`-th one among the bits, lowest first.
fn place_of_one(mut bits: u8, n: usize) -> usize {
    for _ in 0..n {
        bits &= bits.wrapping_sub(1);
    }
    bits.trailing_zeros() as usize
}

/// Levels of one or two bits in a range, how many are `value` before it, and how many in all.
///
/// # Errors
/// The section is cut off.
pub fn levels_in(
    section: &[u8],
    width: u8,
    count: usize,
    range: Range<usize>,
    value: u8,
) -> Result<(Vec<u8>, usize, usize), Invalid> {
    if let Some(constant) = constant(section, width, count) {
        let of = |n: usize| if constant == u32::from(value) { n } else { 0 };
        return Ok((vec![constant as u8; range.len()], of(range.start), of(count)));
    }
    let Some(packed) = packed(section, width, count) else {
        let mut levels = Vec::new();
        read_levels(section, width, count, &mut levels)?;
        let before = n_of(levels.get(..range.start).ok_or(Invalid("column has too few levels"))?, value);
        let all = n_of(&levels, value);
        return Ok((levels[range].to_vec(), before, all));
    };
    let level = |at: usize| level_in_packed(packed, width, at);
    let before = count_in_packed(packed, width, range.start, value);
    let all = before + count_in_packed_range(packed, width, range.start..count, value);
    Ok((range.map(level).collect(), before, all))
}

/// The level at a place of packed ones of one or two bits.
pub fn level_in_packed(packed: &[u8], width: u8, at: usize) -> u8 {
    match width {
        1 => packed[at / 8] >> (at % 8) & 1,
        _ => packed[at / 4] >> (2 * (at % 4)) & 3,
    }
}

/// How many of the packed levels of one or two bits in `range` are `value`.
pub fn count_in_packed_range(packed: &[u8], width: u8, range: Range<usize>, value: u8) -> usize {
    let per_byte = 8 / usize::from(width);
    let aligned = range.start.next_multiple_of(per_byte).min(range.end);
    let is_value = |at: &usize| level_in_packed(packed, width, *at) == value;
    let before = (range.start..aligned).filter(is_value).count();
    let rest = packed.get(aligned / per_byte..).unwrap_or_default();
    before + if aligned == range.end { 0 } else { count_in_packed(rest, width, range.end - aligned, value) }
}

/// How many of the first `n` packed levels of one or two bits are `value`.
fn count_in_packed(packed: &[u8], width: u8, n: usize, value: u8) -> usize {
    // One bit of each level, and the value in all levels of a word.
    let (ones, pattern) = match width {
        1 => (u64::MAX, u64::from(value).wrapping_neg()),
        _ => (0x5555_5555_5555_5555, u64::from(value) * 0x5555_5555_5555_5555),
    };
    let alike = |word: u64, mask: u64| {
        let differing = word ^ pattern;
        let differing = if width == 1 { differing } else { differing | differing >> 1 };
        (!differing & ones & mask).count_ones() as usize
    };
    let n_bits = n * usize::from(width);
    let (words, _) = packed.as_chunks::<8>();
    let (whole, rest) = packed.split_at(n_bits / 64 * 8);
    let n_alike: usize =
        words[..whole.len() / 8].iter().map(|word| alike(u64::from_le_bytes(*word), u64::MAX)).sum();
    match n_bits % 64 {
        0 => n_alike,
        n_bits => {
            let mut last = [0; 8];
            let rest = &rest[..n_bits.div_ceil(8)];
            last[..rest.len()].copy_from_slice(rest);
            n_alike + alike(u64::from_le_bytes(last), u64::MAX >> (64 - n_bits))
        }
    }
}

fn read_with<T: Clone>(
    bytes: &[u8],
    width: u8,
    count: usize,
    values: &mut Vec<T>,
    narrow: impl Fn(u32) -> T,
    unpack: impl Fn(&[u8], u8, usize, &mut Vec<T>),
) -> Result<(), Invalid> {
    values.clear();
    let mut rest = bytes;
    while values.len() < count {
        let head = read_varint(&mut rest)?;
        let left = count - values.len();
        if head & 1 == 0 {
            let mut value = [0; 4];
            let stored = take(&mut rest, usize::from(width.div_ceil(8)))?;
            value[..stored.len()].copy_from_slice(stored);
            let run = usize::try_from(head >> 1).unwrap_or(usize::MAX).min(left);
            if run == 0 {
                return Err(Invalid("run is empty"));
            }
            values.resize(values.len() + run, narrow(u32::from_le_bytes(value)));
        } else {
            let groups = usize::try_from(head >> 1).map_err(|_| Invalid("packed section is too long"))?;
            let len = groups.checked_mul(usize::from(width)).ok_or(Invalid("packed section is too long"))?;
            let packed = take(&mut rest, len)?;
            let n = left.min(groups.saturating_mul(8));
            if n == 0 {
                return Err(Invalid("packed section is empty"));
            }
            unpack(packed, width, n, values);
        }
    }
    Ok(())
}

/// Levels of one or two bits.
fn unpack_levels(packed: &[u8], width: u8, n: usize, levels: &mut Vec<u8>) {
    let start = levels.len();
    let per_byte = 8 / usize::from(width);
    levels.resize(start + packed.len() * per_byte, 0);
    let unpacked = &mut levels[start..];
    if width == 1 {
        let places = unpacked.as_chunks_mut().0.iter_mut();
        places.zip(packed).for_each(|(place, &byte)| *place = unpack_ones(byte));
    } else {
        let places = unpacked.as_chunks_mut().0.iter_mut();
        places.zip(packed).for_each(|(place, &byte)| *place = unpack_twos(byte));
    }
    levels.truncate(start + n);
}

fn unpack(packed: &[u8], width: u8, n: usize, values: &mut Vec<u32>) {
    match width {
        0 => values.resize(values.len() + n, 0),
        1 => values.extend((0..n).map(|i| u32::from(packed[i / 8] >> (i % 8) & 1))),
        2 => values.extend((0..n).map(|i| u32::from(packed[i / 4] >> (i % 4 * 2) & 3))),
        8 => values.extend(packed[..n].iter().map(|&byte| u32::from(byte))),
        16 => {
            values
                .extend(packed.chunks_exact(2).take(n).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))));
        }
        32 => values
            .extend(packed.chunks_exact(4).take(n).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        _ => {
            let mask = u64::from(u32::MAX >> (32 - width));
            values.extend((0..n).map(|i| {
                let bit = i * usize::from(width);
                let mut window = [0; 8];
                let from = &packed[bit / 8..packed.len().min(bit / 8 + 8)];
                window[..from.len()].copy_from_slice(from);
                (u64::from_le_bytes(window) >> (bit % 8) & mask) as u32
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_come_back(values in proptest::collection::vec(0u32..70_000, 0..300), cap in 1u32..70_000) {
            let values: Vec<u32> = values.into_iter().map(|value| value % cap).collect();
            let width = position_width(cap as usize);
            let mut bytes = Vec::new();
            write_positions(&mut bytes, values.iter().copied(), width);
            let mut read_back = Vec::new();
            read(&bytes, width, values.len(), &mut read_back).expect("own bytes");
            prop_assert_eq!(read_back, values);
        }

        #[test]
        fn levels_come_back(levels in proptest::collection::vec(0u8..4, 0..300), width in 1u8..=2) {
            let levels: Vec<u8> = levels.into_iter().map(|level| level & ((1 << width) - 1)).collect();
            let mut bytes = Vec::new();
            write_levels(&mut bytes, &levels, width);
            let mut read_back = Vec::new();
            read_levels(&bytes[4..], width, levels.len(), &mut read_back).expect("own bytes");
            prop_assert_eq!(read_back, levels);
        }

        #[test]
        fn ends_of_lists_are_those_of_the_levels(lengths in proptest::collection::vec(1u32..20, 1..60)) {
            let levels: Vec<u8> = lengths.iter().flat_map(|&n| (0..n).map(|at| u8::from(at > 0))).collect();
            let mut end = 0;
            let expect: Vec<u32> = lengths.iter().map(|n| { end += n; end }).collect();
            let mut bytes = Vec::new();
            write_levels(&mut bytes, &levels, 1);
            match packed(&bytes[4..], 1, levels.len()) {
                Some(packed) => prop_assert_eq!(ends_of_lists(packed, levels.len()), expect),
                None => prop_assert!(constant(&bytes[4..], 1, levels.len()).is_some()),
            }
        }

        #[test]
        fn parts_of_levels_are_those_of_all(
            lengths in proptest::collection::vec(1usize..6, 1..60),
            deep in proptest::collection::vec(0u8..4, 300),
            a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), width in 1u8..=2,
        ) {
            let repetition: Vec<u8> = lengths.iter().flat_map(|&n| (0..n).map(|at| u8::from(at > 0))).collect();
            let mut bytes = Vec::new();
            write_levels(&mut bytes, &repetition, 1);
            let (a, b) = (a.index(lengths.len() + 1), b.index(lengths.len() + 1));
            let rows = a.min(b)..a.max(b);
            let start: usize = lengths[..rows.start].iter().sum();
            let end: usize = lengths[..rows.end].iter().sum();
            let levels = levels_of_rows(&bytes[4..], repetition.len(), rows.clone()).expect("own bytes");
            prop_assert_eq!(&levels, &(start..end));
            prop_assert!(levels_of_rows(&bytes[4..], repetition.len(), rows.start..lengths.len() + 1).is_err());

            let deep: Vec<u8> = deep[..repetition.len()].iter().map(|level| level & ((1 << width) - 1)).collect();
            let mut bytes = Vec::new();
            write_levels(&mut bytes, &deep, width);
            let n_of = |levels: &[u8]| levels.iter().filter(|&&level| level == width).count();
            let expect = (deep[levels.clone()].to_vec(), n_of(&deep[..levels.start]), n_of(&deep));
            if let Some(packed) = packed(&bytes[4..], width, deep.len()) {
                let n = count_in_packed_range(packed, width, levels.clone(), width);
                prop_assert_eq!(n, n_of(&deep[levels.clone()]));
            }
            prop_assert_eq!(levels_in(&bytes[4..], width, deep.len(), levels, width).expect("own bytes"), expect);
        }

        #[test]
        fn any_bytes_are_values_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100), width in 0u8..40) {
            let mut values = Vec::new();
            if read(&bytes, width, 1000, &mut values).is_ok() {
                prop_assert_eq!(values.len(), 1000);
            }
        }
    }
}
