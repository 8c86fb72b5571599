//! Expressions: plan → fetch → evaluate → render; range queries by parts where some are kept (`blocks`).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use model::Labels;
use promql::{Plan, Points, QueryParams, Sample, Take, Value};
use storage::read::{self, Room, Selected, Selection, SeriesLimits, Steps};

use super::answer::{Answer, Pieces};
use super::blocks::{self, Answered, Question};
use super::error::Error;
use super::params::{self, ParamError};
use super::results::Results;
use super::{Call, json, tree};
use crate::form::Form;

/// Of a long answer as much is written at once, or a series if that is longer.
const PIECE_BYTES: usize = 64 << 10;

/// `GET, POST /api/v1/query`.
pub(super) async fn instant(call: Call) -> Result<Answer, Error> {
    let limit = params::limit(&call.form)?;
    let time_ms = params::time_or(&call.form, "time", call.now_ms)?;
    evaluate(call, QueryParams::instant(time_ms), limit).await
}

/// `GET, POST /api/v1/query_range`.
pub(super) async fn range(call: Call) -> Result<Answer, Error> {
    let limit = params::limit(&call.form)?;
    let steps = params::steps(&call.form)?;
    evaluate(call, QueryParams::range(steps.start_ms, steps.end_ms, steps.step_ms), limit).await
}

/// `GET, POST /api/v1/format_query`.
pub(super) fn format(form: &Form) -> Result<Answer, Error> {
    let expr = promql::parse(form.first("query")).map_err(|err| ParamError::invalid("query", &err))?;
    let mut data = String::new();
    model::attribute::write_string(&mut data, &expr.pretty());
    Ok(Answer::data(data))
}

/// `GET, POST /api/v1/parse_query`.
pub(super) fn parse(form: &Form) -> Result<Answer, Error> {
    let expr = promql::parse(form.first("query")).map_err(|err| ParamError::invalid("query", &err))?;
    Ok(Answer::data(tree::of(&expr).to_string()))
}

async fn evaluate(call: Call, mut params: QueryParams, limit: Option<usize>) -> Result<Answer, Error> {
    if let Some(lookback_ms) = params::duration_ms(&call.form, "lookback_delta")?.filter(|ms| *ms > 0) {
        params.lookback_ms = lookback_ms;
    }
    let query = call.form.first("query").to_owned();
    let expr = promql::parse(&query).map_err(|err| ParamError::invalid("query", &err))?;
    let limits = SeriesLimits { max_bytes: call.limits.max_bytes, ..SeriesLimits::default() };
    let started = Instant::now();
    let deadline = started + call.timeout;
    let question = Question {
        store: &call.store,
        tenant: &call.tenant,
        query: &query,
        expr: &expr,
        params,
        limits: &limits,
        deadline,
        asker: Some(&call.asker),
    };
    let Answered { answer, fetched, n_cached_steps } = answer(&question, call.results.as_deref()).await?;
    let stats = call.form.first("stats");
    let mut end = String::new();
    if !stats.is_empty() {
        let seconds = started.elapsed().as_secs_f64();
        let fetch_seconds = fetched.as_secs_f64();
        let evaluate_seconds = seconds - fetch_seconds;
        write!(
            end,
            r#","stats":{{"timings":{{"evalTotalTime":{seconds:.9},"resultSortTime":0,"queryPreparationTime":{fetch_seconds:.9},"innerEvalTime":{evaluate_seconds:.9},"execQueueTime":0,"execTotalTime":{seconds:.9}}},"samples":{{"totalQueryableSamples":{n},"peakSamples":{n}}},"cachedSteps":{n_cached_steps},"jobs":{n_jobs}}}"#,
            n = answer.n_samples,
            n_jobs = call.asker.tally.spread().jobs
        )
        .expect("invariant: writing to a String does not fail");
    }
    end.push('}');
    let (rendered, is_truncated) = render(answer.value, params.start_ms, limit);
    let data = Answer::pieces(Box::new(rendered.chain(std::iter::once(end))));
    Ok(data.remarked(answer.warnings, answer.infos).truncated(is_truncated))
}

/// The answer: of a range query by parts, if parts of it are kept and it allows that.
async fn answer(question: &Question<'_>, results: Option<&Results>) -> Result<Answered, Error> {
    if let Some(results) = results
        && let Some(answered) = blocks::answer(question, results).await?
    {
        return Ok(answered);
    }
    let plan = promql::plan(question.query, question.expr, &question.params);
    let started = Instant::now();
    let selections = selections_of(&plan);
    let data = read::select_packed(question.store, question.tenant, &selections, question.limits).await?;
    let fetched = started.elapsed();
    let answer = evaluate_plan(plan, Arc::new(data), question.deadline).await?;
    Ok(Answered { answer, fetched, n_cached_steps: 0 })
}

/// What a plan needs, in the words of storage.
pub(super) fn selections_of(plan: &Plan) -> Vec<Selection> {
    let selection = |need: &promql::Need| Selection {
        matchers: need.matchers.clone(),
        start_ms_exclusive: need.start_ms_exclusive,
        end_ms: need.end_ms,
        steps: need.steps_ms.map(|(first_ms, step_ms)| Steps { first_ms, step_ms }),
    };
    plan.needs().iter().map(selection).collect()
}

