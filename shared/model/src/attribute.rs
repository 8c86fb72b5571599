//! The value of an attribute, and its lossless JSON text.
//!
//! Attributes of resources, scopes, events and links, and the nested values of spans, are stored as JSON so that any
//! engine can read them. Plain JSON would lose the difference between `1` and `1.0`, bytes, and numbers that are not
//! finite, so the text follows these rules, and reading it gives back exactly what was written, in the same order:
//!
//! | value | text |
//! |---|---|
//! | no value | `null` |
//! | string, bool | as in JSON |
//! | int64 | digits only: `-5` |
//! | double | always with `.` or `e`: `1.0`, `1e300` |
//! | double, not finite | `{"$double":"NaN"}`, `"Infinity"`, `"-Infinity"`, or 16 hex digits for another NaN |
//! | bytes | `{"$bytes":"<base64>"}` |
//! | array | `[…]` |
//! | map | `{…}`, repeated keys kept; a key that starts with `$` gets one more `$` in front |

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The deepest nesting that [`parse`] follows.
pub const MAX_DEPTH: usize = 256;

/// The value of an attribute, as in OTLP.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyValue {
    /// No value was given.
    Empty,
    /// Text.
    String(String),
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    Array(Vec<AnyValue>),
    /// Keys and values in order; keys may repeat.
    Map(Attributes),
}

/// Keys and values in the order in which they came; keys may repeat.
pub type Attributes = Vec<(String, AnyValue)>;

/// Why a text is not the JSON of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid attribute json at byte {at}: {what}")]
pub struct ParseError {
    /// Byte offset.
    pub at: usize,
    /// What was expected or found.
    pub what: &'static str,
}

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[clean_from..at]);
        clean_from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => write!(out, "\\u{control:04x}").expect("invariant: writing to a string succeeds"),
        }
    }
    out.push_str(&text[clean_from..]);
    out.push('"');
}

/// Appends a key and its colon; a leading `$` is doubled.
pub fn write_key(out: &mut String, key: &str) {
    if key.starts_with('$') {
        let mut escaped = String::with_capacity(key.len() + 1);
        escaped.push('$');
        escaped.push_str(key);
        write_string(out, &escaped);
    } else {
        write_string(out, key);
    }
    out.push(':');
}

/// Appends a whole number.
pub fn write_int(out: &mut String, value: i64) {
    write!(out, "{value}").expect("invariant: writing to a string succeeds");
}

/// Appends a floating-point number, recognisable as one and exact to the bit.
pub fn write_double(out: &mut String, value: f64) {
    let written = if value.is_finite() {
        write!(out, "{value:?}")
    } else if value.is_infinite() {
        write!(out, "{{\"$double\":\"{}Infinity\"}}", if value < 0.0 { "-" } else { "" })
    } else if value.to_bits() == f64::NAN.to_bits() {
        write!(out, "{{\"$double\":\"NaN\"}}")
    } else {
        write!(out, "{{\"$double\":\"{:016x}\"}}", value.to_bits())
    };
    written.expect("invariant: writing to a string succeeds");
}

/// Appends bytes.
pub fn write_bytes(out: &mut String, value: &[u8]) {
    out.push_str("{\"$bytes\":\"");
    BASE64.encode_string(value, out);
    out.push_str("\"}");
}

/// Appends any value.
pub fn write_value(out: &mut String, value: &AnyValue) {
    match value {
        AnyValue::Empty => out.push_str("null"),
        AnyValue::String(text) => write_string(out, text),
        AnyValue::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        AnyValue::Int(number) => write_int(out, *number),
        AnyValue::Double(number) => write_double(out, *number),
        AnyValue::Bytes(bytes) => write_bytes(out, bytes),
        AnyValue::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, value);
            }
            out.push(']');
        }
        AnyValue::Map(entries) => write_map(out, entries),
    }
}

/// Appends keys and values as an object.
pub fn write_map(out: &mut String, entries: &[(String, AnyValue)]) {
    out.push('{');
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_key(out, key);
        write_value(out, value);
    }
    out.push('}');
}

