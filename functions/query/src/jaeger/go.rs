//! Numbers, truths, durations, times and trace ids as Jaeger's Go code reads them, with its error texts.
//!
//! Source: Go `strconv` and `time`; jaeger-idl `model/v1/ids.go`; Jaeger `apiv3/http_gateway.go` `TraceIDFromString`.

use std::num::IntErrorKind;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::TraceId;
use model::time::SECOND_NS;

/// Why a text is not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScalarError {
    /// Not of the form.
    #[error("strconv.{function}: parsing {text:?}: invalid syntax")]
    Syntax {
        /// Go's name of what reads it.
        function: &'static str,
        /// The text.
        text: String,
    },
    /// Of the form, but too large.
    #[error("strconv.{function}: parsing {text:?}: value out of range")]
    Range {
        /// Go's name of what reads it.
        function: &'static str,
        /// The text.
        text: String,
    },
    /// Not a duration.
    #[error("time: invalid duration {0:?}")]
    Duration(String),
    /// A number without its unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that does not exist.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The text.
        text: String,
    },
    /// Not a time.
    #[error("parsing time {text:?} as \"2006-01-02T15:04:05.999999999Z07:00\": {what}")]
    Time {
        /// The text.
        text: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Too many digits for a trace id.
    #[error("TraceID cannot be longer than 32 hex characters: {0}")]
    TraceIdLength(String),
}

/// A whole number in decimal digits.
pub(super) fn int64(text: &str) -> Result<i64, ScalarError> {
    text.parse::<i64>().map_err(|err| int_error("ParseInt", text, *err.kind()))
}

/// A whole number in decimal digits that fits 32 bits.
pub(super) fn int32(text: &str) -> Result<i32, ScalarError> {
    text.parse::<i32>().map_err(|err| int_error("ParseInt", text, *err.kind()))
}

/// A whole number without a sign in decimal digits that fits 32 bits.
pub(super) fn uint32(text: &str) -> Result<u32, ScalarError> {
    if text.starts_with('+') {
        return Err(int_error("ParseUint", text, IntErrorKind::InvalidDigit));
    }
    text.parse::<u32>().map_err(|err| int_error("ParseUint", text, *err.kind()))
}

fn int_error(function: &'static str, text: &str, kind: IntErrorKind) -> ScalarError {
    let text = text.to_owned();
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => ScalarError::Range { function, text },
        _ => ScalarError::Syntax { function, text },
    }
}

/// A truth.
pub(super) fn boolean(text: &str) -> Result<bool, ScalarError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ScalarError::Syntax { function: "ParseBool", text: text.to_owned() }),
    }
}

