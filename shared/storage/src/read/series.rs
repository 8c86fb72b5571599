//! Series: selection, lookups, exemplars.
//!
//! A question reads the index items of the windows that it touches, keeps the files that may hold one of its metrics in
//! its time range, fetches the leading columns of each in one range, and takes the rows that pass its matchers. Rows of
//! one label set are joined over all files.
//!
//! Where files have different values for one series and time, the greatest value by its bits counts: a rule that needs
//! no order of arrival, and that every reader and every merge follows. Equal samples count once.
//!
//! Delta series become cumulative by adding up from the start of the window: counters that begin at the window, as after
//! a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use futures::stream::TryStreamExt as _;
use hashbrown::HashTable;
use model::histogram::{ResetHint, combined};
use model::labels::METRIC_NAME;
use model::series::{Exemplar, HistogramSample, Metadata, Temporality};
use model::{Labels, Matcher, NativeHistogram, Series, Signal, TenantId, TimeRange};

use super::fetch::{self, Asker};
use super::index::{self, IndexedFile};
use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts};
use crate::block::series::{self, FileSeries, LabelReader, LabelSet, Wanted};
use crate::index::{Places, SeriesSummary, UnitSummary, Window, keys, names};
use crate::kv::{Key, SortRange, range_all};
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
    /// The first step that sees a sample.
    fn that_sees(self, time_ms: i64) -> i64 {
        -(self.first_ms.saturating_sub(time_ms)).div_euclid(self.step_ms)
    }
}

/// How much one question about series may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Series of one selector, or in the answer to a lookup.
    pub max_series: u64,
    /// Samples, those of all selectors together.
    pub max_samples: u64,
    /// Bytes read from objects.
    pub max_bytes: u64,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self { max_series: 500_000, max_samples: 50_000_000, max_bytes: 4 << 30 }
    }
}

/// The series of each selection with their samples in its window, cumulative and ascending by time, in no order.
///
/// # Errors
/// As the stores; over a limit.
pub async fn select(
    store: &Store,
    tenant: &TenantId,
    selections: &[Selection],
    limits: &SeriesLimits,
) -> Result<Vec<Vec<Series>>> {
    again_if_missing!(select_once(store, tenant, selections, limits))
}

async fn select_once(
    store: &Store,
    tenant: &TenantId,
    selections: &[Selection],
    limits: &SeriesLimits,
) -> Result<Vec<Vec<Series>>> {
    let files = SeriesFiles::of(store, tenant, selections).await?;
    Ok(files.select(store, tenant, selections, limits).await?.series)
}

/// The files that the index named at one moment for the time windows of some selections.
pub struct SeriesFiles(Vec<IndexedFile>);

/// What selections gave.
pub struct Selected {
    /// As [`select`] gives them.
    pub series: Vec<Vec<Series>>,
    /// Whether series were added up from the start of their window: with a later start their values are others.
    pub has_delta: bool,
}

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
        let is_met = |window: &Window| ranges.iter().any(|range| window.may_meet(*range));
        let windows = known.into_iter().filter(is_met).collect();
        Ok(Self(index::files(store, tenant, Signal::Metrics, windows).await?))
    }

    /// As [`select`], of these files. Selections whose windows were not asked for when the index was read may lack series.
    ///
    /// # Errors
    /// As [`select`]; missing where a file was merged and deleted since the index was read.
    pub async fn select(
        &self,
        store: &Store,
        tenant: &TenantId,
        selections: &[Selection],
        limits: &SeriesLimits,
    ) -> Result<Selected> {
        let asker = Asker::new(store, tenant, limits.max_bytes);
        let mut joined: Vec<Joined> = selections.iter().map(|_| Joined::default()).collect();
        let mut n_samples = 0;
        for together in read_together(selections) {
            let of = |numbers: &[usize], pick: fn(&Selection) -> i64| {
                numbers.iter().map(|&number| pick(&selections[number])).collect()
            };
            let starts: Vec<i64> = of(&together, |selection| selection.start_ms_exclusive.saturating_add(1));
            let ends: Vec<i64> = of(&together, |selection| selection.end_ms);
            let question = question_of(selections, &together);
            each_of(self.0.clone(), &asker, question, |file| {
                for (row, set) in file.sets.rows.iter().enumerate() {
                    for (at, &number) in together.iter().enumerate() {
                        if set.selectors >> at & 1 == 1 {
                            let range_ms = (starts[at], ends[at]);
                            n_samples += joined[number].add(&file, row, range_ms, selections[number].steps);
                            within(joined[number].series.len() as u64, limits.max_series, "series")?;
                        }
                    }
                }
                within(n_samples, limits.max_samples, "samples")
            })
            .await?;
        }
        let has_delta = joined.iter().any(Joined::has_delta);
        Ok(Selected { series: joined.into_iter().map(Joined::finish).collect(), has_delta })
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
    let members = || together.iter().map(|&number| &selections[number]);
    Question {
        wanted: Wanted::Samples,
        selectors: members().map(|selection| selection.matchers.clone()).collect(),
        first_ms: members()
            .map(|selection| selection.start_ms_exclusive.saturating_add(1))
            .min()
            .unwrap_or(0),
        last_ms: members().map(|selection| selection.end_ms).max().unwrap_or(0),
    }
}