/// The value that `text` was written from.
///
/// # Errors
/// Anything that [`write_value`] does not write, JSON or not.
pub fn parse(text: &str) -> Result<AnyValue, ParseError> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    if parser.at == text.len() { Ok(value) } else { Err(parser.error("end expected")) }
}

/// The keys and values that `text` was written from; an empty text has none.
///
/// # Errors
/// As [`parse`], and a value that is not a map.
pub fn parse_map(text: &str) -> Result<Attributes, ParseError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    match parse(text)? {
        AnyValue::Map(entries) => Ok(entries),
        _ => Err(ParseError { at: 0, what: "map expected" }),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> ParseError {
        ParseError { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, literal: &str) -> bool {
        let found = self.text[self.at..].starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    fn expect(&mut self, literal: &'static str) -> Result<(), ParseError> {
        if self.take(literal) { Ok(()) } else { Err(self.error(literal)) }
    }

    fn value(&mut self, depth: usize) -> Result<AnyValue, ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deep"));
        }
        match self.peek() {
            Some(b'"') => Ok(AnyValue::String(self.string()?)),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.expect("true").map(|()| AnyValue::Bool(true)),
            Some(b'f') => self.expect("false").map(|()| AnyValue::Bool(false)),
            Some(b'n') => self.expect("null").map(|()| AnyValue::Empty),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Result<AnyValue, ParseError> {
        let rest = &self.text[self.at..];
        let is_number = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        let length = rest.bytes().position(|byte| !is_number(byte)).unwrap_or(rest.len());
        let digits = &rest[..length];
        let value = if digits.contains(['.', 'e', 'E']) {
            digits.parse().ok().map(AnyValue::Double)
        } else {
            digits.parse().ok().map(AnyValue::Int)
        };
        let value = value.ok_or_else(|| self.error("value expected"))?;
        self.at += length;
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<AnyValue, ParseError> {
        self.expect("[")?;
        let mut values = Vec::new();
        while !self.take("]") {
            if !values.is_empty() {
                self.expect(",")?;
            }
            values.push(self.value(depth + 1)?);
        }
        Ok(AnyValue::Array(values))
    }

    fn object(&mut self, depth: usize) -> Result<AnyValue, ParseError> {
        self.expect("{")?;
        let mut entries = Attributes::new();
        while !self.take("}") {
            if !entries.is_empty() {
                self.expect(",")?;
            }
            let key = self.string()?;
            self.expect(":")?;
            if !key.starts_with('$') {
                entries.push((key, self.value(depth + 1)?));
            } else if let Some(escaped) = key.strip_prefix("$$") {
                entries.push((format!("${escaped}"), self.value(depth + 1)?));
            } else {
                let special = self.special(&key)?;
                self.expect("}")?;
                return if entries.is_empty() { Ok(special) } else { Err(self.error("mixed special key")) };
            }
        }
        Ok(AnyValue::Map(entries))
    }

    fn special(&mut self, key: &str) -> Result<AnyValue, ParseError> {
        let text = self.string()?;
        match (key, text.as_str()) {
            ("$bytes", _) => {
                BASE64.decode(&text).map(AnyValue::Bytes).map_err(|_| self.error("base64 expected"))
            }
            ("$double", "NaN") => Ok(AnyValue::Double(f64::NAN)),
            ("$double", "Infinity") => Ok(AnyValue::Double(f64::INFINITY)),
            ("$double", "-Infinity") => Ok(AnyValue::Double(f64::NEG_INFINITY)),
            ("$double", bits) => u64::from_str_radix(bits, 16)
                .map(|bits| AnyValue::Double(f64::from_bits(bits)))
                .map_err(|_| self.error("bits of a double expected")),
            _ => Err(self.error("unknown special key")),
        }
    }

    fn string(&mut self) -> Result<String, ParseError> {
        self.expect("\"")?;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let stop = rest.find(['"', '\\']).ok_or_else(|| self.error("unclosed string"))?;
            out.push_str(&rest[..stop]);
            self.at += stop;
            if self.take("\"") {
                return Ok(out);
            }
            out.push(self.escape()?);
        }
    }

    /// One escape; surrogate pairs are never written and not read.
    fn escape(&mut self) -> Result<char, ParseError> {
        self.expect("\\")?;
        let kind = self.peek().ok_or_else(|| self.error("escape expected"))?;
        let simple = match kind {
            b'"' | b'\\' | b'/' => Some(kind as char),
            b'n' => Some('\n'),
            b'r' => Some('\r'),
            b't' => Some('\t'),
            b'u' => None,
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 1;
        if let Some(simple) = simple {
            return Ok(simple);
        }
        let digits =
            self.text.get(self.at..self.at + 4).ok_or_else(|| self.error("four hex digits expected"))?;
        let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        let code = code.ok_or_else(|| self.error("four hex digits expected"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Equality that tells NaNs by their bits.
    fn same(a: &AnyValue, b: &AnyValue) -> bool {
        match (a, b) {
            (AnyValue::Double(a), AnyValue::Double(b)) => a.to_bits() == b.to_bits(),
            (AnyValue::Array(a), AnyValue::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (AnyValue::Map(a), AnyValue::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
            }
            _ => a == b,
        }
    }

    fn any_value() -> impl Strategy<Value = AnyValue> {
        let text =
            prop_oneof![any::<String>(), "\\$?\\$?[a-z\"\\\\\n\u{1}é]{0,6}", Just("$bytes".to_owned())];
        let leaf = prop_oneof![
            Just(AnyValue::Empty),
            text.clone().prop_map(AnyValue::String),
            any::<bool>().prop_map(AnyValue::Bool),
            any::<i64>().prop_map(AnyValue::Int),
            any::<u64>().prop_map(|bits| AnyValue::Double(f64::from_bits(bits))),
            (-5i32..5).prop_map(|whole| AnyValue::Double(f64::from(whole))),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(AnyValue::Bytes),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(AnyValue::Array),
                proptest::collection::vec((text.clone(), inner), 0..5).prop_map(AnyValue::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_text_gives_back_the_value(value in any_value()) {
            let mut text = String::new();
            write_value(&mut text, &value);
            let read = parse(&text).expect(&text);
            prop_assert!(same(&read, &value), "{text}: {read:?} != {value:?}");
        }

        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn every_kind_of_value_has_its_documented_text() {
        let check = |value: AnyValue, expect: &str| {
            let mut text = String::new();
            write_value(&mut text, &value);
            assert_eq!(text, expect);
        };
        check(AnyValue::Empty, "null");
        check(AnyValue::Int(-5), "-5");
        check(AnyValue::Double(1.0), "1.0");
        check(AnyValue::Double(-0.0), "-0.0");
        check(AnyValue::Double(1e300), "1e300");
        check(AnyValue::Double(f64::NAN), r#"{"$double":"NaN"}"#);
        check(AnyValue::Double(f64::NEG_INFINITY), r#"{"$double":"-Infinity"}"#);
        check(AnyValue::Double(f64::from_bits(0x7ff0_0000_0000_0002)), r#"{"$double":"7ff0000000000002"}"#);
        check(AnyValue::Bytes(vec![0, 255]), r#"{"$bytes":"AP8="}"#);
        check(
            AnyValue::Map(vec![("$bytes".to_owned(), AnyValue::Array(vec![AnyValue::Bool(true)]))]),
            r#"{"$$bytes":[true]}"#,
        );
        check(AnyValue::String("a\"\\\n\u{1}é".to_owned()), r#""a\"\\\n\u0001é""#);
    }

    #[test]
    fn hostile_text_is_an_error() {
        let deep = "[".repeat(100_000);
        for bad in ["", "{", "[1", "nul", "1.2.3", "\"a", r#"{"$x":"y"}"#, r#""\ud800""#, deep.as_str()] {
            assert!(parse(bad).is_err(), "{bad:.20}");
        }
    }
}
