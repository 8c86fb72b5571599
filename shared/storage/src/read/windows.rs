//! What is stored, for people to look at and to check.

use std::collections::{BTreeMap, BTreeSet};

use model::transfer::LogTransfer;
use model::{LogColumns, Signal, SpanColumns, TenantId};

use super::index::{self, IndexedFile};
use crate::block::logs;
use crate::block::parquet::Invalid;
use crate::block::reference;
use crate::block::series::{self, LabelReader, Wanted};
use crate::block::spans::{self, Parts, Projection};
use crate::index::{LogSummary, Places, SeriesSummary, UnitSummary, Window, keys};
use crate::kv::{SortRange, range_all};
use crate::{Error, Result, Store};

/// The files of one signal and level in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWindow {
    /// What they hold.
    pub signal: Signal,
    /// The window.
    pub window: Window,
    /// 0 as it arrived, higher when merged.
    pub level: u8,
    /// Keys of the objects.
    pub objects: Vec<String>,
    /// Spans or samples in them.
    pub n_items: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    /// Bytes of the index items' values.
    pub index_bytes: u64,
    /// Least start or time, ns since the epoch.
    pub min_start_ns: i64,
    /// Greatest start.
    pub max_start_ns: i64,
    /// Services, as far as files list them.
    pub services: BTreeSet<String>,
}

/// The tenants that have files, sorted.
///
/// # Errors
/// As the table.
pub async fn tenants(store: &Store) -> Result<Vec<TenantId>> {
    let items = range_all(&*store.table, keys::TENANTS_PARTITION, SortRange::ALL).await?;
    let tenant =
        |(sort, _): (String, _)| sort.parse().map_err(|err| Error::corrupt(format!("tenant {sort}"), err));
    items.into_iter().map(tenant).collect()
}

/// What a tenant has stored, by signal, window and level.
///
/// # Errors
/// As the table.
pub async fn windows(store: &Store, tenant: &TenantId) -> Result<Vec<StoredWindow>> {
    let mut stored = windows_of(store, tenant, Signal::Traces).await?;
    stored.extend(windows_of(store, tenant, Signal::Metrics).await?);
    stored.extend(windows_of(store, tenant, Signal::Logs).await?);
    Ok(stored)
}

/// The keys of a tenant's objects that were merged into others, or are too old, and are deleted soon.
///
/// # Errors
/// As the table.
pub async fn retired(store: &Store, tenant: &TenantId) -> Result<Vec<String>> {
    let mut retired = Vec::new();
    for signal in Signal::ALL {
        let windows = index::known_windows(store, tenant, signal).await?;
        let items = index::items(store, tenant, signal, windows).await?;
        let of_items = items.iter().filter(|file| file.heirs.is_some());
        retired.extend(of_items.map(|file| file.key.object(tenant)));
    }
    Ok(retired)
}

