//! Sampling log records: what they carry is in two attributes.
//!
//! Source: Collector, processor/probabilisticsamplerprocessor/{README.md,logsprocessor.go}.

use std::borrow::Cow;
use std::str::FromStr;

use super::{Arrived, HeadSampler, ItemError, Known, Rule, SampledOut};
use crate::LogColumns;
use crate::attribute::{self, AnyValue};
use crate::columns::{AttributeColumns, Value};
use crate::sampling::threshold::{Randomness, Threshold};

/// The attribute with what `th` is in a tracestate.
const THRESHOLD_KEY: &str = "sampling.threshold";
/// The attribute with what `rv` is in a tracestate.
const RANDOMNESS_KEY: &str = "sampling.randomness";

/// What of a record decides; by the names of the Collector's settings for logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSampling {
    /// Whether trace ids are looked at first.
    pub attribute_source: RandomnessSource,
    /// The attribute that the mode `hash_seed` hashes where there is no trace id, or none is looked at.
    pub from_attribute: Option<String>,
    /// The attribute with the percentage that a record asks for: 0 drops it, 100 keeps it.
    pub sampling_priority: Option<String>,
}

/// Where the randomness of a record comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RandomnessSource {
    /// The trace id, an attribute only where a record has none.
    #[default]
    TraceId,
    /// An attribute of the record.
    Record,
}

/// A text that names no [`RandomnessSource`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source of randomness {0:?} is not traceID or record")]
pub struct UnknownSource(String);

impl FromStr for RandomnessSource {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        match text {
            "traceID" => Ok(Self::TraceId),
            "record" => Ok(Self::Record),
            _ => Err(UnknownSource(text.to_owned())),
        }
    }
}

impl HeadSampler {
    /// Drops log records and writes into the attributes of the others with what threshold they were kept.
    ///
    /// A record that nothing decides on, for it has neither trace id nor attribute, is kept as it is and is no error:
    /// other than in the Collector, which drops it, this is the last place where it could be stored.
    /// A priority of 0 drops, as the Collector's documentation says; its code lets the usual decision stand.
    pub fn sample_logs(&self, settings: &LogSampling, columns: &mut LogColumns) -> SampledOut {
        let keys = Keys::of(settings, &columns.attributes);
        let mut sampled_out = SampledOut::default();
        let mut is_kept = Vec::with_capacity(columns.len());
        let mut thresholds = vec![None; columns.len()];
        let mut randomnesses = vec![None; columns.len()];
        for row in 0..columns.len() {
            let attributes = Row { attributes: &columns.attributes, row };
            let trace_id = columns.trace_id[row];
            let priority = attributes.value(keys.priority).and_then(|value| self.asked(value));
            let is_by_trace = settings.attribute_source == RandomnessSource::TraceId && !trace_id.is_zero();
            let hashed: Option<Cow<'_, [u8]>> = if is_by_trace {
                Some(Cow::Borrowed(&trace_id.0))
            } else {
                attributes.value(keys.source).and_then(bytes_of).filter(|bytes| !bytes.is_empty())
            };
            let arrived = attributes.arrived(&keys);
            let has_randomness = match self.rule {
                Rule::Never => true,
                Rule::Hash { .. } => hashed.is_some(),
                Rule::Equalizing { .. } | Rule::Proportional { .. } => {
                    !trace_id.is_zero() || arrived.is_ok_and(|known| known.randomness.is_some())
                }
            };
            if !has_randomness && priority.is_none() {
                is_kept.push(true);
                continue;
            }
            let decision = self.decide(arrived, trace_id, hashed.as_deref(), priority);
            is_kept.push(decision.is_kept);
            sampled_out.n_dropped += u64::from(!decision.is_kept);
            sampled_out.n_errors += u64::from(decision.is_error);
            if let (true, Some(marks)) = (decision.is_kept, decision.marks) {
                thresholds[row] = Some(marks.threshold.to_string());
                randomnesses[row] = marks.randomness.map(|randomness| randomness.to_string());
            }
        }
        for (key, texts) in [(RANDOMNESS_KEY, &randomnesses), (THRESHOLD_KEY, &thresholds)] {
            if texts.iter().any(Option::is_some) {
                columns.attributes.put_texts(key, texts);
            }
        }
        if sampled_out.n_dropped > 0 {
            columns.retain(&is_kept);
        }
        sampled_out
    }

    /// The threshold that a record asks for.
    fn asked(&self, priority: Value<'_>) -> Option<Threshold> {
        let percent = match priority {
            Value::Int(number) => number as f64,
            Value::Double(number) => number,
            Value::Empty | Value::String(_) | Value::Bool(_) | Value::Json(_) => return None,
        };
        if percent == 0.0 {
            Some(Threshold::NEVER)
        } else {
            Threshold::of_probability(percent.min(100.0) / 100.0, self.precision)
        }
    }
}

