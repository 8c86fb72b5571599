//! How long what is stored is kept, by tenant and signal.

use std::fmt;
use std::str::FromStr;

use model::{Signal, TenantId};

/// How long telemetry is kept. Empty: for ever.
///
/// As text: rules separated by commas, `<tenant>/<signal>=<age>`, where the tenant, the signal or both may be left out; an
/// age is a number and `s`, `m`, `h`, `d`, `w` or `y` (365 days), or `forever`. Of the rules that fit, the most special one
/// counts: `30d,metrics=400d,team-a/=7d,team-a/metrics=forever`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    tenant: Option<TenantId>,
    signal: Option<Signal>,
    /// `None` for ever.
    age_s: Option<u64>,
}

/// Why a text is no retention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rule of retention {rule:?}: {why}")]
pub struct InvalidRetention {
    /// The rule.
    pub rule: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Retention {
    /// How old a tenant's telemetry of a signal may become, in seconds; `None` for any age.
    pub fn age_s(&self, tenant: &TenantId, signal: Signal) -> Option<u64> {
        let fits = |rule: &&Rule| {
            rule.tenant.as_ref().is_none_or(|of| of == tenant) && rule.signal.is_none_or(|of| of == signal)
        };
        let special = |rule: &&Rule| (rule.tenant.is_some(), rule.signal.is_some());
        self.rules.iter().filter(fits).max_by_key(special).and_then(|rule| rule.age_s)
    }
}

impl FromStr for Retention {
    type Err = InvalidRetention;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
        let rules: Vec<Rule> = rules.map(parse_rule).collect::<Result<_, _>>()?;
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.tenant == rule.tenant && other.signal == rule.signal) {
                let why = "another rule is for the same tenant and signal";
                return Err(InvalidRetention { rule: text.to_owned(), why });
            }
        }
        Ok(Self { rules })
    }
}

fn parse_rule(rule: &str) -> Result<Rule, InvalidRetention> {
    let invalid = |why| InvalidRetention { rule: rule.to_owned(), why };
    let (of, age) = rule.rsplit_once('=').unwrap_or(("", rule));
    let (tenant, signal) = of.split_once('/').unwrap_or(("", of));
    let tenant = match tenant {
        "" => None,
        tenant => Some(tenant.parse().map_err(|_| invalid("this cannot be a tenant's name"))?),
    };
    let signal = match signal {
        "" => None,
        name => match Signal::ALL.into_iter().find(|signal| signal.as_str() == name) {
            Some(signal) => Some(signal),
            None => return Err(invalid("signals are traces, metrics and logs")),
        },
    };
    let age_s = match age {
        "forever" => None,
        age => Some(parse_age(age).ok_or_else(|| invalid("an age is such as 12h, 30d or forever"))?),
    };
    Ok(Rule { tenant, signal, age_s })
}

fn parse_age(age: &str) -> Option<u64> {
    let unit = age.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'y' => 365 * 86_400,
        _ => return None,
    };
    let number: u64 = age[..age.len() - unit.len_utf8()].parse().ok()?;
    number.checked_mul(seconds).filter(|&age_s| age_s > 0)
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rule) in self.rules.iter().enumerate() {
            let tenant = rule.tenant.as_ref().map_or(String::new(), |tenant| format!("{tenant}/"));
            let signal = rule.signal.map_or("", Signal::as_str);
            let age = rule.age_s.map_or("forever".to_owned(), |age_s| format!("{age_s}s"));
            write!(f, "{}{tenant}{signal}={age}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_special_rule_counts() {
        let retention: Retention =
            "30d, metrics=400d,team-a/=7d,team-a/metrics=forever".parse().expect("valid");
        let of = |tenant: &str, signal| retention.age_s(&tenant.parse().expect("a tenant"), signal);
        assert_eq!(of("default", Signal::Traces), Some(30 * 86_400));
        assert_eq!(of("default", Signal::Metrics), Some(400 * 86_400));
        assert_eq!(of("team-a", Signal::Logs), Some(7 * 86_400));
        assert_eq!(of("team-a", Signal::Metrics), None);
        assert_eq!(Retention::default().age_s(&TenantId::default_tenant(), Signal::Logs), None);
        assert_eq!(retention.to_string().parse(), Ok(retention.clone()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for text in
            ["30", "d", "0d", "spans=3d", "a b/traces=3d", "3d,4d", "traces=", "99999999999999999999d"]
        {
            let err = text.parse::<Retention>().expect_err(text);
            assert!(err.to_string().contains(text), "{err}");
        }
    }
}
