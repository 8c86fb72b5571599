//! The JSON of Jaeger's v1 API: spans in Jaeger's own model, and the envelope around every answer.
//!
//! OTLP becomes Jaeger as in Jaeger's translator: fields that Jaeger has no place for become tags
//! (`span.kind`, `otel.status_code`, `error`, …), events become logs, links become references, and the resource
//! becomes a process that a trace's spans point at.
//! The text is written straight from the columns; each distinct resource is parsed and written once per answer.
//!
//! | value | type | JSON |
//! |---|---|---|
//! | string, bool | `string`, `bool` | as it is |
//! | int64 | `int64` | a number; beyond ±(2^53 − 1) a string, as JavaScript would round it |
//! | double | `float64` | a number; `"NaN"`, `"Infinity"`, `"-Infinity"` as strings (Jaeger fails on them) |
//! | bytes | `binary` | base64 |
//! | array, map | `string` | the text of their JSON, bytes in it as base64 |
//! | no value | `string` | empty |
//!
//! Source: Jaeger `internal/uimodel`, collector-contrib `pkg/translator/jaeger`.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::attribute::{self, AnyValue, Attributes, write_string};
use model::columns::Value;
use model::spans::{EventView, LinkView, STATUS_ERROR, SpanView};
use model::{SpanColumns, SpanId, TraceId};
use storage::read::{Operation, ServiceLink, Trace, TraceSet};

use super::adjust::{self, Adjust, Ids};
use super::terms;

/// Whole numbers up to this are exact in JavaScript.
const LARGEST_SAFE_INT: u64 = (1 << 53) - 1;
/// The attribute of a link that says what reference it was.
const REF_TYPE: &str = "opentracing.ref_type";

/// What went wrong while the rest went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Partial {
    /// No trace has this id.
    NotFound(TraceId),
    /// Something to tell.
    Message(String),
}

