//! Merges small files into large ones, and deletes what no question needs any more.
//!
//! For each window that may need it: read its items → [`plan`] → take the lease → merge, streaming → verify → store the
//! outputs → publish in one conditional transaction. Later, after a grace period longer than the longest question, delete
//! the inputs. A crash at any point leaves the inputs or the outputs in the index, never both without a mark and never
//! neither; what is left besides is found by [`repair`].
//!
//! What is older than its [`Retention`] goes the same way, with nothing in its place.
//!
//! Windows are looked at while writers name them, and each other one once in [`SWEEP_SLOTS`] calls, so that what comes
//! late is merged too and an idle system costs next to nothing.

pub mod erase;
mod lease;
mod logs;
mod matching;
mod outputs;
pub mod plan;
mod publish;
pub mod repair;
pub mod retention;
mod retire;
mod rewrite;
mod sampling;
mod scout;
mod series;
mod spans;
pub mod thin;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::time::SECOND_NS;
use model::{Signal, TenantId};
use tracing::{info, warn};

pub use plan::Rules;
pub use retention::Retention;
pub use sampling::{InvalidSampling, Sampling};

use crate::block::logs::merged::MAX_UNITS;
use crate::block::spans::merged::SpanRoom;
use crate::index::{LogSummary, NamedWindow, Places, SeriesSummary, Summary, Window, WindowItem, keys};
use crate::kv::{Condition, Item, Key, Outcome, SortRange, Write, range_all};
use crate::read::index::{self, IndexedFile};
use crate::{Calls, Error, Result, Store};

use lease::Lease;
use outputs::Job;
use plan::{Candidate, State};
use publish::{Publication, Replacement};

/// How many calls it takes until every window was looked at.
pub const SWEEP_SLOTS: u64 = 60;
/// A window is looked at in each call for so long after a writer named it.
const RECENT_S: u64 = 2 * 3600;
/// How long retired files stay: longer than the longest question.
const GRACE_S: u64 = 180;

/// Gives the time, in seconds since the epoch.
pub type Clock<'a> = dyn Fn() -> u64 + Sync + 'a;

/// What a call does.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How files are merged.
    pub rules: Rules,
    /// How long retired files stay, seconds; longer than the longest question.
    pub grace_s: u64,
    /// How old what is stored may become.
    pub retention: Retention,
    /// Which traces stay for good.
    pub sampling: Sampling,
    /// Whether every window is looked at, and taken for settled.
    pub everything: bool,
    /// Keys of spans' attributes that get columns of their own in merged files, however few spans have them.
    pub dense_attributes: Vec<String>,
    /// Merges after which a call ends.
    pub max_merges: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            grace_s: GRACE_S,
            retention: Retention::default(),
            sampling: Sampling::default(),
            everything: false,
            dense_attributes: Vec::new(),
            max_merges: 1000,
        }
    }
}

/// What a call did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Merges that were published.
    pub merges: u64,
    /// Files merged.
    pub inputs: u64,
    /// Files written.
    pub outputs: u64,
    /// Spans, samples or log records in them.
    pub rows: u64,
    /// Those that were left out, because others are equal or outrank them.
    pub duplicates: u64,
    /// Bytes of the inputs.
    pub bytes_read: u64,
    /// Bytes of the outputs.
    pub bytes_written: u64,
    /// Bytes of memory that the decoded inputs of one merge of spans or log records took at most.
    pub peak_held_bytes: u64,
    /// Merges that another compactor forestalled.
    pub forestalled: u64,
    /// Windows that another compactor holds.
    pub held: u64,
    /// Files that became too old.
    pub expired: u64,
    /// Files that were written anew because a policy changes them.
    pub rewritten: u64,
    /// Spans that policies dropped.
    pub dropped: u64,
    /// Retired files that were deleted.
    pub deleted: u64,
    /// Windows in which something failed; the log says what.
    pub failed: u64,
}

