//! Randomness and thresholds: an item is kept if its randomness is not below the threshold.
//!
//! Both are numbers of 56 bits; a threshold T keeps the share (2^56 - T) / 2^56 of all items.
//! Source: OpenTelemetry specification, "TraceState: Probability Sampling".

use std::fmt;
use std::str::FromStr;

use crate::ids::TraceId;

/// How many randomnesses there are: 2^56.
const N_VALUES: u64 = 1 << 56;
/// Hex digits of 56 bits.
const N_DIGITS: u8 = 14;

/// The randomness of an item, 56 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Randomness(u64);

impl Randomness {
    /// What any threshold keeps but [`Threshold::NEVER`].
    pub const MAX: Self = Self(N_VALUES - 1);

    /// The lowest 56 bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & (N_VALUES - 1))
    }

    /// The last seven bytes of a trace's id, which are random where the SDK follows W3C Trace Context level 2.
    pub fn of_trace(id: TraceId) -> Self {
        Self::from_bits(u128::from_be_bytes(id.0) as u64)
    }

    /// The randomness that the value of `rv` says: exactly 14 hex digits, of any case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == usize::from(N_DIGITS) { parse_hex(text).map(Self) } else { None }
    }
}

impl fmt::Display for Randomness {
    /// The value of `rv`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014x}", self.0)
    }
}

/// What randomness has to reach, 0 to 2^56; a greater threshold keeps less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u64);

impl Threshold {
    /// Keeps all.
    pub const ALWAYS: Self = Self(0);
    /// Keeps nothing; has no text.
    pub const NEVER: Self = Self(N_VALUES);

    /// The threshold with these bits, [`Threshold::NEVER`] for all above it.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits.min(N_VALUES))
    }

    /// The threshold that keeps `probability`, rounded to `precision`; `None` for less than 2^-56, more than 1 and NaN.
    ///
    /// Digits `f` and `0` at the front do not count: they say only how near to an end the probability is.
    /// Source: Collector, pkg/sampling/probability.go `ProbabilityToThresholdWithPrecision`.
    pub fn of_probability(probability: f64, precision: Precision) -> Option<Self> {
        if !(1.0 / N_VALUES as f64..=1.0).contains(&probability) {
            return None;
        }
        if probability >= 1.0 {
            return Some(Self::ALWAYS);
        }
        let n_leading = leading_hex_zeros(probability).max(leading_hex_zeros(1.0 - probability));
        let n_digits = (precision.0 + n_leading).min(N_DIGITS);
        let mut bits = N_VALUES - (probability * N_VALUES as f64).round() as u64;
        let shift = 4 * (N_DIGITS - n_digits);
        if shift > 0 {
            bits = ((bits + (1 << (shift - 1))) >> shift) << shift;
        }
        Some(Self(bits))
    }

    /// Whether what has this randomness is kept.
    pub fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }

    /// The share of all items that is kept.
    pub fn probability(self) -> f64 {
        (N_VALUES - self.0) as f64 / N_VALUES as f64
    }

    /// How many items stand behind one that was kept; infinite for [`Threshold::NEVER`], which nothing kept has.
    pub fn adjusted_count(self) -> f64 {
        N_VALUES as f64 / (N_VALUES - self.0) as f64
    }

    /// The threshold that the value of `th` says: 1 to 14 hex digits of any case, zeros at the end left out.
    pub fn parse(text: &str) -> Option<Self> {
        let n_missing = usize::from(N_DIGITS).checked_sub(text.len())?;
        if text.is_empty() { None } else { Some(Self(parse_hex(text)? << (4 * n_missing))) }
    }
}

impl fmt::Display for Threshold {
    /// The value of `th`; `never` for [`Threshold::NEVER`], which is nowhere written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALWAYS => f.write_str("0"),
            Self::NEVER => f.write_str("never"),
            Self(bits) => f.write_str(format!("{bits:014x}").trim_end_matches('0')),
        }
    }
}

/// Significant hex digits of a threshold, 1 to 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision(u8);

impl Precision {
    /// All digits there are.
    pub const FULL: Self = Self(N_DIGITS);
}

