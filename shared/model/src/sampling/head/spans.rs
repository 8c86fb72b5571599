//! Sampling spans: what they carry is in their tracestate.
//!
//! Source: Collector, processor/probabilisticsamplerprocessor/tracesprocessor.go.

use super::{Arrived, HeadSampler, ItemError, Known, SampledOut};
use crate::SpanColumns;
use crate::columns::Value;
use crate::ids::TraceId;
use crate::sampling::threshold::Threshold;
use crate::sampling::tracestate::TraceState;

/// The attribute by which a span asks to be kept or dropped. Source: OpenTracing, "Standard Span tags".
const PRIORITY_KEY: &str = "sampling.priority";

/// What a decision depends on: trace, position of the tracestate, threshold that the span asks for.
type Asked = (TraceId, u32, Option<Threshold>);

/// What became of a span.
#[derive(Clone, Copy)]
struct Outcome {
    is_kept: bool,
    is_error: bool,
    /// The position of its tracestate.
    trace_state: u32,
}

impl HeadSampler {
    /// Drops spans and writes into the tracestate of the others with what threshold they were kept.
    ///
    /// A trace keeps what the sampler decides on its id; `sampling.priority` overrides that for single spans: 0 drops,
    /// a greater number keeps. An error that is kept has `th:0` if its tracestate could be read, as in the Collector.
    pub fn sample_spans(&self, columns: &mut SpanColumns) -> SampledOut {
        let priority_key = columns.attributes.key.dictionary.find(PRIORITY_KEY);
        let mut sampled_out = SampledOut::default();
        let mut is_kept = Vec::with_capacity(columns.len());
        // Neighbours are often of one trace.
        let mut last: Option<(Asked, Outcome)> = None;
        for row in 0..columns.len() {
            let priority = priority_key.and_then(|key| priority(columns, row, key));
            let asked = (columns.trace_id[row], columns.trace_state.rows[row], priority);
            let outcome = match last {
                Some((same, outcome)) if same == asked => outcome,
                _ => self.outcome(columns, asked),
            };
            last = Some((asked, outcome));
            columns.trace_state.rows[row] = outcome.trace_state;
            is_kept.push(outcome.is_kept);
            sampled_out.n_dropped += u64::from(!outcome.is_kept);
            sampled_out.n_errors += u64::from(outcome.is_error);
        }
        if sampled_out.n_dropped > 0 {
            columns.retain(&is_kept);
        }
        sampled_out
    }

    fn outcome(&self, columns: &mut SpanColumns, (trace_id, position, priority): Asked) -> Outcome {
        let state = TraceState::parse(columns.trace_state.dictionary.get(position));
        let arrived: Arrived = match &state {
            Ok(state) => Ok(Known { randomness: state.randomness(), threshold: state.threshold() }),
            Err(_) => Err(ItemError::Unreadable),
        };
        let hashed = (!trace_id.is_zero()).then_some(&trace_id.0[..]);
        let decision = self.decide(arrived, trace_id, hashed, priority);
        let text = match (state, decision.marks) {
            (Ok(mut state), Some(marks)) if decision.is_kept => {
                if let Some(randomness) = marks.randomness {
                    state.set_randomness(randomness);
                }
                state.set_threshold(marks.threshold);
                Some(state.to_text())
            }
            _ => None,
        };
        let trace_state = text.map_or(position, |text| columns.trace_state.dictionary.intern(&text));
        Outcome { is_kept: decision.is_kept, is_error: decision.is_error, trace_state }
    }
}

