//! Which windows of spans a question is ready to find, before it has read which there are.
//!
//! A question by id has to read the items of all windows. It reads those that it expects beside the list of windows, and
//! what the list names besides after it: the guess costs or saves time, and never says what there is.
//!
//! Whoever never asked expects what compaction leaves: a long window for each of the last days, and hours since the last
//! day that may not be merged; of several that ask at once only the first, so that not each opens that many connections.
//! Whoever asked before expects what was there, and what has begun since.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use model::{Signal, TenantId};

use crate::index::{NamedWindow, TableLayout, Window, hours_of_long_window};

/// Hours that may lie open, or wait for their day to be merged.
const HOURS: i64 = 27;
/// Days, that of now included.
const DAYS: i64 = 33;
/// Tenants whose windows are remembered.
const MAX_TENANTS: usize = 1_000;

/// The windows of tenants as they were when they were read last.
#[derive(Debug, Default)]
pub(super) struct SeenWindows(Mutex<HashMap<TenantId, Seen>>);

#[derive(Debug)]
struct Seen {
    windows: Vec<NamedWindow>,
    /// Seconds since the epoch.
    at_s: u64,
}

impl SeenWindows {
    /// The windows that a question at this time expects, seconds since the epoch: with the partitions that they had, or
    /// that the layout gives them.
    pub(super) fn expected(&self, tenant: &TenantId, layout: TableLayout, now_s: u64) -> Vec<NamedWindow> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = seen.get(tenant);
        let known = of_tenant.into_iter().flat_map(|seen| &seen.windows);
        let known: HashMap<Window, NamedWindow> = known.map(|named| (named.window, *named)).collect();
        let named = |window| known.get(&window).copied().unwrap_or(NamedWindow::of(window, layout));
        let windows = expected(of_tenant, now_s).into_iter().map(named).collect();
        if seen.len() >= MAX_TENANTS && !seen.contains_key(tenant) {
            seen.clear();
        }
        seen.entry(tenant.clone()).or_insert(Seen { windows: Vec::new(), at_s: now_s });
        windows
    }

    /// Notes the windows that there were at a time.
    pub(super) fn see(&self, tenant: &TenantId, windows: Vec<NamedWindow>, at_s: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(tenant.clone(), Seen { windows, at_s });
    }
}

fn expected(seen: Option<&Seen>, now_s: u64) -> BTreeSet<Window> {
    let hour_of = |at_s: u64| i64::try_from(at_s / 3600).unwrap_or(i64::MAX);
    let now = hour_of(now_s);
    let long = |days_ago: i64| {
        Window::of_hours(now.saturating_sub(24 * days_ago), hours_of_long_window(Signal::Traces))
    };
    let Some(seen) = seen else {
        let hours = now.saturating_sub(HOURS)..=now.saturating_add(1);
        return hours.map(Window::Hour).chain((0..DAYS).map(long)).chain([Window::Wide]).collect();
    };
    // Days are merged when they are over.
    let since = hour_of(seen.at_s).clamp(now.saturating_sub(HOURS), now)..=now;
    let days = [long(0), long(1)].into_iter();
    since.map(Window::Hour).chain(days).chain(seen.windows.iter().map(|named| named.window)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: TableLayout = TableLayout { shards: 4 };

    fn named(window: Window, shards: u8) -> NamedWindow {
        NamedWindow { window, shards }
    }

    #[test]
    fn who_never_asked_expects_what_compaction_leaves() {
        let windows = expected(None, 480_010 * 3600);
        assert_eq!(windows.len(), 1 + 29 + 33);
        assert!(windows.contains(&Window::Wide));
        for hour in 479_983..=480_011 {
            assert!(windows.contains(&Window::Hour(hour)), "{hour}");
        }
        for day in 0..33 {
            assert!(windows.contains(&Window::of_hours(480_010 - 24 * day, 24)), "{day}");
        }
        assert_eq!(expected(None, 0).len(), windows.len(), "at any time");
    }

    #[test]
    fn of_several_that_ask_at_once_the_first_guesses() {
        let (windows, tenant) = (SeenWindows::default(), TenantId::default_tenant());
        let expected = || windows.expected(&tenant, LAYOUT, 480_010 * 3600);
        assert_eq!(expected().len(), 1 + 29 + 33);
        assert_eq!(expected().len(), 1 + 2);
        windows.see(&tenant, vec![named(Window::Hour(7), 16)], 480_010 * 3600);
        let shards: Vec<u8> = expected().iter().map(|named| named.shards).collect();
        assert_eq!(shards, [16, 4, 4, 4], "as it was seen, or as the layout has it");
    }

    #[test]
    fn who_asked_before_expects_what_was_there_and_has_begun_since() {
        let seen = Seen {
            windows: [7, 480_008].map(|hour| named(Window::Hour(hour), 4)).to_vec(),
            at_s: 480_008 * 3600 + 1800,
        };
        let windows = expected(Some(&seen), 480_010 * 3600 + 60);
        let hours = [7, 480_008, 480_009, 480_010].map(Window::Hour);
        let days = [480_000, 479_976].map(|first| Window::Hours { first, n: 24 });
        assert_eq!(windows, hours.into_iter().chain(days).collect());
        assert_eq!(expected(Some(&seen), 0).len(), 2 + 1 + 2, "a clock that went back");
    }
}