impl Default for Precision {
    /// Four digits, as in the Collector.
    fn default() -> Self {
        Self(4)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text or number that is no [`Precision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("precision must be 1 to 14 hex digits")]
pub struct PrecisionError;

impl TryFrom<u8> for Precision {
    type Error = PrecisionError;

    fn try_from(n_digits: u8) -> Result<Self, PrecisionError> {
        if (1..=N_DIGITS).contains(&n_digits) { Ok(Self(n_digits)) } else { Err(PrecisionError) }
    }
}

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(text: &str) -> Result<Self, PrecisionError> {
        text.parse::<u8>().map_err(|_| PrecisionError)?.try_into()
    }
}

/// Zeros behind the point of a number up to 1 as a hex fraction.
fn leading_hex_zeros(value: f64) -> u8 {
    // The value lies in [2^-(n+1), 2^-n), or is 1.
    let n = 1022u64.saturating_sub(value.to_bits() >> 52);
    (n / 4) as u8
}

/// Up to 16 hex digits and nothing else: no sign, no underscore.
fn parse_hex(text: &str) -> Option<u64> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn threshold(probability: f64, n_digits: u8) -> String {
        let precision = Precision::try_from(n_digits).expect("a precision");
        Threshold::of_probability(probability, precision).expect("a probability").to_string()
    }

    /// Source: Collector, pkg/sampling/encoding_test.go.
    #[test]
    fn probabilities_become_thresholds() {
        let check = |probability: f64, expect: &str| {
            assert_eq!(threshold(probability, 14), expect, "{probability}");
        };
        check(1.0, "0");
        check(0.5, "8");
        check(2f64.powi(-56), "ffffffffffffff");
        check(2f64.powi(-48), "ffffffffffff");
        check(1.0 - 2f64.powi(-52), "0000000000001");
        check(1.0 / 3.0, "aaaaaaaaaaaaac");
        check(2.0 / 3.0, "55555555555558");
        check(1.0 - 84.0 / 256.0, "54");
        check(1.0 - 1.0 / 256.0, "01");
        for none in [0.0, -0.5, 2f64.powi(-57), 1.1, f64::NAN] {
            assert_eq!(Threshold::of_probability(none, Precision::FULL), None, "{none}");
        }
    }

    /// Source: Collector, pkg/sampling/encoding_test.go and tracesprocessor_test.go.
    #[test]
    fn thresholds_are_rounded_to_their_precision() {
        let check = |bits: u64, n_bits: i32, rounded: &[&str]| {
            let probability = 1.0 - bits as f64 / 2f64.powi(n_bits);
            for expect in rounded {
                let n_digits = expect.trim_start_matches('0').len() as u8;
                assert_eq!(threshold(probability, n_digits), *expect);
            }
        };
        check(0x0456_789a, 28, &["45678a", "45679", "4568", "456", "45", "4"]);
        check(0x0456_789a, 40, &["00045678a", "00045679", "0004568", "000456", "00045", "0004"]);
        check(
            0x07_89ab_cdef,
            40,
            &["0789abcdf", "0789abce", "0789abd", "0789ac", "0789b", "078a", "079", "08"],
        );
        check(0x1234_5678, 32, &["1234568", "123456", "12345", "1234", "123", "12", "1"]);
        assert_eq!([threshold(0.01, 3), threshold(0.01, 4)], ["fd71", "fd70a"]);
        assert_eq!([threshold(0.4, 3), threshold(0.4, 6)], ["99a", "99999a"]);
        assert_eq!([threshold(0.1, 4), threshold(1e-6, 4)], ["e666", "ffffef39"]);
    }

    #[test]
    fn texts_are_read_strictly() {
        for (text, expect) in [("0", 1.0), ("8", 2.0), ("80000000000000", 2.0), ("C", 4.0), ("c0", 4.0)] {
            assert_eq!(Threshold::parse(text).map(Threshold::adjusted_count), Some(expect), "{text}");
        }
        for bad in ["", "g", "-1", "+1", "0_1", "abababababababab", "800000000000000"] {
            assert_eq!(Threshold::parse(bad), None, "{bad}");
        }
        for bad in ["", "1234123412341", "123412341234120", "abcdefgabcdefg", "+2341234123412"] {
            assert_eq!(Randomness::parse(bad), None, "{bad}");
        }
        assert!("0".parse::<Precision>().is_err() && "15".parse::<Precision>().is_err());
    }

    #[test]
    fn the_last_seven_bytes_of_a_trace_decide() {
        let half = Threshold::parse("8").expect("a threshold");
        for (id, is_kept) in [
            ("eeeeeeeeeeeeeeeeee00000000000000", false),
            ("eeeeeeeeeeeeeeeeee7fffffffffffff", false),
            ("eeeeeeeeeeeeeeeeee80000000000000", true),
            ("000000000000000000ffffffffffffff", true),
        ] {
            assert_eq!(half.keeps(Randomness::of_trace(id.parse().expect("an id"))), is_kept, "{id}");
        }
        assert!(
            Threshold::ALWAYS.keeps(Randomness::from_bits(0)) && !Threshold::NEVER.keeps(Randomness::MAX)
        );
    }

    proptest! {
        #[test]
        fn texts_give_back_their_numbers(bits in 0..N_VALUES, n_zeros in 0u32..56) {
            let randomness = Randomness::from_bits(bits);
            prop_assert_eq!(Randomness::parse(&randomness.to_string()), Some(randomness));
            let threshold = Threshold::from_bits(bits >> n_zeros << n_zeros);
            prop_assert_eq!(Threshold::parse(&threshold.to_string()), Some(threshold));
        }

        #[test]
        fn rounding_moves_a_probability_by_its_last_digit_at_most(
            exponent in -50f64..0.0,
            n_digits in 1u8..=14,
        ) {
            let probability = exponent.exp2();
            let precision = Precision::try_from(n_digits).expect("a precision");
            let threshold = Threshold::of_probability(probability, precision).expect("in range");
            prop_assert!(threshold < Threshold::NEVER);
            let error = (threshold.probability() - probability).abs();
            let digit = 16f64.powi(-i32::from(n_digits) - i32::from(leading_hex_zeros(probability)));
            prop_assert!(error <= digit / 2.0 + 2f64.powi(-56), "{threshold} {error} {digit}");
        }
    }
}