async fn windows_of(store: &Store, tenant: &TenantId, signal: Signal) -> Result<Vec<StoredWindow>> {
    let mut stored: BTreeMap<(Window, u8), StoredWindow> = BTreeMap::new();
    for named in index::known_windows(store, tenant, signal).await? {
        let window = named.window;
        let items = index::items(store, tenant, signal, vec![named]).await?;
        for file in items.into_iter().filter(|file| file.heirs.is_none()) {
            let level = file.key.level;
            let entry = stored.entry((window, level)).or_insert_with(|| StoredWindow {
                signal,
                window,
                level,
                objects: Vec::new(),
                n_items: 0,
                bytes: 0,
                index_bytes: 0,
                min_start_ns: i64::MAX,
                max_start_ns: i64::MIN,
                services: BTreeSet::new(),
            });
            entry.objects.push(file.key.object(tenant));
            entry.index_bytes += file.item.len() as u64;
            let (first_ns, last_ns) = match signal {
                Signal::Traces => {
                    let summary = file.summary()?;
                    entry.n_items += summary.rows;
                    entry.bytes += summary.size;
                    let services = summary.services().map_err(|err| file.corrupt(err))?;
                    entry.services.extend(services.into_iter().flatten().map(str::to_owned));
                    (summary.min_start_ns, summary.max_start_ns)
                }
                Signal::Metrics => {
                    let summary = SeriesSummary::parse(&file.item).map_err(|err| file.corrupt(err))?;
                    entry.n_items += summary.n_samples;
                    entry.bytes += summary.size;
                    let ns = |ms: i64| ms.saturating_mul(1_000_000);
                    (ns(summary.min_time_ms), ns(summary.max_time_ms))
                }
                Signal::Logs => {
                    let summary = LogSummary::parse(&file.item).map_err(|err| file.corrupt(err))?;
                    entry.n_items += summary.rows;
                    entry.bytes += summary.size;
                    let services = summary.services().map_err(|err| file.corrupt(err))?;
                    entry.services.extend(services.into_iter().flatten().map(str::to_owned));
                    (summary.min_time_ns, summary.max_time_ns)
                }
            };
            entry.min_start_ns = entry.min_start_ns.min(first_ns);
            entry.max_start_ns = entry.max_start_ns.max(last_ns);
        }
    }
    Ok(stored.into_values().collect())
}

/// Reads every file of a tenant and compares it with the index: those of spans and log records twice, through this crate's
/// reader and through the `parquet` crate. Returns how many spans, samples and log records that were.
///
/// # Errors
/// As the stores; the first file that is missing, cut off, unreadable or read differently.
pub async fn verify(store: &Store, tenant: &TenantId) -> Result<u64> {
    let windows = index::known_windows(store, tenant, Signal::Traces).await?;
    let mut n_rows = 0;
    for file in index::files(store, tenant, Signal::Traces, windows).await? {
        n_rows += verify_file(store, tenant, &file).await?;
    }
    let windows = index::known_windows(store, tenant, Signal::Metrics).await?;
    for file in index::files(store, tenant, Signal::Metrics, windows).await? {
        n_rows += verify_series(store, tenant, &file).await?;
    }
    let windows = index::known_windows(store, tenant, Signal::Logs).await?;
    for file in index::files(store, tenant, Signal::Logs, windows).await? {
        n_rows += verify_logs(store, tenant, &file).await?;
    }
    Ok(n_rows)
}

async fn verify_series(store: &Store, tenant: &TenantId, file: &IndexedFile) -> Result<u64> {
    let summary = SeriesSummary::parse(&file.item).map_err(|err| file.corrupt(err))?;
    let key = file.key.object(tenant);
    let bytes = store.objects.get(&key).await?.ok_or_else(|| Error::Missing { key: key.clone() })?;
    let (mut n_rows, mut n_samples) = (0, 0);
    let labels = LabelReader::default();
    let parts = Parts::whole(bytes.clone());
    let decoded = match summary.places().map_err(|err| file.corrupt(err))? {
        Places::OfRequest(table) => {
            series::decode(&table, &parts, Projection::ALL, &labels).map(|found| vec![found])
        }
        Places::Merged(units) => {
            let range_ms = (i64::MIN, i64::MAX);
            let decode = |unit: UnitSummary<'_>| {
                series::merged::decode(&unit.chunks, &parts, Wanted::Samples, range_ms, &labels)
            };
            units.into_iter().map(decode).collect()
        }
    };
    for found in decoded.map_err(|err| file.corrupt(err))? {
        n_rows += found.rows.len() as u64;
        for row in 0..found.rows.len() {
            let n_packed = found.n_packed_samples(row).map_err(|err| file.corrupt(err))?;
            n_samples += (found.rows[row].samples.len() + found.histograms(row).len() + n_packed) as u64;
        }
    }
    let is_sound =
        bytes.len() as u64 == summary.size && n_rows == summary.rows && n_samples == summary.n_samples;
    if !is_sound {
        let why = format!(
            "{} bytes, {n_rows} series and {n_samples} samples where the index says {}, {} and {}",
            bytes.len(),
            summary.size,
            summary.rows,
            summary.n_samples
        );
        return Err(Error::corrupt(format!("object {key}"), why));
    }
    Ok(summary.n_samples)
}

