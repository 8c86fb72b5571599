//! Range queries in blocks of steps, of which those that were computed before are not computed again.
//!
//! 1. The steps are cut into blocks at fixed places: multiples of [`BLOCK_STEPS`] steps.
//! 2. The index is read once. It tells for each block which files its selectors may need, whatever the query's own range.
//! 3. A block that was kept and whose files are the same is taken; runs of others are fetched and evaluated, those at the
//!    ends of the query only as far as it asks for them. Whole blocks are kept.
//!    A run that is more than one function's share is given to workers, in parts ([`run_job`]).
//! 4. The parts are joined, series by series.
//!
//! The answer is that of the query as a whole, to the bit. Where that cannot be told of its parts, there is none here, and
//! the caller evaluates the whole: if the query looks at the ends of its range, if series with delta temporality are added
//! up from its start, if parts have different remarks, if a part fails.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::TenantId;
use promql::{Answer, Expr, Plan, Points, QueryParams, Value};
use storage::Store;
use storage::read::{NamedFiles, Selected, SeriesFiles, SeriesLimits};

use super::error::Error;
use super::query::{evaluate_plan, selections_of};
use super::results::{Block, QueryKey, Results};
use crate::fanout::{Asker, RangeFound, RangeJob};

/// Steps of a block: a refreshed dashboard evaluates one and a half of them on average, and each block costs a look at
/// the list of files.
const BLOCK_STEPS: i64 = 32;
/// Shorter queries have no whole block in many positions.
const LEAST_STEPS: i64 = 2 * BLOCK_STEPS;
/// More runs than these are evaluated as one: each reads its lookback again.
const MAX_RUNS: usize = 4;

/// A range query.
pub(super) struct Question<'a> {
    pub(super) store: &'a Store,
    pub(super) tenant: &'a TenantId,
    pub(super) query: &'a str,
    pub(super) expr: &'a Expr,
    pub(super) params: QueryParams,
    pub(super) limits: &'a SeriesLimits,
    pub(super) deadline: Instant,
    /// Who may ask others.
    pub(super) asker: Option<&'a Asker>,
}

/// An answer, and what it took.
pub(super) struct Answered {
    pub(super) answer: Answer,
    /// How long reading took.
    pub(super) fetched: Duration,
    /// Steps that were not evaluated.
    pub(super) n_cached_steps: u64,
}

/// Some steps of a query, both included; a whole block, or as much of it as is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    first_ms: i64,
    last_ms: i64,
}

/// A block that has steps of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    number: i64,
    whole: Steps,
    asked: Steps,
}

/// Series and remarks of some steps.
struct Part {
    series: Vec<Points>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

/// The answer by parts, if it can be told.
///
/// # Errors
/// As storage while the index is read.
pub(super) async fn answer(question: &Question<'_>, results: &Results) -> Result<Option<Answered>, Error> {
    let params = question.params;
    let Some(places) = places(&params) else { return Ok(None) };
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(None) };
    let plan = question.plan(Steps { first_ms: first.whole.first_ms, last_ms: last.whole.last_ms });
    if !plan.is_stepwise() {
        return Ok(None);
    }
    let key = Arc::new(QueryKey {
        tenant: question.tenant.as_str().to_owned(),
        query: question.query.to_owned(),
        step_ms: params.step_ms,
        phase_ms: params.start_ms.rem_euclid(params.step_ms),
        lookback_ms: params.lookback_ms,
    });
    if results.is_whole(&key) {
        return Ok(None);
    }
    let started = Instant::now();
    let selections = selections_of(&plan);
    let files = SeriesFiles::of(question.store, question.tenant, &selections).await?;
    let named = files.named_by(&selections)?;
    let mut fetched = started.elapsed();

    let hash_of = |place: &Place| hash_for(&named, &question.plan(place.whole));
    let hashes: Vec<[u8; 32]> = places.iter().map(hash_of).collect();
    let kept_at = |(place, hash): (&Place, _)| {
        results.get(&key, place.number, hash).filter(|block| place.may_take(block))
    };
    let kept = places.iter().zip(&hashes).map(kept_at).collect();
    let cut = Cut { key, places, hashes, kept };

