//! Retroactive sampling: a policy thins whole traces that are stored already, and says which it keeps and why.
//!
//! every span is counted by operation ([`Operations`]) → facts of each trace ([`TraceFacts`]) → [`decide`] → spans are
//! dropped, or their threshold is raised ([`thin`] does it all for one batch). A trace that is kept for a reason keeps
//! its weight; one that is kept by chance gets the threshold of the rest, so that weighted counts stay unbiased.
//! Decisions need no memory: they follow from the trace's randomness alone, so that a second run changes nothing, and
//! a trace that one percentage keeps is kept by every greater one.
//!
//! All spans of a trace are taken to share their randomness, as OpenTelemetry asks. Where only some carry an `rv`, the
//! greatest decides for all, and the weight of the others is right only as far as their samplers followed it too.

mod facts;
mod text;
mod thin;

use std::time::Duration;

pub use facts::{Gatherer, Operations, TraceFacts};
pub use text::PolicyError;
pub use thin::{Applied, Thinned, apply, raised, thin};

use super::threshold::{Precision, Threshold};

/// What of stored traces stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What keeps a trace whatever its randomness; the first rule that holds is the reason.
    pub keep: Vec<Keep>,
    /// The share of all other traces that is kept, 0 to 100.
    pub rest_percent: f64,
    /// The age from which traces are thinned; until then all stay.
    pub after: Duration,
}

/// A rule that keeps a trace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Any of its spans has the status "error".
    Errors,
    /// From its first start to its last end it takes as long or longer.
    Slow {
        /// The duration that is slow.
        at_least: Duration,
    },
    /// Any of its spans is of an operation, a name of a service, that has fewer spans in the set that is looked at.
    Rare {
        /// The number of spans with which an operation is no longer rare.
        fewer_than: u64,
    },
    /// Any of its spans or their resources has the attribute.
    Attribute {
        /// The key.
        key: String,
        /// The value as text; `None` for any.
        value: Option<String>,
    },
}

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It stays with the weight that it has, for this reason.
    Keep(&'a Keep),
    /// It stays by chance: each of its spans gets the greater of this threshold and its own.
    Sampled {
        /// The threshold of the rest.
        threshold: Threshold,
    },
    /// It goes.
    Drop,
}

impl Policy {
    /// What the randomness of a trace has to reach that no rule keeps; of four significant digits.
    pub fn threshold(&self) -> Threshold {
        Threshold::of_probability(self.rest_percent / 100.0, Precision::default()).unwrap_or(Threshold::NEVER)
    }
}

/// The decision on a trace; `facts` have to be those of all its spans, gathered for this policy.
pub fn decide<'a>(policy: &'a Policy, facts: &TraceFacts) -> Decision<'a> {
    let holds = |(at, rule): &(usize, &Keep)| match rule {
        Keep::Errors => facts.has_error,
        Keep::Slow { at_least } => facts.duration() >= *at_least,
        Keep::Rare { fewer_than } => facts.n_of_rarest < *fewer_than,
        Keep::Attribute { .. } => facts.attribute == Some(*at),
    };
    if let Some((_, reason)) = policy.keep.iter().enumerate().find(holds) {
        return Decision::Keep(reason);
    }
    let threshold = policy.threshold();
    if threshold.keeps(facts.randomness()) { Decision::Sampled { threshold } } else { Decision::Drop }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TraceId;
    use crate::sampling::threshold::Randomness;

    fn facts(trace_id: &str) -> TraceFacts {
        TraceFacts::of(trace_id.parse::<TraceId>().expect("an id"))
    }

    #[test]
    fn the_first_rule_that_holds_is_the_reason() {
        let text = "errors;slow=2s;rare=50;attribute=debug=true;attribute=payment.id;rest=0%;after=6h";
        let policy: Policy = text.parse().expect(text);
        let reason = |change: &dyn Fn(&mut TraceFacts)| {
            let mut facts = facts("1");
            facts.n_of_rarest = 50;
            (facts.min_start_ns, facts.max_end_ns) = (5, 5);
            change(&mut facts);
            match decide(&policy, &facts) {
                Decision::Keep(reason) => reason.to_string(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(reason(&|_| {}), "Drop");
        assert_eq!(reason(&|facts| facts.max_end_ns += 1_999_999_999), "Drop");
        assert_eq!(reason(&|facts| facts.max_end_ns += 2_000_000_000), "slow=2s");
        assert_eq!(reason(&|facts| facts.n_of_rarest = 49), "rare=50");
        assert_eq!(reason(&|facts| facts.attribute = Some(4)), "attribute=payment.id");
        assert_eq!(reason(&|facts| facts.attribute = Some(3)), "attribute=debug=true");
        let all = reason(&|facts| (facts.has_error, facts.n_of_rarest, facts.attribute) = (true, 1, Some(3)));
        assert_eq!(all, "errors");
    }

    #[test]
    fn the_rest_is_decided_by_randomness() {
        let half: Policy = "rest=50%;after=0s".parse().expect("a policy");
        let sampled = Decision::Sampled { threshold: Threshold::parse("8").expect("a threshold") };
        assert_eq!(decide(&half, &facts("fefefefefefefefefe80000000000000")), sampled);
        assert_eq!(decide(&half, &facts("fefefefefefefefefe7fffffffffffff")), Decision::Drop);
        // What is written down counts, not the id.
        let mut written = facts("fefefefefefefefefe7fffffffffffff");
        written.written_randomness = Randomness::parse("80000000000000");
        assert_eq!(decide(&half, &written), sampled);
        let check = |percent: f64, expect: Threshold| {
            assert_eq!(Policy { rest_percent: percent, ..half.clone() }.threshold(), expect, "{percent}");
        };
        check(100.0, Threshold::ALWAYS);
        check(0.0, Threshold::NEVER);
        check(10.0, Threshold::parse("e666").expect("a threshold"));
        check(1e-20, Threshold::NEVER);
    }
}