/// One pass over all tenants. `owner` names the caller among all compactors; `clock` gives the time in seconds since the
/// epoch: a pass may take longer than the time of grace, which begins when a merge is published.
///
/// # Errors
/// As the table, where tenants and windows are read. What fails in one window is logged and counted, and the others are
/// done all the same.
pub async fn run(
    store: &Store,
    settings: &Settings,
    owner: &str,
    clock: &Clock<'_>,
    calls: &Arc<Calls>,
) -> Result<Report> {
    let store = &store.metered(calls);
    let now_s = clock();
    let mut report = Report::default();
    match retire::delete_due(store, now_s).await {
        Ok(n_files) => report.deleted = n_files,
        Err(err) => failed(&mut report, "deleting retired files", &err),
    }
    erase::rounds(store, settings, owner, clock, &mut report).await?;
    for tenant in crate::read::tenants(store).await? {
        for signal in Signal::ALL {
            let mut pass = Pass {
                store,
                settings,
                owner,
                clock,
                now_s,
                tenant: &tenant,
                signal,
                report: &mut report,
                room: SpanRoom::default(),
                shards: BTreeMap::new(),
            };
            pass.run().await?;
        }
    }
    Ok(report)
}

fn failed(report: &mut Report, doing: &str, err: &Error) {
    report.failed += 1;
    warn!(error = ?err, "{doing} failed");
}

/// The pass over one tenant's windows of one signal.
struct Pass<'a> {
    store: &'a Store,
    settings: &'a Settings,
    owner: &'a str,
    clock: &'a Clock<'a>,
    /// When the pass began.
    now_s: u64,
    tenant: &'a TenantId,
    signal: Signal,
    report: &'a mut Report,
    room: SpanRoom,
    /// Partitions of the windows that the table named when the pass began.
    shards: BTreeMap<Window, u8>,
}

