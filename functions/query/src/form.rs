//! Query strings: `application/x-www-form-urlencoded` pairs, from the raw text.
//!
//! Keys may repeat and keep their order; `+` is a space. Maps that a gateway made of the query are never used: they
//! join repeated keys.

/// Why a text does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// A `%` without two hex digits. Go's words.
    #[error("invalid URL escape {0:?}")]
    Escape(String),
    /// Escapes that give no UTF-8.
    #[error("invalid UTF-8 in {0:?}")]
    Utf8(String),
}

/// What `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// A space, in queries.
    Space,
    /// Itself, in paths.
    Plus,
}

/// The pairs of a query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// The pairs of a raw query, empty ones left out.
    ///
    /// # Errors
    /// Anything that does not decode, wherever it is: a filter that is dropped silently would widen the answer.
    pub(crate) fn parse(raw_query: &str) -> Result<Self, FormError> {
        let mut pairs = Vec::new();
        for pair in raw_query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(key, Plus::Space)?, decode(value, Plus::Space)?));
        }
        Ok(Self { pairs })
    }

    /// These pairs, then `more`.
    pub(crate) fn followed_by(mut self, more: Self) -> Self {
        self.pairs.extend(more.pairs);
        self
    }

    /// The first value of `key`; empty where there is none.
    pub(crate) fn first(&self, key: &str) -> &str {
        self.pairs.iter().find(|(other, _)| other == key).map_or("", |(_, value)| value)
    }

    /// The values of `key` in order.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(other, _)| other == key).map(|(_, value)| value.as_str())
    }
}

/// `raw` with its percent escapes resolved.
///
/// # Errors
/// A broken escape; bytes that are not UTF-8.
pub(crate) fn decode(raw: &str, plus: Plus) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' if plus == Plus::Space => bytes.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(hex_pair);
                let Some(decoded) = digits else {
                    let end = after.len().min(2);
                    return Err(FormError::Escape(format!("%{}", String::from_utf8_lossy(&after[..end]))));
                };
                bytes.push(decoded);
                rest = &after[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| FormError::Utf8(raw.to_owned()))
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let high = (digits[0] as char).to_digit(16)?;
    let low = (digits[1] as char).to_digit(16)?;
    Some((high * 16 + low) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_order_and_repeat() {
        let form = Form::parse("tag=a:1&tag=b%3A2&&x&service=a+b%2Bc&empty=").expect("a query");
        assert_eq!(form.all("tag").collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert_eq!((form.first("service"), form.first("x"), form.first("empty")), ("a b+c", "", ""));
        assert_eq!(form.first("absent"), "");
    }

    #[test]
    fn a_comma_is_not_a_separator() {
        assert_eq!(Form::parse("tag=a:1,2").expect("a query").first("tag"), "a:1,2");
    }

    #[test]
    fn broken_escapes_are_errors() {
        let check = |query: &str, expect: &str| {
            assert_eq!(Form::parse(query).expect_err(query).to_string(), expect);
        };
        check("a=%zz", r#"invalid URL escape "%zz""#);
        check("a=%", r#"invalid URL escape "%""#);
        check("a=%4", r#"invalid URL escape "%4""#);
        check("a=%é", "invalid URL escape \"%é\"");
        check("a=%ff", r#"invalid UTF-8 in "%ff""#);
        check("%80=a", r#"invalid UTF-8 in "%80""#);
    }

    #[test]
    fn a_path_keeps_its_plus() {
        assert_eq!(decode("a+b%2F", Plus::Plus).expect("a path"), "a+b/");
    }
}