    let runs = runs(&cut.kept);
    let mut parts = cut.kept_parts(&runs);
    let n_steps = Steps { first_ms: params.start_ms, last_ms: params.end_ms }.n(params.step_ms);
    let (mut n_samples, mut n_evaluated_steps) = (0, 0);
    let mut split = Vec::new();
    for run in &runs {
        split.extend(question.shares_of(&files, &cut, run, runs.len())?);
    }
    let told = question.ask_others(&named, &cut, &split, runs.len()).await?;
    for (run, told) in split.into_iter().zip(told) {
        let steps = cut.steps_of(&run);
        let (part, n_of_part, data) = if let Some(told) = told {
            let RangeFound { series, warnings, infos, n_samples } = told;
            (Part { series, warnings, infos }, n_samples, None)
        } else {
            let started = Instant::now();
            let selections = selections_of(&question.plan(steps));
            let selected = files.select(question.store, question.tenant, &selections, question.limits).await;
            fetched += started.elapsed();
            let Ok(selected) = selected else { return Ok(None) };
            if selected.has_delta {
                results.note_whole(&cut.key);
                return Ok(None);
            }
            let data = Arc::new(selected);
            let Some((part, n_of_part)) = question.evaluate(&data, steps).await else { return Ok(None) };
            (part, n_of_part, Some(data))
        };
        n_samples += n_of_part;
        n_evaluated_steps += steps.n(params.step_ms);
        cut.keep(question, results, run, &part, data.as_ref()).await;
        parts.push((steps, part));
    }
    parts.sort_by_key(|(steps, _)| steps.first_ms);
    let Some(joined) = join(parts.into_iter().map(|(_, part)| part)) else {
        results.note_whole(&cut.key);
        return Ok(None);
    };
    let n_cached_steps = n_steps - n_evaluated_steps;
    results.count_steps(n_cached_steps, n_evaluated_steps);
    let Part { series, warnings, infos } = joined;
    let answer = Answer { value: Value::Matrix(series), warnings, infos, n_samples };
    Ok(Some(Answered { answer, fetched, n_cached_steps }))
}

/// A query cut into blocks, with what is kept of them.
struct Cut {
    key: Arc<QueryKey>,
    places: Vec<Place>,
    /// By place, the set of files.
    hashes: Vec<[u8; 32]>,
    kept: Vec<Option<Arc<Block>>>,
}

impl Cut {
    /// The parts that lie in no run.
    fn kept_parts(&self, runs: &[Range<usize>]) -> Vec<(Steps, Part)> {
        let mut parts = Vec::new();
        for (at, (place, block)) in self.places.iter().zip(&self.kept).enumerate() {
            if let Some(block) = block
                && !runs.iter().any(|run| run.contains(&at))
            {
                parts.push((place.asked, block.part(place.asked)));
            }
        }
        parts
    }

    fn steps_of(&self, run: &Range<usize>) -> Steps {
        Steps {
            first_ms: self.places[run.start].asked.first_ms,
            last_ms: self.places[run.end - 1].asked.last_ms,
        }
    }

    /// Keeps the whole blocks of a run, which gave `part` of `data`, or of what another had.
    async fn keep(
        &self,
        question: &Question<'_>,
        results: &Results,
        run: Range<usize>,
        part: &Part,
        data: Option<&Arc<Selected>>,
    ) {
        for at in run {
            let place = self.places[at];
            if self.kept[at].is_some() || place.whole != place.asked {
                continue;
            }
            let of_place = match data {
                _ if !part.has_remarks() => Some(part.within(place.whole)),
                // Of which steps they are is not known.
                Some(data) => question.evaluate(data, place.whole).await.map(|(part, _)| part),
                None => None,
            };
            if let Some(Part { series, warnings, infos }) = of_place {
                let files = self.hashes[at];
                results.put(&self.key, place.number, Block { files, series, warnings, infos });
            }
        }
    }
}

/// What a job gives, if that can be told by it alone, and of the files that whoever asks saw.
///
/// # Errors
/// As the stores; the job is over a limit.
pub(crate) async fn run_job(
    store: &Store,
    tenant: &TenantId,
    job: &RangeJob,
    deadline: Instant,
) -> storage::Result<Option<RangeFound>> {
    let Ok(expr) = promql::parse(&job.query) else { return Ok(None) };
    let mut params = QueryParams::range(job.start_ms, job.end_ms, job.step_ms);
    params.lookback_ms = job.lookback_ms;
    let (query, limits) = (&*job.query, &SeriesLimits::default());
    let question = Question { store, tenant, query, expr: &expr, params, limits, deadline, asker: None };
    let steps = Steps { first_ms: job.start_ms, last_ms: job.end_ms };
    let plan = question.plan(steps);
    let selections = selections_of(&plan);
    let files = SeriesFiles::of(store, tenant, &selections).await?;
    if !plan.is_stepwise() || hash_for(&files.named_by(&selections)?, &plan) != job.files {
        return Ok(None);
    }
    let selected = files.select(store, tenant, &selections, limits).await?;
    if selected.has_delta {
        return Ok(None);
    }
    let evaluated = question.evaluate(&Arc::new(selected), steps).await;
    let found = evaluated.map(|(part, n_samples)| {
        let Part { series, warnings, infos } = part;
        RangeFound { series, warnings, infos, n_samples }
    });
    Ok(found.filter(RangeFound::is_told))
}

