//! What policies do to what is stored already: retroactive sampling of whole traces, and retention by what traces and series
//! have.
//!
//! The files of a long window, those of its hours included, are looked at together once the window is settled and older
//! than the policy says: `Scout` sees each trace whole → a rule of retention that has ended, or the policy → what does not
//! follow from a trace's id alone is remembered → each file that was not treated yet is written anew, and published with
//! others in one transaction. Series need no scout: their labels decide.
//!
//! A file's item says which policies it was treated by, so that a second pass reads nothing but items. What comes late has
//! no such mark, nor has what it is merged with: all of it is looked at again, and the traces decided on before are
//! decided on alike, because chance has no memory and spans count by their weight.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use model::sampling::policy::{Applied, Decision, Keep, apply, decide};
use model::sampling::{Policy, Randomness, Threshold};
use model::search::Condition;
use model::time::SECOND_NS;
use model::{LogColumns, Signal, SpanColumns, TenantId, TraceId};
use tracing::info;

use super::lease::Lease;
use super::matching::logs_that_have;
use super::plan::{self, State};
use super::publish::{self, Output, Publication, Replacement};
use super::retention::SpecialRule;
use super::rewrite::{self, Place};
use super::scout::{Found, Scout};
use super::series::Loss;
use super::{Pass, Settings, last_ns};
use crate::block::parquet::Invalid;
use crate::block::series::merged::MergedSeries;
use crate::index::fingerprint::{hash_id, hash_texts};
use crate::index::{NamedWindow, WINDOW_REACH_NS, Window};
use crate::kv::{Outcome, Write};
use crate::read::index::{self, IndexedFile};
use crate::{Error, Result, Store};

/// Traces of a window whose fate does not follow from their ids, at most: 8 bytes each.
const MAX_REMEMBERED: usize = 8 << 20;
/// Files that are published together.
pub(super) const MAX_TOGETHER: usize = 40;

/// What is applied to a window, as far as its time has come.
struct Treatment<'a> {
    /// [`keep_all`] where no sampling is due.
    policy: Policy,
    rules: Vec<SpecialRule<'a>>,
    /// By rule, then for what fits none, whether its age is over.
    is_over: Vec<bool>,
    /// What the items of treated files say.
    marks: Vec<u64>,
}

/// A policy that changes nothing.
fn keep_all() -> Policy {
    Policy { keep: Vec::new(), rest_percent: 100.0, after: Duration::ZERO }
}

/// The mark of what a policy was applied to. When that happened is no part of it.
fn mark_of(policy: &Policy) -> u64 {
    let timeless = Policy { after: Duration::ZERO, ..policy.clone() };
    hash_texts("sampling", &timeless.to_string())
}

impl Treatment<'_> {
    /// Whether retention has ended for what fits this rule, or none.
    fn is_over(&self, rule: Option<usize>) -> bool {
        self.is_over[rule.unwrap_or(self.rules.len())]
    }

    fn decide(&self, found: &Found) -> Decision<'_> {
        if self.is_over(found.rule) { Decision::Drop } else { decide(&self.policy, &found.facts) }
    }

    fn conditions(&self) -> Vec<Vec<Condition>> {
        self.rules.iter().map(SpecialRule::conditions).collect()
    }

    /// What becomes of a series.
    fn lose(&self, series: &MergedSeries) -> Loss {
        let has =
            |(key, value): &(String, String)| series.any_label(|name, other| name == key && other == value);
        let rule = self.rules.iter().position(|rule| rule.has.iter().all(has));
        if self.is_over(rule) { Loss::All } else { Loss::Exemplars(0) }
    }

    /// By row whether a log record goes.
    fn records_to_lose(&self, columns: &LogColumns) -> Result<Vec<bool>, Invalid> {
        let mut goes = vec![self.is_over(None); columns.len()];
        for (at, rule) in self.rules.iter().enumerate().rev() {
            let is_over = self.is_over(Some(at));
            let have = logs_that_have(columns, rule.has)?;
            goes.iter_mut().zip(have).filter(|(_, has)| *has).for_each(|(goes, _)| *goes = is_over);
        }
        Ok(goes)
    }
}