impl Pass<'_> {
    async fn run(&mut self) -> Result<()> {
        let mut long: BTreeSet<Window> = BTreeSet::new();
        for (window, names) in self.named_windows().await? {
            if let Err(err) = self.expire(window).await {
                self.failed("expiring", window, &err);
            }
            let named_at_s = names.iter().map(|(_, item)| WindowItem::parse(&item.value).named_at_s).max();
            if !self.is_due(window, named_at_s.unwrap_or(0)) {
                continue;
            }
            long.extend(plan::long_window(self.signal, window));
            let outcome = match window {
                Window::Hours { .. } => Ok(()),
                Window::Wide | Window::Hour(_) => self.merge_within(window).await,
            };
            let outcome = match outcome {
                Ok(()) if window == Window::Wide => self.thin(window).await,
                outcome => outcome,
            };
            let outcome = match outcome {
                Ok(()) => self.forget_if_empty(window, names, named_at_s.unwrap_or(0)).await,
                Err(err) => Err(err),
            };
            if let Err(err) = outcome {
                self.failed("merging", window, &err);
            }
        }
        for window in long {
            let outcome = match self.merge_into_long(window).await {
                Ok(()) => self.thin(window).await,
                Err(err) => Err(err),
            };
            if let Err(err) = outcome {
                self.failed("merging", window, &err);
            }
        }
        Ok(())
    }

    /// The windows that the table names, each with the items that do; notes how many partitions they have.
    async fn named_windows(&mut self) -> Result<BTreeMap<Window, Vec<(String, Item)>>> {
        let partition = keys::windows_partition(self.tenant, self.signal);
        let mut windows: BTreeMap<Window, Vec<(String, Item)>> = BTreeMap::new();
        for (name, item) in range_all(&*self.store.table, &partition, SortRange::ALL).await? {
            let Some(named) = NamedWindow::parse(&name, self.store.layout) else {
                failed(self.report, "reading a window", &Error::corrupt(name, "name is not a window's"));
                continue;
            };
            let shards = self.shards.entry(named.window).or_insert(named.shards);
            *shards = named.shards.max(*shards);
            windows.entry(named.window).or_default().push((name, item));
        }
        Ok(windows)
    }

    /// A window with the partitions that its names say; one that has none yet, with those of this process.
    fn named(&self, window: Window) -> NamedWindow {
        let own = NamedWindow::of(window, self.store.layout);
        NamedWindow {
            window,
            shards: self.shards.get(&window).map_or(own.shards, |&shards| shards.max(own.shards)),
        }
    }

    fn failed(&mut self, doing: &str, window: Window, err: &Error) {
        failed(self.report, &format!("{doing} {} {} {window}", self.tenant, self.signal.as_str()), err);
    }

    /// Whether a window is looked at in this call.
    fn is_due(&self, window: Window, named_at_s: u64) -> bool {
        let name = window.to_string();
        let hash: u64 = name.bytes().fold(0, |hash, byte| hash * 31 % 65_521 + u64::from(byte));
        self.settings.everything
            || self.now_s.saturating_sub(named_at_s) < RECENT_S
            || hash % SWEEP_SLOTS == self.now_s / 60 % SWEEP_SLOTS
    }

    fn state(&self, window: Window) -> State {
        let now_ns = i64::try_from(self.now_s).unwrap_or(i64::MAX).saturating_mul(SECOND_NS);
        match (self.settings.everything, plan::is_settled(window, now_ns, &self.settings.rules)) {
            (true, _) => State::Closed,
            (false, true) => State::Settled,
            (false, false) => State::Open,
        }
    }

    /// Files of a window that are not retired, from the oldest to the newest, with their sizes.
    async fn files(&self, window: Window) -> Result<Vec<(IndexedFile, Candidate)>> {
        self.candidates(window, usize::MAX).await
    }

    /// As [`Self::files`], but of very many only some of the lowest levels, which are merged before the others: a window that
    /// was left to lie may have too many to hold all their items.
    async fn first_files(&self, window: Window) -> Result<Vec<(IndexedFile, Candidate)>> {
        self.candidates(window, self.settings.rules.max_files).await
    }

    async fn candidates(&self, window: Window, max_files: usize) -> Result<Vec<(IndexedFile, Candidate)>> {
        let named = self.named(window);
        let found = index::first_files(self.store, self.tenant, self.signal, named, max_files).await?;
        let mut files = Vec::with_capacity(found.len());
        for file in found {
            let candidate = candidate(self.signal, &file, self.settings.rules.target_bytes)?;
            files.push((file, candidate));
        }
        files.sort_by(|(a, _), (b, _)| {
            let order = |file: &IndexedFile| (file.key.min_start_ns, file.key.content.0);
            order(a).cmp(&order(b))
        });
        Ok(files)
    }

    /// Retires the files of a window that are too old, where all or, in `wide`, some may be.
    async fn expire(&mut self, window: Window) -> Result<()> {
        let Some(age_s) = self.settings.retention.max_age_s(self.tenant, self.signal) else { return Ok(()) };
        let oldest_s = i64::try_from(self.now_s.saturating_sub(age_s)).unwrap_or(i64::MAX);
        let oldest_ns = oldest_s.saturating_mul(SECOND_NS);
        if window.end_ns().is_some_and(|end_ns| end_ns > oldest_ns) {
            return Ok(());
        }
        let mut expired = Vec::new();
        for (file, _) in self.files(window).await? {
            if last_ns(self.signal, &file)? < oldest_ns {
                expired.push(file);
            }
        }
        if expired.is_empty() {
            return Ok(());
        }
        let name = format!("{}#{}#{window}", self.tenant, self.signal.as_str());
        let Some(lease) = Lease::take(&*self.store.table, &name, self.owner, (self.clock)()).await? else {
            self.report.held += 1;
            return Ok(());
        };
        for inputs in expired.chunks(self.settings.rules.max_inputs) {
            let publication = Publication {
                tenant: self.tenant,
                signal: self.signal,
                replacements: &[Replacement { inputs, outputs: &[] }],
                treated: &[],
                also: None,
                due_s: self.due_s(inputs, (self.clock)()),
                now_s: (self.clock)(),
            };
            match publish::publish(self.store, &lease, publication).await? {
                Outcome::Written => self.report.expired += inputs.len() as u64,
                Outcome::ConditionFailed => self.report.forestalled += 1,
            }
        }
        lease.release(&*self.store.table).await
    }

    /// Merges within an hour, or what is wide, until there is nothing to do.
    async fn merge_within(&mut self, window: Window) -> Result<()> {
        let state = self.state(window);
        loop {
            let files = self.first_files(window).await?;
            let candidates: Vec<Candidate> = files.iter().map(|file| file.1).collect();
            let rules = self.settings.rules.for_window(window);
            let mut merges = plan::within(&candidates, state, &rules);
            if window == Window::Wide && merges.is_empty() {
                // What is wide costs every question: it does not wait for company, unless it stays wide.
                merges.extend(plan::oldest_fresh(&candidates, &rules));
            }
            if merges.is_empty() || !self.merge_all(&files, merges, window).await? {
                return Ok(());
            }
        }
    }

    /// Merges what lies in the hours of a long window into it.
    async fn merge_into_long(&mut self, window: Window) -> Result<()> {
        let Window::Hours { first, n } = window else { return Ok(()) };
        let state = self.state(window);
        if state == State::Open {
            return Ok(());
        }
        loop {
            let mut files = Vec::new();
            for hour in first..first + i64::from(n) {
                let of_hour = self.first_files(Window::Hour(hour)).await?;
                let candidates: Vec<Candidate> = of_hour.iter().map(|file| file.1).collect();
                if !plan::within(&candidates, state, &self.settings.rules).is_empty() {
                    // Another compactor is at it, or it failed: what is left then comes next time.
                    return Ok(());
                }
                files.extend(of_hour);
            }
            let n_hours = files.len();
            files.extend(self.files(window).await?);
            let candidates: Vec<Candidate> = files.iter().map(|file| file.1).collect();
            let (hours, long) = candidates.split_at(n_hours);
            let merges = plan::into_long(self.signal, hours, long, &self.settings.rules);
            if merges.is_empty() || !self.merge_all(&files, merges, window).await? {
                return Ok(());
            }
        }
    }

    /// Does these merges under the window's lease; tells whether it makes sense to plan again.
    async fn merge_all(
        &mut self,
        files: &[(IndexedFile, Candidate)],
        merges: Vec<plan::Merge>,
        window: Window,
    ) -> Result<bool> {
        let name = format!("{}#{}#{window}", self.tenant, self.signal.as_str());
        let table = &*self.store.table;
        let Some(lease) = Lease::take(table, &name, self.owner, (self.clock)()).await? else {
            self.report.held += 1;
            return Ok(false);
        };
        let mut outcome = Ok(true);
        for merge in merges {
            if self.report.merges >= self.settings.max_merges {
                outcome = outcome.and(Ok(false));
                break;
            }
            let inputs: Vec<IndexedFile> = merge.inputs.iter().map(|&at| files[at].0.clone()).collect();
            let bytes_read: u64 = merge.inputs.iter().map(|&at| files[at].1.size).sum();
            match self.merge(&lease, &inputs, bytes_read, window, merge.level).await {
                Ok(true) => {}
                Ok(false) => {
                    outcome = outcome.and(Ok(false));
                    break;
                }
                // One unreadable input does not keep the others from being merged.
                Err(err) => outcome = Err(err),
            }
        }
        let released = lease.release(table).await;
        outcome.and_then(|goes_on| released.map(|()| goes_on))
    }

    /// Merges and publishes; `false` if another compactor forestalled it.
    async fn merge(
        &mut self,
        lease: &Lease,
        inputs: &[IndexedFile],
        bytes_read: u64,
        window: Window,
        level: u8,
    ) -> Result<bool> {
        let job = Job {
            store: self.store,
            tenant: self.tenant,
            signal: self.signal,
            inputs,
            window,
            level,
            target_bytes: self.settings.rules.target_bytes,
            dense_attributes: &self.settings.dense_attributes,
            treatments: &outputs::treatments_of_all(inputs),
        };
        let merged = match self.signal {
            Signal::Traces => spans::merge(job, &mut self.room).await?,
            Signal::Metrics => series::merge(job).await?,
            Signal::Logs => logs::merge(job).await?,
        };
        let now_s = (self.clock)();
        let due_s = self.due_s(inputs, now_s);
        let (tenant, signal, outputs) = (self.tenant, self.signal, &*merged.outputs);
        let replacements = &[Replacement { inputs, outputs }];
        let publication =
            Publication { tenant, signal, replacements, treated: &[], also: None, due_s, now_s };
        let outcome = publish::publish(self.store, lease, publication).await?;
        if outcome == Outcome::ConditionFailed {
            self.report.forestalled += 1;
            return Ok(false);
        }
        info!(
            %tenant, signal = signal.as_str(), %window, level, inputs = inputs.len(), outputs = outputs.len(),
            rows = merged.n_rows, duplicates = merged.n_duplicates, bytes_read, bytes_written = merged.bytes_written,
            "merged"
        );
        let report = &mut *self.report;
        report.merges += 1;
        report.inputs += inputs.len() as u64;
        report.outputs += outputs.len() as u64;
        report.rows += merged.n_rows;
        report.duplicates += merged.n_duplicates;
        report.bytes_read += bytes_read;
        report.bytes_written += merged.bytes_written;
        report.peak_held_bytes = report.peak_held_bytes.max(merged.peak_held_bytes);
        Ok(true)
    }

    /// When retired files may be deleted: merged ones later than those of requests that were merged into them.
    fn due_s(&self, inputs: &[IndexedFile], now_s: u64) -> u64 {
        let has_merged = inputs.iter().any(|input| input.key.level > 0);
        now_s.saturating_add(self.settings.grace_s.saturating_mul(if has_merged { 2 } else { 1 }))
    }

    /// Takes a window out of the table that has nothing left, once no writer can have it in mind: questions then need not
    /// look there.
    async fn forget_if_empty(
        &self,
        window: Window,
        names: Vec<(String, Item)>,
        named_at_s: u64,
    ) -> Result<()> {
        if self.now_s.saturating_sub(named_at_s) < WindowItem::UNUSED_AFTER_S {
            return Ok(());
        }
        if index::has_items(self.store, self.tenant, self.signal, self.named(window)).await? {
            return Ok(());
        }
        for (name, item) in names {
            let key = Key::new(keys::windows_partition(self.tenant, self.signal), name);
            self.store.table.transact(vec![Write::Delete(key, Condition::Version(item.version))]).await?;
        }
        Ok(())
    }
}