/// A hash of the files that a plan may need.
fn hash_for(named: &NamedFiles, plan: &Plan) -> [u8; 32] {
    named.hash_of(plan.needs().iter().map(|need| (need.start_ms_exclusive, need.end_ms)))
}

impl Question<'_> {
    /// A run, in as many parts as it is shares; all runs together in as many as there may be jobs.
    fn shares_of(
        &self,
        files: &SeriesFiles,
        cut: &Cut,
        run: &Range<usize>,
        n_runs: usize,
    ) -> Result<Vec<Range<usize>>, Error> {
        let Some(share) = self.asker.and_then(Asker::share) else { return Ok(vec![run.clone()]) };
        let bytes = files.bytes_for(&selections_of(&self.plan(cut.steps_of(run))))?;
        let n_shares = usize::try_from(bytes.div_ceil(share.bytes.max(1))).unwrap_or(usize::MAX);
        let n = n_shares.min(share.max_jobs / n_runs).min(run.len()).max(1);
        // All blocks have as many steps, and so about as many bytes.
        let edge = |i: usize| run.start + run.len() * i / n;
        Ok((0..n).map(|i| edge(i)..edge(i + 1)).collect())
    }

    /// What others make of the parts of runs, if these are more parts than runs; `None` where it is left to the one who asks.
    async fn ask_others(
        &self,
        named: &NamedFiles,
        cut: &Cut,
        split: &[Range<usize>],
        n_runs: usize,
    ) -> Result<Vec<Option<RangeFound>>, Error> {
        let Some(asker) = self.asker.filter(|_| split.len() > n_runs) else {
            return Ok(split.iter().map(|_| None).collect());
        };
        let job = |run: &Range<usize>| {
            let steps = cut.steps_of(run);
            RangeJob {
                query: self.query.to_owned(),
                start_ms: steps.first_ms,
                end_ms: steps.last_ms,
                step_ms: self.params.step_ms,
                lookback_ms: self.params.lookback_ms,
                files: hash_for(named, &self.plan(steps)),
            }
        };
        Ok(asker.evaluate(split.iter().map(job).collect()).await?)
    }

    fn plan(&self, steps: Steps) -> Plan {
        let params = QueryParams { start_ms: steps.first_ms, end_ms: steps.last_ms, ..self.params };
        promql::plan(self.query, self.expr, &params)
    }

    /// What `data` gives at some of its steps, and how many samples it has; `None` if that fails.
    async fn evaluate(&self, data: &Arc<Selected>, steps: Steps) -> Option<(Part, u64)> {
        let answer = evaluate_plan(self.plan(steps), Arc::clone(data), self.deadline).await.ok()?;
        let n_samples = answer.n_samples;
        Some((Part::of(answer)?, n_samples))
    }
}

/// The blocks that have steps of a range query, ascending; `None` if it is too short or too far from this age.
fn places(params: &QueryParams) -> Option<Vec<Place>> {
    let step_ms = params.step_ms;
    if step_ms <= 0 || params.end_ms < params.start_ms {
        return None;
    }
    let n_steps = (params.end_ms.checked_sub(params.start_ms)?) / step_ms + 1;
    if n_steps < LEAST_STEPS {
        return None;
    }
    let phase_ms = params.start_ms.rem_euclid(step_ms);
    let first_step = params.start_ms.div_euclid(step_ms);
    let last_step = first_step.checked_add(n_steps - 1)?;
    let time_ms = |step: i64| step.checked_mul(step_ms)?.checked_add(phase_ms);
    let numbers = first_step.div_euclid(BLOCK_STEPS)..=last_step.div_euclid(BLOCK_STEPS);
    let place = |number: i64| {
        let first = number.checked_mul(BLOCK_STEPS)?;
        let last = first.checked_add(BLOCK_STEPS - 1)?;
        Some(Place {
            number,
            whole: Steps { first_ms: time_ms(first)?, last_ms: time_ms(last)? },
            asked: Steps {
                first_ms: time_ms(first.max(first_step))?,
                last_ms: time_ms(last.min(last_step))?,
            },
        })
    };
    numbers.map(place).collect()
}

