//! Names: of windows, of partitions, of files.

use std::fmt;

use model::time::{HOUR_NS, SECOND_NS};
use model::{ContentHash, Signal, TenantId, TimeRange};

use crate::kv::{Key, SortRange};

/// How far a file may reach behind its least start and still be in an ordinary window.
pub const WINDOW_REACH_NS: i64 = HOUR_NS;

/// How each index window is spread over partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLayout {
    /// Partitions per window into which this process writes; windows say how many they have ([`NamedWindow`]). 1 locally;
    /// in DynamoDB one partition takes 1,000 writes a second.
    pub shards: u8,
}

/// A part of the index: an hour of span starts, some hours after merging, or the files that reach further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Files of requests that reach further than an hour.
    Wide,
    /// So many hours since the epoch.
    Hour(i64),
    /// Merged files of some hours.
    Hours {
        /// The first, since the epoch.
        first: i64,
        /// How many, more than 1.
        n: u8,
    },
}

impl Window {
    /// The window of a file with spans that start from `min_start_ns` to `max_start_ns`.
    pub fn of(min_start_ns: i64, max_start_ns: i64) -> Self {
        if max_start_ns.saturating_sub(min_start_ns) > WINDOW_REACH_NS {
            Self::Wide
        } else {
            Self::Hour(min_start_ns.div_euclid(HOUR_NS))
        }
    }

    /// Whether a file of this window may hold a span that starts in `range`.
    pub fn may_meet(self, range: TimeRange) -> bool {
        match self {
            Self::Wide => true,
            Self::Hour(hour) => hours_may_meet(hour, 1, range),
            Self::Hours { first, n } => hours_may_meet(first, n, range),
        }
    }

    /// The window of `n` hours, at a multiple of them since the epoch, in which an hour lies.
    pub fn of_hours(hour: i64, n: u8) -> Self {
        Self::Hours { first: hour.div_euclid(i64::from(n)) * i64::from(n), n }
    }

    /// First instant behind the window, ns since the epoch; files may reach [`WINDOW_REACH_NS`] further. `Wide` has none.
    pub fn end_ns(self) -> Option<i64> {
        match self {
            Self::Wide => None,
            Self::Hour(hour) => Some(hour.saturating_add(1).saturating_mul(HOUR_NS)),
            Self::Hours { first, n } => Some(first.saturating_add(i64::from(n)).saturating_mul(HOUR_NS)),
        }
    }

    /// The window with this name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "wide" {
            return Some(Self::Wide);
        }
        let (name, n) = match name.split_once('+') {
            Some((name, n)) => (name, Some(n.parse().ok()?)),
            None => (name, None),
        };
        let (date, hour) = name.split_once('T')?;
        let mut parts = date.rsplitn(3, '-');
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        let days = days_of(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        let first = days * 24 + hour.parse::<i64>().ok()?;
        Some(n.map_or(Self::Hour(first), |n| Self::Hours { first, n }))
    }
}

/// A window as the table names it: with the partitions over which those who named it spread its files.
///
/// Writers may differ in that: then the table has a name for each number, and a reader reads the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedWindow {
    /// The window.
    pub window: Window,
    /// Its partitions, at least 1.
    pub shards: u8,
}

impl NamedWindow {
    /// A window into which a process with this layout writes.
    pub fn of(window: Window, layout: TableLayout) -> Self {
        Self { window, shards: layout.shards.max(1) }
    }

    /// The window with this name. Names of earlier versions have no number: then it is that of the layout.
    pub fn parse(name: &str, layout: TableLayout) -> Option<Self> {
        match name.split_once('#') {
            Some((window, shards)) => {
                let shards = shards.parse().ok().filter(|shards| *shards > 0)?;
                Some(Self { window: Window::parse(window)?, shards })
            }
            None => Some(Self::of(Window::parse(name)?, layout)),
        }
    }
}

/// `2026-11-25T01#4`.
impl fmt::Display for NamedWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.window, self.shards)
    }
}

/// Hours of a long window: a chunk of samples is full after a quarter of a day; of a trace, one read per day finds it.
pub fn hours_of_long_window(signal: Signal) -> u8 {
    match signal {
        Signal::Metrics => 6,
        Signal::Traces | Signal::Logs => 24,
    }
}

