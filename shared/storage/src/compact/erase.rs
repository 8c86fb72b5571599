//! Erasure: removes for certain what a request names and was stored before it.
//!
//! A request is written into the table. The next round looks at every file that there is, of any level, and writes those
//! anew that have something that matches; the old ones go after their time of grace. The round is complete when no file is
//! left that it has not looked at: what merges bring into another window while it goes on, it looks at too. A round that
//! is interrupted, or forestalled by a merge, leaves the request pending, and the next one begins anew.
//!
//! Until a round is complete, questions may see what matches. What has come between the request and the round goes too.

use std::collections::{BTreeMap, HashSet};

use model::sampling::policy::Applied;
use model::{ContentHash, Signal, SpanColumns};
use tracing::info;

use super::lease::Lease;
use super::publish::Output;
use super::rewrite::{self, Place, Rewritten};
use super::series::Loss;
use super::thin::MAX_TOGETHER;
use super::units::Units;
use super::{Clock, Pass, Report, Settings, failed};
use crate::block::parquet::Invalid;
use crate::block::series::merged::MergedSeries;
use crate::block::spans::merged::SpanRoom;
use crate::index::fingerprint::hash_id;
use crate::index::{Erasure, ErasureTarget, LogSummary, PlacedFiles, Window, keys};
use crate::kv::{Condition, Key, NewItem, Outcome, SortRange, Write, range_all};
use crate::read::index::{self, IndexedFile};
use crate::{Error, Result, Store};

/// How often a round looks for files that merges have made meanwhile.
const MAX_LOOKS: usize = 8;
/// What is fetched at once of a file.
const MAX_FETCHED_BYTES: u64 = 4 << 20;

/// Asks for something to be erased. Asking again within the second changes nothing.
///
/// # Errors
/// As the table.
pub async fn request(store: &Store, erasure: &Erasure) -> Result<()> {
    let key = Key::new(keys::ERASURES_PARTITION, erasure.sort());
    store.table.put(key, NewItem::lasting(erasure.encode()), Condition::Absent).await?;
    Ok(())
}

/// All requests, pending ones first, each by time.
///
/// # Errors
/// As the table; an item is corrupt.
pub async fn list(store: &Store) -> Result<Vec<Erasure>> {
    let mut erasures = Vec::new();
    for partition in [keys::ERASURES_PARTITION, keys::ERASED_PARTITION] {
        for (sort, item) in range_all(&*store.table, partition, SortRange::ALL).await? {
            erasures.push(parse(&sort, &item.value)?);
        }
    }
    Ok(erasures)
}

fn parse(sort: &str, value: &[u8]) -> Result<Erasure> {
    Erasure::parse(value).map_err(|err| Error::corrupt(format!("request to erase {sort}"), err))
}

/// A round for each pending request. What fails is logged and counted, and tried again in the next call.
pub(super) async fn rounds(
    store: &Store,
    settings: &Settings,
    owner: &str,
    clock: &Clock<'_>,
    report: &mut Report,
) -> Result<()> {
    for (sort, item) in range_all(&*store.table, keys::ERASURES_PARTITION, SortRange::ALL).await? {
        let outcome = match parse(&sort, &item.value) {
            Ok(erasure) => {
                let at = Key::new(keys::ERASURES_PARTITION, sort.clone());
                let mut round = Round { at, version: item.version, erasure };
                round.run(store, settings, owner, clock, report).await
            }
            Err(err) => Err(err),
        };
        if let Err(err) = outcome {
            failed(report, &format!("erasing for request {sort}"), &err);
        }
    }
    Ok(())
}

/// The round for one request.
struct Round {
    at: Key,
    version: u64,
    erasure: Erasure,
}

