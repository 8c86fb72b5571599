//! Consistent probability sampling: who is kept, and with what weight it counts then. Pure.
//!
//! Every item has 56 bits of randomness, which all spans of a trace share, and is kept where they reach a threshold.
//! The threshold of what was kept is written down, so that whoever counts later can multiply; a later sampler may only
//! raise it. Nothing here reads a clock or stores anything: whoever calls drops the rows and keeps the rest.
//!
//! - [`threshold`]: the two numbers and their texts.
//! - [`tracestate`]: where spans carry them, and the weight of a span.
//! - [`head`]: the decision on each item as it arrives, as the Collector's probabilistic sampler makes it.
//! - [`policy`]: the decision on whole traces that are stored already.

pub mod head;
pub mod policy;
pub mod threshold;
pub mod tracestate;

pub use head::{HeadSampler, HeadSampling, LogSampling};
pub use policy::{Policy, TraceFacts};
pub use threshold::{Precision, Randomness, Threshold};
pub use tracestate::TraceState;
