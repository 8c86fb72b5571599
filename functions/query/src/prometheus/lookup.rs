//! Lookups: series, label names and values, metadata, exemplars.
//!
//! Source: Prometheus `web/api/v1/api.go` `series`, `labelNames`, `labelValues`, `metricMetadata`, `queryExemplars`.

use std::collections::BTreeMap;

use model::attribute::write_string;
use model::series::Metadata;
use model::{Labels, Matcher};
use storage::read::{self, SeriesLimits};

use super::answer::Answer;
use super::error::Error;
use super::params::{self, ParamError};
use super::{Call, json};
use crate::form::{self, Form, Plus};

/// `GET, POST /api/v1/series`: the label sets that match any of the selectors, sorted.
pub(super) async fn series(call: Call) -> Result<Answer, Error> {
    if call.form.all("match[]").next().is_none() {
        return Err(Error::BadData("no match[] parameter provided".to_owned()));
    }
    let limit = params::limit(&call.form)?;
    let window_ms = params::window(&call.form)?;
    let selectors = selectors(&call.form)?;
    let mut found =
        read::label_sets(&call.store, &call.tenant, &selectors, window_ms, &limits(&call)).await?;
    let is_truncated = truncate(&mut found, limit);
    let mut data = String::new();
    json::list(&mut data, &found, json::labels);
    Ok(Answer::data(data).truncated(is_truncated))
}

/// `GET, POST /api/v1/labels`.
pub(super) async fn label_names(call: Call) -> Result<Answer, Error> {
    let limit = params::limit(&call.form)?;
    let window_ms = params::window(&call.form)?;
    let selectors = selectors(&call.form)?;
    let names = read::label_names(&call.store, &call.tenant, &selectors, window_ms, &limits(&call)).await?;
    Ok(names_answer(names, limit))
}

/// `GET /api/v1/label/{name}/values`.
pub(super) async fn label_values(call: Call) -> Result<Answer, Error> {
    let limit = params::limit(&call.form)?;
    let name = label_of(&call.path)?;
    let window_ms = params::window(&call.form)?;
    let selectors = selectors(&call.form)?;
    let values =
        read::label_values(&call.store, &call.tenant, &name, &selectors, window_ms, &limits(&call)).await?;
    Ok(names_answer(values, limit))
}

fn names_answer(mut names: Vec<String>, limit: Option<usize>) -> Answer {
    let is_truncated = truncate(&mut names, limit);
    let mut data = String::new();
    json::strings(&mut data, names.iter().map(String::as_str));
    Answer::data(data).truncated(is_truncated)
}

fn limits(call: &Call) -> SeriesLimits {
    SeriesLimits { max_bytes: call.limits.max_bytes, ..SeriesLimits::default() }
}

/// Cuts to the limit and says whether that left something out.
fn truncate<T>(found: &mut Vec<T>, limit: Option<usize>) -> bool {
    let is_truncated = limit.is_some_and(|limit| found.len() > limit);
    if let Some(limit) = limit {
        found.truncate(limit);
    }
    is_truncated
}

/// The matchers of each `match[]`.
fn selectors(form: &Form) -> Result<Vec<Vec<Matcher>>, Error> {
    let mut selectors = Vec::new();
    for text in form.all("match[]") {
        let matchers = promql::parse_selector(text).map_err(|err| ParamError::invalid("match[]", &err))?;
        if matchers.iter().all(Matcher::matches_empty) {
            let problem = "match[] must contain at least one non-empty matcher";
            return Err(ParamError::invalid("match[]", &problem).into());
        }
        selectors.push(matchers);
    }
    Ok(selectors)
}

/// The label in the path, its `U__` form undone.
fn label_of(path: &str) -> Result<String, Error> {
    let raw = path.trim_end_matches('/').strip_suffix("/values").and_then(|path| path.rsplit_once('/'));
    let name = form::decode(raw.map_or("", |(_, name)| name), Plus::Plus)?;
    let name = unescape(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(Error::BadData(format!("invalid label name: {name:?}")));
    }
    Ok(name)
}

/// `U__http_2e_status` is `http.status`, `__` is `_`; `None` for a name that is not of this form.
/// Source: Prometheus `common/model` `UnescapeName` with `ValueEncodingEscaping`.
fn unescape(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut plain = String::new();
    while let Some(at) = rest.find('_') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            plain.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = rest.split_once('_')?;
        if digits.is_empty() || digits.len() > 6 {
            return None;
        }
        plain.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

/// `GET /api/v1/metadata`: what senders said of metric families, by name; what several said differently, one by one.
pub(super) async fn metadata(call: Call) -> Result<Answer, Error> {
    let number = |name: &'static str| match call.form.first(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            // Prometheus takes 0 for "none at all"; Grafana sends it for "all".
            Ok(limit) => Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0)),
            Err(_) => Err(Error::BadData(format!("{name} must be a number"))),
        },
    };
    let (limit, limit_per_metric) = (number("limit")?, number("limit_per_metric")?);
    let metric = Some(call.form.first("metric")).filter(|metric| !metric.is_empty());
    let said = read::metadata(&call.store, &call.tenant, metric).await?;
    let mut families: BTreeMap<&str, Vec<&Metadata>> = BTreeMap::new();
    for metadata in &said {
        families.entry(&metadata.family).or_default().push(metadata);
    }
    let mut data = String::from("{");
    for (position, (family, mut said)) in families.into_iter().take(limit.unwrap_or(usize::MAX)).enumerate() {
        said.sort_unstable();
        said.dedup();
        said.truncate(limit_per_metric.unwrap_or(usize::MAX));
        if position > 0 {
            data.push(',');
        }
        write_string(&mut data, family);
        data.push(':');
        json::list(&mut data, said, |out, metadata| {
            out.push_str("{\"type\":");
            write_string(out, metadata.metric_type.as_str());
            out.push_str(",\"help\":");
            write_string(out, &metadata.help);
            out.push_str(",\"unit\":");
            write_string(out, &metadata.unit);
            out.push('}');
        });
    }
    data.push('}');
    Ok(Answer::data(data))
}

/// `GET, POST /api/v1/query_exemplars`: exemplars of all series that the expression selects.
pub(super) async fn exemplars(call: Call) -> Result<Answer, Error> {
    let (start_ms, end_ms) = params::window(&call.form)?;
    if end_ms < start_ms {
        return Err(Error::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    let expr = promql::parse(call.form.first("query")).map_err(|err| ParamError::invalid("query", &err))?;
    let selectors: Vec<Vec<Matcher>> = promql::selectors(&expr);
    if selectors.is_empty() {
        return Ok(Answer::nothing());
    }
    let found =
        read::exemplars(&call.store, &call.tenant, &selectors, (start_ms, end_ms), &limits(&call)).await?;
    let mut data = String::new();
    json::list(&mut data, &found, |out, (labels, exemplars): &(Labels, _)| {
        out.push_str("{\"seriesLabels\":");
        json::labels(out, labels);
        out.push_str(",\"exemplars\":");
        json::list(out, exemplars, json::exemplar);
        out.push('}');
    });
    Ok(Answer::data(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_are_undone() {
        let check = |path: &str, expect: &str| {
            assert_eq!(label_of(&format!("/api/v1/label/{path}/values")).expect("a name"), expect);
        };
        check("job", "job");
        check("U__http_2e_status", "http.status");
        check("U__a__b", "a_b");
        check("U__a_zz_b", "U__a_zz_b");
        check("http.status", "http.status");
        check("a%2Fb", "a/b");
    }
}
