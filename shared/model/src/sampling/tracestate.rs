//! The `ot` entry of a W3C tracestate: `ot=rv:<randomness>;th:<threshold>;…`, and the weight that it gives a span.
//!
//! Everything else in a tracestate is kept byte for byte, in its order. A changed `ot` entry stands first, as W3C asks
//! of whoever changes one, with `rv` and `th` first in it, as the Collector writes it.
//! Sources: W3C Trace Context, "tracestate Header"; OpenTelemetry specification, "TraceState Handling"; Collector,
//! pkg/sampling/{w3ctracestate,oteltracestate}.go.

use std::borrow::Cow;

use super::threshold::{Randomness, Threshold};

/// The longest tracestate that is read; W3C has no limit, the Collector this one.
const MAX_BYTES: usize = 1024;
/// The most entries.
const MAX_ENTRIES: usize = 32;
/// The longest `ot` value, which is also the longest of any entry.
const MAX_VALUE_BYTES: usize = 256;

/// Why a tracestate says nothing that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceStateError {
    /// Too many bytes.
    #[error("tracestate has {0} bytes, at most {MAX_BYTES} are read")]
    Length(usize),
    /// Too many entries.
    #[error("tracestate has more than {MAX_ENTRIES} entries")]
    Entries,
    /// An entry is not `key=value` of W3C's alphabet.
    #[error("invalid tracestate entry {0:?}")]
    Entry(String),
    /// A part of the `ot` entry is not `key:value` of OpenTelemetry's alphabet.
    #[error("invalid part {0:?} of the tracestate entry ot")]
    Part(String),
    /// `rv` is not 14 hex digits.
    #[error("rv {0:?} of the tracestate is not 14 hex digits")]
    Randomness(String),
    /// `th` is not 1 to 14 hex digits.
    #[error("th {0:?} of the tracestate is not 1 to 14 hex digits")]
    Threshold(String),
}

/// A tracestate with its `ot` entry taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState<'a> {
    threshold: Option<Threshold>,
    /// As number and as text, which is never changed.
    randomness: Option<(Randomness, Cow<'a, str>)>,
    /// What else the `ot` entry has, `key:value` each.
    parts: Vec<&'a str>,
    /// The other entries, with the white space around them.
    entries: Vec<&'a str>,
}

impl<'a> TraceState<'a> {
    /// Takes a tracestate apart; an empty text is one without entries.
    ///
    /// # Errors
    /// The tracestate is invalid, whoever's entry is.
    pub fn parse(text: &'a str) -> Result<Self, TraceStateError> {
        if text.len() > MAX_BYTES {
            return Err(TraceStateError::Length(text.len()));
        }
        let mut state = Self::default();
        for (n, entry) in text.split(',').enumerate() {
            let trimmed = entry.trim_matches([' ', '\t']);
            if n >= MAX_ENTRIES {
                return Err(TraceStateError::Entries);
            }
            if trimmed.is_empty() {
                continue;
            }
            let pair = trimmed.split_once('=').filter(|(key, value)| is_key(key) && is_value(value));
            match pair.ok_or_else(|| TraceStateError::Entry(trimmed.to_owned()))? {
                ("ot", value) => state.parse_ot(value)?,
                _ => state.entries.push(entry),
            }
        }
        Ok(state)
    }

    fn parse_ot(&mut self, value: &'a str) -> Result<(), TraceStateError> {
        for part in value.split(';') {
            let pair = part.split_once(':').filter(|(key, value)| is_part_key(key) && is_part_value(value));
            match pair.ok_or_else(|| TraceStateError::Part(part.to_owned()))? {
                ("rv", text) => {
                    let randomness = Randomness::parse(text);
                    let randomness =
                        randomness.ok_or_else(|| TraceStateError::Randomness(text.to_owned()))?;
                    self.randomness = Some((randomness, Cow::Borrowed(text)));
                }
                ("th", text) => {
                    let threshold = Threshold::parse(text);
                    self.threshold =
                        Some(threshold.ok_or_else(|| TraceStateError::Threshold(text.to_owned()))?);
                }
                _ => self.parts.push(part),
            }
        }
        Ok(())
    }

    /// With what threshold the span was sampled, if that is known.
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// The randomness that stands for that of the trace's id, if any.
    pub fn randomness(&self) -> Option<Randomness> {
        self.randomness.as_ref().map(|(randomness, _)| *randomness)
    }

    /// Writes a threshold down, other than [`Threshold::NEVER`].
    pub fn set_threshold(&mut self, threshold: Threshold) {
        debug_assert_ne!(threshold, Threshold::NEVER, "nothing that is kept has it");
        self.threshold = Some(threshold);
    }

    /// Writes a randomness down, for spans whose trace id is not what decides.
    pub fn set_randomness(&mut self, randomness: Randomness) {
        self.randomness = Some((randomness, Cow::Owned(randomness.to_string())));
    }

    /// The text. What no longer fits falls out at the end: first of the `ot` entry, then of the others.
    pub fn to_text(&self) -> String {
        let mut ot = String::new();
        let own = self.randomness.as_ref().map(|(_, text)| format!("rv:{text}"));
        let own = own.into_iter().chain(self.threshold.map(|threshold| format!("th:{threshold}")));
        for part in own.chain(self.parts.iter().map(|&part| part.to_owned())) {
            if !ot.is_empty() {
                ot.push(';');
            }
            if ot.len() + part.len() > MAX_VALUE_BYTES {
                ot.pop();
                break;
            }
            ot.push_str(&part);
        }
        let mut text = if ot.is_empty() { ot } else { format!("ot={ot}") };
        let n_entries = MAX_ENTRIES - usize::from(!text.is_empty());
        for entry in self.entries.iter().take(n_entries) {
            let comma = if text.is_empty() { "" } else { "," };
            if text.len() + comma.len() + entry.len() > MAX_BYTES {
                break;
            }
            text.push_str(comma);
            text.push_str(entry);
        }
        text
    }
}

