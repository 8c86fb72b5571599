//! Text → tokens.

use super::ParseError;
use super::ast::Span;

/// A word, number, text or sign of the language.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name, keyword, or name of a metric; its text is the span's.
    Word,
    Number(f64),
    /// Ms; a sum of whole numbers with units.
    Duration(i64),
    Text(String),
    /// Brackets, operators, separators.
    Sign(&'static str),
    End,
}

/// Longest first.
const SIGNS: [&str; 22] = [
    "==", "!=", "<=", ">=", "(", ")", "{", "}", "[", "]", ",", "+", "-", "*", "/", "%", "^", "<", ">", "=",
    ":", "@",
];

/// Signs that there are only within braces.
const MATCHER_SIGNS: [&str; 2] = ["=~", "!~"];

/// Units of durations with their ms; in the order in which they may follow each other.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The tokens of a query, an end at last.
pub(super) fn tokens(query: &str) -> Result<Vec<(Token, Span)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let bytes = query.as_bytes();
    let mut open: Vec<(u8, usize)> = Vec::new();
    while at < bytes.len() {
        let rest = &query[at..];
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if byte == b'#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let start = at;
        let token =
            if byte.is_ascii_alphabetic() || byte == b'_' || (byte == b':' && is_name_next(rest, &open)) {
                let in_brackets = open.last().is_some_and(|(bracket, _)| *bracket == b'[');
                at += rest
                    .bytes()
                    .take_while(|byte| {
                        byte.is_ascii_alphanumeric() || *byte == b'_' || (*byte == b':' && !in_brackets)
                    })
                    .count();
                Token::Word
            } else if byte.is_ascii_digit()
                || (byte == b'.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
            {
                let (token, len) = number(rest).ok_or_else(|| {
                    let len = digits_len(rest);
                    let problem = format!("bad number or duration syntax: {:?}", &rest[..len]);
                    ParseError::new(start..start + len, problem)
                })?;
                at += len;
                token
            } else if matches!(byte, b'"' | b'\'' | b'`') {
                let (text, len) =
                    text(rest).map_err(|problem| ParseError::new(start..query.len(), problem))?;
                at += len;
                Token::Text(text)
            } else if let Some(sign) =
                sign(rest, &open).map_err(|problem| ParseError::new(start..at + 1, problem))?
            {
                at += sign.len();
                brackets(sign, start, &mut open)?;
                Token::Sign(sign)
            } else {
                let character = rest.chars().next().unwrap_or(' ');
                let span = start..start + character.len_utf8();
                return Err(ParseError::new(span, format!("unexpected character: {character:?}")));
            };
        tokens.push((token, start..at));
    }
    if let Some(&(bracket, _)) = open.last() {
        let what = match bracket {
            b'(' => "unclosed left parenthesis",
            b'{' => "unexpected end of input inside braces",
            _ => "unclosed left bracket",
        };
        return Err(ParseError::new(query.len()..query.len(), what.to_owned()));
    }
    tokens.push((Token::End, query.len()..query.len()));
    Ok(tokens)
}

/// The sign at the start of `rest`, if there is one.
fn sign(rest: &str, open: &[(u8, usize)]) -> Result<Option<&'static str>, String> {
    let in_braces = open.last().is_some_and(|(bracket, _)| *bracket == b'{');
    let matcher_sign = MATCHER_SIGNS.iter().find(|sign| rest.starts_with(**sign));
    let lone_bang = rest.starts_with('!') && !rest.starts_with("!=");
    if let Some(&sign) = matcher_sign.filter(|_| in_braces) {
        return Ok(Some(sign));
    }
    if matcher_sign.is_some() || lone_bang {
        let mut characters = rest.chars();
        let first = characters.next().unwrap_or_default();
        let next = characters.next().unwrap_or(char::REPLACEMENT_CHARACTER);
        return Err(format!("unexpected character after '{first}': '{next}'"));
    }
    // Matchers know no `==`: the second would begin a value.
    let fits = |sign: &&&str| rest.starts_with(**sign) && !(in_braces && **sign == "==");
    Ok(SIGNS.iter().find(fits).copied())
}

