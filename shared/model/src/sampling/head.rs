//! Head sampling: the decision on each item as it arrives, as the Collector's probabilistic sampler makes it.
//!
//! what the item brings (`Arrived`) → the mode's randomness and threshold → an override by priority → kept or not,
//! and what a kept item carries from then on (`Marks`). `spans` and `logs` read and write that where each signal
//! has it. The same settings decide alike on every item of a trace, on any machine.
//! Source: Collector, processor/probabilisticsamplerprocessor/sampler_mode.go.

mod logs;
mod spans;

use std::fmt;
use std::str::FromStr;

pub use logs::{LogSampling, RandomnessSource};

use super::threshold::{Precision, Randomness, Threshold};
use crate::ids::TraceId;

/// Where the randomness comes from, and what happens to what was sampled before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A hash of seed and trace id; what was sampled before by a threshold is an error.
    #[default]
    HashSeed,
    /// The share of what arrives, whatever its probability is already.
    Proportional,
    /// The share of what there was at first: what is rarer already stays.
    Equalizing,
}

/// A text that names no [`Mode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sampling mode {0:?} is not hash_seed, proportional or equalizing")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "hash_seed" => Ok(Self::HashSeed),
            "proportional" => Ok(Self::Proportional),
            "equalizing" => Ok(Self::Equalizing),
            _ => Err(UnknownMode(text.to_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HashSeed => "hash_seed",
            Self::Proportional => "proportional",
            Self::Equalizing => "equalizing",
        })
    }
}

/// A share in percent, 0 or more; 100 and more is everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentage(f32);

/// A text that is no [`Percentage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("percentage {0:?} is not a number of 0 or more")]
pub struct PercentageError(String);

impl FromStr for Percentage {
    type Err = PercentageError;

    /// Reads a number of 32 bits: the Collector calculates with no more.
    fn from_str(text: &str) -> Result<Self, PercentageError> {
        let percent = text.parse().ok().filter(|percent: &f32| percent.is_finite() && *percent >= 0.0);
        percent.map(Self).ok_or_else(|| PercentageError(text.to_owned()))
    }
}

/// How items are sampled; by the names of the Collector's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadSampling {
    /// Where the randomness comes from.
    pub mode: Mode,
    /// The share that is kept.
    pub percentage: Percentage,
    /// Goes into the hash: equal within a tier of samplers, different between tiers.
    pub hash_seed: u32,
    /// Digits of the thresholds of the modes that do not hash.
    pub precision: Precision,
    /// Whether items are dropped, not kept, whose probability cannot be found out.
    pub fail_closed: bool,
}

impl HeadSampling {
    /// The Collector's defaults with this share.
    pub fn of(percentage: Percentage) -> Self {
        Self {
            mode: Mode::default(),
            percentage,
            hash_seed: 0,
            precision: Precision::default(),
            fail_closed: true,
        }
    }
}

/// How many items a sampler dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampledOut {
    /// Items that were dropped, for whatever reason.
    pub n_dropped: u64,
    /// Items whose probability could not be found out, dropped or kept as [`HeadSampling::fail_closed`] says.
    pub n_errors: u64,
}

/// Decides on items, always alike.
#[derive(Debug, Clone)]
pub struct HeadSampler {
    rule: Rule,
    precision: Precision,
    fail_closed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Never,
    Hash { seed: u32, threshold: Threshold },
    Equalizing { threshold: Threshold },
    Proportional { ratio: f64, precision: Precision },
}

/// What an item says of its sampling so far; `Err` where it says something that cannot be read.
type Arrived = Result<Known, ItemError>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    randomness: Option<Randomness>,
    threshold: Option<Threshold>,
}

/// Why an item's probability cannot be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ItemError {
    /// What it carries cannot be read.
    Unreadable,
    /// It was sampled by thresholds before, which a hash of its id has no part in.
    InUse,
    /// Nothing to take randomness from.
    MissingRandomness,
    /// Its randomness does not reach its threshold: it should not be there.
    Inconsistent,
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decision {
    is_kept: bool,
    is_error: bool,
    /// What it carries if it is kept; `None` leaves alone what it has.
    marks: Option<Marks>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    /// The randomness that has to be written down because it is not that of the trace's id.
    randomness: Option<Randomness>,
    threshold: Threshold,
}