/// How many spans stand behind one with this tracestate, itself included; `None` where nothing usable says so, and it
/// counts as one. Source: Collector, spanmetricsconnector/internal/metrics/adjusted_count.go.
pub fn adjusted_count(trace_state: &str) -> Option<f64> {
    let threshold = TraceState::parse(trace_state).ok()?.threshold()?;
    Some(threshold.adjusted_count())
}

/// `simple-key` or `tenant@system`, with W3C's lengths.
fn is_key(key: &str) -> bool {
    let is_within = |text: &str, max_bytes: usize| {
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        (1..=max_bytes).contains(&text.len()) && text.bytes().all(is_allowed)
    };
    let starts_with_letter = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase());
    match key.split_once('@') {
        None => starts_with_letter(key) && is_within(key, 256),
        Some((tenant, system)) => {
            tenant.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && is_within(tenant, 241)
                && starts_with_letter(system)
                && is_within(system, 14)
        }
    }
}

fn is_value(value: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=MAX_VALUE_BYTES).contains(&value.len()) && value.bytes().all(is_allowed) && !value.ends_with(' ')
}

fn is_part_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_part_value(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_else_stays_as_it_is() {
        let check = |text: &str, expect: &str| {
            let mut state = TraceState::parse(text).expect(text);
            state.set_threshold(Threshold::parse("c").expect("a threshold"));
            assert_eq!(state.to_text(), expect, "{text}");
        };
        check("", "ot=th:c");
        check("ot=th:8", "ot=th:c");
        check("ot=th:0;rv:9b8233f7e3a151", "ot=rv:9b8233f7e3a151;th:c");
        check("ot=x:1;th:0;rv:FD70A3D70A3D71;y:", "ot=rv:FD70A3D70A3D71;th:c;x:1;y:");
        check("a=1, b@x=%20 ,ot=p:8,c= ~", "ot=th:c;p:8,a=1, b@x=%20 ,c= ~");
        check(" ot=th:8 ,,a=1", "ot=th:c,a=1");
    }

    #[test]
    fn what_is_not_a_tracestate_is_an_error() {
        for bad in [
            "ot=rv:abababababababab",
            "ot=th:abababababababab",
            "ot=th:-1",
            "ot=th:",
            "ot=th",
            "ot=X:1",
            "ot=th:8;",
            "ot=",
            "ot",
            "=1",
            "A=1",
            "a=1,b=é",
            "a=1=2",
            "a@1=x",
            "ot=th:8,A=1",
            &"a".repeat(1025),
            &"a=1,".repeat(33),
        ] {
            assert!(TraceState::parse(bad).is_err(), "{bad:.40}");
        }
    }

    /// Source: OpenTelemetry specification, "TraceState: Probability Sampling".
    #[test]
    fn the_weight_of_a_span_is_that_of_its_threshold() {
        let check = |text: &str, expect: Option<f64>| assert_eq!(adjusted_count(text), expect, "{text}");
        check("ot=th:0", Some(1.0));
        check("ot=th:8", Some(2.0));
        check("a=1,ot=rv:d0000000000000;th:c", Some(4.0));
        check("ot=th:fd70a", Some(1_048_576.0 / 10_486.0));
        check("", None);
        check("a=1", None);
        check("ot=rv:d0000000000000", None);
        check("ot=th:xyz", None);
    }

    #[test]
    fn what_no_longer_fits_falls_out_at_the_end() {
        let long = format!("ot=a:{},b=1", "x".repeat(250));
        let mut state = TraceState::parse(&long).expect("the longest");
        state.set_threshold(Threshold::ALWAYS);
        assert_eq!(state.to_text(), "ot=th:0,b=1");
        let many = vec!["a=1"; 32].join(",");
        let mut state = TraceState::parse(&many).expect("the most");
        assert_eq!(state.to_text(), many);
        state.set_threshold(Threshold::ALWAYS);
        assert_eq!(state.to_text(), format!("ot=th:0,{}", vec!["a=1"; 31].join(",")));
    }

    fn entry() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z][a-z0-9_*/-]{0,9}=[ -+.-<>-~]{0,9}[!-+.-<>-~]",
            Just(String::new()),
            "[ \t]?ot=(rv:[0-9a-fA-F]{14};)?(th:[0-9a-f]{1,14};)?[a-z]{3}:[a-zA-Z0-9._-]{0,9}[ \t]?",
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            entries in proptest::collection::vec(entry(), 0..8),
            threshold in 0u64..1 << 56,
            randomness in proptest::option::of(0u64..1 << 56),
        ) {
            let text = entries.join(",");
            let mut state = TraceState::parse(&text).expect(&text);
            state.set_threshold(Threshold::from_bits(threshold));
            if let Some(bits) = randomness {
                state.set_randomness(Randomness::from_bits(bits));
            }
            let written = state.to_text();
            let read = TraceState::parse(&written).expect(&written);
            prop_assert_eq!(&read, &state, "{}", written);
            let kept = entries.iter().filter(|entry| !entry.is_empty() && !entry.trim().starts_with("ot="));
            let kept: Vec<&str> = kept.map(String::as_str).collect();
            let others = written.split_once(',').map_or("", |(_, others)| others);
            prop_assert_eq!(others, kept.join(","));
        }

        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = TraceState::parse(&text);
        }
    }
}
