//! What is read of files, in which pieces, and how they are decoded.

use std::sync::Arc;

use futures::stream::TryStreamExt as _;
use model::labels::METRIC_NAME;
use model::{Matcher, Signal, TenantId, TimeRange};

use super::super::fetch::{self, Asker};
use super::super::index::{self, IndexedFile};
use crate::block::parquet::Invalid;
use crate::block::parts::{ChunkTable, Parts};
use crate::block::series::{self, FileSeries, LabelReader, Wanted};
use crate::index::{Places, SeriesSummary, UnitSummary};
use crate::{Result, Store};

/// What is asked of files.
pub(super) struct Question {
    pub(super) wanted: Wanted,
    pub(super) selectors: Vec<Vec<Matcher>>,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
}

/// Instants in ms, both included.
pub(super) fn time_range(first_ms: i64, last_ms: i64) -> TimeRange {
    TimeRange {
        start_ns: first_ms.saturating_mul(1_000_000),
        end_ns_exclusive: last_ms.saturating_add(1).saturating_mul(1_000_000),
    }
}

/// As [`each_of`], of the files that the index names now.
pub(super) async fn each_file(
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
pub(super) async fn each_of(
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
pub(super) struct Portion {
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
    pub(super) fn bytes(&self) -> u64 {
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
pub(super) fn portions_of(
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
pub(super) fn wanted_metrics(selectors: &[Vec<Matcher>]) -> Option<Vec<&str>> {
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
pub(super) fn may_have_metrics(
    summary: &SeriesSummary<'_>,
    metrics: Option<&[&str]>,
) -> Result<bool, Invalid> {
    let Some(metrics) = metrics else { return Ok(true) };
    for metric in metrics {
        if summary.may_have_metric(crate::index::hash_metric(metric))? {
            return Ok(true);
        }
    }
    Ok(false)
}
