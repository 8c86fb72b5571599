//! The files that the index names, and what selections take of them.

use model::{Signal, TenantId, TimeRange};

use super::super::fetch::Asker;
use super::super::index::{self, IndexedFile};
use super::join::{Joined, View};
use super::portions::{
    Portion, Question, each_of, may_have_metrics, portions_of, time_range, wanted_metrics,
};
use super::{Selected, Selection, SeriesLimits, within};
use crate::block::series::Wanted;
use crate::index::{NamedWindow, SeriesSummary};
use crate::{Result, Store};

/// The files that the index named at one moment for the time windows of some selections.
pub struct SeriesFiles(Vec<IndexedFile>);

impl SeriesFiles {
    /// Reads the index for the windows of these selections.
    ///
    /// # Errors
    /// As the table.
    pub async fn of(store: &Store, tenant: &TenantId, selections: &[Selection]) -> Result<Self> {
        let known = index::known_windows(store, tenant, Signal::Metrics).await?;
        let ranges: Vec<TimeRange> = selections
            .iter()
            .filter(|selection| selection.start_ms_exclusive < selection.end_ms)
            .map(|selection| time_range(selection.start_ms_exclusive.saturating_add(1), selection.end_ms))
            .collect();
        let is_met = |named: &NamedWindow| ranges.iter().any(|range| named.window.may_meet(*range));
        let windows = known.into_iter().filter(is_met).collect();
        Ok(Self(index::files(store, tenant, Signal::Metrics, windows).await?))
    }

    /// As [`super::select_packed`], of these files. Selections whose windows were not asked for when the index was read
    /// may lack series.
    ///
    /// # Errors
    /// As [`super::select_packed`]; missing where a file was merged and deleted since the index was read.
    pub async fn select(
        &self,
        store: &Store,
        tenant: &TenantId,
        selections: &[Selection],
        limits: &SeriesLimits,
    ) -> Result<Selected> {
        let asker = Asker::new(store, tenant, limits.max_bytes);
        let mut joined: Vec<Joined> =
            selections.iter().map(|selection| Joined::new(View::of(selection))).collect();
        let mut n_held = 0;
        for together in read_together(selections) {
            let question = question_of(selections, &together);
            each_of(self.0.clone(), &asker, question, |file| {
                for (row, set) in file.sets.rows.iter().enumerate() {
                    for (at, &number) in together.iter().enumerate() {
                        if set.selectors >> at & 1 == 1 {
                            n_held += joined[number].add(&file, row)?;
                            within(joined[number].n_series() as u64, limits.max_series, "series")?;
                        }
                    }
                }
                within(n_held, limits.max_samples, "samples")
            })
            .await?;
        }
        let has_delta = joined.iter().any(Joined::has_delta);
        Ok(Selected { selections: joined.into_iter().map(Joined::finish).collect(), has_delta })
    }

    /// What [`SeriesFiles::select`] reads of objects for these selections, about; each request counts as what it could have
    /// read meanwhile.
    ///
    /// # Errors
    /// An item is corrupt.
    pub fn bytes_for(&self, selections: &[Selection]) -> Result<u64> {
        let mut bytes: u64 = 0;
        for together in read_together(selections) {
            let question = question_of(selections, &together);
            let metrics = wanted_metrics(&question.selectors);
            let mut portions = Vec::new();
            for file in &self.0 {
                portions_of(file.clone(), &question, metrics.as_deref(), &mut portions)?;
            }
            bytes = portions.iter().map(Portion::bytes).fold(bytes, u64::saturating_add);
        }
        Ok(bytes)
    }

    /// Which of the files may have something for each of these selections, at any time.
    ///
    /// # Errors
    /// An item is corrupt.
    pub fn named_by(&self, selections: &[Selection]) -> Result<NamedFiles> {
        let mut of_selections: Vec<Vec<NamedFile>> = selections.iter().map(|_| Vec::new()).collect();
        for file in &self.0 {
            let corrupt = |err| file.corrupt(err);
            let summary = SeriesSummary::parse(&file.item).map_err(corrupt)?;
            let named = NamedFile {
                sort: file.key.sort(),
                min_time_ms: summary.min_time_ms,
                max_time_ms: summary.max_time_ms,
            };
            for (selection, files) in selections.iter().zip(&mut of_selections) {
                let selectors = std::slice::from_ref(&selection.matchers);
                if may_have_metrics(&summary, wanted_metrics(selectors).as_deref()).map_err(corrupt)? {
                    files.push(named.clone());
                }
            }
        }
        for files in &mut of_selections {
            files.sort_unstable_by(|a, b| a.sort.cmp(&b.sort));
        }
        Ok(NamedFiles(of_selections))
    }
}

/// Per selection the files that may have one of its metrics.
pub struct NamedFiles(Vec<Vec<NamedFile>>);

#[derive(Clone)]
struct NamedFile {
    /// Level, least time and content: files never change.
    sort: String,
    min_time_ms: i64,
    max_time_ms: i64,
}

impl NamedFiles {
    /// A hash of the set of files that each selection may need in a window, given as an instant before it and its end, in
    /// ms. Where two are equal, so is what the selections give for these windows.
    pub fn hash_of(&self, windows: impl IntoIterator<Item = (i64, i64)>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (files, (start_ms_exclusive, end_ms)) in self.0.iter().zip(windows) {
            let is_met =
                |file: &&NamedFile| file.max_time_ms > start_ms_exclusive && file.min_time_ms <= end_ms;
            for file in files.iter().filter(is_met) {
                hasher.update(file.sort.as_bytes());
                hasher.update(b"\n");
            }
            hasher.update(b"\n");
        }
        *hasher.finalize().as_bytes()
    }
}

/// Most selections that are looked for in one reading of files: each has a bit of [`series::Row::selectors`].
const MAX_TOGETHER: usize = 63;

/// The numbers of selections whose files are read once for all of them: those whose time windows lie close to each
/// other. Selections of nothing are left out.
fn read_together(selections: &[Selection]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(i64, i64, i64, Vec<usize>)> = Vec::new();
    for (number, selection) in selections.iter().enumerate() {
        let (start, end) = (selection.start_ms_exclusive, selection.end_ms);
        if start >= end {
            continue;
        }
        let length = end.saturating_sub(start);
        let fits = |(first, last, longest, members): &&mut (i64, i64, i64, Vec<usize>)| {
            let in_all = (*last).max(end).saturating_sub((*first).min(start));
            members.len() < MAX_TOGETHER && in_all <= (*longest).max(length).saturating_mul(3) / 2
        };
        match groups.iter_mut().find(fits) {
            Some((first, last, longest, members)) => {
                (*first, *last, *longest) = ((*first).min(start), (*last).max(end), (*longest).max(length));
                members.push(number);
            }
            None => groups.push((start, end, length, vec![number])),
        }
    }
    groups.into_iter().map(|(_, _, _, members)| members).collect()
}

/// What files are asked for some of the selections together.
fn question_of(selections: &[Selection], together: &[usize]) -> Question {
    let views = together.iter().map(|&number| View::of(&selections[number]));
    Question {
        wanted: Wanted::Samples,
        selectors: together.iter().map(|&number| selections[number].matchers.clone()).collect(),
        first_ms: views.clone().map(|view| view.first_ms).min().unwrap_or(0),
        last_ms: views.map(|view| view.last_ms).max().unwrap_or(0),
    }
}
