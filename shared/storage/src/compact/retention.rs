//! How long what is stored is kept, by tenant and signal, and by what traces, series and log records have.

use std::fmt;
use std::str::FromStr;

use model::search::Condition;
use model::spans::STATUS_ERROR;
use model::{Signal, TenantId};

/// How long telemetry is kept. Empty: for ever.
///
/// As text: rules separated by commas, `<tenant>/<signal>=<age>`, where the tenant, the signal or both may be left out; an
/// age is a number and `s`, `m`, `h`, `d`, `w` or `y` (365 days), or `forever`. Of the rules that fit, the most special one
/// counts: `30d,metrics=400d,team-a/=7d,team-a/metrics=forever`.
///
/// Rules on what traces, series and log records have stand before those, and may be shorter or longer:
/// `30d,traces{status=error}=90d,traces{service=healthz}=1d,metrics{__name__=up,job="a,b"}=7d`. All that the braces list must
/// hold: for a trace, for one of its spans (`status` is error, ok or unset, `service`, `name`, else an attribute of the span
/// or its resource); for a series, its labels; for a log record, its `service`, its `severity` (trace, debug, info, warn,
/// error or fatal, as OpenTelemetry numbers them, else unset), an attribute of itself or its resource:
/// `logs{severity=debug}=3d`. The first such rule that a trace, series or record fits decides, a tenant's own before those
/// for all tenants; one that fits none has the age of its tenant and signal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    tenant: Option<TenantId>,
    signal: Option<Signal>,
    /// What a trace, series or log record must have; empty for all.
    has: Vec<(String, String)>,
    /// `None` for ever.
    age_s: Option<u64>,
}

/// A rule on what traces, series or log records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpecialRule<'a> {
    /// Keys and values, all of which must be there.
    pub(super) has: &'a [(String, String)],
    /// `None` for ever.
    pub(super) age_s: Option<u64>,
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
    /// How old a tenant's telemetry of a signal may become that fits no rule on what it has, in seconds; `None` for any
    /// age.
    pub fn age_s(&self, tenant: &TenantId, signal: Signal) -> Option<u64> {
        let fits = |rule: &&Rule| {
            rule.has.is_empty()
                && rule.tenant.as_ref().is_none_or(|of| of == tenant)
                && rule.signal.is_none_or(|of| of == signal)
        };
        let special = |rule: &&Rule| (rule.tenant.is_some(), rule.signal.is_some());
        self.rules.iter().filter(fits).max_by_key(special).and_then(|rule| rule.age_s)
    }

    /// How old any of a tenant's telemetry of a signal may become, in seconds; `None` for any age.
    pub fn max_age_s(&self, tenant: &TenantId, signal: Signal) -> Option<u64> {
        let mut max_s = self.age_s(tenant, signal)?;
        for rule in self.special(tenant, signal) {
            max_s = max_s.max(rule.age_s?);
        }
        Some(max_s)
    }

    /// The rules on what a tenant's telemetry of a signal has, in the order in which they decide.
    pub(super) fn special(&self, tenant: &TenantId, signal: Signal) -> Vec<SpecialRule<'_>> {
        let of_signal =
            || self.rules.iter().filter(|rule| !rule.has.is_empty() && rule.signal == Some(signal));
        let own = of_signal().filter(|rule| rule.tenant.as_ref() == Some(tenant));
        let of_all = of_signal().filter(|rule| rule.tenant.is_none());
        own.chain(of_all).map(|rule| SpecialRule { has: &rule.has, age_s: rule.age_s }).collect()
    }
}

impl SpecialRule<'_> {
    /// What one span must meet, of a rule on traces.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let condition = |(key, value): &(String, String)| match key.as_str() {
            "service" => Condition::Service(value.clone()),
            "name" => Condition::Name(value.clone()),
            "status" => Condition::Status(status(value).unwrap_or_default()),
            _ => Condition::Attribute { key: key.clone(), value: value.clone() },
        };
        self.has.iter().map(condition).collect()
    }
}

/// The number of a status.
fn status(name: &str) -> Option<i32> {
    match name {
        "unset" => Some(0),
        "ok" => Some(1),
        "error" => Some(STATUS_ERROR),
        _ => None,
    }
}

/// The numbers of a severity, as OpenTelemetry's data model has them.
pub(super) fn severity(name: &str) -> Option<std::ops::RangeInclusive<i32>> {
    Some(match name {
        "unset" => 0..=0,
        "trace" => 1..=4,
        "debug" => 5..=8,
        "info" => 9..=12,
        "warn" => 13..=16,
        "error" => 17..=20,
        "fatal" => 21..=24,
        _ => return None,
    })
}

impl FromStr for Retention {
    type Err = InvalidRetention;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = split(text, ',').into_iter().map(str::trim).filter(|rule| !rule.is_empty());
        let rules: Vec<Rule> = rules.map(parse_rule).collect::<Result<_, _>>()?;
        for (at, rule) in rules.iter().enumerate() {
            let is_same = |other: &Rule| {
                other.tenant == rule.tenant && other.signal == rule.signal && other.has == rule.has
            };
            if rules[..at].iter().any(is_same) {
                let why = "another rule is for the same tenant and signal";
                return Err(InvalidRetention { rule: text.to_owned(), why });
            }
        }
        Ok(Self { rules })
    }
}