/// How far a number goes that something stands behind which does not belong there.
fn digits_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let run =
        |from: usize, is_part: fn(&u8) -> bool| bytes[from..].iter().take_while(|byte| is_part(byte)).count();
    if rest.starts_with("0x") || rest.starts_with("0X") {
        return 2 + run(2, u8::is_ascii_hexdigit);
    }
    let mut len = run(0, u8::is_ascii_digit);
    while let Some(b'y' | b'w' | b'd' | b'h' | b'm' | b's') = bytes.get(len) {
        len += 1;
        len += run(len, u8::is_ascii_digit);
    }
    if bytes.get(len) == Some(&b'.') {
        len += 1;
        len += run(len, u8::is_ascii_digit);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        len += 1 + usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        len += run(len, u8::is_ascii_digit);
    }
    len
}

/// Whether a colon begins the name of a metric: such names are those of recording rules.
fn is_name_next(rest: &str, open: &[(u8, usize)]) -> bool {
    open.last().is_none_or(|(bracket, _)| *bracket != b'[')
        && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
}

fn brackets(sign: &str, at: usize, open: &mut Vec<(u8, usize)>) -> Result<(), ParseError> {
    let byte = sign.as_bytes()[0];
    match byte {
        b'(' | b'{' | b'[' => open.push((byte, at)),
        b')' | b'}' | b']' => {
            let opening = match byte {
                b')' => b'(',
                b'}' => b'{',
                _ => b'[',
            };
            if open.last().map(|(bracket, _)| *bracket) != Some(opening) {
                let name = match byte {
                    b')' => "right parenthesis",
                    b'}' => "right brace",
                    _ => "right bracket",
                };
                // Prometheus is past a parenthesis when it finds that out.
                let at = if byte == b')' { at + 1 } else { at };
                return Err(ParseError::new(at..at + 1, format!("unexpected {name} '{sign}'")));
            }
            open.pop();
        }
        _ => {}
    }
    Ok(())
}