async fn verify_logs(store: &Store, tenant: &TenantId, file: &IndexedFile) -> Result<u64> {
    let summary = LogSummary::parse(&file.item).map_err(|err| file.corrupt(err))?;
    let key = file.key.object(tenant);
    let bytes = store.objects.get(&key).await?.ok_or_else(|| Error::Missing { key: key.clone() })?;
    let parts = Parts::whole(bytes.clone());
    let tables = match summary.places() {
        Ok(Places::OfRequest(table)) => Ok(vec![table]),
        Ok(Places::Merged(merged)) => {
            let directory = bytes.get(merged.directory.start as usize..merged.directory.end as usize);
            logs::merged::tables(directory.unwrap_or_default(), &merged)
        }
        Err(err) => Err(err),
    };
    let mut own = LogColumns::default();
    for table in tables.map_err(|err| file.corrupt(err))? {
        let unit = logs::decode(&table, &parts, Projection::ALL).map_err(|err| file.corrupt(err))?;
        let mut transfer = LogTransfer::of(&unit);
        (0..unit.len()).for_each(|row| own.push_row_of(&unit, row, &mut transfer));
    }
    let corrupt = |err| Error::corrupt(format!("object {key}"), err);
    let other = reference::decode_logs(bytes.clone()).map_err(corrupt)?;
    let difference = own.first_difference(&other);
    if bytes.len() as u64 != summary.size || own.len() as u64 != summary.rows || difference.is_some() {
        let why = format!(
            "{} bytes and {} log records where the index says {} and {}; {} by the parquet crate, others from {:?} on",
            bytes.len(),
            own.len(),
            summary.size,
            summary.rows,
            other.len(),
            difference
        );
        return Err(Error::corrupt(format!("object {key}"), why));
    }
    Ok(summary.rows)
}

async fn verify_file(store: &Store, tenant: &TenantId, file: &IndexedFile) -> Result<u64> {
    let summary = file.summary()?;
    let key = file.key.object(tenant);
    let bytes = store.objects.get(&key).await?.ok_or_else(|| Error::Missing { key: key.clone() })?;
    if bytes.len() as u64 != summary.size {
        let why = format!("{} bytes where the index says {}", bytes.len(), summary.size);
        return Err(Error::corrupt(format!("object {key}"), why));
    }
    let corrupt = |err| file.corrupt(err);
    let parts = Parts::whole(bytes.clone());
    let mut tables = Vec::new();
    match summary.places().map_err(corrupt)? {
        Places::OfRequest(table) => tables.push(table),
        Places::Merged(merged) => {
            for (place, _) in merged.placed() {
                let unit = bytes.get(place.start as usize..place.end as usize);
                let mut unit = unit.ok_or_else(|| corrupt(Invalid("unit is outside of the file")))?;
                tables.push(spans::merged::read_head(&mut unit, place.start).map_err(corrupt)?.1);
            }
        }
    }
    let decode = |table| spans::decode(table, &parts, Projection::ALL);
    let own: Vec<SpanColumns> = tables.iter().map(decode).collect::<Result<_, _>>().map_err(corrupt)?;
    let n_own: usize = own.iter().map(SpanColumns::len).sum();
    let other = reference::decode(bytes).map_err(|err| Error::corrupt(format!("object {key}"), err))?;
    let n_same = own
        .iter()
        .flat_map(SpanColumns::iter)
        .zip(other.iter())
        .filter(|(own, other)| own.same_as(*other))
        .count() as u64;
    if n_same != summary.rows || n_own != other.len() || n_own as u64 != summary.rows {
        let why = format!(
            "{} spans in the index, {} by the own reader, {} by the parquet crate, {n_same} alike",
            summary.rows,
            n_own,
            other.len()
        );
        return Err(Error::corrupt(format!("object {key}"), why));
    }
    Ok(summary.rows)
}
