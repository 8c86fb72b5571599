//! A policy as text: `errors;slow=2s;rare=50;attribute=debug=true;attribute=payment.id;rest=10%;after=6h`.
//!
//! Parts are separated by `;` and may stand in any order; that of the rules is that of the reasons. `rest` and `after`
//! have no default: what is dropped, and when, has to be said.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Keep, Policy};

const PARTS: &str = "errors, slow=2s, rare=50, attribute=key, attribute=key=value, rest=10% and after=6h";
const A_DURATION: &str = "a duration such as 500ms, 2s or 1h30m";
const A_COUNT: &str = "a number of spans above 0";
const A_PERCENTAGE: &str = "a percentage from 0% to 100%";
const AN_ATTRIBUTE: &str = "a key without '=' or key=value, neither with ';' or with white space around it";

/// Why a text or a value is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A part has a name that is none.
    #[error("unknown part {0:?} of a sampling policy; there are {PARTS}")]
    Unknown(String),
    /// A part has a value that is not of its kind.
    #[error("invalid part {part:?} of a sampling policy: {name} takes {takes}")]
    Invalid {
        /// The part.
        part: String,
        /// Its name.
        name: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// A part that can stand there once does so twice.
    #[error("part {0:?} of a sampling policy comes twice")]
    Repeated(String),
    /// A part without a default is not there.
    #[error("a sampling policy needs {0}")]
    Missing(&'static str),
}

impl Policy {
    /// Whether the policy can be followed, and be read again from its text.
    ///
    /// # Errors
    /// A value is out of its range.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let check = |is_fine: bool, part: &dyn fmt::Display, name, takes| {
            if is_fine { Ok(()) } else { Err(PolicyError::Invalid { part: part.to_string(), name, takes }) }
        };
        let percent = self.rest_percent;
        check((0.0..=100.0).contains(&percent), &format_args!("rest={percent}%"), "rest", A_PERCENTAGE)?;
        for rule in &self.keep {
            match rule {
                Keep::Errors => {}
                Keep::Slow { at_least } => {
                    check(!at_least.is_zero(), rule, "slow", "a duration above 0")?;
                }
                Keep::Rare { fewer_than } => check(*fewer_than > 0, rule, "rare", A_COUNT)?,
                Keep::Attribute { key, value } => {
                    let is_plain = |text: &str| !text.contains(';') && text.trim() == text;
                    let is_key = !key.is_empty() && !key.contains('=') && is_plain(key);
                    let is_value = value.as_deref().is_none_or(is_plain);
                    check(is_key && is_value, rule, "attribute", AN_ATTRIBUTE)?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (mut keep, mut rest_percent, mut after) = (Vec::new(), None, None);
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
            let invalid = |name, takes| PolicyError::Invalid { part: part.to_owned(), name, takes };
            let is_repeated = match name {
                "errors" => keep.contains(&Keep::Errors),
                "slow" => keep.iter().any(|rule| matches!(rule, Keep::Slow { .. })),
                "rare" => keep.iter().any(|rule| matches!(rule, Keep::Rare { .. })),
                "rest" => rest_percent.is_some(),
                "after" => after.is_some(),
                _ => false,
            };
            if is_repeated {
                return Err(PolicyError::Repeated(part.to_owned()));
            }
            match name {
                "errors" if value.is_none() => keep.push(Keep::Errors),
                "errors" => return Err(invalid("errors", "no value")),
                "slow" => {
                    let at_least = value.and_then(parse_duration);
                    keep.push(Keep::Slow { at_least: at_least.ok_or_else(|| invalid("slow", A_DURATION))? });
                }
                "rare" => {
                    let fewer_than = value.and_then(|value| value.parse().ok());
                    keep.push(Keep::Rare { fewer_than: fewer_than.ok_or_else(|| invalid("rare", A_COUNT))? });
                }
                "attribute" => {
                    let value = value.ok_or_else(|| invalid("attribute", AN_ATTRIBUTE))?;
                    let (key, value) =
                        value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
                    keep.push(Keep::Attribute { key: key.to_owned(), value: value.map(str::to_owned) });
                }
                "rest" => {
                    let percent = value.and_then(|value| value.strip_suffix('%')?.parse::<f64>().ok());
                    rest_percent = Some(percent.ok_or_else(|| invalid("rest", A_PERCENTAGE))?);
                }
                "after" => {
                    let duration = value.and_then(parse_duration);
                    after = Some(duration.ok_or_else(|| invalid("after", A_DURATION))?);
                }
                _ => return Err(PolicyError::Unknown(part.to_owned())),
            }
        }
        let policy = Self {
            keep,
            rest_percent: rest_percent
                .ok_or(PolicyError::Missing("rest=…%, the share of all other traces that is kept"))?,
            after: after.ok_or(PolicyError::Missing("after=…, the age from which traces are thinned"))?,
        };
        policy.validate()?;
        Ok(policy)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.keep {
            write!(f, "{rule};")?;
        }
        write!(f, "rest={}%;after={}", self.rest_percent, DurationText(self.after))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors => f.write_str("errors"),
            Self::Slow { at_least } => write!(f, "slow={}", DurationText(*at_least)),
            Self::Rare { fewer_than } => write!(f, "rare={fewer_than}"),
            Self::Attribute { key, value: None } => write!(f, "attribute={key}"),
            Self::Attribute { key, value: Some(value) } => write!(f, "attribute={key}={value}"),
        }
    }
}

