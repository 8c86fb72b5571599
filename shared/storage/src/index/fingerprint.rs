//! Small approximate sets: which traces and operations a file may hold.
//!
//! Each member is a fingerprint of some bits of its hash; the sorted fingerprints are stored as differences in Rice
//! code. With `n` members and `log2(n) + 17` bits a stranger is taken for a member once in 131,072 times, at some 2.3
//! bytes a member; a Bloom filter of that rate needs 3.1.
//!
//! ```text
//! set      = u8 bits (0: everything is a member)  varint count  u8 rice parameter k  differences, lowest bits first
//! difference = quotient in ones, a zero, k bits of remainder
//! sieve    = u8 log2 of the number of parts  per part varint length  set
//! ```
//! A sieve is a set of many: whoever asks it decodes one part, that of the hashes with the same first bits.

pub(crate) use model::hash::{hash_value, mix};

use super::item::read_section;
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, write_varint};

/// Members above which a set is not worth its bytes: everything is then a member.
const MAX_MEMBERS: usize = 16_384;

/// The hash of an id of 16 bytes, which need not be random. Part of the stored format.
pub fn hash_id(id: &[u8; 16]) -> u64 {
    let (high, low) = id.split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("invariant: half of 16 bytes"));
    mix(half(low) ^ mix(half(high).wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The hash of two texts. Part of the stored format. Source: FNV-1a, then mixed.
pub fn hash_texts(first: &str, second: &str) -> u64 {
    let bytes = first.bytes().chain([0]).chain(second.bytes());
    mix(bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Appends the set of the members with these hashes; a stranger is taken for one once in `2^rate_bits` times.
pub fn write(out: &mut Vec<u8>, hashes: impl ExactSizeIterator<Item = u64>, rate_bits: u32) {
    let n = hashes.len();
    if n > MAX_MEMBERS {
        return out.push(0);
    }
    let bits = (n.max(1).next_power_of_two().ilog2() + rate_bits).min(40);
    let mut members: Vec<u64> = hashes.map(|hash| hash >> (64 - bits)).collect();
    members.sort_unstable();
    members.dedup();
    // The mean difference is 2^bits / n; the best k is near its logarithm, less one.
    let k = (bits - n.max(1).ilog2()).saturating_sub(1);
    out.push(bits as u8);
    write_varint(out, members.len() as u64);
    out.push(k as u8);
    let (mut window, mut filled) = (0u128, 0);
    let mut previous = 0;
    for member in members {
        let difference = member - previous;
        previous = member;
        for _ in 0..difference >> k {
            window |= 1 << filled;
            filled += 1;
            flush(out, &mut window, &mut filled);
        }
        filled += 1;
        window |= u128::from(difference & ((1 << k) - 1)) << filled;
        filled += k;
        flush(out, &mut window, &mut filled);
    }
    out.extend_from_slice(&window.to_le_bytes()[..(filled as usize).div_ceil(8)]);
}

fn flush(out: &mut Vec<u8>, window: &mut u128, filled: &mut u32) {
    while *filled >= 8 {
        out.push(*window as u8);
        *window >>= 8;
        *filled -= 8;
    }
}

/// Members of a part of a sieve, about: some µs to decode.
const PART_MEMBERS: usize = 1024;

/// Appends the sieve of members with these hashes, which ascend; a stranger passes once in `2^rate_bits` times.
pub fn write_sieve(out: &mut Vec<u8>, mut hashes: &[u64], rate_bits: u32) {
    let part_bits = hashes.len().div_ceil(PART_MEMBERS).next_power_of_two().ilog2();
    out.push(part_bits as u8);
    let mut set = Vec::new();
    for part in 0..1u64 << part_bits {
        let n = hashes.partition_point(|hash| part_of(*hash, part_bits) <= part);
        let (of_part, rest) = hashes.split_at(n);
        hashes = rest;
        set.clear();
        write(&mut set, of_part.iter().map(|hash| hash << part_bits), rate_bits);
        write_varint(out, set.len() as u64);
        out.extend_from_slice(&set);
    }
}

/// Whether a member with this hash may be in the sieve.
///
/// # Errors
/// The bytes are no sieve.
pub fn may_pass(mut sieve: &[u8], hash: u64) -> Result<bool, Invalid> {
    let part_bits = u32::from(take(&mut sieve, 1)?[0]);
    if part_bits > 40 {
        return Err(Invalid("sieve has impossible parameters"));
    }
    for _ in 0..part_of(hash, part_bits) {
        read_section(&mut sieve)?;
    }
    may_contain(read_section(&mut sieve)?, hash << part_bits)
}

fn part_of(hash: u64, part_bits: u32) -> u64 {
    hash.checked_shr(64 - part_bits).unwrap_or(0)
}

/// Whether all members with these hashes, which ascend, may be in the sieve.
///
/// # Errors
/// The bytes are no sieve.
pub fn may_all_pass(mut sieve: &[u8], mut hashes: &[u64]) -> Result<bool, Invalid> {
    let part_bits = u32::from(take(&mut sieve, 1)?[0]);
    if part_bits > 40 {
        return Err(Invalid("sieve has impossible parameters"));
    }
    let mut part = 0;
    while !hashes.is_empty() {
        let set = read_section(&mut sieve)?;
        let n = hashes.partition_point(|hash| part_of(*hash, part_bits) <= part);
        let (of_part, rest) = hashes.split_at(n);
        if !of_part.is_empty() && !may_contain_all(set, of_part.iter().map(|hash| hash << part_bits))? {
            return Ok(false);
        }
        hashes = rest;
        part += 1;
    }
    Ok(true)
}

/// Whether a member with this hash may be in the set.
///
/// # Errors
/// The bytes are not a set.
pub fn may_contain(set: &[u8], hash: u64) -> Result<bool, Invalid> {
    may_contain_all(set, [hash].into_iter())
}

/// Whether all members with these hashes, which ascend, may be in the set.
fn may_contain_all(mut set: &[u8], hashes: impl Iterator<Item = u64>) -> Result<bool, Invalid> {
    let bits = u32::from(take(&mut set, 1)?[0]);
    if bits == 0 {
        return Ok(true);
    }
    let mut left = read_varint(&mut set)?;
    let k = u32::from(take(&mut set, 1)?[0]);
    if bits > 40 || k > bits {
        return Err(Invalid("set has impossible parameters"));
    }
    let mut reader = BitReader { bytes: set, window: 0, filled: 0 };
    let mut last = None;
    for hash in hashes {
        let wanted = hash >> (64 - bits);
        while last.is_none_or(|last| last < wanted) {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            let quotient = reader.ones()?;
            let difference = quotient.checked_shl(k).unwrap_or(u64::MAX) | reader.bits(k)?;
            last = Some(last.unwrap_or(0) + difference.min(1 << 40));
        }
        if last != Some(wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct BitReader<'a> {
    bytes: &'a [u8],
    window: u64,
    filled: u32,
}

impl BitReader<'_> {
    fn fill(&mut self) {
        while self.filled <= 56 {
            let Some((&byte, rest)) = self.bytes.split_first() else { return };
            self.window |= u64::from(byte) << self.filled;
            self.filled += 8;
            self.bytes = rest;
        }
    }

    /// The number of ones before the next zero, which is taken too.
    fn ones(&mut self) -> Result<u64, Invalid> {
        let mut total = 0;
        loop {
            self.fill();
            let ones = self.window.trailing_ones();
            if ones < self.filled {
                // 63 ones and their zero may be all of the window.
                self.window = self.window.checked_shr(ones + 1).unwrap_or(0);
                self.filled -= ones + 1;
                return Ok(total + u64::from(ones));
            }
            if self.filled == 0 {
                return Err(Invalid("set is cut off"));
            }
            total += u64::from(self.filled);
            (self.window, self.filled) = (0, 0);
        }
    }

    fn bits(&mut self, n: u32) -> Result<u64, Invalid> {
        self.fill();
        if self.filled < n {
            return Err(Invalid("set is cut off"));
        }
        let bits = self.window & ((1 << n) - 1);
        self.window >>= n;
        self.filled -= n;
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_member_is_found(ids in proptest::collection::vec(any::<[u8; 16]>(), 0..300), rate in 1u32..24) {
            let mut set = Vec::new();
            write(&mut set, ids.iter().map(hash_id), rate);
            for id in &ids {
                prop_assert!(may_contain(&set, hash_id(id)).expect("own bytes"));
            }
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60), hash: u64) {
            let _ = (may_contain(&bytes, hash), may_pass(&bytes, hash), may_all_pass(&bytes, &[hash, u64::MAX]));
        }

        /// The last file of a run has hashes near the greatest: all but the first difference are small, and that one is
        /// a long row of ones.
        #[test]
        fn members_that_lie_close_together_are_found(
            mut hashes in proptest::collection::vec(any::<u64>(), 1..200), narrow in 1u32..60, rate in 1u32..24,
        ) {
            for hash in &mut hashes {
                *hash = u64::MAX - (*hash >> narrow);
            }
            hashes.sort_unstable();
            let (mut set, mut sieve) = (Vec::new(), Vec::new());
            write(&mut set, hashes.iter().copied(), rate);
            write_sieve(&mut sieve, &hashes, rate);
            for &hash in &hashes {
                prop_assert!(may_contain(&set, hash).expect("own bytes"));
                prop_assert!(may_pass(&sieve, hash).expect("own bytes"));
            }
        }

        #[test]
        fn every_member_passes(mut hashes in proptest::collection::vec(any::<u64>(), 0..5_000), rate in 1u32..24) {
            hashes.sort_unstable();
            let mut sieve = Vec::new();
            write_sieve(&mut sieve, &hashes, rate);
            for &hash in &hashes {
                prop_assert!(may_pass(&sieve, hash).expect("own bytes"));
            }
            prop_assert!(may_all_pass(&sieve, &hashes).expect("own bytes"));
            let stranger = hashes.iter().map(|&hash| mix(hash)).find(|&other| !may_pass(&sieve, other).expect("own bytes"));
            if let Some(stranger) = stranger {
                hashes.insert(hashes.partition_point(|&hash| hash < stranger), stranger);
                prop_assert!(!may_all_pass(&sieve, &hashes).expect("own bytes"));
            }
        }
    }

    #[test]
    fn strangers_are_rare_and_members_are_small() {
        let id = |i: u128| i.to_be_bytes();
        let mut set = Vec::new();
        write(&mut set, (0..140u8).map(|i| hash_id(&id(i.into()))), 17);
        assert!(set.len() < 140 * 5 / 2, "{} bytes", set.len());
        let strangers =
            (1_000..1_001_000u128).filter(|&i| may_contain(&set, hash_id(&id(i))).expect("own bytes"));
        let found = strangers.count();
        assert!(found < 30, "{found} of a million, 8 expected");
    }

    #[test]
    fn a_huge_set_contains_everything() {
        let mut set = Vec::new();
        write(&mut set, (0..20_000u32).map(|i| mix(i.into())), 17);
        assert_eq!(set, [0]);
        assert_eq!(may_contain(&set, 1), Ok(true));
    }
}
