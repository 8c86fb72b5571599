//! Whole numbers as packed differences: Parquet's DELTA_BINARY_PACKED.
//!
//! ```text
//! header    = varint(128 values a block)  varint(4 miniblocks a block)  varint(count)  zigzag(first value)
//! block     = zigzag(least difference)    4 × u8 width in bits          4 × 32 differences less the least, packed
//! ```
//! Differences wrap, so that any 64-bit values come back.

use super::Invalid;
use super::thrift::{read_varint, take, unzigzag, write_varint, zigzag};

const BLOCK: usize = 128;
const MINI: usize = 32;
/// Values of so many bits lie in eight bytes, wherever they begin.
const MAX_WORD_BITS: usize = 56;

/// Appends `values`.
pub fn write(out: &mut Vec<u8>, values: &[i64]) {
    write_varint(out, BLOCK as u64);
    write_varint(out, (BLOCK / MINI) as u64);
    write_varint(out, values.len() as u64);
    write_varint(out, zigzag(values.first().copied().unwrap_or(0)));
    let mut deltas = [0i64; BLOCK];
    let mut previous = values.first().copied().unwrap_or(0);
    for block in values.get(1..).unwrap_or_default().chunks(BLOCK) {
        for (delta, &value) in deltas.iter_mut().zip(block) {
            *delta = value.wrapping_sub(previous);
            previous = value;
        }
        let deltas = &deltas[..block.len()];
        let least = deltas.iter().copied().min().expect("invariant: chunks are not empty");
        write_varint(out, zigzag(least));
        let widths_at = out.len();
        out.extend_from_slice(&[0; BLOCK / MINI]);
        for (i, mini) in deltas.chunks(MINI).enumerate() {
            let widest = mini.iter().fold(0u64, |bits, delta| bits | delta.wrapping_sub(least) as u64);
            let width = (64 - widest.leading_zeros()) as usize;
            out[widths_at + i] = width as u8;
            pack(out, mini.iter().map(|delta| delta.wrapping_sub(least) as u64), width);
        }
    }
}

/// Appends `MINI` values of `width` bits, zeros where `values` end early.
fn pack(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: usize) {
    let end = out.len() + MINI * width / 8;
    let mut window = 0u128;
    let mut filled = 0;
    for value in values {
        window |= u128::from(value) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(window as u64).to_le_bytes());
            window >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&(window as u64).to_le_bytes());
    out.resize(end, 0);
}

/// Reads the `count` values that `bytes` hold.
///
/// # Errors
/// `bytes` are not such a section, or hold another number of values.
pub fn read(bytes: &[u8], count: usize) -> Result<Vec<i64>, Invalid> {
    let mut rest = bytes;
    let header = (read_varint(&mut rest)?, read_varint(&mut rest)?, read_varint(&mut rest)?);
    if header != (BLOCK as u64, (BLOCK / MINI) as u64, count as u64) {
        return Err(Invalid("delta header is not as written here"));
    }
    let mut value = unzigzag(read_varint(&mut rest)?);
    // Each value but the first takes part in a block of at least five bytes.
    if count > 1 && (count - 1).div_ceil(BLOCK) * 5 > rest.len() {
        return Err(Invalid("data is cut off"));
    }
    let mut values = Vec::with_capacity(count);
    if count > 0 {
        values.push(value);
    }
    while values.len() < count {
        let least = unzigzag(read_varint(&mut rest)?);
        let widths: [u8; BLOCK / MINI] =
            take(&mut rest, BLOCK / MINI)?.try_into().expect("invariant: as many taken");
        for width in widths {
            let n = MINI.min(count - values.len());
            if n == 0 {
                break;
            }
            let width = usize::from(width);
            if width > 64 {
                return Err(Invalid("delta width is above 64 bits"));
            }
            let ahead = rest;
            let packed = take(&mut rest, MINI * width / 8)?;
            let mut deltas = [0; MINI];
            if width <= MAX_WORD_BITS {
                // Words are read eight bytes at a time, also behind the last packed byte.
                let mut padded = [0; MINI * MAX_WORD_BITS / 8 + 8];
                let words = if let Some(words) = ahead.get(..packed.len() + 8) {
                    words
                } else {
                    padded[..packed.len()].copy_from_slice(packed);
                    &padded[..packed.len() + 8]
                };
                let mask = (1_u64 << width) - 1;
                for (i, delta) in deltas.iter_mut().enumerate() {
                    let (byte, bit) = (i * width / 8, i * width % 8);
                    let word = words[byte..byte + 8].try_into().expect("invariant: eight bytes");
                    *delta = u64::from_le_bytes(word) >> bit & mask;
                }
            } else {
                for (i, delta) in deltas.iter_mut().enumerate() {
                    *delta = bits(packed, i * width, width);
                }
            }
            values.extend(deltas[..n].iter().map(|&delta| {
                value = value.wrapping_add(least).wrapping_add(delta as i64);
                value
            }));
        }
    }
    Ok(values)
}

/// The `width` bits of `packed` from bit `at` on.
fn bits(packed: &[u8], at: usize, width: usize) -> u64 {
    let byte = at / 8;
    let mut window = [0; 16];
    if let Some(whole) = packed.get(byte..byte + 16) {
        window.copy_from_slice(whole);
    } else {
        let tail = &packed[byte.min(packed.len())..];
        window[..tail.len()].copy_from_slice(tail);
    }
    let shifted = (u128::from_le_bytes(window) >> (at % 8)) as u64;
    if width == 64 { shifted } else { shifted & ((1 << width) - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_come_back(values in proptest::collection::vec(any::<i64>(), 0..400), shift in 0u32..64) {
            let values: Vec<i64> = values.into_iter().map(|value| value >> shift).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, &values);
            prop_assert_eq!(read(&bytes, values.len()).expect("own bytes"), values);
        }

        #[test]
        fn any_bytes_are_values_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0usize..2000) {
            let mut header = Vec::new();
            write_varint(&mut header, 128);
            write_varint(&mut header, 4);
            write_varint(&mut header, count as u64);
            header.append(&mut bytes);
            let _ = read(&header, count);
        }
    }
}
