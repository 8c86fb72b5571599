//! Thinning a batch that has all spans of its traces.

use std::collections::HashMap;

use super::{Decision, Gatherer, Operations, Policy, TraceFacts, decide};
use crate::SpanColumns;
use crate::ids::TraceId;
use crate::sampling::threshold::Threshold;
use crate::sampling::tracestate::TraceState;

/// What became of traces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Traces that stayed for a reason.
    pub n_kept_traces: u64,
    /// Traces that stayed by chance.
    pub n_sampled_traces: u64,
    /// Traces that went.
    pub n_dropped_traces: u64,
    /// Spans that went with them.
    pub n_dropped_spans: u64,
}

/// Drops the spans of traces that the policy does not keep, whatever their age, and raises the thresholds of those that
/// stay by chance. The batch has to have all spans of its traces: a trace in two batches is decided on twice.
pub fn thin(policy: &Policy, columns: &mut SpanColumns) -> Thinned {
    let mut operations = Operations::default();
    operations.add(columns);
    let gatherer = Gatherer::new(policy, columns, &operations);
    let mut traces: HashMap<TraceId, TraceFacts> = HashMap::new();
    for (row, &id) in columns.trace_id.iter().enumerate() {
        gatherer.add(row, traces.entry(id).or_insert_with(|| TraceFacts::of(id)));
    }
    let mut thinned = Thinned::default();
    let decisions: HashMap<TraceId, Decision<'_>> =
        traces.iter().map(|(&id, facts)| (id, decide(policy, facts))).collect();
    for decision in decisions.values() {
        match decision {
            Decision::Keep(_) => thinned.n_kept_traces += 1,
            Decision::Sampled { .. } => thinned.n_sampled_traces += 1,
            Decision::Drop => thinned.n_dropped_traces += 1,
        }
    }
    thinned.n_dropped_spans = apply(columns, |id| decisions[&id]).n_dropped;
    thinned
}

/// What became of the spans of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Spans that went.
    pub n_dropped: u64,
    /// Spans that stayed with another tracestate.
    pub n_raised: u64,
}

/// Drops the spans of traces that are to go, and raises the thresholds of those that stay by chance.
pub fn apply<'a>(columns: &mut SpanColumns, decision: impl Fn(TraceId) -> Decision<'a>) -> Applied {
    let mut applied = Applied::default();
    let mut is_kept = Vec::with_capacity(columns.len());
    // Positions of tracestates with the threshold of the rest, by position without it.
    let mut raised_states: HashMap<(u32, Threshold), u32> = HashMap::new();
    for row in 0..columns.len() {
        let decision = decision(columns.trace_id[row]);
        is_kept.push(decision != Decision::Drop);
        if let Decision::Sampled { threshold } = decision {
            let states = &mut columns.trace_state;
            let position = states.rows[row];
            let raised = *raised_states.entry((position, threshold)).or_insert_with(|| {
                let before = states.dictionary.get(position);
                let text = raised(before, threshold);
                if text == before { position } else { states.dictionary.intern(&text) }
            });
            applied.n_raised += u64::from(raised != position);
            states.rows[row] = raised;
        }
    }
    applied.n_dropped = is_kept.iter().filter(|&&is_kept| !is_kept).count() as u64;
    if applied.n_dropped > 0 {
        columns.retain(&is_kept);
    }
    applied
}