impl HeadSampler {
    /// A sampler with these settings.
    pub fn new(settings: &HeadSampling) -> Self {
        let percent = settings.percentage.0.min(100.0);
        let ratio = (f64::from(percent) / 100.0).max(2f64.powi(-56));
        let precision = settings.precision;
        // In 32 bits and towards zero, as the first versions of the Collector calculated it.
        let n_buckets = (percent * (N_BUCKETS as f32 / 100.0)) as u32;
        let rule = match settings.mode {
            _ if percent == 0.0 => Rule::Never,
            Mode::HashSeed if n_buckets == 0 => Rule::Never,
            Mode::HashSeed => Rule::Hash {
                seed: settings.hash_seed,
                threshold: Threshold::from_bits(u64::from(N_BUCKETS - n_buckets) << BUCKET_SHIFT),
            },
            Mode::Equalizing => Rule::Equalizing {
                threshold: Threshold::of_probability(ratio, precision).unwrap_or(Threshold::NEVER),
            },
            Mode::Proportional => Rule::Proportional { ratio, precision },
        };
        Self { rule, precision, fail_closed: settings.fail_closed }
    }

    /// The decision on one item. `hashed` is what a hash is made of; `priority` is the threshold that the item asks for.
    fn decide(
        &self,
        arrived: Arrived,
        trace_id: TraceId,
        hashed: Option<&[u8]>,
        priority: Option<Threshold>,
    ) -> Decision {
        let (randomness, outcome) = match self.rule {
            Rule::Never => (Some(Randomness::MAX), arrived),
            Rule::Hash { seed, .. } => {
                let randomness = hashed.map(|bytes| hash_randomness(bytes, seed));
                let is_in_use = |known: &Known| known.randomness.is_some() || known.threshold.is_some();
                let outcome = match arrived {
                    Ok(known) if is_in_use(&known) => Err(ItemError::InUse),
                    other => other,
                };
                (randomness, outcome)
            }
            Rule::Equalizing { .. } | Rule::Proportional { .. } => {
                let of_trace = (!trace_id.is_zero()).then(|| Randomness::of_trace(trace_id));
                (arrived.ok().and_then(|known| known.randomness).or(of_trace), arrived)
            }
        };
        let outcome = outcome.and_then(|known| match (randomness, known.threshold) {
            (None, _) => Err(ItemError::MissingRandomness),
            (Some(randomness), Some(threshold)) if !threshold.keeps(randomness) => {
                Err(ItemError::Inconsistent)
            }
            _ => Ok(known),
        });
        let usual = match outcome {
            Ok(known) => self.threshold(known.threshold),
            Err(_) if self.fail_closed => Threshold::NEVER,
            Err(_) => Threshold::ALWAYS,
        };
        let threshold = priority.unwrap_or(usual);
        let new_randomness = if let Rule::Hash { .. } = self.rule { randomness } else { None };
        // A threshold is never lowered, except one that was a lie.
        let marks = match outcome {
            Ok(known) => Some(known.threshold.map_or(threshold, |before| before.max(threshold))),
            Err(ItemError::Unreadable | ItemError::InUse) => None,
            Err(ItemError::MissingRandomness | ItemError::Inconsistent) => Some(threshold),
        };
        Decision {
            is_kept: threshold.keeps(randomness.unwrap_or(Randomness::MAX)),
            is_error: outcome.is_err(),
            marks: marks.map(|threshold| Marks { randomness: new_randomness, threshold }),
        }
    }

    /// The threshold for an item that was sampled with `before` already.
    fn threshold(&self, before: Option<Threshold>) -> Threshold {
        match self.rule {
            Rule::Never => Threshold::NEVER,
            Rule::Hash { threshold, .. } => threshold,
            Rule::Equalizing { threshold } => before.map_or(threshold, |before| before.max(threshold)),
            Rule::Proportional { ratio, precision } => {
                let probability = ratio * before.map_or(1.0, Threshold::probability);
                Threshold::of_probability(probability, precision).unwrap_or(Threshold::NEVER)
            }
        }
    }
}

