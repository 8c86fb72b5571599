//! What every implementation of the two traits has to do, as suites that run against any of them.
//!
//! Each case is a function named after the behaviour and works below a prefix of its own, so that a suite can run
//! against a store that others use, and again against one that kept the last run's data. A case panics where an
//! implementation is wrong.

mod key_value;
mod object;

pub use key_value::key_value;
pub use object::object;

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Tasks in a race.
const N_RACERS: usize = 16;

/// A prefix that no other case and no other run uses.
fn fresh_prefix(case: &str) -> String {
    // Each `RandomState` has its own keys. The name is all that is random in a suite.
    format!("conformance/{case}/{:016x}", RandomState::new().build_hasher().finish())
}

/// Starts all at once, each on its own task, and returns what they returned, in order.
async fn race<T: Send + 'static>(racers: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let racers: Vec<_> = racers.into_iter().map(tokio::spawn).collect();
    let mut outcomes = Vec::new();
    for racer in racers {
        outcomes.push(racer.await.expect("a racer panicked"));
    }
    outcomes
}
