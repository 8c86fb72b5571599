//! `Content-Encoding`: bytes as sent to bytes as meant, bounded.
//!
//! Gzip and zlib are decoded in one go by libdeflate into a buffer that is never larger than the limit, nor than what
//! the compressed bytes can expand to. libdeflate does not tell how much input it read, so a gzip body that is not
//! exactly one member goes to flate2, which is slower and streams. Zstd streams always.
//! Snappy's blocks say their length, which is checked first.
//! A bomb costs at most the limit in memory, for zstd twice that (output and window).

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use libdeflater::{DecompressionError, Decompressor};

use crate::error::Error;
use crate::limits::Limits;

/// Deflate cannot expand further than this.
const MAX_DEFLATE_RATIO: usize = 1032;
/// Snappy cannot expand further than this: three bytes copy 64.
const MAX_SNAPPY_RATIO: usize = 22;
/// Zlib does not say how long its output is; telemetry rarely expands more than this.
const FIRST_GUESS_RATIO: usize = 8;
/// Header and trailer of a gzip member.
const MIN_GZIP_BYTES: usize = 18;
/// The largest window that is decoded, as the exponent: 128 MiB, what the zstd tool takes by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// Gzip, of one or more members.
    Gzip,
    /// Deflate in zlib framing, as HTTP means it.
    Deflate,
    /// Zstandard, of one or more frames.
    Zstd,
    /// One block of Snappy, as remote write has it; no `Content-Encoding` of OTLP.
    SnappyBlock,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
            Self::SnappyBlock => "snappy",
        })
    }
}

impl Encoding {
    /// The encoding that a `Content-Encoding` header names, in any case; an empty value is identity.
    ///
    /// # Errors
    /// [`Error::UnsupportedEncoding`] for any other, and for a list of several.
    pub fn from_header(value: &str) -> Result<Self, Error> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" | "zlib" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Error::UnsupportedEncoding(value.trim().chars().take(64).collect())),
        }
    }
}

/// The body as it was before compression; borrowed if it was not compressed.
///
/// # Errors
/// [`Error::TooLarge`] when the body or its content is over its limit, [`Error::CorruptCompression`] when it is not
/// exactly what the encoding says, so also when it is empty or has trailing bytes.
pub fn decompress<'a>(body: &'a [u8], encoding: Encoding, limits: &Limits) -> Result<Cow<'a, [u8]>, Error> {
    let limit =
        if encoding == Encoding::Identity { limits.max_body_bytes } else { limits.max_compressed_bytes };
    if body.len() > limit {
        return Err(Error::TooLarge { limit });
    }
    let limit = limits.max_body_bytes;
    match encoding {
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Gzip => gunzip(body, limit).map(Cow::Owned),
        Encoding::Deflate => inflate_zlib(body, limit).map(Cow::Owned),
        Encoding::Zstd => unzstd(body, limit).map(Cow::Owned),
        Encoding::SnappyBlock => unsnap(body, limit).map(Cow::Owned),
    }
}

