//! Whole numbers of one series in few bits: a transform that makes them small, then blocks packed by their own width.
//!
//! ```text
//! ints      = u8 transform  seeds  block …
//! transform = 0: as they are   1: differences   2: differences of differences   3: differences from a line
//! seeds     = 1: zigzag first value   2: zigzag first value  zigzag first difference   3: zigzag slope
//! block     = u8 width in bits  zigzag least value  up to 128 values less the least, packed, lowest bit first
//! ```
//! The seeds of a transform stand for its first values, which are not in the blocks. Arithmetic wraps, so that any
//! 64-bit numbers come back. A block of equal values has width 0 and no further bytes: a counter's regular scrape times
//! cost two bytes per block.

use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};

/// Values of a block: enough that its head costs little, few enough that an outlier widens few.
pub(in crate::block) const BLOCK: usize = 128;

const PLAIN: u8 = 0;
const DELTA: u8 = 1;
const DELTA_OF_DELTA: u8 = 2;
const LINE: u8 = 3;

/// Appends `values`, by the transform that makes them shortest.
pub(in crate::block) fn write(out: &mut Vec<u8>, values: &[i64]) {
    let deltas = differences(values);
    let candidates = [
        (PLAIN, Vec::new(), values.to_vec()),
        (DELTA, values[..1.min(values.len())].to_vec(), deltas.clone()),
        (
            DELTA_OF_DELTA,
            [&values[..1.min(values.len())], &deltas[..1.min(deltas.len())]].concat(),
            differences(&deltas),
        ),
        line(values, median(&deltas)),
        line(values, mean(&deltas)),
    ];
    let shortest =
        candidates.into_iter().min_by_key(|(_, seeds, rest)| 8 * 4 * seeds.len() + packed_bits(rest));
    let (transform, seeds, rest) = shortest.expect("invariant: there are five");
    out.push(transform);
    for seed in seeds {
        write_varint(out, zigzag(seed));
    }
    for block in rest.chunks(BLOCK) {
        write_block(out, block);
    }
}

fn differences(values: &[i64]) -> Vec<i64> {
    values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
}

/// The slope that a gap moves little.
fn median(deltas: &[i64]) -> i64 {
    let mut sorted = deltas.to_vec();
    let middle = sorted.len() / 2;
    if sorted.is_empty() { 0 } else { *sorted.select_nth_unstable(middle).1 }
}

/// The slope that jitter moves little.
fn mean(deltas: &[i64]) -> i64 {
    let sum: i128 = deltas.iter().copied().map(i128::from).sum();
    i64::try_from(sum / deltas.len().max(1) as i128).unwrap_or(0)
}

/// Values less `slope` times their place.
fn line(values: &[i64], slope: i64) -> (u8, Vec<i64>, Vec<i64>) {
    let rest = values.iter().enumerate().map(|(at, value)| value.wrapping_sub(slope.wrapping_mul(at as i64)));
    (LINE, vec![slope], rest.collect())
}

/// About how many bits the blocks of these values have.
fn packed_bits(values: &[i64]) -> usize {
    let of_block = |block: &[i64]| {
        let (least, width) = range_of(block);
        8 + (64 - zigzag(least).leading_zeros() as usize) + block.len() * usize::from(width)
    };
    values.chunks(BLOCK).map(of_block).sum()
}

/// The least of some values, and the bits that each takes above it.
fn range_of(block: &[i64]) -> (i64, u8) {
    let least = block.iter().copied().min().unwrap_or(0);
    let greatest = block.iter().copied().max().unwrap_or(0);
    let spread = greatest.wrapping_sub(least) as u64;
    (least, (64 - spread.leading_zeros()) as u8)
}

fn write_block(out: &mut Vec<u8>, block: &[i64]) {
    let (least, width) = range_of(block);
    out.push(width);
    write_varint(out, zigzag(least));
    let end = out.len() + packed_len(block.len(), width);
    let (mut window, mut filled) = (0_u128, 0);
    for value in block {
        window |= u128::from(value.wrapping_sub(least) as u64) << filled;
        filled += usize::from(width);
        if filled >= 64 {
            out.extend_from_slice(&(window as u64).to_le_bytes());
            window >>= 64;
            filled -= 64;
        }
    }
    let rest = (window as u64).to_le_bytes();
    out.extend_from_slice(&rest[..end - out.len()]);
}

fn packed_len(count: usize, width: u8) -> usize {
    (count * usize::from(width)).div_ceil(8)
}