/// The threshold that a span asks for. Texts count too: types get lost in translations between formats.
fn priority(columns: &SpanColumns, row: usize, key: u32) -> Option<Threshold> {
    let attributes = &columns.attributes;
    let entry = attributes.entries(row).find(|&entry| attributes.key.rows[entry] == key)?;
    let priority = match attributes.value(entry) {
        Value::Int(number) => number as f64,
        Value::Double(number) => number,
        Value::String(text) => text.parse().ok()?,
        Value::Empty | Value::Bool(_) | Value::Json(_) => return None,
    };
    if priority > 0.0 { Some(Threshold::ALWAYS) } else { (priority == 0.0).then_some(Threshold::NEVER) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::head::{HeadSampling, Mode};
    use crate::sampling::threshold::Precision;
    use crate::spans::SpanFields;

    /// Its randomness is 80000000000000: kept at 50 percent, not at 49.
    const HALF: &str = "fefefefefefefefefe80000000000000";
    /// Kept by any probability.
    const ALL: &str = "ffffffffffffffffffffffffffffffff";

    fn settings(mode: Mode, percentage: &str) -> HeadSampling {
        let percentage = percentage.parse().expect("a percentage");
        HeadSampling { mode, precision: Precision::FULL, ..HeadSampling::of(percentage) }
    }

    /// The tracestate with which a span is kept.
    fn sample_with(
        settings: HeadSampling,
        trace_id: &str,
        trace_state: &str,
        priority: Option<Value<'_>>,
    ) -> (Option<String>, SampledOut) {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("", "", "");
        if let Some(value) = priority {
            columns.attributes.push(PRIORITY_KEY, value);
        }
        let trace_id = trace_id.parse().expect("an id");
        columns.push_span(&SpanFields { trace_id, trace_state, ..SpanFields::default() }, origin);
        let sampled_out = HeadSampler::new(&settings).sample_spans(&mut columns);
        (columns.iter().next().map(|span| span.fields().trace_state.to_owned()), sampled_out)
    }

    fn sample(settings: HeadSampling, trace_id: &str, trace_state: &str) -> Option<String> {
        sample_with(settings, trace_id, trace_state, None).0
    }

    /// Source: Collector, tracesprocessor_test.go `Test_tracesamplerprocessor_TraceState`.
    #[test]
    fn thresholds_are_raised_as_in_the_collector() {
        const NONE: Option<&str> = None;
        let check = |id: &str, state: &str, percentage: &str, n_digits: u8, expect: [Option<&str>; 2]| {
            for (mode, expect) in [Mode::Equalizing, Mode::Proportional].into_iter().zip(expect) {
                let precision = Precision::try_from(n_digits).expect("a precision");
                let settings = HeadSampling { precision, ..settings(mode, percentage) };
                assert_eq!(
                    sample(settings, id, state).as_deref(),
                    expect,
                    "{mode} {percentage} {state} {id}"
                );
            }
        };
        let both = |text: &'static str| [Some(text), Some(text)];
        check(HALF, "", "100", 14, both("ot=th:0"));
        check(HALF, "", "200", 14, both("ot=th:0"));
        check(HALF, "", "50", 14, both("ot=th:8"));
        check(HALF, "", "49", 14, [NONE; 2]);
        check("ddddddddddddddddddc0000000000000", "", "25", 14, both("ot=th:c"));
        check("ddddddddddddddddddb0000000000000", "", "25", 14, [NONE; 2]);
        check(HALF, "ot=rv:FD70A3D70A3D71", "1", 14, both("ot=rv:FD70A3D70A3D71;th:fd70a3d70a3d71"));
        check(HALF, "ot=rv:FD70A3D70A3D71", "1", 4, both("ot=rv:FD70A3D70A3D71;th:fd70a"));
        check(HALF, "ot=rv:FD70A3D70A3D71", "1", 3, [NONE; 2]);
        check(HALF, "ot=rv:FD70A3D70A3D70", "1", 14, [NONE; 2]);
        check(HALF, "ot=rv:fd70B000000000", "1", 14, both("ot=rv:fd70B000000000;th:fd70a3d70a3d71"));
        check("a0a0a0a0a0a0a0a0a0fe000000000000", "", "1", 4, both("ot=th:fd70a"));
        let zeros = "ot=rv:90000000000000;th:80000000000000";
        check(HALF, zeros, "50", 14, [Some("ot=rv:90000000000000;th:8"), NONE]);
        check(HALF, "ot=th:8", "25", 14, [NONE; 2]);
        check(ALL, "ot=th:8", "25", 14, [Some("ot=th:c"), Some("ot=th:e")]);
        let carried = "ot=rv:c0000000000000;th:8";
        check(HALF, carried, "50", 14, [Some(carried), Some("ot=rv:c0000000000000;th:c")]);
        check(HALF, "ot=rv:a0000000000000", "40", 3, both("ot=rv:a0000000000000;th:99a"));
        let id = "a0a0a0a0a0a0a0a0a0d0000000000000";
        check(id, "ot=th:8", "40", 6, [Some("ot=th:99999a"), Some("ot=th:cccccd")]);
        check("a0a0a0a0a0a0a0a0a0b0000000000000", "ot=th:8", "40", 3, [Some("ot=th:99a"), NONE]);
        check("a0a0a0a0a0a0a0a0a080000000000000", "ot=th:8", "40", 3, [NONE; 2]);
        check(ALL, "ot=th:fffc", "0.006103515625", 14, [Some("ot=th:fffc"), Some("ot=th:fffffff")]);
        check(ALL, "ot=th:fffffffffffff8", "0.0625", 14, [Some("ot=th:fffffffffffff8"), NONE]);
        check(ALL, "", "99.99992", 10, both("ot=th:00000cccccccd"));
        check(HALF, "a=1,ot=th:0,b=2", "50", 14, both("ot=th:8,a=1,b=2"));
    }

    /// Calculated apart from this code by the rules of the Collector's fnvhasher.go and sampler_mode.go.
    #[test]
    fn a_hash_is_written_as_randomness() {
        let kept = sample(settings(Mode::HashSeed, "50"), "0102030405060708090a0b0c0d0e0f10", "");
        assert_eq!(kept.as_deref(), Some("ot=rv:976837c4f25a25;th:8"));
        let seed = |percentage, hash_seed| HeadSampling { hash_seed, ..settings(Mode::HashSeed, percentage) };
        assert_eq!(sample(seed("50", 22), "0102030405060708090a0b0c0d0e0f10", ""), None);
        let kept = sample(seed("25", 22), "4bf92f3577b34da6a3ce929d0e0e4736", "a=1");
        assert_eq!(kept, None);
        let kept = sample(seed("90", 22), "4bf92f3577b34da6a3ce929d0e0e4736", "a=1");
        assert_eq!(kept.as_deref(), Some("ot=rv:3e50158161306b;th:199c,a=1"));
    }

    /// Source: Collector, tracesprocessor_test.go `TestHashingFunction`, at 50 percent.
    #[test]
    fn a_hash_decides_as_in_the_collector() {
        let check = |seed: u32, trace_id: &str, is_kept: bool| {
            let settings = HeadSampling { hash_seed: seed, ..settings(Mode::HashSeed, "50") };
            assert_eq!(sample(settings, trace_id, "").is_some(), is_kept, "{seed} {trace_id}");
        };
        check(653, "474a03c76d75951a4b4c537ced8f1122", true);
        check(563, "53a518291e91307e43cd8467bb06f986", true);
        check(142, "a56a02f843b9bc6ee0b13889249e90e6", true);
        check(904, "4e40762d3ee97a1c0932e4fa584f89a8", false);
        check(445, "5224507db93db513f0ea2a4b4e0578c8", true);
        check(38, "0c8717ced36216037af657e9d7f8b35b", true);
        check(561, "2a8aa76c18d08e1e8be935541f9318c7", false);
        check(757, "9e3d0f9481dc422cb613ea550897ae71", false);
        check(22, "66a66c516ac22054673e5da5e6492545", false);
        check(172, "84a1ce7bcea3e66194e72b4aa2694e31", true);
        check(552, "a811a7def34ca4b98d8e320afd115fad", false);
        check(546, "e3a345cc8dbb6f014bfa1edad3981820", true);
    }

    #[test]
    fn a_priority_overrides_the_decision() {
        let check = |mode: Mode, percentage: &str, value: Value<'_>, expect: Option<&str>| {
            let settings = settings(mode, percentage);
            assert_eq!(sample_with(settings, HALF, "", Some(value)).0.as_deref(), expect, "{value:?}");
        };
        for value in [Value::Int(2), Value::Double(0.5), Value::String("1")] {
            check(Mode::Equalizing, "1", value, Some("ot=th:0"));
            check(Mode::Proportional, "0", value, Some("ot=th:0"));
        }
        for value in [Value::Int(0), Value::Double(-0.0), Value::String("0.0")] {
            check(Mode::Equalizing, "100", value, None);
        }
        for value in [Value::Int(-1), Value::String("x"), Value::Bool(true), Value::Empty] {
            check(Mode::Equalizing, "50", value, Some("ot=th:8"));
            check(Mode::Equalizing, "49", value, None);
        }
        // It never raises a probability that is written down.
        let kept = sample_with(settings(Mode::Equalizing, "1"), HALF, "ot=th:8", Some(Value::Int(1)));
        assert_eq!(kept.0.as_deref(), Some("ot=th:8"));
    }

    /// Source: Collector, tracesprocessor_test.go `Test_tracesamplerprocessor_TraceStateErrors`.
    #[test]
    fn errors_are_dropped_or_kept_as_told() {
        let check = |mode: Mode, trace_id: &str, trace_state: &str, kept_with: &str| {
            let error = SampledOut { n_dropped: 1, n_errors: 1 };
            let closed = settings(mode, "100");
            assert_eq!(sample_with(closed, trace_id, trace_state, None), (None, error), "{trace_state}");
            let open = HeadSampling { fail_closed: false, ..closed };
            let error = SampledOut { n_dropped: 0, n_errors: 1 };
            let kept = sample_with(open, trace_id, trace_state, None);
            assert_eq!(kept, (Some(kept_with.to_owned()), error), "{trace_state}");
            let asked = sample_with(closed, trace_id, trace_state, Some(Value::Int(1)));
            assert_eq!(asked, (Some(kept_with.to_owned()), error), "{trace_state}");
        };
        for mode in [Mode::Equalizing, Mode::Proportional] {
            for bad in ["ot=rv:abababababababab", "ot=th:abababababababab", "ot=th:-1", "A=1"] {
                check(mode, HALF, bad, bad);
            }
            check(mode, "00000000000000000000000000000000", "", "ot=th:0");
            check(mode, "ffffffffffffffffff70000000000000", "ot=th:8", "ot=th:0");
            check(mode, HALF, "ot=th:8;rv:70000000000000", "ot=rv:70000000000000;th:0");
        }
        for in_use in ["ot=th:8", "ot=th:0", "ot=rv:d0000000000000", "ot=th:8;rv:d0000000000000"] {
            check(Mode::HashSeed, HALF, in_use, in_use);
        }
    }

    #[test]
    fn spans_of_a_trace_go_together() {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("", "", "");
        for n in 0..1000u32 {
            // 400 traces, each of two or three spans far apart.
            let mut trace_id = TraceId([7; 16]);
            trace_id.0[12..].copy_from_slice(&(n % 400).wrapping_mul(0x9e37_79b9).to_be_bytes());
            columns.push_span(&SpanFields { trace_id, ..SpanFields::default() }, origin);
        }
        for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
            let mut kept = columns.clone();
            let sampled_out = HeadSampler::new(&settings(mode, "30")).sample_spans(&mut kept);
            assert_eq!(sampled_out.n_dropped, 1000 - kept.len() as u64);
            assert_eq!(sampled_out.n_errors, 0);
            let n_of =
                |columns: &SpanColumns, id| columns.trace_id.iter().filter(|&&other| other == id).count();
            for id in &kept.trace_id {
                assert_eq!(n_of(&kept, *id), n_of(&columns, *id));
            }
        }
    }
}