/// What becomes of each trace of a window: its id decides, unless something else is remembered.
struct Fates {
    /// What chance keeps, where it is asked.
    threshold: Threshold,
    /// Whether what is not remembered goes.
    is_over: bool,
    /// Sorted: hashes of traces with [`KEPT`], [`SAMPLED`] or [`DROPPED`] in their lowest two bits.
    remembered: Vec<u64>,
}

const KEPT: u64 = 0;
const SAMPLED: u64 = 1;
const DROPPED: u64 = 2;
const FATE_BITS: u64 = 3;

/// A rule that stands for all that keep a trace with its weight.
const SOME_REASON: &Keep = &Keep::Errors;

impl Fates {
    fn of(treatment: &Treatment<'_>) -> Self {
        let (threshold, is_over) = (treatment.policy.threshold(), treatment.is_over(None));
        Self { threshold, is_over, remembered: Vec::new() }
    }

    fn by_id(&self, id: TraceId) -> u64 {
        if !self.is_over && self.threshold.keeps(Randomness::of_trace(id)) { SAMPLED } else { DROPPED }
    }

    /// Notes the next trace in the order of hashes.
    fn note(&mut self, id: TraceId, hash: u64, decision: Decision<'_>) -> Result<()> {
        let fate = match decision {
            Decision::Keep(_) => KEPT,
            Decision::Sampled { .. } => SAMPLED,
            Decision::Drop => DROPPED,
        };
        if fate != self.by_id(id) {
            if self.remembered.len() >= MAX_REMEMBERED {
                let why = format!("its rules keep more than {MAX_REMEMBERED} traces of one window");
                return Err(Error::refused("compactor", "applying a policy", why));
            }
            self.remembered.push((hash & !FATE_BITS) | fate);
        }
        Ok(())
    }

    fn decision(&self, id: TraceId) -> Decision<'static> {
        let hash = hash_id(&id.0) & !FATE_BITS;
        let at = self.remembered.partition_point(|&other| other < hash);
        let remembered = self.remembered.get(at).filter(|&&other| other & !FATE_BITS == hash);
        match remembered.map_or_else(|| self.by_id(id), |other| other & FATE_BITS) {
            KEPT => Decision::Keep(SOME_REASON),
            SAMPLED => Decision::Sampled { threshold: self.threshold },
            _ => Decision::Drop,
        }
    }

    fn apply(&self, columns: &mut SpanColumns) -> Applied {
        apply(columns, |id| self.decision(id))
    }
}