fn hours_may_meet(first: i64, n: u8, range: TimeRange) -> bool {
    let first_ns = first.saturating_mul(HOUR_NS);
    let length_ns = i64::from(n) * HOUR_NS;
    range.meets(first_ns, first_ns.saturating_add(length_ns - 1).saturating_add(WINDOW_REACH_NS))
}

/// `2026-11-25T01` for an hour, `2026-11-25T00+6` for six from that one on.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hour = match self {
            Self::Wide => return f.write_str("wide"),
            Self::Hour(hour) => hour,
            Self::Hours { first, .. } => first,
        };
        let (year, month, day) = date_of(hour.div_euclid(24));
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}", hour.rem_euclid(24))?;
        match self {
            Self::Hours { n, .. } => write!(f, "+{n}"),
            _ => Ok(()),
        }
    }
}

/// Year, month and day of a day since the epoch, in the Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`date_of`]. Source: as there, `days_from_civil`.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Where a file is, in both stores. Everything follows from the content and its least start, so that the same
/// request gets the same names in any process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey {
    /// What it holds.
    pub signal: Signal,
    /// 0 as it arrived, higher when merged.
    pub level: u8,
    /// Least start of its spans, or least time of its samples, ns since the epoch.
    pub min_start_ns: i64,
    /// Hash of what it was made from.
    pub content: ContentHash,
}

impl FileKey {
    /// The key of the object, with folders that engines know as partitions:
    /// `tenant=<t>/signal=traces/date=2026-11-25/hour=01/l0-<content>.parquet`.
    pub fn object(&self, tenant: &TenantId) -> String {
        let seconds = self.min_start_ns.div_euclid(SECOND_NS);
        let (year, month, day) = date_of(seconds.div_euclid(86_400));
        let hour = seconds.rem_euclid(86_400) / 3_600;
        let (level, content) = (self.level, self.content);
        let signal = self.signal.as_str();
        format!(
            "tenant={tenant}/signal={signal}/date={year:04}-{month:02}-{day:02}/hour={hour:02}/l{level}-{content}.parquet"
        )
    }

    /// The sort key of the index item. Times sort as they are: 16 hex digits with the sign bit turned.
    pub fn sort(&self) -> String {
        format!("{}#{:016x}#{}", self.level, self.min_start_ns as u64 ^ 1 << 63, self.content)
    }

    /// The file of an index item.
    pub fn parse(signal: Signal, sort: &str) -> Option<Self> {
        let mut parts = sort.split('#');
        let (level, start, content) = (parts.next()?, parts.next()?, parts.next()?);
        let min_start_ns = (u64::from_str_radix(start, 16).ok()? ^ 1 << 63) as i64;
        Some(Self { signal, level: level.parse().ok()?, min_start_ns, content: content.parse().ok()? })
    }

    /// The sort key of the sieve of a merged file's traces: behind those of all items, in the same partition.
    pub fn sieve_sort(&self) -> String {
        format!("{SIEVE_PREFIX}{}", self.sort())
    }

    /// The key of the index item of a file in `window`.
    pub fn index(&self, tenant: &TenantId, window: Window, layout: TableLayout) -> Key {
        let shard = self.content.0[0] % layout.shards.max(1);
        Key::new(window_partition(tenant, self.signal, window, shard), self.sort())
    }
}

/// What the sort keys of sieves begin with.
pub const SIEVE_PREFIX: &str = "t#";

/// The items of files in the partition of a window; sieves are behind them.
pub const FILES: SortRange<'_> = SortRange { start: "", end: Some(":") };

/// The partition with a share of a window's files.
pub fn window_partition(tenant: &TenantId, signal: Signal, window: Window, shard: u8) -> String {
    format!("{tenant}#{}#{window}#{shard}", signal.as_str())
}

/// The window of such a partition.
pub fn window_of_partition(partition: &str) -> Option<Window> {
    Window::parse(partition.rsplit('#').nth(1)?)
}

/// The partition with all tenants; no tenant's name has a `#`.
pub const TENANTS_PARTITION: &str = "#tenants";

/// The partition with the windows in which a tenant has files of a signal.
pub fn windows_partition(tenant: &TenantId, signal: Signal) -> String {
    format!("{tenant}#{}#windows", signal.as_str())
}

/// The partition with the leases of all compactors; their sort keys are names of partitions.
pub const LEASES_PARTITION: &str = "#leases";

/// The partition with what merging has made superfluous, by when it may go.
pub const RETIRED_PARTITION: &str = "#retired";