/// The last start or time in a file, ns since the epoch.
fn last_ns(signal: Signal, file: &IndexedFile) -> Result<i64> {
    let last_ns = match signal {
        Signal::Traces => Summary::parse(&file.item).map(|summary| summary.max_start_ns),
        Signal::Metrics => {
            SeriesSummary::parse(&file.item).map(|summary| summary.max_time_ms.saturating_mul(1_000_000))
        }
        Signal::Logs => LogSummary::parse(&file.item).map(|summary| summary.max_time_ns),
    };
    last_ns.map_err(|err| file.corrupt(err))
}

/// A file as plans see it. One that has as many units as it may is full, whatever its size.
fn candidate(signal: Signal, file: &IndexedFile, target_bytes: u64) -> Result<Candidate> {
    let level = file.key.level;
    let of_item = match signal {
        Signal::Traces => Summary::parse(&file.item).and_then(|summary| {
            let hashes = summary.trace_hashes()?;
            Ok(Candidate { level, size: summary.size, held_bytes: summary.held_bytes, hashes })
        }),
        // Units are small, and files of requests are bounded by their size.
        Signal::Metrics => SeriesSummary::parse(&file.item).map(|summary| Candidate {
            level,
            size: summary.size,
            held_bytes: 0,
            hashes: None,
        }),
        Signal::Logs => LogSummary::parse(&file.item).and_then(|summary| {
            let is_full = match summary.places()? {
                Places::OfRequest(_) => false,
                Places::Merged(merged) => merged.units.len() >= MAX_UNITS,
            };
            let size = if is_full { summary.size.max(target_bytes) } else { summary.size };
            Ok(Candidate { level, size, held_bytes: summary.held_bytes, hashes: None })
        }),
    };
    of_item.map_err(|err| file.corrupt(err))
}