/// Takes `count` numbers that [`write`] wrote off the front of `bytes`, and appends them to `values`.
///
/// # Errors
/// The bytes are no such numbers; `values` has some of them then.
pub(in crate::block) fn read(bytes: &mut &[u8], count: usize, values: &mut Vec<i64>) -> Result<(), Invalid> {
    let start = values.len();
    let transform = take(bytes, 1)?[0];
    let n_seeds = match transform {
        PLAIN => 0,
        DELTA | LINE => 1,
        DELTA_OF_DELTA => 2,
        _ => return Err(Invalid("numbers have an unknown transform")),
    };
    let n_stored_seeds = if transform == LINE { 1 } else { n_seeds.min(count) };
    let mut seeds = [0_i64; 2];
    for seed in &mut seeds[..n_stored_seeds] {
        *seed = unzigzag(read_varint(bytes)?);
    }
    let n_packed = if transform == LINE { count } else { count - n_stored_seeds };
    // A block of equal values is two bytes for 128 of them: more are not in so few bytes.
    if n_packed.div_ceil(BLOCK) * 2 > bytes.len() {
        return Err(Invalid("data is cut off"));
    }
    values.reserve(count);
    match transform {
        DELTA => values.extend_from_slice(&seeds[..n_stored_seeds]),
        DELTA_OF_DELTA if count > 0 => {
            values.push(seeds[0]);
            if count > 1 {
                values.push(seeds[0].wrapping_add(seeds[1]));
            }
        }
        _ => {}
    }
    let packed_at = values.len();
    let mut n_left = n_packed;
    while n_left > 0 {
        let n = n_left.min(BLOCK);
        read_block(bytes, n, values)?;
        n_left -= n;
    }
    match transform {
        DELTA if count > 0 => {
            let mut value = seeds[0];
            for delta in &mut values[packed_at..] {
                value = value.wrapping_add(*delta);
                *delta = value;
            }
        }
        DELTA_OF_DELTA if count > 1 => {
            let (mut value, mut delta) = (values[start + 1], seeds[1]);
            for change in &mut values[packed_at..] {
                delta = delta.wrapping_add(*change);
                value = value.wrapping_add(delta);
                *change = value;
            }
        }
        LINE => {
            let mut on_line = 0_i64;
            for value in &mut values[packed_at..] {
                *value = value.wrapping_add(on_line);
                on_line = on_line.wrapping_add(seeds[0]);
            }
        }
        _ => {}
    }
    Ok(())
}

fn read_block(bytes: &mut &[u8], count: usize, values: &mut Vec<i64>) -> Result<(), Invalid> {
    let width = take(bytes, 1)?[0];
    if width > 64 {
        return Err(Invalid("block is wider than 64 bits"));
    }
    let least = unzigzag(read_varint(bytes)?);
    if width == 0 {
        values.resize(values.len() + count, least);
        return Ok(());
    }
    let len = packed_len(count, width);
    // Words are read eight bytes at a time; behind the last block there may be fewer.
    if bytes.len() >= len + 8 {
        let packed = &bytes[..len + 8];
        *bytes = &bytes[len..];
        unpack(packed, count, width, least, values);
    } else {
        let mut padded = [0; BLOCK * 8 + 8];
        padded[..len].copy_from_slice(take(bytes, len)?);
        unpack(&padded[..len + 8], count, width, least, values);
    }
    Ok(())
}

/// `packed` has eight bytes more than the numbers need.
fn unpack(packed: &[u8], count: usize, width: u8, least: i64, values: &mut Vec<i64>) {
    let width = usize::from(width);
    let word = |at: usize| {
        let bytes: [u8; 8] = packed[at..at + 8].try_into().expect("invariant: eight bytes");
        u64::from_le_bytes(bytes)
    };
    if width <= 56 {
        let mask = (1_u64 << width) - 1;
        values.extend((0..count).map(|i| {
            let bit = i * width;
            least.wrapping_add((word(bit / 8) >> (bit % 8) & mask) as i64)
        }));
    } else {
        let mask = u64::MAX >> (64 - width);
        values.extend((0..count).map(|i| {
            let (byte, bit) = (i * width / 8, i * width % 8);
            let window = u128::from(word(byte)) | u128::from(packed[byte + 8]) << 64;
            least.wrapping_add(((window >> bit) as u64 & mask) as i64)
        }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[i64]) -> usize {
        let mut bytes = vec![];
        write(&mut bytes, values);
        let mut back = vec![7];
        let mut rest = bytes.as_slice();
        read(&mut rest, values.len(), &mut back).expect("own bytes");
        assert_eq!(&back[1..], values);
        assert!(rest.is_empty());
        bytes.len()
    }

    proptest! {
        #[test]
        fn values_come_back(values in proptest::collection::vec(any::<i64>(), 0..400), shift in 0u32..64, slope in any::<i64>()) {
            let values: Vec<i64> = values.iter().enumerate().map(|(i, v)| (v >> shift).wrapping_add(slope.wrapping_mul(i as i64))).collect();
            round_trip(&values);
        }

        #[test]
        fn any_bytes_are_values_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0usize..2000) {
            let mut values = Vec::new();
            if read(&mut bytes.as_slice(), count, &mut values).is_ok() {
                prop_assert_eq!(values.len(), count);
            }
        }
    }

    #[test]
    fn regular_values_are_small() {
        let regular: Vec<i64> = (0..1440).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        assert!(round_trip(&regular) < 40);
        let jittered: Vec<i64> = (0..1440).map(|i| 1_700_000_000_000 + i * 15_000 + i * 7 % 4).collect();
        assert!(round_trip(&jittered) < 1440 / 4 + 150);
        let squares: Vec<i64> = (0..1440).map(|i| i * i).collect();
        assert!(round_trip(&squares) < 60);
        assert!(round_trip(&[]) == 1);
    }
}