/// A duration in ns from text such as `1h2m3.5s`.
pub(super) fn duration_ns(text: &str) -> Result<i64, ScalarError> {
    // Magnitudes go up to 2^63, the magnitude of the most negative number.
    const LARGEST: u64 = 1 << 63;
    let invalid = || ScalarError::Duration(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ns = match unit {
            "" => return Err(ScalarError::MissingUnit(text.to_owned())),
            "ns" => 1,
            // The micro sign and the Greek letter.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(ScalarError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }),
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut part = whole.checked_mul(unit_ns).filter(|&part| part <= LARGEST).ok_or_else(invalid)?;
        // Digits beyond the 18th are less than a nanosecond of any unit.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let digits: u64 = fraction.parse().map_err(|_| invalid())?;
            part += (digits as f64 * (unit_ns as f64 / 10f64.powi(fraction.len() as i32))) as u64;
        }
        sum = sum.checked_add(part).filter(|&sum| sum <= LARGEST).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, sum) {
        (true, _) => Ok((sum as i64).wrapping_neg()),
        (false, LARGEST) => Err(invalid()),
        (false, _) => Ok(sum as i64),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

/// A time in ns since the epoch from RFC 3339 text. A space in place of the offset's `+` is read as the plus that a
/// client forgot to escape. Times that do not fit become the first or last instant.
pub(super) fn time_ns(text: &str) -> Result<i64, ScalarError> {
    let error = |what| ScalarError::Time { text: text.to_owned(), what };
    let malformed = || error("cannot parse");
    let bytes = text.as_bytes();
    if bytes.len() < 20 {
        return Err(malformed());
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let fixed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if fixed.iter().any(|&(at, expect)| bytes[at] != expect) {
        return Err(malformed());
    }
    let field = |from, to| number(from, to).ok_or_else(malformed);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    if !(1..=12).contains(&month) {
        return Err(error("month out of range"));
    }
    if day < 1 || day > days_of_month(year, month) {
        return Err(error("day out of range"));
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(error("time of day out of range"));
    }
    let mut at = 19;
    let mut fraction_ns = 0;
    if matches!(bytes[at], b'.' | b',') {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(malformed());
        }
        let kept = digits.min(9);
        fraction_ns = field(at + 1, at + 1 + kept)? * 10i64.pow(9 - kept as u32);
        at += 1 + digits;
    }
    let offset_s = match bytes.get(at..) {
        Some(b"Z") => 0,
        Some([sign @ (b'+' | b' ' | b'-'), _, _, b':', _, _]) => {
            let (hours, minutes) = (field(at + 1, at + 3)?, field(at + 4, at + 6)?);
            if hours > 24 || minutes > 59 {
                return Err(error("time zone offset out of range"));
            }
            let offset_s = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -offset_s } else { offset_s }
        }
        _ => return Err(malformed()),
    };
    let seconds =
        days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    Ok(seconds.saturating_mul(SECOND_NS).saturating_add(fraction_ns))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years start in March here, so that a leap day ends one.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A trace id from up to 32 hex digits, or from the base64 of 8 or 16 bytes.
pub(super) fn trace_id(text: &str) -> Result<TraceId, ScalarError> {
    hex_trace_id(text).or_else(|err| base64_trace_id(text).ok_or(err))
}

fn hex_trace_id(text: &str) -> Result<TraceId, ScalarError> {
    if text.len() > 32 {
        return Err(ScalarError::TraceIdLength(text.to_owned()));
    }
    text.parse().map_err(|_| {
        // Go reads the two halves one after the other, and names the half.
        let low_from = text.len().saturating_sub(16);
        let (high, low) = text.split_at_checked(low_from).unwrap_or(("", text));
        let is_hex = |half: &str| half.bytes().all(|byte| byte.is_ascii_hexdigit());
        let half = if is_hex(high) { low } else { high };
        ScalarError::Syntax { function: "ParseUint", text: half.to_owned() }
    })
}

fn base64_trace_id(text: &str) -> Option<TraceId> {
    const ANY_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
    if text.len() > 24 {
        return None;
    }
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    let mut id = [0; 16];
    match bytes.len() {
        8 => id[8..].copy_from_slice(&bytes),
        16 => id.copy_from_slice(&bytes),
        _ => return None,
    }
    Some(TraceId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let check = |text: &str, expect: i64| assert_eq!(duration_ns(text), Ok(expect), "{text}");
        check("0", 0);
        check("-0", 0);
        check("5ns", 5);
        check("1us", 1_000);
        check("1µs", 1_000);
        check("1μs", 1_000);
        check("1.2s", 1_200_000_000);
        check("1h2m3.5s", 3_723_500_000_000);
        check("-1.5h", -5_400_000_000_000);
        check("+100ms", 100_000_000);
        check(".5s", 500_000_000);
        check("1.s", 1_000_000_000);
        check("0.000000000000000000000000001h", 0);
        check("9223372036854775807ns", i64::MAX);
        check("-9223372036854775808ns", i64::MIN);
    }

    #[test]
    fn broken_durations_say_why() {
        let check = |text: &str, expect: &str| {
            assert_eq!(duration_ns(text).expect_err(text).to_string(), expect);
        };
        check("", r#"time: invalid duration """#);
        check("-", r#"time: invalid duration "-""#);
        check("s", r#"time: invalid duration "s""#);
        check(".s", r#"time: invalid duration ".s""#);
        check("5", r#"time: missing unit in duration "5""#);
        check("1.5", r#"time: missing unit in duration "1.5""#);
        check("5d", r#"time: unknown unit "d" in duration "5d""#);
        check("1 s", r#"time: unknown unit " s" in duration "1 s""#);
        check("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#);
        check("99999999999999999999s", r#"time: invalid duration "99999999999999999999s""#);
        check("2562048h", r#"time: invalid duration "2562048h""#);
    }

    #[test]
    fn numbers_and_truths_are_gos() {
        assert_eq!(int64("-5"), Ok(-5));
        assert_eq!(
            int64("1e3").expect_err("a float").to_string(),
            r#"strconv.ParseInt: parsing "1e3": invalid syntax"#
        );
        assert_eq!(
            int32("2147483648").expect_err("too large").to_string(),
            r#"strconv.ParseInt: parsing "2147483648": value out of range"#
        );
        assert_eq!(
            uint32("-1").expect_err("negative").to_string(),
            r#"strconv.ParseUint: parsing "-1": invalid syntax"#
        );
        assert!(uint32("+1").is_err());
        assert_eq!((boolean("True"), boolean("f")), (Ok(true), Ok(false)));
        assert_eq!(
            boolean("yes").expect_err("no truth").to_string(),
            r#"strconv.ParseBool: parsing "yes": invalid syntax"#
        );
    }

    #[test]
    fn times_are_rfc_3339() {
        let check = |text: &str, expect: i64| assert_eq!(time_ns(text), Ok(expect), "{text}");
        check("1970-01-01T00:00:00Z", 0);
        check("1970-01-01T00:00:01.5Z", 1_500_000_000);
        check("2024-02-29T12:00:00.123456789Z", 1_709_208_000_123_456_789);
        check("2024-02-29T14:00:00.123456789+02:00", 1_709_208_000_123_456_789);
        // What form decoding leaves of an unescaped plus.
        check("2024-02-29T14:00:00 02:00", 1_709_208_000_000_000_000);
        check("2024-02-29T07:00:00-05:00", 1_709_208_000_000_000_000);
        check("1969-12-31T23:59:59.9999999999Z", -1);
        check("0001-01-01T00:00:00Z", i64::MIN);
        check("9999-12-31T23:59:59Z", i64::MAX);
    }

    #[test]
    fn broken_times_are_errors() {
        for bad in [
            "",
            "now",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+2:00",
            "2024-01-01T00:00:00Zé",
            "1709208000000000000000",
            "éééééééééééééééééééé",
        ] {
            assert!(time_ns(bad).is_err(), "{bad}");
        }
        assert_eq!(
            time_ns("yesterday").expect_err("no time").to_string(),
            r#"parsing time "yesterday" as "2006-01-02T15:04:05.999999999Z07:00": cannot parse"#
        );
    }

    #[test]
    fn trace_ids_are_hex_or_base64() {
        let check = |text: &str, expect: &str| {
            assert_eq!(trace_id(text).expect(text).to_string(), expect, "{text}");
        };
        check("ABCdef", "00000000000000000000000000abcdef");
        check("0102030405060708090a0b0c0d0e0f10", "0102030405060708090a0b0c0d0e0f10");
        check("AQIDBAUGBwgJCgsMDQ4PEA==", "0102030405060708090a0b0c0d0e0f10");
        check("AQIDBAUGBwgJCgsMDQ4PEA", "0102030405060708090a0b0c0d0e0f10");
        check("_____wAAAAE=", "0000000000000000ffffffff00000001");
        check("/////wAAAAE", "0000000000000000ffffffff00000001");
    }

    #[test]
    fn broken_trace_ids_say_why() {
        let check = |text: &str, expect: &str| {
            assert_eq!(trace_id(text).expect_err(text).to_string(), expect);
        };
        check("", r#"strconv.ParseUint: parsing "": invalid syntax"#);
        check("xyz", r#"strconv.ParseUint: parsing "xyz": invalid syntax"#);
        check("zz0102030405060708", r#"strconv.ParseUint: parsing "zz": invalid syntax"#);
        check("01010203040506070z", r#"strconv.ParseUint: parsing "010203040506070z": invalid syntax"#);
        let long = "a".repeat(33);
        check(&long, &format!("TraceID cannot be longer than 32 hex characters: {long}"));
        assert!(trace_id("ééééééééééé").is_err());
    }
}