/// The envelope of an answer around the data that `write_data` appends.
pub(super) fn envelope(total: usize, errors: &[Partial], write_data: impl FnOnce(&mut String)) -> String {
    let mut out = String::from(r#"{"data":"#);
    write_data(&mut out);
    push(&mut out, format_args!(r#","total":{total},"limit":0,"offset":0,"errors":"#));
    if errors.is_empty() {
        out.push_str("null}");
        return out;
    }
    write_list(&mut out, errors.iter(), |out, error| match error {
        Partial::NotFound(id) => {
            out.push_str(r#"{"msg":"trace not found","traceID":""#);
            write_trace_id(out, *id);
            out.push_str("\"}");
        }
        Partial::Message(message) => {
            out.push_str(r#"{"msg":"#);
            write_string(out, message);
            out.push('}');
        }
    });
    out.push('}');
    out
}

/// An answer with a list of names.
pub(super) fn names(names: &[&str]) -> String {
    envelope(names.len(), &[], |out| {
        write_list(out, names.iter(), |out, name| write_string(out, name));
    })
}

/// An answer with operations.
pub(super) fn operations(operations: &[Operation]) -> String {
    envelope(operations.len(), &[], |out| write_operations(out, operations, ""))
}

/// A list of operations, one without a kind under the name `no_kind`.
pub(super) fn write_operations(out: &mut String, operations: &[Operation], no_kind: &str) {
    write_list(out, operations.iter(), |out, operation| {
        out.push_str(r#"{"name":"#);
        write_string(out, &operation.name);
        out.push_str(r#","spanKind":"#);
        let kind = terms::kind_name(operation.kind);
        write_string(out, if kind.is_empty() { no_kind } else { kind });
        out.push('}');
    });
}

/// An answer with calls between services.
pub(super) fn dependencies(links: &[ServiceLink]) -> String {
    envelope(0, &[], |out| {
        write_list(out, links.iter(), |out, link| {
            out.push_str(r#"{"parent":"#);
            write_string(out, &link.parent);
            out.push_str(r#","child":"#);
            write_string(out, &link.child);
            push(out, format_args!(r#","callCount":{}}}"#, link.call_count));
        });
    })
}

/// An answer with traces. A trace without spans is left out: clients look at the first span unasked.
pub(super) fn traces(set: &TraceSet, adjust: Adjust, errors: &[Partial]) -> String {
    envelope(0, errors, |out| {
        let mut writer = TraceWriter::new(adjust);
        let with_spans = set.traces.iter().filter(|trace| !trace.spans.is_empty());
        write_list(out, with_spans, |out, trace| writer.write_trace(out, set, trace));
    })
}

/// Writes traces of one answer, and remembers the resources that it has seen.
struct TraceWriter<'a> {
    adjust: Adjust,
    /// Each distinct resource: its JSON as a process, and where it is in the trace that is being written.
    processes: Vec<Process>,
    process_of: HashMap<(&'a str, &'a str), usize>,
    /// The columns, the positions of service and resource, and the process of the last span.
    last: Option<(&'a SpanColumns, (u32, u32), usize)>,
    /// How many traces were begun.
    n_traces: usize,
    attributes: Vec<(&'a str, Value<'a>)>,
    events: Vec<EventView<'a>>,
}

struct Process {
    json: String,
    /// The last trace that has it, counted from 1, and its number there.
    seen: (usize, usize),
}

impl<'a> TraceWriter<'a> {
    fn new(adjust: Adjust) -> Self {
        Self {
            adjust,
            processes: Vec::new(),
            process_of: HashMap::new(),
            last: None,
            n_traces: 0,
            attributes: Vec::new(),
            events: Vec::new(),
        }
    }

    fn write_trace(&mut self, out: &mut String, set: &'a TraceSet, trace: &'a Trace) {
        self.n_traces += 1;
        let spans = trace.spans.iter().map(|&(block, row)| set.blocks[block as usize].span(row as usize));
        let unique_ids = match self.adjust {
            Adjust::Standard => adjust::unique_ids(spans.clone()),
            Adjust::Raw => None,
        };
        out.push_str(r#"{"traceID":""#);
        write_trace_id(out, trace.trace_id);
        out.push_str(r#"","spans":["#);
        // In the order of their numbers in this trace.
        let mut processes = Vec::new();
        for (i, span) in spans.enumerate() {
            if i > 0 {
                out.push(',');
            }
            let process = self.process(span);
            let seen = &mut self.processes[process].seen;
            if seen.0 != self.n_traces {
                processes.push(process);
                *seen = (self.n_traces, processes.len());
            }
            let process_number = seen.1;
            let ids = unique_ids.as_ref().map_or_else(|| Ids::stored(span), |ids| ids[i]);
            self.write_span(out, span, ids, process_number);
        }
        out.push_str(r#"],"processes":{"#);
        for (i, &process) in processes.iter().enumerate() {
            let separator = if i > 0 { "," } else { "" };
            push(out, format_args!(r#"{separator}"p{}":{}"#, i + 1, self.processes[process].json));
        }
        out.push_str(r#"},"warnings":null}"#);
    }

    /// The position of a span's process.
    fn process(&mut self, span: SpanView<'a>) -> usize {
        let (columns, _) = span.place();
        let origin = span.origin();
        let place = (origin.service, origin.resource);
        if let Some((last_columns, last_place, process)) = self.last
            && std::ptr::eq(last_columns, columns)
            && last_place == place
        {
            return process;
        }
        let key = (span.service(), span.resource());
        let process = *self.process_of.entry(key).or_insert_with(|| {
            let json = process_json(key.0, key.1, self.adjust);
            self.processes.push(Process { json, seen: (0, 0) });
            self.processes.len() - 1
        });
        self.last = Some((columns, place, process));
        process
    }

    fn write_span(&mut self, out: &mut String, span: SpanView<'a>, ids: Ids, process_number: usize) {
        let fields = span.fields();
        out.push_str(r#"{"traceID":""#);
        write_trace_id(out, fields.trace_id);
        push(out, format_args!(r#"","spanID":"{}","#, ids.span_id));
        // Of the flags only "sampled" means the same in W3C and Jaeger.
        if fields.flags & 1 != 0 {
            out.push_str(r#""flags":1,"#);
        }
        out.push_str(r#""operationName":"#);
        write_string(out, fields.name);
        out.push_str(r#","references":"#);
        self.write_references(out, span, ids);
        let duration_us = fields.duration_ns.max(0) / 1_000;
        push(
            out,
            format_args!(r#","startTime":{},"duration":{duration_us},"tags":"#, fields.start_ns / 1_000),
        );
        self.write_tags(out, span);
        out.push_str(r#","logs":"#);
        self.write_logs(out, span);
        push(out, format_args!(r#","processID":"p{process_number}","warnings":null}}"#));
    }

    /// The parent first, where clients look for it, then the links.
    fn write_references(&self, out: &mut String, span: SpanView<'_>, ids: Ids) {
        let mut list = List::open(out);
        if !ids.parent_span_id.is_none() {
            write_reference(list.next(out), "CHILD_OF", span.fields().trace_id, ids.parent_span_id);
        }
        for link in span.links() {
            if self.adjust == Adjust::Standard && link.trace_id.is_zero() {
                continue;
            }
            write_reference(list.next(out), reference_type(link), link.trace_id, link.span_id);
        }
        out.push(']');
    }

    fn write_tags(&mut self, out: &mut String, span: SpanView<'a>) {
        let fields = span.fields();
        let (scope_name, scope_version, _) = span.scope();
        self.attributes.clear();
        self.attributes.extend(span.attributes());
        if self.adjust == Adjust::Standard {
            self.attributes.sort_by_key(|&(key, _)| key);
        }
        let mut list = List::open(out);
        write_text_tag(out, &mut list, "otel.scope.name", scope_name);
        write_text_tag(out, &mut list, "otel.scope.version", scope_version);
        for &(key, value) in &self.attributes {
            write_adjusted_tag(list.next(out), key, value, self.adjust);
        }
        write_text_tag(out, &mut list, "span.kind", terms::kind_name(fields.kind));
        match fields.status_code {
            1 => write_text_tag(out, &mut list, "otel.status_code", "OK"),
            STATUS_ERROR => {
                write_text_tag(out, &mut list, "otel.status_code", "ERROR");
                write_tag(list.next(out), "error", Value::Bool(true));
            }
            _ => {}
        }
        write_text_tag(out, &mut list, "otel.status_description", fields.status_message);
        write_text_tag(out, &mut list, "w3c.tracestate", fields.trace_state);
        out.push(']');
    }

    fn write_logs(&mut self, out: &mut String, span: SpanView<'a>) {
        self.events.clear();
        self.events.extend(span.events());
        if self.adjust == Adjust::Standard {
            self.events.sort_by_key(|event| event.time_ns as u64);
        }
        write_list(out, self.events.iter(), |out, &event| write_log(out, event, self.adjust));
    }
}

/// A resource as a process. The service's name is not repeated among the tags, unless it is no text.
fn process_json(service: &str, resource: &str, adjust: Adjust) -> String {
    let mut out = String::from(r#"{"serviceName":"#);
    write_string(&mut out, terms::service_shown(service));
    out.push_str(r#","tags":"#);
    let mut list = List::open(&mut out);
    for (key, value) in map_entries(resource, adjust) {
        if key != "service.name" || !matches!(value, AnyValue::String(_)) {
            write_value_tag(list.next(&mut out), &key, &value, adjust);
        }
    }
    out.push_str("]}");
    out
}

fn write_log(out: &mut String, event: EventView<'_>, adjust: Adjust) {
    push(out, format_args!(r#"{{"timestamp":{},"fields":"#, event.time_ns / 1_000));
    let mut list = List::open(out);
    write_text_tag(out, &mut list, "event", event.name);
    for (key, value) in map_entries(event.attributes, adjust) {
        write_value_tag(list.next(out), &key, &value, adjust);
    }
    out.push_str("]}");
}

/// The entries of a JSON map of [`model::attribute`].
/// Text that is none of ours becomes an entry itself, so that damage is seen and hides nothing else.
fn map_entries(text: &str, adjust: Adjust) -> Attributes {
    let mut entries = attribute::parse_map(text)
        .unwrap_or_else(|_| vec![("attributes".to_owned(), AnyValue::String(text.to_owned()))]);
    if adjust == Adjust::Standard {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    entries
}

fn write_value_tag(out: &mut String, key: &str, value: &AnyValue, adjust: Adjust) {
    match value {
        AnyValue::Empty => write_tag(out, key, Value::Empty),
        AnyValue::String(text) => write_tag(out, key, Value::String(text)),
        AnyValue::Bool(truth) => write_tag(out, key, Value::Bool(*truth)),
        AnyValue::Int(number) => write_adjusted_tag(out, key, Value::Int(*number), adjust),
        AnyValue::Double(number) => write_adjusted_tag(out, key, Value::Double(*number), adjust),
        nested => write_nested_tag(out, key, nested),
    }
}

/// A tag with a text, where there is one.
fn write_text_tag(out: &mut String, list: &mut List, key: &str, text: &str) {
    if !text.is_empty() {
        write_tag(list.next(out), key, Value::String(text));
    }
}

fn write_adjusted_tag(out: &mut String, key: &str, value: Value<'_>, adjust: Adjust) {
    match adjust::dotted_ip(key, value) {
        Some(dotted) if adjust == Adjust::Standard => write_tag(out, key, Value::String(&dotted)),
        _ => write_tag(out, key, value),
    }
}

fn write_tag(out: &mut String, key: &str, value: Value<'_>) {
    let kind = match value {
        Value::Empty | Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Double(_) => "float64",
        Value::Json(text) => return write_json_tag(out, key, text),
    };
    write_tag_head(out, key, kind);
    match value {
        Value::Empty | Value::Json(_) => out.push_str("\"\""),
        Value::String(text) => write_string(out, text),
        Value::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
        Value::Int(number) if number.unsigned_abs() <= LARGEST_SAFE_INT => {
            push(out, format_args!("{number}"));
        }
        Value::Int(number) => push(out, format_args!("\"{number}\"")),
        Value::Double(number) => write_double(out, number),
    }
    out.push('}');
}

fn write_tag_head(out: &mut String, key: &str, kind: &str) {
    out.push_str(r#"{"key":"#);
    write_string(out, key);
    push(out, format_args!(r#","type":"{kind}","value":"#));
}

/// Bytes, an array or a map from the text of [`model::attribute`].
fn write_json_tag(out: &mut String, key: &str, text: &str) {
    // Without a `$` the text has no escapes: it is plain JSON already.
    match text.contains('$').then(|| attribute::parse(text)) {
        Some(Ok(value)) => write_nested_tag(out, key, &value),
        _ => write_tag(out, key, Value::String(text)),
    }
}

fn write_nested_tag(out: &mut String, key: &str, value: &AnyValue) {
    if let AnyValue::Bytes(bytes) = value {
        write_tag_head(out, key, "binary");
        write_base64(out, bytes);
        out.push('}');
        return;
    }
    let mut text = String::new();
    write_plain_json(&mut text, value);
    write_tag(out, key, Value::String(&text));
}

/// A value as JSON that anybody reads: bytes as base64, doubles that are not finite as strings.
fn write_plain_json(out: &mut String, value: &AnyValue) {
    match value {
        AnyValue::Empty => out.push_str("null"),
        AnyValue::String(text) => write_string(out, text),
        AnyValue::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        AnyValue::Int(number) => push(out, format_args!("{number}")),
        AnyValue::Double(number) => write_double(out, *number),
        AnyValue::Bytes(bytes) => write_base64(out, bytes),
        AnyValue::Array(values) => write_list(out, values.iter(), write_plain_json),
        AnyValue::Map(entries) => {
            out.push('{');
            for (i, (key, value)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_plain_json(out, value);
            }
            out.push('}');
        }
    }
}

fn write_double(out: &mut String, number: f64) {
    match number {
        finite if finite.is_finite() => push(out, format_args!("{finite:?}")),
        nan if nan.is_nan() => out.push_str(r#""NaN""#),
        positive if positive > 0.0 => out.push_str(r#""Infinity""#),
        _ => out.push_str(r#""-Infinity""#),
    }
}

fn write_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    BASE64.encode_string(bytes, out);
    out.push('"');
}

fn reference_type(link: LinkView<'_>) -> &'static str {
    let is_child_of = link.attributes.contains(REF_TYPE)
        && attribute::parse_map(link.attributes).is_ok_and(|entries| {
            entries
                .iter()
                .any(|(key, value)| key == REF_TYPE && *value == AnyValue::String("child_of".to_owned()))
        });
    if is_child_of { "CHILD_OF" } else { "FOLLOWS_FROM" }
}

fn write_reference(out: &mut String, kind: &str, trace_id: TraceId, span_id: SpanId) {
    push(out, format_args!(r#"{{"refType":"{kind}","traceID":""#));
    write_trace_id(out, trace_id);
    push(out, format_args!(r#"","spanID":"{span_id}"}}"#));
}

/// 32 hex digits, or 16 where the upper half is zero.
fn write_trace_id(out: &mut String, id: TraceId) {
    match id.0 {
        [0, 0, 0, 0, 0, 0, 0, 0, low @ ..] => push(out, format_args!("{}", SpanId(low))),
        _ => push(out, format_args!("{id}")),
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: writing to a string succeeds");
}

fn write_list<T>(
    out: &mut String,
    items: impl Iterator<Item = T>,
    mut write_item: impl FnMut(&mut String, T),
) {
    let mut list = List::open(out);
    for item in items {
        write_item(list.next(out), item);
    }
    out.push(']');
}

/// Puts commas between the items of a list.
struct List {
    is_empty: bool,
}

impl List {
    fn open(out: &mut String) -> Self {
        out.push('[');
        Self { is_empty: true }
    }

    fn next<'o>(&mut self, out: &'o mut String) -> &'o mut String {
        if !self.is_empty {
            out.push(',');
        }
        self.is_empty = false;
        out
    }
}