impl Place {
    /// Whether a kept block can stand for the steps that are asked for: of a part of its steps, remarks are not known.
    fn may_take(&self, block: &Block) -> bool {
        self.whole == self.asked || !block.has_remarks()
    }
}

impl Steps {
    fn n(self, step_ms: i64) -> u64 {
        ((self.last_ms - self.first_ms) / step_ms + 1) as u64
    }
}

/// The runs of blocks that are not kept; one, with what lies between, if there are many.
fn runs(kept: &[Option<Arc<Block>>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, block) in kept.iter().enumerate() {
        match runs.last_mut() {
            _ if block.is_some() => {}
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    match (runs.first(), runs.last()) {
        (Some(first), Some(last)) if runs.len() > MAX_RUNS => {
            let all = first.start..last.end;
            vec![all]
        }
        _ => runs,
    }
}

impl Block {
    fn has_remarks(&self) -> bool {
        !self.warnings.is_empty() || !self.infos.is_empty()
    }

    fn part(&self, steps: Steps) -> Part {
        let (warnings, infos) = (self.warnings.clone(), self.infos.clone());
        Part { series: within(&self.series, steps), warnings, infos }
    }
}

impl Part {
    /// `None` if the answer has no series of its own for each label set.
    fn of(answer: Answer) -> Option<Self> {
        let Value::Matrix(series) = answer.value else { return None };
        let ascend = series.windows(2).all(|pair| pair[0].labels < pair[1].labels);
        ascend.then_some(Self { series, warnings: answer.warnings, infos: answer.infos })
    }

    fn has_remarks(&self) -> bool {
        !self.warnings.is_empty() || !self.infos.is_empty()
    }

    /// The same in some of its steps, without remarks.
    fn within(&self, steps: Steps) -> Self {
        Self { series: within(&self.series, steps), warnings: Vec::new(), infos: Vec::new() }
    }
}

/// The points at some steps, and the series that have some.
fn within(series: &[Points], steps: Steps) -> Vec<Points> {
    let mut found = Vec::new();
    for series in series {
        let floats = at_steps(&series.floats, steps);
        let histograms = at_steps(&series.histograms, steps);
        if !floats.is_empty() || !histograms.is_empty() {
            let (floats, histograms) = (floats.to_vec(), histograms.to_vec());
            found.push(Points { labels: series.labels.clone(), floats, histograms });
        }
    }
    found
}

/// Of points that ascend by time, those at some steps.
fn at_steps<T>(points: &[(i64, T)], steps: Steps) -> &[(i64, T)] {
    let start = points.partition_point(|(time_ms, _)| *time_ms < steps.first_ms);
    let n = points[start..].partition_point(|(time_ms, _)| *time_ms <= steps.last_ms);
    &points[start..start + n]
}

/// Parts that follow each other in one; `None` if they have different remarks, of which the order would not be known.
fn join(parts: impl Iterator<Item = Part>) -> Option<Part> {
    let mut joined = Part { series: Vec::new(), warnings: Vec::new(), infos: Vec::new() };
    for part in parts {
        if part.has_remarks() {
            if joined.has_remarks() && (joined.warnings != part.warnings || joined.infos != part.infos) {
                return None;
            }
            (joined.warnings, joined.infos) = (part.warnings, part.infos);
        }
        joined.series = append(joined.series, part.series);
    }
    Some(joined)
}

/// Series by labels, with the points of those that come later behind those of before.
fn append(before: Vec<Points>, later: Vec<Points>) -> Vec<Points> {
    let mut joined = Vec::with_capacity(before.len().max(later.len()));
    let (mut before, mut later) = (before.into_iter().peekable(), later.into_iter().peekable());
    loop {
        let order = match (before.peek(), later.peek()) {
            (None, None) => return joined,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.labels.cmp(&b.labels),
        };
        let mut next = if order == Ordering::Greater { later.next() } else { before.next() };
        if order == Ordering::Equal
            && let (Some(series), Some(more)) = (&mut next, later.next())
        {
            series.floats.extend(more.floats);
            series.histograms.extend(more.histograms);
        }
        joined.extend(next);
    }
}

#[cfg(test)]
mod tests;
