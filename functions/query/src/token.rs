//! Tokens that say where the next page of a search begins; pure. Clients hand them back as they are.
//!
//! base64url without padding of these bytes, numbers big-endian:
//!
//! ```text
//!  1  version: 1
//!  8  hash of the question: the first bytes of BLAKE3
//!  8  first start that is asked for, ns since the epoch
//!  8  the start behind the last that is asked for
//!  8  place of the last trace: start of its newest span that is asked for
//! 16  its id
//!  4  checksum: the first bytes of BLAKE3 of all before
//! ```
//!
//! The checksum finds damage, not forgery: a token says nothing that its owner could not ask for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use model::{TimeRange, TraceId};
use storage::read::Position;

const VERSION: u8 = 1;
const BODY_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 16;
const CHECKSUM_BYTES: usize = 4;

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// [`question_hash`] of what is asked.
    pub(crate) question: [u8; 8],
    /// The range of the first page, so that all pages have one.
    pub(crate) range: TimeRange,
    /// The place of the last trace of the page before.
    pub(crate) after: Position,
}

/// Why a text is no token for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Not what this program wrote.
    #[error("invalid parameter token: it is damaged")]
    Damaged,
    /// Of another version of this program.
    #[error("invalid parameter token: version {0} is not known; begin with the first page")]
    Version(u8),
    /// Of another search.
    #[error("invalid parameter token: it belongs to a search with other parameters")]
    OtherQuestion,
}

/// A hash of the parameters that must be the same on all pages.
pub(crate) fn question_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
    }
    first_bytes(&hasher.finalize())
}

impl Token {
    /// The text for the client.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.question);
        for number in [self.range.start_ns, self.range.end_ns_exclusive, self.after.start_ns] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.after.trace_id.0);
        let checksum: [u8; CHECKSUM_BYTES] = first_bytes(&blake3::hash(&bytes));
        bytes.extend_from_slice(&checksum);
        BASE64.encode(bytes)
    }

    /// What a text says that a client hands back with the question of this hash.
    ///
    /// # Errors
    /// Damaged; of another version; of another question.
    pub(crate) fn decode(text: &str, question: [u8; 8]) -> Result<Self, TokenError> {
        let bytes = BASE64.decode(text).map_err(|_| TokenError::Damaged)?;
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenError::Damaged)?;
        if first_bytes::<CHECKSUM_BYTES>(&blake3::hash(body)) != *checksum {
            return Err(TokenError::Damaged);
        }
        match body.first() {
            Some(&VERSION) if body.len() == BODY_BYTES => {}
            Some(&VERSION) | None => return Err(TokenError::Damaged),
            Some(&other) => return Err(TokenError::Version(other)),
        }
        let field = |at: usize| {
            let (field, _) = body[at..].split_first_chunk().expect("invariant: the length was tested");
            *field
        };
        let number = |at: usize| i64::from_be_bytes(field(at));
        let (trace_id, _) = body[33..].split_first_chunk().expect("invariant: the length was tested");
        let token = Self {
            question: field(1),
            range: TimeRange { start_ns: number(9), end_ns_exclusive: number(17) },
            after: Position { start_ns: number(25), trace_id: TraceId(*trace_id) },
        };
        if token.question == question { Ok(token) } else { Err(TokenError::OtherQuestion) }
    }
}

fn first_bytes<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    let (first, _) = hash.as_bytes().split_first_chunk().expect("invariant: a hash has 32 bytes");
    *first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            question: question_hash(["default", "shop"]),
            range: TimeRange { start_ns: -5, end_ns_exclusive: i64::MAX },
            after: Position { start_ns: 1_700_000_000_123_456_789, trace_id: TraceId([0xab; 16]) },
        }
    }

    #[test]
    fn tokens_come_back() {
        let text = token().encode();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(Token::decode(&text, token().question), Ok(token()));
    }

    #[test]
    fn a_token_is_for_one_question() {
        let other = question_hash(["default", "sho", "p"]);
        assert_eq!(Token::decode(&token().encode(), other), Err(TokenError::OtherQuestion));
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let text = token().encode();
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("ASCII");
            let decoded = Token::decode(&damaged, token().question);
            assert_eq!(decoded, Err(TokenError::Damaged), "at {at}");
            assert_eq!(
                Token::decode(&text[..at], token().question),
                Err(TokenError::Damaged),
                "{at} characters"
            );
        }
        for text in ["%", "a b", "=", "AA==", "ä"] {
            assert_eq!(Token::decode(text, token().question), Err(TokenError::Damaged), "{text}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = vec![2, 7, 7];
        let checksum: [u8; CHECKSUM_BYTES] = first_bytes(&blake3::hash(&bytes));
        bytes.extend_from_slice(&checksum);
        let error = Token::decode(&BASE64.encode(bytes), token().question).expect_err("version 2");
        assert_eq!(error, TokenError::Version(2));
    }
}
