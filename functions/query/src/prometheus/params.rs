//! Parameters of Prometheus' API: times, durations, limits.
//!
//! Source: Prometheus `web/api/v1/api.go` `parseTime`, `parseDuration`, `parseLimitParam`; `common/model` `ParseDuration`.

use crate::form::Form;

/// What `start` means where it is absent, as text and in ms: Prometheus' own least instant, which clients send back.
const MIN_TIME: (&str, i64) = ("-292273086-05-16T16:47:06Z", (i64::MIN / 1000 + 62_135_596_801) * 1000);
/// The same for `end`.
const MAX_TIME: (&str, i64) =
    ("292277025-08-18T07:12:54.999999999Z", (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999);
/// Most steps of a range query, less one.
const MAX_STEPS: i64 = 11_000;

/// A parameter that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParamError {
    /// Names the parameter as Prometheus does.
    #[error("invalid parameter \"{name}\": {problem}")]
    Invalid {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// What Prometheus says without a name.
    #[error("{0}")]
    Bare(String),
}

impl ParamError {
    /// `problem` with the parameter `name`.
    pub(super) fn invalid(name: &'static str, problem: &dyn std::fmt::Display) -> Self {
        Self::Invalid { name, problem: problem.to_string() }
    }
}

/// The steps of a range query: ms since the epoch, both ends included; ms between steps, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit is part of a name")]
pub(super) struct Steps {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) step_ms: i64,
}

/// A time that must be there, in ms since the epoch.
pub(super) fn time(form: &Form, name: &'static str) -> Result<i64, ParamError> {
    time_ms(form.first(name)).map_err(|problem| ParamError::invalid(name, &problem))
}

/// A time that may be absent.
pub(super) fn time_or(form: &Form, name: &'static str, absent_ms: i64) -> Result<i64, ParamError> {
    if form.first(name).is_empty() { Ok(absent_ms) } else { time(form, name) }
}

/// `start` and `end` of a lookup, both included; all of time where they are absent.
pub(super) fn window(form: &Form) -> Result<(i64, i64), ParamError> {
    let start_ms = time_or(form, "start", MIN_TIME.1)?;
    let end_ms = time_or(form, "end", MAX_TIME.1)?;
    Ok((start_ms, end_ms))
}

/// `start`, `end` and `step` of a range query.
pub(super) fn steps(form: &Form) -> Result<Steps, ParamError> {
    let start_ms = time(form, "start")?;
    let end_ms = time(form, "end")?;
    if end_ms < start_ms {
        return Err(ParamError::invalid("end", &"end timestamp must not be before start time"));
    }
    let step_ns = duration_ns(form.first("step")).map_err(|problem| ParamError::invalid("step", &problem))?;
    if step_ns <= 0 {
        let problem =
            "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ParamError::invalid("step", &problem));
    }
    // Compared before the step is cut to ms, as Prometheus does.
    let span_ns = i128::from(end_ms - start_ms) * 1_000_000;
    if span_ns / i128::from(step_ns) > i128::from(MAX_STEPS) {
        let problem = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(ParamError::Bare(problem.to_owned()));
    }
    Ok(Steps { start_ms, end_ms, step_ms: (step_ns / 1_000_000).max(1) })
}

/// A duration that may be absent, in ms.
pub(super) fn duration_ms(form: &Form, name: &'static str) -> Result<Option<i64>, ParamError> {
    match form.first(name) {
        "" => Ok(None),
        text => match duration_ns(text) {
            Ok(ns) => Ok(Some(ns / 1_000_000)),
            Err(problem) => Err(ParamError::invalid(name, &problem)),
        },
    }
}

/// `limit`: how much to answer at most; `None` for all.
pub(super) fn limit(form: &Form) -> Result<Option<usize>, ParamError> {
    let text = form.first("limit");
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(0) => Ok(None),
        Ok(limit) if limit > 0 => Ok(Some(limit as usize)),
        Ok(_) => Err(ParamError::invalid("limit", &"limit must be non-negative")),
        Err(_) => {
            Err(ParamError::invalid("limit", &format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
        }
    }
}

/// Seconds as a number, or RFC 3339; ms since the epoch.
fn time_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("cannot parse {text:?} to a valid timestamp");
    if let Some(seconds) = number(text) {
        let ms = (seconds.trunc() * 1e3) + (seconds.fract() * 1e3).round();
        // No upper bound: Grafana's probe sends milliseconds where seconds belong.
        return if ms.is_nan() {
            Err(wrong())
        } else if ms >= MAX_TIME.1 as f64 {
            Ok(MAX_TIME.1)
        } else {
            Ok(ms.max(MIN_TIME.1 as f64) as i64)
        };
    }
    for (sentinel, ms) in [MIN_TIME, MAX_TIME] {
        if text == sentinel {
            return Ok(ms);
        }
    }
    rfc3339_ms(text).ok_or_else(wrong)
}

