//! Names of OpenTelemetry → names of Prometheus.
//!
//! Source: prometheus/otlptranslator `metric_namer.go`, `label_namer.go`, `strategy.go`.

/// How names are translated, by Prometheus' own names of its strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TranslationStrategy {
    /// `http.server.duration` in `s` becomes `http_server_duration_seconds`.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// It becomes `http_server_duration`.
    UnderscoreEscapingWithoutSuffixes,
    /// It becomes `http.server.duration_seconds`.
    NoUtf8EscapingWithSuffixes,
    /// It stays as it is.
    NoTranslation,
}

impl std::str::FromStr for TranslationStrategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        match text {
            "UnderscoreEscapingWithSuffixes" => Ok(Self::UnderscoreEscapingWithSuffixes),
            "UnderscoreEscapingWithoutSuffixes" => Ok(Self::UnderscoreEscapingWithoutSuffixes),
            "NoUTF8EscapingWithSuffixes" => Ok(Self::NoUtf8EscapingWithSuffixes),
            "NoTranslation" => Ok(Self::NoTranslation),
            _ => Err(UnknownStrategy),
        }
    }
}

/// A text that names no [`TranslationStrategy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "takes UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or \
     NoTranslation"
)]
pub struct UnknownStrategy;

impl TranslationStrategy {
    fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    fn adds_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes)
    }
}

/// What a metric's name depends on beside its name and unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    MonotonicSum,
    Gauge,
    Other,
}

/// The words for UCUM's units that stand alone or in front of a slash.
const UNITS: [(&str, &str); 28] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
    ("", ""),
    (" ", ""),
];
/// Behind a slash.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn word<'a>(table: &'a [(&str, &str)], unit: &'a str) -> &'a str {
    table.iter().find(|(ucum, _)| *ucum == unit).map_or(unit, |(_, word)| word)
}

/// Characters that no name may have as `_`, runs of them as one, none at the ends.
fn clean_unit(unit: &str) -> String {
    let mut out = String::new();
    for c in unit.chars() {
        if c.is_ascii_alphanumeric() || c == ':' {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.trim_end_matches('_').to_owned()
}

/// The words of a unit: what stands in front of the slash, and behind it with `per`.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let (main, per) = (main.trim(), per.trim());
    let is_annotation = |part: &str| part.contains(['{', '}']);
    let main = if is_annotation(main) { String::new() } else { clean_unit(word(&UNITS, main)) };
    let per =
        if is_annotation(per) || per.is_empty() { String::new() } else { clean_unit(word(&PER_UNITS, per)) };
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

/// The unit as metadata says it.
pub(super) fn unit_text(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    match (main.is_empty(), per.is_empty()) {
        (_, true) => main,
        (true, false) => per,
        (false, false) => format!("{main}_{per}"),
    }
}

/// The name of a metric; `None` if nothing is left of it.
pub(super) fn metric_name(
    name: &str,
    unit: &str,
    kind: NameKind,
    strategy: TranslationStrategy,
) -> Option<String> {
    let named = match (strategy.escapes(), strategy.adds_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, kind),
        (true, false) => escaped(name),
        (false, true) => with_suffixes(name, unit, kind),
        (false, false) => name.to_owned(),
    };
    if named.is_empty() || (strategy.escapes() && named.bytes().all(|byte| byte == b'_')) {
        return None;
    }
    Some(if strategy.escapes() && named.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{named}")
    } else {
        named
    })
}

fn escaped(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }).collect()
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let mut tokens: Vec<String> = name
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'))
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect();
    let (main, per) = unit_words(unit);
    for suffix in [main, per] {
        if !suffix.is_empty() && !tokens.contains(&suffix) {
            tokens.push(suffix);
        }
    }
    move_last(&mut tokens, kind, unit);
    tokens.join("_")
}

/// `total` and `ratio` come last, once.
fn move_last(tokens: &mut Vec<String>, kind: NameKind, unit: &str) {
    let last = match kind {
        NameKind::MonotonicSum => "total",
        NameKind::Gauge if unit == "1" => "ratio",
        _ => return,
    };
    tokens.retain(|token| token != last);
    tokens.push(last.to_owned());
}

