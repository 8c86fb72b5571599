//! The only place that reads the wall clock; everything else takes the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
fn since_epoch() -> std::time::Duration {
    // A clock set before 1970 reads as the epoch.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Nanoseconds since the Unix epoch.
pub fn now_ns() -> i64 {
    i64::try_from(since_epoch().as_nanos()).unwrap_or(i64::MAX)
}

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    since_epoch().as_secs()
}