/// A number as Go's `ParseFloat` takes it, as far as clients write any.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// Seconds as a number, or a Prometheus duration; ns.
fn duration_ns(text: &str) -> Result<i64, String> {
    if let Some(seconds) = number(text) {
        let ns = seconds * 1e9;
        if ns > i64::MAX as f64 || ns < i64::MIN as f64 || ns.is_nan() {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(ns as i64);
    }
    prometheus_duration_ms(text)
        .and_then(|ms| ms.checked_mul(1_000_000))
        .ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// `1y2w3d4h5m6s7ms`, every part optional, in this order, whole numbers.
fn prometheus_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut next_unit = 0;
    let mut total_ms = 0_i64;
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: i64 = rest[..n_digits].parse().ok()?;
        rest = &rest[n_digits..];
        let n_letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS[next_unit..].iter().position(|(name, _)| *name == &rest[..n_letters])? + next_unit;
        rest = &rest[n_letters..];
        next_unit = unit + 1;
        total_ms = total_ms.checked_add(amount.checked_mul(UNITS[unit].1)?)?;
    }
    Some(total_ms)
}

/// `2015-07-01T20:10:51.781Z`, any offset; ms since the epoch, the rest cut off.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(position, byte)| bytes.get(position) != Some(&byte)) {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut rest = &text[19..];
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let n_digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if n_digits == 0 {
            return None;
        }
        let first_three: String = fraction[..n_digits].chars().chain("00".chars()).take(3).collect();
        ms = first_three.parse().ok()?;
        rest = &fraction[n_digits..];
    }
    let offset_minutes = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (digits(at..at + 2)?, digits(at + 3..at + 5)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_minutes * 60) * 1000 + ms)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March, so that the leap day is a year's last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(time_ms(text).ok(), expect, "{text:?}");
        check("0", Some(0));
        check("1435781451.781", Some(1_435_781_451_781));
        check("-1.5", Some(-1_500));
        check("1e3", Some(1_000_000));
        check("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781));
        check("2015-07-01T20:10:51Z", Some(1_435_781_451_000));
        check("2015-07-01T22:10:51.7819+02:00", Some(1_435_781_451_781));
        check("1969-12-31T23:59:59.9Z", Some(-100));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("2023-02-29T00:00:00Z", None);
        check("2015-07-01 20:10:51Z", None);
        check("2015-07-01T20:10:51", None);
        check("", None);
        check("now", None);
        check("NaN", None);
        check(MIN_TIME.0, Some(MIN_TIME.1));
        check(MAX_TIME.0, Some(MAX_TIME.1));
        check("1e300", Some(MAX_TIME.1));
        assert_eq!(time_ms("x").expect_err("no time"), r#"cannot parse "x" to a valid timestamp"#);
    }

    #[test]
    fn durations_are_seconds_or_prometheus_own() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(duration_ns(text).ok(), expect, "{text:?}");
        check("15", Some(15_000_000_000));
        check("0.5", Some(500_000_000));
        check("1h30m", Some(5_400_000_000_000));
        check("1d", Some(86_400_000_000_000));
        check("5ms", Some(5_000_000));
        check("1m5ms", Some(60_005_000_000));
        check("5m1h", None);
        check("1h1h", None);
        check("1.5h", None);
        check("h", None);
        check("", None);
        check("1e20", None);
        check("400y", None);
    }

    #[test]
    fn steps_are_bounded() {
        let check = |query: &str| steps(&Form::parse(query).expect("a query")).map_err(|err| err.to_string());
        assert_eq!(
            check("start=0&end=10&step=2.5"),
            Ok(Steps { start_ms: 0, end_ms: 10_000, step_ms: 2_500 })
        );
        assert!(check("start=0&end=11000&step=1").is_ok());
        let error = check("start=0&end=11001&step=1").expect_err("too many");
        assert!(error.starts_with("exceeded maximum resolution"), "{error}");
        let error = check("start=1&end=0&step=1").expect_err("backwards");
        assert_eq!(error, r#"invalid parameter "end": end timestamp must not be before start time"#);
        let error = check("start=0&end=1&step=0").expect_err("no step");
        assert!(error.starts_with(r#"invalid parameter "step": zero or negative"#), "{error}");
        let error = check("start=0&end=1").expect_err("no step");
        assert_eq!(error, r#"invalid parameter "step": cannot parse "" to a valid duration"#);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let check = |query: &str| limit(&Form::parse(query).expect("a query")).map_err(|err| err.to_string());
        assert_eq!(check(""), Ok(None));
        assert_eq!(check("limit=0"), Ok(None));
        assert_eq!(check("limit=3"), Ok(Some(3)));
        assert_eq!(
            check("limit=-1"),
            Err(r#"invalid parameter "limit": limit must be non-negative"#.to_owned())
        );
        assert!(check("limit=x").is_err());
    }
}
