//! Identities: traces, spans, tenants, contents.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A hexadecimal id has a character outside `0-9a-fA-F`.
    #[error("id {0:?} is not hexadecimal")]
    NotHex(String),
    /// A hexadecimal id is empty or longer than the id it stands for.
    #[error("id {text:?} has {digits} digits, at most {max} fit")]
    Length {
        /// The text as it came.
        text: String,
        /// Its digits.
        digits: usize,
        /// The digits that fit.
        max: usize,
    },
    /// A tenant's name is empty, too long, or has a character that is not allowed in a folder's name.
    #[error("tenant {0:?} must be 1 to 64 characters of A-Z a-z 0-9 _ - and must not start with '-'")]
    Tenant(String),
}

/// The id of a trace: 16 bytes, all zero when invalid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span: 8 bytes, all zero for "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpanId(pub [u8; 8]);

/// The first 16 bytes of the BLAKE3 hash that names an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 16]);

impl TraceId {
    /// No trace, as a log record may have.
    pub const NONE: Self = Self([0; 16]);

    /// Whether all bytes are zero, which OpenTelemetry forbids for a trace.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }

    /// The first four bytes as a big-endian number: ordered as the ids are.
    pub fn prefix(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

impl SpanId {
    /// No span: the parent of a root.
    pub const NONE: Self = Self([0; 8]);

    /// Whether all bytes are zero: no span.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Parses up to `2 * N` hex digits of any case, padded with zeros on the left.
fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let digits = text.as_bytes();
    if digits.is_empty() || digits.len() > 2 * N {
        return Err(IdError::Length {
            text: text.chars().take(64).collect(),
            digits: digits.len(),
            max: 2 * N,
        });
    }
    let mut bytes = [0; N];
    for (place, digit) in digits.iter().rev().enumerate() {
        let Some(value) = (*digit as char).to_digit(16) else {
            return Err(IdError::NotHex(text.to_owned()));
        };
        bytes[N - 1 - place / 2] |= (value as u8) << (4 * (place % 2));
    }
    Ok(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    f.write_str(std::str::from_utf8(&text[..2 * bytes.len()]).expect("invariant: hex digits are ASCII"))
}

macro_rules! hex_id {
    ($name:ident, $bytes:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            /// Parses hex digits of any case; a short id is padded with zeros on the left.
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex::<$bytes>(text).map(Self)
            }
        }
    };
}
hex_id!(TraceId, 16);
hex_id!(SpanId, 8);
hex_id!(ContentHash, 16);

/// What kind of telemetry an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Series.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The signal's name in keys and folders.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Who the data belongs to: 1 to 64 characters of `A-Z a-z 0-9 _ -`, not starting with `-`.
///
/// The name is part of keys and folder names, hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

impl TenantId {
    /// The tenant of a request that names none.
    pub fn default_tenant() -> Self {
        Self("default".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TenantId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || text.len() > 64 || text.starts_with('-') || !text.chars().all(allowed) {
            return Err(IdError::Tenant(text.chars().take(64).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_any_case_and_pad_on_the_left() {
        let padded: TraceId = "ABCdef".parse().expect("six digits");
        assert_eq!(padded.to_string(), "00000000000000000000000000abcdef");
        let odd: SpanId = "123".parse().expect("three digits");
        assert_eq!(odd.0, [0, 0, 0, 0, 0, 0, 1, 0x23]);
    }

    #[test]
    fn ids_refuse_other_characters_and_lengths() {
        assert_eq!("xyz".parse::<SpanId>(), Err(IdError::NotHex("xyz".to_owned())));
        assert!(matches!("".parse::<TraceId>(), Err(IdError::Length { digits: 0, .. })));
        assert!(matches!("0".repeat(33).parse::<TraceId>(), Err(IdError::Length { digits: 33, .. })));
    }

    #[test]
    fn a_tenant_is_a_safe_folder_name() {
        for good in ["default", "team-a", "A_1"] {
            assert_eq!(good.parse::<TenantId>().expect(good).as_str(), good);
        }
        for bad in ["", "..", "a/b", "a b", "-a", "é", &"a".repeat(65)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad:?}");
        }
    }
}
