//! Hashes that are the same everywhere and always: what is stored may depend on them.

/// Mixes 64 bits; a bijection. Part of the stored format. Source: the finalizer of SplitMix64.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The hash of a value's text, eight bytes at a time: most values are their own, and hashed once for each block. Part of the
/// stored format.
pub fn hash_value(text: &[u8]) -> u64 {
    let (words, tail) = text.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let step = |hash: u64, word: &[u8; 8]| {
        (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
    };
    mix(words.iter().chain([&last]).fold(text.len() as u64, step))
}