impl Pass<'_> {
    /// Applies the tenant's policies to a long window and its hours, or to what is wide, as far as their time has come.
    pub(super) async fn thin(&mut self, window: Window) -> Result<()> {
        if window != Window::Wide && self.state(window) == State::Open {
            return Ok(());
        }
        let due = due(self.settings, self.tenant, self.signal, window, self.now_s);
        let Some(treatment) = due else { return Ok(()) };
        let mut files: Vec<(Window, IndexedFile)> = Vec::new();
        for part in parts_of(window) {
            let of_part = self.files(part).await?;
            let candidates: Vec<_> = of_part.iter().map(|file| file.1).collect();
            if part != window && !plan::within(&candidates, self.state(part), &self.settings.rules).is_empty()
            {
                // What is about to be merged is treated then.
                return Ok(());
            }
            files.extend(of_part.into_iter().map(|(file, _)| (part, file)));
        }
        if window == Window::Wide {
            let oldest_ns = oldest_ns(self.now_s, treatment.policy.after.as_secs());
            let mut old = Vec::with_capacity(files.len());
            for (part, file) in files {
                if last_ns(self.signal, &file)? < oldest_ns {
                    old.push((part, file));
                }
            }
            files = old;
        }
        if files.iter().all(|(_, file)| is_treated(file, &treatment.marks)) {
            return Ok(());
        }
        let name = format!("{}#{}#{window}", self.tenant, self.signal.as_str());
        let Some(lease) = Lease::take(&*self.store.table, &name, self.owner, (self.clock)()).await? else {
            self.report.held += 1;
            return Ok(());
        };
        let outcome = self.thin_files(&lease, &treatment, &files).await;
        let released = lease.release(&*self.store.table).await;
        outcome.and(released)
    }

    async fn thin_files(
        &mut self,
        lease: &Lease,
        treatment: &Treatment<'_>,
        files: &[(Window, IndexedFile)],
    ) -> Result<()> {
        let mut fates = Fates::of(treatment);
        if self.signal == Signal::Traces {
            let all: Vec<IndexedFile> = files.iter().map(|(_, file)| file.clone()).collect();
            let conditions = treatment.conditions();
            let mut scout =
                Scout::begin(self.store, self.tenant, &all, &treatment.policy, &conditions).await?;
            while let Some(found) = scout.next().await? {
                fates.note(found.facts.trace_id, found.hash, treatment.decide(&found))?;
            }
        }
        let marks = &treatment.marks;
        let untreated: Vec<&(Window, IndexedFile)> =
            files.iter().filter(|(_, file)| !is_treated(file, marks)).collect();
        for together in untreated.chunks(MAX_TOGETHER) {
            let mut replaced: Vec<(IndexedFile, Vec<Output>)> = Vec::new();
            let mut treated: Vec<(IndexedFile, Vec<u64>)> = Vec::new();
            let (mut n_dropped, mut bytes_written) = (0, 0);
            for (window, file) in together {
                let place = Place {
                    store: self.store,
                    tenant: self.tenant,
                    window: *window,
                    file,
                    dense_attributes: &self.settings.dense_attributes,
                };
                let rewritten = match self.signal {
                    Signal::Traces => {
                        rewrite::spans(place, marks, &|columns| Ok(fates.apply(columns))).await?
                    }
                    Signal::Metrics => {
                        rewrite::series(place, marks, &|series| Ok(treatment.lose(series))).await?
                    }
                    Signal::Logs => {
                        rewrite::logs(place, marks, &|columns| treatment.records_to_lose(columns)).await?
                    }
                };
                n_dropped += rewritten.n_dropped;
                bytes_written += rewritten.bytes_written;
                match rewritten.outputs {
                    Some(outputs) => replaced.push((file.clone(), outputs)),
                    None => treated.push((file.clone(), marks.clone())),
                }
            }
            if !self.publish_each(lease, &replaced, &treated, None).await? {
                return Ok(());
            }
            info!(
                tenant = %self.tenant, signal = self.signal.as_str(), rewritten = replaced.len(),
                unchanged = treated.len(), dropped = n_dropped, bytes_written, "treated"
            );
            self.report.rewritten += replaced.len() as u64;
            self.report.dropped += n_dropped;
            self.report.bytes_written += bytes_written;
        }
        Ok(())
    }

    /// Publishes files in place of others, each with its own heirs, and marks those that stay; `false` if another
    /// compactor forestalled it. `also` is written with them.
    pub(super) async fn publish_each(
        &mut self,
        lease: &Lease,
        replaced: &[(IndexedFile, Vec<Output>)],
        treated: &[(IndexedFile, Vec<u64>)],
        also: Option<Write>,
    ) -> Result<bool> {
        let replacements: Vec<Replacement<'_>> = replaced
            .iter()
            .map(|(input, outputs)| Replacement { inputs: std::slice::from_ref(input), outputs })
            .collect();
        let inputs: Vec<IndexedFile> = replaced.iter().map(|(input, _)| input.clone()).collect();
        let now_s = (self.clock)();
        let publication = Publication {
            tenant: self.tenant,
            signal: self.signal,
            replacements: &replacements,
            treated,
            also,
            due_s: self.due_s(&inputs, now_s),
            now_s,
        };
        let outcome = publish::publish(self.store, lease, publication).await?;
        if outcome == Outcome::ConditionFailed {
            self.report.forestalled += 1;
        }
        Ok(outcome == Outcome::Written)
    }
}

