//! Counters, and the page that shows them in Prometheus' text format.
//!
//! Each function keeps its own struct of [`Counter`]s and writes them onto a [`Page`]; there is no global registry.
//! Storage calls are in [`crate::ledger`].
//! Source of the format: Prometheus, exposition formats, text 0.0.4.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The content type of a [`Page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `by` more.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The text of metric families.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// A family of counters: each with its labels as `key="value"` text, which may be empty.
    pub fn counters(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        self.family(name, help, "counter", values);
    }

    /// A family of values that go up and down.
    pub fn gauges(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        self.family(name, help, "gauge", values);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn family(&mut self, name: &str, help: &str, kind: &str, values: &[(&str, u64)]) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = if labels.is_empty() {
                writeln!(self.text, "{name} {value}")
            } else {
                writeln!(self.text, "{name}{{{labels}}} {value}")
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_prometheus_text() {
        let requests = Counter::default();
        requests.add(2);
        let mut page = Page::default();
        page.counters("a_total", "How many.", &[(r#"kind="x""#, requests.get()), (r#"kind="y""#, 0)]);
        page.gauges("b", "Now.", &[("", 7)]);
        assert_eq!(
            page.finish(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{kind=\"x\"} 2\na_total{kind=\"y\"} 0\n\
             # HELP b Now.\n# TYPE b gauge\nb 7\n"
        );
    }
}
