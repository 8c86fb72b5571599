//! What Jaeger's server mends in traces before the UI sees them, unless the client asks for `raw` ones.
//!
//! In Jaeger's order (source: Jaeger `adjuster/standard.go`):
//! - server spans that share their id with a client span, as Zipkin's do, get ids of their own: `unique_ids`;
//! - attributes are sorted by key and events by time, where they are rendered ([`super::v1`]);
//! - exact duplicates: storage removes them already;
//! - clock skew: not corrected, as Jaeger with its default of 0;
//! - numeric addresses become dotted text: `dotted_ip`;
//! - `telemetry.sdk.*` attributes of spans stay on the spans: only exporters that no longer exist put them there;
//! - links without a trace id are left out, where they are rendered.

use std::collections::{HashMap, HashSet};

use model::SpanId;
use model::columns::Value;
use model::spans::{KIND_SERVER, SpanView};

/// OTLP's number of the span kind "client".
const KIND_CLIENT: i32 = 3;

/// Whether the adjusters run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adjust {
    /// They do.
    Standard,
    /// They do not: `raw=true`.
    Raw,
}

/// The ids under which a span is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    /// Its own.
    pub(super) span_id: SpanId,
    /// Its parent's, [`SpanId::NONE`] for a root.
    pub(super) parent_span_id: SpanId,
}

impl Ids {
    /// The ids as they are stored.
    pub(super) fn stored(span: SpanView<'_>) -> Self {
        let fields = span.fields();
        Self { span_id: fields.span_id, parent_span_id: fields.parent_span_id }
    }
}

/// The ids of the spans of one trace, in their order, if any of them is to change.
///
/// A server span that shares its id with a client span gets an unused one and the client span as its parent; the
/// children of the shared id become children of the server span.
/// Source: Jaeger `adjuster/spaniduniquifier.go`; like there, new ids count up from 1.
pub(super) fn unique_ids<'a>(spans: impl Iterator<Item = SpanView<'a>> + Clone) -> Option<Vec<Ids>> {
    let kind = |span: SpanView<'_>| span.fields().kind;
    let client_ids: HashSet<SpanId> =
        spans.clone().filter(|&span| kind(span) == KIND_CLIENT).map(|span| span.fields().span_id).collect();
    let shares =
        |span: SpanView<'_>| kind(span) == KIND_SERVER && client_ids.contains(&span.fields().span_id);
    if client_ids.is_empty() || !spans.clone().any(shares) {
        return None;
    }
    let used: HashSet<SpanId> = spans.clone().map(|span| span.fields().span_id).collect();
    let mut unused = (1..=u64::MAX).map(|id| SpanId(id.to_be_bytes())).filter(|id| !used.contains(id));
    let mut server_id_of = HashMap::new();
    let mut ids = Vec::new();
    for span in spans {
        let mut shown = Ids::stored(span);
        if shares(span) {
            let server_id = unused.next().expect("invariant: a trace has fewer than 2^64 spans");
            server_id_of.insert(shown.span_id, server_id);
            shown = Ids { span_id: server_id, parent_span_id: shown.span_id };
        }
        ids.push(shown);
    }
    for shown in &mut ids {
        if let Some(&server_id) = server_id_of.get(&shown.parent_span_id)
            && server_id != shown.span_id
        {
            shown.parent_span_id = server_id;
        }
    }
    Some(ids)
}

/// The dotted text of a numeric IPv4 address, where `key` is one that Jaeger and Zipkin clients use for it.
/// Source: Jaeger `adjuster/ipattribute.go`.
pub(super) fn dotted_ip(key: &str, value: Value<'_>) -> Option<String> {
    if key != "ip" && key != "peer.ipv4" {
        return None;
    }
    let number = match value {
        Value::Int(number) => number as u32,
        Value::Double(number) => number as i64 as u32,
        _ => return None,
    };
    let [a, b, c, d] = number.to_be_bytes();
    Some(format!("{a}.{b}.{c}.{d}"))
}

#[cfg(test)]
mod tests {
    use model::SpanColumns;
    use model::spans::SpanFields;

    use super::*;

    fn trace(spans: &[(u64, u64, i32)]) -> SpanColumns {
        let mut columns = SpanColumns::default();
        let origin = columns.origins.intern_resource("", "", "");
        for &(id, parent, kind) in spans {
            let span = SpanFields {
                span_id: SpanId(id.to_be_bytes()),
                parent_span_id: SpanId(parent.to_be_bytes()),
                kind,
                ..SpanFields::default()
            };
            columns.push_span(&span, origin);
        }
        columns
    }

    fn check(spans: &[(u64, u64, i32)], expect: Option<&[(u64, u64)]>) {
        let columns = trace(spans);
        let rows: Vec<usize> = (0..columns.len()).collect();
        let ids = unique_ids(rows.iter().map(|&row| columns.span(row)));
        let shown = ids.map(|ids| {
            let number = |id: SpanId| u64::from_be_bytes(id.0);
            ids.iter().map(|ids| (number(ids.span_id), number(ids.parent_span_id))).collect::<Vec<_>>()
        });
        assert_eq!(shown.as_deref(), expect);
    }

    #[test]
    fn ids_that_are_not_shared_stay() {
        check(&[], None);
        check(&[(1, 0, 3), (2, 1, 2), (3, 2, 1)], None);
        // Shared, but by no client.
        check(&[(1, 0, 2), (1, 0, 2)], None);
    }

    #[test]
    fn a_server_span_that_shares_its_clients_id_gets_its_own() {
        check(
            &[(7, 0, 3), (7, 0, 2), (1, 7, 1), (9, 7, 3), (9, 7, 2), (10, 9, 1)],
            Some(&[(7, 0), (2, 7), (1, 2), (9, 2), (3, 9), (10, 3)]),
        );
    }

    #[test]
    fn numeric_addresses_become_dotted() {
        let number = (1 << 25) | (2 << 16) | (3 << 8) | 4;
        assert_eq!(dotted_ip("ip", Value::Int(number)), Some("2.2.3.4".to_owned()));
        assert_eq!(dotted_ip("peer.ipv4", Value::Double(number as f64)), Some("2.2.3.4".to_owned()));
        // A sign-extended address, as Thrift has it.
        assert_eq!(dotted_ip("ip", Value::Int(-1)), Some("255.255.255.255".to_owned()));
        assert_eq!(dotted_ip("ip", Value::String("x")), None);
        assert_eq!(dotted_ip("a", Value::Int(42)), None);
    }
}