/// The partition with requests to erase that are pending.
pub const ERASURES_PARTITION: &str = "#erasures";

/// The partition with requests to erase that are done.
pub const ERASED_PARTITION: &str = "#erased";

/// The partition with a tenant's services.
pub fn services_partition(tenant: &TenantId) -> String {
    format!("{tenant}#traces#services")
}

/// The partition with the names of a tenant's metrics.
pub fn metrics_partition(tenant: &TenantId) -> String {
    format!("{tenant}#metrics#names")
}

/// The partition with the names of the labels of a tenant's series.
pub fn labels_partition(tenant: &TenantId) -> String {
    format!("{tenant}#metrics#labels")
}

/// The partition with what senders said of a tenant's metric families.
pub fn metadata_partition(tenant: &TenantId) -> String {
    format!("{tenant}#metrics#metadata")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_come_back_and_sort_by_time(a in any::<i64>(), b in any::<i64>(), hour in -10_000_000i64..10_000_000) {
            let key = |min_start_ns| FileKey { signal: Signal::Metrics, level: 0, min_start_ns, content: ContentHash([7; 16]) };
            prop_assert_eq!(FileKey::parse(Signal::Metrics, &key(a).sort()), Some(key(a)));
            prop_assert_eq!(key(a).sort() < key(b).sort(), a < b);
            prop_assert_eq!(Window::parse(&Window::Hour(hour).to_string()), Some(Window::Hour(hour)));
            let six = Window::of_hours(hour, 6);
            prop_assert_eq!(Window::parse(&six.to_string()), Some(six));
        }
    }

    #[test]
    fn names_are_as_documented() {
        let tenant = TenantId::default_tenant();
        let file = FileKey {
            signal: Signal::Traces,
            level: 0,
            min_start_ns: 1_795_568_400 * SECOND_NS,
            content: ContentHash([0xab; 16]),
        };
        let content = "ab".repeat(16);
        assert_eq!(
            file.object(&tenant),
            format!("tenant=default/signal=traces/date=2026-11-25/hour=01/l0-{content}.parquet")
        );
        let window = Window::of(file.min_start_ns, file.min_start_ns + HOUR_NS);
        let key = file.index(&tenant, window, TableLayout { shards: 4 });
        assert_eq!(key.partition, "default#traces#2026-11-25T01#3");
        assert_eq!(window_of_partition(&key.partition), Some(window));
        assert_eq!(window_of_partition("default#traces#windows"), None);
        assert_eq!(key.sort, format!("0#98eb23f24beaa000#{content}"));
    }

    #[test]
    fn names_of_windows_say_how_many_partitions_they_have() {
        let layout = TableLayout { shards: 4 };
        let parse = |name| NamedWindow::parse(name, layout).map(|named| (named.window, named.shards));
        let (hour, day) = (Window::Hour(25), Window::Hours { first: 24, n: 24 });
        assert_eq!(NamedWindow::of(hour, layout).to_string(), "1970-01-02T01#4");
        assert_eq!(parse("1970-01-02T01#16"), Some((hour, 16)));
        assert_eq!(parse("1970-01-02T00+24#1"), Some((day, 1)));
        assert_eq!(parse("1970-01-02T01"), Some((hour, 4)), "of an earlier version");
        for bad in ["1970-01-02T01#", "1970-01-02T01#0", "1970-01-02T01#256", "hour#4", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_window_meets_what_its_files_may_hold() {
        let range = |start_ns, end_ns_exclusive| TimeRange { start_ns, end_ns_exclusive };
        let window = Window::of(5 * HOUR_NS + 10, 5 * HOUR_NS + 20);
        assert_eq!(window, Window::Hour(5));
        assert!(window.may_meet(range(5 * HOUR_NS, 5 * HOUR_NS + 1)));
        assert!(window.may_meet(range(6 * HOUR_NS + 5, 7 * HOUR_NS)), "a file may reach into the next hour");
        assert!(!window.may_meet(range(7 * HOUR_NS, 8 * HOUR_NS)));
        assert!(!window.may_meet(range(0, 5 * HOUR_NS)));
        let wide = Window::of(0, HOUR_NS + 1);
        assert_eq!(wide, Window::Wide);
        assert!(wide.may_meet(range(-1, 0)));
        assert_eq!(Window::of(i64::MIN, i64::MAX), Window::Wide);
    }
}