/// The tracestate of a span that `threshold` kept: with the greater of it and what is written there already.
///
/// [`Threshold::ALWAYS`] says nothing new and leaves it as it is. What is no tracestate is given up, as W3C allows: its
/// span would count as one for good.
pub fn raised(trace_state: &str, threshold: Threshold) -> String {
    if threshold == Threshold::ALWAYS {
        return trace_state.to_owned();
    }
    let mut state = TraceState::parse(trace_state).unwrap_or_default();
    state.set_threshold(state.threshold().map_or(threshold, |before| before.max(threshold)));
    state.to_text()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::sampling::tracestate::adjusted_count;
    use crate::sampling::{Randomness, tracestate};
    use crate::spans::{STATUS_ERROR, SpanFields};

    /// A seeded generator. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators".
    struct SplitMix(u64);

    impl SplitMix {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    /// What there was before any sampling, and what of it arrived.
    struct Arrived {
        columns: SpanColumns,
        n_spans: u64,
        n_errors: u64,
        /// Per trace its spans, its probability on arrival, and whether it has an error.
        traces: Vec<(u64, f64, bool)>,
    }

    /// Traces of one to four spans, one in 50 with an error, sampled by their SDK with no threshold, 50 or 25 percent.
    fn arrived(n_traces: u64, seed: u64) -> Arrived {
        let mut draw = SplitMix(seed);
        let mut arrived =
            Arrived { columns: SpanColumns::default(), n_spans: 0, n_errors: 0, traces: Vec::new() };
        let columns = &mut arrived.columns;
        let origin = columns.origins.intern_resource("shop", "", "");
        for _ in 0..n_traces {
            let mut trace_id = TraceId::NONE;
            trace_id.0[..8].copy_from_slice(&draw.next().to_be_bytes());
            trace_id.0[8..].copy_from_slice(&draw.next().to_be_bytes());
            let n_spans = draw.next() % 4 + 1;
            let has_error = draw.next().is_multiple_of(50);
            let trace_state = ["", "v=1,ot=th:8", "ot=th:c;x:y"][(draw.next() % 3) as usize];
            let state = TraceState::parse(trace_state).expect("a tracestate");
            let threshold = state.threshold().unwrap_or(Threshold::ALWAYS);
            arrived.n_spans += n_spans;
            arrived.n_errors += if has_error { n_spans } else { 0 };
            arrived.traces.push((n_spans, threshold.probability(), has_error));
            if threshold.keeps(Randomness::of_trace(trace_id)) {
                for n in 0..n_spans {
                    let status_code = if has_error && n == 0 { STATUS_ERROR } else { 0 };
                    let fields = SpanFields { trace_id, trace_state, status_code, ..SpanFields::default() };
                    columns.push_span(&fields, origin);
                }
            }
        }
        arrived
    }

    fn weighted(columns: &SpanColumns, is_counted: impl Fn(TraceId) -> bool) -> f64 {
        let weight = |row: usize| adjusted_count(columns.trace_state.get(row)).unwrap_or(1.0);
        (0..columns.len()).filter(|&row| is_counted(columns.trace_id[row])).map(weight).sum()
    }

    fn traces_with_errors(columns: &SpanColumns) -> HashSet<TraceId> {
        let rows = columns.trace_id.iter().zip(&columns.status_code);
        rows.filter(|(_, status)| **status == STATUS_ERROR).map(|(id, _)| *id).collect()
    }

    #[test]
    fn weighted_counts_are_unbiased() {
        for (seed, percent) in [(1, 50.0), (2, 25.0), (3, 10.0), (4, 3.3), (5, 1.0)] {
            let Arrived { mut columns, n_spans, n_errors, traces } = arrived(60_000, seed);
            let policy: Policy = format!("errors;rest={percent}%;after=0s").parse().expect("a policy");
            let share = policy.threshold().probability();
            thin(&policy, &mut columns);
            // A trace counts n/p spans with probability p, else none: the variance of that is n²(1-p)/p.
            let mut variances = [0.0, 0.0];
            for &(n, probability, has_error) in &traces {
                let p = if has_error { probability } else { probability.min(share) };
                variances[usize::from(has_error)] += (n * n) as f64 * (1.0 - p) / p;
            }
            let with_errors = traces_with_errors(&columns);
            let rest = weighted(&columns, |id| !with_errors.contains(&id));
            let off = (rest - (n_spans - n_errors) as f64) / variances[0].sqrt();
            assert!(off.abs() <= 3.0, "{percent}%: {rest} is {off} sigma off");
            let errors = weighted(&columns, |id| with_errors.contains(&id));
            let off = (errors - n_errors as f64) / variances[1].sqrt();
            assert!(off.abs() <= 3.0, "{percent}%: {errors} errors are {off} sigma off");
        }
    }

    #[test]
    fn traces_stay_or_go_whole() {
        let before = arrived(5_000, 7).columns;
        let policy: Policy = "errors;rest=10%;after=0s".parse().expect("a policy");
        let mut after = before.clone();
        let thinned = thin(&policy, &mut after);
        let n_of = |columns: &SpanColumns| {
            let mut n_spans: HashMap<TraceId, u64> = HashMap::new();
            for &id in &columns.trace_id {
                *n_spans.entry(id).or_default() += 1;
            }
            n_spans
        };
        let (n_before, n_after) = (n_of(&before), n_of(&after));
        assert!(n_after.iter().all(|(id, n)| n_before[id] == *n));
        assert_eq!(thinned.n_kept_traces + thinned.n_sampled_traces, n_after.len() as u64);
        assert_eq!(thinned.n_dropped_traces, (n_before.len() - n_after.len()) as u64);
        assert_eq!(thinned.n_dropped_spans, (before.len() - after.len()) as u64);
        assert_eq!(thinned.n_kept_traces, traces_with_errors(&before).len() as u64);
        assert_eq!(traces_with_errors(&after), traces_with_errors(&before));
    }

    #[test]
    fn thinning_again_changes_nothing_and_steps_add_up() {
        let policy =
            |percent| Policy { keep: Vec::new(), rest_percent: percent, after: std::time::Duration::ZERO };
        let mut at_once = arrived(5_000, 8).columns;
        let mut in_steps = at_once.clone();
        thin(&policy(5.0), &mut at_once);
        for percent in [100.0, 50.0, 20.0, 5.0, 5.0, 20.0] {
            thin(&policy(percent), &mut in_steps);
        }
        assert!(!at_once.is_empty());
        assert_eq!(at_once.len(), in_steps.len());
        assert!(at_once.iter().zip(in_steps.iter()).all(|(a, b)| a.same_as(b)));
    }

    #[test]
    fn thresholds_only_rise() {
        let check = |state: &str, threshold: &str, expect: &str| {
            let threshold = Threshold::parse(threshold).expect("a threshold");
            assert_eq!(raised(state, threshold), expect, "{state} {threshold}");
        };
        check("", "c", "ot=th:c");
        check("", "0", "");
        check("ot=th:8", "c", "ot=th:c");
        check("ot=th:e", "c", "ot=th:e");
        check("a=1,ot=x:y", "c", "ot=th:c;x:y,a=1");
        check("no tracestate", "c", "ot=th:c");
        assert_eq!(tracestate::adjusted_count(&raised("ot=th:8", Threshold::ALWAYS)), Some(2.0));
    }

    #[test]
    fn reasons_leave_the_weight_as_it_is() {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("shop", "", "");
        for n in 0..100u8 {
            let name = if n == 0 { "rare" } else { "usual" };
            let fields = SpanFields {
                trace_id: TraceId([n; 16]),
                name,
                trace_state: if n == 0 { "" } else { "ot=th:0" },
                ..SpanFields::default()
            };
            columns.push_span(&fields, origin);
        }
        let policy: Policy = "rare=2;rest=0%;after=0s".parse().expect("a policy");
        let expected =
            Thinned { n_kept_traces: 1, n_dropped_traces: 99, n_dropped_spans: 99, ..Thinned::default() };
        assert_eq!(thin(&policy, &mut columns), expected);
        assert_eq!((columns.name.get(0), columns.trace_state.get(0)), ("rare", ""));
    }
}
