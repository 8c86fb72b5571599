//! Parts of dates, in UTC.

/// Parts of the instant so many seconds after the epoch.
pub(super) struct Date {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) day_of_year: i64,
    /// 0 is Sunday.
    pub(super) day_of_week: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
}

impl Date {
    /// Seconds are taken as Go's `time` takes them, which matters beyond the years that fit: they wrap.
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`; Go `time/time.go`.
    pub(super) fn of(seconds: i64) -> Self {
        /// Years begin in March here, so that the leap day is a year's last; these are the days from such a beginning,
        /// in a year that is long past and begins an era of 400 years, to that of the year 0, and from there to 1970.
        const DAYS_TO_YEAR_0: u64 = 730_692_556 * 146_097;
        const DAYS_TO_EPOCH: u64 = 719_468;
        let absolute = (seconds as u64).wrapping_add((DAYS_TO_YEAR_0 + DAYS_TO_EPOCH) * 86_400);
        let (days, second) = (absolute / 86_400, (absolute % 86_400) as i64);
        let shifted = days as i64 - DAYS_TO_YEAR_0 as i64;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * march_day + 2) / 153;
        let day = march_day - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let before: i64 = (1..month).map(|month| days_in(year, month)).sum();
        Self {
            year,
            month,
            day,
            day_of_year: before + day,
            day_of_week: (shifted - DAYS_TO_EPOCH as i64 + 4).rem_euclid(7),
            hour: second / 3600,
            minute: second / 60 % 60,
        }
    }

    pub(super) fn days_in_month(&self) -> i64 {
        days_in(self.year, self.month)
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_these_parts() {
        let check = |seconds: i64, expect: [i64; 8]| {
            let date = Date::of(seconds);
            let parts = [
                date.year,
                date.month,
                date.day,
                date.day_of_year,
                date.day_of_week,
                date.hour,
                date.minute,
                date.days_in_month(),
            ];
            assert_eq!(parts, expect, "{seconds}");
        };
        check(0, [1970, 1, 1, 1, 4, 0, 0, 31]);
        check(1_709_208_000, [2024, 2, 29, 60, 4, 12, 0, 29]);
        check(1_735_689_599, [2024, 12, 31, 366, 2, 23, 59, 31]);
        check(-1, [1969, 12, 31, 365, 3, 23, 59, 31]);
        // What Go makes of numbers that are no seconds.
        check(i64::MIN, [292_277_026_596, 12, 4, 339, 0, 15, 30, 31]);
    }
}