fn with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let mut out = name.to_owned();
    let (main, per) = unit_words(unit);
    let mut add = |suffix: &str| {
        if !suffix.is_empty() && !out.ends_with(suffix) {
            out.push('_');
            out.push_str(suffix);
        }
    };
    add(&main);
    add(&per);
    match kind {
        NameKind::MonotonicSum => add("total"),
        NameKind::Gauge if unit == "1" => add("ratio"),
        _ => {}
    }
    out
}

/// The name of a label; `None` if nothing is left of it.
///
/// Runs of underscores are kept, and a name that begins with one gets `key` in front, as are Prometheus' defaults.
pub(super) fn label_name(key: &str, strategy: TranslationStrategy) -> Option<String> {
    if !strategy.escapes() {
        return (!key.is_empty()).then(|| key.to_owned());
    }
    let name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.bytes().all(|byte| byte == b'_') {
        return None;
    }
    Some(if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{name}")
    } else if name.starts_with('_') && !name.starts_with("__") {
        format!("key{name}")
    } else {
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_prometheus_names_them() {
        use NameKind::{Gauge, MonotonicSum, Other};
        let check = |name: &str, unit: &str, kind: NameKind, expect: &str| {
            let named = metric_name(name, unit, kind, TranslationStrategy::UnderscoreEscapingWithSuffixes);
            assert_eq!(
                named.as_deref(),
                Some(expect).filter(|expect| !expect.is_empty()),
                "{name} in {unit}"
            );
        };
        check("http.server.request.duration", "s", Other, "http_server_request_duration_seconds");
        check("requests.count", "1", MonotonicSum, "requests_count_total");
        check("system.memory.usage", "By", Other, "system_memory_usage_bytes");
        check("system.cpu.utilization", "1", Gauge, "system_cpu_utilization_ratio");
        check("http.server.active_requests", "{request}", Other, "http_server_active_requests");
        check("foo.total.bytes", "By", MonotonicSum, "foo_bytes_total");
        check("network.io", "By/s", Gauge, "network_io_bytes_per_second");
        check("speed", "m/s", Gauge, "speed_meters_per_second");
        check("x", "{packets}/s", Gauge, "x_per_second");
        check("..a..b__", "", Other, "a_b");
        check("1st", "", Other, "_1st");
        check("temperature", "Cel", Gauge, "temperature_celsius");
        check("odd", "furlong^2", Gauge, "odd_furlong_2");
        check("", "s", Other, "seconds");
        check("日本", "", Other, "");
        check("job:up:sum", "", Other, "job:up:sum");
    }

    #[test]
    fn strategies_differ() {
        use TranslationStrategy as Strategy;
        let check = |strategy, expect: &str| {
            let named = metric_name("a.b__c", "s", NameKind::MonotonicSum, strategy);
            assert_eq!(named.as_deref(), Some(expect), "{strategy:?}");
        };
        check(Strategy::UnderscoreEscapingWithSuffixes, "a_b_c_seconds_total");
        check(Strategy::UnderscoreEscapingWithoutSuffixes, "a_b__c");
        check(Strategy::NoUtf8EscapingWithSuffixes, "a.b__c_seconds_total");
        check(Strategy::NoTranslation, "a.b__c");
    }

    #[test]
    fn labels_are_named_as_prometheus_names_them() {
        let check = |key: &str, expect: Option<&str>| {
            assert_eq!(label_name(key, TranslationStrategy::default()).as_deref(), expect, "{key}");
        };
        check("http.method", Some("http_method"));
        check("a..b", Some("a__b"));
        check("1st", Some("key_1st"));
        check("_x", Some("key_x"));
        check("__x", Some("__x"));
        check("___", None);
        check("", None);
        assert_eq!(label_name("a.b", TranslationStrategy::NoTranslation).as_deref(), Some("a.b"));
    }
}
