//! Series: selection, lookups, exemplars.
//!
//! A question reads the index items of the windows that it touches, keeps the files that may hold one of its metrics in
//! its time range, fetches the leading columns of each in one range, and takes the rows that pass its matchers. Rows of
//! one label set are joined over all files. Samples stay packed as merged files have them, a byte or two each, until
//! whoever asked looks at their series, one at a time.
//!
//! Where files have different values for one series and time, the greatest value by its bits counts: a rule that needs
//! no order of arrival, and that every reader and every merge follows. Equal samples count once.
//!
//! Delta series become cumulative by adding up from the start of the window: counters that begin at the window, as after
//! a restart.
//!
//! - `files`: selections of the files of an index. `portions`: what is read of files, and in which pieces.
//! - `join`: rows of one label set. `packed`: their samples.
//! - `lookup`: labels, metadata, exemplars.

mod files;
mod join;
mod lookup;
mod packed;
mod portions;

use model::series::SeriesView;
use model::{Matcher, Series, TenantId};

pub use files::{NamedFiles, SeriesFiles};
pub use lookup::{exemplars, label_names, label_sets, label_values, metadata};
pub use packed::Room;

use join::View;
use packed::PackedSeries;

use crate::{Error, Result, Store};

/// A selector with its time window.
#[derive(Debug, Clone)]
pub struct Selection {
    /// What its series must pass; all of it.
    pub matchers: Vec<Matcher>,
    /// Samples after this instant, ms since the epoch,
    pub start_ms_exclusive: i64,
    /// up to this one.
    pub end_ms: i64,
    /// Where the answer is only looked at in steps, these: of samples that the next one hides at every step, one need not
    /// be there.
    pub steps: Option<Steps>,
}

/// Instants at which series are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The first, ms since the epoch.
    pub first_ms: i64,
    /// Between two, more than 0.
    pub step_ms: i64,
}

impl Steps {
    /// The time of the first step that sees a sample.
    fn that_sees(self, time_ms: i64) -> i64 {
        let number = -(self.first_ms.saturating_sub(time_ms)).div_euclid(self.step_ms);
        self.first_ms.saturating_add(number.saturating_mul(self.step_ms))
    }

    /// Drops the samples that the next one hides at every step. Times ascend.
    fn thin(self, time_ms: &mut Vec<i64>, value: &mut Vec<f64>) {
        let mut n_kept = 0;
        let mut seen_at_ms = i64::MIN;
        for at in 0..time_ms.len() {
            if time_ms[at] > seen_at_ms {
                seen_at_ms = self.that_sees(time_ms[at]);
            }
            if time_ms.get(at + 1).is_none_or(|&next_ms| next_ms > seen_at_ms) {
                (time_ms[n_kept], value[n_kept]) = (time_ms[at], value[at]);
                n_kept += 1;
            }
        }
        time_ms.truncate(n_kept);
        value.truncate(n_kept);
    }
}

/// How much one question about series may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Series of one selector, or in the answer to a lookup.
    pub max_series: u64,
    /// Samples that are held, those of all selectors together; packed ones count by their bytes, 16 as one.
    pub max_samples: u64,
    /// Bytes read from objects.
    pub max_bytes: u64,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self { max_series: 500_000, max_samples: 50_000_000, max_bytes: 4 << 30 }
    }
}

/// What selections gave, packed.
pub struct Selected {
    selections: Vec<(View, Vec<PackedSeries>)>,
    /// Whether series are added up from the start of their window: with a later start their values are others.
    pub has_delta: bool,
}

impl Selected {
    /// How many series a selection has at most, by its number.
    pub fn n_series(&self, selection: usize) -> usize {
        self.selections.get(selection).map_or(0, |(_, series)| series.len())
    }

    /// A series of a selection, by their numbers, unpacked into `room`; `None` if it has nothing in the window. Series are
    /// numbered by their labels; what they have is cumulative and ascends by time.
    ///
    /// # Errors
    /// Stored samples are corrupt.
    pub fn unpack<'a>(
        &'a self,
        selection: usize,
        series: usize,
        room: &'a mut Room,
    ) -> Result<Option<SeriesView<'a>>> {
        let (view, all) = &self.selections[selection];
        let series = &all[series];
        let corrupt = |err| Error::corrupt(format!("samples of {:?}", series.labels), err);
        series.unpack(view, room).map_err(corrupt)
    }

    /// All series of a selection, unpacked; they count towards `n_samples`, of which there may be `limit`.
    fn unpack_all(&self, selection: usize, n_samples: &mut u64, limit: u64) -> Result<Vec<Series>> {
        let mut room = Room::default();
        let mut unpacked = Vec::with_capacity(self.n_series(selection));
        for number in 0..self.n_series(selection) {
            if let Some(view) = self.unpack(selection, number, &mut room)? {
                *n_samples += view.n_samples() as u64;
                within(*n_samples, limit, "samples")?;
                unpacked.push(view.to_series());
            }
        }
        Ok(unpacked)
    }
}

/// The series of each selection with their samples in its window, cumulative and ascending by time, by labels. All samples
/// are unpacked and count as such.
///
/// # Errors
/// As the stores; over a limit.
pub async fn select(
    store: &Store,
    tenant: &TenantId,
    selections: &[Selection],
    limits: &SeriesLimits,
) -> Result<Vec<Vec<Series>>> {
    let selected = select_packed(store, tenant, selections, limits).await?;
    let mut n_samples = 0;
    let mut unpack = |selection| selected.unpack_all(selection, &mut n_samples, limits.max_samples);
    (0..selections.len()).map(&mut unpack).collect()
}

/// As [`select`], packed.
///
/// # Errors
/// As the stores; over a limit.
pub async fn select_packed(
    store: &Store,
    tenant: &TenantId,
    selections: &[Selection],
    limits: &SeriesLimits,
) -> Result<Selected> {
    again_if_missing!(select_once(store, tenant, selections, limits))
}

async fn select_once(
    store: &Store,
    tenant: &TenantId,
    selections: &[Selection],
    limits: &SeriesLimits,
) -> Result<Selected> {
    let files = SeriesFiles::of(store, tenant, selections).await?;
    files.select(store, tenant, selections, limits).await
}

fn within(n: u64, limit: u64, unit: &'static str) -> Result<()> {
    if n > limit { Err(Error::OverLimit { limit, unit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_the_next_one_hides_at_every_step_go() {
        let check = |times: &[i64], expect: &[i64]| {
            let steps = Steps { first_ms: 100, step_ms: 10 };
            let mut time_ms = times.to_vec();
            let mut value: Vec<f64> = times.iter().map(|&time_ms| time_ms as f64).collect();
            steps.thin(&mut time_ms, &mut value);
            assert_eq!(time_ms, expect, "{times:?}");
            assert!(time_ms.iter().zip(&value).all(|(&time_ms, &value)| time_ms == value as i64));
        };
        check(&[], &[]);
        check(&[95], &[95]);
        check(&[95, 99, 100], &[100]);
        check(&[95, 100, 101, 105, 110, 111], &[100, 110, 111]);
        check(&[1, 50, 101, 250], &[1, 50, 101, 250]);
        check(&[81, 89, 91, 92], &[89, 92]);
        check(&[i64::MIN, i64::MAX], &[i64::MIN, i64::MAX]);
    }
}
