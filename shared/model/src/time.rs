//! Time ranges. All times are nanoseconds since the Unix epoch; nobody here reads a clock.

/// Nanoseconds in a second.
pub const SECOND_NS: i64 = 1_000_000_000;
/// Nanoseconds in an hour.
pub const HOUR_NS: i64 = 3_600 * SECOND_NS;

/// The instants from `start_ns` up to, not including, `end_ns_exclusive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First instant in the range.
    pub start_ns: i64,
    /// First instant after the range.
    pub end_ns_exclusive: i64,
}

impl TimeRange {
    /// Every instant.
    pub const ALL: Self = Self { start_ns: i64::MIN, end_ns_exclusive: i64::MAX };

    /// Whether `instant_ns` lies in the range.
    pub fn contains(self, instant_ns: i64) -> bool {
        self.start_ns <= instant_ns && instant_ns < self.end_ns_exclusive
    }

    /// Whether any instant from `first_ns` to `last_ns` (both included) lies in the range.
    pub fn meets(self, first_ns: i64, last_ns: i64) -> bool {
        first_ns < self.end_ns_exclusive && self.start_ns <= last_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_includes_its_start_and_excludes_its_end() {
        let range = TimeRange { start_ns: 10, end_ns_exclusive: 20 };
        assert!(range.contains(10) && range.contains(19));
        assert!(!range.contains(9) && !range.contains(20));
        assert!(range.meets(0, 10) && range.meets(19, 30) && range.meets(0, 30));
        assert!(!range.meets(0, 9) && !range.meets(20, 30));
    }
}
