//! The identity of a series: label pairs, sorted by name.

use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One pair. Texts are shared: the series of a metric have most of theirs in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// Its name, not empty.
    pub name: Arc<str>,
    /// Its value, not empty: in Prometheus' model an empty value is an absent label.
    pub value: Arc<str>,
}

/// Label pairs, ascending by name (as bytes), each name once, no value empty. Ordered pair by pair, as Prometheus
/// orders the series of a matrix.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[must_use]
pub struct Labels(Arc<[Label]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl Labels {
    /// No labels.
    pub fn empty() -> Self {
        Self::default()
    }

    /// From pairs in any order. Pairs with an empty value are left out; of pairs with one name the last counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs = pairs.into_iter();
        Self::from_labels(
            pairs
                .map(|(name, value)| Label { name: name.as_ref().into(), value: value.as_ref().into() })
                .collect(),
        )
    }

    /// As [`Labels::from_pairs`], of texts that are shared already.
    pub fn from_labels(mut labels: Vec<Label>) -> Self {
        // Stable, so that among equal names the last stays last.
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        labels.reverse();
        labels.dedup_by(|a, b| a.name == b.name);
        labels.reverse();
        labels.retain(|label| !label.value.is_empty());
        Self(labels.into())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs, ascending by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// The value of the label `name`; `""` if there is none, as matchers see it.
    pub fn get(&self, name: &str) -> &str {
        match self.0.binary_search_by(|label| (*label.name).cmp(name)) {
            Ok(position) => &self.0[position].value,
            Err(_) => "",
        }
    }

    /// The metric's name, `""` if there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    /// Those pairs whose name `keep` takes; `self` again, not copied, if that is all of them.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let kept: Vec<Label> = self.0.iter().filter(|label| keep(&label.name)).cloned().collect();
        if kept.len() == self.0.len() { self.clone() } else { Self(kept.into()) }
    }

    /// With the label `name` set to `value`; removed if `value` is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut labels: Vec<Label> = self.0.iter().filter(|label| *label.name != *name).cloned().collect();
        if !value.is_empty() {
            let position = labels.partition_point(|label| *label.name < *name);
            labels.insert(position, Label { name: name.into(), value: value.into() });
        }
        Self(labels.into())
    }

    /// Without the metric's name.
    pub fn without_metric_name(&self) -> Self {
        self.filter(|name| name != METRIC_NAME)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// As Prometheus prints a series: `{__name__="up", job="a"}`.
impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (position, label) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{}={:?}", label.name, &*label.value)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_unique_and_not_empty() {
        let labels = Labels::from_pairs([("b", "1"), ("a", "x"), ("b", "2"), ("c", ""), ("a", "y")]);
        assert_eq!(format!("{labels:?}"), r#"{a="y", b="2"}"#);
        assert_eq!((labels.get("a"), labels.get("c")), ("y", ""));
    }

    #[test]
    fn an_empty_value_at_last_removes_the_label() {
        assert!(Labels::from_pairs([("a", "x"), ("a", "")]).is_empty());
    }

    #[test]
    fn a_label_is_set_replaced_and_removed_in_order() {
        let labels = Labels::from_pairs([("a", "1"), ("c", "3")]);
        assert_eq!(format!("{:?}", labels.with("b", "2")), r#"{a="1", b="2", c="3"}"#);
        assert_eq!(format!("{:?}", labels.with("c", "4")), r#"{a="1", c="4"}"#);
        assert_eq!(format!("{:?}", labels.with("a", "")), r#"{c="3"}"#);
    }

    #[test]
    fn order_is_pair_by_pair() {
        let a = Labels::from_pairs([("a", "1")]);
        let ab = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let b = Labels::from_pairs([("b", "0")]);
        assert!(a < ab && ab < b);
    }
}