/// The label sets that pass any of the selectors and have something from `first_ms` to `last_ms`, as far as their files
/// tell; sorted. Of no selectors, all.
///
/// # Errors
/// As the stores; over a limit.
pub async fn label_sets(
    store: &Store,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    range_ms: (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<Labels>> {
    again_if_missing!(label_sets_once(store, tenant, selectors, range_ms, limits))
}

async fn label_sets_once(
    store: &Store,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    (first_ms, last_ms): (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<Labels>> {
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let mut seen: HashTable<u128> = HashTable::new();
    let mut sets = Vec::new();
    let mut texts = Texts::default();
    let question = Question { wanted: Wanted::Labels, selectors: selectors.to_vec(), first_ms, last_ms };
    each_file(store, tenant, &asker, question, |file| {
        for set in &file.sets.rows {
            if seen.find(set.hash as u64, |other| *other == set.hash).is_none() {
                seen.insert_unique(set.hash as u64, set.hash, |hash| *hash as u64);
                sets.push(file.sets.labels_with(set, &mut |text| texts.share(text)));
            }
        }
        within(sets.len() as u64, limits.max_series, "series")
    })
    .await?;
    sets.sort_unstable();
    Ok(sets)
}

/// The names of labels, sorted; without selectors all that the tenant ever had, else of the series that pass any.
///
/// # Errors
/// As the stores; over a limit.
pub async fn label_names(
    store: &Store,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    range_ms: (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<String>> {
    again_if_missing!(label_names_once(store, tenant, selectors, range_ms, limits))
}

async fn label_names_once(
    store: &Store,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    (first_ms, last_ms): (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<String>> {
    if selectors.is_empty() {
        let mut names = known_texts(store, &keys::labels_partition(tenant)).await?;
        if !names.is_empty() {
            let at = names.partition_point(|name| name.as_str() < METRIC_NAME);
            names.insert(at, METRIC_NAME.to_owned());
        }
        return Ok(names);
    }
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let mut names: BTreeSet<String> = BTreeSet::new();
    let question = Question { wanted: Wanted::Labels, selectors: selectors.to_vec(), first_ms, last_ms };
    each_file(store, tenant, &asker, question, |file| {
        for set in &file.sets.rows {
            let has_metric = !file.sets.label(set, METRIC_NAME).is_empty();
            for name in file.sets.label_names(set).chain(has_metric.then_some(METRIC_NAME)) {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        within(names.len() as u64, limits.max_series, "labels")
    })
    .await?;
    Ok(names.into_iter().collect())
}

/// The values of a label, sorted; of the series that pass any of the selectors, or of all. The names of metrics
/// without selectors are those that the tenant ever had.
///
/// # Errors
/// As the stores; over a limit.
pub async fn label_values(
    store: &Store,
    tenant: &TenantId,
    name: &str,
    selectors: &[Vec<Matcher>],
    range_ms: (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<String>> {
    again_if_missing!(label_values_once(store, tenant, name, selectors, range_ms, limits))
}

async fn label_values_once(
    store: &Store,
    tenant: &TenantId,
    name: &str,
    selectors: &[Vec<Matcher>],
    (first_ms, last_ms): (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<String>> {
    if selectors.is_empty() && name == METRIC_NAME {
        return known_texts(store, &keys::metrics_partition(tenant)).await;
    }
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let mut values: BTreeSet<String> = BTreeSet::new();
    let question = Question { wanted: Wanted::Labels, selectors: selectors.to_vec(), first_ms, last_ms };
    each_file(store, tenant, &asker, question, |file| {
        for set in &file.sets.rows {
            let value = file.sets.label(set, name);
            if !value.is_empty() && !values.contains(value) {
                values.insert(value.to_owned());
            }
        }
        within(values.len() as u64, limits.max_series, "label values")
    })
    .await?;
    Ok(values.into_iter().collect())
}

/// What senders said of metric families: of one, or of all; by family.
///
/// # Errors
/// As the table.
pub async fn metadata(store: &Store, tenant: &TenantId, family: Option<&str>) -> Result<Vec<Metadata>> {
    let partition = keys::metadata_partition(tenant);
    let items = match family {
        Some(family) if family.len() > names::MAX_NAME_BYTES => Vec::new(),
        Some(family) => {
            let sort = names::service_sort(family);
            let item = store.table.get(&Key::new(partition, sort.clone())).await?;
            item.map(|item| (sort, item)).into_iter().collect()
        }
        None => range_all(&*store.table, &partition, SortRange::ALL).await?,
    };
    let mut said = Vec::new();
    for (sort, item) in items {
        let family = names::service_of(&sort);
        let statements = names::Said::parse(family, &item.value)
            .map_err(|err| Error::corrupt(format!("metadata of {family}"), err))?;
        said.extend(statements.statements);
    }
    Ok(said)
}

/// The exemplars of the series that pass any of the selectors, by label set; each list ascending by time.
///
/// # Errors
/// As the stores; over a limit.
pub async fn exemplars(
    store: &Store,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    range_ms: (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
    again_if_missing!(exemplars_once(store, tenant, selectors, range_ms, limits))
}

async fn exemplars_once(
    store: &Store,
    tenant: &TenantId,
    selectors: &[Vec<Matcher>],
    (first_ms, last_ms): (i64, i64),
    limits: &SeriesLimits,
) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
    let asker = Asker::new(store, tenant, limits.max_bytes);
    let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    let mut n_exemplars = 0;
    let question = Question { wanted: Wanted::Exemplars, selectors: selectors.to_vec(), first_ms, last_ms };
    each_file(store, tenant, &asker, question, |file| {
        for (row, set) in file.sets.rows.iter().enumerate() {
            let within = file
                .exemplars(row)
                .iter()
                .filter(|exemplar| (first_ms..=last_ms).contains(&exemplar.time_ms));
            let mut within = within.peekable();
            if within.peek().is_some() {
                let list = found.entry(file.sets.labels(set)).or_default();
                let n_before = list.len();
                list.extend(within.cloned());
                n_exemplars += (list.len() - n_before) as u64;
            }
        }
        within(n_exemplars, limits.max_samples, "exemplars")
    })
    .await?;
    for list in found.values_mut() {
        series::exemplars::sort(list);
    }
    Ok(found.into_iter().collect())
}

fn within(n: u64, limit: u64, unit: &'static str) -> Result<()> {
    if n > limit { Err(Error::OverLimit { limit, unit }) } else { Ok(()) }
}

async fn known_texts(store: &Store, partition: &str) -> Result<Vec<String>> {
    let items = range_all(&*store.table, partition, SortRange::ALL).await?;
    Ok(items.into_iter().map(|(sort, _)| names::service_of(&sort).to_owned()).collect())
}

/// What is asked of files.
struct Question {
    wanted: Wanted,
    selectors: Vec<Vec<Matcher>>,
    first_ms: i64,
    last_ms: i64,
}

/// Instants in ms, both included.
fn time_range(first_ms: i64, last_ms: i64) -> TimeRange {
    TimeRange {
        start_ns: first_ms.saturating_mul(1_000_000),
        end_ns_exclusive: last_ms.saturating_add(1).saturating_mul(1_000_000),
    }
}

/// As [`each_of`], of the files that the index names now.
async fn each_file(
    store: &Store,
    tenant: &TenantId,
    asker: &Asker,
    question: Question,
    take: impl FnMut(FileSeries) -> Result<()>,
) -> Result<()> {
    let known = index::known_windows(store, tenant, Signal::Metrics).await?;
    let windows = index::windows_in(&known, time_range(question.first_ms, question.last_ms));
    let files = index::files(store, tenant, Signal::Metrics, windows).await?;
    each_of(files, asker, question, take).await
}

/// Hands the wanted rows of each file that may have some to `take`, in the order of the files.
async fn each_of(
    files: Vec<IndexedFile>,
    asker: &Asker,
    question: Question,
    mut take: impl FnMut(FileSeries) -> Result<()>,
) -> Result<()> {
    let metrics = wanted_metrics(&question.selectors);
    let mut portions = Vec::with_capacity(files.len());
    for file in files {
        portions_of(file, &question, metrics.as_deref(), &mut portions)?;
    }
    let (wanted, range_ms) = (question.wanted, (question.first_ms, question.last_ms));
    let labels = Arc::new(LabelReader::new(question.selectors));
    let fetched = fetch::each(portions, fetch::CONCURRENT_TASKS, |portion| {
        let (asker, labels) = (asker.clone(), Arc::clone(&labels));
        async move { read_portion(&asker, portion, wanted, &labels).await }
    });
    // Units grow tenfold when they are decoded: many are fetched at once, and few wait decoded.
    let decode = |fetched| {
        let labels = Arc::clone(&labels);
        let is_done = matches!(fetched, Fetched::Decoded(_));
        let work = async move { decode_units(fetched, wanted, range_ms, &labels) };
        async move { if is_done { work.await } else { fetch::spawned(work).await } }
    };
    let decoded = fetched.map_ok(decode).try_buffered(CONCURRENT_DECODES);
    let mut decoded = std::pin::pin!(decoded);
    while let Some(files) = decoded.try_next().await? {
        for file in files {
            take(file)?;
        }
    }
    Ok(())
}

/// What is read of a file in one go.
struct Portion {
    file: IndexedFile,
    rows: Rows,
}

enum Rows {
    /// All of a file of one request.
    All(ChunkTable),
    /// Some units of a merged file, one behind the other.
    Units(Vec<ChunkTable>),
}

impl fetch::Portion for Portion {
    fn is_small(&self) -> bool {
        matches!(self.rows, Rows::All(_))
    }
}

impl Portion {
    /// What reading its samples reads.
    fn bytes(&self) -> u64 {
        let (units, columns) = match &self.rows {
            Rows::All(table) => (std::slice::from_ref(table), Wanted::Samples.columns()),
            Rows::Units(units) => (&**units, Wanted::Samples.merged_columns()),
        };
        let ranges = units.iter().flat_map(|unit| unit.ranges(columns, fetch::JOIN_GAP));
        ranges.map(|range| range.end - range.start).fold(fetch::JOIN_GAP, u64::saturating_add)
    }
}

/// Units that are read in one go have at most as many bytes, or are one.
const PORTION_BYTES: u64 = 512 << 10;

/// Adds the portions of a file that may have what is asked for.
fn portions_of(
    file: IndexedFile,
    question: &Question,
    metrics: Option<&[&str]>,
    portions: &mut Vec<Portion>,
) -> Result<()> {
    let corrupt = |err| file.corrupt(err);
    let summary = SeriesSummary::parse(&file.item).map_err(corrupt)?;
    if !may_match(&summary, question, metrics).map_err(corrupt)? {
        return Ok(());
    }
    let units = match summary.places().map_err(corrupt)? {
        Places::OfRequest(table) => {
            portions.push(Portion { file, rows: Rows::All(table) });
            return Ok(());
        }
        Places::Merged(units) => match metrics {
            Some(metrics) => UnitSummary::that_may_have(units, metrics),
            None => units,
        },
    };
    let mut together: Vec<ChunkTable> = Vec::new();
    for UnitSummary { chunks: unit, .. } in units {
        let fits = match (together.first(), together.last()) {
            (Some(first), Some(last)) => {
                last.end() == unit.start && unit.end() - first.start <= PORTION_BYTES
            }
            _ => true,
        };
        if !fits {
            let units = std::mem::take(&mut together);
            portions.push(Portion { file: file.clone(), rows: Rows::Units(units) });
        }
        together.push(unit);
    }
    if !together.is_empty() {
        portions.push(Portion { file, rows: Rows::Units(together) });
    }
    Ok(())
}

/// How many portions are decoded at once, or wait decoded.
const CONCURRENT_DECODES: usize = 2;

/// What was read of a file: rows of one request, or units as they are stored.
enum Fetched {
    Decoded(FileSeries),
    Units { file: IndexedFile, units: Vec<ChunkTable>, parts: Parts },
}

async fn read_portion(
    asker: &Asker,
    portion: Portion,
    wanted: Wanted,
    labels: &LabelReader,
) -> Result<Fetched> {
    let Portion { file, rows } = portion;
    match rows {
        Rows::All(table) => {
            let parts = asker.parts(&file, &table, wanted.columns()).await?;
            let decoded = series::decode(&table, &parts, wanted.columns(), labels);
            decoded.map(Fetched::Decoded).map_err(|err| file.corrupt(err))
        }
        Rows::Units(units) => {
            let parts = asker.parts_of(&file, &units, wanted.merged_columns()).await?;
            Ok(Fetched::Units { file, units, parts })
        }
    }
}

fn decode_units(
    fetched: Fetched,
    wanted: Wanted,
    range_ms: (i64, i64),
    labels: &LabelReader,
) -> Result<Vec<FileSeries>> {
    match fetched {
        Fetched::Decoded(file) => Ok(vec![file]),
        Fetched::Units { file, units, parts } => {
            let decode = |unit| series::merged::decode(unit, &parts, wanted, range_ms, labels);
            units.iter().map(decode).collect::<Result<_, _>>().map_err(|err| file.corrupt(err))
        }
    }
}

/// The metrics of which a file must have one, if the selectors name them all outright.
fn wanted_metrics(selectors: &[Vec<Matcher>]) -> Option<Vec<&str>> {
    let mut metrics = Vec::new();
    for matchers in selectors {
        let named =
            matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME).find_map(Matcher::values)?;
        metrics.extend(named);
    }
    (!selectors.is_empty()).then_some(metrics)
}

fn may_match(
    summary: &SeriesSummary<'_>,
    question: &Question,
    metrics: Option<&[&str]>,
) -> Result<bool, Invalid> {
    if summary.min_time_ms > question.last_ms || summary.max_time_ms < question.first_ms {
        return Ok(false);
    }
    may_have_metrics(summary, metrics)
}

/// Whether a file may have one of these metrics, or there are none to ask for.
fn may_have_metrics(summary: &SeriesSummary<'_>, metrics: Option<&[&str]>) -> Result<bool, Invalid> {
    let Some(metrics) = metrics else { return Ok(true) };
    for metric in metrics {
        if summary.may_have_metric(crate::index::hash_metric(metric))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Texts of labels, each once.
#[derive(Default)]
struct Texts(HashMap<Box<str>, Arc<str>>);

impl Texts {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        self.0.insert(text.into(), Arc::clone(&shared));
        shared
    }
}

const UNPLACED: u32 = u32::MAX;

/// Series joined over files.
#[derive(Default)]
struct Joined {
    places: HashTable<(u128, u32)>,
    /// By block of label sets and row the series, [`UNPLACED`] if that was not looked for yet: blocks repeat.
    placed: Vec<Vec<u32>>,
    series: Vec<Growing>,
    texts: Texts,
    times: SharedTimes,
    /// Times and values of a piece that steps see.
    seen: Vec<i64>,
    seen_values: Vec<f64>,
}

/// A series as far as it was read.
struct Growing {
    labels: Labels,
    temporality: Temporality,
    /// Time in ms and value of samples that came a few at a time, together: the next one goes to another series, and each
    /// place in memory is a wait.
    loose: Vec<(i64, f64)>,
    is_sorted: bool,
    /// Times of samples that came by the dozen.
    pieces: Vec<Arc<[i64]>>,
    /// Their values, end to end.
    value: Vec<f64>,
    histograms: Vec<HistogramSample>,
}

/// As many samples of one series in one file are a piece.
const PIECE: usize = 16;

/// Times that several series have in common, each once.
#[derive(Default)]
struct SharedTimes {
    known: HashTable<(u64, Arc<[i64]>)>,
    hasher: RandomState,
    /// What was joined of which pieces, by where those lie.
    joined: HashMap<Vec<usize>, Arc<[i64]>>,
}

impl SharedTimes {
    fn share(&mut self, times: &[i64]) -> Arc<[i64]> {
        let hash = self.hasher.hash_one(times);
        let is_it = |(other, known): &(u64, Arc<[i64]>)| *other == hash && **known == *times;
        if let Some((_, known)) = self.known.find(hash, is_it) {
            return Arc::clone(known);
        }
        let new: Arc<[i64]> = times.into();
        self.known.insert_unique(hash, (hash, Arc::clone(&new)), |(hash, _)| *hash);
        new
    }

    /// The times of these pieces, one behind the other. Pieces are kept, so that where one lies says which it is.
    fn join(&mut self, pieces: &[Arc<[i64]>]) -> Arc<[i64]> {
        if let [piece] = pieces {
            return Arc::clone(piece);
        }
        let places = pieces.iter().map(|piece| piece.as_ptr().addr()).collect();
        Arc::clone(self.joined.entry(places).or_insert_with(|| pieces.concat().into()))
    }
}

impl Joined {
    /// Takes what a row has from `first_ms` to `last_ms`, as far as `steps` see it, and returns how many samples that were.
    fn add(
        &mut self,
        file: &FileSeries,
        row: usize,
        (first_ms, last_ms): (i64, i64),
        steps: Option<Steps>,
    ) -> u64 {
        let samples = file.rows[row].samples.clone();
        let histograms = file.histograms(row);
        let times = &file.time_ms[samples.clone()];
        let start = samples.start + times.partition_point(|&time_ms| time_ms < first_ms);
        let end = samples.start + times.partition_point(|&time_ms| time_ms <= last_ms);
        let is_within = |sample: &&HistogramSample| (first_ms..=last_ms).contains(&sample.time_ms);
        if start == end && !histograms.iter().any(|sample| is_within(&sample)) {
            return 0;
        }
        let series = self.series_of(file, row, file.rows[row].temporality);
        let growing = &mut self.series[series];
        let (times, values) = (&file.time_ms[start..end], &file.value[start..end]);
        let mut n_kept = times.len();
        if times.len() < PIECE || !ascend(times) {
            for (&time_ms, &value) in times.iter().zip(values) {
                growing.is_sorted &= growing.loose.last().is_none_or(|last| last.0 < time_ms);
                growing.loose.push((time_ms, value));
            }
        } else if let Some(steps) = steps {
            self.seen.clear();
            self.seen_values.clear();
            let mut seen_at = times.first().map_or(0, |&time_ms| steps.that_sees(time_ms));
            for at in 0..times.len() {
                let next_at = times.get(at + 1).map_or(i64::MAX, |&next_ms| steps.that_sees(next_ms));
                if next_at > seen_at {
                    self.seen.push(times[at]);
                    self.seen_values.push(values[at]);
                }
                seen_at = next_at;
            }
            n_kept = self.seen.len();
            growing.value.reserve_exact(n_kept);
            growing.value.extend_from_slice(&self.seen_values);
            growing.pieces.push(self.times.share(&self.seen));
        } else {
            growing.value.reserve_exact(values.len());
            growing.value.extend_from_slice(values);
            growing.pieces.push(self.times.share(times));
        }
        let n_before = growing.histograms.len();
        growing.histograms.extend(histograms.iter().filter(is_within).cloned());
        (n_kept + growing.histograms.len() - n_before) as u64
    }

    /// Where the series of a row is.
    fn series_of(&mut self, file: &FileSeries, row: usize, temporality: Temporality) -> usize {
        let sets = &file.sets;
        let Some(number) = sets.number.filter(|_| temporality == Temporality::Cumulative) else {
            return self.place(file, &sets.rows[row], temporality);
        };
        if self.placed.len() <= number {
            self.placed.resize_with(number + 1, Vec::new);
        }
        if self.placed[number].is_empty() {
            self.placed[number].resize(sets.rows.len(), UNPLACED);
        }
        let known = self.placed[number][row];
        if known != UNPLACED {
            return known as usize;
        }
        let series = self.place(file, &sets.rows[row], temporality);
        self.placed[number][row] = series as u32;
        series
    }

    /// Where a series is, found by its labels. The two temporalities of one label set are two series until the end.
    fn place(&mut self, file: &FileSeries, set: &LabelSet, temporality: Temporality) -> usize {
        let hash = set.hash.wrapping_add(temporality as u128);
        if let Some((_, series)) = self.places.find(hash as u64, |(other, _)| *other == hash) {
            return *series as usize;
        }
        let texts = &mut self.texts;
        let series = self.series.len();
        self.series.push(Growing {
            labels: file.sets.labels_with(set, &mut |text| texts.share(text)),
            temporality,
            loose: Vec::new(),
            is_sorted: true,
            pieces: Vec::new(),
            value: Vec::new(),
            histograms: Vec::new(),
        });
        self.places.insert_unique(hash as u64, (hash, series as u32), |(hash, _)| *hash as u64);
        series
    }

    fn has_delta(&self) -> bool {
        self.series.iter().any(|growing| growing.temporality == Temporality::Delta)
    }

    fn finish(mut self) -> Vec<Series> {
        let has_delta = self.has_delta();
        let mut finished: Vec<Series> = Vec::with_capacity(self.series.len());
        for growing in self.series {
            finished.push(growing.finish(&mut self.times));
        }
        if has_delta {
            finished.sort_by(|a, b| a.labels.cmp(&b.labels));
            // One label set with both temporalities: the times of the first kept, those that only the second has added.
            finished.dedup_by(|later, kept| {
                let same = later.labels == kept.labels;
                if same {
                    merge_into(kept, later);
                }
                same
            });
        }
        finished
    }
}

fn merge_into(kept: &mut Series, later: &mut Series) {
    let mut samples: BTreeMap<i64, f64> =
        later.time_ms.iter().copied().zip(later.value.iter().copied()).collect();
    samples.extend(kept.time_ms.iter().copied().zip(kept.value.iter().copied()));
    kept.time_ms = samples.keys().copied().collect();
    kept.value = samples.into_values().collect();
    let mut histograms: BTreeMap<i64, HistogramSample> =
        later.histograms.drain(..).map(|sample| (sample.time_ms, sample)).collect();
    histograms.extend(kept.histograms.drain(..).map(|sample| (sample.time_ms, sample)));
    kept.histograms = histograms
        .into_values()
        .filter(|sample| kept.time_ms.binary_search(&sample.time_ms).is_err())
        .collect();
}

/// Makes each histogram the sum of those up to it. Where buckets cannot be made the same, counting begins anew.
fn add_up(histograms: &mut [HistogramSample]) {
    let mut sum: Option<Arc<NativeHistogram>> = None;
    for sample in histograms.iter_mut().filter(|sample| !sample.histogram.is_stale()) {
        let is_integer = sample.histogram.is_integer && sum.as_ref().is_none_or(|sum| sum.is_integer);
        let added = sum.and_then(|sum| combined(&sum, &sample.histogram, 1.0));
        let mut next = added.unwrap_or_else(|| NativeHistogram::clone(&sample.histogram));
        (next.reset_hint, next.is_integer) = (ResetHint::Unknown, is_integer);
        sample.histogram = Arc::new(next);
        sum = Some(Arc::clone(&sample.histogram));
    }
}

/// Whether each time is later than the one before: a request may have two values for one time. They are counted, because
/// without an early end several are compared at once.
fn ascend(times: &[i64]) -> bool {
    times.windows(2).filter(|pair| pair[0] >= pair[1]).count() == 0
}

impl Growing {
    fn finish(mut self, times: &mut SharedTimes) -> Series {
        let mut value;
        let time_ms: Arc<[i64]>;
        let ascend = |pair: &[Arc<[i64]>]| pair[0].last() < pair[1].first();
        if self.loose.is_empty() && self.pieces.windows(2).all(ascend) {
            time_ms = times.join(&self.pieces);
            value = self.value;
        } else {
            if !self.pieces.is_empty() {
                let of_pieces = self.pieces.iter().flat_map(|piece| piece.iter().copied());
                self.loose.extend(of_pieces.zip(self.value));
                self.is_sorted = false;
            }
            if !self.is_sorted {
                self.loose.sort_unstable_by_key(|sample| (sample.0, sample.1.to_bits()));
                // Of one time the greatest by its bits is kept, which comes last.
                self.loose.dedup_by(|later, kept| {
                    let same = later.0 == kept.0;
                    if same {
                        *kept = *later;
                    }
                    same
                });
            }
            time_ms = self.loose.iter().map(|sample| sample.0).collect();
            value = self.loose.into_iter().map(|sample| sample.1).collect();
        }
        series::histograms::keep_greatest(&mut self.histograms);
        // A float and a histogram of one time: the float counts, as where Prometheus joins blocks.
        self.histograms.retain(|sample| time_ms.binary_search(&sample.time_ms).is_err());
        if self.temporality == Temporality::Delta {
            let mut sum = 0.0;
            for value in &mut value {
                if !model::series::is_stale(*value) {
                    sum += *value;
                    *value = sum;
                }
            }
            add_up(&mut self.histograms);
        }
        Series { labels: self.labels, time_ms, value, histograms: self.histograms }
    }
}