/// A block says its length in front. One that claims more than its bytes can give is refused before memory is taken.
fn unsnap(body: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let broken = |error: snap::Error| corrupt(Encoding::SnappyBlock, error);
    let said_bytes = snap::raw::decompress_len(body).map_err(broken)?;
    if said_bytes > limit {
        return Err(Error::TooLarge { limit });
    }
    if said_bytes > body.len().saturating_mul(MAX_SNAPPY_RATIO) {
        return Err(corrupt(Encoding::SnappyBlock, "claims more than its bytes can give"));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(broken)
}

fn corrupt(encoding: Encoding, what: impl fmt::Display) -> Error {
    Error::CorruptCompression { encoding, what: what.to_string() }
}

/// The most that `compressed_bytes` of deflate can expand to, or the limit if that is less.
fn max_inflated_bytes(compressed_bytes: usize, limit: usize) -> usize {
    compressed_bytes.saturating_mul(MAX_DEFLATE_RATIO).min(limit)
}

fn gunzip(body: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let Some(length) = body.last_chunk::<4>().filter(|_| body.len() >= MIN_GZIP_BYTES) else {
        return Err(corrupt(Encoding::Gzip, "shorter than a header and a trailer"));
    };
    let said_bytes = u32::from_le_bytes(*length) as usize;
    let mut out = vec![0; said_bytes.min(max_inflated_bytes(body.len(), limit))];
    match Decompressor::new().gzip_decompress(body, &mut out) {
        Ok(length) => {
            out.truncate(length);
            if is_one_member(body, &out) {
                return Ok(out);
            }
            gunzip_members(body, limit, out)
        }
        Err(DecompressionError::InsufficientSpace) => gunzip_members(body, limit, out),
        Err(DecompressionError::BadData) => Err(corrupt(Encoding::Gzip, "bad data")),
    }
}

/// Whether the member at the start of `body`, which expands to `content`, takes all of `body`.
///
/// A member ends with the checksum and the length of its content. If those 8 bytes are found at the end of the body
/// and nowhere before, then the member ends there.
fn is_one_member(body: &[u8], content: &[u8]) -> bool {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&libdeflater::crc32(content).to_le_bytes());
    trailer[4..].copy_from_slice(&(content.len() as u32).to_le_bytes());
    body.windows(8).position(|bytes| bytes == trailer) == Some(body.len() - 8)
}

fn gunzip_members(body: &[u8], limit: usize, out: Vec<u8>) -> Result<Vec<u8>, Error> {
    read_bounded(flate2::bufread::MultiGzDecoder::new(body), Encoding::Gzip, limit, out)
}

fn inflate_zlib(body: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let Some(checksum) = body.last_chunk::<4>() else {
        return Err(corrupt(Encoding::Deflate, "shorter than a checksum"));
    };
    let most = max_inflated_bytes(body.len(), limit);
    let mut decompressor = Decompressor::new();
    let mut capacity = body.len().saturating_mul(FIRST_GUESS_RATIO).min(most);
    loop {
        let mut out = vec![0; capacity];
        match decompressor.zlib_decompress(body, &mut out) {
            Ok(length) => {
                out.truncate(length);
                // libdeflate ignores what follows the stream; then the body does not end with the checksum.
                if libdeflater::adler32(&out).to_be_bytes() == *checksum {
                    return Ok(out);
                }
                return Err(corrupt(Encoding::Deflate, "trailing bytes"));
            }
            Err(DecompressionError::InsufficientSpace) if capacity < most => {
                capacity = capacity.saturating_mul(4).min(most);
            }
            Err(DecompressionError::InsufficientSpace) => return Err(Error::TooLarge { limit }),
            Err(DecompressionError::BadData) => return Err(corrupt(Encoding::Deflate, "bad data")),
        }
    }
}

fn unzstd(body: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    if body.is_empty() {
        return Err(corrupt(Encoding::Zstd, "no frame"));
    }
    let broken = |error| corrupt(Encoding::Zstd, error);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
    read_bounded(decoder, Encoding::Zstd, limit, Vec::new())
}

/// Everything that `decoder` gives, or an error once that is more than `limit`.
///
/// `out` gives its room: a second buffer beside the one of a first attempt would be as long again, until the allocator
/// has given the first one back. When what it has is full, the room for the limit is taken at once. It costs memory only
/// where it is written to, while a buffer that doubles is there twice whenever it grows.
fn read_bounded(
    mut decoder: impl Read,
    encoding: Encoding,
    limit: usize,
    mut out: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    const SMALL_BYTES: usize = 256 << 10;
    let broken = |error| corrupt(encoding, error);
    out.clear();
    out.reserve(SMALL_BYTES.min(limit));
    let room = out.capacity().min(limit);
    decoder.by_ref().take(room as u64).read_to_end(&mut out).map_err(broken)?;
    if out.len() == room {
        out.reserve_exact(limit - room);
        decoder.by_ref().take((limit - room) as u64).read_to_end(&mut out).map_err(broken)?;
    }
    let is_longer = out.len() == limit && decoder.read(&mut [0]).map_err(broken)? > 0;
    if is_longer { Err(Error::TooLarge { limit }) } else { Ok(out) }
}