/// Buckets of the hash: 14 bits of it decide.
const N_BUCKETS: u32 = 1 << 14;
/// Where the decisive bits stand among the 56 of randomness.
const BUCKET_SHIFT: u32 = 42;

/// Randomness whose upper 14 bits are the inverted bucket of the hash, so that "not below the threshold" says the same
/// as the Collector's first versions did with "bucket below a count"; below them the hash's upper 14 bits, twice, and
/// the bucket. Source: sampler_mode.go `randomnessFromBytes`.
fn hash_randomness(bytes: &[u8], seed: u32) -> Randomness {
    let hash = fnv1a(bytes, fnv1a(&seed.to_le_bytes(), FNV_OFFSET));
    let bucket = u64::from(hash % N_BUCKETS);
    let upper = u64::from(hash >> 18);
    let mixed = upper ^ (upper << 10);
    Randomness::from_bits(((u64::from(N_BUCKETS) - 1 - bucket) << BUCKET_SHIFT) | (mixed << 14) | bucket)
}

/// FNV-1a of 32 bits before the first byte.
const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a of 32 bits, from `hash` on.
fn fnv1a(bytes: &[u8], hash: u32) -> u32 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TraceId {
        text.parse().expect("an id")
    }

    /// Calculated apart from this code by the rules of the Collector's fnvhasher.go and sampler_mode.go.
    #[test]
    fn hashes_are_those_of_the_collector() {
        let check = |seed: u32, trace_id: &str, hash: u32, bucket: u64, randomness: &str| {
            let bytes = id(trace_id).0;
            assert_eq!(fnv1a(&bytes, fnv1a(&seed.to_le_bytes(), FNV_OFFSET)), hash);
            assert_eq!(u64::from(hash % N_BUCKETS), bucket);
            assert_eq!(hash_randomness(&bytes, seed).to_string(), randomness);
        };
        check(0, "00000000000000000000000000000000", 0xb9fe_e455, 9301, "6ea82e749fe455");
        check(0, "0102030405060708090a0b0c0d0e0f10", 0xdf24_1a25, 6693, "976837c4f25a25");
        check(22, "0102030405060708090a0b0c0d0e0f10", 0xd863_b443, 13379, "2ef03615863443");
        check(22, "4bf92f3577b34da6a3ce929d0e0e4736", 0x5610_306b, 12395, "3e50158161306b");
    }

    /// Calculated apart from this code by the rule of sampler_mode.go; some are of tracesprocessor_test.go.
    #[test]
    fn percentages_become_thresholds_of_fourteen_bits() {
        let check = |percentage: &str, expect: &str| {
            let settings = HeadSampling::of(percentage.parse().expect("a percentage"));
            let sampler = HeadSampler::new(&settings);
            assert_eq!(sampler.threshold(None).to_string(), expect, "{percentage}");
        };
        for (percentage, expect) in [
            ("0.1", "ffc"),
            ("1", "fd74"),
            ("5", "f334"),
            ("10", "e668"),
            ("15", "d99c"),
            ("25", "c"),
            ("33.3", "aac4"),
            ("33.333333", "aaac"),
            ("50", "8"),
            ("75", "4"),
            ("90", "199c"),
            ("99.9", "0044"),
            ("100", "0"),
            ("200", "0"),
            ("0.006", "never"),
            ("0", "never"),
        ] {
            check(percentage, expect);
        }
        for bad in ["", "-1", "NaN", "inf", "10%"] {
            assert!(bad.parse::<Percentage>().is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_have_the_names_of_the_collector() {
        for mode in [Mode::HashSeed, Mode::Proportional, Mode::Equalizing] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "hash".parse::<Mode>().expect_err("no mode").to_string();
        assert!(error.contains("\"hash\"") && error.contains("equalizing"), "{error}");
    }
}
