//! Jaeger's words for what OTLP has as numbers, fields and absences.

/// Jaeger's name of a service where the resource names none.
pub(super) const NO_SERVICE: &str = "OTLPResourceNoServiceName";

/// Names of span kinds by OTLP's numbers from 1.
const KINDS: [&str; 5] = ["internal", "server", "client", "producer", "consumer"];

/// The name of a span kind; empty for "unspecified" and for unknown numbers.
pub(super) fn kind_name(kind: i32) -> &'static str {
    let index = usize::try_from(kind).ok().and_then(|kind| kind.checked_sub(1));
    index.and_then(|index| KINDS.get(index)).copied().unwrap_or("")
}

/// The span kind of a name in any case; `None` for an unknown one.
pub(super) fn kind_number(name: &str) -> Option<i32> {
    if name.eq_ignore_ascii_case("unspecified") {
        return Some(0);
    }
    KINDS.iter().position(|kind| kind.eq_ignore_ascii_case(name)).map(|index| index as i32 + 1)
}

/// The service's name as clients see it.
pub(super) fn service_shown(stored: &str) -> &str {
    if stored.is_empty() { NO_SERVICE } else { stored }
}

/// The service's name as it is stored, from what a client sent.
pub(super) fn service_stored(shown: &str) -> &str {
    if shown == NO_SERVICE { "" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names() {
        for kind in 1..=5 {
            assert_eq!(kind_number(kind_name(kind)), Some(kind));
        }
        for kind in [0, 6, -1, i32::MIN, i32::MAX] {
            assert_eq!(kind_name(kind), "", "{kind}");
        }
        assert_eq!(
            (kind_number("SERVER"), kind_number("unspecified"), kind_number("")),
            (Some(2), Some(0), None)
        );
    }
}