impl Round {
    async fn run(
        &mut self,
        store: &Store,
        settings: &Settings,
        owner: &str,
        clock: &Clock<'_>,
        report: &mut Report,
    ) -> Result<()> {
        let tenant = self.erasure.tenant.clone();
        let mut is_complete = true;
        for signal in self.erasure.signals.clone() {
            let now_s = clock();
            let (room, shards) = (SpanRoom::default(), BTreeMap::new());
            let mut pass =
                Pass { store, settings, owner, clock, now_s, tenant: &tenant, signal, report, room, shards };
            is_complete &= pass.erase(self).await?;
        }
        if !is_complete {
            return Ok(());
        }
        self.erasure.done_at_s = Some(clock());
        let done = Key::new(keys::ERASED_PARTITION, self.at.sort.clone());
        let writes = vec![
            Write::Delete(self.at.clone(), Condition::Version(self.version)),
            Write::Put(done, NewItem::lasting(self.erasure.encode()), Condition::None),
        ];
        if store.table.transact(writes).await? == Outcome::Written {
            info!(%tenant, target = %self.erasure.target, removed = self.erasure.n_removed, "erased");
        }
        Ok(())
    }
}

impl Pass<'_> {
    /// Looks at every file of the signal until none is left that was not looked at; `false` if that did not succeed.
    async fn erase(&mut self, round: &mut Round) -> Result<bool> {
        let mut looked_at: HashSet<ContentHash> = HashSet::new();
        for _ in 0..MAX_LOOKS {
            let mut heirs: HashSet<ContentHash> = HashSet::new();
            let mut seen: HashSet<ContentHash> = HashSet::new();
            let mut is_new = false;
            for named in index::known_windows(self.store, self.tenant, self.signal).await? {
                let window = named.window;
                let mut files = index::items(self.store, self.tenant, self.signal, vec![named]).await?;
                seen.extend(files.iter().map(|file| file.key.content));
                let named = files.iter().filter_map(|file| file.heirs.as_ref()).flat_map(PlacedFiles::iter);
                heirs.extend(named.map(|(_, heir)| heir.content));
                files.retain(|file| file.heirs.is_none() && !looked_at.contains(&file.key.content));
                is_new |= !files.is_empty();
                looked_at.extend(files.iter().map(|file| file.key.content));
                match self.erase_in(round, window, &files).await? {
                    Some(outputs) => looked_at.extend(outputs.iter().map(|output| output.key.content)),
                    None => return Ok(false),
                }
            }
            // A file that was merged while this went on may have its rows where this had looked already.
            if !is_new && heirs.is_subset(&seen) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes those of these files anew that have something that matches, and gives the new ones; `None` if another
    /// compactor is in the way.
    async fn erase_in(
        &mut self,
        round: &mut Round,
        window: Window,
        files: &[IndexedFile],
    ) -> Result<Option<Vec<Output>>> {
        let mut matching = Vec::new();
        for file in files {
            if self.may_match(&round.erasure.target, file).await? {
                matching.push(file);
            }
        }
        let mut all = Vec::new();
        if matching.is_empty() {
            return Ok(Some(all));
        }
        let name = format!("{}#{}#{window}", self.tenant, self.signal.as_str());
        let Some(lease) = Lease::take(&*self.store.table, &name, self.owner, (self.clock)()).await? else {
            self.report.held += 1;
            return Ok(None);
        };
        let mut outcome = Ok(true);
        for together in matching.chunks(MAX_TOGETHER) {
            outcome = self.erase_together(round, &lease, window, together, &mut all).await;
            if !matches!(outcome, Ok(true)) {
                break;
            }
        }
        let released = lease.release(&*self.store.table).await;
        let is_done = outcome.and_then(|is_done| released.map(|()| is_done))?;
        Ok(is_done.then_some(all))
    }

    async fn erase_together(
        &mut self,
        round: &mut Round,
        lease: &Lease,
        window: Window,
        files: &[&IndexedFile],
        all: &mut Vec<Output>,
    ) -> Result<bool> {
        let mut replaced = Vec::new();
        let (mut n_dropped, mut bytes_written) = (0, 0);
        for &file in files {
            let place = Place {
                store: self.store,
                tenant: self.tenant,
                window,
                file,
                dense_attributes: &self.settings.dense_attributes,
            };
            let rewritten = self.without(&round.erasure.target, place).await?;
            n_dropped += rewritten.n_dropped;
            bytes_written += rewritten.bytes_written;
            if let Some(outputs) = rewritten.outputs {
                all.extend(outputs.iter().cloned());
                replaced.push((file.clone(), outputs));
            }
        }
        if replaced.is_empty() {
            return Ok(true);
        }
        // What was removed is counted with its removal.
        let mut erasure = round.erasure.clone();
        erasure.n_removed += n_dropped;
        let item = NewItem::lasting(erasure.encode());
        let count = Write::Put(round.at.clone(), item, Condition::Version(round.version));
        if !self.publish_each(lease, &replaced, &[], Some(count)).await? {
            return Ok(false);
        }
        let Some(item) = self.store.table.get(&round.at).await? else { return Ok(false) };
        if item.value != erasure.encode() {
            // Another compactor is at the same request.
            return Ok(false);
        }
        round.version = item.version;
        round.erasure = erasure;
        self.report.rewritten += replaced.len() as u64;
        self.report.dropped += n_dropped;
        self.report.bytes_written += bytes_written;
        Ok(true)
    }

    /// Whether a file is worth to be written anew: of spans, whether any matches; of others, whether the item allows it.
    async fn may_match(&self, target: &ErasureTarget, file: &IndexedFile) -> Result<bool> {
        let corrupt = |err| file.corrupt(err);
        match (self.signal, target) {
            (Signal::Traces, ErasureTarget::Trace(id)) => {
                file.summary()?.may_have_trace(hash_id(&id.0)).map_err(corrupt)
            }
            (Signal::Traces, ErasureTarget::Service(service)) => {
                file.summary()?.may_have_service(service).map_err(corrupt)
            }
            (Signal::Traces, ErasureTarget::Attribute { .. }) => {
                let mut units = Units::of(self.store, self.tenant, file, MAX_FETCHED_BYTES)?;
                while let Some(columns) = units.next(target.span_columns()).await? {
                    if target.spans(&columns).map_err(corrupt)?.contains(&true) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Signal::Logs, ErasureTarget::Trace(id)) => {
                let summary = LogSummary::parse(&file.item).map_err(corrupt)?;
                summary.may_have_trace(hash_id(&id.0)).map_err(corrupt)
            }
            (Signal::Logs, ErasureTarget::Service(service)) => {
                let summary = LogSummary::parse(&file.item).map_err(corrupt)?;
                summary.may_have_service(service).map_err(corrupt)
            }
            (Signal::Logs, ErasureTarget::Attribute { .. }) | (Signal::Metrics, _) => Ok(true),
        }
    }

    async fn without(&self, target: &ErasureTarget, place: Place<'_>) -> Result<Rewritten> {
        match self.signal {
            Signal::Traces => {
                let edit = |columns: &mut SpanColumns| drop_spans(target, columns);
                rewrite::spans(place, &place.file.treatments, &edit).await
            }
            Signal::Metrics => {
                let lose = |series: &mut MergedSeries| {
                    if series.any_label(|name, value| target.label(name, value)) {
                        return Ok(Loss::All);
                    }
                    series.drop_exemplars(|name, value| target.exemplar(name, value)).map(Loss::Exemplars)
                };
                rewrite::series(place, &place.file.treatments, &lose).await
            }
            Signal::Logs => {
                rewrite::logs(place, &place.file.treatments, &|columns| target.logs(columns)).await
            }
        }
    }
}

fn drop_spans(target: &ErasureTarget, columns: &mut SpanColumns) -> Result<Applied, Invalid> {
    let is_dropped = target.spans(columns)?;
    let n_dropped = is_dropped.iter().filter(|&&is_dropped| is_dropped).count() as u64;
    if n_dropped > 0 {
        columns.retain(&is_dropped.iter().map(|is_dropped| !is_dropped).collect::<Vec<_>>());
    }
    Ok(Applied { n_dropped, n_raised: 0 })
}
