//! `Content-Encoding`, benign and not.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use wire::{Encoding, Error, ErrorKind, Limits, decompress};

type Compress = fn(&[u8]) -> Vec<u8>;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("gzip");
    encoder.finish().expect("gzip")
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("zlib");
    encoder.finish().expect("zlib")
}

/// One frame that does not say how long its content is.
fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(content, 1).expect("zstd")
}

/// One frame that does.
fn sized_zstd(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, 1).expect("zstd")
}

fn content() -> Vec<u8> {
    (0..50_000u32).flat_map(|i| (i / 7 * 0x9e37).to_le_bytes()).collect()
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn headers_name_encodings_in_any_case() {
    let check = |value: &str, expect: Option<Encoding>| {
        assert_eq!(Encoding::from_header(value).ok(), expect, "{value:?}");
    };
    for value in ["", "  ", "identity", "Identity"] {
        check(value, Some(Encoding::Identity));
    }
    for value in ["gzip", "GZIP", " x-gzip "] {
        check(value, Some(Encoding::Gzip));
    }
    for value in ["deflate", "zlib", "Zlib"] {
        check(value, Some(Encoding::Deflate));
    }
    check("zstd", Some(Encoding::Zstd));
    for value in ["br", "snappy", "lz4", "gzip, gzip", "gzipp"] {
        check(value, None);
        assert_eq!(Encoding::from_header(value).expect_err(value).kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn what_was_compressed_comes_back() {
    let content = content();
    let zeros = vec![0; 3_000_000];
    let limits = Limits::default();
    let check = |body: &[u8], encoding: Encoding, expect: &[u8]| {
        assert!(*decompress(body, encoding, &limits).expect("valid") == *expect, "{encoding}");
    };
    for content in [&b""[..], b"x", &content, &zeros] {
        check(content, Encoding::Identity, content);
        check(&gzip(content), Encoding::Gzip, content);
        check(&zlib(content), Encoding::Deflate, content);
        check(&zstd(content), Encoding::Zstd, content);
        check(&sized_zstd(content), Encoding::Zstd, content);
        let twice = joined(&[content, content]);
        check(&joined(&[&gzip(content), &gzip(content)]), Encoding::Gzip, &twice);
        check(&joined(&[&zstd(content), &sized_zstd(content)]), Encoding::Zstd, &twice);
        let longer = joined(&[content, b"tail"]);
        check(&joined(&[&gzip(content), &gzip(b"tail")]), Encoding::Gzip, &longer);
        let before = joined(&[b"head", content]);
        check(&joined(&[&gzip(b"head"), &gzip(content)]), Encoding::Gzip, &before);
    }
    let mut named = GzEncoder::new(Vec::new(), Compression::fast());
    named.write_all(&content).expect("gzip");
    let mut libdeflate = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut body = vec![0; libdeflate.gzip_compress_bound(content.len())];
    let length = libdeflate.gzip_compress(&content, &mut body).expect("gzip");
    check(&body[..length], Encoding::Gzip, &content);
}

#[test]
fn damaged_bodies_are_corrupt() {
    let content = content();
    let limits = Limits::default();
    let check = |body: &[u8], encoding: Encoding, what: &str| {
        let error = decompress(body, encoding, &limits).expect_err(what);
        assert!(matches!(error, Error::CorruptCompression { .. }), "{encoding} {what}: {error}");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
    };
    let compressed = [
        (Encoding::Gzip, gzip(&content)),
        (Encoding::Deflate, zlib(&content)),
        (Encoding::Zstd, zstd(&content)),
        (Encoding::Zstd, sized_zstd(&content)),
    ];
    for (encoding, body) in &compressed {
        check(b"", *encoding, "empty");
        check(b"\0", *encoding, "one byte");
        check(&content[..1000], *encoding, "not compressed");
        check(&joined(&[body, b"x"]), *encoding, "a trailing byte");
        check(&joined(&[body, b"trailing garbage of some length"]), *encoding, "trailing garbage");
        check(&body[..body.len() - 1], *encoding, "without the last byte");
        check(&body[..body.len() / 2], *encoding, "half");
    }
    let mut wrong_checksum = gzip(&content);
    let trailer = wrong_checksum.len() - 8;
    wrong_checksum[trailer] ^= 1;
    check(&wrong_checksum, Encoding::Gzip, "wrong checksum");
    for (at, byte) in [(trailer + 4, 0), (trailer + 7, 0xff), (trailer + 6, 0xff)] {
        let mut wrong_length = gzip(&content);
        wrong_length[at] = byte;
        check(&wrong_length, Encoding::Gzip, "wrong length");
    }
    let mut wrong_checksum = zlib(&content);
    let last = wrong_checksum.len() - 1;
    wrong_checksum[last] ^= 1;
    check(&wrong_checksum, Encoding::Deflate, "wrong checksum");
}

#[test]
fn a_zstd_window_beyond_128_mib_is_refused() {
    // Magic, frame header without size, window exponent 10 + 18 = 28; then a raw last block of one byte.
    let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, (exponent - 10) << 3, 0x09, 0, 0, b'x'];
    let decode =
        |body: &[u8]| decompress(body, Encoding::Zstd, &Limits::default()).map(std::borrow::Cow::into_owned);
    assert_eq!(decode(&frame(27)).expect("128 MiB"), b"x");
    assert!(matches!(decode(&frame(28)), Err(Error::CorruptCompression { .. })));
}

#[test]
fn bodies_over_a_limit_are_too_large() {
    let limits = Limits { max_compressed_bytes: 5_000, max_body_bytes: 100_000, ..Limits::default() };
    let check = |body: &[u8], encoding: Encoding, expect: Option<usize>| {
        let limit = match decompress(body, encoding, &limits) {
            Ok(content) => {
                assert!(content.len() <= limits.max_body_bytes);
                None
            }
            Err(Error::TooLarge { limit }) => Some(limit),
            Err(other) => panic!("{encoding}: {other}"),
        };
        assert_eq!(limit, expect, "{encoding}");
    };
    let (fits, over, bomb) = (vec![0; 100_000], vec![0; 100_001], vec![0; 50_000_000]);
    check(&fits, Encoding::Identity, None);
    check(&over, Encoding::Identity, Some(100_000));
    let encodings: [(Encoding, Compress); 4] = [
        (Encoding::Gzip, gzip),
        (Encoding::Deflate, zlib),
        (Encoding::Zstd, zstd),
        (Encoding::Zstd, sized_zstd),
    ];
    for (encoding, compress) in encodings {
        check(&compress(&fits), encoding, None);
        check(&compress(&over), encoding, Some(100_000));
        let body = compress(&bomb);
        check(&body, encoding, Some(if body.len() > 5_000 { 5_000 } else { 100_000 }));
        check(&vec![0; 5_001], encoding, Some(5_000));
    }
    // Each member fits, both together do not.
    let half = vec![0; 60_000];
    check(&joined(&[&gzip(&half), &gzip(&half)]), Encoding::Gzip, Some(100_000));
    check(&joined(&[&zstd(&half), &zstd(&half)]), Encoding::Zstd, Some(100_000));
    assert_eq!(Error::TooLarge { limit: 1 }.kind(), ErrorKind::TooLarge);
}
