//! The JSON of Jaeger's v3 API: OTLP as it is stored, in grpc-gateway's wrapping, and summaries of traces.
//!
//! The adjusters do not run here: what they mend is what v1 makes of OTLP, and clients of v3 read OTLP.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use edge::guard::Spread;
use model::SpanId;
use model::attribute::write_string;
use model::spans::{STATUS_ERROR, SpanView};
use storage::read::{Operation, Trace, TraceSet};
use wire::otlp::{JsonStyle, to_json};

use super::{terms, v1};

/// An answer with the names of services.
pub(super) fn services(names: &[&str]) -> String {
    let mut out = String::from(r#"{"services":["#);
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(&mut out, name);
    }
    out.push_str("]}");
    out
}

/// An answer with operations.
pub(super) fn operations(operations: &[Operation]) -> String {
    let mut out = String::from(r#"{"operations":"#);
    v1::write_operations(&mut out, operations, "internal");
    out.push('}');
    out
}

/// An answer with the spans of all traces; `None` where there are none.
pub(super) fn traces(set: &TraceSet) -> Option<String> {
    if set.traces.iter().all(|trace| trace.spans.is_empty()) {
        return None;
    }
    let spans = set.traces.iter().flat_map(|trace| set.spans(trace));
    Some(format!(r#"{{"result":{}}}"#, to_json(spans, JsonStyle::Otlp)))
}

/// An answer with a summary of each trace.
pub(super) fn summaries(set: &TraceSet) -> String {
    let mut out = String::from(r#"{"summaries":"#);
    write_summaries(&mut out, set);
    out.push('}');
    out
}

/// A page of our own search: a summary of each trace, the token of the next page if there is one, and who found them.
pub(super) fn page(set: &TraceSet, next: Option<&str>, spread: Spread) -> String {
    let mut out = String::from(r#"{"traces":"#);
    write_summaries(&mut out, set);
    if let Some(next) = next {
        push(&mut out, format_args!(r#","next":"{next}""#));
    }
    let Spread { jobs, hedges, retries, kept_files } = spread;
    push(
        &mut out,
        format_args!(
            r#","stats":{{"jobs":{jobs},"hedges":{hedges},"retries":{retries},"keptFiles":{kept_files}}}}}"#
        ),
    );
    out
}

fn write_summaries(out: &mut String, set: &TraceSet) {
    out.push('[');
    let with_spans = set.traces.iter().filter(|trace| !trace.spans.is_empty());
    for (i, trace) in with_spans.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_summary(out, set, trace);
    }
    out.push(']');
}

/// Source: Jaeger `querysvc/summary.go`. Where that has no root because every span has a parent, the earliest orphan
/// is the root here, and the earliest span of a trace that is a cycle.
fn write_summary(out: &mut String, set: &TraceSet, trace: &Trace) {
    let ids: HashSet<SpanId> = set.spans(trace).map(|span| span.fields().span_id).collect();
    let is_root = |span: SpanView<'_>| span.fields().parent_span_id.is_none();
    let is_orphan = |span: SpanView<'_>| !is_root(span) && !ids.contains(&span.fields().parent_span_id);
    let earliest = |keep: &dyn Fn(SpanView<'_>) -> bool| {
        set.spans(trace).filter(|&span| keep(span)).min_by_key(|span| span.fields().start_ns)
    };
    let root = earliest(&is_root).or_else(|| earliest(&is_orphan)).or_else(|| earliest(&|_| true));
    let root = root.expect("invariant: only traces with spans are summarized");

    let mut services: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let (mut first_ns, mut last_ns) = (i64::MAX, i64::MIN);
    let (mut n_errors, mut n_orphans) = (0, 0);
    for span in set.spans(trace) {
        let fields = span.fields();
        let is_error = fields.status_code == STATUS_ERROR;
        let (n_service_spans, n_service_errors) =
            services.entry(terms::service_shown(span.service())).or_default();
        *n_service_spans += 1;
        *n_service_errors += usize::from(is_error);
        n_errors += usize::from(is_error);
        n_orphans += usize::from(is_orphan(span));
        first_ns = first_ns.min(fields.start_ns);
        last_ns = last_ns.max(fields.start_ns.wrapping_add(fields.duration_ns));
    }

    push(out, format_args!(r#"{{"traceId":"{}","rootServiceName":"#, trace.trace_id));
    write_string(out, terms::service_shown(root.service()));
    out.push_str(r#","rootOperationName":"#);
    write_string(out, root.fields().name);
    // The UI takes digits only, so that times before the epoch become the epoch.
    let (first_ns, last_ns) = (first_ns.max(0), last_ns.max(0));
    push(out, format_args!(r#","minStartTimeUnixNano":"{first_ns}","maxEndTimeUnixNano":"{last_ns}""#));
    let n_spans = trace.spans.len();
    push(
        out,
        format_args!(
            r#","spanCount":{n_spans},"errorSpanCount":{n_errors},"orphanSpanCount":{n_orphans},"services":["#
        ),
    );
    for (i, (name, (n_spans, n_errors))) in services.iter().enumerate() {
        out.push_str(if i > 0 { r#",{"name":"# } else { r#"{"name":"# });
        write_string(out, name);
        push(out, format_args!(r#","spanCount":{n_spans},"errorSpanCount":{n_errors}}}"#));
    }
    out.push_str("]}");
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: writing to a string succeeds");
}