/// Splits a text where a character stands outside of braces and quotes.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut is_quoted, mut depth) = (false, 0);
    text.split(|c: char| {
        match c {
            '"' => is_quoted = !is_quoted,
            '{' if !is_quoted => depth += 1,
            '}' if !is_quoted => depth -= 1,
            _ => {}
        }
        c == at && !is_quoted && depth == 0
    })
    .collect()
}

/// Where braces that are open close, outside of quotes; the end if they do not.
fn end_of_braces(text: &str) -> usize {
    let mut is_quoted = false;
    let closes = |c: char| {
        is_quoted ^= c == '"';
        c == '}' && !is_quoted
    };
    text.find(closes).unwrap_or(text.len())
}

fn parse_rule(rule: &str) -> Result<Rule, InvalidRetention> {
    let invalid = |why| InvalidRetention { rule: rule.to_owned(), why };
    let (of, has, age) = match rule.split_once('{') {
        None => {
            let (of, age) = rule.rsplit_once('=').unwrap_or(("", rule));
            (of, Vec::new(), age)
        }
        Some((of, rest)) => {
            let inside = &rest[..end_of_braces(rest)];
            let age = rest[inside.len()..].strip_prefix("}=");
            let age = age.ok_or_else(|| invalid("behind the braces stand = and an age"))?;
            (of, parse_has(inside).map_err(invalid)?, age)
        }
    };
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
    if !has.is_empty() {
        match signal {
            Some(Signal::Traces) => {
                if has.iter().any(|(key, value)| key == "status" && status(value).is_none()) {
                    return Err(invalid("a status is error, ok or unset"));
                }
            }
            Some(Signal::Metrics) => {}
            Some(Signal::Logs) => {
                if has.iter().any(|(key, value)| key == "severity" && severity(value).is_none()) {
                    return Err(invalid("a severity is trace, debug, info, warn, error, fatal or unset"));
                }
            }
            None => return Err(invalid("braces stand behind traces, metrics or logs")),
        }
    }
    let age_s = match age {
        "forever" => None,
        age => Some(parse_age(age).ok_or_else(|| invalid("an age is such as 12h, 30d or forever"))?),
    };
    Ok(Rule { tenant, signal, has, age_s })
}

/// `key=value` or `key="value"`, separated by commas.
fn parse_has(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    const WRONG: &str = "braces list key=value or key=\"value\", separated by commas";
    let pair = |part: &str| {
        let (key, value) = part.trim().split_once('=').ok_or(WRONG)?;
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"').ok_or(WRONG)?,
            None => value,
        };
        let is_fine = !key.is_empty() && !key.contains(['"', '{', '}']) && !value.contains('"');
        if is_fine { Ok((key.to_owned(), value.to_owned())) } else { Err(WRONG) }
    };
    split(text, ',').into_iter().map(pair).collect()
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
            write!(f, "{}{tenant}{signal}", if at == 0 { "" } else { "," })?;
            for (at, (key, value)) in rule.has.iter().enumerate() {
                write!(f, "{}{key}=\"{value}\"", if at == 0 { "{" } else { "," })?;
            }
            write!(f, "{}={age}", if rule.has.is_empty() { "" } else { "}" })?;
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
    fn rules_on_what_there_is_come_in_their_order() {
        let text = r#"30d,traces{status=error}=90d,traces{service=healthz}=1d,team-a/traces{http.route=/health,name="a,}b"}=1d,metrics{__name__=up}=forever"#;
        let retention: Retention = text.parse().expect(text);
        let (default, team) = (TenantId::default_tenant(), "team-a".parse().expect("a tenant"));
        let ages = |tenant: &TenantId, signal| -> Vec<Option<u64>> {
            retention.special(tenant, signal).iter().map(|rule| rule.age_s).collect()
        };
        let day = 86_400;
        assert_eq!(ages(&default, Signal::Traces), [Some(90 * day), Some(day)]);
        assert_eq!(ages(&team, Signal::Traces), [Some(day), Some(90 * day), Some(day)]);
        assert_eq!(ages(&default, Signal::Metrics), [None]);
        assert_eq!(retention.age_s(&team, Signal::Traces), Some(30 * day));
        assert_eq!(retention.max_age_s(&team, Signal::Traces), Some(90 * day));
        assert_eq!(retention.max_age_s(&default, Signal::Metrics), None);
        assert_eq!(retention.max_age_s(&default, Signal::Logs), Some(30 * day));
        let conditions = retention.special(&team, Signal::Traces)[0].conditions();
        let route = Condition::Attribute { key: "http.route".to_owned(), value: "/health".to_owned() };
        assert_eq!(conditions, [route, Condition::Name("a,}b".to_owned())]);
        assert_eq!(retention.to_string().parse(), Ok(retention.clone()));
    }

    #[test]
    fn braces_that_are_wrong_are_named() {
        let check = |text: &str, why: &str| {
            let err = text.parse::<Retention>().expect_err(text).to_string();
            assert!(err.contains(why), "{text}: {err}");
        };
        check("traces{service=a}", "behind the braces");
        check("traces{service=a=3d", "behind the braces");
        check("traces{}=3d", "braces list");
        check("traces{service}=3d", "braces list");
        check("traces{=a}=3d", "braces list");
        check("traces{a=\"b}=3d", "behind the braces");
        check("traces{status=bad}=3d", "a status is");
        check("logs{severity=severe}=3d", "a severity is");
        check("{service=a}=3d", "braces stand behind");
        check("team-a/{service=a}=3d", "braces stand behind");
        check("traces{service=a}=3d,traces{service=a}=4d", "another rule");
        check("traces{service=a}=3", "an age is");
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