/// A number or duration at the start of `rest`, and its length.
fn number(rest: &str) -> Option<(Token, usize)> {
    if let Some((ms, len)) = duration(rest)
        && !rest[len..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    {
        return Some((Token::Duration(ms), len));
    }
    let len = if rest.starts_with("0x") || rest.starts_with("0X") {
        2 + rest[2..].bytes().take_while(|byte| byte.is_ascii_hexdigit() || *byte == b'_').count()
    } else {
        let mut len = 0;
        let bytes = rest.as_bytes();
        while len < bytes.len() {
            let byte = bytes[len];
            let is_exponent = matches!(byte, b'e' | b'E');
            let is_sign_of_exponent =
                matches!(byte, b'+' | b'-') && len > 0 && matches!(bytes[len - 1], b'e' | b'E');
            if !(byte.is_ascii_digit() || byte == b'.' || byte == b'_' || is_exponent || is_sign_of_exponent)
            {
                break;
            }
            len += 1;
        }
        len
    };
    if rest[len..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let plain: String = rest[..len].chars().filter(|c| *c != '_').collect();
    let value = if let Some(digits) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        u64::from_str_radix(digits, 16).ok()? as f64
    } else if plain.len() > 1
        && plain.starts_with('0')
        && plain.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
    {
        u64::from_str_radix(&plain, 8).ok()? as f64
    } else {
        plain.parse().ok()?
    };
    Some((Token::Number(value), len))
}

/// A duration at the start of `rest` in ms, and its length.
pub(super) fn duration(rest: &str) -> Option<(i64, usize)> {
    let mut at = 0;
    let mut next_unit = 0;
    let mut total_ms = 0_i64;
    loop {
        let n_digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
        let after = &rest[at + n_digits..];
        let n_letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS.iter().position(|(name, _)| *name == &after[..n_letters]);
        let Some(unit) = unit.filter(|unit| n_digits > 0 && *unit >= next_unit) else {
            return (at > 0).then_some((total_ms, at));
        };
        let amount: i64 = rest[at..at + n_digits].parse().ok()?;
        total_ms = total_ms.checked_add(amount.checked_mul(UNITS[unit].1)?)?;
        next_unit = unit + 1;
        at += n_digits + n_letters;
    }
}

/// A quoted text at the start of `rest` with its escapes undone, and its length.
fn text(rest: &str) -> Result<(String, usize), String> {
    let quote = rest.as_bytes()[0];
    if quote == b'`' {
        let end = rest[1..].find('`').ok_or("unterminated raw string")?;
        return Ok((rest[1..=end].to_owned(), end + 2));
    }
    let mut bytes = Vec::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' | '\'' if character as u8 == quote => {
                let text = String::from_utf8(bytes).map_err(|_| "string is not UTF-8")?;
                return Ok((text, at + 1));
            }
            '\n' => break,
            '\\' => {
                let (_, escape) = characters.next().ok_or("escape sequence not terminated")?;
                let mut digits = |n: usize, radix: u32, first: &str| -> Result<u32, String> {
                    let mut digits = first.to_owned();
                    digits.extend(characters.by_ref().take(n).map(|(_, digit)| digit));
                    u32::from_str_radix(&digits, radix).map_err(|_| "invalid escape sequence".to_owned())
                };
                let code = match escape {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => 10,
                    'r' => 13,
                    't' => 9,
                    'v' => 11,
                    '\\' => 92,
                    '"' | '\'' if escape as u8 == quote => u32::from(escape),
                    'x' => {
                        bytes.push(digits(2, 16, "")? as u8);
                        continue;
                    }
                    '0'..='7' => {
                        bytes.push(digits(2, 8, &escape.to_string())? as u8);
                        continue;
                    }
                    'u' => digits(4, 16, "")?,
                    'U' => digits(8, 16, "")?,
                    other => return Err(format!("unknown escape sequence U+{:04X} '{other}'", other as u32)),
                };
                let character =
                    char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("unterminated quoted string".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: &str) -> Vec<Token> {
        let mut tokens: Vec<Token> =
            tokens(query).expect("tokens").into_iter().map(|(token, _)| token).collect();
        assert_eq!(tokens.pop(), Some(Token::End));
        tokens
    }

    #[test]
    fn numbers_and_durations_are_told_apart() {
        for (query, value) in
            [("1", 1.0), (".5", 0.5), ("1e3", 1e3), ("1.5e-3", 0.0015), ("0x1F", 31.0), ("017", 15.0)]
        {
            assert_eq!(kinds(query), [Token::Number(value)], "{query}");
        }
        for (query, ms) in [("5m", 300_000), ("1h30m", 5_400_000), ("10ms", 10), ("1d", 86_400_000)] {
            assert_eq!(kinds(query), [Token::Duration(ms)], "{query}");
        }
        for query in ["5x", "1h1d", "0x", "1.2.3"] {
            assert!(tokens(query).is_err(), "{query}");
        }
    }

    #[test]
    fn texts_have_escapes_undone() {
        assert_eq!(kinds(r#""a\n\"\x41\u00e9""#), [Token::Text("a\n\"Aé".to_owned())]);
        assert_eq!(kinds(r"'it\'s'"), [Token::Text("it's".to_owned())]);
        assert_eq!(kinds("`a\\n`"), [Token::Text("a\\n".to_owned())]);
        assert!(tokens("\"open").is_err());
        assert!(tokens(r#""\q""#).is_err());
    }

    #[test]
    fn a_colon_is_part_of_a_name_but_not_of_a_range() {
        assert_eq!(kinds("job:up:sum"), [Token::Word]);
        assert_eq!(kinds("x[5m:1m]").len(), 6);
        assert_eq!(kinds("x # y\n+ z").len(), 3);
    }
}