/// Units of durations in ns, the longest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Whole numbers with units, one after the other: `1h30m`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut total_ns = 0u128;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total_ns =
            total_ns.checked_add(number.parse::<u64>().ok().map(u128::from)?.checked_mul(*unit_ns)?)?;
        rest = behind;
    }
    let seconds = u64::try_from(total_ns / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (total_ns % 1_000_000_000) as u32))
}

/// Writes a duration in the form that is read.
struct DurationText(Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ns = self.0.as_nanos();
        if rest_ns == 0 {
            return f.write_str("0s");
        }
        for (unit, unit_ns) in UNITS {
            if rest_ns >= unit_ns {
                write!(f, "{}{unit}", rest_ns / unit_ns)?;
                rest_ns %= unit_ns;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_is_read() {
        let text = "errors;slow=2s;rare=50;attribute=debug=true;attribute=payment.id;rest=10%;after=6h";
        let attribute = |key: &str, value: Option<&str>| Keep::Attribute {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        let expected = Policy {
            keep: vec![
                Keep::Errors,
                Keep::Slow { at_least: Duration::from_secs(2) },
                Keep::Rare { fewer_than: 50 },
                attribute("debug", Some("true")),
                attribute("payment.id", None),
            ],
            rest_percent: 10.0,
            after: Duration::from_hours(6),
        };
        assert_eq!(text.parse().as_ref(), Ok(&expected));
        assert_eq!(expected.to_string(), text);
        let spaced = " after=1d12h ; rest=0.5% ; attribute=a==b=c; slow=1s500ms;";
        let expected = Policy {
            keep: vec![attribute("a", Some("=b=c")), Keep::Slow { at_least: Duration::from_millis(1500) }],
            rest_percent: 0.5,
            after: Duration::from_hours(36),
        };
        assert_eq!(spaced.parse(), Ok(expected));
    }

    #[test]
    fn errors_name_the_bad_part() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<Policy>().expect_err(text).to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("", "needs rest");
        check("errors;after=1h", "needs rest");
        check("rest=10%", "needs after");
        check("slowest=2s;rest=10%;after=1h", "\"slowest=2s\"");
        check("error;rest=10%;after=1h", "\"error\"");
        check("errors=yes;rest=10%;after=1h", "errors takes no value");
        for slow in
            ["slow", "slow=", "slow=2", "slow=s", "slow=2 s", "slow=-2s", "slow=1.5s", "slow=2y", "slow=0s"]
        {
            check(&format!("{slow};rest=10%;after=1h"), &format!("{slow:?}"));
        }
        for rare in ["rare", "rare=x", "rare=-1", "rare=0"] {
            check(&format!("{rare};rest=10%;after=1h"), &format!("{rare:?}"));
        }
        for attribute in ["attribute", "attribute=", "attribute==x", "attribute= a"] {
            check(&format!("{attribute};rest=10%;after=1h"), &format!("{attribute:?}"));
        }
        for rest in ["rest=10", "rest=%", "rest=101%", "rest=-1%", "rest=NaN%"] {
            check(&format!("{rest};after=1h"), &format!("{rest:?}"));
        }
        check("rest=1%;rest=2%;after=1h", "\"rest=2%\" of a sampling policy comes twice");
        check("errors;errors;rest=2%;after=1h", "comes twice");
        check("rest=1%;after=999999999999999999999d", "after takes a duration");
    }

    fn any_attribute() -> impl Strategy<Value = Keep> {
        let key = "[^;=\\s][^;=]{0,5}[^;=\\s]";
        let value = proptest::option::of("([^;\\s]([^;]{0,5}[^;\\s])?)?");
        (key, value).prop_map(|(key, value)| Keep::Attribute { key, value })
    }

    proptest! {
        #[test]
        fn the_text_gives_back_the_policy(
            attributes in proptest::collection::vec(any_attribute(), 0..4),
            others in (any::<bool>(), 0u64..1 << 60, 0u64..100),
            rest_percent in 0.0..=100.0f64,
            after_s in any::<u32>(),
        ) {
            let mut keep = attributes;
            let (has_errors, slow_ns, fewer_than) = others;
            keep.extend(has_errors.then_some(Keep::Errors));
            keep.extend((slow_ns > 0).then_some(Keep::Slow { at_least: Duration::from_nanos(slow_ns) }));
            keep.extend((fewer_than > 0).then_some(Keep::Rare { fewer_than }));
            let policy = Policy { keep, rest_percent, after: Duration::from_secs(after_s.into()) };
            prop_assert_eq!(policy.validate(), Ok(()));
            let text = policy.to_string();
            prop_assert_eq!(text.parse(), Ok(policy), "{}", text);
        }

        #[test]
        fn parse_never_panics(text in "[a-z=;%0-9 .]{0,40}") {
            let _ = text.parse::<Policy>();
        }
    }
}
