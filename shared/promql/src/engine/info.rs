//! `info`: labels of `target_info` and its like, added to other series.
//!
//! Source: Prometheus `promql/info.go`.

use foldhash::{HashMap, HashMapExt as _};
use model::labels::METRIC_NAME;
use model::series::is_stale;
use model::{Labels, Matcher};

use super::{ABSENT, Engine, Line, Result, Steps, merged};
use crate::syntax::ast::{Expr, ExprKind};
use crate::value::Error;

/// The labels by which a series and an info series belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

impl Engine<'_> {
    pub(super) fn info(&self, arguments: &[Expr], steps: Steps) -> Result<Vec<Line>> {
        let base = self.vector(&arguments[0], steps)?;
        let Some(ExprKind::Selector(selector)) = arguments.get(1).map(|argument| &argument.kind) else {
            return Err(Error::Execution("info has no selector of info series".to_owned()));
        };
        let infos = self.instant(selector, steps)?;
        let times = self.instant_wanted(selector, steps, super::selector::Wanted::Time)?;
        let data_matchers: Vec<&Matcher> =
            selector.matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME).collect();
        let must_be_found = data_matchers.iter().any(|matcher| !matcher.matches_empty());
        let is_identifying = |name: &str| IDENTIFYING.contains(&name);
        let is_wanted = |name: &str| {
            name != METRIC_NAME
                && !is_identifying(name)
                && (data_matchers.is_empty() || data_matchers.iter().any(|matcher| matcher.name() == name))
        };
        let mut by_identity: HashMap<Labels, Vec<usize>> = HashMap::new();
        for (position, info) in infos.iter().enumerate() {
            by_identity.entry(info.labels.filter(is_identifying)).or_default().push(position);
        }
        let is_info_metric = |labels: &Labels| {
            let name = labels.get(METRIC_NAME);
            selector
                .matchers
                .iter()
                .filter(|matcher| matcher.name() == METRIC_NAME)
                .all(|matcher| matcher.matches(name))
        };
        let mut out: HashMap<Labels, Line> = HashMap::new();
        let mut order: Vec<Labels> = Vec::new();
        for line in base {
            if is_info_metric(&line.labels) {
                order.push(line.labels.clone());
                out.insert(line.labels.clone(), line);
                continue;
            }
            let candidates = by_identity.get(&line.labels.filter(is_identifying));
            for step in 0..steps.n {
                if !line.is_present(step) {
                    continue;
                }
                let present =
                    candidates.into_iter().flatten().filter(|&&position| infos[position].is_present(step));
                // The newest of each metric's info series counts.
                let mut newest: HashMap<&str, usize> = HashMap::new();
                for &position in present {
                    let metric = infos[position].labels.get(METRIC_NAME);
                    let is_newer = newest
                        .get(metric)
                        .is_none_or(|&other| times[position].values[step] > times[other].values[step]);
                    if is_newer {
                        newest.insert(metric, position);
                    }
                }
                let mut labels = line.labels.clone();
                let mut n_added = 0;
                for &position in newest.values() {
                    for label in infos[position].labels.iter().filter(|label| is_wanted(&label.name)) {
                        if !line.labels.get(&label.name).is_empty() {
                            continue;
                        }
                        let before = labels.get(&label.name);
                        if !before.is_empty() && *before != *label.value {
                            return Err(Error::Execution(format!("conflicting label: {}", label.name)));
                        }
                        labels = labels.with(&label.name, &label.value);
                        n_added += 1;
                    }
                }
                if n_added == 0 && must_be_found {
                    continue;
                }
                let into = out.entry(labels.clone()).or_insert_with(|| {
                    order.push(labels.clone());
                    Line::new(labels, vec![ABSENT; steps.n])
                });
                if !is_stale(into.values[step]) {
                    return Err(Error::Execution(
                        "vector cannot contain metrics with the same labelset".to_owned(),
                    ));
                }
                into.values[step] = line.values[step];
                if let Some(histogram) = line.histogram(step) {
                    into.histograms.get_or_insert_with(|| vec![None; steps.n])[step] =
                        Some(std::sync::Arc::clone(histogram));
                }
            }
        }
        merged(order.into_iter().filter_map(|labels| out.remove(&labels)).collect())
    }
}