/// Positions of the keys that matter, where any record has them.
struct Keys {
    threshold: Option<u32>,
    randomness: Option<u32>,
    source: Option<u32>,
    priority: Option<u32>,
}

impl Keys {
    fn of(settings: &LogSampling, attributes: &AttributeColumns) -> Self {
        let find = |key: &str| attributes.key.dictionary.find(key);
        Self {
            threshold: find(THRESHOLD_KEY),
            randomness: find(RANDOMNESS_KEY),
            source: settings.from_attribute.as_deref().and_then(find),
            priority: settings.sampling_priority.as_deref().and_then(find),
        }
    }
}

/// The attributes of one record.
#[derive(Clone, Copy)]
struct Row<'a> {
    attributes: &'a AttributeColumns,
    row: usize,
}

impl<'a> Row<'a> {
    fn value(self, key: Option<u32>) -> Option<Value<'a>> {
        let key = key?;
        let entry = self.attributes.entries(self.row).find(|&at| self.attributes.key.rows[at] == key)?;
        Some(self.attributes.value(entry))
    }

    /// Only texts count, and an empty one is none.
    fn text(self, key: Option<u32>) -> Option<&'a str> {
        match self.value(key) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn arrived(self, keys: &Keys) -> Arrived {
        let readable = |is_readable: bool| if is_readable { Ok(()) } else { Err(ItemError::Unreadable) };
        let (threshold, randomness) = (self.text(keys.threshold), self.text(keys.randomness));
        let known = Known {
            threshold: threshold.and_then(Threshold::parse),
            randomness: randomness.and_then(Randomness::parse),
        };
        readable(threshold.is_some() == known.threshold.is_some())?;
        readable(randomness.is_some() == known.randomness.is_some())?;
        Ok(known)
    }
}

