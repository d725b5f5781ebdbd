//! Label sets: what identifies a series.
//!
//! A [`Labels`] is sorted by name, holds each name once and no empty value (in Prometheus' model an
//! empty value is the absence of the label). Whoever holds one may rely on that.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One name and its value. Cloning shares both strings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    pub name: Arc<str>,
    pub value: Arc<str>,
}

impl Ord for Label {
    /// By name, then by value. Strings that are shared are not looked at: sorting the series of one
    /// selection comes down to the labels in which they differ.
    fn cmp(&self, other: &Self) -> Ordering {
        let compare = |left: &Arc<str>, right: &Arc<str>| {
            if Arc::ptr_eq(left, right) {
                Ordering::Equal
            } else {
                left.cmp(right)
            }
        };
        compare(&self.name, &other.name).then_with(|| compare(&self.value, &other.value))
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A label set: sorted by name, names unique, values never empty.
///
/// Cloning is a reference count. The order is that of the (name, value) pairs, which is the order in
/// which series are served.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Label]>);

/// Why a list of pairs is not a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("label {name:?} occurs twice")]
    Duplicate { name: String },
    #[error("a label has an empty name")]
    EmptyName,
}

impl Labels {
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Sorts the pairs and drops those with an empty value.
    pub fn try_from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, Error>
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        Self::try_from_labels(
            pairs
                .into_iter()
                .map(|(name, value)| Label {
                    name: name.into(),
                    value: value.into(),
                })
                .collect(),
        )
    }

    /// Sorts the labels and drops those with an empty value.
    pub fn try_from_labels(mut labels: Vec<Label>) -> Result<Self, Error> {
        labels.sort();
        if labels.iter().any(|label| label.name.is_empty()) {
            return Err(Error::EmptyName);
        }
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::Duplicate {
                name: pair[0].name.to_string(),
            });
        }
        labels.retain(|label| !label.value.is_empty());
        Ok(Self(labels.into()))
    }

    /// A metric's labels from names known to be distinct.
    ///
    /// # Panics
    /// When a name occurs twice or is empty: this is for names written in the source.
    pub fn of(metric: &str, pairs: &[(&str, &str)]) -> Self {
        let all = std::iter::once((METRIC_NAME, metric)).chain(pairs.iter().copied());
        Self::try_from_pairs(all).expect("label names in the source are distinct")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.label(name).map(|label| &*label.value)
    }

    /// The value of a label, empty when it is absent, as matchers and grouping see it.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    pub fn metric(&self) -> &str {
        self.value(METRIC_NAME)
    }

    fn label(&self, name: &str) -> Option<&Label> {
        // Label sets are short, a binary search over a dozen names pays from the fourth on.
        self.0
            .binary_search_by(|label| (*label.name).cmp(name))
            .ok()
            .map(|at| &self.0[at])
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels without the metric's name.
    pub fn without_metric(&self) -> Self {
        self.filter(|name| name != METRIC_NAME)
    }

    /// The labels whose names pass, in order.
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.iter().all(|label| keep(&label.name)) {
            return self.clone();
        }
        Self(
            self.iter()
                .filter(|label| keep(&label.name))
                .cloned()
                .collect(),
        )
    }

    /// These labels with one of them set; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut builder = LabelsBuilder::from(self);
        builder.set(name, value);
        builder.build()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Prometheus' form: `name{a="b",c="d"}`, values escaped.
impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric();
        formatter.write_str(metric)?;
        let mut separator = "{";
        for label in self.iter().filter(|label| &*label.name != METRIC_NAME) {
            write!(formatter, "{separator}{}=\"", label.name)?;
            for character in label.value.chars() {
                match character {
                    '\\' => formatter.write_str("\\\\")?,
                    '"' => formatter.write_str("\\\"")?,
                    '\n' => formatter.write_str("\\n")?,
                    other => write!(formatter, "{other}")?,
                }
            }
            formatter.write_str("\"")?;
            separator = ",";
        }
        match (separator, metric) {
            ("{", "") => formatter.write_str("{}"),
            ("{", _) => Ok(()),
            _ => formatter.write_str("}"),
        }
    }
}

/// Builds a [`Labels`] by changing single labels.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name, unique; values may be empty until `build`.
    labels: Vec<Label>,
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        Self {
            labels: labels.iter().cloned().collect(),
        }
    }
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: impl Into<Arc<str>>) -> &mut Self {
        let value = value.into();
        match self
            .labels
            .binary_search_by(|label| (*label.name).cmp(name))
        {
            Ok(at) => self.labels[at].value = value,
            Err(at) => self.labels.insert(
                at,
                Label {
                    name: name.into(),
                    value,
                },
            ),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.labels.retain(|label| &*label.name != name);
        self
    }

    pub fn build(self) -> Labels {
        Labels(
            self.labels
                .into_iter()
                .filter(|label| !label.value.is_empty())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_dropped() {
        let labels =
            Labels::try_from_pairs([("b", "2"), ("a", "1"), ("c", ""), (METRIC_NAME, "up")])
                .unwrap();
        assert_eq!(labels.to_string(), "up{a=\"1\",b=\"2\"}");
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        let error = Labels::try_from_pairs([("a", "1"), ("a", "2")]).unwrap_err();
        assert_eq!(error, Error::Duplicate { name: "a".into() });
    }

    #[test]
    fn display_escapes_values() {
        let labels = Labels::of("m", &[("path", "a\\b\"c\nd")]);
        assert_eq!(labels.to_string(), r#"m{path="a\\b\"c\nd"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(Labels::of("up", &[]).to_string(), "up");
    }

    #[test]
    fn with_replaces_inserts_and_removes() {
        let labels = Labels::of("m", &[("b", "2")]);
        assert_eq!(
            labels.with("a", "1").with("b", "").to_string(),
            "m{a=\"1\"}"
        );
    }
}
