//! What labels there are, what senders said of metrics, and exemplars.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashTable;
use model::labels::METRIC_NAME;
use model::series::{Exemplar, Metadata};
use model::{Labels, Matcher, TenantId};

use super::super::fetch::Asker;
use super::join::Texts;
use super::portions::{Question, each_file};
use super::{SeriesLimits, within};
use crate::block::series::{self, Wanted};
use crate::index::{keys, names};
use crate::kv::{Key, SortRange, range_all};
use crate::{Error, Result, Store};

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

async fn known_texts(store: &Store, partition: &str) -> Result<Vec<String>> {
    let items = range_all(&*store.table, partition, SortRange::ALL).await?;
    Ok(items.into_iter().map(|(sort, _)| names::service_of(&sort).to_owned()).collect())
}