/// What storage selected, as the engine looks at it.
struct Unpacked<'a>(&'a Selected);

impl promql::Data for Unpacked<'_> {
    fn n_series(&self, need: usize) -> usize {
        self.0.n_series(need)
    }

    fn each(&self, need: usize, take: &mut Take<'_>) -> Result<(), promql::Error> {
        let mut room = Room::default();
        for series in 0..self.0.n_series(need) {
            let unpacked = self.0.unpack(need, series, &mut room);
            if let Some(series) = unpacked.map_err(|err| promql::Error::Unread(err.to_string()))? {
                take(series)?;
            }
        }
        Ok(())
    }
}

/// Evaluates on a thread of its own: a query may take seconds, and others wait for this one.
pub(super) async fn evaluate_plan(
    plan: Plan,
    data: Arc<Selected>,
    deadline: Instant,
) -> Result<promql::Answer, promql::Error> {
    let evaluated = tokio::task::spawn_blocking(move || {
        let answer = promql::evaluate(&plan, &Unpacked(&data), &|| Instant::now() > deadline);
        // Freeing what was fetched takes time too.
        drop(data);
        answer
    });
    match evaluated.await {
        Ok(answer) => answer,
        Err(err) => std::panic::resume_unwind(err.into_panic()),
    }
}

/// `{"resultType":…,"result":…` without the closing brace; the type first, as Grafana reads it. Whether the limit left
/// something out.
fn render(value: Value, time_ms: i64, limit: Option<usize>) -> (Pieces, bool) {
    let limit = limit.unwrap_or(usize::MAX);
    match value {
        Value::Scalar(number) => {
            let mut out = String::from(r#"{"resultType":"scalar","result":"#);
            json::point(&mut out, time_ms, number);
            (Box::new(std::iter::once(out)), false)
        }
        Value::String(text) => {
            let mut out = String::from(r#"{"resultType":"string","result":["#);
            json::time(&mut out, time_ms);
            out.push(',');
            model::attribute::write_string(&mut out, &text);
            out.push(']');
            (Box::new(std::iter::once(out)), false)
        }
        Value::Vector(samples) => {
            let is_truncated = samples.len() > limit;
            let start = r#"{"resultType":"vector","result":["#;
            let write = move |out: &mut String, (labels, sample): (Labels, Sample)| {
                out.push_str("{\"metric\":");
                json::labels(out, &labels);
                match sample {
                    Sample::Float(number) => {
                        out.push_str(",\"value\":");
                        json::point(out, time_ms, number);
                    }
                    Sample::Histogram(histogram) => {
                        out.push_str(",\"histogram\":");
                        json::histogram_point(out, time_ms, &histogram);
                    }
                }
                out.push('}');
            };
            (Box::new(list(start, samples.into_iter().take(limit), write)), is_truncated)
        }
        Value::Matrix(series) => {
            let is_truncated = series.len() > limit;
            let start = r#"{"resultType":"matrix","result":["#;
            let write = |out: &mut String, points: Points| {
                out.push_str("{\"metric\":");
                json::labels(out, &points.labels);
                if !points.floats.is_empty() {
                    out.push_str(",\"values\":");
                    json::list(out, &points.floats, |out, (time_ms, number)| {
                        json::point(out, *time_ms, *number);
                    });
                }
                if !points.histograms.is_empty() {
                    out.push_str(",\"histograms\":");
                    json::list(out, &points.histograms, |out, (time_ms, histogram)| {
                        json::histogram_point(out, *time_ms, histogram);
                    });
                }
                out.push('}');
            };
            (Box::new(list(start, series.into_iter().take(limit), write)), is_truncated)
        }
    }
}

/// `start` and the items of a list with its closing bracket, in pieces; items are let go as they are written.
fn list<T>(
    start: &'static str,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) -> impl Iterator<Item = String> {
    let mut items = items.fuse();
    let mut next = Some(start.to_owned());
    let mut is_first = true;
    std::iter::from_fn(move || {
        let mut out = next.take()?;
        out.reserve(PIECE_BYTES);
        while out.len() < PIECE_BYTES {
            let Some(item) = items.next() else {
                out.push(']');
                return Some(out);
            };
            if !std::mem::replace(&mut is_first, false) {
                out.push(',');
            }
            write(&mut out, item);
        }
        next = Some(String::new());
        Some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_in_any_number_of_pieces() {
        let check = |n_items: usize, item: &str, n_pieces: usize| {
            let write = |out: &mut String, item: &str| out.push_str(item);
            let pieces: Vec<String> = list("[", std::iter::repeat_n(item, n_items), write).collect();
            assert_eq!(pieces.concat(), format!("[{}]", vec![item; n_items].join(",")));
            assert_eq!(pieces.len(), n_pieces, "{n_items} of {}", item.len());
        };
        check(0, "1", 1);
        check(1, "1", 1);
        check(1000, "1", 1);
        check(PIECE_BYTES, "12", 3);
        check(3, &"x".repeat(PIECE_BYTES), 4);
    }
}
