//! Any bytes as a compressed body: an error or content within the limit, in bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spandrel_fuzz::{LIMITS, check_error};
use wire::{Encoding, decompress};

fuzz_target!(|input: &[u8]| {
    let Some((selector, body)) = input.split_first() else { return };
    let encoding = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Identity][usize::from(selector % 4)];
    match decompress(body, encoding, &LIMITS) {
        Ok(content) => assert!(content.len() <= LIMITS.max_body_bytes),
        Err(error) => check_error(&error),
    }
});
