//! A stored file with bytes changed, and with an index that tells other chunk lengths: an error or columns.
//!
//! The input is a list of edits of 4 bytes: where (24 bits) and what (8 bits). The first one edits the chunk table.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use storage::block::spans::{EncodedSpans, Parts, Projection, decode, encode};
use wire::otlp::{Format, decode_traces};

static FILE: LazyLock<EncodedSpans> = LazyLock::new(|| {
    let decoded = decode_traces(include_bytes!("../seed.json"), Format::Json, &wire::Limits::default());
    encode(&decoded.expect("the seed").columns)
});

fuzz_target!(|edits: &[u8]| {
    let mut file = FILE.bytes.to_vec();
    let mut table = FILE.descriptor.chunks.clone();
    for (i, edit) in edits.chunks_exact(4).enumerate() {
        let at = usize::from(edit[0]) | usize::from(edit[1]) << 8 | usize::from(edit[2]) << 16;
        if i == 0 {
            let n_chunks = table.chunks.len();
            table.chunks[at % n_chunks].0 ^= u64::from(edit[3]);
        } else {
            let n_bytes = file.len();
            file[at % n_bytes] ^= edit[3];
        }
    }
    if let Ok(columns) = decode(&table, &Parts::whole(Bytes::from(file)), Projection::ALL) {
        for span in columns.iter() {
            std::hint::black_box(span);
        }
    }
});