/// What is to be applied to a window now. Rules of retention are not applied to what is wide: that goes when the longest
/// has ended.
fn due<'s>(
    settings: &'s Settings,
    tenant: &TenantId,
    signal: Signal,
    window: Window,
    now_s: u64,
) -> Option<Treatment<'s>> {
    let mut treatment = Treatment {
        policy: keep_all(),
        rules: settings.retention.special(tenant, signal),
        is_over: vec![false],
        marks: Vec::new(),
    };
    if let Some(end_ns) = window.end_ns().filter(|_| !treatment.rules.is_empty()) {
        let last_ns = end_ns.saturating_add(WINDOW_REACH_NS);
        let is_over = |age_s: Option<u64>| age_s.is_some_and(|age_s| last_ns <= oldest_ns(now_s, age_s));
        let ages = treatment.rules.iter().map(|rule| rule.age_s);
        treatment.is_over = ages.chain([settings.retention.age_s(tenant, signal)]).map(is_over).collect();
    }
    treatment.is_over.resize(treatment.rules.len() + 1, false);
    if treatment.is_over.contains(&true) {
        let mut text = String::new();
        for (at, is_over) in treatment.is_over.iter().enumerate() {
            let has = treatment.rules.get(at).map(|rule| rule.has);
            write!(text, "{has:?} {is_over};").expect("invariant: writing to a string succeeds");
        }
        treatment.marks.push(hash_texts("retention", &text));
    }
    if signal == Signal::Traces
        && let Some(policy) = settings.sampling.of(tenant)
        && policy.threshold() != Threshold::ALWAYS
        && window.end_ns().is_none_or(|end_ns| end_ns <= oldest_ns(now_s, policy.after.as_secs()))
    {
        treatment.policy = policy.clone();
        treatment.marks.push(mark_of(policy));
    }
    (!treatment.marks.is_empty()).then_some(treatment)
}

/// The first instant that is not older than an age.
fn oldest_ns(now_s: u64, age_s: u64) -> i64 {
    let oldest_s = i64::try_from(now_s.saturating_sub(age_s)).unwrap_or(i64::MAX);
    oldest_s.saturating_mul(SECOND_NS)
}

/// Whether a file's item says all of these.
fn is_treated(file: &IndexedFile, marks: &[u64]) -> bool {
    marks.iter().all(|mark| file.treatments.contains(mark))
}

/// The hours of a long window and itself, or what is wide.
fn parts_of(window: Window) -> Vec<Window> {
    match window {
        Window::Hours { first, n } => {
            (first..first + i64::from(n)).map(Window::Hour).chain([window]).collect()
        }
        Window::Wide | Window::Hour(_) => vec![window],
    }
}

/// What a policy would do to what is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DryRun {
    /// Traces that would stay for a reason, by its text.
    pub kept: BTreeMap<String, Share>,
    /// Traces that would stay by chance.
    pub sampled: Share,
    /// Traces that would go.
    pub dropped: Share,
}

/// A part of what is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Traces; one that lies in several long windows counts in each.
    pub n_traces: u64,
    /// Spans.
    pub n_spans: u64,
    /// Bytes, each span counted with its part of the files that it lies in.
    pub bytes: f64,
}

impl Share {
    /// Adds another part.
    pub fn add(&mut self, other: Self) {
        self.n_traces += other.n_traces;
        self.n_spans += other.n_spans;
        self.bytes += other.bytes;
    }
}

/// What `policy` would do to all traces that a tenant has stored, whatever their age. Writes nothing.
///
/// # Errors
/// As the stores; a file is corrupt.
pub async fn dry_run(store: &Store, tenant: &TenantId, policy: &Policy) -> Result<DryRun> {
    let mut windows: BTreeMap<Window, Vec<NamedWindow>> = BTreeMap::new();
    for named in index::known_windows(store, tenant, Signal::Traces).await? {
        let whole = plan::long_window(Signal::Traces, named.window).unwrap_or(named.window);
        windows.entry(whole).or_default().push(named);
    }
    let mut dry_run = DryRun::default();
    for parts in windows.into_values() {
        let files = index::files(store, tenant, Signal::Traces, parts).await?;
        let mut bytes_per_span = Vec::with_capacity(files.len());
        for file in &files {
            let summary = file.summary()?;
            bytes_per_span.push(summary.size as f64 / summary.rows.max(1) as f64);
        }
        let mut scout = Scout::begin(store, tenant, &files, policy, &[]).await?;
        while let Some(found) = scout.next().await? {
            let mut share = Share { n_traces: 1, ..Share::default() };
            for (file, n_spans) in found.n_spans {
                share.n_spans += n_spans;
                share.bytes += n_spans as f64 * bytes_per_span[file];
            }
            match decide(policy, &found.facts) {
                Decision::Keep(reason) => dry_run.kept.entry(reason.to_string()).or_default().add(share),
                Decision::Sampled { .. } => dry_run.sampled.add(share),
                Decision::Drop => dry_run.dropped.add(share),
            }
        }
    }
    Ok(dry_run)
}