/// What is hashed of an attribute: bytes as they are, anything else as text.
fn bytes_of(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    let owned = |text: String| Some(Cow::Owned(text.into_bytes()));
    match value {
        Value::Empty => None,
        Value::String(text) => Some(Cow::Borrowed(text.as_bytes())),
        Value::Int(number) => owned(number.to_string()),
        Value::Double(number) => owned(number.to_string()),
        Value::Bool(truth) => owned(truth.to_string()),
        Value::Json(text) => match attribute::parse(text) {
            Ok(AnyValue::Bytes(bytes)) => Some(Cow::Owned(bytes)),
            _ => Some(Cow::Borrowed(text.as_bytes())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TraceId;
    use crate::logs::LogFields;
    use crate::sampling::head::{HeadSampling, Mode, hash_randomness};

    const HALF: TraceId =
        TraceId([0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x80, 0, 0, 0, 0, 0, 0]);

    fn settings(mode: Mode, percentage: &str) -> HeadSampling {
        HeadSampling { mode, ..HeadSampling::of(percentage.parse().expect("a percentage")) }
    }

    /// The attributes with which a record is kept, as `key=value`.
    fn sample(
        head: HeadSampling,
        logs: &LogSampling,
        trace_id: TraceId,
        attributes: &[(&str, Value<'_>)],
    ) -> (Option<Vec<String>>, SampledOut) {
        let mut columns = LogColumns::default();
        let origin = columns.origins.intern_resource("", "", "");
        for (key, value) in attributes {
            columns.attributes.push(key, *value);
        }
        columns.push_record(&LogFields { trace_id, ..LogFields::default() }, origin);
        let sampled_out = HeadSampler::new(&head).sample_logs(logs, &mut columns);
        let text = |(key, value): (&str, Value<'_>)| match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other:?}"),
        };
        let kept = (!columns.is_empty()).then(|| columns.attributes.row(0).map(text).collect());
        (kept, sampled_out)
    }

    fn check(
        head: HeadSampling,
        logs: &LogSampling,
        trace_id: TraceId,
        attributes: &[(&str, Value<'_>)],
        expect: Option<&[&str]>,
    ) {
        let (kept, _) = sample(head, logs, trace_id, attributes);
        let kept: Option<Vec<&str>> = kept.as_ref().map(|kept| kept.iter().map(String::as_str).collect());
        assert_eq!(kept.as_deref(), expect, "{attributes:?}");
    }

    #[test]
    fn records_of_a_trace_follow_it() {
        let logs = LogSampling::default();
        let half = settings(Mode::Equalizing, "50");
        check(half, &logs, HALF, &[], Some(&["sampling.threshold=8"]));
        check(settings(Mode::Equalizing, "49"), &logs, HALF, &[], None);
        let before = [("sampling.threshold", Value::String("c")), ("a", Value::Int(1))];
        check(half, &logs, TraceId([0xff; 16]), &before, Some(&["sampling.threshold=c", "a=Int(1)"]));
        let eighth = Some(&["sampling.threshold=e", "a=Int(1)"][..]);
        check(settings(Mode::Proportional, "50"), &logs, TraceId([0xff; 16]), &before, eighth);
        let given = [("sampling.randomness", Value::String("d0000000000000"))];
        let kept = ["sampling.randomness=d0000000000000", "sampling.threshold=c"];
        check(settings(Mode::Equalizing, "25"), &logs, HALF, &given, Some(&kept));
    }

    #[test]
    fn a_hash_is_made_of_trace_id_or_attribute() {
        let id = "0102030405060708090a0b0c0d0e0f10".parse().expect("an id");
        let half = settings(Mode::HashSeed, "50");
        let by_trace = ["sampling.randomness=976837c4f25a25", "sampling.threshold=8"];
        check(half, &LogSampling::default(), id, &[], Some(&by_trace));
        let by_record = LogSampling {
            attribute_source: RandomnessSource::Record,
            from_attribute: Some("unit".to_owned()),
            sampling_priority: None,
        };
        let all = settings(Mode::HashSeed, "100");
        for (value, bytes) in [
            (Value::String("pod-1"), &b"pod-1"[..]),
            (Value::Int(-5), b"-5"),
            (Value::Bool(true), b"true"),
            (Value::Double(1.0), b"1"),
            (Value::Json(r#"{"$bytes":"AP8="}"#), &[0, 255]),
            (Value::Json("[1]"), b"[1]"),
        ] {
            let (kept, _) = sample(all, &by_record, id, &[("unit", value)]);
            let randomness = format!("sampling.randomness={}", hash_randomness(bytes, 0));
            assert!(kept.expect("kept").contains(&randomness), "{value:?}");
        }
        let fallback = LogSampling { attribute_source: RandomnessSource::TraceId, ..by_record };
        let (kept, _) = sample(all, &fallback, id, &[("unit", Value::String("pod-1"))]);
        assert!(kept.expect("kept").contains(&by_trace[0].to_owned()));
        let (kept, _) = sample(all, &fallback, TraceId::NONE, &[("unit", Value::String("pod-1"))]);
        assert!(
            kept.expect("kept").contains(&format!("sampling.randomness={}", hash_randomness(b"pod-1", 0)))
        );
    }

    #[test]
    fn a_priority_is_a_percentage() {
        let logs = LogSampling { sampling_priority: Some("p".to_owned()), ..LogSampling::default() };
        let (all, little) = (settings(Mode::Equalizing, "100"), settings(Mode::Equalizing, "1"));
        check(all, &logs, HALF, &[("p", Value::Int(0))], None);
        check(little, &logs, HALF, &[("p", Value::Int(100))], Some(&["p=Int(100)", "sampling.threshold=0"]));
        let over = Some(&["p=Double(250.0)", "sampling.threshold=0"][..]);
        check(little, &logs, HALF, &[("p", Value::Double(250.0))], over);
        check(little, &logs, HALF, &[("p", Value::Int(50))], Some(&["p=Int(50)", "sampling.threshold=8"]));
        check(little, &logs, HALF, &[("p", Value::Int(49))], None);
        check(all, &logs, HALF, &[("p", Value::Int(-1))], Some(&["p=Int(-1)", "sampling.threshold=0"]));
        check(little, &logs, HALF, &[("p", Value::String("100"))], None);
    }

    #[test]
    fn records_without_anything_that_decides_are_kept() {
        for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
            let (kept, sampled_out) =
                sample(settings(mode, "1"), &LogSampling::default(), TraceId::NONE, &[("a", Value::Int(1))]);
            assert_eq!(kept.expect("kept"), ["a=Int(1)"]);
            assert_eq!(sampled_out, SampledOut::default());
        }
        check(settings(Mode::Equalizing, "0"), &LogSampling::default(), TraceId::NONE, &[], None);
    }

    #[test]
    fn errors_are_dropped_or_kept_as_told() {
        let check = |mode: Mode, key: &str, text: &str, kept_with: &[&str]| {
            let closed = settings(mode, "100");
            let attributes = [(key, Value::String(text))];
            let error = SampledOut { n_dropped: 1, n_errors: 1 };
            assert_eq!(sample(closed, &LogSampling::default(), HALF, &attributes), (None, error));
            let open = HeadSampling { fail_closed: false, ..closed };
            let (kept, sampled_out) = sample(open, &LogSampling::default(), HALF, &attributes);
            assert_eq!(kept.expect("kept"), kept_with, "{key}={text}");
            assert_eq!(sampled_out, SampledOut { n_dropped: 0, n_errors: 1 });
        };
        check(Mode::Equalizing, THRESHOLD_KEY, "x", &["sampling.threshold=x"]);
        check(Mode::Equalizing, RANDOMNESS_KEY, "1", &["sampling.randomness=1"]);
        check(Mode::Equalizing, THRESHOLD_KEY, "9", &["sampling.threshold=0"]);
        check(Mode::HashSeed, THRESHOLD_KEY, "8", &["sampling.threshold=8"]);
    }
}
